"""What is minimised. The loop in `trainer` takes any `Objective`; a family brings its own, never its own loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_text import distributed

if TYPE_CHECKING:
    import torch
    from torch import nn

    from aigc_text.options.training import TrainingOptions


@dataclass
class Step:
    """One update of one parameter group, or of several together: the loop makes it, then the objective goes on.

    Attributes:
        group: the key of `Objective.groups` whose optimizers take the step, or several; then their gradients are
            clipped as one, to the limit of the first.
        loss: scalar, the mean over what `Objective.weight` counts.
        logs: named scalars to report beside the loss.
        rate: multiplies the groups' learning rates in this update, for a schedule of the objective's own.
    """

    group: str | tuple[str, ...]
    loss: torch.Tensor
    logs: Mapping[str, torch.Tensor | float] = field(default_factory=dict)
    rate: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What `Objective.after_eval` answers. The default is: go on.

    Attributes:
        stop: a reason to end the run now, as a sentence for the user.
        scale_rate: multiplies every learning rate from here on.
        reset: groups whose parameters and optimizer state start anew.
        roll_back: restore the best checkpoint first (weights, optimizers, objective); the step count goes on.
        note: what the user should know besides.
        logs: named figures to log with those of the validation, such as whether training has collapsed.
    """

    stop: str = ""
    scale_rate: float = 1.0
    reset: tuple[str, ...] = ()
    roll_back: bool = False
    note: str = ""
    logs: Mapping[str, float] = field(default_factory=dict)


class Objective:
    """Base of all objectives: one parameter group named `model`, an optimizer by name, and nothing to remember.

    Subclasses must write `steps`. State that a resumed run needs (an annealing phase, a carried recurrent
    state, a moving average) goes through `state_dict` and `load_state_dict` and so into the checkpoint.

    In several processes each has an objective and its own rows of every batch; all must take the same steps.
    """

    #: Whether the state differs from process to process, as one carried along for a process's own rows does. Then
    #: a checkpoint holds that of each, and the run can be resumed in as many processes only; else it holds the main
    #: process's, for any number.
    per_process: ClassVar[bool] = False

    #: The unit of the figure `loss`, recorded with it: curves of different units never share an axis.
    unit: ClassVar[str] = "nats per token"

    def divisible(self, batch: Any) -> bool:
        """Whether the rows of a batch can be computed in parts, one after the other, where memory is short."""
        return True

    def groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """Parameters by group. The groups must not overlap."""
        return {"model": [p for p in model.parameters() if p.requires_grad]}

    def optimizers(self, model: nn.Module, options: TrainingOptions) -> dict[str, list[torch.optim.Optimizer]]:
        """The optimizers of each group; all of a group's step together."""
        from .optimizers import build

        return {n: build(model, parameters, options.for_group(n)) for n, parameters in self.groups(model).items()}

    def weight(self, batch: Any) -> float:
        """How much a batch counts in the mean over several: its number of targets; by default its rows.

        Several are what is accumulated, and in several processes their shares of a batch, which may be unequal.
        """
        rows = distributed.rows(batch)
        return 1.0 if rows is None else float(rows)

    def steps(self, model: nn.Module, batch: Any, step: int) -> Iterator[Step]:
        """Yields the loss of one group after another. After each `yield` that group has been updated.

        The model is called through `model(...)` only, so that distributed hooks fire.
        """
        raise NotImplementedError

    def after_eval(self, logs: Mapping[str, float]) -> Verdict:
        """Decides what follows from a validation's figures."""
        return Verdict()

    def reset(self, model: nn.Module, group: str) -> None:
        """Draws the parameters of a group anew; asked for by `Verdict.reset`."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to reset {group!r}")

    def averages(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Parameters with what stands for them wherever the model is looked at and at the end: a moving average."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, in tensors and plain values (it is read with `weights_only`)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


class Likelihood(Objective):
    """Mean negative log-likelihood of the next token.

    Args:
        inputs: what the model is called with besides each batch.
        own_loss: take the loss that the model computes itself, whose labels stand beside the outputs that predict
            them, as in encoder-decoders and masked models; else a label is predicted from the tokens before it.
    """

    def __init__(self, inputs: Mapping[str, Any] | None = None, own_loss: bool = False) -> None:
        self.inputs, self.own_loss = inputs or {}, own_loss

    def weight(self, batch: Mapping[str, torch.Tensor]) -> float:
        labels = batch["labels"] if self.own_loss else batch["labels"][:, 1:]  # the first has nothing before it
        return float((labels != -100).sum())

    def steps(self, model: nn.Module, batch: Mapping[str, torch.Tensor], step: int) -> Iterator[Step]:
        if self.own_loss:
            yield Step("model", model(**batch, **self.inputs).loss)
            return
        from .losses import next_token_loss

        read = {k: v for k, v in batch.items() if k != "labels"}
        yield Step("model", next_token_loss(model(**read, **self.inputs).logits, batch["labels"]))
