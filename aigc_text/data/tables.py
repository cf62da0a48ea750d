"""CSV, TSV and Parquet files to their rows, and rows to a Parquet file."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_text.errors import DataError, UserError, nearest, one_line, shell

from .file_access import lines, reading, without_line

ROWS = 256  # of a Parquet file or a dataset that are in memory at once
LONGEST_FIELD = 1 << 28  # characters of one CSV field; an unclosed quote would else take in the rest of any file


def read_csv(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (`file:line` where it begins, record) of a CSV file with a header line; empty lines are passed over.

    Raises:
        DataError: the file cannot be read, a quote is not closed, or a row has not as many fields as the header.
    """
    rows = _csv_rows(path, delimiter)
    place, header = next(rows, ("", []))
    if not header:
        return
    check_columns(place, columns, header)
    columns = columns or header
    for column in columns:
        if header.count(column) > 1:
            raise DataError(f"{place} has {header.count(column)} columns {column!r}", "Rename all of them but one.")
    wanted = [(column, header.index(column)) for column in columns]
    for place, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{place} has {len(row)} field(s), the header {len(header)}",
                "Put a field that holds the separator or a line break in double quotes"
                + (
                    f". Without this line: {without_line(path, int(place.rpartition(':')[2]))}"
                    if _one_line(row)
                    else "."
                ),
            )
        yield place, {column: row[n] for column, n in wanted}


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.reader((line for _, line in lines(path)), delimiter=delimiter, strict=True)
    while True:
        first = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise _broken_csv(path, first, rows.line_num, str(error)) from None
        if row is None:
            return
        if row:
            yield f"{path}:{first}", row


def _broken_csv(path: Path, first: int, last: int, error: str) -> DataError:
    if error == "unexpected end of data":
        return DataError(
            f"{path}:{first} is not valid CSV: a quote opened in this row is never closed",
            'Close it; a quote inside a quoted field is written twice: "say ""yes""".',
        )
    return DataError(
        f"{path}:{last} is not valid CSV: {error}", 'A field with quotes is quoted whole: "say ""yes""", 1'
    )


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Yields (`file: row n`, record) of a Parquet file: the given columns alone, a few rows at a time.

    Raises:
        DataError: the file cannot be read, is broken, or a column is missing or holds no text.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with reading(path), pyarrow.OSFile(str(path)) as stream:
            # Page by page, not a whole row group at once, which may be the whole file.
            file = pyarrow.parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
            check_columns(str(path), columns, file.schema_arrow.names)
            check_types(str(path), columns, file.schema_arrow)
            columns = columns or file.schema_arrow.names
            number = 0
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=list(columns)):
                    for record in batch.select(list(columns)).to_pylist():
                        number += 1
                        yield f"{path}: row {number}", record
    except UserError:
        raise
    except Exception as error:  # pyarrow raises many kinds for broken files
        raise DataError(
            f"{path} is not a whole Parquet file: {one_line(str(error))[:150]}", "Make or download it again."
        ) from error


def write_parquet(path: Path, columns: Mapping[str, Any], about: Mapping[str, str]) -> None:
    """Writes a Parquet file.

    Args:
        path: of the file.
        columns: lists of text, or arrays (N, D), whose rows become lists of fixed length.
        about: kept as the file's metadata.
    """
    import pyarrow
    import pyarrow.parquet

    made = {}
    for name, values in columns.items():
        wide = getattr(values, "ndim", 1) == 2
        made[name] = (
            pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
            if wide
            else pyarrow.array(values)
        )
    pyarrow.parquet.write_table(pyarrow.table(made).replace_schema_metadata(dict(about)), path)


def check_types(place: str, columns: Sequence[str], schema: Any) -> None:
    """Refuses a column of an Arrow schema that is not text.

    Raises:
        DataError: naming the column's type.
    """
    for column in columns:
        kind = schema.field(column).type
        kind = getattr(kind, "value_type", kind) if str(kind).startswith("dictionary") else kind
        if str(kind) not in ("string", "large_string", "string_view"):
            raise DataError(
                f"{place}: column {column!r} is not text but {kind}",
                f"Choose a column of text. Columns found: {', '.join(schema.names[:20])}",
            )


def check_columns(place: str, columns: Sequence[str], found: Iterable[str], option: str = "--text-column") -> None:
    """Refuses a table or a record that lacks a column.

    Args:
        place: of the table or the record.
        columns: those that are needed.
        found: those that are there, or the record itself.
        option: chooses another, where one is needed.

    Raises:
        DataError: with the columns found and the nearest of them.
    """
    texts = [n for n, v in found.items() if isinstance(v, str)] if isinstance(found, Mapping) else list(found)
    found = list(found)
    for column in columns:
        if column not in found:
            names = ", ".join(found[:20]) + (", …" if len(found) > 20 else "")
            if len(columns) == 1:
                like = difflib.get_close_matches(column, texts, n=1, cutoff=0)
                how = f"Choose one, e.g. {option} " + shell("{}", like[0]) if like else "None holds text."
            else:
                how = "Choose two with --prompt-column and --completion-column."
            raise DataError(
                f"{place} has no column {column!r}.{nearest(column, found)}",
                f"Columns found: {names}. {how}",
            )


def text_of(place: str, record: Mapping[str, Any], name: str) -> str:
    """The text in a field of a record.

    Args:
        place: of the record, such as `file:line`.
        record: must have the field.
        name: of the field.

    Raises:
        DataError: the field holds something other than text, with its type and value.
    """
    value = record[name]
    if isinstance(value, str):
        return value
    written = json.dumps(value, ensure_ascii=False, default=repr)
    what = {bool: "", type(None): "", list: "the list ", dict: "the object "}.get(type(value), "the number ")
    hint = f'Put a text there: {{{json.dumps(name)}: "…"}}'
    if isinstance(value, (bool, int, float)) and len(written) < 40:
        hint = f'If that is the text, put it in quotes: {{{json.dumps(name)}: "{written}"}}'
    shown = written if len(written) < 40 else f"{written[:40]}…"
    raise DataError(f"{place}: column {name!r} is not text but {what}{shown}", hint)


def _one_line(row: Sequence[str]) -> bool:
    return not any("\n" in field or "\r" in field for field in row)
