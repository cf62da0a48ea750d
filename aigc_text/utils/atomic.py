"""Files that are written whole or not at all, and what the system says where there is no room."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from aigc_text.errors import TrainingError


@contextlib.contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Turns what the system or a library says of a full disk into the user's error.

    Args:
        path: what is written.
        needed: bytes of it at least; nothing is begun where there is not so much room.

    Raises:
        TrainingError: with the path, what is needed, and what is free.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if needed > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise no_room(path, needed, error.strerror or str(error)) from error
    except Exception as error:  # safetensors and torch have kinds of their own, and say it in words
        said = next((w for w in _FULL if w.lower() in str(error).lower()), None)
        if said is None:
            raise
        raise no_room(path, needed, said) from error


# What safetensors and torch say; the last two are what torch's zip writer comes to after its first error.
_FULL = (
    "No space left on device", "File too large", "Disk quota exceeded", "file write failed", "failed writing file",
    "unexpected pos", "iostream error",
)  # fmt: skip


def no_room(path: Path, needed: int, why: str) -> TrainingError:
    """The error of a folder or file that cannot be written."""
    with contextlib.suppress(OSError):
        why += f"; {_megabytes(shutil.disk_usage(path.parent).free)} are free"
    need = f", {_megabytes(needed)} are needed" if needed else ""
    return TrainingError(
        f"{path} cannot be written: {why}{need}",
        "Make room, then go on with --resume from the last checkpoint; what was saved before is whole.",
    )


def beside(path: Path) -> Path:
    """The place where a file or folder is made before it is renamed to `path`."""
    return path.with_name(f".{path.name}.tmp")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file that is there whole or not at all: the block writes the one that is yielded, which then becomes `path`.

    Raises:
        OSError: what writing raises; nothing is left beside `path` then, and what was there before is untouched.
    """
    temporary = beside(path)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file of a run, whole or not at all.

    Raises:
        TrainingError: there is no room, or it cannot be written for another reason.
    """
    with writing(path), whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def flush(path: Path) -> None:
    """Waits until a file or folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
