"""The texts of a candidate: made, or taken from the cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aigc_text.errors import OptionError

from .results import file_name
from .text_data import LONGEST


def _make_samples(output: Path, labels: Sequence[str]) -> None:
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
