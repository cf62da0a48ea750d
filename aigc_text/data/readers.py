"""One file to its records, each with its place: plain text, JSONL, JSON, CSV, TSV and Parquet."""

from __future__ import annotations

import contextlib
import csv
import difflib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from aigc_text.errors import DataError, UserError, nearest, one_line, shell

from . import file_signatures

JSON = (".jsonl", ".ndjson", ".json")
TABULAR = (*JSON, ".csv", ".tsv", ".parquet")  # files of records; all others are plain text
ROWS = 256  # of a Parquet file or a dataset that are in memory at once
BUFFER = 1 << 16  # bytes of a file that are read at once
LONGEST_LINE = 1 << 30  # bytes of one line, where a file does not say how large it is
LONGEST_FIELD = 1 << 28  # characters of one CSV field; an unclosed quote would else take in the rest of any file


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
    return f"Each line must be one JSON object. Without this one: {_deleted(path, number)}"


def _deleted(path: Path, number: int) -> str:
    """The command that leaves a line out."""
    new = unused(path.with_name(f"mended{path.suffix}"))
    with path.open("rb") as stream:
        returns = any(line.endswith(b"\r") for line in islice(_raw_lines(path, stream), number))
    if returns:
        return shell(r"tr '\r' '\n' < {} | sed {} > {}", path, f"{number}d", new)
    return shell("sed {} {} > {}", f"{number}d", path, new)


def unused(path: Path) -> Path:
    """The path, or one like it that is free, for what a hint's command writes: `data.txt`, `data-2.txt`."""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, 1000))
    return path if not os.path.lexists(path) else next((p for p in others if not os.path.lexists(p)), path)


def _one_line(row: Sequence[str]) -> bool:
    return not any("\n" in field or "\r" in field for field in row)


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
                + (f". Without this line: {_deleted(path, int(place.rpartition(':')[2]))}" if _one_line(row) else "."),
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


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, each with the LF, CRLF or CR that ends it; nothing else ends a line.

    They are read strictly as UTF-8, and a byte order mark at the start is dropped.
    """
    with reading(path), path.open("rb") as stream:
        for number, raw in enumerate(_raw_lines(path, stream), 1):
            if number == 1:
                file_signatures.refuse(raw, path, unused(path.with_name(f"utf8-{path.name}")))
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong = error.object[error.start]  # its own copy of the line, for it counts without the mark
                raise DataError(
                    f"{path}:{number} is not UTF-8: byte {wrong:#04x} at column {error.start + 1}",
                    f"Convert it, if this is what it is: {_conversion(path, raw)}",
                ) from None


def _raw_lines(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """Lines of bytes; of a stream that is read on, only the line that is not complete is held.

    Raises:
        DataError: a line of something that is no regular file has no end, as in /dev/zero.
    """
    held: list[bytes] = []
    about, length, number = os.fstat(stream.fileno()), 0, 0
    bounded = stat.S_ISREG(about.st_mode) and about.st_size <= LONGEST_LINE
    while part := stream.read(BUFFER):
        held.append(part)
        length += len(part)
        if b"\n" in part or b"\r" in part:
            *whole, rest = b"".join(held).splitlines(keepends=True)  # of bytes at LF, CRLF and CR alone
            held, length, number = [rest], len(rest), number + len(whole)  # the rest's CR may be followed by a LF
            yield from whole
        elif length > LONGEST_LINE and not bounded:
            cause = f"{path}:{number + 1} is longer than {LONGEST_LINE >> 20} MiB"
            raise DataError(cause, "Break the text into lines.")
    yield from b"".join(held).splitlines(keepends=True)


def text_lines(text: str) -> Iterator[str]:
    """The lines of a text, divided and ended as those of files."""
    return iter(re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text))


def _conversion(path: Path, line: bytes) -> str:
    """The command that converts a file, from the first common encoding in which a line of it makes sense."""
    new = unused(path.with_name(f"utf8-{path.name}"))
    for name in ("GB18030", "CP1252"):
        with contextlib.suppress(UnicodeDecodeError):
            line.decode(name)
            return shell("iconv -f {} -t UTF-8 {} > {}", name, path, new)
    return shell("iconv -f LATIN1 -t UTF-8 {} > {}", path, new)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the system says of a file into the user's error; refuses devices, which have no end."""
    if is_endless(path):
        raise DataError(f"{path} is a device, not a file of text", "Give a file, or a pipe such as /dev/stdin.")
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", siblings(path)) from None
    except OSError as error:
        if error.errno is None:  # not the system's, but a library's word on the content
            raise
        raise DataError(f"{path} cannot be read: {error.strerror}", "Give a file that you may read.") from None


def is_endless(path: Path | int) -> bool:
    """Whether a path or an open file is a device that is neither a terminal nor empty, such as `/dev/zero`."""
    try:
        about = os.stat(path)
        if not stat.S_ISCHR(about.st_mode) or about.st_rdev == os.stat(os.devnull).st_rdev:
            return stat.S_ISBLK(about.st_mode)
        with open(path, "rb", closefd=not isinstance(path, int), opener=_without_waiting) as stream:
            return not stream.isatty()
    except (OSError, ValueError):  # who opens it hears of that
        return False


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def siblings(path: Path) -> str:
    """The name in the same folder that is nearest, as a question; else where was looked."""
    return near(path).strip() or f"Looked in {path.parent.resolve()}."


def near(path: Path) -> str:
    """`" Did you mean 'train.txt'?"` for the nearest name in the same folder, or nothing."""
    try:
        return nearest(path.name, [p.name for p in path.parent.glob("*")])
    except OSError:  # too long to be a folder's name, or not to be read
        return ""
