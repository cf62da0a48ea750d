"""Quality against diversity as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aigc_text.plots.figures import blank, save

from .columns import COLUMNS, LOWER
from .results import Row


def frontier(rows: Sequence[Row], quality: str, diversity: str, picture: Path) -> None:
    """Draws quality (up) against diversity (to the right), better outwards: a curve a label, the real data a star.

    Args:
        rows: the real data first; of a sweep the point's value is written beside it.
    """
    figure = blank(7, 5)
    axes = figure.subplots()
    real = _points(rows[:1], quality, diversity)
    for label, color in zip(dict.fromkeys(row.label for row in rows[1:]), _colors(), strict=False):
        points = _points([row for row in rows[1:] if row.label == label], quality, diversity)
        if not points:
            continue
        points.sort(key=lambda p: p[3])
        xs, ys, errors, at = zip(*points, strict=True)
        axes.plot(xs, ys, "o-", label=_plain(label), color=color, markersize=4, linewidth=1.2)
        bars = ([e[0] for e in errors], [e[1] for e in errors])
        axes.errorbar(xs, ys, *bars, fmt="none", ecolor=color, elinewidth=0.6)
        for x, y, value in zip(xs, ys, at, strict=True):
            if value:
                axes.annotate(
                    f"{value[0]:g}", (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, color=color
                )
    if real:
        axes.plot(real[0][0], real[0][1], "*", color="black", markersize=13, label=_plain(rows[0].label))
    for name, set_label, invert in ((diversity, axes.set_xlabel, axes.invert_xaxis),) + (
        (quality, axes.set_ylabel, axes.invert_yaxis),
    ):
        lower = COLUMNS[name].better == LOWER
        set_label(f"{name} ({'lower' if lower else 'higher'} is better)")
        if lower:
            invert()
    swept = next((name for row in rows for name in row.at), None)
    axes.set_title(f"better is up and to the right{f'; numbers are {swept}' if swept else ''}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, picture)


def _points(rows: Sequence[Row], quality: str, diversity: str) -> list[tuple[float, float, tuple[float, float], tuple]]:
    """(diversity, quality, their standard errors, the sweep's value) of the rows that have both."""
    return [
        (
            float(row.values[diversity]),
            float(row.values[quality]),
            (row.errors.get(quality, 0.0), row.errors.get(diversity, 0.0)),
            tuple(row.at.values()),
        )
        for row in rows
        if quality in row.values and diversity in row.values
    ]


def _colors() -> list[str]:
    """Told apart by colour-blind readers too (Okabe and Ito 2008), repeated as often as need be."""
    return ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"] * 20


def _plain(label: str) -> str:
    """A label that matplotlib neither hides nor sets as a formula."""
    return label.lstrip("_").replace("$", r"\$")
