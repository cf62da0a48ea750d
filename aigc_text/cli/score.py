"""`aigc-text score`: how likely texts are under a model, and where it is surprised."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from aigc_text.errors import DataError, OptionError
from aigc_text.utils.output_file import OutputFile

from .parameters import LOADING, asked_for, given, loading_options, refuse_contradictions
from .streams import standard_input, stream_to
from .terminal import bar, begun, notice, raw, visible, write

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.outputs import Score
    from aigc_text.scoring.surprisal import Block
    from aigc_text.scoring.totals import Total

PICTURES = (".png", ".svg", ".html")
LONG = 200_000  # characters: before scoring more, the command says how much there is to do
PICTURED = 200_000  # characters of a picture at most


@click.command()
@click.argument("file")
@click.option("--backend", help="Who scores; see: aigc-text backends.  [default: the model's own, else gpt2]")
@click.option("--model", help="A hub id or folder; by default the backend's own model.")
@click.option("--text-column", default="text", show_default=True, help="The text's column in JSONL, CSV, Parquet, ….")
@click.option(
    "--sample-by",
    type=click.Choice(["document", "paragraph", "line"]),
    help="What one text of a plain file is.  [default: document; line with vae and gan]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["color", "jsonl"]),
    help="Coloured texts or records.  [default: color in a terminal without NO_COLOR, else jsonl]",
)
@click.option("--tokens/--no-tokens", default=True, show_default=True, help="Records: every token with its figure.")
@click.option("--output", help="Write to this file; it appears when it is complete.")
@click.option("--picture", help="Draw the texts too, coloured by surprise: a file .png, .svg or .html.")
@click.option("--overwrite", is_flag=True, help="Replace these files if they exist.")
@click.option("--batch-size", type=click.IntRange(1), help="Most windows of text at once.")
@loading_options
def command(
    file: str,
    backend: str | None,
    model: str | None,
    text_column: str,
    sample_by: str | None,
    form: str | None,
    tokens: bool,
    output: str | None,
    picture: str | None,
    overwrite: bool,
    batch_size: int | None,
    **values: Any,
) -> None:
    """Score the texts of FILE: how likely is each, and each of its tokens?

    FILE is what train takes as --data: text, JSONL, CSV, Parquet, a folder, …; or - for plain text from standard input.

    \b
    aigc-text score tale.txt
    aigc-text score tales.jsonl --model runs/mine --output scores.jsonl
    aigc-text score tale.txt --picture tale.png
    """
    from aigc_text.api import find, load
    from aigc_text.backends.base import no_likelihood
    from aigc_text.scoring.totals import total

    # Everything that can be wrong in the input is found before a model is loaded.
    _check_picture(picture, output)
    if form is None:
        form = "color" if output is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "jsonl"
    refuse_contradictions("score", {"form": form})
    with ExitStack() as claims:
        target = None if output is None else claims.enter_context(OutputFile(output, overwrite))
        drawn = None if picture is None else claims.enter_context(OutputFile(picture, overwrite, "--picture"))
        name, cls, model = find(backend, model)
        if not cls.capabilities.likelihood:
            raise no_likelihood(name)
        texts, count, size = _texts(file, text_column, sample_by or cls.sample_by)
        if size > LONG:
            notice(f"To do: {count:,} text{'' if count == 1 else 's'} of {size:,} characters to score")
        loaded = load(name, model, **given({name: values[name] for name in LOADING}))
        scores = loaded.score(texts, **given({"batch_size": batch_size}))
        if target is not None:
            scores = _counted(scores, count)
        blocks: list[Block] = []
        if drawn is not None:
            scores = _kept(scores, blocks, loaded)
        show = _write_colours if form == "color" else _write_records
        with stream_to(target) as stream:
            found = total(show(stream, scores, loaded, tokens))
        if drawn is not None:
            _draw(blocks, f"{_source(loaded)}: {_figures(found)}", drawn)
    notice(f"{_source(loaded)}, {_counts(found)}: {_figures(found)} ({found.kind})")


def _texts(file: str, text_column: str, sample_by: str) -> tuple[Iterable[str], int, int]:
    """The texts, their number and total characters; reading them before the model is loaded reports mistakes early."""
    from aigc_text.data.file_access import text_lines
    from aigc_text.data.readers import split_plain
    from aigc_text.data.sources import Source, refuse_unused

    if file != "-":
        source: Any = Source(file, text_column=text_column, sample_by=sample_by)
        refuse_unused([source], asked_for({}))
        count = size = 0
        for text in source:
            count, size = count + 1, size + len(text)
        return source, count, size
    texts = [t for t in split_plain(text_lines(standard_input()), sample_by) if t.strip()]
    if not texts:
        raise DataError("standard input holds no text", "Pipe some into it, or give a file.")
    return texts, len(texts), sum(map(len, texts))


def _check_picture(picture: str | None, output: str | None) -> None:
    if picture is None:
        return
    path = Path(picture)
    if path.suffix.lower() not in PICTURES:
        raise OptionError(f"--picture {picture} is of no known kind", f"Allowed endings: {', '.join(PICTURES)}")
    if output is not None and os.path.realpath(picture) == os.path.realpath(output):
        raise OptionError(f"--picture and --output are both {picture}", "Give two names.")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"--picture {picture}: there is no folder {path.parent}", "Make it first, or choose another.")


def _counted(scores: Iterator[Score], total: int) -> Iterator[Score]:
    """Shows a bar on standard error while records go to a file."""
    scores = begun(scores)
    with bar(total, "scoring") as shown:
        for score in scores:
            yield score
            shown.update(1)


def _write_records(stream: TextIO, scores: Iterator[Score], backend: Backend, tokens: bool) -> Iterator[Score]:
    for score in scores:
        line = json.dumps(_record(score, backend, tokens), ensure_ascii=False)
        write(stream, line + "\n")
        yield score


def _record(score: Score, backend: Backend, tokens: bool) -> dict[str, Any]:
    from aigc_text.scoring.totals import perplexity

    size = score.utf8_bytes
    per_token = [
        {"text": score.text[t.start : t.end], "start": t.start, "end": t.end, "nll": round(t.nll, 6)}
        for t in score.per_token
    ]
    return {
        "text": score.text,
        "nll": score.nll,
        "tokens": score.tokens,
        "bits_per_byte": score.nll / math.log(2) / size if size else None,
        "perplexity": perplexity(score.nll, score.tokens),
        "kind": score.kind,
        **({} if score.nll_se is None else {"nll_se": score.nll_se}),
        "backend": backend.name,
        "model": backend.source,
        "revision": backend.revision,
        "precision": backend.precision,
        **({"per_token": per_token} if tokens else {}),
    }


def _write_colours(stream: TextIO, scores: Iterator[Score], backend: Backend, _: bool) -> Iterator[Score]:
    """Texts on coloured ground; what is between their tokens has none."""
    from aigc_text.scoring.surprisal import BREAK, TOP, pieces

    stream = raw(stream)  # whose colours are ours; all texts are made visible below
    steps = "".join(_painted("  ", TOP * n / 15) for n in range(16))
    for n, score in enumerate(scores, 1):
        _demand_tokens(score, backend)
        if n == 1:
            stream.write(f"0 {steps} {TOP:.0f} bits a token and more\n")
        stream.write(f"\n\x1b[2m{_heading(n, score)}\x1b[0m\n")
        for text, bits in pieces(score):
            parts = visible(text).replace("\n", f"{BREAK}\n").splitlines(keepends=True)
            for part in parts:
                line = part.removesuffix("\n")
                stream.write((line if bits is None else _painted(line, bits)) + part[len(line) :])
        stream.write("\n")
        stream.flush()
        yield score


def _painted(text: str, bits: float) -> str:
    """In the nearest of the 256 colours that every terminal has."""
    from aigc_text.scoring.surprisal import colour, is_dark

    rgb = colour(bits)
    levels = (0, 95, 135, 175, 215, 255)
    red, green, blue = (min(range(6), key=lambda n: abs(levels[n] - c)) for c in rgb)
    ink = 231 if is_dark(rgb) else 16
    return f"\x1b[38;5;{ink};48;5;{16 + 36 * red + 6 * green + blue}m{text}\x1b[0m"


def _kept(scores: Iterator[Score], blocks: list[Block], backend: Backend) -> Iterator[Score]:
    """Keeps the first texts for the picture."""
    from aigc_text.scoring.surprisal import Block, Piece, pieces

    size = 0
    for n, score in enumerate(scores, 1):
        _demand_tokens(score, backend)
        if size < PICTURED:
            parts = [Piece(visible(text), bits) for text, bits in pieces(score)]
            blocks.append(Block(_heading(n, score), parts))
            size += len(score.text)
        yield score


def _demand_tokens(score: Score, backend: Backend) -> None:
    if score.tokens and not score.per_token:
        raise OptionError(
            f"backend {backend.name!r} has figures for whole texts only, so there is nothing to colour",
            "Leave --picture out, and add --format jsonl.",
        )


def _draw(blocks: list[Block], caption: str, picture: OutputFile) -> None:
    from aigc_text.plots import surprisal as pictures
    from aigc_text.scoring import surprisal

    caption = visible(caption)
    with picture.replaced() as temporary:
        if temporary.suffix.lower() == ".html":
            temporary.write_text(surprisal.page(blocks, caption), encoding="utf-8")
        else:
            pictures.draw(blocks, caption, temporary)


def _source(backend: Backend) -> str:
    return Path(backend.source).name or backend.name


def _heading(n: int, score: Score) -> str:
    bits, size = score.nll / math.log(2), score.utf8_bytes
    rate = f", {bits / size:.3f} bits a byte" if size else ""
    return f"text {n}: {bits:.1f} bits{rate}"


def _counts(found: Total) -> str:
    words = (("text", found.texts), ("token", found.tokens), ("byte", found.utf8_bytes))
    return ", ".join(f"{n:,} {word}{'' if n == 1 else 's'}" for word, n in words)


def _figures(found: Total) -> str:
    figures = (
        ("{:.3f} bits a byte", found.bits_per_byte),
        ("perplexity {:.2f} a token", found.perplexity),
        ("{:.2f} a word", found.perplexity_per_word)
        if found.has_words
        else ("{:.2f} a character", found.perplexity_per_character),
    )
    return ", ".join(form.format(value) for form, value in figures if value is not None)
