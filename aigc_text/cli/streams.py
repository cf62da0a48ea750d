"""Where a command reads from and writes to."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TextIO

from aigc_text.errors import DataError
from aigc_text.utils.output_file import OutputFile

from .terminal import notice


def standard_input() -> str:
    """All of it.

    Raises:
        DataError: it is not UTF-8, or has no end.
    """
    from aigc_text.data import file_access, file_signatures

    endless = False
    with suppress(OSError, ValueError):  # it may be no file at all
        endless = file_access.is_endless(sys.stdin.fileno())
    if endless:
        raise DataError("standard input is a device, not text", "Give a file or a pipe.")
    raw = sys.stdin.buffer.read(file_access.LONGEST_LINE + 1)
    if len(raw) > file_access.LONGEST_LINE:
        raise DataError(f"standard input is longer than {file_access.LONGEST_LINE >> 20} MiB", "Give a file of texts.")
    file_signatures.refuse(raw[:4096], None, Path("text.txt"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not UTF-8 at byte {error.start + 1}", "Convert it with iconv.") from None


def waiting_input() -> bool:
    """Whether standard input holds something that can be read now: a file that is not at its end, or a full pipe."""
    try:
        number = sys.stdin.fileno()
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode):
            return os.lseek(number, 0, os.SEEK_CUR) < os.fstat(number).st_size
        if not stat.S_ISFIFO(mode):
            return False
        import fcntl
        import termios

        return any(fcntl.ioctl(number, termios.FIONREAD, bytes(4)))
    except (OSError, ValueError, ImportError, AttributeError):
        return False


@contextmanager
def destination(output: str | None, overwrite: bool) -> Iterator[TextIO]:
    """Standard output, or `FILE.partial` that becomes FILE at the end; claimed before anything else is done.

    Raises:
        OptionError: another process is writing it, it is there already, or it cannot be written.
    """
    with nullcontext() if output is None else OutputFile(output, overwrite) as file, stream_to(file) as stream:
        yield stream


def stream_to(file: OutputFile | None) -> AbstractContextManager[TextIO]:
    """Standard output, or the text of a file that is claimed."""
    return nullcontext(sys.stdout) if file is None else written(file)


@contextmanager
def written(file: OutputFile) -> Iterator[TextIO]:
    """The text of a file that is claimed; an error says where what was finished is.

    Raises:
        OptionError: it cannot be written.
    """
    try:
        with file.text() as stream:
            yield stream
    except BaseException:
        with suppress(OSError):
            if not file.direct and os.path.getsize(file.partial):
                notice(f"What was finished is in {file.partial}")
        raise
