"""A training run and its folder: data in, a model that can be loaded out, and what is needed to go on if killed.

out/                 the deliverable: weights, tokenizer, config.json, manifest.json, README.md (the model card)
out/options.json     what the run was started with
out/metrics.jsonl    one line an update
out/curves.png       the same as a picture
out/checkpoints/     step-N folders for --resume
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checkpoint
from .data import read_texts
from .errors import BackendError, TrainingError
from .options import Progress, TrainingOptions

if TYPE_CHECKING:
    from .backend import Backend
    from .trainer import Evaluate
    from .transformers_backend import TransformersBackend


class RunFolder:
    """A run's folder, held by this process until `close`. Needs no torch, so a second run is told at once.

    Raises:
        TrainingError: another run holds it; or it holds a run or a model, and `resume` is false.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        if not str(path):  # from a shell's empty variable, perhaps; the present folder would fill with a run
            raise TrainingError("the run's folder has an empty name", "Name one with --output.")
        self.path, self.resume = Path(path), resume
        if self.path.is_file():
            raise TrainingError(f"{path} is a file, not a folder", "Choose another folder with --output.")
        self.lock = checkpoint.Lock(self.path)
        taken = [n for n in ("config.json", "options.json", "checkpoints") if (self.path / n).exists()]
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

    def remember(self, started_with: dict[str, Any]) -> None:
        """Writes down what a new run is started with; of a resumed one, compares.

        Raises:
            TrainingError: the run was started with something else.
        """
        path = self.path / "options.json"
        if self.resume and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            for name in sorted({*before, *started_with}):
                if before.get(name) != started_with.get(name):
                    raise TrainingError(
                        f"{self.path} was started with {name}={before.get(name)!r}, not {started_with.get(name)!r}",
                        "Resume with the options that it was started with, or begin another run with --output.",
                    )
            return
        path.write_text(json.dumps(started_with, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def deliver(self, backend: TransformersBackend, card: str) -> None:
        """Puts the trained model into the folder: complete, or not yet loadable."""
        final = self.path / ".final.tmp"
        shutil.rmtree(final, ignore_errors=True)
        final.mkdir()
        backend.model.config.aigc_text_backend = backend.name
        backend.model.save_pretrained(final)
        backend.tokenizer.save_pretrained(final)
        (final / "README.md").write_text(card, encoding="utf-8")
        checkpoint.seal(final)
        files = sorted(final.iterdir(), key=lambda f: f.name == "config.json")  # it makes the folder loadable: last
        for f in files:
            os.replace(f, self.path / f.name)
        final.rmdir()
        checkpoint.flush(self.path)

    def close(self) -> None:
        self.lock.__exit__()


def train(
    backend: Backend | str,
    data: str | Path | Sequence[str | Path],
    output: str | Path | RunFolder,
    *,
    validation: str | Path | None = None,
    options: TrainingOptions | None = None,
    resume: bool = False,
    **overrides: Any,
) -> Iterator[Progress]:
    """Trains a backend's model on local text and writes a run's folder. An iterator: take `list(train(…))` or watch.

    Args:
        backend: a loaded backend (as from `load` or `from_scratch`), or what `load` takes.
        data: a text or JSONL file, or several.
        output: the run's folder.
        validation: a file of the same kind; without one a share of the data is held out.
        options: how; `overrides` set single fields of it.
        resume: go on where a run in `output` was killed; it ends with the very weights of an unbroken run.

    Yields:
        A report for each update.

    Raises:
        BackendError: the backend cannot be trained.
        DataError: see `data.read_texts`.
        TrainingError: the folder is taken, or the loss is not finite.
    """
    from .api import load
    from .transformers_backend import TransformersBackend

    base = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)} if options else {}
    chosen: TrainingOptions = TrainingOptions.parse({**base, **overrides})
    folder = output if isinstance(output, RunFolder) else RunFolder(output, resume)
    try:
        loaded = load(backend) if isinstance(backend, str) else backend
        if not (isinstance(loaded, TransformersBackend) and loaded.capabilities.training):
            raise BackendError(
                f"backend {loaded.name or type(loaded).__name__!r} cannot be trained by the trainer",
                "Those that can have 'training' in: aigc-text backends",
            )
        files = [data] if isinstance(data, (str, Path)) else list(data)
        texts = [t for f in files for t in read_texts(f, chosen.text_column, chosen.sample_by)]
        held_out = list(read_texts(validation, chosen.text_column, chosen.sample_by)) if validation else None
        if held_out is None:
            texts, held_out = hold_out(texts, chosen.validation_split)
        started_with = {
            "backend": loaded.name,
            "model": loaded.source,
            "data": [str(f) for f in files],
            "validation": str(validation) if validation else None,
            **dataclasses.asdict(chosen),
        }
        batches = loaded.batches(texts, chosen)
        evaluate = loaded.validator(held_out, chosen) if held_out else None
        folder.remember(started_with)  # only now: a folder of a run that never began stays free
        yield from _train(loaded, batches, evaluate, chosen, folder)
    finally:
        folder.close()


def hold_out(texts: list[str], share: float) -> tuple[list[str], list[str]]:
    """Splits off the last texts, or the end of a single one, for validation."""
    if not share:
        return texts, []
    if len(texts) == 1:
        cut = int(len(texts[0]) * (1 - share))
        return [texts[0][:cut]], [texts[0][cut:]]
    cut = min(max(1, round(len(texts) * (1 - share))), len(texts) - 1)  # at least one of each, and none in both
    return texts[:cut], texts[cut:]


def _train(
    backend: TransformersBackend,
    batches: Iterable[Any],
    evaluate: Evaluate | None,
    options: TrainingOptions,
    folder: RunFolder,
) -> Iterator[Progress]:
    from . import plots, trainer

    model = backend.model.float().train()  # master weights in fp32; bf16 is for the computation alone
    first = True
    with folder.metrics.open("a", encoding="utf-8") as log:
        for progress in trainer.train(
            model,
            backend.objective(options),
            batches,
            options,
            evaluate=evaluate,
            checkpoints=folder.checkpoints,
            resume=folder.resume,
        ):
            if first and folder.resume:
                _forget_after(folder.metrics, progress.step - (1 if progress.logs else 0))
            first = False
            if progress.logs:
                message = {"message": progress.message} if progress.message else {}
                log.write(json.dumps({"step": progress.step, **progress.logs, **message}, ensure_ascii=False) + "\n")
                log.flush()
            if any(k.startswith("eval_") for k in progress.logs):
                plots.curves(folder.metrics, folder.path / "curves.png")
            yield progress
    plots.curves(folder.metrics, folder.path / "curves.png")
    folder.deliver(backend, _card(backend, options, _last_figures(folder.metrics)))


def _forget_after(metrics: Path, step: int) -> None:
    """Removes the lines of updates that a resumed run makes again; the open append handle goes on at the new end."""
    kept = [line for line in metrics.read_text(encoding="utf-8").splitlines(True) if _step(line) <= step]
    with metrics.open("r+", encoding="utf-8") as stream:
        stream.write("".join(kept))
        stream.truncate()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line cut off by a kill
        return float("inf")


def _last_figures(metrics: Path) -> dict[str, float]:
    """The newest value of every figure."""
    found: dict[str, float] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        found.update({k: v for k, v in json.loads(line).items() if isinstance(v, (int, float))})
    return found


def _card(backend: TransformersBackend, options: TrainingOptions, last: dict[str, float]) -> str:
    rows = "\n".join(f"| {k} | {v:.4g} |" for k, v in last.items())
    given = "\n".join(f"- {k}: {v}" for k, v in dataclasses.asdict(options).items())
    return (
        f"# A model trained with aigc-text\n\nBackend `{backend.name}`, started from `{backend.source or 'scratch'}`. "
        f"Data and every option: `options.json`.\n\n"
        f"    aigc-text generate --model .\n\n## Last figures\n\n| figure | value |\n|---|---|\n{rows}\n\n"
        f"## Options\n\n{given}\n"
    )
