"""How well a model predicts held-out texts while it is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.scoring.totals import total

if TYPE_CHECKING:
    import torch

    from aigc_text.backends.hf.backend import TransformersBackend
    from aigc_text.data.encoding import Row


ROWS = 16  # that a validation reads at once, at most


class Validation:
    """Called with a model during training: nats per token and bits per byte of rows of tokens.

    Of all windows of a text it finds the figures of `Backend.score`. Several processes divide the rows among them; all
    get the figures of the whole.

    Args:
        rows: with their sizes; what is masked counts neither as tokens nor as bytes.
        backend: of the model that is trained.
        notes: what the user should know of how the rows were made.
    """

    def __init__(self, rows: Iterable[Row], backend: TransformersBackend, notes: Sequence[str] = ()) -> None:
        from aigc_text.data.tokenizer_training import unknown_token

        self.rows = sorted(rows, key=lambda row: len(row.ids))
        self.backend, self.unknown, self.notes = backend, unknown_token(backend.tokenizer), notes
        self.utf8_bytes = sum(row.size for row in self.rows)

    def __call__(self, model: Any) -> dict[str, float]:
        """The figures of the backend's model, which `model` must be.

        Returns:
            `loss` in nats per token, `bits_per_byte`, and where the tokenizer has an unknown token its share of the
            tokens, `unknown`.
        """
        device = next(model.parameters()).device
        nll, scored, unknown = 0.0, 0.0, 0.0
        for batch, counts in self._batches():
            labels = batch["labels"][:, 1:]
            known = labels != -100
            found = self._nll(batch["input_ids"].to(device))  # by all processes: each may hold a part of the model
            if counts:
                nll += float((found.double().cpu() * known).sum())
                scored += int(known.sum())
                unknown += int((labels == self.unknown).sum()) if self.unknown is not None else 0
        nll, scored, unknown = distributed.total([nll, scored, unknown], device)
        return {
            "loss": nll / max(1, scored),
            "bits_per_byte": nll / math.log(2) / max(1, self.utf8_bytes),
            **({} if self.unknown is None else {"unknown": unknown / max(1, scored)}),
        }

    def _batches(self) -> Iterator[tuple[dict[str, torch.Tensor], bool]]:
        """This process's share of every batch, the longest rows first; see `processes.share`."""
        from aigc_text.data.batching import collate
        from aigc_text.scoring.windows import rows_at_once

        left = len(self.rows)
        while left:
            size = rows_at_once(len(self.rows[left - 1].ids), len(self.backend.tokenizer), ROWS) * distributed.world()
            yield distributed.share(collate(self.rows[max(0, left - size) : left], self.backend.pad()))
            left = max(0, left - size)

    def _nll(self, ids: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.no_grad():
            return self.backend.token_nll(ids)


class ScoreValidation:
    """The same by `Backend.score` itself, for a family whose likelihood is an estimate. Each process scores all texts.

    Args:
        texts: to be scored, at every validation with the same draws.
        backend: of the model that is trained.
    """

    notes: Sequence[str] = ()

    def __init__(self, texts: Sequence[str], backend: TransformersBackend) -> None:
        from aigc_text.data.tokenizer_training import unknown_share, unknown_token

        self.texts, self.backend = texts, backend
        known = unknown_token(backend.tokenizer) is None
        self.unknown = {} if known else {"unknown": unknown_share(backend.tokenizer, texts)}

    def __call__(self, model: Any) -> dict[str, float]:
        found = total(self.backend.score(self.texts))
        return {"loss": found.nll / max(1, found.tokens), "bits_per_byte": found.bits_per_byte or 0.0, **self.unknown}


def row_nll(model: Any, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Negative log-likelihoods (B, T - 1) in nats of all labels (B, T) but the first; 0 where they are -100."""
    from .losses import token_nll

    logits = model(**inputs).logits[:, :-1]  # (B, T - 1, V)
    return token_nll(logits.flatten(0, 1), labels[:, 1:].flatten()).view(len(labels), -1)
