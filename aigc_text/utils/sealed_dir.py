"""Folders that are saved whole or not at all, and verified before they are used.

A folder is written beside its place, flushed to disk, given a manifest of SHA-256 sums and renamed into place, or
exchanged with the one that is there. Whatever kills the process leaves either the old state or the new one, and a byte
that changed later is noticed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from aigc_text.errors import DamagedError, TrainingError, one_line, shell

MANIFEST = "manifest.json"
UNSEALED = ("README.md", "metrics.jsonl", "curves.png")  # may change after the manifest is written


def save(path: Path, write: Callable[[Path], None]) -> None:
    """Makes the folder `path` from what `write(folder)` puts into it, or leaves nothing of it.

    A folder that is there already is replaced: at every moment the old one or the new one is at `path`. Only where the
    file system cannot exchange two folders is there a moment with neither; a process killed just then leaves the old
    one beside its place, and the next `save` or `sweep` puts it back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _recover(path)
    temporary = beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write(temporary)
        seal(temporary)
        _put(temporary, path)
        flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # the old folder, after an exchange


def _put(new: Path, path: Path) -> None:
    """Renames the folder `new` to `path`; one that is there comes to lie at `new`, or is removed."""
    if not path.exists():
        os.rename(new, path)
        return
    if _exchange(new, path):
        return
    try:
        os.rename(path, _aside(path))
        os.rename(new, path)
        flush(path.parent)
    finally:
        _recover(path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; false where the system or the file system cannot."""
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if not renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange):
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _aside(path: Path) -> Path:
    """The place where a folder lies while another is put in its place."""
    return path.with_name(f".{path.name}.before")


def _recover(path: Path) -> None:
    """Puts a folder back that was moved aside for another which did not come; or removes it if that one did."""
    aside = _aside(path)
    if not aside.exists():
        return
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(aside, path)


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


def seal(folder: Path) -> None:
    """Flushes every file of a folder to disk, gives all the same mode, and writes the manifest of their sums, last."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != MANIFEST)
    for f in files:
        flush(f)
    sums = {f.relative_to(folder).as_posix(): sha256(f) for f in files if f.name not in UNSEALED}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    usual = stat.S_IMODE(manifest.stat().st_mode)  # as the umask has it
    for f in files:
        if stat.S_IMODE(f.stat().st_mode) != usual:  # safetensors makes its files readable by their owner only
            f.chmod(usual)
    flush(manifest)
    flush(folder)


def verify(folder: Path, only: str | None = None) -> None:
    """Compares every file with the manifest, or `only` one if it is listed there.

    Raises:
        DamagedError: naming the first file that is missing, cannot be read, or differs, with both sums.
    """
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed = {str(k): str(v) for k, v in sums.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{folder / MANIFEST} cannot be read: {one_line(str(error))[:150]}", _cure(folder)) from None
    for name, expected in listed.items():
        f = folder / name
        if only not in (None, name):
            continue
        if not re.fullmatch("[0-9a-f]{64}", expected):
            what = f"{folder / MANIFEST} has no SHA-256 sum for {name[:100]!r}: {expected[:80]!r}"
            raise DamagedError(what, _cure(folder))
        if not name or "\0" in name or not _inside(folder, name):
            raise DamagedError(f"{folder / MANIFEST} names {name[:100]!r}, which is not in its folder", _cure(folder))
        if not os.path.isfile(f):
            raise DamagedError(f"{f} is missing, which {MANIFEST} lists", _cure(folder))
        try:
            found = sha256(f)
        except OSError as error:  # a disk that fails
            raise DamagedError(f"{f} cannot be read: {error.strerror}", _cure(folder)) from None
        if found != expected:
            what = f"{f} is damaged: SHA-256 is {found}, was {expected} when it was saved"
            raise DamagedError(what, _cure(folder))


def _inside(folder: Path, name: str) -> bool:
    return not os.path.isabs(name) and ".." not in Path(name).parts


def _cure(folder: Path) -> str:
    if not ((folder / "options.json").is_file() and (folder / "checkpoints").is_dir()):
        return "Restore the folder from a copy, or save, download or train it again."
    rebuild = "Rebuild it from its checkpoints: aigc-text train --config {} --output {} --resume"
    return shell(rebuild, folder / "options.json", folder)


def latest(folder: Path, notice: Callable[[str], None]) -> Path | None:
    """The newest whole `step-N` below `folder`; damaged ones are passed over and said so through `notice`."""
    for path in reversed(steps(folder)):
        try:
            verify(path)
        except DamagedError as error:
            notice(f"{error.message}; trying the checkpoint before it")
            continue
        return path
    return None


def steps(folder: Path) -> list[Path]:
    """The `step-N` folders, oldest first."""
    found = [(int(m[1]), p) for p in folder.glob("step-*") if (m := re.fullmatch(r"step-(\d+)", p.name))]
    return [p for _, p in sorted(found)]


def prune(folder: Path, keep: int, also: Path | None = None) -> None:
    """Removes all but the `keep` newest checkpoints and the one named by `also`."""
    for path in steps(folder)[:-keep]:
        if path != also:
            # Renamed first: a half-removed folder must not look like a checkpoint.
            doomed = path.with_name(f".{path.name}.old")
            os.rename(path, doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what a killed process left behind, unfinished and half-removed folders; puts back what it moved aside."""
    for leftover in folder.glob(".*.before"):
        _recover(folder / leftover.name[1 : -len(".before")])
    for leftover in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
        shutil.rmtree(leftover, ignore_errors=True)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(folder: Path) -> str:
    """A short hash of a model folder's weights, configuration and tokenizer; from the manifest if there is one."""
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        files = sorted(f for kind in ("*.safetensors", "*.json", "*.txt", "*.model") for f in folder.glob(kind))
        sums = {f.name: sha256(f) for f in files if f.is_file()}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:12]


def flush(path: Path) -> None:
    """Waits until a file or folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
