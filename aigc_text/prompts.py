"""Prompts from files and templates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    for where, record in read_jsonl(path) if path.suffix.lower() in (".jsonl", ".ndjson") else _lines(path):
        found = True
        if template is not None:
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
