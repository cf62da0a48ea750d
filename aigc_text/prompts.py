"""Prompts from files and templates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import DataError, nearest
from .formats import read_jsonl, read_plain

COLUMN = "prompt"


def read_prompts(path: str | Path, template: str | None = None) -> Iterator[str]:
    """Yields the prompts of a file: lines of text, or JSONL records.

    Args:
        path: `.jsonl` holds records with a `prompt`, or with the template's fields; of any other file each line
            that is not empty is a prompt.
        template: `Write about {topic}`: filled from a record's fields, or `{prompt}` from a line. `{{` is a brace.

    Raises:
        DataError: missing, empty, not UTF-8, broken JSON, a field that is not there (`file:line`).
    """
    path, found = Path(path), False
    for where, record in read_jsonl(path) if path.suffix in (".jsonl", ".ndjson") else _lines(path):
        found = True
        if template:
            yield fill(template, record, where)
        elif isinstance(record.get(COLUMN), str):
            yield record[COLUMN]
        else:
            raise DataError(
                f"{where} has no text field {COLUMN!r}.{nearest(COLUMN, record)}",
                f"Fields found: {', '.join(record)}. Use them: --template '{{{next(iter(record), 'topic')}}}'",
            )
    if not found:
        raise DataError(f"{path} holds no prompt", 'Write one a line; in JSONL an object a line: {"prompt": "…"}')


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((str(path), {COLUMN: line}) for line in read_plain(path, "line") if line.strip())


def fill(template: str, fields: Mapping[str, Any], where: str) -> str:
    """Puts fields into a template. Names only: nothing in a template can reach into a value.

    Raises:
        DataError: a field that is not there.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0][0]
        if name not in fields:
            raise DataError(
                f"{where} has no field {name!r} for the template.{nearest(name, fields)}",
                f"Fields found: {', '.join(fields)}",
            )
        return str(fields[name])

    return re.sub(r"\{\{|\}\}|\{(\w+)\}", value, template)
