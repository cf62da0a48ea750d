"""Where the labels of a chart's points stand, so that none covers another one or a marker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

ADVANCE, RISE, DROP = 8.3, 10.5, 1.5  # of a figure in the largest type that the style sheet sets labels in, 13 units
SPACE = 2  # on both sides of a label, so that two beside each other are not read as one
GAP = 7  # between a point and its label
DISTANCES = (1, 2, 3, 4)  # a label is tried this many gaps away, the nearest first


class Box(NamedTuple):
    """A part of the drawing; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def within(self, other: Box) -> bool:
        across = self.left >= other.left and self.right <= other.right
        return across and self.top >= other.top and self.bottom <= other.bottom


class Label(NamedTuple):
    """A text, where its line begins, is centred or ends (`anchor`, as SVG has it), and what it covers."""

    text: str
    x: float
    y: float
    anchor: str
    box: Box


def labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], taken: Sequence[Box], frame: Box
) -> list[Label | None]:
    """A label beside each point; none where its text is empty, or where there is no room near the point.

    Args:
        points: (x, y) on the drawing.
        texts: of the points.
        taken: what no label may cover, such as markers.
        frame: what a label may not leave.
    """
    covered = list(taken)
    found: list[Label | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        free = (
            label
            for label in (_tried(x, y, text) if text else ())
            if label.box.within(frame) and not any(label.box.touches(other) for other in covered)
        )
        found.append(label := next(free, None))
        if label is not None:
            covered.append(label.box)
    return found


def _tried(x: float, y: float, text: str) -> Iterator[Label]:
    """The places for a label: above and below to the right and the left, beside, above, below; then farther off."""
    width, middle = ADVANCE * len(text), (RISE - DROP) / 2
    for times in DISTANCES:
        gap = GAP * times
        for dx, line in (
            (gap, y - gap), (gap, y + gap + RISE - 2), (-gap, y - gap), (-gap, y + gap + RISE - 2),
            (gap, y + middle), (-gap, y + middle), (0, y - gap - DROP), (0, y + gap + RISE),
        ):  # fmt: skip
            anchor = "start" if dx > 0 else "end" if dx < 0 else "middle"
            left = x + dx - {"start": 0, "middle": width / 2, "end": width}[anchor]
            yield Label(text, x + dx, line, anchor, Box(left - SPACE, line - RISE, left + width + SPACE, line + DROP))
