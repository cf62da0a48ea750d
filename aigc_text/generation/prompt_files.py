"""Prompts from files and templates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aigc_text.data.readers import JSON, TABULAR, read_plain, read_records
from aigc_text.data.tables import check_columns, text_of
from aigc_text.errors import DataError, nearest

COLUMN = "prompt"


def read_prompts(path: str | Path, template: str | None = None, column: str | None = None) -> Iterator[str]:
    """Yields the prompts of a file: lines of text, or records.

    Args:
        path: JSONL, JSON, CSV, TSV or Parquet (by its suffix) holds records; of any other file each line that is not
            empty is a prompt.
        template: `Write about {topic}`: filled from a record's fields, or `{prompt}` from a line. `{{` is a brace.
        column: of records the field that is the prompt; by default `prompt`, or the only column of a table.

    Raises:
        DataError: missing, empty, not UTF-8, broken, a field that is missing or holds no text (`file:line`).
    """
    path, found = Path(path), False
    if column and path.suffix.lower() not in TABULAR:
        raise DataError(
            f"{path} is plain text and has no column {column!r}",
            f"Files with columns: {', '.join(TABULAR)}. Leave --prompt-column out, or rename it.",
        )
    json = path.suffix.lower() in JSON
    for where, record in read_records(path) if path.suffix.lower() in TABULAR else _lines(path):
        found = True
        only = next(iter(record)) if len(record) == 1 and not json else COLUMN
        yield _prompt(where, record, column or only) if template is None else fill(template, record, where)
    if not found:
        raise DataError(f"{path} holds no prompt", 'Write one a line; in JSONL an object a line: {"prompt": "…"}')


def _prompt(where: str, record: Mapping[str, Any], column: str) -> str:
    check_columns(where, [column], record, "--prompt-column")
    return text_of(where, record, column)


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
        return _as_text(where, fields, name)

    return re.sub(r"\{\{|\}\}|\{(\w+)\}", value, template)


def _as_text(where: str, fields: Mapping[str, Any], name: str) -> str:
    """A field as a template shows it: a number is written out, but null, a list or an object is nobody's prompt."""
    value = fields[name]
    return str(value) if isinstance(value, (int, float)) else text_of(where, fields, name)


class Prompts:
    """Prompts that are read twice and never held: first they are checked and counted, then texts are made of them.

    Args:
        read: gives them all, from the first on, each time it is called.

    Raises:
        DataError: whatever `read` finds wrong.
    """

    def __init__(self, read: Callable[[], Iterable[str]]) -> None:
        self.read, self.count, summed = read, 0, _Sum()
        for prompt in read():
            summed.add(prompt)
            self.count += 1
        self.digest = summed.digest()

    def __iter__(self) -> Iterator[str]:
        """Yields them again.

        Raises:
            DataError: they are not the same.
        """
        count, summed = 0, _Sum()
        for prompt in self.read():
            summed.add(prompt)
            count += 1
            if count > self.count:
                break
            yield prompt
        if (count, summed.digest()) != (self.count, self.digest):
            raise DataError(
                "the prompts have changed since they were counted",
                "Leave their file as it is until all texts are made; begin anew with --overwrite.",
            )


class _Sum:
    """A hash of all prompts and where each ends."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, prompt: str) -> None:
        data = prompt.encode()
        self._hash.update(len(data).to_bytes(8, "big"))
        self._hash.update(data)

    def digest(self) -> str:
        return self._hash.hexdigest()
