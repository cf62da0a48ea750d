"""A folder that a hostile program has written into: how much is in it, and its removal."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import Any

PAGE = 4096  # bytes


def size(folder: str, most: int) -> tuple[int, bool]:
    """Bytes in a folder, and whether all was seen.

    What is there counts as a page at least, since names take room too. Beyond `most` nothing more is looked at; a
    folder that cannot be looked into, or lies too deep, is beyond it.
    """
    total, whole, folders = 0, True, [folder]
    while folders and total <= most:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    total += max(entry.stat(follow_symlinks=False).st_blocks * 512, PAGE)
                    if total > most:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):  # it went, or was moved, in between
            whole = False
        except OSError:
            total = most + 1
    return total, whole


def remove(folder: str) -> None:
    """Removes a folder with all that is in it, however deep it is and whatever rights its maker left.

    `shutil.rmtree` calls itself for each level, and cannot look into a folder without rights; so here what is in a
    folder of the folder moves up before that is removed.
    """
    with suppress(OSError):
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while entries := entries_of(root):
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        _empty(entry.name, root)
                        os.rmdir(entry.name, dir_fd=root)
                    else:
                        os.unlink(entry.name, dir_fd=root)
        finally:
            os.close(root)
        os.rmdir(folder)


def _empty(name: str, root: int) -> None:
    """Removes the files of a folder, and moves its folders to where it is itself."""
    os.chmod(name, 0o700, dir_fd=root)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    try:
        for entry in entries_of(folder):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.name, 0o700, dir_fd=folder)  # or it cannot be moved
                os.rename(entry.name, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=root)
            else:
                os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)


def entries_of(folder: str | int) -> list[Any]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
