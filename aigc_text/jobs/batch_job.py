"""A file of prompts to a file of records: in memory that does not grow with it, by one process or several.

The files that a run leaves, whatever kills it, are described in `job_files`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.errors import GenerationError, OptionError
from aigc_text.options.generation import drawn_seed
from aigc_text.utils.lock import Lock
from aigc_text.utils.output_file import locked, refuse_newer

from .job_files import FORM, JobFiles
from .shard import Part, Share

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.generation.prompt_files import Prompts
    from aigc_text.options.generation import GenerationOptions


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
        self.files = JobFiles(output)
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
            self.files.probe()
        output, own = self.files.output, self.files.part_of(distributed.rank())
        for path in [output] * distributed.is_main() + [own] * (distributed.world() > 1):
            if (lock := locked(path, output, "--output", self.files.partial)) is not None:
                self._locks.append(lock)
            if path == output and self.overwrite:
                refuse_newer(output, lock, output)

    def resumes(self) -> bool:
        """Whether there is something that this run goes on with; for processes but the main one always."""
        return self._begun is not None or not distributed.is_main()

    # What is there

    def _look(self) -> None:
        """Reads what began what is there, and refuses what this run may not go on with or replace."""
        self._begun = self.files.read_run() if self.resume else None
        if self._begun is not None:
            self._compare(self._begun, {**self._begun, **self._known()})
        if os.path.exists(self.files.output) and not self._replaces() and not self._is_left_to_tidy():
            raise OptionError(
                f"{self.files.output} exists already", "Choose another --output, or replace it with --overwrite."
            )
        if self._begun is None and not self.overwrite:
            self.files.refuse_leftovers(self.resume)

    def _replaces(self) -> bool:
        """Whether an output that is there may be replaced: said now, or when the run was begun."""
        return self.overwrite or bool(self._begun and self._begun.get("overwrite"))

    def _is_left_to_tidy(self) -> bool:
        """Whether a run was killed after its last step but one."""
        return self._begun is not None and self.files.lack_tidying()

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
            **backend.to_record(json.loads(json.dumps(effective))),
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
                f"{self.files.partial} was begun with {differ}",
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
                self._is_left_to_tidy() or (self._begun is not None and os.path.exists(self.files.ordered))
            ):
                all_of_them = self.prompts.count * (options.num_return_sequences or 1)
                yield all_of_them, all_of_them
            else:
                yield from self._make(backend, options, about, batch_size, batch_tokens)
            if distributed.is_main():
                self.files.finish(self._replaces())
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
        with closing(Part(self.files.part_of(share.rank), share, per_prompt)) as part, ExitStack() as failing:
            failing.callback(self._leave_nothing, part)
            self._begin(part, about)
            part.read()
            self._under_way = True
            yield part.count, len(share)
            if part.count < len(share):
                sizes = {"batch_size": batch_size, "batch_tokens": batch_tokens}
                about = backend.to_record(backend.effective(options))
                for c in backend.generate_some(self.prompts, options, part.wants, **sizes):
                    line = json.dumps(c.to_record(about), ensure_ascii=False) + "\n"
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
                self.files.order(part)

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
        missing = [p for p in map(self.files.part_of, range(distributed.world())) if not p.exists()]
        if missing:
            raise GenerationError(
                f"{missing[0]} is not seen by the main process", "Give an --output in a folder that all machines share."
            )

    def _look_again(self, about: dict[str, Any]) -> None:
        before = self._begun
        self._look()
        if (before is None) != (self._begun is None):
            raise GenerationError(f"{self.files.output} was finished by another process", "Look at it.")
        if self._begun is not None:
            return
        own = {self.files.part_of(r) for r in range(distributed.world())}
        for leftover in [self.files.ordered, *(p for p in self.files.parts() if p not in own)]:
            leftover.unlink(missing_ok=True)
        self.files.write(self.files.run, [json.dumps(about, ensure_ascii=False, indent=1).encode() + b"\n"])

    def _leave_nothing(self, part: Part) -> None:
        """After a failure before the first record; of several processes the others may have some."""
        if distributed.world() == 1 and part.empty():
            self.files.run.unlink(missing_ok=True)  # before the part: see the states at the top
            part.path.unlink(missing_ok=True)

    @property
    def parts(self) -> str:
        """The file in which records are until all are there, or the pattern of several."""
        partial = self.files.partial
        return f"{partial}.*-of-{distributed.world()}" if distributed.world() > 1 else str(partial)

    def left(self) -> bool:
        """Whether this run has left something to go on with; a run that was refused has not touched it."""
        return self._under_way and os.path.exists(self.files.run)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)[:80]
