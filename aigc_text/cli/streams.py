"""Where a command reads from and writes to."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ..errors import DataError, OptionError
from .terminal import notice

#: What the system says when nothing more can be written.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def standard_input() -> str:
    """All of it.

    Raises:
        DataError: it is not UTF-8, or has no end.
    """
    from .. import formats, signatures

    endless = False
    with suppress(OSError, ValueError):  # it may be no file at all
        endless = formats.is_endless(sys.stdin.fileno())
    if endless:
        raise DataError("standard input is a device, not text", "Give a file or a pipe.")
    raw = sys.stdin.buffer.read(formats.LONGEST_LINE + 1)
    if len(raw) > formats.LONGEST_LINE:
        raise DataError(f"standard input is longer than {formats.LONGEST_LINE >> 20} MiB", "Give a file of texts.")
    signatures.refuse(raw[:4096], None, Path("text.txt"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not UTF-8 at byte {error.start + 1}", "Convert it with iconv.") from None


@contextmanager
def destination(output: str | None, overwrite: bool) -> Iterator[TextIO]:
    """Standard output, or `FILE.partial` that becomes FILE at the end.

    Raises:
        OptionError: either is there already, or cannot be written.
    """
    if output is None:
        yield sys.stdout
        return
    path, partial = Path(output), Path(f"{output}.partial")
    place = os.getcwd()  # a plugin may change it
    refuse_taken(path, overwrite)
    refuse_taken(partial, overwrite)
    try:
        stream = partial.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise OptionError(f"{partial} cannot be written: {error.strerror}", "Choose another --output.") from None
    try:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    except BaseException as error:
        with suppress(OSError):
            stream.close()
        with suppress(FileNotFoundError):  # somebody may have removed it
            if os.stat(os.path.join(place, partial)).st_size:
                notice(f"What was finished is in {partial}")
            else:
                os.unlink(os.path.join(place, partial))
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise OptionError(
                f"{partial} cannot be written: {error.strerror}", "Make room, or choose another --output."
            ) from error
        raise
    stream.close()
    try:
        os.replace(os.path.join(place, partial), os.path.join(place, path))
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}", "Choose another --output.") from None


def refuse_taken(path: Path, overwrite: bool, option: str = "--output") -> None:
    """Refuses a file that is there already, unless it may be replaced.

    Raises:
        OptionError: it is there, or it is a folder.
    """
    if os.path.isdir(path):
        raise OptionError(f"{path} is a folder", f"Give a file's name with {option}.")
    if os.path.exists(path) and not os.path.isfile(path):  # it would be replaced by a file
        raise OptionError(f"{path} is a device or a pipe, not a file", f"Leave {option} out and redirect the output.")
    if os.path.exists(path) and not overwrite:
        raise OptionError(f"{path} exists already", f"Choose another {option}, or replace it with --overwrite.")
