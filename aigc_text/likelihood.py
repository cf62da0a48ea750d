"""How well a causal language model predicts texts: exact, from sliding windows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import processes

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from .encoding import Row


class Validation:
    """Called with a model during training: mean loss a token in nats and bits per byte of rows of tokens.

    Quicker than `measure` and a little higher, since each row begins without context. Several processes divide the
    rows among them; all get the figures of the whole.

    Args:
        rows: with their sizes; what is masked counts neither as tokens nor as bytes.
        pad: the id to fill up short rows with.
        unknown: the id that stands for unknown words; then their share is reported too.
        notes: what the user should know of how the rows were made.
    """

    def __init__(self, rows: Iterable[Row], pad: int, unknown: int | None = None, notes: Sequence[str] = ()) -> None:
        self.rows = sorted(rows, key=lambda row: len(row.ids))
        self.pad, self.unknown, self.notes = pad, unknown, notes
        self.utf8_bytes = sum(row.size for row in self.rows)

    def __call__(self, model: Any) -> dict[str, float]:
        from .batches import collate

        device = next(model.parameters()).device
        nll, scored, unknown = 0.0, 0.0, 0.0
        step = 16 * processes.world()
        for first in range(0, len(self.rows), step):
            batch, counts = processes.share(collate(self.rows[first : first + step], self.pad))
            batch = {k: v.to(device) for k, v in batch.items()}
            labels = batch.pop("labels")
            found = float(_nll(model, labels, **batch).double().sum())  # by all: each may hold a part of the model
            if counts:
                nll += found
                scored += int((labels[:, 1:] != -100).sum())
                unknown += int((labels[:, 1:] == self.unknown).sum()) if self.unknown is not None else 0
        nll, scored, unknown = processes.total([nll, scored, unknown], device)
        return {
            "loss": nll / max(1, scored),
            "bits_per_byte": nll / math.log(2) / max(1, self.utf8_bytes),
            **({} if self.unknown is None else {"unknown": unknown / max(1, scored)}),
        }


def _nll(model: nn.Module, labels: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihoods (B, T - 1) in nats of all labels (B, T) but the first; 0 where they are -100."""
    import torch.nn.functional as F

    logits = model(**inputs).logits[:, :-1].float()  # (B, T - 1, V)
    return F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")


@dataclass(frozen=True)
class Likelihood:
    """Sums over texts; `nll` is in nats."""

    nll: float
    tokens: int
    utf8_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Comparable across tokenizers: all of a text's information over all of its bytes."""
        return self.nll / math.log(2) / self.utf8_bytes

    @property
    def perplexity(self) -> float:
        """Per token of this tokenizer, the end of each text counted."""
        return math.exp(min(self.nll / self.tokens, 700.0))


def window_nll(model: nn.Module, input_ids: torch.Tensor, scored: int) -> torch.Tensor:
    """Negative log-likelihoods (B, scored) in nats of the last `scored` tokens of each row of `input_ids` (B, T)."""
    import torch.nn.functional as F

    logits = model(input_ids=input_ids).logits[:, -scored - 1 : -1].float()  # (B, scored, V)
    return F.cross_entropy(logits.transpose(1, 2), input_ids[:, -scored:], reduction="none")


def measure(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    context: int,
    stride: int | None = None,
    batch_size: int = 16,
) -> Likelihood:
    """The exact likelihood of texts, end of text included, each begun from the end-of-text token.

    A text longer than the context is read in windows of `context` tokens that move by `stride` (half the context
    by default), so every token but a text's first ones is predicted from at least `context - stride` before it.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        texts: what to score; bytes are those of its UTF-8 form.
    """
    import torch

    stride = stride or context // 2
    end = tokenizer.eos_token_id
    nll, count, size = 0.0, 0, 0
    waiting: dict[tuple[int, int], list[list[int]]] = {}

    def flush(key: tuple[int, int]) -> float:
        rows = torch.tensor(waiting.pop(key), device=model.device)
        return float(window_nll(model, rows, key[1]).double().sum())

    with torch.inference_mode():
        for text in texts:
            ids = [end, *tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], end]
            count += len(ids) - 1
            size += len(text.encode())
            for first, last, scored in _windows(len(ids), context, stride):
                key = (last - first, scored)
                waiting.setdefault(key, []).append(ids[first:last])
                if len(waiting[key]) == batch_size:
                    nll += flush(key)
        nll += sum(flush(key) for key in list(waiting))
    return Likelihood(nll, count, size)


def _windows(length: int, context: int, stride: int) -> Sequence[tuple[int, int, int]]:
    """(first, last, scored) of each window; together they score every token but the first exactly once."""
    found = [(0, min(context, length), min(context, length) - 1)]
    while found[-1][1] < length:
        last = min(found[-1][1] + stride, length)
        found.append((last - context, last, last - found[-1][1]))
    return found
