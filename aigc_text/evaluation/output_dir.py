"""The folder of an evaluation: claimed before any work, with a file of samples for each label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aigc_text.errors import OptionError
from aigc_text.utils.lock import FolderLock
from aigc_text.utils.output_file import is_stream, refuse_newer

from .results import file_name

LONGEST = 150  # bytes of a file's name that a label may take; of 255 the rest is for the point of a sweep


def make_samples(output: Path, labels: Sequence[str]) -> None:
    """Makes the folder of the samples, whose files are named after the labels.

    Raises:
        OptionError: two labels make the same name, one makes too long a name, or the folder cannot be made.
    """
    cure = "Name it: --compare small=runs/a large=runs/b"
    seen: dict[str, str] = {}
    for label in labels:
        name = file_name(label)
        if len(name.encode()) > LONGEST:
            raise OptionError(f"the label {label[:60]!r} … is too long for the file of its samples", cure)
        if name in seen:
            raise OptionError(f"the samples of {seen[name]!r} and of {label!r} would be one file, {name}.jsonl", cure)
        seen[name] = label
    try:
        (output / SAMPLES).mkdir(exist_ok=True)
    except OSError as error:
        cause = f"{output / SAMPLES} cannot be made: {error.strerror}"
        raise OptionError(cause, "Choose another --output.") from None


def _finished(report: Path) -> bool:
    """Whether a report is there that is not one cut off."""
    try:
        return bool(json.loads(report.read_text(encoding="utf-8"))["protocol"]["complete"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return True  # whatever it is, it is not ours to replace


SAMPLES = "samples"  # the folder of them in that of a report


def claim(output: str | Path | None, overwrite: bool) -> tuple[Path | None, FolderLock | None]:
    """The report's folder, made if need be, and the lock of it.

    Raises:
        OptionError: it holds a finished report, or cannot be written.
        TrainingError: another process is writing to it.
    """
    if output is None:
        return None, None
    if not str(output):
        raise OptionError("output is empty", "Name a folder, or leave it out.")
    if is_stream(output):
        raise OptionError(f"--output {output} is not a folder", "The report is a folder: --output report")
    path = Path(output).absolute()  # a plugin may change the working folder
    lock = FolderLock(path)
    report = path / "report.json"
    try:
        if overwrite:
            refuse_newer(report, lock.lock, path)
        elif _finished(report):
            cure = "Choose another --output, or replace it with --overwrite (samples are kept and used again)."
            raise OptionError(f"{path} holds a report already", cure)
    except BaseException:
        lock.__exit__()
        raise
    return path, lock
