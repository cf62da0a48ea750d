"""`aigc-text copies`: what texts have copied from a file, and how much of it held-out texts share by chance."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from aigc_text.data.teaching import local
from aigc_text.errors import DataError, OptionError

from .parameters import asked_for, refuse_contradictions
from .streams import destination
from .terminal import notice, visible, write

LARGE = 5_000_000  # bytes of a source that take more than a second


@click.command()
@click.argument("texts_file", metavar="TEXTS")
@click.option("--source", required=True, help="The file that may have been copied: the training data.")
@click.option("--held-out", help="A file of the same kind that was not trained on: what is shared by chance.")
@click.option("--threshold", type=click.IntRange(0), default=20, show_default=True, help="Words; longer copies count.")
@click.option("--text-column", default="text", show_default=True, help="The text's field in records.")
@click.option(
    "--sample-by",
    type=click.Choice(["document", "paragraph", "line"]),
    default="document",
    show_default=True,
    help="What one text of a plain source is; a copy does not go beyond it.",
)
@click.option("--label", help="Whose texts they are.  [default: the file's name]")
@click.option("--show", type=click.IntRange(0), default=5, show_default=True, help="Longest copies to print.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--output", help="Write the figures and the texts that copied most to this JSON file.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
def command(
    texts_file: str,
    source: str,
    held_out: str | None,
    threshold: int,
    text_column: str,
    sample_by: str,
    label: str | None,
    show: int,
    form: str,
    output: str | None,
    overwrite: bool,
) -> None:
    """What texts have copied: the longest run of words of each that stands in a file, and where.

    TEXTS is a file of records, as generate writes them, or of a text a line.

    \b
    aigc-text copies texts.jsonl --source train.txt --held-out test.txt
    aigc-text copies texts.jsonl --source train.jsonl --output copies.json
    """
    from aigc_text.memorization import copies

    refuse_contradictions("copies")
    texts_file, source = str(local(texts_file)), str(local(source))
    held_out = None if held_out is None else str(local(held_out))
    for path in (texts_file, source, *([held_out] if held_out else [])):
        if os.path.isdir(path):
            raise OptionError(f"{path} is a folder", "Name a file.")
    with nullcontext() if output is None else destination(output, overwrite) as stream:
        _refuse_unused(texts_file, [source, *([held_out] if held_out else [])])
        texts, prompts = _texts(texts_file, text_column)
        others = None if held_out is None else _whole(held_out, text_column, sample_by)
        if os.path.isfile(source) and os.path.getsize(source) > LARGE:
            notice(f"Sorting the words of {source} …")
        report = copies.report(
            texts,
            copies.Source(source, text_column, sample_by),
            prompts=prompts,
            held_out=others,
            threshold=threshold,
            label=Path(texts_file).stem if label is None else label,
        )
        if held_out and report["held_out"] is None:
            notice(f"{held_out} holds no text as long as those of {texts_file}; nothing is compared.")
        if stream is not None:
            stream.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    write(sys.stdout, json.dumps(report, ensure_ascii=False) + "\n" if form == "json" else _table(report, show))


def _refuse_unused(texts_file: str, sources: list[str]) -> None:
    """Refuses a column or a division that none of the files has; the generated texts are never divided."""
    from aigc_text.data.sources import Source, refuse_unused

    asked = asked_for({})
    for name, files in (("text_column", [texts_file, *sources]), ("sample_by", sources)):
        there = [Path(file) for file in files if os.path.isfile(file)]  # a missing file is reported when it is read
        if name in asked and there:
            refuse_unused([Source(there)], {name: asked[name]})


def _texts(file: str, column: str) -> tuple[list[str], list[str]]:
    """The texts, and the prompt of each."""
    from aigc_text.data.readers import TABULAR, read_plain, read_records
    from aigc_text.data.tables import text_of

    path = Path(file)
    if path.suffix.lower() in TABULAR:
        found = [(text_of(place, r, column), r.get("prompt")) for place, r in read_records(path, [column])]
    else:
        found = [(line, None) for line in read_plain(path, "line") if line.strip()]
    if not found:
        raise DataError(f"{file} holds no text", "Make some: aigc-text generate --format jsonl --output FILE")
    return [text for text, _ in found], [p if isinstance(p, str) else "" for _, p in found]


def _whole(file: str, column: str, sample_by: str) -> list[str]:
    """The texts of a file, put together from their pieces."""
    from aigc_text.memorization.copies import pieces

    found: list[str] = []
    for _, text, new in pieces(Path(file), column, sample_by):
        if new or not found:
            found.append(text)
        else:
            found[-1] += text
    return found


def _table(report: dict[str, Any], show: int) -> str:
    threshold = report["threshold"]
    columns = ["texts", "mean", "median", "p95", "max", "share_over"]
    heading = ["texts", "mean", "median", "95 %", "longest", f"over {threshold}"]
    rows = [["longest copy, in words", *heading]]
    for name, found in ((report["label"], report["outputs"]), ("held-out text", report["held_out"])):
        if found is not None:
            rows.append([name, *(_number(found[c]) for c in columns[:-1]), f"{found['share_over']:.1%}"])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    for text in [t for t in report["texts"] if t["length"]][:show]:
        copied = " ".join(text["text"][text["start"] : text["end"]].split())
        shown = copied if len(copied) <= 200 else f"{copied[:120]} … {copied[-70:]}"
        lines += ["", f"{text['length']} words, {text['place']}:", f"  {shown}"]
    return "\n".join(map(visible, lines)) + "\n"


def _number(value: float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
