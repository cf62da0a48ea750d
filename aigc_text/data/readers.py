"""One file to its records, each with its place: plain text, JSONL and JSON; tables through `tables`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_text.errors import DataError

from .file_access import lines, without_line
from .tables import check_columns, read_csv, read_parquet

JSON = (".jsonl", ".ndjson", ".json")
TABULAR = (*JSON, ".csv", ".tsv", ".parquet")  # files of records; all others are plain text


def read_records(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields (place, record) of a tabular file, lazily; each record has the columns, whatever their values are.

    Args:
        path: its suffix decides how it is read.
        columns: those that are needed; of Parquet no others are read. If empty, records have all their columns.

    Raises:
        DataError: the file cannot be read, is broken, or has no such column, with the place (`file:line`).
    """
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        return read_csv(path, columns, "\t" if kind == ".tsv" else ",")
    if kind == ".parquet":
        return read_parquet(path, columns)
    return _with_columns(read_json(path) if kind == ".json" else read_jsonl(path), columns)


def _with_columns(
    records: Iterable[tuple[str, dict[str, Any]]], columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, record in records:
        check_columns(place, columns, record)
        yield place, record


def read_plain(path: Path, sample_by: str) -> Iterator[str]:
    """Yields the texts of a plain file: the whole `document`, or each `paragraph` or `line` as it is read."""
    return split_plain((line for _, line in lines(path)), sample_by)


def split_plain(rows: Iterable[str], sample_by: str) -> Iterator[str]:
    """The same of lines that each end with LF, CRLF or CR, which all become LF."""
    rows = (row.rstrip("\r\n") + "\n" if row.endswith(("\n", "\r")) else row for row in rows)
    if sample_by == "line":
        yield from (row.removesuffix("\n") for row in rows)
    elif sample_by == "paragraph":
        yield from _paragraphs(rows)
    else:
        yield "".join(rows)


def _paragraphs(rows: Iterable[str]) -> Iterator[str]:
    """What `split("\\n\\n")` makes of the joined lines, one piece at a time."""
    piece: list[str] = []
    for row in rows:
        if row == "\n" and piece and piece[-1].endswith("\n"):
            yield "".join(piece)[:-1]
            piece = []
        else:
            piece.append(row)
    yield "".join(piece)


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (`file:line`, record) of a JSONL file; blank lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    for number, line in lines(path):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
            if r"\u" in line:
                _refuse_half_characters(record)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} is not valid JSON: {error}", _without(path, number)) from None
        if not isinstance(record, dict):
            raise DataError(f"{place} is not a JSON object: {line.strip()[:60]}", 'Write {"text": "…"}.')
        yield place, record


def _without(path: Path, number: int) -> str:
    return f"Each line must be one JSON object. Without this one: {without_line(path, number)}"


def read_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (`file: record n`, record) of one JSON list of objects, which is read whole.

    Raises:
        DataError: the file cannot be read, or is not such a list.
    """
    cure = 'Write one list: [{"text": "…"}, …]. One object a line is JSONL: name such a file .jsonl.'
    whole = "".join(line for _, line in lines(path))
    if not whole.strip():
        return
    try:
        records = json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{getattr(error, 'lineno', 1)} is not valid JSON: {error}", cure) from None
    if not isinstance(records, list):
        raise DataError(f"{path} is no JSON list of objects", cure)
    for number, record in enumerate(records, 1):
        place = f"{path}: record {number}"
        if not isinstance(record, dict):
            raise DataError(f"{place} is not a JSON object: {json.dumps(record)[:60]}", cure)
        try:
            if r"\u" in whole:
                _refuse_half_characters(record)
        except UnicodeEncodeError as error:
            raise DataError(f"{place} is not valid JSON: {error}", cure) from None
        yield place, record


def _refuse_half_characters(record: Any) -> None:
    """An escape can name half a character, which no tokenizer and no file takes."""
    json.dumps(record, ensure_ascii=False).encode()
