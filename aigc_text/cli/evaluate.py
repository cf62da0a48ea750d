"""`aigc-text evaluate`: models against real texts and each other, in one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from aigc_text.backends.registry import list_backends
from aigc_text.data.sources import Source, refuse_unused
from aigc_text.errors import OptionError
from aigc_text.evaluation.candidates import System
from aigc_text.evaluation.options import NOT_FOR_SAMPLES, EvaluationOptions
from aigc_text.evaluation.results import FORMS
from aigc_text.options.contradictions import Rule, refuse
from aigc_text.options.generation import GenerationOptions

from .parameters import LOADING, asked_for, given, key_values, loading_options, options_of, refuse_contradictions
from .terminal import bar, notice, write

if TYPE_CHECKING:
    from aigc_text.evaluation.evaluation_run import Evaluation, Stage
    from aigc_text.evaluation.results import Report


@click.command()
@click.argument("systems", nargs=-1, metavar="[NAME | NAME=MODEL | NAME=BACKEND:MODEL]...")
@click.option("--compare", is_flag=True, help="Several models follow: gpt2 vae=runs/vae mine=gpt2:some/model")
@click.option("--backend", help="Of a single model: who generates; see: aigc-text backends.")
@click.option("--model", help="Of a single model: a hub id or folder.")
@click.option("--samples", multiple=True, metavar="[NAME=]FILE", help="Texts from elsewhere; may be repeated.")
@click.option("--data", multiple=True, required=True, help="The real texts: file, folder, glob or dataset.")
@click.option("--train", multiple=True, help="What the models were trained on, likewise: for novelty and the real row.")
@options_of(EvaluationOptions)
@options_of(GenerationOptions, but=NOT_FOR_SAMPLES)
@click.option("-o", "extra", multiple=True, metavar="KEY=VALUE", help="A generation option of the backend's own.")
@click.option("--format", "form", type=click.Choice(FORMS), default="table", show_default=True)
@click.option("--output", help="Folder for the report, its picture and the samples.")
@click.option("--overwrite", is_flag=True, help="Replace the report in the folder.")
@click.option("--cache", help="Where samples are kept.  [default: $AIGC_TEXT_CACHE or ~/.cache/aigc-text]")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Most texts at once.")
@loading_options
def command(
    systems: tuple[str, ...],
    compare: bool,
    backend: str | None,
    model: str | None,
    samples: tuple[str, ...],
    data: tuple[str, ...],
    train: tuple[str, ...],
    extra: tuple[str, ...],
    form: str,
    output: str | None,
    overwrite: bool,
    cache: str | None,
    batch_size: int,
    **values: Any,
) -> None:
    """Measure models against real texts and against each other; the real data are the table's first row.

    \b
    aigc-text evaluate --backend gpt2 --data test.txt --train train.txt
    aigc-text evaluate --compare gpt2 mine=runs/mine --data test.txt --sweep temperature=0.5:1.2:0.1 --output report
    aigc-text evaluate --samples theirs.txt --data test.txt
    """
    from aigc_text.evaluation.evaluation_run import Evaluation

    loading = given({name: values.pop(name) for name in LOADING})
    values = given(values)
    options = EvaluationOptions.parse({k: v for k, v in values.items() if k in EvaluationOptions.fields()})
    generation = {k: v for k, v in values.items() if k not in EvaluationOptions.fields()}
    GenerationOptions.parse(generation)
    refuse_contradictions("evaluate")
    _refuse_unused(options, bool(systems or backend or model), samples)
    if compare and not systems:
        raise OptionError("--compare names no model", "E.g. --compare gpt2 vae=runs/vae")
    wanted = [_system(text, loading) for text in systems]
    if backend is not None or model is not None:
        wanted.insert(0, System(label=backend or str(model), backend=backend, model=model, loading=loading))
    wanted += [_file(text) for text in samples]
    files = [str(s.samples) for s in wanted if s.samples is not None]
    refuse_unused([_source((*data, *train, *files), options)], asked_for(vars(options)))
    with Evaluation(
        wanted,
        _source(data, options),
        _source(train, options) if train else None,
        {**generation, **key_values(extra)},
        options,
        output=output,
        cache=cache,
        batch_size=batch_size,
        overwrite=overwrite,
    ) as evaluation:
        notice(f"To do: {evaluation.plan()}")
        report = _shown(evaluation)
    write(sys.stdout, report.text(form))
    if output:
        notice(f"The report is in {output}")
    elif options.sweep:
        notice("No picture was drawn: name a folder with --output; the samples are kept, so it takes little time.")


def _refuse_unused(options: EvaluationOptions, models: bool, samples: tuple[str, ...]) -> None:
    """Refuses what would be of no account: how to generate without a model, models that measure nothing, a value swept.

    Raises:
        OptionError: naming both options, and why.
    """
    given = asked_for({name: getattr(options, name) for name in EvaluationOptions.fields()})
    if samples and not models:
        others = (*GenerationOptions.fields(), *LOADING, "extra", "batch_size", "cache", "sweep", "sampling")
        refuse([Rule("samples", n, "texts from elsewhere are not generated") for n in others], given)
    if options.sweep is not None and (name := options.sweep.partition("=")[0].strip().replace("-", "_")) in given:
        refuse([Rule("sweep", name, "the sweep sets it")], given)
    for name, group in (("reference_model", "reference-ppl"), ("feature_model", "mauve")):
        if group not in options.groups():
            refuse([Rule("metrics", name, f"it is for the group {group}")], given)


def _source(names: tuple[str, ...], options: EvaluationOptions) -> Source:
    return Source(
        names,
        text_column=options.text_column,
        prompt_column=options.prompt_column,
        completion_column=options.completion_column,
        sample_by=options.sample_by,
    )


def _system(text: str, loading: dict[str, Any]) -> System:
    """`gpt2`, `vae=runs/vae` or `mine=gpt2:some/model`; a label that is a backend's name asks for that backend."""
    label, equals, model = text.partition("=")
    if not label or (equals and not model):
        raise OptionError(f"{text!r} is not of the form NAME or NAME=MODEL", "E.g. --compare gpt2 vae=runs/vae")
    if not equals:
        return System(label=label, backend=label, loading=loading)
    first, colon, rest = model.partition(":")
    if colon and first in list_backends():
        return System(label=label, backend=first, model=rest, loading=loading)
    if model in list_backends():
        return System(label=label, backend=model, loading=loading)
    return System(label=label, backend=label if label in list_backends() else None, model=model, loading=loading)


def _file(text: str) -> System:
    label, equals, path = text.partition("=")
    return System(label=label, samples=path) if equals and label and path else System(label=text, samples=text)


def _shown(evaluation: Evaluation) -> Report:
    """Runs the evaluation with a bar on standard error for each set of texts."""
    stages = evaluation.stages()
    for stage in stages:
        if stage.report is not None:
            return stage.report
        if stage.total:
            stage = _bar(stage, stages)
        notice(f"{stage.doing} …" if stage.row is None else f"{stage.doing}: measured")
    raise AssertionError("an evaluation ends with its report")


def _bar(stage: Stage, stages: Iterator[Stage]) -> Stage:
    """Draws the bar of one set; returns the first stage after it."""
    with bar(stage.total, stage.doing) as shown:
        shown.update(stage.done)
        done = stage.done
        for after in stages:
            if not after.total or after.doing != stage.doing:
                return after
            shown.update(after.done - done)
            done = after.done
    raise AssertionError("texts are measured when they are generated")
