"""The folder of a training run: a model that can be loaded, its figures, and what is needed to go on if killed.

out/                 the deliverable: weights, tokenizer, config.json, manifest.json, README.md (the model card)
out/options.json     what the run was started with
out/metrics.jsonl    one line an update
out/curves.png       the same as a picture; while the run goes on, it may be a few validations behind
out/samples.jsonl    texts generated at the validations, if asked for
out/merged/          the whole model with a LoRA adapter added to its weights, if asked for
out/checkpoints/     step-N folders for --resume
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.errors import TrainingError, one_line, shell
from aigc_text.options.training import TrainingOptions
from aigc_text.training import checkpoint_folders
from aigc_text.utils import atomic, lock, sealed_dir

if TYPE_CHECKING:
    from aigc_text.backends.hf.backend import TransformersBackend


class RunFolder:
    """A run's folder, held by this process until `close`. Needs no torch, so a second run is told at once.

    A new run that ends before its first update leaves the folder as it was, so that it can be tried again.

    Of several processes the main one alone holds it, reads it and writes to it; for the others nothing is checked.

    Raises:
        TrainingError: another run holds it; or it holds a run or a model, and `resume` is false.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path, self.resume, self._new = Path(path), resume, False
        self.begins_anew = False
        self.lock = _locked(path)
        if self.lock is None:
            return
        taken = _taken(self.path)
        self.begins_anew = resume and not taken  # there is nothing to resume, although that was asked for
        if taken and not resume:
            self.close()
            raise TrainingError(
                f"{self.path} holds a run already ({taken[0]})",
                "Go on with it by --resume, or choose another --output.",
            )

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    def remember(self, started_with: dict[str, Any]) -> None:
        """Writes down what a new run is started with; of a resumed one, compares.

        Raises:
            TrainingError: the run was started with something else.
        """
        if not distributed.is_main():
            return
        path = self.path / "options.json"
        if self.resume and path.exists():
            before = run_options(path)
            now = json.loads(json.dumps(started_with))
            names = [n for n in sorted({*before, *now}) if before.get(n) != now.get(n)]
            if names:
                differ = "; ".join(f"{n}={before.get(n)!r}, not {now.get(n)!r}" for n in names[:3])
                raise TrainingError(
                    f"{self.path} was started with {differ}",
                    "Resume with the options that it was started with, or begin another run with --output.",
                )
            return
        self._new = True
        atomic.write_text(path, json.dumps(started_with, indent=1, ensure_ascii=False) + "\n")

    def deliver(self, backend: TransformersBackend, card: str, merge: bool = False) -> None:
        """Puts the trained model into the folder: complete, or not yet loadable; merged too if asked for."""
        final = self.path / ".final.tmp"
        shutil.rmtree(final, ignore_errors=True)
        try:
            with atomic.writing(self.path / "model.safetensors"):
                final.mkdir()
                backend.write(final)
                (final / "README.md").write_text(card, encoding="utf-8")
                sealed_dir.seal(final)
        except BaseException:
            shutil.rmtree(final, ignore_errors=True)
            raise
        files = sorted(final.iterdir(), key=lambda f: f.name == "config.json")  # it makes the folder loadable: last
        for f in files:
            os.replace(f, self.path / f.name)
        final.rmdir()
        atomic.flush(self.path)
        if merge and backend.adapter is not None:
            backend.merge_adapter()
            sealed_dir.save(self.path / "merged", backend.write)

    def close(self) -> None:
        """Lets go of the folder; nothing stays in it of a new run that has no update and no checkpoint to show."""
        if self.lock is None:
            return
        if self._new and not checkpoint_folders.steps(self.checkpoints) and not _size(self.metrics):
            (self.path / "options.json").unlink(missing_ok=True)
            self.metrics.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not there, or somebody else's
                self.checkpoints.rmdir()
        self._new = False
        self.lock.__exit__()


class SeedsFolder:
    """The folder of runs that differ in their seed, held by the main process until `close`, before torch is imported.

    Raises:
        TrainingError: another run holds it, or it is the folder of a single run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.lock = Path(path), _locked(path)
        if self.lock is not None and (taken := _taken(self.path)):
            self.close()
            raise TrainingError(f"{self.path} holds a single run ({taken[0]})", "Choose another --output for --seeds.")

    def close(self) -> None:
        """Lets go of the folder."""
        if self.lock is not None:
            self.lock.__exit__()


def _locked(path: str | Path) -> lock.FolderLock | None:
    """The lock of a run's folder; `None` for processes but the main one."""
    if not str(path):  # from a shell's empty variable, perhaps; the present folder would fill with a run
        raise TrainingError("the run's folder has an empty name", "Name one with --output.")
    if not distributed.is_main():
        return None
    if os.path.exists(path) and not os.path.isdir(path):
        raise TrainingError(f"{path} is a file, not a folder", "Choose another folder with --output.")
    return lock.FolderLock(Path(path))


def _taken(path: Path) -> list[str]:
    """What of a run is in a folder."""
    return [n for n in ("config.json", "options.json", "checkpoints") if (path / n).exists()]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def run_options(path: Path) -> dict[str, Any]:
    """The options that a run was begun with.

    Raises:
        TrainingError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        cause = "it is not a JSON object"
    except (OSError, ValueError, RecursionError) as error:
        cause = one_line(str(error))[:150]
    raise TrainingError(
        f"{path} cannot be read: {cause}", "Restore it from a copy, or train again into another folder with --output."
    )


def forget_after(metrics: Path, step: int) -> None:
    """Removes the lines of updates that a resumed run makes again; the open append handle goes on at the new end."""
    if not metrics.exists():
        return
    kept = [line for line in metrics.read_bytes().splitlines(True) if _step(line) <= step]
    with metrics.open("r+b") as stream:
        stream.write(b"".join(kept))
        stream.truncate()


def _step(line: bytes) -> float:
    """Infinity for a line that is none: cut off by a kill, or damaged."""
    try:
        found = json.loads(line)
        return float(found["step"]) if all(type(v) in (int, float, str) for v in found.values()) else float("inf")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return float("inf")


def delivered_figures(metrics: Path, options: TrainingOptions) -> dict[str, float]:
    """The figures that go with the delivered weights: the newest of each, or those of the best validation."""
    lines = [json.loads(line) for line in metrics.read_bytes().splitlines()]  # of text it breaks at U+2028 too
    if options.delivers_best:
        name, sign = options.criterion()
        found_best = [(sign * line[name], n) for n, line in enumerate(lines) if name in line]
        lines = lines[: min(found_best)[1] + 1] if found_best else lines
    found: dict[str, float] = {}
    for line in lines:
        found.update({k: v for k, v in line.items() if isinstance(v, (int, float))})
    return found


def generate_command(backend: str, model: Path) -> str:
    """The command that generates with a trained model: a backend that is a file of code must be named each time."""
    if ".py:" in backend:
        return shell("aigc-text generate --backend {} --model {}", backend, model)
    return shell("aigc-text generate --model {}", model)


def card(backend: TransformersBackend, options: TrainingOptions, last: dict[str, float]) -> str:
    rows = "\n".join(f"| {k} | {v:.4g} |" for k, v in last.items())
    what = f"A LoRA adapter of rank {options.lora_rank}" if options.lora_rank else "A model"
    command = generate_command(backend.name, Path("."))
    given = "\n".join(f"- {k}: {v}" for k, v in dataclasses.asdict(options).items())
    return (
        f"# {what} trained with aigc-text\n\nBackend `{backend.name}`, started from `{backend.source or 'scratch'}`. "
        f"Data and every option: `options.json`.\n\n"
        f"    {command}\n\n## Last figures\n\n| figure | value |\n|---|---|\n{rows}\n\n"
        f"## Options\n\n{given}\n"
    )
