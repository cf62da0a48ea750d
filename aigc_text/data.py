"""Texts to packed rows of tokens, rows to batches whose order is a function of the seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], end: int | None) -> np.ndarray:
    """All texts' tokens in one row, each text followed by `end` if there is one. Shape (N,), uint16 or uint32."""
    kind = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    parts = []
    for chunk in _chunks(texts, 64):
        for ids in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            parts.append(np.array(ids if end is None else [*ids, end], dtype=kind))
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class PackedBatches:
    """Rows of `block_size` tokens cut from one long row of tokens, with nothing padded.

    Each pass over the data cuts it at another offset and shuffles the rows; both follow from (seed, pass), so the
    n-th batch is a function of (seed, n). Rows left over at the end of a pass come in a smaller batch only if the
    data has fewer rows than `batch_size`.

    Args:
        tokens: shape (N,).
        batch_size: rows B of a batch.
        block_size: tokens T of a row.
        seed: decides offsets and order.

    Raises:
        DataError: fewer tokens than one row.
    """

    def __init__(self, tokens: np.ndarray, batch_size: int, block_size: int, seed: int) -> None:
        if len(tokens) < block_size:
            raise DataError(
                f"the training data has {len(tokens)} tokens, fewer than one block of {block_size}",
                "Give more data or a smaller --block-size.",
            )
        self.tokens, self.seed, self.block_size = tokens, seed, block_size
        # One row is kept back where there are two, so that every offset leaves the same number of rows.
        self.rows = max(1, len(tokens) // block_size - 1)
        self.batch_size = min(batch_size, self.rows)

    def __len__(self) -> int:
        return self.rows // self.batch_size

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return self.from_step(0)

    def from_step(self, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of `input_ids` and `labels`, (B, T) both, from the `step`-th on, without end."""
        while True:
            epoch, first = divmod(step, len(self))
            offset, order = self._order(epoch)
            for n in range(first, len(self)):
                yield self._batch(offset, order[n * self.batch_size : (n + 1) * self.batch_size])
            step += len(self) - first

    def _order(self, epoch: int) -> tuple[int, np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        room = len(self.tokens) - self.rows * self.block_size
        return int(random.integers(min(room + 1, self.block_size))), random.permutation(self.rows)

    def _batch(self, offset: int, rows: np.ndarray) -> dict[str, torch.Tensor]:
        import torch

        starts = offset + rows[:, None] * self.block_size  # (B, 1)
        ids = torch.from_numpy(self.tokens[starts + np.arange(self.block_size)].astype(np.int64))  # (B, T)
        return {"input_ids": ids, "labels": ids}


def blocks(tokens: np.ndarray, block_size: int, most: int) -> np.ndarray:
    """At most `most` rows of a validation text, spread evenly over it. Shape (n, T)."""
    count = len(tokens) // block_size
    chosen: Sequence[int] = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist() if count else []
    return np.stack([tokens[i * block_size : (i + 1) * block_size] for i in chosen]) if count else tokens[None, :]
