"""A training run: data in, a folder out (see `run_dir`)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.backends.hf import model_checks
from aigc_text.errors import BackendError, OptionError
from aigc_text.hub import lora
from aigc_text.options import contradictions
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Progress
from aigc_text.plots.panels import TOKEN
from aigc_text.utils import isolation

from .run_data import RunData, read_data
from .run_dir import RunFolder, card, delivered_figures, forget_after
from .samples import _check_samples, _sampled

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.backends.hf.backend import TransformersBackend
    from aigc_text.training.trainer import Evaluate


def train(
    backend: Backend | str,
    data: str | Path | Sequence[str | Path] | RunData,
    output: str | Path | RunFolder,
    *,
    validation: str | Path | None = None,
    options: TrainingOptions | None = None,
    resume: bool = False,
    merge: bool = False,
    **overrides: Any,
) -> Iterator[Progress]:
    """Trains a backend's model on local text and writes a run's folder. An iterator: take `list(train(…))` or watch.

    An iterator that is left early, or open when Python exits, saves the last update for `resume`. Between reports the
    model is in evaluation mode and can be used; the random states are then the caller's, as they are afterwards.

    Args:
        backend: a loaded backend (as from `load` or `from_scratch`), or what `load` takes.
        data: a file, folder, glob or dataset, or several; see `data.Source`. Or what `read_data` has read of them.
        output: the run's folder, or a `RunFolder` that holds it already; then `resume` is its own.
        validation: what to validate on, of the same kinds; without it a share of the data is held out.
        options: how; `overrides` set single fields of it.
        resume: go on where a run in `output` was killed; it ends with the very weights of an unbroken run.
        merge: with LoRA, write the whole model with the adapter added into `output/merged` as well.

    Yields:
        A report for each update.

    Raises:
        BackendError: the backend cannot be trained.
        DataError: see `sources.Source`.
        OptionError: options that contradict each other or the backend.
        TrainingError: the folder is taken, or the loss is not finite.
    """
    return isolation.closed_at_exit(_run(backend, data, output, validation, options, resume, merge, overrides))


def _run(
    backend: Backend | str,
    data: str | Path | Sequence[str | Path] | RunData,
    output: str | Path | RunFolder,
    validation: str | Path | None,
    options: TrainingOptions | None,
    resume: bool,
    merge: bool,
    overrides: dict[str, Any],
) -> Generator[Progress, None, None]:
    folder = output if isinstance(output, RunFolder) else RunFolder(output, resume)
    try:
        adapter = bool(overrides.get("lora_rank", options.lora_rank if options else None))
        loaded = _trainable(backend, adapter)
        model_checks.check_model(loaded)
        asked = options_for(loaded, options, overrides)
        chosen = asked.completed(loaded.training_defaults())
        _check_adapter(loaded, chosen, merge)
        given = {**(options.given() if options else {}), **overrides, "validation": validation, "merge": merge}
        contradictions.refuse_training(given, dataclasses.asdict(chosen))
        read = data if isinstance(data, RunData) else read_data(data, validation, asked, loaded.sample_by)
        started_with = {
            "started_from": loaded.revision,
            "data": [str(name) for name in read.names],
            "validation": str(read.validation) if read.validation else None,
            **_recorded(loaded.origin, dataclasses.replace(chosen, sample_by=asked.sample_by)),
        }
        if chosen.lora_rank:
            loaded.attach_adapter(chosen)
        else:
            loaded.merge_adapter()
        loaded.remember_context(chosen)
        batches = loaded.batches(read.examples, chosen)
        chosen = _with_length(chosen, batches)
        evaluate = loaded.validator(read.held_out, chosen) if read.held_out else None
        if chosen.samples:
            _check_samples(loaded, chosen)
        folder.remember(started_with)  # only now: a folder of a run that never began stays free
        told, anew = 0, [f"there is no run to resume in {folder.path}, so a new one begins"] * folder.begins_anew
        if distributed.world() == 1 and not (folder.resume and not folder.begins_anew):
            anew += filter(None, [loaded.announcement(batches, chosen)])
        with closing(_train(loaded, batches, evaluate, chosen, folder, merge)) as reports:
            for progress in reports:
                notes = [*anew, *getattr(batches, "notes", ()), *getattr(evaluate, "notes", ())]
                message = "; ".join(dict.fromkeys(filter(None, [progress.message, *notes[told:]])))
                told = len(notes)
                yield dataclasses.replace(progress, message=message)
    finally:
        folder.close()


def _trainable(backend: Backend | str, adapter: bool) -> TransformersBackend:
    from aigc_text.api import load_to_train
    from aigc_text.backends.hf.backend import TransformersBackend

    loaded = load_to_train(backend, adapter=adapter) if isinstance(backend, str) else backend
    if not (isinstance(loaded, TransformersBackend) and loaded.capabilities.training):
        raise BackendError(
            f"backend {loaded.name or type(loaded).__name__!r} cannot be trained by the trainer",
            "Those that can have 'training' in: aigc-text backends",
        )
    return loaded


def _check_adapter(backend: TransformersBackend, options: TrainingOptions, merge: bool) -> None:
    if options.lora_rank:
        lora.check_base(backend, backend.adapter, options.lora_rank)
    elif merge:
        raise OptionError("merge is for LoRA, and lora_rank is not given", "Add --lora-rank, e.g. --lora-rank 8.")


def _recorded(origin: Mapping[str, Any], options: TrainingOptions) -> dict[str, Any]:
    """How the model was loaded or made and all options, in the form that `--config` reads."""
    shared = TrainingOptions.fields()
    values = dataclasses.asdict(options)
    own = {k: v for k, v in values.items() if k not in shared}
    config = {**(origin.get("config") or {}), **own}  # what `-o` sets
    return {**origin, **({"config": config} if config else {}), **{k: values[k] for k in shared}}


def options_for(
    backend: TransformersBackend, options: TrainingOptions | None, overrides: dict[str, Any]
) -> TrainingOptions:
    """The backend's own kind of options, from any kind and single fields on top.

    Raises:
        OptionError: a field that the backend's options do not have.
    """
    base = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)} if options else {}
    chosen: TrainingOptions = backend.Training.parse({**base, **overrides})
    return chosen


def _with_length(options: TrainingOptions, batches: Iterable[Any]) -> TrainingOptions:
    """The options with `epochs` turned into updates."""
    if options.epochs is None:
        return options
    if not isinstance(batches, Sized):
        raise OptionError(
            "epochs needs data whose length is known, and streamed data has none", "Give --max-steps instead."
        )
    updates = math.ceil(options.epochs * len(batches) / options.gradient_accumulation_steps)
    return dataclasses.replace(options, max_steps=max(1, updates))


def _train(
    backend: TransformersBackend,
    batches: Iterable[Any],
    evaluate: Evaluate | None,
    options: TrainingOptions,
    folder: RunFolder,
    merge: bool,
) -> Generator[Progress, None, None]:
    from aigc_text.training import trainer

    # Master weights in fp32, bf16 is for the computation alone; what LoRA leaves frozen keeps the type it came in.
    model = backend.model if backend.adapter is not None else backend.model.float()
    objective = backend.objective(options)
    reports = trainer.train(
        model,
        objective,
        batches,
        options,
        evaluate=evaluate,
        checkpoints=folder.checkpoints,
        resume=folder.resume,
    )
    picture = _Curves(folder)
    with distributed.company(), closing(reports):
        yield from _logged(reports, backend, options, folder, picture, objective.unit)
        if distributed.is_main():
            picture.draw(at_end=True)
            figures = delivered_figures(folder.metrics, options)
            folder.deliver(backend, card(backend, options, figures), merge)
        distributed.wait()  # none ends before the folder is complete


def _logged(
    reports: Iterator[Progress],
    backend: TransformersBackend,
    options: TrainingOptions,
    folder: RunFolder,
    picture: _Curves,
    loss_unit: str,
) -> Iterator[Progress]:
    """The reports of the trainer, each written down by the main process before it is passed on."""
    first, main = True, distributed.is_main()
    with open(folder.metrics if main else os.devnull, "a", encoding="utf-8") as log:
        for progress in reports:
            if main and first and folder.resume:
                forget_after(folder.metrics, progress.step - (1 if progress.logs else 0))
                forget_after(folder.samples, progress.step - (1 if progress.logs else 0))
            first = False
            if progress.logs:
                said = {"loss_unit": loss_unit} if "loss" in progress.logs and loss_unit != TOKEN else {}
                said |= {"message": progress.message} if progress.message else {}
                log.write(json.dumps({"step": progress.step, **progress.logs, **said}, ensure_ascii=False) + "\n")
                log.flush()
            if any(k.startswith("eval_") for k in progress.logs):
                if main:
                    picture.draw()
                if options.samples and (note := _sampled(backend, options, progress.step, folder)):
                    progress = dataclasses.replace(progress, message="; ".join(filter(None, [progress.message, note])))
            yield progress


class _Curves:
    """The picture of a run's figures. While the run goes on, drawing takes about a twentieth of its time at most."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.due, self.drawn = 0.0, -1  # when it may be drawn again, and the size of what was drawn

    def draw(self, at_end: bool = False) -> None:
        from aigc_text.plots import training_curves

        began, size = time.monotonic(), self.folder.metrics.stat().st_size
        if size == self.drawn or began < self.due and not at_end:
            return
        training_curves.curves(self.folder.metrics, self.folder.curves)
        self.due, self.drawn = 21 * time.monotonic() - 20 * began, size
