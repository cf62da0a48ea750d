"""Charts as inline SVG: lines, points, steps and a scatter, on linear or logarithmic axes.

Nothing is drawn in a colour of its own: a series has a class (`c0` to `c5`), and the page's style sheet gives it a
colour for a light and a dark background. Every series also has a marker and, from the seventh on, dashes, so that
colour is never the only thing that tells two apart. The markup is XML, for HTML as well as for a parser.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from .html import element, escaped
from .svg_labels import Box, labels

WIDTH, HEIGHT = 460, 300  # units of the drawing; it is scaled to the column's width
TOP, RIGHT, BOTTOM = 14, 16, 46
COLOURS = 6
FEW = 60  # points that have a marker and a title each
MARKER, STAR = 3.6, 8.0  # half the width of a marker
MOST, LEAST = 1e150, 1e-150  # so that quotients of values are numbers too
SAME = 1e-9  # values this near to each other, relatively, are one to a scale

Places = Sequence[tuple[float, float]]  # of points on the drawing


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis.

    Attributes:
        label: what it measures, with its unit.
        log: logarithmic; only positive values are drawn then.
        reverse: lower values to the right, or up.
        start: a value that the axis must reach, such as 0 for shares.
    """

    label: str
    log: bool = False
    reverse: bool = False
    start: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together.

    Attributes:
        label: for the legend.
        points: (x, y), in the order in which they are joined.
        colour: number of the series' colour, marker and dashes.
        form: `line`, `points` (joined, each with its marker), `steps` (a histogram's outline: y holds from its x to
            the next one) or `star` (points that are not joined).
        notes: a short text at each point, or none.
        errors: standard errors (of x, of y) of each point, or none.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    form: str = "line"
    notes: Sequence[str] = ()
    errors: Sequence[tuple[float, float]] = ()


class Band(NamedTuple):
    """A shaded stretch of the x axis: what it means, and its ends."""

    label: str
    begin: float
    end: float


@dataclass(frozen=True)
class Scale:
    """Values to places on the drawing.

    Attributes:
        low, high: the values at the axis' ends.
        begin, end: the places of these values.
        log: whether equal ratios are equal distances.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.begin + (self.end - self.begin) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        if self.log:
            return log_ticks(self.low, self.high)
        return [t for t in nice_ticks(self.low, self.high) if self.low <= t <= self.high]


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose [low, high], at most about `most` of them inside."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * m for m in (1, 2, 5, 10, 20) if (high - low) / (power * m) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high]; multiples of them where there are fewer than three, at last any round values."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
        found = [float(f"{d}e{e}") for e in exponents for d in digits if low <= float(f"{d}e{e}") <= high]
        if len(found) > 2:
            break
    if len(found) < 2:
        found = [t for t in nice_ticks(low, high) if low <= t <= high]
    every = math.ceil(len(found) / 7)
    return found[::every]


def number(value: float) -> str:
    """A figure as short as it can be read: 12k, 0.25, 1e-05."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.6g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.6g}k"
    return f"{value:.6g}".replace("-", "−", 1) if value < 0 else f"{value:.6g}"


def chart(title: str, series: Iterable[Series], x: Axis, y: Axis, caption: str = "", bands: Sequence[Band] = ()) -> str:
    """A figure: heading, drawing, legend, caption. Empty if no point can be drawn.

    Points that are not finite or beyond `MOST`, or not positive on a logarithmic axis, are left out; so are the notes
    that would cover something else.
    """
    drawn = [s for s in (_drawable(s, x, y) for s in series) if s.points]
    if not drawn:
        return ""
    down = _scale(drawn, 1, y, HEIGHT - BOTTOM, TOP)
    left = 30 + 7.5 * max((len(number(t)) for t in down.ticks()), default=1)
    across = _scale(drawn, 0, x, left, WIDTH - RIGHT)
    says = f"{title}: {y.label} by {x.label}, of {', '.join(s.label for s in drawn)}"
    places = [[(across.place(a), down.place(b)) for a, b in s.points] for s in drawn]
    body = [_grid(across, down, x, y, left), *(_band(band, across) for band in bands)]
    body += [_series(s, each, across, down) for s, each in zip(drawn, places, strict=True)]
    body += _notes(drawn, places)
    svg = element(
        "svg", *body, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=says, xmlns="http://www.w3.org/2000/svg"
    )
    entries = [(_swatch(s), s.label) for s in drawn]
    entries += _band_entries(bands)
    legend = element("ul", *(element("li", swatch, escaped(label)) for swatch, label in entries), class_="legend")
    below = element("p", escaped(caption)) if caption else ""
    return element("figure", element("figcaption", escaped(title)), svg, legend, below, class_="chart")


def _drawable(series: Series, x: Axis, y: Axis) -> Series:
    def fits(value: float, axis: Axis) -> bool:
        return math.isfinite(value) and (LEAST <= value <= MOST if axis.log else abs(value) <= MOST)

    kept = [n for n, (a, b) in enumerate(series.points) if fits(a, x) and fits(b, y)]
    return Series(
        label=series.label,
        points=[series.points[n] for n in kept],
        colour=series.colour,
        form=series.form,
        notes=[series.notes[n] for n in kept] if series.notes else (),
        errors=[series.errors[n] for n in kept] if series.errors else (),
    )


def _scale(series: Sequence[Series], part: int, axis: Axis, begin: float, end: float) -> Scale:
    values = [point[part] for s in series for point in s.points]
    if axis.start is not None:
        values.append(axis.start)
    low, high = min(values), max(values)
    if high - low <= SAME * max(abs(low), abs(high), LEAST):
        half = abs(low) / 2 if abs(low) > LEAST else 0.5
        least = low if axis.start is not None and axis.start <= low else low - half
        low, high = (low / 2, high * 2) if axis.log else (least, high + half)
    if axis.log:
        room = (high / low) ** 0.03
        low, high = low / room, high * room
    elif part == 1 or any(s.notes for s in series):  # a curve may touch the ends of its axis, but not the frame's top
        ticks = nice_ticks(low, high)
        low, high = ticks[0], ticks[-1]
    return Scale(high, low, begin, end, axis.log) if axis.reverse else Scale(low, high, begin, end, axis.log)


def _grid(across: Scale, down: Scale, x: Axis, y: Axis, left: float) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in _sorted_ticks(down):
        place = f"{down.place(tick):.1f}"
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right}" y1="{place}" y2="{place}"/>')
        parts.append(
            f'<text class="tick y" x="{left - 6:.1f}" y="{place}" dy="0.35em" text-anchor="end">{number(tick)}</text>'
        )
    for tick in _sorted_ticks(across):
        place = f"{across.place(tick):.1f}"
        parts.append(f'<line class="grid" y1="{TOP}" y2="{bottom}" x1="{place}" x2="{place}"/>')
        parts.append(f'<text class="tick x" x="{place}" y="{bottom + 17}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<path class="frame" d="M{left:.1f} {TOP}V{bottom}H{right}"/>')
    middle = (left + right) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escaped(x.label)}</text>')
    at = (TOP + bottom) / 2
    turned = f'transform="translate(13 {at:.1f}) rotate(-90)" text-anchor="middle"'
    parts.append(f'<text class="axis" {turned}>{escaped(y.label)}</text>')
    return "".join(parts)


def _band(band: Band, across: Scale) -> str:
    """A shaded stretch; a dashed line where it is a single value."""
    low, high = sorted((across.begin, across.end))
    begin, end = sorted(min(max(across.place(v), low), high) for v in (band.begin, band.end))
    bottom, where = HEIGHT - BOTTOM, number(band.begin)
    if band.begin == band.end:
        title = f"<title>{escaped(f'{band.label} at {where}')}</title>"
        return f'<path class="event" d="M{begin:.1f} {TOP}V{bottom}">{title}</path>'
    title = f"<title>{escaped(f'{band.label}: {where} to {number(band.end)}')}</title>"
    size = f'x="{begin:.1f}" y="{TOP}" width="{end - begin:.1f}" height="{bottom - TOP}"'
    return f'<rect class="band" {size}>{title}</rect>'


def _band_entries(bands: Sequence[Band]) -> Iterator[tuple[str, str]]:
    """Their swatches and labels in the legend, each label once."""
    for label in dict.fromkeys(band.label for band in bands):
        shaded = any(band.begin < band.end for band in bands if band.label == label)
        drawn = '<rect class="band" x="4" width="20" height="16"/>' if shaded else '<path class="event" d="M14 0V16"/>'
        yield f'<svg class="swatch" viewBox="0 0 28 16" aria-hidden="true">{drawn}</svg>', label


def _sorted_ticks(scale: Scale) -> list[float]:
    ends = sorted((scale.low, scale.high))
    return Scale(ends[0], ends[1], 0, 1, scale.log).ticks()


def _notes(series: Sequence[Series], places: Sequence[Places]) -> Iterator[str]:
    """The notes of each series, over all that is drawn: placed together, around the markers."""
    marks = [
        Box(a - r, b - r, a + r, b + r)
        for s, each in zip(series, places, strict=True)
        for r in [STAR if s.form == "star" else 1.4 * MARKER]
        for a, b in (each if _has_marks(s) else ())
    ]
    points = [place for each in places for place in each]
    texts = [n for s in series for n in s.notes or [""] * len(s.points)]
    found = iter(labels(points, texts, marks, Box(0, 0, WIDTH, HEIGHT - BOTTOM)))
    for s in series:
        own = [
            f'<text class="note" x="{n.x:.1f}" y="{n.y:.1f}" text-anchor="{n.anchor}">{escaped(n.text)}</text>'
            for n in islice(found, len(s.points))
            if n
        ]
        yield f'<g class="{classes(s)}">{"".join(own)}</g>' if own else ""


def _has_marks(series: Series) -> bool:
    return series.form in ("points", "star") or len(series.points) == 1


def _series(series: Series, places: Places, across: Scale, down: Scale) -> str:
    last = ", ".join(number(float(f"{v:.4g}")) for v in series.points[-1])
    parts = [f"<title>{escaped(series.label)}: {len(places)} points, the last at {last}</title>"]
    if series.form != "star" and len(places) > 1:
        path = _stairs(places) if series.form == "steps" else places
        parts.append(f'<polyline class="line" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in path)}"/>')
    parts += [_bars(p, e, across, down) for p, e in zip(series.points, series.errors)]  # noqa: B905
    if _has_marks(series):
        parts += [_mark(series, n, a, b, len(places) <= FEW) for n, (a, b) in enumerate(places)]
    return f'<g class="series {classes(series)}">{"".join(parts)}</g>'


def _mark(series: Series, n: int, a: float, b: float, titled: bool) -> str:
    """The marker of point n at its place, with its figures where the mouse rests."""
    shape = _star(a, b) if series.form == "star" else _marker(series.colour, a, b)
    title = ""
    if titled:
        told = ", ".join(number(float(f"{v:.4g}")) for v in series.points[n])
        note = f" at {series.notes[n]}" if series.notes and series.notes[n] else ""
        title = f"<title>{escaped(f'{series.label}{note}: {told}')}</title>"
    return f'<path class="mark" d="{shape}">{title}</path>'


def classes(series: Series) -> str:
    """What the style sheet knows a series by: its colour and its dashes; the real data have a colour of their own."""
    if series.form == "star":
        return "real"
    return f"c{series.colour % COLOURS} d{series.colour // COLOURS % 3}"


def _stairs(places: Places) -> list[tuple[float, float]]:
    found = [places[0]]
    for (_, before), (a, b) in zip(places, places[1:]):  # noqa: B905
        found += [(a, before), (a, b)]
    return found


def _bars(point: tuple[float, float], error: tuple[float, float], across: Scale, down: Scale) -> str:
    (a, b), (ea, eb) = point, error
    found = ""
    if ea and not across.log:
        found += f"M{across.place(a - ea):.1f} {down.place(b):.1f}H{across.place(a + ea):.1f}"
    if eb and not down.log:
        found += f"M{across.place(a):.1f} {down.place(b - eb):.1f}V{down.place(b + eb):.1f}"
    return f'<path class="error" d="{found}"/>' if found else ""


def _marker(colour: int, a: float, b: float, r: float = MARKER) -> str:
    """A circle, square, triangle, diamond, or triangle on its head."""
    corners = {
        1: [(-r, -r), (r, -r), (r, r), (-r, r)],
        2: [(0, -1.3 * r), (1.2 * r, r), (-1.2 * r, r)],
        3: [(0, -1.4 * r), (1.4 * r, 0), (0, 1.4 * r), (-1.4 * r, 0)],
        4: [(0, 1.3 * r), (1.2 * r, -r), (-1.2 * r, -r)],
        5: [(-r, -0.6 * r), (r, -0.6 * r), (r, 0.6 * r), (-r, 0.6 * r)],
    }.get(colour % COLOURS)
    if corners is None:
        return f"M{a - r:.1f} {b:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    return _closed(a, b, corners)


def _star(a: float, b: float, r: float = STAR) -> str:
    turns = [(r if n % 2 == 0 else 0.4 * r, math.pi * n / 5 - math.pi / 2) for n in range(10)]
    return _closed(a, b, [(length * math.cos(t), length * math.sin(t)) for length, t in turns])


def _closed(a: float, b: float, corners: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a + dx:.1f} {b + dy:.1f}" for dx, dy in corners) + "z"


def _swatch(series: Series) -> str:
    line = "" if series.form == "star" else '<line class="line" x1="0" x2="28" y1="8" y2="8"/>'
    mark = {"star": _star(14, 8, 7), "points": _marker(series.colour, 14, 8)}.get(series.form, "")
    drawn = f'<path class="mark" d="{mark}"/>' if mark else ""
    return f'<svg class="swatch {classes(series)}" viewBox="0 0 28 16" aria-hidden="true">{line}{drawn}</svg>'
