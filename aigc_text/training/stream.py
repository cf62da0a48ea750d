"""The batches of a run as each process reads them. They are functions of (seed, step), so nothing of them is saved."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from aigc_text import distributed
from aigc_text.errors import TrainingError


class BatchStream:
    """This process's share of every micro-batch from the `first`-th on, without end; see `distributed.share`.

    Args:
        batches: begun anew when they run out. If they have `from_step(n)`, that gives those from the n-th on; else
            `first` of them are skipped.
        first: how many were read by the run that is resumed.

    Raises:
        TrainingError: there are no batches, or not the same ones in all processes.
    """

    def __init__(self, batches: Iterable[Any], first: int) -> None:
        self.batches, self.tokens = batches, 0
        self._shares = self._read(first)

    def __iter__(self) -> Iterator[tuple[Any, bool]]:
        return self

    def __next__(self) -> tuple[Any, bool]:
        return next(self._shares)

    def place(self, number: int) -> str:
        """Where in the data a batch comes from, in words."""
        place = getattr(self.batches, "place", None)
        return str(place(number)) if place is not None else f"batch {number + 1:,}"

    def _read(self, skip: int) -> Generator[tuple[Any, bool], None, None]:
        compared = False
        if hasattr(self.batches, "from_step"):
            source: Iterator[Any] = iter(self.batches.from_step(skip))
            skip = 0
        else:
            source = iter(self.batches)
        while True:
            empty = True
            for batch in source:
                empty = False
                if skip:
                    skip -= 1
                    continue
                if not compared:
                    distributed.agree(data=batch)
                    compared = True
                self.tokens += _tokens(batch)
                yield distributed.share(batch)
            if empty:
                raise TrainingError("there are no batches to train on", "Is the data shorter than one block?")
            source = iter(self.batches)


def _tokens(batch: Any) -> int:
    """Tokens of a batch, without padding; 0 where it holds none."""
    if not (isinstance(batch, Mapping) and "input_ids" in batch):
        return 0
    mask = batch.get("attention_mask")
    return int(batch["input_ids"].numel() if mask is None else mask.sum())
