"""Verbatim copies in generated texts, as a page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


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
        threshold: length, in `unit`, from which a copy is one.
        unit: what lengths count, such as `words`.
        outputs: figures of the texts: `texts`, `mean`, `median`, `p95`, `max`, `share_over`, and `histogram`, a list of
            (length of a text's longest copy, texts).
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
    texts = []
    for record in found["texts"]:
        copy = Copy(**{name: record[name] for name in Copy._fields})
        copy = copy._replace(label=str(copy.label or found["label"]), prompt=copy.prompt or "")
        if not (isinstance(copy.text, str) and 0 <= copy.start <= copy.end <= len(copy.text)):
            raise ValueError(f"a copy from {copy.start!r} to {copy.end!r} is not inside its text")
        texts.append(copy)
    for figures in filter(None, (found["outputs"], found["held_out"])):
        for name in ("texts", "mean", "median", "p95", "max", "share_over"):
            float(figures[name])
        [(float(length), float(count)) for length, count in figures["histogram"]]
    return Copies(
        label=label,
        source=str(found["source"]),
        threshold=int(found["threshold"]),
        unit=str(found["unit"]),
        outputs=found["outputs"],
        held_out=found["held_out"],
        texts=texts,
    )
