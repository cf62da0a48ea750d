"""`aigc-text data`: the small data sets that ship with the package."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from aigc_text.data import teaching
from aigc_text.errors import OptionError, shell

from .streams import destination
from .terminal import notice, write


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Small data sets that ship with the package: list them, and write them to files.

    Wherever data is read, teaching:NAME stands for one: aigc-text train --data teaching:captions …
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_all)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_all(as_json: bool) -> None:
    """List the data sets with their sizes and licenses."""
    catalog = teaching.catalog()
    if as_json:
        entries = [{**dataclasses.asdict(entry), "splits": _sizes(entry)} for entry in catalog.values()]
        write(sys.stdout, json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
        return
    rows = [("NAME", "TRAIN", "TEST", "LICENSE", "CONTENT")]
    rows += [(e.name, _size(e, "train"), _size(e, "test"), e.license, e.about) for e in catalog.values()]
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        write(sys.stdout, "  ".join([*cells, row[4]]) + "\n")


def _sizes(entry: teaching.DataSet) -> dict[str, dict[str, int]]:
    return {name: {"texts": split.texts, "bytes": split.size} for name, split in entry.splits.items()}


def _size(entry: teaching.DataSet, split: str) -> str:
    texts, size = entry.splits[split].texts, f"{entry.splits[split].size / 1e6:.2f} MB"
    return f"{texts:,} texts, {size}" if texts > 1 else f"1 text, {size}"


@command.command()
@click.argument("name", metavar="NAME[@SPLIT]")
@click.option("--output", help="The file to write, or - for standard output.  [default: NAME.txt or NAME.jsonl]")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def get(name: str, output: str | None, overwrite: bool) -> None:
    """Write a data set to a file: its training split, or NAME@test, which is held out.

    \b
    aigc-text data get captions
    aigc-text data get captions@test --output test.txt
    """
    split = teaching.find(name)
    content = split.read().decode()
    path = f"{split.title.replace('@', '-')}{split.suffix}" if output is None else output
    _refuse_other_ending(path, split)
    with destination(path, overwrite) as stream:
        write(stream, content)
    entry = teaching.catalog()[split.name]
    what = f"{split.texts:,} texts" if split.texts > 1 else "1 text"
    notice(f"{path}: {what}, {entry.about}\nLicense: {entry.license}. Source: {entry.source}.")


def _refuse_other_ending(path: str, split: teaching.Split) -> None:
    """A file's ending decides how it is read, so records are not written to what would be read as plain text."""
    from aigc_text.data.readers import JSON, TABULAR
    from aigc_text.utils.output_file import is_stream

    ending = path[path.rfind(".") :].lower() if "." in path else ""
    kind = "JSONL" if split.suffix == ".jsonl" else "plain text"
    wrong = ending not in JSON[:2] if split.suffix == ".jsonl" else ending in TABULAR
    if wrong and not is_stream(path):
        better = path.removesuffix(path[path.rfind(".") :] if ending else "") + split.suffix
        raise OptionError(
            f"{split.title} is {kind}, and {path!r} would not be read as {kind}",
            shell("Write --output {}", better),
        )
