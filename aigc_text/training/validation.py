"""How well a model predicts texts: its validation while it trains, and what the scores of texts come to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_text import distributed
from aigc_text.outputs import Score

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


@dataclass(frozen=True)
class Total:
    """Sums over the scores of texts.

    Attributes:
        nll: in nats, the end of each text included.
        tokens: of the model's tokenizer, the end of each text counted.
        words: separated by white space, the end of each text counted as one.
        characters: code points, the end of each text counted as one.
        has_words: whether white space separates words in these texts; see `spaces_separate`.
        utf8_bytes: of the texts.
        texts: how many.
        kind: that of all scores, or all kinds.
        nll_se: standard error of `nll` from the samples of estimates; `None` where there are none.
        bits_per_byte_se: standard error over texts; `None` where there is only one.
        nats_per_text_se: the same.
    """

    nll: float
    tokens: int
    words: int
    characters: int
    has_words: bool
    utf8_bytes: int
    texts: int
    kind: str
    nll_se: float | None
    bits_per_byte_se: float | None
    nats_per_text_se: float | None

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable across tokenizers: all information over all bytes; `None` where there is no byte."""
        return self.nll / math.log(2) / self.utf8_bytes if self.utf8_bytes else None

    @property
    def perplexity(self) -> float | None:
        """Per token of this tokenizer, the end of each text counted; `None` where there is no token."""
        return perplexity(self.nll, self.tokens)

    @property
    def perplexity_per_word(self) -> float | None:
        """Comparable across tokenizers on one corpus; `None` where there is no text, or no word."""
        return perplexity(self.nll, self.words) if self.has_words else None

    @property
    def perplexity_per_character(self) -> float | None:
        """The same for texts whose words nothing separates; `None` where there is no text."""
        return perplexity(self.nll, self.characters)


def total(found: Iterable[Score]) -> Total:
    """Sums scores, one at a time.

    The error of bits per byte is that of a ratio of means, both of which vary from text to text (Cochran 1977,
    Sampling Techniques, equation 2.46): the spread of `bits - ratio * bytes` over the texts.
    """
    rows: list[tuple[float, int]] = []  # nats and bytes of each text
    tokens = words = characters = letters = joined = 0
    drawn: list[float] = []  # standard errors
    kinds: dict[str, None] = {}
    for score in found:
        rows.append((score.nll, score.utf8_bytes))
        tokens, words = tokens + score.tokens, words + len(score.text.split()) + 1
        characters += len(score.text) + 1
        of_text = letters_of(score.text)
        letters, joined = letters + of_text[0], joined + of_text[1]
        kinds[score.kind] = None
        drawn += [] if score.nll_se is None else [score.nll_se]
    nats, sizes = np.array(rows, float).reshape(-1, 2).T  # (N,) both
    n, size = len(rows), float(sizes.sum())
    several = n > 1
    spread = nats - nats.sum() / size * sizes if size else nats
    return Total(
        nll=math.fsum(nats),
        tokens=tokens,
        words=words,
        characters=characters,
        has_words=spaces_separate(letters, joined),
        utf8_bytes=int(size),
        texts=n,
        kind=" and ".join(kinds),
        nll_se=math.hypot(*drawn) if drawn else None,  # the texts' draws are independent
        bits_per_byte_se=_error_of_sum(spread) / size / math.log(2) if several and size else None,
        nats_per_text_se=_error_of_sum(nats) / n if several else None,
    )


# Scripts without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, and those of Chinese and Japanese.
_JOINED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_LETTER = re.compile(r"[^\W\d_]")


def letters_of(text: str) -> tuple[int, int]:
    """How many letters a text has, and how many of them are of scripts that put no spaces between words."""
    if text.isascii():
        return sum(map(str.isalpha, text)), 0
    return len(_LETTER.findall(text)), len(_JOINED.findall(text))


def spaces_separate(letters: int, joined: int) -> bool:
    """Whether what stands between spaces are words: not where a tenth of the letters or more are Chinese, say."""
    return not joined or joined < 0.1 * max(letters, joined)


def _error_of_sum(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) * math.sqrt(len(values)))


def log_mean_exp(values: torch.Tensor) -> tuple[float, float | None]:
    """log of the mean of exp(values) (K,), and the standard error of that log by the delta method, if K > 1.

    The error is too small where a few values are far above the others.
    """
    shares = (values.double() - values.double().max()).exp()
    found = float(shares.mean().log() + values.double().max())
    return found, float(shares.std() / shares.mean()) / math.sqrt(len(values)) if len(values) > 1 else None


def perplexity(nll: float, count: int) -> float | None:
    """exp(nll / count); `None` without anything to count. Above 1e304 it stays there, for JSON has no infinity."""
    return math.exp(min(nll / count, 700.0)) if count else None
