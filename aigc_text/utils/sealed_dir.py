"""Folders that are saved whole or not at all, and verified before they are used.

A folder is written beside its place, flushed to disk, given a manifest of SHA-256 sums and renamed into place, or
exchanged with the one that is there. Whatever kills the process leaves either the old state or the new one, and a byte
that changed later is noticed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from aigc_text.errors import DamagedError, one_line, shell

from .atomic import beside, flush

MANIFEST = "manifest.json"
UNSEALED = ("README.md", "metrics.jsonl", "curves.png")  # may change after the manifest is written


def save(path: Path, write: Callable[[Path], None]) -> None:
    """Makes the folder `path` from what `write(folder)` puts into it, or leaves nothing of it.

    A folder that is there already is replaced: at every moment the old one or the new one is at `path`. Only where the
    file system cannot exchange two folders is there a moment with neither; a process killed just then leaves the old
    one beside its place, and the next `save` or `sweep` puts it back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
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
        recover(path)


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


def recover(path: Path) -> None:
    """Puts a folder back that was moved aside for another which did not come; or removes it if that one did."""
    aside = _aside(path)
    if not aside.exists():
        return
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(aside, path)


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
