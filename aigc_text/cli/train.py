"""`aigc-text train`: a bar from the trainer's reports."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigc_text import distributed
from aigc_text.errors import OptionError, UserError, shell
from aigc_text.options import contradictions
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Progress
from aigc_text.plots.panels import told
from aigc_text.training import interrupts

from .meter import Meter, rates
from .parameters import (
    asked_for,
    config_option,
    given,
    key_values,
    options_of,
    overridden,
    refuse_contradictions,
    remembered,
)
from .terminal import bar, begun, notice

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.data.sources import Example


BAR = 12  # columns, so that figures fit beside it
RESUMED = remembered("options.json", "started_from")


@click.command()
@config_option("started_from")
@click.option("--backend", help="Which backend trains.  [default: the model's own, else gpt2]")
@click.option("--model", help="What to start from: a hub id or folder; by default the backend's own model.")
@click.option("--from-scratch", is_flag=True, help="Start from random weights and a tokenizer trained on the data.")
@click.option(
    "--tokenizer", help="From scratch: bpe, word or char to train one, or a folder or hub id.  [default: bpe]"
)
@click.option(
    "--vocab-size",
    type=click.IntRange(1),
    help="Entries of a tokenizer trained from scratch.  [default: 4096 of BPE, all words, all characters]",
)
@click.option(
    "--data",
    multiple=True,
    required=True,
    help="A file (text, JSONL, JSON, CSV, TSV, Parquet), a folder, a quoted glob, a dataset (OWNER/NAME:CONFIG@SPLIT), "
    "or teaching data (teaching:NAME; see aigc-text data list). May be repeated.",
)
@click.option("--validation", help="What to validate on, of the same kinds; by default a share of the data.")
@click.option("--output", required=True, is_eager=True, callback=RESUMED, help="The run's folder.")
@click.option(
    "--resume",
    is_flag=True,
    is_eager=True,
    callback=RESUMED,
    help="Go on with the run in the folder, from its last whole checkpoint; other options may be left out.",
)
@click.option("--merge", is_flag=True, help="LoRA: write the whole model with the adapter added, in OUTPUT/merged.")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Train the same thing with so many seeds, in OUTPUT/seed-N, and report mean and standard deviation.",
)
@click.option("--device", help="cpu, cuda, …; by default the best there is.")
@click.option(
    "-o",
    "config",
    multiple=True,
    metavar="KEY=VALUE",
    help="A field of the model's config, or an option of the backend's own training.",
)
@options_of(TrainingOptions)
def command(
    backend: str | None,
    model: str | None,
    from_scratch: bool,
    tokenizer: str | None,
    vocab_size: int | None,
    data: tuple[str, ...],
    validation: str | None,
    output: str,
    resume: bool,
    merge: bool,
    seeds: int,
    device: str | None,
    config: tuple[str, ...],
    **values: Any,
) -> None:
    """Fine-tune a model on local text, or train one from scratch.

    \b
    aigc-text train --data my.txt --output runs/mine --max-steps 500
    aigc-text train --data my.txt --output runs/mine --lora-rank 8 --merge
    aigc-text train --config runs/mine/options.json --output runs/again

    The folder given by --output can be generated from: aigc-text generate --model FOLDER
    """
    from aigc_text.api import find
    from aigc_text.data.sources import Source, refuse_unused
    from aigc_text.hub.loading import choose_device
    from aigc_text.runs.run_data import read_data
    from aigc_text.runs.run_dir import RunFolder, SeedsFolder, generate_command
    from aigc_text.runs.seeds import train_seeds
    from aigc_text.runs.training_run import train

    if device is not None:
        choose_device(device)  # at once, and from scratch too
    for name in overridden((*contradictions.TRAINING, *contradictions.COMMANDS["train"])):
        values.pop(name, None)
    options = TrainingOptions.parse(given(values))
    typed = {name: getattr(options, name) for name in TrainingOptions.fields()}
    refuse_contradictions("train", typed)
    contradictions.refuse_training({**asked_for(typed), "group": options.group, "validation": validation}, typed)
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # else the loop takes a GPU wherever there is one
    sources = [Source.of(what, options) for what in (data, validation) if what]
    refuse_unused(sources, options.given())
    for source in sources:
        source.check()
    # Before torch is imported: told at once if it is taken.
    folder = RunFolder(output, resume) if seeds == 1 else SeedsFolder(output)
    try:
        name, cls, model = find(backend, model)
        fields, own = _sorted_out(cls, key_values(config))
        options = getattr(cls, "Training", TrainingOptions).parse({**given(values), **own})

        # A model from scratch needs the data for its tokenizer first, and they are read once.
        read = read_data(data, validation, options, cls.sample_by) if from_scratch else None

        def make(seed: int) -> Backend:
            if read is not None:
                if device is not None:
                    choose_device(device)  # refuses one that is not there; the loop takes the best there is
                return _fresh(name, read.examples, tokenizer, vocab_size, options, fields, seed)
            return _pretrained(name, model, device, fields, adapter=bool(options.lora_rank))

        more: dict[str, Any] = {"validation": validation, "options": options, "merge": merge}
        if isinstance(folder, SeedsFolder):
            _show(train_seeds(make, read or data, folder, seeds, resume=resume, **more), output)
        else:
            _show(train(make(options.seed), read or data, folder, **more), output)
    finally:
        if folder is not None:
            folder.close()
    one = f"{output}/seed-{options.seed}" if isinstance(folder, SeedsFolder) else output
    notice(f"Done: {output}. Generate with: {generate_command(name, Path(one))}")


def _sorted_out(cls: type[Backend], pairs: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """`-o` pairs as fields of the model's config, and options of the backend's own training."""
    own = getattr(cls, "Training", TrainingOptions).fields()
    for name in pairs:
        if name in TrainingOptions.fields():
            raise OptionError(
                f"-o {name} has an option of its own", f"Write {TrainingOptions.on_command_line(name, pairs[name])}"
            )
    return {k: v for k, v in pairs.items() if k not in own}, {k: v for k, v in pairs.items() if k in own}


def _pretrained(backend: str, model: str | None, device: str | None, config: dict[str, str], adapter: bool) -> Backend:
    from aigc_text.api import load_to_train

    return load_to_train(backend, model, adapter=adapter, **given({"device": device, "config": config or None}))


def _fresh(
    backend: str,
    examples: Iterable[Example],
    tokenizer: str | None,
    vocab_size: int | None,
    options: TrainingOptions,
    config: dict[str, str],
    seed: int,
) -> Backend:
    import inspect

    from aigc_text.api import from_scratch
    from aigc_text.data.sources import texts

    known = inspect.signature(from_scratch).parameters
    for name in config:
        if name in known:
            raise OptionError(f"-o {name} is no field of a model's config", "See: aigc-text train --help")
    return from_scratch(
        backend,
        texts(examples),
        tokenizer="bpe" if tokenizer is None else tokenizer,
        vocab_size=vocab_size,
        infilling=any(a.startswith("fim") for a in options.augment or ()),
        seed=seed,
        **config,
    )


def _show(runs: Iterator[Progress], output: str) -> None:
    """A bar; an interrupt waits for the update under way."""
    trained = False
    try:
        with interrupts.postponed():
            for progress in _barred(runs):
                trained = trained or bool(progress.logs)
    except (KeyboardInterrupt, interrupts.Terminated):
        if trained and distributed.is_main():
            notice(f"\nThe last update is saved in {output}; the same command with --resume goes on.")
        raise
    except Exception as error:
        if not isinstance(error, UserError) and distributed.is_main() and any(Path(output).glob("checkpoints/step-*")):
            notice(shell("\nCheckpoints are kept; go on with: aigc-text train --resume --output {}", Path(output)))
        raise


def _barred(runs: Iterator[Progress], clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Draws the bar, or prints lines where there is no terminal; passes the reports on."""
    meter = Meter(clock)
    runs = begun(runs)
    with bar(1, "training", width=BAR, item_show_func=lambda p: _fitting(p, meter) if p else "") as shown:
        for progress in runs:
            shown.length = progress.total
            meter.count(progress)
            width = len(str(progress.total))
            if progress.message:
                notice(f"\nstep {progress.step:{width}}: {progress.message}")
            validated = any(k.startswith("eval_") for k in progress.logs)
            if not sys.stderr.isatty() and progress.logs and (validated or meter.due()):
                notice(f"step {progress.step:{width}} of {progress.total}: {meter.line(progress)}")
            shown.update(progress.step - shown.pos, progress)
            yield progress


def _fitting(progress: Progress, meter: Meter) -> str:
    """What fits beside the bar, the bar's own time to the end left out."""
    room = shutil.get_terminal_size().columns - BAR - len("training  []  100%  00:00:00  ") - 1
    text = "  ".join(filter(None, [told(progress.logs), rates(progress.logs), meter.speed()]))
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"
