"""`aigc-text evaluate-code`: pass@k of problems with tests, and how much of what a model writes is Python."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aigc_text.code_eval.sandbox.cases import Limits
from aigc_text.errors import DataError, OptionError
from aigc_text.options import contradictions
from aigc_text.options.generation import GenerationOptions, drawn_seed

from .parameters import (
    ENGINE,
    LOADING,
    engine_options,
    given,
    key_values,
    loading_options,
    options_of,
    refuse_contradictions,
)
from .streams import destination
from .terminal import bar, begun, notice, write

if TYPE_CHECKING:
    from aigc_text.code_eval.problems import Problem

T = TypeVar("T")


@click.command()
@click.argument("problems_file", metavar="PROBLEMS")
@click.option("--backend", help="Who writes; see: aigc-text backends.  [default: the model's own, else code]")
@click.option("--model", help="A hub id or folder; by default the backend's own model.")
@click.option("--samples", help="Judge the completions of this JSONL file (task_id, completion), or: solutions.")
@click.option("--k", "ks", default="1", show_default=True, help="Tries that count, several with commas: 1,10.")
@click.option("--run-untrusted-code", is_flag=True, help="Run what the model writes, locked in; the risk is yours.")
@click.option("--run-unconfined", is_flag=True, help="Run it with all rights of yours: nothing but limits holds it.")
@click.option("--syntax-only", is_flag=True, help="Run nothing; say how much is Python.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Programs at once.")
@options_of(Limits)
@options_of(GenerationOptions)
@click.option("-o", "extra", multiple=True, metavar="KEY=VALUE", help="An option of the backend's own.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--output", help="Write each completion with its verdict to this JSONL file.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option("--batch-size", type=click.IntRange(1), help="Most texts at once.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Most tokens at once, of prompts and texts together.")
@loading_options
@engine_options
def command(
    problems_file: str,
    backend: str | None,
    model: str | None,
    samples: str | None,
    ks: str,
    run_untrusted_code: bool,
    run_unconfined: bool,
    syntax_only: bool,
    workers: int,
    extra: tuple[str, ...],
    form: str,
    output: str | None,
    overwrite: bool,
    batch_size: int | None,
    batch_tokens: int | None,
    **values: Any,
) -> None:
    """How many programming problems a model solves: pass@k, by tests in a sandbox.

    PROBLEMS is a JSONL file in the form of HumanEval or of MBPP.

    \b
    aigc-text evaluate-code HumanEval.jsonl --backend code -n 10 --k 1,10 --run-untrusted-code
    aigc-text evaluate-code HumanEval.jsonl --samples completions.jsonl --run-untrusted-code
    aigc-text evaluate-code HumanEval.jsonl --samples solutions --run-untrusted-code
    """
    from aigc_text.code_eval import evaluation as code
    from aigc_text.code_eval.problems import read_problems
    from aigc_text.code_eval.sandbox.runner import check_support

    refuse_contradictions("evaluate-code")
    _check_risk(run_untrusted_code, run_unconfined, syntax_only)
    values = given(values)
    limits = Limits.parse({n: values.pop(n) for n in Limits.fields() if n in values})
    loading = {n: values.pop(n) for n in (*LOADING, *ENGINE) if n in values}
    parsed = GenerationOptions.parse({n: v for n, v in values.items() if n != "do_sample"})
    contradictions.refuse_generation({**parsed.given(), "do_sample": values.get("do_sample")})
    problems = read_problems(problems_file)
    if run_untrusted_code:
        check_support()
    sizes = given({"batch_size": batch_size, "batch_tokens": batch_tokens})
    if samples is not None:
        _check_alone(backend, model, {**values, **loading, **sizes}, extra)
        completions = list(code.read_completions(samples, problems))
        tries = _tries(completions, problems, samples)
    else:
        completions = []
        tries = GenerationOptions.parse({"num_return_sequences": values.get("num_return_sequences") or 1})
        tries = tries.num_return_sequences
    wanted = code.parse_ks(ks, tries)
    attempts = []
    with nullcontext() if output is None else destination(output, overwrite) as stream:
        if samples is None:
            options = {**values, **key_values(extra)}
            completions = _written(backend or (None if model else "code"), model, loading, problems, options, sizes)
        found = code.attempts(
            problems, completions, None if syntax_only else limits, confined=not run_unconfined, workers=workers
        )
        with closing(found):  # which ends the programs that run
            for attempt in _barred(found, len(completions), "reading" if syntax_only else "running"):
                attempts.append(attempt)
                if stream is not None:
                    stream.write(code.line_of(attempt))
    result = code.summary(attempts, wanted)
    write(sys.stdout, code.table(result) if form == "table" else json.dumps(result) + "\n")


def _check_risk(run: bool, unconfined: bool, syntax_only: bool) -> None:
    if not (run or unconfined or syntax_only):
        raise OptionError(
            "this runs code that a model wrote, which is not done unless you say so",
            "Add --run-untrusted-code to run it locked in, or --syntax-only to run nothing.",
        )
    if unconfined:
        notice("Warning: generated code runs with all rights that you have (--run-unconfined).")


def _check_alone(backend: str | None, model: str | None, values: dict[str, Any], extra: tuple[str, ...]) -> None:
    others = {"backend": backend, "model": model, **values, "o": extra or None}
    for name in [n for n, v in others.items() if v is not None]:
        raise OptionError(
            f"--samples brings completions, and --{name.replace('_', '-')} is for making some", "Leave one of them out."
        )


def _tries(completions: list[tuple[int, int, str]], problems: list[Problem], samples: str) -> int:
    counts = Counter(place for place, _, _ in completions)
    if not counts:
        raise DataError(f"{samples} holds no completion", 'Write {"task_id": "…", "completion": "…"}, one a line.')
    if len(counts) < len(problems):
        notice(f"{len(counts)} of {len(problems)} problems have completions; the figures are of those alone.")
    return min(counts.values())


def _written(
    backend: str | None,
    model: str | None,
    loading: dict[str, Any],
    problems: list[Problem],
    wanted: dict[str, Any],
    sizes: dict[str, int],
) -> list[tuple[int, int, str]]:
    from aigc_text.api import load
    from aigc_text.code_eval import evaluation as code

    loaded = load(backend, model, **loading)
    options = loaded.resolve(None, {"truncate_prompt": True, **wanted} if _truncates(loaded) else wanted)
    if options.seed is None:
        options = loaded.resolve(options, {"seed": drawn_seed()})
        notice(f"seed {options.seed}")
    total = len(problems) * (options.num_return_sequences or 1)
    found = _barred(code.generated(loaded, problems, options, **sizes), total, "writing")
    return sorted(found)


def _truncates(backend: Any) -> bool:
    """Whether a prompt beyond the context can be cut on its left; the program is still run with all of it."""
    return "truncate_prompt" in backend.accepted()


def _barred(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    items = begun(items)
    with bar(total, label) as shown:
        for item in items:
            shown.update(1)
            yield item
