"""`aigc-text generate`: prompts in, texts or records out."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from ..errors import OptionError
from ..options import GenerationOptions
from ..results import Completion, Piece
from .parameters import ENGINE, LOADING, engine_options, given, key_values, loading_options, options_of
from .streams import destination, standard_input
from .terminal import begun, notice, visible, write

if TYPE_CHECKING:
    from ..backend import Backend


@click.command()
@click.option("--backend", help="Who generates; see: aigc-text backends.  [default: the model's own, else gpt2]")
@click.option("--model", help="A hub id or folder; by default the backend's own model.")
@click.option("--prompt", "prompt", multiple=True, help="A prompt; may be repeated. Without one, standard input.")
@click.option("--prompts", "prompts_file", help="File of prompts: one a line, or JSONL with a 'prompt' field.")
@click.option("--template", help="Made from the fields of the prompts file: 'Write about {topic}'.")
@click.option("--suffix", help="Fill in the middle between the prompt and this (code models that can).")
@options_of(GenerationOptions)
@click.option("-o", "extra", multiple=True, metavar="KEY=VALUE", help="An option of the backend's own.")
@click.option("--format", "form", type=click.Choice(["text", "json", "jsonl"]), default="text", show_default=True)
@click.option("--echo/--no-echo", default=True, show_default=True, help="Text format: the prompt before its text.")
@click.option("--output", help="Write to this file; it appears when it is complete.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option("--batch-size", type=click.IntRange(1), help="Most texts at once.")
@loading_options
@engine_options
def command(
    backend: str | None,
    model: str | None,
    prompt: tuple[str, ...],
    prompts_file: str | None,
    template: str | None,
    suffix: str | None,
    extra: tuple[str, ...],
    form: str,
    echo: bool,
    output: str | None,
    overwrite: bool,
    batch_size: int | None,
    **values: Any,
) -> None:
    """Generate texts from prompts.

    \b
    aigc-text generate --backend gpt2 --prompt "Once upon a time"
    aigc-text generate --backend code --prompt "def fibonacci(n):"
    aigc-text generate --prompts prompts.txt --format jsonl --output texts.jsonl
    """
    from ..api import load

    # Everything that can be wrong in the input is found before a model is loaded.
    prompts = _prompts(prompt, prompts_file, template)
    loading = given({name: values.pop(name) for name in (*LOADING, *ENGINE)})
    # … but whether texts without sampling would be one text: that depends on the backend.
    GenerationOptions.parse({name: value for name, value in given(values).items() if name != "do_sample"})
    wanted = {**given(values), **given({"suffix": suffix}), **key_values(extra)}
    with destination(output, overwrite) as stream:
        loaded = load(backend, model, **loading)
        options = loaded.resolve(None, wanted)
        if options.seed is None:
            options = loaded.resolve(options, {"seed": secrets.randbits(31)})
        more = {"batch_size": batch_size} if batch_size else {}
        pieces = loaded.pieces(prompts, options, **more)
        if output:
            pieces = _counted(pieces, len(prompts) * (options.num_return_sequences or 1))
        if form == "text":
            several = len(prompts) > 1 or (options.num_return_sequences or 1) > 1
            headed = several and not loaded.capabilities.sentences
            _write_texts(stream, pieces, prompts if echo and loaded.goes_on(options) else None, headed)
        else:
            _write_records(stream, pieces, form, loaded, options)


def _prompts(prompt: tuple[str, ...], file: str | None, template: str | None) -> list[str]:
    from ..prompts import fill, read_prompts

    if file is not None:
        if prompt:
            raise OptionError("--prompt and --prompts exclude each other", "Put all prompts into the file.")
        return list(read_prompts(file, template))
    found = list(prompt) or [_piped()]
    if template:
        found = [fill(template, {"prompt": p}, "the prompt") for p in found]
    for p in found:
        try:
            p.encode()
        except UnicodeEncodeError:
            raise OptionError(
                f"the prompt {visible(ascii(p)[:60])} is not UTF-8", "Put it into a UTF-8 file."
            ) from None
    return found


def _piped() -> str:
    """The prompt from a pipe; nothing from a terminal, for that is unconditional generation."""
    return "" if sys.stdin is None or sys.stdin.isatty() else standard_input().removesuffix("\n")


def _counted(pieces: Iterator[Piece], total: int) -> Iterator[Piece]:
    """Shows a bar on standard error while texts go to a file."""
    pieces = begun(pieces)
    with click.progressbar(length=total, file=sys.stderr, label="generating") as bar:
        for piece in pieces:
            yield piece
            if piece.completion is not None:
                bar.update(1)


def _write_texts(stream: TextIO, pieces: Iterator[Piece], prompts: list[str] | None, headed: bool) -> None:
    """One text after the other as they grow, under a heading each if asked for."""
    shown: tuple[int, int] | None = None
    for piece in pieces:
        place = (piece.prompt_index, piece.index)
        if place != shown:
            if headed:
                write(stream, f"{'' if shown is None else chr(10)}=== prompt {place[0] + 1}, text {place[1] + 1} ===\n")
            if prompts is not None:
                write(stream, prompts[piece.prompt_index])
            shown = place
        write(stream, piece.text)
        if piece.completion is not None:
            write(stream, "\n")
    if shown is not None and piece.completion is not None and piece.completion.seed is not None:
        notice(f"seed {piece.completion.seed}")


def _write_records(
    stream: TextIO, pieces: Iterator[Piece], form: str, backend: Backend, options: GenerationOptions
) -> None:
    effective = backend.effective(options)
    records = (_record(p.completion, backend, effective) for p in pieces if p.completion is not None)
    if form == "json":
        write(stream, json.dumps(list(records), ensure_ascii=False, indent=1) + "\n")
        return
    for record in records:
        write(stream, json.dumps(record, ensure_ascii=False) + "\n")


def _record(completion: Completion, backend: Backend, options: dict[str, Any]) -> dict[str, Any]:
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
        "tokens": completion.tokens,
        "seconds": round(completion.seconds, 3),
    }
