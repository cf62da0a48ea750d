"""Pictures of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from aigc_text.evaluation.results import COLUMNS, LOWER, Row
from aigc_text.utils import sealed_dir

from . import panels

MARKS = {"posterior collapse": "tab:red", "mode collapse": "tab:red", "rolled back": "tab:purple"}


def curves(metrics: Path, picture: Path) -> None:
    """Draws a run's `metrics.jsonl` over the updates: an axis for each unit, validation as points, failures marked."""
    series, unit = _series(metrics)
    drawn = panels.parts(series, unit)
    columns = 1 if len(drawn) < 4 else 2
    rows = max(1, -(-len(drawn) // columns))
    figure = blank(7 * columns, 2.6 * rows)
    places = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    marks = panels.marks(series)
    for axes, (part, found) in zip(places, drawn.items(), strict=False):
        _part(axes, part, found, marks)
    for axes in places[len(drawn) :]:
        axes.remove()
    for axes in places[max(0, len(drawn) - columns) : len(drawn)]:
        axes.set_xlabel("update")
    save(figure, picture)


def _part(axes: Any, part: panels.Part, found: dict[str, Any], marks: Sequence[panels.Mark]) -> None:
    for name, curve in found.items():
        steps, values = zip(*curve, strict=True)
        how = {"marker": "o", "markersize": 3} if name.startswith("eval_") else {"alpha": 0.6}
        axes.plot(steps, values, label=panels.label(name), linewidth=1, **how)
    for n, mark in enumerate(marks):
        told = mark.label not in {m.label for m in marks[:n]}
        style = {"color": MARKS[mark.label], "label": mark.label if told else None}
        if mark.begin < mark.end:
            axes.axvspan(mark.begin, mark.end, alpha=0.15, linewidth=0, **style)
        else:
            axes.axvline(mark.begin, linestyle="--", linewidth=1, **style)
    axes.set_title(part.title, fontsize=9)
    axes.set_ylabel(part.unit)
    if part.start is not None:
        axes.set_ylim(bottom=part.start)
    axes.tick_params(labelbottom=True)
    axes.grid(alpha=0.3)
    if len(found) > 1 or marks:
        axes.legend(frameon=False, fontsize=7)


def seeds(metrics: Sequence[Path], picture: Path) -> None:
    """Draws the validation loss of runs that differ in their seed: each run, their mean, one standard deviation."""
    import numpy as np

    runs = [tuple(zip(*series["eval_loss"], strict=True)) for m in metrics if "eval_loss" in (series := _series(m)[0])]
    figure = blank(7, 4)
    axes = figure.subplots()
    for steps, values in runs:
        axes.plot(steps, values, color="tab:blue", linewidth=0.7, alpha=0.5)
    common = sorted(set.intersection(*(set(steps) for steps, _ in runs))) if runs else []
    if len(runs) > 1 and common:
        table = np.array([[values[steps.index(s)] for s in common] for steps, values in runs])  # (runs, validations)
        mean, sd = table.mean(0), table.std(0, ddof=1)
        axes.plot(common, mean, "o-", color="tab:blue", markersize=3, label=f"mean of {len(runs)} seeds")
        axes.fill_between(common, mean - sd, mean + sd, alpha=0.25, linewidth=0, label="± standard deviation")
        axes.legend(frameon=False)
    axes.set_xlabel("update")
    axes.set_ylabel("validation loss, nats a token")
    axes.grid(alpha=0.3)
    save(figure, picture)


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


def blank(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Any:
    """An empty figure, sizes in inches. It is made without pyplot, whose state and backend are the caller's."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def save(figure: Any, picture: Path) -> None:
    """Writes a picture of the kind that its name ends with, whole or not at all."""
    with sealed_dir.whole(picture) as temporary:
        # Tight: a legend below axes of fixed proportions may reach out of the figure.
        figure.savefig(temporary, format=picture.suffix[1:].lower(), dpi=120, bbox_inches="tight")


def _series(metrics: Path) -> tuple[dict[str, list[tuple[float, float]]], str]:
    """Each figure as (update, value), and the unit of `loss` where it is recorded."""
    found: dict[str, list[tuple[float, float]]] = {}
    unit = ""
    for line in metrics.read_bytes().splitlines():
        record = json.loads(line)
        unit = record.get("loss_unit", unit)
        for name, value in record.items():
            if name != "step" and isinstance(value, (int, float)):
                found.setdefault(name, []).append((record["step"], value))
    return found, unit
