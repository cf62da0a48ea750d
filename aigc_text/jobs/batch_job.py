"""A file of prompts to a file of records: in memory that does not grow with it, by one process or several.

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
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.errors import GenerationError, OptionError
from aigc_text.options.generation import drawn_seed
from aigc_text.outputs import Completion, ordered
from aigc_text.utils import atomic
from aigc_text.utils.lock import Lock
from aigc_text.utils.output_file import locked, refuse_newer

from .shard import ANEW, ELSEWHERE, Part, Share, records, unwritable

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.generation.prompts import Prompts
    from aigc_text.options.generation import GenerationOptions

FORM = 1  # of the files beside the output


def record_of(completion: Completion, backend: Backend, options: Mapping[str, Any]) -> dict[str, Any]:
    """A completion as it is written down.

    Args:
        options: the effective ones.
    """
    return {
        "prompt": completion.prompt,
        "text": completion.text,
        "prompt_index": completion.prompt_index,
        "index": completion.index,
        "finish_reason": completion.finish_reason,
        "seed": completion.seed,
        "exact": completion.exact,
        "options": options,
        "backend": backend.name,
        "model": backend.source,
        "revision": backend.revision,
        "precision": backend.precision,
        "engine": backend.decodes_by,
        "tokens": completion.tokens,
        "seconds": round(completion.seconds, 3),
        **({} if completion.copied is None else {"copied": completion.copied, "tries": completion.tries}),
    }


class Job:
    """Records of all prompts in one file, which appears when all are there.

    Of several processes each makes a share in a file of its own, and the main one puts them together. They must see
    one folder.

    The output is claimed until `close`, the end of `run` or the end of a `with` block, whichever is first.

    Args:
        prompts: what the texts are made from.
        output: the file of records.
        resume: go on with what an earlier run left.
        overwrite: begin anew whatever is there; the output is replaced at the end.

    Raises:
        OptionError: another process is writing the output; it is there already, or what an earlier run left, and it
            was not said what to do with it.
        GenerationError: what is to be resumed was made from other prompts, or by another number of processes.
    """

    def __init__(self, prompts: Prompts, output: str | Path, *, resume: bool = False, overwrite: bool = False) -> None:
        if resume and overwrite:
            raise OptionError("--resume and --overwrite exclude each other", "Go on with one, or begin anew.")
        self.prompts, self.resume, self.overwrite = prompts, resume, overwrite
        self.output = Path(os.path.realpath(output)) if os.path.islink(output) else Path(output)
        if not self.output.name or os.path.isdir(self.output):
            raise OptionError(f"{output} is a folder", "Give a file's name with --output.")
        self.output = self.output.absolute()  # a plugin may change the working folder
        self.partial = self._beside("")
        self._run, self._ordered = self._beside(".run"), self._beside(".ordered")
        self._begun: dict[str, Any] | None = None
        self._under_way = False
        self._locks: list[Lock] = []
        try:
            self._claim()
            if distributed.is_main():
                self._look()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the claim on the output up."""
        while self._locks:
            self._locks.pop().release()

    def _claim(self) -> None:
        """Claims the output for all processes together, and for each its own part: none of another run gets further."""
        if distributed.is_main():
            self._probe()
        for path in [self.output] * distributed.is_main() + [self._part_of(distributed.rank())] * (
            distributed.world() > 1
        ):
            if (lock := locked(path, self.output, "--output", self.partial)) is not None:
                self._locks.append(lock)
            if path == self.output and self.overwrite:
                refuse_newer(self.output, lock, self.output)

    def resumes(self) -> bool:
        """Whether there is something that this run goes on with; for processes but the main one always."""
        return self._begun is not None or not distributed.is_main()

    def _beside(self, ending: str) -> Path:
        return self.output.with_name(f"{self.output.name}.partial{ending}")

    def _part_of(self, rank: int) -> Path:
        world = distributed.world()
        return self._beside(f".{rank + 1}-of-{world}") if world > 1 else self.partial

    # What is there

    def _look(self) -> None:
        """Reads what began what is there, and refuses what this run may not go on with or replace."""
        self._begun = self._read_run() if self.resume else None
        if self._begun is not None:
            self._compare(self._begun, {**self._begun, **self._known()})
        if os.path.exists(self.output) and not self._replaces() and not self._is_left_to_tidy():
            raise OptionError(
                f"{self.output} exists already", "Choose another --output, or replace it with --overwrite."
            )
        if self._begun is None and not self.overwrite:
            self._refuse_leftovers()

    def _probe(self) -> None:
        """Finds out before a model is loaded whether files can be made beside the output."""
        longest = atomic.beside(self._ordered)
        try:
            os.close(os.open(longest, os.O_WRONLY))
        except FileNotFoundError:
            folder = self.output.parent
            if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
                what = "Permission denied" if os.path.isdir(folder) else "there is no such folder"
                raise OptionError(f"{self.partial} cannot be written: {what}", ELSEWHERE) from None
        except OSError as error:
            raise OptionError(f"{self.partial} cannot be written: {error.strerror}", ELSEWHERE) from None

    def _replaces(self) -> bool:
        """Whether an output that is there may be replaced: said now, or when the run was begun."""
        return self.overwrite or bool(self._begun and self._begun.get("overwrite"))

    def _is_left_to_tidy(self) -> bool:
        """Whether a run was killed after its last step but one."""
        return (
            self._begun is not None
            and os.path.exists(self.output)
            and not self._parts()
            and not os.path.exists(self._ordered)
        )

    def _parts(self) -> list[Path]:
        """The parts that are there, of whatever number of processes."""
        form = re.compile(re.escape(self.partial.name) + r"(\.\d+-of-\d+)?")
        folder = self.output.parent
        return sorted(p for p in folder.iterdir() if form.fullmatch(p.name)) if os.path.isdir(folder) else []

    def _refuse_leftovers(self) -> None:
        left = next((p for p in self._parts() if p.is_dir() or p.stat().st_size), None)
        if os.path.exists(self._run):
            raise OptionError(
                f"{left or self.partial} exists already: a run was not finished",
                "Go on with it by --resume, or begin anew with --overwrite.",
            )
        if left is not None:
            raise OptionError(
                f"{left} exists already" + (", and nothing says what it was made from" if self.resume else ""),
                "Choose another --output, or begin anew with --overwrite.",
            )

    def _read_run(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._run.read_text(encoding="utf-8"))
            if found["form"] != FORM or not isinstance(found["options"], dict) or not isinstance(found["seed"], int):
                raise ValueError
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GenerationError(f"{self._run} cannot be read: {error.strerror}", ANEW) from None
        except (ValueError, TypeError, KeyError):
            raise GenerationError(f"{self._run} is damaged, or of another version", ANEW) from None
        return dict(found)

    # What makes a run the same

    def _known(self) -> dict[str, Any]:
        """What is known before the model is loaded."""
        return {
            "prompts": f"{self.prompts.count} with hash {self.prompts.digest}",
            "processes": distributed.world(),
        }

    def _about(self, backend: Backend, options: GenerationOptions) -> dict[str, Any]:
        effective = {k: v for k, v in backend.effective(options).items() if k != "seed"}
        return {
            "form": FORM,
            **self._known(),
            "seed": options.seed,
            "options": json.loads(json.dumps(effective)),
            "backend": backend.name,
            "model": backend.source,
            "revision": backend.revision,
            "precision": backend.precision,
            "engine": backend.decodes_by,
            "overwrite": self.overwrite,
        }

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        old, new = ({**about, **about["options"]} for about in (before, now))
        first = ("backend", "model", "prompts", "processes", "seed")  # what tells a user most
        # A prompt that turns out to be too long may be cut from there on; those before it were not.
        names = [*first, *sorted({*old, *new} - {*first, "options", "overwrite", "truncate_prompt"})]
        names = [n for n in names if old.get(n) != new.get(n)]
        if names:
            differ = "; ".join(f"{n}={_shown(old.get(n))}, now {_shown(new.get(n))}" for n in names[:3])
            raise GenerationError(
                f"{self.partial} was begun with {differ}",
                "Go on with the same command as before, or begin anew with --overwrite.",
            )

    # The run

    def run(
        self,
        backend: Backend,
        options: GenerationOptions,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
    ) -> Generator[tuple[int, int], None, None]:
        """Makes what is missing; yields (finished, all) of this process's texts: at the start, and after each.

        Args:
            backend: who generates.
            options: how; without a seed one is drawn, or it is that of the run that is resumed.
            batch_size: most texts at once.
            batch_tokens: most tokens at once, of prompts and texts together.

        Raises:
            GenerationError: what is to be resumed was begun with something else; a file cannot be written.
            TrainingError: another process has gone, or was started with something else.
        """
        with self, distributed.company():
            if distributed.world() > 1:
                from aigc_text.training import hardware

                hardware.connect()
            options = self._seeded(backend, options)
            about = self._about(backend, options)
            if self._begun is not None:
                self._compare(self._begun, about)
            distributed.agree(options={**about, "overwrite": None})
            if distributed.from_main(
                self._is_left_to_tidy() or (self._begun is not None and os.path.exists(self._ordered))
            ):
                all_of_them = self.prompts.count * (options.num_return_sequences or 1)
                yield all_of_them, all_of_them
            else:
                yield from self._make(backend, options, about, batch_size, batch_tokens)
            if distributed.is_main():
                self._finish()
            distributed.wait()

    def _seeded(self, backend: Backend, options: GenerationOptions) -> GenerationOptions:
        if options.seed is not None:
            return options
        before = self._begun["seed"] if self._begun is not None else drawn_seed()
        return backend.resolve(options, {"seed": distributed.from_main(before)})

    def _make(
        self,
        backend: Backend,
        options: GenerationOptions,
        about: dict[str, Any],
        batch_size: int | None,
        batch_tokens: int | None,
    ) -> Iterator[tuple[int, int]]:
        per_prompt = options.num_return_sequences or 1
        share = Share(distributed.rank(), distributed.world(), self.prompts.count * per_prompt)
        with closing(Part(self._part_of(share.rank), share, per_prompt)) as part, ExitStack() as failing:
            failing.callback(self._leave_nothing, part)
            self._begin(part, about)
            part.read()
            self._under_way = True
            yield part.count, len(share)
            if part.count < len(share):
                sizes = {"batch_size": batch_size, "batch_tokens": batch_tokens}
                effective = backend.effective(options)
                for c in backend.generate_some(self.prompts, options, part.wants, **sizes):
                    line = json.dumps(record_of(c, backend, effective), ensure_ascii=False) + "\n"
                    part.add(c.prompt_index, c.index, line.encode())
                    yield part.count, len(share)
            if part.count < len(share):
                raise GenerationError(
                    f"backend {backend.name!r} gave {part.count} texts of {len(share)}", "See: aigc-text backends check"
                )
            part.flush()
            failing.pop_all()
            distributed.wait()
            if distributed.is_main():
                self._order(part)

    def _begin(self, part: Part, about: dict[str, Any]) -> None:
        """Makes sure, now that the part is held, that nobody else was faster; a new run is written down."""
        new = distributed.from_main(self._begun is None)
        if new and not part.empty():
            if not self.overwrite:
                raise OptionError(f"{part.path} exists already", "Go on by --resume, or begin anew with --overwrite.")
            part.clear()
        distributed.wait()
        if distributed.is_main():
            self._check_folder()
            self._look_again(about)
        distributed.wait()

    def _check_folder(self) -> None:
        missing = [p for p in map(self._part_of, range(distributed.world())) if not p.exists()]
        if missing:
            raise GenerationError(
                f"{missing[0]} is not seen by the main process", "Give an --output in a folder that all machines share."
            )

    def _look_again(self, about: dict[str, Any]) -> None:
        before = self._begun
        self._look()
        if (before is None) != (self._begun is None):
            raise GenerationError(f"{self.output} was finished by another process", "Look at it.")
        if self._begun is not None:
            return
        own = {self._part_of(r) for r in range(distributed.world())}
        for leftover in [self._ordered, *(p for p in self._parts() if p not in own)]:
            leftover.unlink(missing_ok=True)
        self._write(self._run, [json.dumps(about, ensure_ascii=False, indent=1).encode() + b"\n"])

    def _leave_nothing(self, part: Part) -> None:
        """After a failure before the first record; of several processes the others may have some."""
        if distributed.world() == 1 and part.empty():
            self._run.unlink(missing_ok=True)  # before the part: see the states at the top
            part.path.unlink(missing_ok=True)

    @property
    def parts(self) -> str:
        """The file in which records are until all are there, or the pattern of several."""
        return f"{self.partial}.*-of-{distributed.world()}" if distributed.world() > 1 else str(self.partial)

    def left(self) -> bool:
        """Whether this run has left something to go on with; a run that was refused has not touched it."""
        return self._under_way and os.path.exists(self._run)

    # The end

    def _order(self, own: Part) -> None:
        """Makes the ordered file of the parts; it has its name when it is whole."""
        share = own.share
        if share.world == 1 and own.in_order:
            os.replace(own.path, self._ordered)
            return
        parts = [self._in_order(self._part_of(r), own) for r in range(share.world)]
        self._write(self._ordered, (next(parts[share.owner(place)]) for place in range(share.total)))

    def _in_order(self, path: Path, own: Part) -> Iterator[bytes]:
        """The lines of a part in the order of the prompts; held is only what came too early."""
        yield from ordered((own.share.number(place), line) for place, line in records(path, own.per_prompt))
        raise GenerationError(f"{path} lacks records", ANEW)

    def _write(self, path: Path, lines: Iterable[bytes]) -> None:
        try:
            with atomic.whole(path) as temporary, temporary.open("wb") as stream:
                stream.writelines(lines)
        except OSError as error:
            raise unwritable(path, error) from None

    def _finish(self) -> None:
        """From the ordered file to the output, and nothing beside it."""
        if os.path.exists(self._ordered):
            if os.path.exists(self.output) and not self._replaces():
                raise GenerationError(
                    f"{self.output} was made by somebody else meanwhile", "Move it away, and go on with --resume."
                )
            for part in self._parts():
                part.unlink(missing_ok=True)
            os.replace(self._ordered, self.output)
            atomic.flush(self.output.parent)
        self._run.unlink(missing_ok=True)
        for path in (self._run, self._ordered):  # of a run that was killed while it wrote them
            atomic.beside(path).unlink(missing_ok=True)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)[:80]
