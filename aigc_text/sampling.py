"""Seeded sampling: one random stream for every completion, whatever batch it is computed in.

A token is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014): adding independent Gumbel noise to
the log-probabilities and taking the arg max is a draw from the distribution. The noise is a hash of (stream, step,
token), so nothing has to be carried along when rows are dropped, sorted or shared among processes.
"""

from __future__ import annotations

import hashlib

import torch


def stream_key(seed: int, prompt_index: int, index: int) -> int:
    """The random stream of completion `index` of prompt `prompt_index`: 64 bits, as a signed integer."""
    digest = hashlib.blake2b(f"{seed}/{prompt_index}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def gumbel(keys: torch.Tensor, step: int, size: int) -> torch.Tensor:
    """Standard Gumbel noise.

    Args:
        keys: (B,) int64, the rows' streams.
        step: how many tokens were drawn before.
        size: V, entries of the vocabulary.

    Returns:
        (B, V) float32, finite everywhere; on the device of `keys`.
    """
    uniform = _uniform(keys, step, size).clamp(2.0**-63, 1 - 2.0**-24)  # at 0 and 1 the noise would be infinite
    return -torch.log(-torch.log1p(uniform - 1)).float()


def normal(keys: torch.Tensor, size: int) -> torch.Tensor:
    """Standard normal noise for what is drawn before the first token, such as a latent vector.

    Args:
        keys: (B,) int64, the rows' streams.
        size: D.

    Returns:
        (B, D) float32, independent of the noise of all tokens, by the inverse of the distribution function.
    """
    uniform = _uniform(keys, -1, size).clamp(2.0**-53, 1 - 2.0**-53)
    return torch.special.ndtri(uniform).float()


def _uniform(keys: torch.Tensor, step: int, size: int) -> torch.Tensor:
    """(B, size) float64 from 0 up to 1, a hash of (key, step, place)."""
    position = torch.arange(size, device=keys.device) + (step << 32)  # (V,) no two (step, token) meet below 2^32 tokens
    bits = _mix(keys[:, None] + _mix(position)[None, :])  # (B, V)
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
