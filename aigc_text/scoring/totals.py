"""What the scores of texts come to: sums, perplexities, and their standard errors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aigc_text.outputs import Score

if TYPE_CHECKING:
    import torch


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
