"""What `rnn` minimises: a text read on and on, or sentences by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from aigc_text.options.base import option
from aigc_text.options.training import TrainingOptions
from aigc_text.training.objective import Likelihood, Step

from .model import RecurrentState


@dataclass(frozen=True, kw_only=True)
class RNNTraining(TrainingOptions):
    """Training options of recurrent language models."""

    activation_penalty: float = option(0.0, "AR: penalty on the last layer's outputs; AWD-LSTM has 2.", low=0)
    slowness_penalty: float = option(0.0, "TAR: penalty on their change from step to step; AWD-LSTM has 1.", low=0)


class RecurrentLikelihood(Likelihood):
    """Mean negative log-likelihood of the next token, plus penalties on activations (Merity et al. 2017, section 4.3).

    AR is α mean(m ∘ h)² with the dropout m, TAR is β mean(h_t - h_{t+1})². Rows of a batch without `begins` start
    from zeros.

    Args:
        activation_penalty: α.
        slowness_penalty: β.
    """

    def __init__(self, activation_penalty: float = 0.0, slowness_penalty: float = 0.0) -> None:
        super().__init__()
        self.alpha, self.beta = activation_penalty, slowness_penalty
        self.state: RecurrentState | None = None

    def steps(self, model: nn.Module, batch: Mapping[str, torch.Tensor], step: int) -> Iterator[Step]:
        from aigc_text.training.losses import mean_nll

        # Padding is on the right, so it comes after all that counts; the last token is read with the next batch.
        out = model(input_ids=batch["input_ids"][:, :-1], **self._inputs(batch))
        self._carry(out.cache)
        nll = mean_nll(out.logits, batch["labels"][:, 1:])
        loss = nll
        if self.alpha:
            loss = loss + self.alpha * out.dropped.float().square().mean()
        if self.beta and out.outputs.shape[1] > 1:
            loss = loss + self.beta * out.outputs.float().diff(dim=1).square().mean()
        yield Step("model", loss, {} if loss is nll else {"nll": nll})

    def _inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return {"use_cache": False}

    def _carry(self, state: RecurrentState | None) -> None:
        """What is kept for the next batch."""


class CarriedLikelihood(RecurrentLikelihood):
    """The same over a continuous text: the state goes from batch to batch, its gradients do not.

    That is truncated backpropagation through time (Williams and Peng 1990). Micro-batches that are accumulated follow
    each other in the text. In several processes each carries the state of its own rows.
    """

    per_process = True

    def divisible(self, batch: Any) -> bool:
        """Not with a state that is carried: it is that of all rows side by side."""
        return "begins" not in batch

    def _inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        if "begins" not in batch:  # pairs, or streamed rows
            return {"use_cache": False}
        before = self.state.detached(~batch["begins"]) if self.state is not None else None
        return {"cache": before, "use_cache": True}

    def _carry(self, state: RecurrentState | None) -> None:
        self.state = state.detached() if state is not None else None

    def state_dict(self) -> dict[str, Any]:
        return {} if self.state is None else {"layers": self.state.layers, "seen": self.state.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = RecurrentState(state["layers"], state["seen"]) if state else None


STEPS = 256  # tokens of a row that are read at once where there is nothing to learn


@torch.no_grad()
def stream_nll(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihoods (B, T - 1) in nats of all tokens but the first of each row (B, T), read on and on."""
    from aigc_text.training.losses import token_nll

    state, found = None, []
    for first in range(0, ids.shape[1] - 1, STEPS):
        part = ids[:, first : first + STEPS + 1]
        out = model(input_ids=part[:, :-1], cache=state, use_cache=True)
        state = out.cache
        found.append(token_nll(out.logits.flatten(0, 1), part[:, 1:].flatten()).view(len(part), -1))
    return torch.cat(found, 1)
