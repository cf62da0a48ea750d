"""An exclusive lock on a file or a folder, which the system releases when its process ends."""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from pathlib import Path

from aigc_text.errors import TrainingError

TRIES = 100  # to lock a file or folder that its holder removes just then
_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class TakenError(TrainingError):
    """Another process holds the lock of a folder."""


class NoLocksError(OSError):
    """A file system without locks."""


class Lock:
    """An exclusive lock on a file of its own, until `release` or the end of the process.

    Args:
        file: the lock's file, which is created for it and removed with it.

    Raises:
        BlockingIOError: another process, or another `Lock` of this one, holds it.
        NoLocksError: the file system has no locks.
        OSError: the file cannot be created.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        for _ in range(TRIES):
            if self._take():
                _held.add(self)
                return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))

    def _take(self) -> bool:
        """False if the holder removed the file between its opening and its locking here."""
        import fcntl

        self._stream = self.file.open("a+")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(self._stream.fileno()), self.file.stat()):
                return True
        except FileNotFoundError:
            pass
        except BlockingIOError:
            self._stream.close()
            raise
        except OSError as error:
            self._stream.close()
            raise NoLocksError(error.errno, error.strerror) from None
        self._stream.close()
        return False

    def now(self) -> float:
        """The present time by the clock that dates the files here, which may be another machine's."""
        os.utime(self.file)
        return self.file.stat().st_mtime

    def release(self) -> None:
        """Lets go; the file is removed while it is still held, so that it cannot be somebody else's."""
        _held.discard(self)
        if not self._stream.closed:
            with contextlib.suppress(OSError):
                self.file.unlink()
            self._stream.close()


class FolderLock:
    """Holds a folder for one process, which creates it if need be; the system lets go when the process dies.

    Raises:
        TakenError: another process holds it.
        TrainingError: it cannot be created or locked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = self._locked()

    def _locked(self) -> Lock:
        for _ in range(TRIES):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                return Lock(self.folder / ".lock")
            except FileNotFoundError:
                continue  # the holder has just removed the empty folder
            except BlockingIOError:
                raise TakenError(
                    f"another run is writing to {self.folder}", "Wait for it, or choose another folder with --output."
                ) from None
            except NoLocksError as error:
                cause = f"{self.folder} cannot be locked: {error.strerror}"
                raise TrainingError(cause, "Choose an --output on another file system.") from None
            except OSError as error:
                cause = f"{self.folder} cannot be written: {error.strerror}"
                raise TrainingError(cause, "Choose another --output.") from None
        raise TrainingError(f"{self.folder} cannot be written: it cannot be created", "Choose another --output.")

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets go; a folder in which nothing came to be is removed."""
        self.lock.release()
        with contextlib.suppress(OSError):  # there is something in it
            self.folder.rmdir()


def remove_lock_files() -> None:
    """Removes the files of all locks that this process holds, for one that ends without unwinding."""
    for lock in list(_held):
        with contextlib.suppress(OSError):
            lock.file.unlink()
