"""Verbatim copies in generated texts, as a page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST = 1 << 40  # words of a copy, or texts: no file has as many


class Copy(NamedTuple):
    """A text and the longest part of it that stands in the training text too: characters [start, end)."""

    label: str
    prompt: str
    text: str
    length: int
    start: int
    end: int
    place: str


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Verbatim copies in texts.

    Attributes:
        label: whose texts.
        source: what they were looked for in.
        threshold: length, in `unit`, that a copy must exceed to be counted and shown.
        unit: what lengths count, such as `words`.
        outputs: figures of the texts: `texts` (how many), and of the length of a text's longest copy `mean`, `median`,
            `p95`, `max`, `share_over` and `histogram`, texts by that length.
        held_out: the same of real texts that were not trained on, or nothing.
        texts: some of the texts.
    """

    label: str
    source: str
    threshold: int
    unit: str
    outputs: Mapping[str, Any]
    held_out: Mapping[str, Any] | None
    texts: Sequence[Copy]


def read_copies(found: Mapping[str, Any], label: str) -> Copies:
    """Copies from the content of their file.

    Raises:
        LookupError, TypeError, ValueError: the content is not of the form.
    """
    return Copies(
        label=label,
        source=str(found["source"]),
        threshold=int(found["threshold"]),
        unit=str(found["unit"]),
        outputs=_figures(found["outputs"]),
        held_out=None if found["held_out"] is None else _figures(found["held_out"]),
        texts=[_copy(record, str(found["label"])) for record in found["texts"]],
    )


def _copy(record: Mapping[str, Any], label: str) -> Copy:
    text, start, end = record["text"], int(record["start"]), int(record["end"])
    if not isinstance(text, str) or not 0 <= start <= end <= len(text):
        raise ValueError(f"a copy from {start} to {end} is not inside its text")
    prompt, place = record["prompt"] or "", record["place"]
    return Copy(str(record["label"] or label), str(prompt), text, int(record["length"]), start, end, str(place))


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {name: float(found[name]) for name in ("mean", "median", "p95", "share_over")}
    figures |= {name: int(found[name]) for name in ("texts", "max")}
    figures["histogram"] = {int(length): int(count) for length, count in found["histogram"]}
    if not all(0 <= n <= MOST for pair in figures["histogram"].items() for n in pair):
        raise ValueError("a length or a number of texts that cannot be")
    return figures
