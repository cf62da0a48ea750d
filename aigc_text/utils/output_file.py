"""What a command writes: claimed before anything is created or truncated, and complete or not there at all.

Of several commands that write to the same file or folder at once, one claims it and the others are refused, before
they import a model library or touch what is there. A claim is a lock on a hidden file that exists for nothing else:
`.NAME.lock` beside a file, `.lock` in a folder. The system releases it when the process ends, however it ends, and it
is removed with the claim; only a process that is killed outright leaves it behind, for the next claim to take over.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from aigc_text.errors import OptionError

from . import atomic
from .lock import Lock, NoLocksError, remove_lock_files

STANDARD = {"-": 1, "/dev/stdout": 1, "/dev/fd/1": 1, "/proc/self/fd/1": 1, "/dev/stderr": 2, "/dev/fd/2": 2}
TICK = 0.02  # seconds by which the start of a process and the time of a file may be off
ELSEWHERE = "Choose another {}."
#: What the system says where nothing more can be written.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_claimed: weakref.WeakSet[OutputFile] = weakref.WeakSet()
#: When the running command was started, in seconds since the epoch; `None` where the package is used as a library.
command_started: float | None = None


class OutputFile:
    """A file that this process alone may write, until it is left: a context manager.

    A link stands for the file that it leads to. Standard streams (`-`, `/dev/stdout`), devices and pipes are written to
    directly: there is nothing to lock, to replace or to complete.

    Args:
        name: the file, as the user gave it.
        overwrite: replace a file that is there, and what an interrupted command left of it.
        option: the option that named it, for messages.

    Raises:
        OptionError: another process is writing it, it is there already, or it cannot be written.
    """

    def __init__(self, name: str | Path, overwrite: bool = False, option: str = "--output") -> None:
        self.name, self.option, self.lock = Path(name), option, None
        self.folder = Path(os.path.abspath("."))  # a plugin may change the working folder meanwhile
        self.path = Path(os.path.realpath(name)) if os.path.islink(name) else self.name
        self.direct = is_stream(name)
        if self.direct:
            return
        self.lock = self._locked()
        try:
            refuse_existing(self.name, overwrite, option)
            refuse_existing(self.partial, overwrite, option)
            if overwrite:
                refuse_newer(self.path, self.lock, self.name)
        except BaseException:
            self.close()
            raise
        _claimed.add(self)

    @property
    def partial(self) -> Path:
        """Where the text is until it is complete."""
        return self.path.with_name(f"{self.path.name}.partial")

    def _locked(self) -> Lock | None:
        if not self.path.name or os.path.isdir(self.path):
            raise OptionError(f"{self.name} is a folder", f"Give a file's name with {self.option}.")
        return locked(self.folder / self.path, self.name, self.option, self.partial)

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the claim up."""
        _claimed.discard(self)
        if self.lock is not None:
            self.lock.release()

    def tidy(self) -> None:
        """Removes what was written if that is nothing; somebody else may have done so."""
        with contextlib.suppress(OSError):
            if not (self.folder / self.partial).stat().st_size:
                (self.folder / self.partial).unlink()

    @contextlib.contextmanager
    def text(self) -> Iterator[TextIO]:
        """A stream of UTF-8 into `partial`, which becomes the file at the end; an error leaves what was finished.

        Raises:
            OptionError: there is no room, or it cannot be written for another reason.
        """
        if self.direct:
            yield from self._direct()
            return
        with _told(self.partial, self.option):
            stream = _Stream(self.partial, self.option)
        try:
            yield stream
            stream.flush()
            with _told(self.partial, self.option):
                os.fsync(stream.fileno())
        except BaseException:
            with contextlib.suppress(OSError, OptionError):
                stream.close()
            self.tidy()
            raise
        stream.close()
        with _told(self.name, self.option):
            os.replace(self.folder / self.partial, self.folder / self.path)

    def _direct(self) -> Iterator[TextIO]:
        number = STANDARD.get(str(self.name))
        if number is not None:
            yield sys.stdout if number == 1 else sys.stderr
            return
        with _told(self.name, self.option):
            stream = _Stream(self.name, self.option)
        with stream:
            yield stream

    @contextlib.contextmanager
    def replaced(self) -> Iterator[Path]:
        """A path for writers that take one: what is written there becomes the file at the end, or leaves nothing.

        Yields:
            A path with the ending of the file's name; whatever fails within is taken for a failure to write.

        Raises:
            OptionError: there is no room, or it cannot be written for another reason.
        """
        near = None if self.direct else (self.folder / self.path).parent
        with (
            _told(self.name, self.option),
            tempfile.TemporaryDirectory(prefix=f".{self.path.name[:100]}.", suffix=".tmp", dir=near) as folder,
        ):
            temporary = Path(folder, self.path.name)
            yield temporary
            if self.direct:
                with temporary.open("rb") as source, self.path.open("wb") as target:
                    shutil.copyfileobj(source, target)
            else:
                atomic.flush(temporary)
                os.replace(temporary, self.folder / self.path)


class _Stream(io.TextIOWrapper):
    """A text file whose own failures are the user's errors; whatever else fails meanwhile is not taken for one."""

    def __init__(self, path: Path, option: str) -> None:
        # Not "wb": a pipe or a device is opened as it is, and a file is truncated only now that it is claimed.
        super().__init__(open(path, "wb"), encoding="utf-8", newline="\n")  # noqa: SIM115
        self._path, self._option = path, option

    def write(self, text: str, /) -> int:
        with _told(self._path, self._option):
            return super().write(text)

    def flush(self) -> None:
        with _told(self._path, self._option):
            super().flush()

    def close(self) -> None:
        with _told(self._path, self._option):
            super().close()


def is_stream(name: str | Path) -> bool:
    """Whether a name is that of a standard stream, a device or a pipe: what is neither created nor replaced."""
    if str(name) in STANDARD:
        return True
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def locked(path: Path, name: Path, option: str, told: Path) -> Lock | None:
    """The lock of a file; `None` where the system or the file system has none.

    Args:
        path: the file, links resolved.
        name: the same as the user gave it.
        option: the option that named it.
        told: the file that an error names if nothing can be created here.

    Raises:
        OptionError: another process holds it, or nothing can be created here.
    """
    try:
        return Lock(path.with_name(f".{path.name}.lock"))
    except BlockingIOError:
        cure = f"Wait for it, or choose another {option}."
        raise OptionError(f"another process is writing to {name}", cure) from None
    except (ImportError, NoLocksError):  # Windows, and some network file systems
        return None
    except OSError as error:
        raise OptionError(f"{told} cannot be written: {error.strerror}", ELSEWHERE.format(option)) from None


def refuse_existing(path: Path, overwrite: bool, option: str = "--output") -> None:
    """Refuses a file that is there already, unless it may be replaced.

    Raises:
        OptionError: it is there, or it is a folder.
    """
    if os.path.isdir(path):
        raise OptionError(f"{path} is a folder", f"Give a file's name with {option}.")
    if os.path.exists(path) and not overwrite:
        raise OptionError(f"{path} exists already", f"Choose another {option}, or replace it with --overwrite.")


def refuse_newer(path: Path, lock: Lock | None, name: Path) -> None:
    """Refuses to replace what another command finished after this one was started: nobody has agreed to lose that.

    Args:
        path: the file, links resolved.
        lock: held beside it.
        name: the file or folder as the user gave it.

    Raises:
        OptionError: it is newer than this command.
    """
    if command_started is None or lock is None:
        return
    try:
        age = lock.now() - path.stat().st_ctime
    except OSError:
        return
    if age < time.time() - command_started - TICK:
        cure = "Look at it first; the same command again replaces it."
        raise OptionError(f"{name} was written by another process after this command was started", cure)


def process_started() -> float:
    """When this process was started, in seconds since the epoch; now, where the system does not say."""
    now = time.time()
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as about:
            ticks = float(about.read().rpartition(")")[2].split()[19])
        return now - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return now


def abandon() -> None:
    """Removes the files of all locks, and empty partial files, for a process that ends without unwinding."""
    for file in list(_claimed):
        file.tidy()
    remove_lock_files()


@contextlib.contextmanager
def _told(path: Path, option: str) -> Iterator[Any]:
    """Within it what the system says is an error of writing this file."""
    try:
        yield
    except OSError as error:
        cure = ELSEWHERE.format(option)
        if error.errno in NO_ROOM:
            cure = f"Make room, or choose another {option}."
        raise OptionError(f"{path} cannot be written: {error.strerror or error}", cure) from error
