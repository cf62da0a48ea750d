"""Rows of tokens to batches: packed, continuous, grouped by length, streamed; the order follows from the seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_text.errors import DataError

from .encoding import Row

if TYPE_CHECKING:
    import torch

WINDOW = 64  # batches whose rows are sorted by length together
SHOWN = 8  # rows of a batch that are named where it is to blame
SHUFFLED = 2048  # rows that are shuffled together while streaming
BARREN = 1 << 17  # examples that give no row, after whole passes of which none will: a row needs fewer tokens

Batch = dict[str, "torch.Tensor"]


class _Passes:
    """Batches pass after pass. What a pass looks like follows from (seed, pass), so batch n does from (seed, n)."""

    batch_size: int
    rows: int
    #: What the user should know of how the rows were made.
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        """Batches of a pass."""
        return self.rows // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        return self.from_step(0)

    def from_step(self, step: int) -> Iterator[Batch]:
        """Batches from the `step`-th on, without end."""
        while True:
            number, first = divmod(step, len(self))
            plan = self._plan(number)
            yield from (self._batch(chosen) for chosen in plan[first:])
            step += len(self) - first

    def place(self, step: int) -> str:
        """Where in the data the `step`-th batch comes from, in words."""
        number, n = divmod(step, len(self))
        chosen = sorted(int(i) + 1 for i in self._plan(number)[n])
        shown = ", ".join(map(str, chosen[:SHOWN])) + (" and others" if len(chosen) > SHOWN else "")
        return f"batch {n + 1:,} of pass {number + 1:,}: {self.counted} {shown} of the data"

    #: What `_plan` numbers.
    counted = "rows that begin at tokens"

    def _plan(self, number: int) -> np.ndarray:
        """Which rows each batch of a pass has. Shape (len(self), batch_size)."""
        raise NotImplementedError

    def _batch(self, chosen: np.ndarray) -> Batch:
        raise NotImplementedError


class PackedBatches(_Passes):
    """Rows of `block_size` tokens cut from one long row of tokens, with nothing padded.

    Each pass over the data cuts it at another offset and shuffles the rows; both follow from (seed, pass), so the
    n-th batch is a function of (seed, n). Rows left over at the end of a pass come in a smaller batch only if the
    data has fewer rows than `batch_size`. Batches are `input_ids` and `labels`, (B, T) both.

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
            raise _too_short(tokens, block_size)
        self.tokens, self.seed, self.block_size = tokens, seed, block_size
        # One row is kept back where there are two, so that every offset leaves the same number of rows.
        self.rows = max(1, len(tokens) // block_size - 1)
        self.batch_size = min(batch_size, self.rows)

    def _plan(self, number: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, number])
        room = len(self.tokens) - self.rows * self.block_size
        offset = int(random.integers(min(room + 1, self.block_size)))
        order = random.permutation(self.rows)[: len(self) * self.batch_size]
        return (offset + order * self.block_size).reshape(-1, self.batch_size)

    def _batch(self, chosen: np.ndarray) -> Batch:
        import torch

        ids = self.tokens[chosen[:, None] + np.arange(self.block_size)]  # (B, T)
        tensor = torch.from_numpy(ids.astype(np.int64))
        return {"input_ids": tensor, "labels": tensor}


class ContinuousBatches(_Passes):
    """The text as so many streams side by side as a batch has rows, for a state that is carried from batch to batch.

    Each row of a batch goes on where the same row of the batch before it ended, and repeats its last token, so that
    every token is predicted once (truncated backpropagation through time, Williams and Peng 1990; in rows as Zaremba
    et al. 2014). A pass begins at an offset that follows from (seed, pass), so the cuts are others in each. Tokens
    left over at the end of the pass are left out. Batches are `input_ids` and `labels`, (B, T) both, and `begins`,
    (B,), which is true where nothing comes before a row.

    Args:
        tokens: shape (N,).
        batch_size: rows B of a batch; fewer where the text is short.
        block_size: tokens T of a row.
        seed: decides the offsets.

    Raises:
        DataError: fewer tokens than one row.
    """

    def __init__(self, tokens: np.ndarray, batch_size: int, block_size: int, seed: int) -> None:
        if len(tokens) < block_size:
            raise _too_short(tokens, block_size)
        self.tokens, self.seed, self.block_size = tokens, seed, block_size
        self.step = block_size - 1
        # One step is kept back where there are two, so that every offset leaves the same number of rows.
        cuts = max(1, (len(tokens) - 1) // self.step - 1)
        self.batch_size = min(batch_size, cuts)
        self.rows = cuts // self.batch_size * self.batch_size

    def _plan(self, number: int) -> np.ndarray:
        room = len(self.tokens) - self.rows * self.step
        offset = int(np.random.default_rng([self.seed, number]).integers(min(room, self.step)))
        starts = np.arange(self.rows).reshape(self.batch_size, len(self)).T  # (len(self), B)
        return offset + starts * self.step

    def _batch(self, chosen: np.ndarray) -> Batch:
        import torch

        ids = self.tokens[chosen[:, None] + np.arange(self.block_size)]  # (B, T)
        tensor = torch.from_numpy(ids.astype(np.int64))
        begins = torch.full((len(ids),), bool(chosen[0] < self.step))
        return {"input_ids": tensor, "labels": tensor, "begins": begins}


class LengthGroupedBatches(_Passes):
    """Batches of rows of similar length, filled up on the right to the longest of the batch.

    Each pass shuffles the rows, sorts windows of 64 batches by length and shuffles the batches. Rows too few for a
    last batch are left out; they are others in each pass. Batches are `input_ids` and `labels`, (B, T) both, with
    labels of -100 where nothing is learned, and `attention_mask` if anything is filled up.

    Args:
        rows: as `encoding.Encoder` makes them.
        batch_size: rows B of a batch.
        seed: decides the order.
        pad: the id to fill up with.
        by_length: whether rows are sorted at all; without it any rows share a batch.

    Raises:
        DataError: no rows.
    """

    def __init__(self, rows: Iterable[Row], batch_size: int, seed: int, pad: int, by_length: bool = True) -> None:
        parts, masked = [np.zeros(0, np.uint32)], []
        for row in rows:
            parts.append(np.array(row.ids, np.uint32))
            masked.append(row.masked)
        if not masked:
            raise DataError("the training data is empty", "Give a file with text.")
        self.lengths, self.by_length = np.array([len(part) for part in parts[1:]]), by_length
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.tokens, self.masked, self.seed, self.pad = np.concatenate(parts), masked, seed, pad
        self.rows = len(masked)
        self.batch_size = min(batch_size, self.rows)

    counted = "rows"

    def _plan(self, number: int) -> np.ndarray:
        lengths = self.lengths if self.by_length else np.zeros_like(self.lengths)
        return grouped(lengths, self.batch_size, np.random.default_rng([self.seed, number]))

    def _batch(self, chosen: np.ndarray) -> Batch:
        ends = self.starts + self.lengths
        return collate([Row(self.tokens[self.starts[i] : ends[i]], self.masked[i]) for i in chosen], self.pad)


class StreamedBatches:
    """Batches of examples that are read while training, for data that does not fit in memory.

    The examples are gone through pass after pass. Windows of 2048 rows, or 64 batches if that is more, are shuffled,
    and grouped by length where lengths differ; the order of each follows from (seed, window). Nothing is left out.
    `from_step` reads again what comes before, so the n-th batch is a function of (seed, n) here too. How many batches
    a pass has is not known.

    Args:
        examples: can be iterated again and again.
        rows: makes rows of examples while it is iterated.
        batch_size: rows B of a batch.
        seed: decides the order.
        pad: the id to fill up with.
        by_length: whether rows are grouped by length.

    Raises:
        DataError: examples that can be read only once; no examples, or none that gives a row, when they are read.
    """

    def __init__(
        self,
        examples: Iterable[Any],
        rows: Callable[[Iterable[Any]], Iterator[Row]],
        batch_size: int,
        seed: int,
        pad: int,
        by_length: bool = True,
    ) -> None:
        if isinstance(examples, Iterator):
            raise DataError(
                f"the training data is a {type(examples).__name__}, which can be read only once",
                "Give a list, or an object whose __iter__ begins anew.",
            )
        self.examples, self.make, self.batch_size, self.seed, self.pad = examples, rows, batch_size, seed, pad
        self.by_length = by_length
        self.window = max(WINDOW, SHUFFLED // batch_size)  # batches

    def __iter__(self) -> Iterator[Batch]:
        return self.from_step(0)

    def place(self, step: int) -> str:
        """Where in the data the `step`-th batch comes from, in words: rows are shuffled and grouped within windows."""
        first = step // self.window * self.window * self.batch_size + 1
        last = first + self.window * self.batch_size - 1
        return f"batch {step + 1:,}, among rows {first:,} to {last:,} as they are read"

    def from_step(self, step: int) -> Iterator[Batch]:
        """Batches from the `step`-th on, without end."""
        number, first = divmod(step, self.window)
        size = self.window * self.batch_size
        rows = self._endless()
        deque(islice(rows, number * size), maxlen=0)
        while True:
            held = list(islice(rows, size))
            lengths = np.array([len(row.ids) if self.by_length else 0 for row in held])
            for chosen in grouped(lengths, self.batch_size, np.random.default_rng([self.seed, number]))[first:]:
                yield collate([held[i] for i in chosen], self.pad)
            number, first = number + 1, 0

    def _endless(self) -> Iterator[Row]:
        barren = 0  # examples read since the last row

        def examples() -> Iterator[Any]:
            nonlocal barren
            while True:
                passed = 0
                for example in self.examples:
                    passed, barren = passed + 1, barren + 1
                    yield example
                if not passed or barren >= max(2 * passed, BARREN):  # twice, since rows are made of several examples
                    raise DataError("the training data is empty", "Give a file with text.")

        for row in self.make(examples()):
            barren = 0
            yield row


def _too_short(tokens: np.ndarray, block_size: int) -> DataError:
    return DataError(
        f"the training data has {len(tokens)} tokens, fewer than one block of {block_size}",
        "Give more data or a smaller --block-size.",
    )


def grouped(lengths: np.ndarray, batch_size: int, random: np.random.Generator) -> np.ndarray:
    """Rows in batches of similar lengths, both in random order. Shape (len(lengths) // batch_size, batch_size)."""
    count = len(lengths) // batch_size
    order = random.permutation(len(lengths))[: count * batch_size]
    windows = np.arange(len(order)) // (WINDOW * batch_size)
    order = order[np.lexsort((lengths[order], windows))]  # stable: rows of one length stay shuffled
    return random.permutation(order.reshape(count, batch_size))


def collate(rows: Sequence[Row], pad: int) -> Batch:
    """Rows in one batch, filled up on the right; see `LengthGroupedBatches`."""
    import torch

    lengths = np.array([len(row.ids) for row in rows])
    ids = np.full((len(rows), lengths.max()), pad)
    labels = np.full_like(ids, -100)
    for n, row in enumerate(rows):
        ids[n, : lengths[n]] = row.ids
        labels[n, row.masked : lengths[n]] = row.ids[row.masked :]
    batch = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
    if lengths.min() < lengths.max():
        batch["attention_mask"] = torch.from_numpy((np.arange(lengths.max()) < lengths[:, None]).astype(np.int64))
    return batch
