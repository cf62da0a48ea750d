"""Seeded sampling: one random stream for every completion, whatever batch it is computed in.

What is drawn is a hash of (stream, step, token), so nothing has to be carried along when rows are dropped, sorted or
shared among processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

BLOCK = 256  # tokens whose probabilities are added up before one of them is looked for
COLDEST = 1e-30  # temperature: colder ones would make scores infinite, and the likeliest token is taken long before
FIRST_NUCLEUS = 512  # likeliest tokens among which a nucleus is looked for first; then among eight times as many


@dataclass(frozen=True)
class Sampler:
    """Draws tokens from scores (softmax), with the usual ways of leaving the unlikely ones out.

    Attributes:
        temperature: divides the scores.
        top_k: draw among the k likeliest only (Fan et al. 2018); `None` is all.
        top_p: draw among the smallest set of likeliest tokens whose probabilities reach p (nucleus sampling,
            Holtzman et al. 2020); 1 is all.
        min_p: draw among those at least this share as likely as the likeliest (Nguyen et al. 2024); 0 is all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    @classmethod
    def taken_from(cls, processors: Iterable[Any]) -> tuple[list[Any], Sampler]:
        """Takes the part of a `LogitsProcessorList` that this class does, at its end; gives the rest, and that."""
        rest: list[Any] = list(processors)
        found: dict[str, Any] = {}
        while rest and (what := _WARPERS.get(type(rest[-1]).__name__)):
            kept = rest[-1].__dict__.get("min_tokens_to_keep", 1)
            # What an earlier one in the list does would come after a later one here.
            if kept != 1 or any(_ORDER.index(what) >= _ORDER.index(name) for name in found):
                break
            found[what] = getattr(rest.pop(), what)
        return rest, cls(**found)

    def __call__(self, scores: torch.Tensor, keys: torch.Tensor, step: int) -> torch.Tensor:
        """Draws a token a row.

        Args:
            scores: (B, V) float32, minus infinity where a token is ruled out.
            keys: (B,) int64, the rows' streams.
            step: how many tokens of them were drawn before.

        Returns:
            (B,) tokens.
        """
        if self.temperature != 1.0:
            scores = scores / max(self.temperature, COLDEST)
        if self.top_k is None and self.top_p >= 1:
            return draw(self._likely(scores, scores.amax(1, keepdim=True)), uniform(keys, step))
        if self.top_k is not None:
            scores, tokens = scores.topk(min(self.top_k, scores.shape[1]))  # (B, k), the likeliest first
            scores = nucleus(scores, scores.softmax(1), self.top_p)
        else:
            scores, tokens = self._nucleus(scores)
        scores = self._likely(scores, scores[:, :1])
        # Two nearly equal tokens at the border may change places with the batch, by rounding. Noise that belongs to a
        # token leaves the others' chances alone then, where a place on a common scale would shift them all.
        chosen = (scores + gumbel(keys, step, tokens)).argmax(1, keepdim=True)
        return tokens.gather(1, chosen)[:, 0]

    def _likely(self, scores: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
        if not self.min_p:
            return scores
        return scores.masked_fill(scores < highest + math.log(self.min_p), -torch.inf)

    def _nucleus(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, k) scores and tokens with the nucleus among them; sorting the whole vocabulary is seldom needed."""
        size = scores.shape[1]
        total = scores.logsumexp(1, keepdim=True)  # (B, 1)
        # To look at sums elsewhere would mean to wait for them.
        k = min(FIRST_NUCLEUS, size) if scores.device.type == "cpu" else size
        while True:
            best, tokens = scores.topk(k)
            shares = (best - total).exp()  # (B, k)
            if k == size or bool((shares.sum(1) >= self.top_p).all()):
                break
            k = min(8 * k, size)
        best = nucleus(best, shares, self.top_p)
        if scores.device.type == "cpu":  # no noise for what is left out in all rows
            k = int((best > -torch.inf).sum(1).max())
        return best[:, :k], tokens[:, :k]


_ORDER = ("temperature", "top_k", "top_p", "min_p")
_WARPERS = {
    "TemperatureLogitsWarper": "temperature",
    "TopKLogitsWarper": "top_k",
    "TopPLogitsWarper": "top_p",
    "MinPLogitsWarper": "min_p",
}


def nucleus(scores: torch.Tensor, shares: torch.Tensor, p: float) -> torch.Tensor:
    """Scores (B, k), the highest first, without those before which their probabilities `shares` (B, k) reach p."""
    if p >= 1:
        return scores
    before = shares.cumsum(1) - shares
    return scores.masked_fill(before >= p, -torch.inf).index_copy(1, before.new_zeros(1).long(), scores[:, :1])


def draw(scores: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Draws from softmax(scores) by the inverse of its distribution function: one random number a row.

    Args:
        scores: (B, V) float32.
        uniforms: (B,) float64, from 0 up to 1.

    Returns:
        (B,) tokens, none with a score of minus infinity.
    """
    weights = (scores - scores.amax(1, keepdim=True)).exp()
    if len(weights[0]) > BLOCK:
        blocks = F.pad(weights, (0, -weights.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))  # (B, N, 256)
        sums = blocks.sum(2)  # (B, N)
        block, rest = _place(sums, uniforms * sums.sum(1, dtype=torch.float64))
        inside = blocks[torch.arange(len(block), device=block.device), block]  # (B, 256)
        return block * BLOCK + _place(inside, rest)[0]
    return _place(weights, uniforms * weights.sum(1, dtype=torch.float64))[0]


def _place(weights: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) where the sum of weights (B, N) passes the target (B,), and (B,) what of it is left there."""
    sums = weights.cumsum(1, dtype=torch.float64)  # (B, N)
    last = (sums < sums[:, -1:]).sum(1)  # the last with a weight: rounding may put the target beyond it
    place = (sums <= target[:, None]).sum(1).minimum(last)
    before = (sums - weights).gather(1, place[:, None])[:, 0]
    return place, (target - before).clamp_(min=0)


def gumbel(keys: torch.Tensor, step: int, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise for tokens: the arg max of scores with it is a draw from their softmax (Gumbel 1954).

    Args:
        keys: (B,) int64, the rows' streams.
        step: how many tokens were drawn before.
        tokens: (B, K) or (K,) ids.

    Returns:
        (B, K) float32, finite everywhere; on the device of `keys`.
    """
    found = _uniform(keys, step, tokens).clamp(2.0**-63, 1 - 2.0**-24)  # at 0 and 1 the noise would be infinite
    return -torch.log(-torch.log(found)).float()


def uniform(keys: torch.Tensor, step: int) -> torch.Tensor:
    """(B,) float64 from 0 up to 1 for the draw of one token; independent of `gumbel` and `normal`."""
    return _uniform(keys, step, torch.full((1,), (1 << 32) - 1, device=keys.device))[:, 0]


def normal(keys: torch.Tensor, size: int) -> torch.Tensor:
    """Standard normal noise for what is drawn before the first token, such as a latent vector.

    Args:
        keys: (B,) int64, the rows' streams.
        size: D.

    Returns:
        (B, D) float32, independent of the noise of all tokens, by the inverse of the distribution function.
    """
    found = _uniform(keys, -1, torch.arange(size, device=keys.device)).clamp(2.0**-53, 1 - 2.0**-53)
    return torch.special.ndtri(found).float()


def _uniform(keys: torch.Tensor, step: int, places: torch.Tensor) -> torch.Tensor:
    """(B, K) float64 from 0 up to 1, a hash of (key, step, place) for places (B, K) or (K,) below 2^32."""
    bits = _mix(keys[:, None] + _mix(places + (step << 32)))  # (B, K)
    return ((bits >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The finaliser of splitmix64 (Steele et al. 2014) in wrapping int64 arithmetic."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: torch.Tensor, n: int) -> torch.Tensor:
    """Logical right shift; torch's own copies the sign."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x
