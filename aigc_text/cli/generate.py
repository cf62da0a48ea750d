"""`aigc-text generate`: prompts in, texts or records out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeGuard

import click

from aigc_text import distributed
from aigc_text.data.teaching import local
from aigc_text.errors import GenerationError, OptionError, ask_author, shell
from aigc_text.options import contradictions
from aigc_text.options.generation import GenerationOptions, drawn_seed
from aigc_text.outputs import Piece
from aigc_text.utils.output_file import is_stream

from .meter import Speed
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
from .streams import destination, standard_input, waiting_input
from .terminal import bar, begun, notice, write

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.generation.prompt_files import Prompts
    from aigc_text.jobs.batch_job import Job


@click.command()
@click.option("--backend", help="Who generates; see: aigc-text backends.  [default: the model's own, else gpt2]")
@click.option("--model", help="A hub id or folder; by default the backend's own model.")
@click.option("--prompt", "prompt", multiple=True, help="A prompt; may be repeated. Without one, standard input.")
@click.option(
    "--prompts", "prompts_file", help="File of prompts: one a line, or records (JSONL, JSON, CSV, TSV, Parquet)."
)
@click.option(
    "--prompt-column", help="The field of records that is the prompt.  [default: prompt, or a table's only one]"
)
@click.option("--template", help="Made from the fields of the prompts file: 'Write about {topic}'.")
@click.option("--suffix", help="Fill in the middle between the prompt and this (code models that can).")
@options_of(GenerationOptions)
@click.option("-o", "extra", multiple=True, metavar="KEY=VALUE", help="An option of the backend's own.")
@click.option("--format", "form", type=click.Choice(["text", "json", "jsonl"]), default="text", show_default=True)
@click.option("--echo/--no-echo", default=True, show_default=True, help="Text format: the prompt before its text.")
@click.option("--output", help="Write to this file; it appears when it is complete.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option("--resume", is_flag=True, help="Go on with a file of records (--format jsonl) after an interruption.")
@click.option("--max-copy", type=click.IntRange(0), help="Draw a text anew that copies more words in a row than this.")
@click.option("--copy-source", help="With --max-copy: the file that must not be copied, such as the training data.")
@click.option("--batch-size", type=click.IntRange(1), help="Most texts at once.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Most tokens at once, of prompts and texts together.")
@loading_options
@engine_options
def command(
    backend: str | None,
    model: str | None,
    prompt: tuple[str, ...],
    prompts_file: str | None,
    prompt_column: str | None,
    template: str | None,
    suffix: str | None,
    extra: tuple[str, ...],
    form: str,
    echo: bool,
    output: str | None,
    overwrite: bool,
    resume: bool,
    max_copy: int | None,
    copy_source: str | None,
    batch_size: int | None,
    batch_tokens: int | None,
    **values: Any,
) -> None:
    """Generate texts from prompts.

    \b
    aigc-text generate --backend gpt2 --prompt "Once upon a time"
    aigc-text generate --backend code --prompt "def fibonacci(n):"
    aigc-text generate --prompts prompts.txt --format jsonl --output texts.jsonl
    aigc-text generate --prompts prompts.txt --format jsonl --output texts.jsonl --resume
    """
    from aigc_text.api import load

    refuse_contradictions("generate")
    _check_ways(output, form, resume)
    _check_text(prompt, template)
    prompts_file = None if prompts_file is None else str(local(prompts_file))
    # Everything that can be wrong in the input is found before a model is loaded.
    loading = given({name: values.pop(name) for name in (*LOADING, *ENGINE)})
    # … but whether texts without sampling would be one text: that depends on the backend.
    parsed = GenerationOptions.parse({name: value for name, value in given(values).items() if name != "do_sample"})
    contradictions.refuse_generation({**parsed.given(), "do_sample": values["do_sample"]})
    _tell_of_input(prompt, prompts_file)
    guarded = _without_copies(max_copy, copy_source)
    wanted = {**given(values), **given({"suffix": suffix}), **key_values(extra)}
    sizes = given({"batch_size": batch_size, "batch_tokens": batch_tokens})
    if _is_job(output, form):
        from aigc_text.jobs.batch_job import Job

        found = _read_twice(prompt, prompts_file, template, prompt_column)
        with Job(found, output, resume=resume, overwrite=overwrite) as job:
            if resume and not job.resumes():
                notice(f"There is nothing to resume for {output}, so it is generated from the beginning.")
            loaded = guarded(load(backend, model, **loading))
            loaded.check_prompts(job.prompts)
            options = loaded.resolve(None, wanted)
            _tell_of_seed(loaded, options)
            _run(job, loaded, options, sizes)
        _tell_of_copies(loaded)
        return
    prompts = _prompts(prompt, prompts_file, template, prompt_column)
    with destination(output, overwrite) as stream:
        loaded = guarded(load(backend, model, **loading))
        loaded.check_prompts(prompts)
        options = loaded.resolve(None, wanted)
        _tell_of_seed(loaded, options)
        if options.seed is None:
            options = loaded.resolve(options, {"seed": drawn_seed()})
        pieces = _all(loaded, loaded.pieces(prompts, options, **sizes), len(prompts), options.num_return_sequences or 1)
        if output is not None:
            pieces = _counted(pieces, len(prompts) * (options.num_return_sequences or 1))
        if form == "text":
            several = len(prompts) > 1 or (options.num_return_sequences or 1) > 1
            headed = several and not loaded.capabilities.sentences and (output is None or is_stream(output))
            broken = _write_texts(stream, pieces, prompts if echo and loaded.goes_on(options) else None, headed)
            if broken and several and not headed:
                notice(f"{broken} text(s) have line breaks; to tell texts apart: --format jsonl")
        else:
            _write_records(stream, pieces, form, loaded, options)
    _tell_of_copies(loaded)


def _tell_of_input(prompt: tuple[str, ...], file: str | None) -> None:
    """Says that standard input holds something which is not read; loops of a shell have it open for other ends."""
    if (prompt or file is not None) and waiting_input():
        notice(f"Standard input is not read, since {'--prompt' if prompt else '--prompts'} is given.")


def _without_copies(most: int | None, source: str | None) -> Callable[[Backend], Backend]:
    """What makes a backend draw texts anew that copy too much, if that was asked for; reads the source now."""
    if most is None or source is None:
        return lambda backend: backend
    from aigc_text.memorization.copies import Source
    from aigc_text.memorization.regenerate import WithoutCopies

    found = Source(source)
    return lambda backend: WithoutCopies(backend, found, most)


def _tell_of_seed(backend: Backend, options: GenerationOptions) -> None:
    if options.seed is not None and backend.effective(options).get("do_sample") is False:
        notice(f"Nothing is drawn without sampling, so --seed {options.seed} decides nothing.")


def _tell_of_copies(backend: Backend) -> None:
    anew, gave_up = getattr(backend, "drawn_anew", 0), getattr(backend, "gave_up", 0)
    if anew:
        notice(f"{anew} text(s) were drawn anew for copying more than --max-copy allows.")
    if gave_up:
        notice(f"{gave_up} text(s) copy more than --max-copy allows after all tries; their records say how much.")


def _is_job(output: str | None, form: str) -> TypeGuard[str]:
    """Whether the output is a file of records, which takes its place when all are there."""
    return output is not None and form == "jsonl" and not is_stream(output)


def _check_ways(output: str | None, form: str, resume: bool) -> None:
    """Only a file of records can be gone on with, or be made by several processes."""
    if _is_job(output, form):
        return
    if resume:
        if output is None:
            said = "--resume without --output"
        else:
            said = shell("--resume with --output {}", output) if is_stream(output) else f"--resume with --format {form}"
        raise OptionError(f"{said}: only a file of records can be gone on with", "Give --output FILE --format jsonl.")
    if distributed.world() > 1:
        raise OptionError(
            f"{distributed.world()} processes were started, and they can only make a file of records together",
            "Give --output FILE --format jsonl, or start one process.",
        )


def _check_text(prompts: tuple[str, ...], template: str | None) -> None:
    for what, text in (*(("prompt", p) for p in prompts), ("template", template or "")):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise OptionError(f"the {what} {ascii(text)[:60]} is not UTF-8", "Give it in UTF-8.") from None


# A file of records


def _read_twice(prompt: tuple[str, ...], file: str | None, template: str | None, column: str | None) -> Prompts:
    """Prompts that stay in their file; those of the command line, or of a pipe, are held."""
    from aigc_text.generation.prompt_files import Prompts, read_prompts

    if file is not None and not prompt and os.path.isfile(file):
        path = os.path.abspath(file)  # it is read twice, and a plugin may change the working folder in between
        return Prompts(lambda: read_prompts(path, template, column))
    if distributed.world() > 1 and not prompt and (file is None or os.path.exists(file) and Path(file).is_fifo()):
        raise OptionError("several processes cannot share prompts from a pipe", "Give them a file with --prompts.")
    found = _prompts(prompt, file, template, column)
    return Prompts(lambda: found)


def _run(job: Job, backend: Backend, options: GenerationOptions, sizes: dict[str, int]) -> None:
    try:
        with closing(job.run(backend, options, **sizes)) as counts:
            _show(counts)
    except BaseException:
        if distributed.is_main() and job.left():
            notice(f"What was finished is in {job.parts}; the same command with --resume goes on.")
        raise


def _show(counts: Iterator[tuple[int, int]]) -> None:
    """A bar on standard error, of the main process's share if there are several."""
    first, total = next(counts)
    counts = begun(counts)
    share = f" share 1 of {distributed.world()}" if distributed.world() > 1 else ""
    with bar(total, f"generating{share}", show_eta=False) as shown:
        shown.update(first)
        speed = Speed(first, total)
        for done, _ in counts:
            if speed.is_due():
                shown.label = f"generating{share}, {speed.words(done)}"
            shown.update(done - shown.pos)


# Texts as they come


def _prompts(prompt: tuple[str, ...], file: str | None, template: str | None, column: str | None) -> list[str]:
    from aigc_text.generation.prompt_files import fill, read_prompts

    if file is not None:
        return list(read_prompts(file, template, column))
    found = list(prompt) or [_piped()]
    return [fill(template, {"prompt": p}, "the prompt") for p in found] if template is not None else found


def _piped() -> str:
    """The prompt from a pipe; nothing from a terminal, for that is unconditional generation."""
    return "" if sys.stdin.isatty() else standard_input().removesuffix("\n").removesuffix("\r")


def _counted(pieces: Iterator[Piece], total: int) -> Iterator[Piece]:
    """Shows a bar on standard error while texts go to a file."""
    pieces = begun(pieces)
    with bar(total, "generating") as shown:
        for piece in pieces:
            yield piece
            if piece.completion is not None:
                shown.update(1)


def _all(backend: Backend, pieces: Iterator[Piece], prompts: int, each: int) -> Iterator[Piece]:
    """The pieces, seen to be those of all the texts that were asked for and of no others."""
    from aigc_text.backends.output_checks import sound

    whole = 0
    for piece in sound(pieces, Piece, backend.name):
        if piece.prompt_index >= prompts or piece.index >= each:
            place = f"text {piece.index + 1} of prompt {piece.prompt_index + 1}"
            raise GenerationError(
                f"backend {backend.name!r} gave {place}, which was not asked for", ask_author(backend.name)
            )
        whole += piece.completion is not None
        yield piece
    if whole != prompts * each:
        raise GenerationError(
            f"backend {backend.name!r} gave {whole} texts of {prompts * each}", ask_author(backend.name)
        )


def _write_texts(stream: TextIO, pieces: Iterator[Piece], prompts: list[str] | None, headed: bool) -> int:
    """One text after the other as they grow, under a heading each if asked for; how many have line breaks."""
    shown: tuple[int, int] | None = None
    broken: set[tuple[int, int]] = set()
    for piece in pieces:
        place = (piece.prompt_index, piece.index)
        if place != shown:
            if headed:
                write(stream, f"{'' if shown is None else chr(10)}=== prompt {place[0] + 1}, text {place[1] + 1} ===\n")
            if prompts is not None:
                write(stream, prompts[piece.prompt_index])
            shown = place
        write(stream, piece.text)
        if "\n" in piece.text or prompts is not None and "\n" in prompts[piece.prompt_index]:
            broken.add(place)
        if piece.completion is not None:
            write(stream, "\n")
    if shown is not None and piece.completion is not None and piece.completion.seed is not None:
        notice(f"seed {piece.completion.seed}")
    return len(broken)


def _write_records(
    stream: TextIO, pieces: Iterator[Piece], form: str, backend: Backend, options: GenerationOptions
) -> None:
    model = backend.to_record(backend.effective(options))
    records = (p.completion.to_record(model) for p in pieces if p.completion is not None)
    if form == "json":
        write(stream, json.dumps(list(records), ensure_ascii=False, indent=1) + "\n")
        return
    for record in records:
        write(stream, json.dumps(record, ensure_ascii=False) + "\n")
