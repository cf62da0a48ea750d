"""The files of a run that makes records, so that whatever kills it, a resumed one goes on.

OUT.partial            the records as they are finished; of several processes OUT.partial.1-of-2 and so on
OUT.partial.run        what they are made from; written before the first of them
OUT.partial.ordered    all of them in the order of the prompts; it becomes OUT

Whatever kills a run leaves one of these states, and a resumed one goes on from it:

- no `.run`: nothing was begun; a part without it is empty;
- `.run` and parts: the records in them are finished, but for a last line that was cut off;
- `.run` and `.ordered`: all are finished; parts that are still there hold nothing else;
- `.run` and OUT, and neither of the others: all that is left is to remove `.run`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aigc_text import distributed
from aigc_text.errors import GenerationError, OptionError
from aigc_text.outputs import ordered
from aigc_text.utils import atomic

from .shard import ANEW, ELSEWHERE, Part, records, unwritable

FORM = 1  # of the files beside the output


class JobFiles:
    """The output of a run and the files beside it.

    Args:
        output: as the user gave it; a link stands for what it leads to.

    Raises:
        OptionError: it is a folder.
    """

    def __init__(self, output: str | Path) -> None:
        path = Path(os.path.realpath(output)) if os.path.islink(output) else Path(output)
        if not path.name or os.path.isdir(path):
            raise OptionError(f"{output} is a folder", "Give a file's name with --output.")
        self.output = path.absolute()  # a plugin may change the working folder
        self.partial = self._beside("")
        self.run, self.ordered = self._beside(".run"), self._beside(".ordered")

    def _beside(self, ending: str) -> Path:
        return self.output.with_name(f"{self.output.name}.partial{ending}")

    def part_of(self, rank: int) -> Path:
        """The file of one process's records."""
        world = distributed.world()
        return self._beside(f".{rank + 1}-of-{world}") if world > 1 else self.partial

    def probe(self) -> None:
        """Finds out before a model is loaded whether files can be made beside the output."""
        longest = atomic.beside(self.ordered)
        try:
            os.close(os.open(longest, os.O_WRONLY))
        except FileNotFoundError:
            folder = self.output.parent
            if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
                what = "Permission denied" if os.path.isdir(folder) else "there is no such folder"
                raise OptionError(f"{self.partial} cannot be written: {what}", ELSEWHERE) from None
        except OSError as error:
            raise OptionError(f"{self.partial} cannot be written: {error.strerror}", ELSEWHERE) from None

    def lack_tidying(self) -> bool:
        """Whether the output is there and all that is left is to remove what began it."""
        return os.path.exists(self.output) and not self.parts() and not os.path.exists(self.ordered)

    def parts(self) -> list[Path]:
        """The parts that are there, of whatever number of processes."""
        form = re.compile(re.escape(self.partial.name) + r"(\.\d+-of-\d+)?")
        folder = self.output.parent
        return sorted(p for p in folder.iterdir() if form.fullmatch(p.name)) if os.path.isdir(folder) else []

    def refuse_leftovers(self, resume: bool) -> None:
        """Refuses to begin where an earlier run has left something.

        Args:
            resume: whether it was to be gone on with.

        Raises:
            OptionError: it has.
        """
        left = next((p for p in self.parts() if p.is_dir() or p.stat().st_size), None)
        if os.path.exists(self.run):
            raise OptionError(
                f"{left or self.partial} exists already: a run was not finished",
                "Go on with it by --resume, or begin anew with --overwrite.",
            )
        if left is not None:
            raise OptionError(
                f"{left} exists already" + (", and nothing says what it was made from" if resume else ""),
                "Choose another --output, or begin anew with --overwrite.",
            )

    def read_run(self) -> dict[str, Any] | None:
        """What began what is there; `None` if nothing was begun.

        Raises:
            GenerationError: it cannot be read.
        """
        try:
            found = json.loads(self.run.read_text(encoding="utf-8"))
            if found["form"] != FORM or not isinstance(found["options"], dict) or not isinstance(found["seed"], int):
                raise ValueError
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GenerationError(f"{self.run} cannot be read: {error.strerror}", ANEW) from None
        except (ValueError, TypeError, KeyError):
            raise GenerationError(f"{self.run} is damaged, or of another version", ANEW) from None
        return dict(found)

    def order(self, own: Part) -> None:
        """Makes the ordered file of the parts; it has its name when it is whole."""
        share = own.share
        if share.world == 1 and own.in_order:
            os.replace(own.path, self.ordered)
            return
        parts = [self._in_order(self.part_of(r), own) for r in range(share.world)]
        self.write(self.ordered, (next(parts[share.owner(place)]) for place in range(share.total)))

    def _in_order(self, path: Path, own: Part) -> Iterator[bytes]:
        """The lines of a part in the order of the prompts; held is only what came too early."""
        yield from ordered((own.share.number(place), line) for place, line in records(path, own.per_prompt))
        raise GenerationError(f"{path} lacks records", ANEW)

    def write(self, path: Path, lines: Iterable[bytes]) -> None:
        """Writes a file of the run, whole or not at all.

        Raises:
            GenerationError: it cannot be written.
        """
        try:
            with atomic.whole(path) as temporary, temporary.open("wb") as stream:
                stream.writelines(lines)
        except OSError as error:
            raise unwritable(path, error) from None

    def finish(self, replaces: bool) -> None:
        """From the ordered file to the output, and nothing beside it.

        Args:
            replaces: whether an output that is there may be replaced.

        Raises:
            GenerationError: it was made meanwhile.
        """
        if os.path.exists(self.ordered):
            if os.path.exists(self.output) and not replaces:
                raise GenerationError(
                    f"{self.output} was made by somebody else meanwhile", "Move it away, and go on with --resume."
                )
            for part in self.parts():
                part.unlink(missing_ok=True)
            os.replace(self.ordered, self.output)
            atomic.flush(self.output.parent)
        self.run.unlink(missing_ok=True)
        for path in (self.run, self.ordered):  # of a run that was killed while it wrote them
            atomic.beside(path).unlink(missing_ok=True)
