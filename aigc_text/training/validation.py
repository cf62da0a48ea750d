"""How well a model predicts held-out texts while it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.outputs import Score
from aigc_text.scoring.totals import total

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from aigc_text.data.encoding import Row


ROWS = 16  # that a validation reads at once, at most


class Validation:
    """Called with a model during training: nats per token and bits per byte of rows of tokens.

    Of all windows of a text it finds the figures of `Backend.score`. Several processes divide the rows among them; all
    get the figures of the whole.

    Args:
        rows: with their sizes; what is masked counts neither as tokens nor as bytes.
        token_nll: ids (B, T) to negative log-likelihoods (B, T - 1) in nats, by the model that is trained.
        tokenizer: of the model.
        pad: the id that fills up short rows.
        notes: what the user should know of how the rows were made.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        token_nll: Callable[[torch.Tensor], torch.Tensor],
        tokenizer: PreTrainedTokenizerBase,
        pad: int,
        notes: Sequence[str] = (),
    ) -> None:
        from aigc_text.data.tokenizer_training import unknown_token

        self.rows = sorted(rows, key=lambda row: len(row.ids))
        self.token_nll, self.vocabulary, self.pad = token_nll, len(tokenizer), pad
        self.unknown, self.notes = unknown_token(tokenizer), notes
        self.utf8_bytes = sum(row.size for row in self.rows)

    def __call__(self, model: Any) -> dict[str, float]:
        """The figures of the model whose likelihoods `token_nll` gives, which `model` must be.

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
        """This process's share of every batch, the longest rows first; see `distributed.share`."""
        from aigc_text.data.batching import collate
        from aigc_text.scoring.windows import rows_at_once

        left = len(self.rows)
        while left:
            size = rows_at_once(len(self.rows[left - 1].ids), self.vocabulary, ROWS) * distributed.world()
            yield distributed.share(collate(self.rows[max(0, left - size) : left], self.pad))
            left = max(0, left - size)

    def _nll(self, ids: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.no_grad():
            return self.token_nll(ids)


class ScoreValidation:
    """The same by `Backend.score` itself, for a family whose likelihood is an estimate. Each process scores all texts.

    Args:
        texts: to be scored, at every validation with the same draws.
        score: texts to their scores, by the model that is trained.
        tokenizer: of the model.
    """

    notes: Sequence[str] = ()

    def __init__(
        self,
        texts: Sequence[str],
        score: Callable[[Sequence[str]], Iterable[Score]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        from aigc_text.data.tokenizer_training import unknown_share, unknown_token

        self.texts, self.score = texts, score
        known = unknown_token(tokenizer) is None
        self.unknown = {} if known else {"unknown": unknown_share(tokenizer, texts)}

    def __call__(self, model: Any) -> dict[str, float]:
        found = total(self.score(self.texts))
        return {"loss": found.nll / max(1, found.tokens), "bits_per_byte": found.bits_per_byte or 0.0, **self.unknown}
