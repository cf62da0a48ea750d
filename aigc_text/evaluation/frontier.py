"""Quality against diversity: curves of a sweep, and which of them dominates (Caccia et al. 2020, arXiv:1811.02549)."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from .columns import COLUMNS, HIGHER, LOWER
from .results import Row


@dataclass(frozen=True)
class Curve:
    """The points of one label in order of their quality: (quality, diversity) and their standard errors.

    `points` hold the figures as they are in the table; `signs` make more of each better. An error that nobody knows is
    infinite. `samples` are the least and the greatest number of texts behind a point.
    """

    label: str
    points: Sequence[tuple[float, float]]
    errors: Sequence[tuple[float, float]]
    signs: tuple[int, int]
    samples: tuple[int, int] = (0, 0)

    def at(self, quality: float) -> float:
        """The diversity at a quality between the curve's ends, linear between its points."""
        places = [q for q, _ in self.points]
        if len(places) == 1:
            return self.points[0][1]
        right = min(max(bisect.bisect_left(places, quality), 1), len(places) - 1)
        (q0, d0), (q1, d1) = self.points[right - 1], self.points[right]
        return d1 if q1 == q0 else d0 + (d1 - d0) * (quality - q0) / (q1 - q0)

    def error(self) -> float:
        """The greatest standard error of its diversity."""
        return max((e for _, e in self.errors), default=0.0)


def curves(rows: Sequence[Row], quality: str, diversity: str) -> list[Curve]:
    """One curve a label, of the rows that have both figures."""
    signs = (1 if COLUMNS[quality].better != LOWER else -1, 1 if COLUMNS[diversity].better != LOWER else -1)
    found: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]] = {}
    counts: dict[str, list[int]] = {}
    for row in rows:
        pair = [row.values.get(c) for c in (quality, diversity)]
        if all(isinstance(v, (int, float)) for v in pair):
            errors = (row.errors.get(quality, math.inf), row.errors.get(diversity, math.inf))
            counts.setdefault(row.label, []).append(row.samples)
            found.setdefault(row.label, []).append(((float(pair[0]), float(pair[1])), errors))  # type: ignore[arg-type]
    return [
        Curve(
            label,
            [p for p, _ in sorted(points)],
            [e for _, e in sorted(points)],
            signs,
            (min(counts[label]), max(counts[label])),
        )
        for label, points in found.items()
    ]


@dataclass(frozen=True)
class Comparison:
    """Two curves over the qualities that both reach.

    Attributes:
        low: of these qualities the lowest.
        high: the highest; `low` again where one curve is a single point.
        least: the least advantage in diversity of the first curve; negative where the second is better.
        mean: the mean advantage.
        greatest: the greatest.
        error: standard error of an advantage, from the errors of both curves' points.
    """

    low: float
    high: float
    least: float
    mean: float
    greatest: float
    error: float


def compare(a: Curve, b: Curve) -> Comparison | None:
    """The advantage of `a` over `b` in diversity at equal quality; `None` if they reach no quality in common.

    Both curves are linear between their points, so the advantage is greatest and least at a point of either.
    """
    low = max(a.points[0][0], b.points[0][0])
    high = min(a.points[-1][0], b.points[-1][0])
    if low > high:
        return None
    places = sorted({low, high, *(q for q, _ in [*a.points, *b.points] if low <= q <= high)})
    gains = [a.signs[1] * (a.at(q) - b.at(q)) for q in places]
    area = sum((r - l) * (g + h) / 2 for l, r, g, h in zip(places, places[1:], gains, gains[1:]))  # noqa: B905, E741
    mean = area / (high - low) if high > low else gains[0]
    return Comparison(low, high, min(gains), mean, max(gains), math.hypot(a.error(), b.error()))


def findings(rows: Sequence[Row], quality: str, diversity: str) -> list[str]:
    """In sentences: of each two labels, which one is better at equal quality and by how much; and mode seeking."""
    if not rows:
        return []
    found = _over_real(rows, quality)
    for a, b in combinations(curves(rows[1:], quality, diversity), 2):
        least, most = min(a.samples[0], b.samples[0]), max(a.samples[1], b.samples[1])
        if not as_many(least, most):
            found.append(
                f"{a.label} and {b.label} are not compared: figures of {least:,} and of {most:,} texts differ by that "
                "alone."
            )
        elif len(a.points) == len(b.points) == 1:
            found += _of_points(a, b, quality, diversity)
        else:
            found.append(_of_curves(a, b, quality, diversity))
    return found


def _of_curves(a: Curve, b: Curve, quality: str, diversity: str) -> str:
    c = compare(a, b)
    if c is None:
        return f"{a.label} and {b.label} reach no {quality} in common: sweep further to compare them."
    if c.greatest < 0:
        a, b, c = b, a, Comparison(c.low, c.high, -c.greatest, -c.mean, -c.least, c.error)
    where = f"{quality} {c.low:.3f}" + (f" to {c.high:.3f}, which both reach" if c.high > c.low else "")
    if c.least <= 0:
        return (
            f"neither of {a.label} and {b.label} dominates at {where}: {a.label} is better in {diversity} by up to "
            f"{max(c.greatest, 0):.3f}, {b.label} by up to {max(-c.least, 0):.3f}."
        )
    by = f"{c.least:.3f} or more, {c.mean:.3f} on average" if c.high > c.low else f"{c.mean:.3f}"
    less = "lower" if a.signs[1] < 0 else "higher"
    if c.least > 2 * c.error:
        return f"{a.label} dominates {b.label} at {where}: its {diversity} is {less} by {by}."
    doubt = f"less than two standard errors ({c.error:.3f})" if math.isfinite(c.error) else "of unknown standard error"
    return (
        f"{a.label} and {b.label} cannot be told apart at {where}: the {diversity} of {a.label} is {less} by {by}, "
        f"{doubt}."
    )


def _of_points(a: Curve, b: Curve, quality: str, diversity: str) -> list[str]:
    """Of two single points one may be better in both."""
    gains = [s * (x - y) for s, x, y in zip(a.signs, a.points[0], b.points[0], strict=True)]
    if max(gains) < 0:
        a, b, gains = b, a, [-g for g in gains]
    if min(gains) <= 0:
        return [f"{a.label} and {b.label}: each is better in one of {quality} and {diversity}; use --sweep."]
    errors = [math.hypot(e, f) for e, f in zip(a.errors[0], b.errors[0], strict=True)]
    by = f"{quality} by {gains[0]:.3f}, {diversity} by {gains[1]:.3f}"
    if all(g > 2 * e for g, e in zip(gains, errors, strict=True)):
        return [f"{a.label} is better than {b.label} in both: {by}."]
    unknown = [name for name, e in zip((quality, diversity), errors, strict=True) if not math.isfinite(e)]
    doubt = f"{' and '.join(unknown)} without a standard error" if unknown else "not both by two standard errors"
    return [f"{a.label} and {b.label} cannot be told apart: {a.label} is ahead in {by}, {doubt}."]


def as_many(one: int, other: int) -> bool:
    """Whether figures of so many texts and of so many others can be compared: the numbers differ by 1 % at most."""
    return abs(one - other) <= 0.01 * max(one, other)


def _clearly_over(row: Row, real: Row, quality: str) -> bool:
    """Whether a row's figure is above that of as many real texts by more than two standard errors of the difference."""
    value, least = row.values.get(quality), real.values[quality]
    if not (isinstance(value, (int, float)) and isinstance(least, (int, float)) and as_many(row.samples, real.samples)):
        return False
    if quality not in row.errors or quality not in real.errors:
        return False
    return value - least > 2 * math.hypot(row.errors[quality], real.errors[quality])


def _over_real(rows: Sequence[Row], quality: str) -> list[str]:
    real = rows[0].values.get(quality)
    if not isinstance(real, (int, float)) or COLUMNS[quality].better != HIGHER:
        return []
    over = [row.name for row in rows[1:] if row.comparable and _clearly_over(row, rows[0], quality)]
    if not over:
        return []
    who = ", ".join(over[:3]) + (f" and {len(over) - 3} more" if len(over) > 3 else "")
    return [f"{quality} above that of the real data ({real:.3f}) is mode seeking, not quality: {who}."]
