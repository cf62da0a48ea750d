"""Gumbel-softmax (Jang et al. 2017; Maddison et al. 2017): words that were drawn, and their gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# Elements of (N, V) looked at together: on the CPU what stays in a core's cache.
CHUNK = {"cpu": 1 << 18}


@dataclass
class Fakes:
    """Sentences that the generator drew, without gradients.

    Attributes:
        ids: (B, L), filled up after the end.
        alive: (B, L) true up to the end, and with it.
        shown: (N, V) y_t of each word that is alive: all first words, then all second ones, and so on.
        noise: (B, D) that they began with, if there is any.
    """

    ids: torch.Tensor
    alive: torch.Tensor
    shown: torch.Tensor
    noise: torch.Tensor | None


def gumbel_noise(like: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise of the same shape, finite; five times as quick on the CPU as torch's exponential draws."""
    return torch.empty_like(like).uniform_().clamp_(1e-30, 1 - 2.0**-24).log_().neg_().log_().neg_()


def placed(soft: torch.Tensor, alive: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Embeddings (B, L', C) of words, with those of y_t (N, C) in the places of the words that are alive (B, L)."""
    rows, places = alive.t().nonzero().flip(1).unbind(1)  # (N,) both, in the order of `Fakes.shown`
    return words.index_put((rows, places), soft.to(words.dtype))


class Shown(torch.autograd.Function):
    """Embeddings (N, C) = y W of y = softmax(beta (o + g)), which is known, with the gradient of o = h A + b.

    A few rows at a time, so that no gradient of (N, V) is ever in memory, and o itself is not computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        beta: float,
    ) -> torch.Tensor:
        """Of h (N, H), A (V, H), b (V,), y (N, V) and W (V, C)."""
        ctx.save_for_backward(h, a, y, weight)
        ctx.beta = beta
        return y @ weight

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, a, y, weight = ctx.saved_tensors
        into_h, into_a = torch.empty_like(h), torch.zeros_like(a)
        into_b, turned = a.new_zeros(len(a)), weight.t().contiguous()
        rows = max(1, CHUNK.get(h.device.type, 1 << 27) // y.shape[1])
        places = zip(*(x.split(rows) for x in (outer.to(y.dtype), y, h.to(y.dtype), into_h)), strict=True)
        with torch.autocast(h.device.type, enabled=False):
            for from_shown, own, read, out in places:
                into = (from_shown @ turned).mul_(own)  # (n, V)
                into.addcmul_(own, into.sum(1, keepdim=True), value=-1).mul_(ctx.beta)  # softmax backward, times beta
                out.copy_(into @ a)
                into_a.addmm_(into.t(), read)
                into_b += into.sum(0)
        return into_h, into_a, into_b, None, None, None
