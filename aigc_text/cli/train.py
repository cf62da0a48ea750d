"""`aigc-text train`: a bar from the trainer's reports."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import click

from ..options import Progress, TrainingOptions
from .parameters import given, key_values, options_of
from .terminal import begun, notice


@click.command()
@click.option("--backend", help="Which backend trains.  [default: the model's own, else gpt2]")
@click.option("--model", help="What to start from: a hub id or folder; by default the backend's own model.")
@click.option("--from-scratch", is_flag=True, help="Start from random weights and a tokenizer trained on the data.")
@click.option(
    "--vocab-size",
    type=click.IntRange(257),
    default=4096,
    show_default=True,
    help="Entries of a tokenizer trained from scratch.",
)
@click.option("--data", multiple=True, required=True, help="Text or JSONL file; may be repeated.")
@click.option("--validation", help="File to validate on; by default a share of the data is held out.")
@click.option("--output", required=True, help="The run's folder.")
@click.option("--resume", is_flag=True, help="Go on with the run in the folder, from its last whole checkpoint.")
@click.option("--device", help="cpu, cuda, …; by default the best there is.")
@click.option("-o", "config", multiple=True, metavar="KEY=VALUE", help="A field of the model's config, from scratch.")
@options_of(TrainingOptions)
def command(
    backend: str | None,
    model: str | None,
    from_scratch: bool,
    vocab_size: int,
    data: tuple[str, ...],
    validation: str | None,
    output: str,
    resume: bool,
    device: str | None,
    config: tuple[str, ...],
    **values: Any,
) -> None:
    """Fine-tune a model on local text, or train one from scratch.

    The folder given by --output can be generated from: aigc-text generate --model FOLDER
    """
    from ..data import check_files
    from ..run import RunFolder, train

    options = TrainingOptions.parse(given(values))
    check_files([*data, *([validation] if validation else [])])
    folder = RunFolder(output, resume)  # before torch is imported: a second run is refused at once
    try:
        loaded = (
            _fresh(backend, data, vocab_size, options, key_values(config))
            if from_scratch
            else _pretrained(backend, model, device, config)
        )
        runs = train(
            loaded,
            data,
            folder,
            validation=validation,
            options=options,
        )
        _show(runs, options.max_steps)
    finally:
        folder.close()
    notice(f"Done: {output}. Generate with: aigc-text generate --model {output}")


def _pretrained(backend: str | None, model: str | None, device: str | None, config: tuple[str, ...]) -> Any:
    from ..api import load
    from ..errors import OptionError

    if config:
        raise OptionError(f"-o {config[0]} sets a field of a new model's config", "Add --from-scratch.")
    return load(backend, model, **({"device": device} if device else {}))


def _fresh(
    backend: str | None,
    data: tuple[str, ...],
    vocab_size: int,
    options: TrainingOptions,
    config: dict[str, str],
) -> Any:
    from ..api import DEFAULT_BACKEND, from_scratch
    from ..data import read_texts
    from ..errors import OptionError

    for name in config:
        if name in inspect.signature(from_scratch).parameters:
            raise OptionError(f"-o {name} is no field of a model's config", "See: aigc-text train --help")
    texts = (t for f in data for t in read_texts(f, options.text_column, options.sample_by))
    return from_scratch(backend or DEFAULT_BACKEND, texts, vocab_size=vocab_size, seed=options.seed, **config)


def _show(runs: Any, total: int) -> None:
    width, runs = len(str(total)), begun(runs)
    with click.progressbar(length=total, file=sys.stderr, label="training", item_show_func=_figures) as bar:
        for progress in runs:
            if progress.message:
                notice(f"\nstep {progress.step:{width}}: {progress.message}")
            if any(k.startswith("eval_") for k in progress.logs) and not sys.stderr.isatty():
                notice(f"step {progress.step:{width}} of {total}: {_figures(progress)}")
            bar.update(progress.step - bar.pos, progress)


def _figures(progress: Progress | None) -> str:
    shown = {k: v for k, v in progress.logs.items() if "loss" in k or "bits" in k} if progress else {}
    return "  ".join(f"{k} {v:.3f}" for k, v in shown.items())
