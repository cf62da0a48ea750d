"""Pictures of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import panels
from .figures import blank, save

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
