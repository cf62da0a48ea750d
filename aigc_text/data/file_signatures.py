"""What a file is that is not UTF-8 text, as far as its first bytes show it, and the command that helps."""

from __future__ import annotations

from pathlib import Path

from aigc_text.errors import DataError, shell

#: First bytes, the program that made them, and the ending of its files.
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"BZh", "bzip2", ".bz2"),
    (b"\xfd7zXZ\x00", "xz", ".xz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"\x04\x22\x4d\x18", "lz4", ".lz4"),
)
_UNPACKED_BY = {"gzip": "gunzip -k", "bzip2": "bunzip2 -k", "xz": "unxz -k", "zstd": "unzstd", "lz4": "unlz4"}
_DOCUMENTS = (
    (b"%PDF-", "a PDF document"),
    (b"{\\rtf", "a document in RTF"),
    (b"\xd0\xcf\x11\xe0", "a document of Microsoft Office"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x7fELF", "a program"),
)
_EXPORT = "Export its texts as UTF-8: plain text, JSONL, CSV or Parquet."


def refuse(head: bytes, path: Path | None, new: Path) -> None:
    """Refuses what is known to be no UTF-8 text.

    Args:
        head: the first line, or the beginning of it.
        path: the file, or `None` for standard input.
        new: a free name for what a command makes of it.

    Raises:
        DataError: what it is, and the command that makes text of it.
    """
    if not head.startswith(_FIRST) and b"\0" not in head[:64]:
        return
    file = path if path is not None and path.is_file() else None  # a pipe cannot be read again by a command
    if found := _packed(head, file, new) or _encoded(head, file, new) or _other(head, file, new):
        what, hint = found
        raise DataError(f"{path or 'standard input'} is {what}, not UTF-8 text", hint)


def _packed(head: bytes, path: Path | None, new: Path) -> tuple[str, str] | None:
    for first, program, ending in _COMPRESSED:
        if head.startswith(first):
            if path is None:
                return f"compressed with {program}", f"Decompress it on the way: {program} -dc FILE | aigc-text …"
            if path.suffix.lower() == ending:
                return f"compressed with {program}", shell(f"Decompress it: {_UNPACKED_BY[program]} {{}}", path)
            return f"compressed with {program}", shell(f"Decompress it: {program} -dc {{}} > {{}}", path, new)
    return None


def _encoded(head: bytes, path: Path | None, new: Path) -> tuple[str, str] | None:
    """Text in UTF-16 or UTF-32, with a mark of its order or, if most of it is ASCII, without one."""
    name = next((name for first, name in _MARKS if head.startswith(first)), None)
    if name is None:
        name = _order(head)
    if name is None:
        return None
    if path is None:
        return f"text in {name}", f"Convert it on the way: iconv -f {name} -t UTF-8 FILE | aigc-text …"
    return f"text in {name}", shell("Convert it: iconv -f {} -t UTF-8 {} > {}", name, path, new)


def _order(head: bytes) -> str | None:
    """The kind of UTF-16 in which a line of ASCII has a zero for every second byte; its end is cut within a unit."""
    line = head.removesuffix(b"\n")[:64]
    even, odd = line[0::2], line[1::2]
    if len(line) >= 4 and all(even) and not any(odd) and len(even) == len(odd):
        return "UTF-16LE"
    return "UTF-16BE" if len(line) >= 4 and all(odd) and not any(even) else None


def _other(head: bytes, path: Path | None, new: Path) -> tuple[str, str] | None:
    if head.startswith(b"PK\x03\x04"):
        if any(mark in head for mark in (b"[Content_Types]", b"word/", b"xl/", b"mimetype")):
            return "a document (of Word, Excel, LibreOffice or the like)", _EXPORT
        return "a ZIP archive", shell("Unpack it: unzip {}", path) if path else "Unpack it first."
    if head.startswith(b"PAR1"):
        rename = shell("Rename it: mv -n {} {}", path, new.with_suffix(".parquet")) if path else _EXPORT
        return "a Parquet file", rename
    return next(((name, _EXPORT) for first, name in _DOCUMENTS if head.startswith(first)), None)


_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_FIRST = (
    *(first for first, *_ in (*_COMPRESSED, *_DOCUMENTS, *_MARKS)),
    b"PK\x03\x04",
    b"PAR1",
)
