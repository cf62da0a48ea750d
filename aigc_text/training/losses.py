"""The next token's negative log-likelihood with little memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from aigc_text.utils.torch_compat import keeps_graph

# Elements of the logits computed in fp32 at once: on the CPU what stays in a core's cache, elsewhere enough that the
# number of kernels does not matter.
_CHUNK = {"cpu": 1 << 18}
_LARGE_CHUNK = 1 << 27


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood in nats of each row's labels but its first, computed in fp32.

    The value and the gradient of transformers' loss for causal language models. The gradient is found along with the
    value, a few rows at a time, and kept in the precision of the logits, so that no fp32 table of (B, T, V)
    probabilities is ever in memory (as in the Liger kernel, Hsu et al. 2024, arXiv 2410.10989, section 3.2). With
    `retain_graph=True` there may be any number of backward passes; there is no gradient of the gradient.

    Args:
        logits: (B, T, V).
        labels: (B, T); -100 counts for nothing. Without any label that counts the loss is 0.
    """
    return mean_nll(logits, F.pad(labels[:, 1:], (0, 1), value=-100))


def mean_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The same of targets (B, T) that stand beside the logits (B, T, V) which predict them."""
    found: torch.Tensor = _MeanNLL.apply(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).to(logits.device))
    return found


@torch.no_grad()
def token_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood in nats of each target, computed in fp32 a few rows at a time, without a gradient.

    Args:
        logits: (N, V).
        targets: (N,); where they are -100 the value is 0.

    Returns:
        (N,) float32.
    """
    found = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    for out, part, target in zip(*(x.split(_rows(logits)) for x in (found, logits, targets)), strict=True):
        out.copy_(F.cross_entropy(part.float(), target, reduction="none"))
    return found


def _rows(logits: torch.Tensor) -> int:
    """How many rows of logits (N, V) are computed in fp32 at once."""
    threads = torch.get_num_threads() if logits.device.type == "cpu" else 1
    return max(1, threads * _CHUNK.get(logits.device.type, _LARGE_CHUNK) // logits.shape[1])


class _MeanNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of logits (N, V) and targets (N,)."""
        counts = targets != -100
        share = counts.float() / counts.sum().clamp(min=1)  # (N,)
        gradient = torch.empty_like(logits)
        nll = share.new_zeros(())
        places = zip(*(x.split(_rows(logits)) for x in (logits, gradient, targets, share)), strict=True)
        for part, out, target, weight in places:
            index = target.clamp(min=0)[:, None]
            chances = torch.log_softmax(part, -1, dtype=torch.float32)  # (n, V)
            nll -= (chances.gather(1, index)[:, 0] * weight).sum()
            chances.exp_().scatter_add_(1, index, torch.full_like(weight, -1.0)[:, None])
            out.copy_(chances.mul_(weight[:, None]))  # softmax minus one-hot
        ctx.save_for_backward(gradient)
        return nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        if keeps_graph():  # another backward may follow
            return gradient * outer, None
        return gradient.mul_(outer), None


def row_nll(model: Any, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Negative log-likelihoods (B, T - 1) in nats of all labels (B, T) but the first; 0 where they are -100."""
    logits = model(**inputs).logits[:, :-1]  # (B, T - 1, V)
    return token_nll(logits.flatten(0, 1), labels[:, 1:].flatten()).view(len(labels), -1)
