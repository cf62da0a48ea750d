"""The folders of a run's checkpoints: which is the newest whole one, and which are removed.

What one holds is in `checkpoint_state`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from aigc_text.errors import DamagedError
from aigc_text.utils.sealed_dir import recover, verify


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
        recover(folder / leftover.name[1 : -len(".before")])
    for leftover in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
        shutil.rmtree(leftover, ignore_errors=True)
