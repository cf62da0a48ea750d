"""One process's share of a file of records: which texts are in it, and the file that holds them until all are there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aigc_text.errors import GenerationError, OptionError

CHUNK = 256  # texts in a row that one process makes
ELSEWHERE = "Choose another --output."
ANEW = "Begin anew with --overwrite."


@dataclass(frozen=True)
class Share:
    """Which texts one process makes: stretches of them in turn. Texts are numbered by prompt, then by index.

    Attributes:
        rank, world: which process of how many.
        total: texts of all of them.
    """

    rank: int
    world: int
    total: int

    @property
    def chunk(self) -> int:
        """Texts of a stretch: few where there are few, so that no process is left without any."""
        return max(1, min(CHUNK, -(-self.total // self.world)))

    def owner(self, place: int) -> int:
        """The process that makes a text."""
        return place // self.chunk % self.world

    def number(self, place: int) -> int:
        """A text's number among those of its own process."""
        return place // (self.chunk * self.world) * self.chunk + place % self.chunk

    def __len__(self) -> int:
        rounds, rest = divmod(self.total, self.chunk * self.world)
        return rounds * self.chunk + min(max(rest - self.rank * self.chunk, 0), self.chunk)


class Part:
    """The records of one share in a file that one process writes, which `batch_job.Job` has claimed.

    Args:
        path: of the file; it is made if it is not there.
        share: which records may be in it.
        per_prompt: how many texts a prompt has.

    Raises:
        OptionError: it cannot be written.
    """

    def __init__(self, path: Path, share: Share, per_prompt: int) -> None:
        self.path, self.share, self.per_prompt = path, share, per_prompt
        self.count, self.in_order = 0, True
        self._done = bytearray(-(-len(share) // 8))
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise OptionError(f"{path} cannot be written: {error.strerror}", ELSEWHERE) from None

    def empty(self) -> bool:
        return os.fstat(self._file).st_size == 0

    def clear(self) -> None:
        os.ftruncate(self._file, 0)

    def read(self) -> None:
        """Learns what is there; a last line that was cut off by a kill is removed.

        Raises:
            GenerationError: a line that is no record of this run.
        """
        end = 0
        for place, line in records(self.path, self.per_prompt):
            if not self._expects(place):
                raise _foreign(self.path, self.count + 1)
            self._tick(place)
            end += len(line)
        os.ftruncate(self._file, end)

    def _expects(self, place: int) -> bool:
        return 0 <= place < self.share.total and self.share.owner(place) == self.share.rank and not self._has(place)

    def _has(self, place: int) -> bool:
        byte, bit = divmod(self.share.number(place), 8)
        return bool(self._done[byte] >> bit & 1)

    def _tick(self, place: int) -> None:
        number = self.share.number(place)
        self.in_order = self.in_order and number == self.count
        self._done[number // 8] |= 1 << number % 8
        self.count += 1

    def wants(self, prompt_index: int, index: int) -> bool:
        """Whether a text is of this share and not there yet."""
        return 0 <= index < self.per_prompt and self._expects(prompt_index * self.per_prompt + index)

    def add(self, prompt_index: int, index: int, line: bytes) -> None:
        """Writes a record; from here on no end of this process loses it.

        Raises:
            GenerationError: there is no room on the disk, or it cannot be written for another reason.
        """
        left = memoryview(line)
        try:
            while left:  # written without a buffer: a kill loses nothing, and a full disk leaves nothing to close
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise unwritable(self.path, error) from None
        self._tick(prompt_index * self.per_prompt + index)

    def flush(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def records(path: Path, per_prompt: int) -> Iterator[tuple[int, bytes]]:
    """Yields (place, line) of the whole lines of a part."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return
            try:
                found = json.loads(line)
                place = int(found["prompt_index"]) * per_prompt + int(found["index"])
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                raise _foreign(path, number) from None
            yield place, line


def _foreign(path: Path, number: int) -> GenerationError:
    return GenerationError(f"{path}:{number} is no record of this run", "Restore the file, or begin anew: --overwrite.")


def unwritable(path: Path, error: OSError) -> GenerationError:
    """The error of a file in the middle of a run."""
    return GenerationError(f"{path} cannot be written: {error.strerror}", "Make room, and go on with --resume.")
