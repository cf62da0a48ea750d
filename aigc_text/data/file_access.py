"""Files opened and read line by line: what cannot be read is the user's error, and names the place."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from aigc_text.errors import DataError, nearest, shell

from . import file_signatures

BUFFER = 1 << 16  # bytes of a file that are read at once
LONGEST_LINE = 1 << 30  # bytes of one line, where a file does not say how large it is


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


def without_line(path: Path, number: int) -> str:
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
