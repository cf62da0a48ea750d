"""A page's sections of figures: curves of training, the frontier and the tables of evaluations, pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aigc_text.evaluation import frontier
from aigc_text.evaluation.columns import COLUMNS, LOWER
from aigc_text.evaluation.results import Report, Row, blocks, protocol
from aigc_text.plots import panels
from aigc_text.plots.panels import PARTS, Curve, Part, is_mark, words

from .html import bullets, element, escaped, paragraph, table
from .reading import Run
from .svg_chart import Axis, Band, Series, chart

THIN = 300  # points of a curve, at most
QUALITIES = (*(f"bleu-{n}" for n in (5, 4, 3, 2)), "mauve", "sacrebleu")
DIVERSITIES = (*(f"self-bleu-{n}" for n in (5, 4, 3, 2)), *(f"distinct-{n}" for n in (4, 3, 2, 1)), "uniqueness")
SAME = ("data", "references", "train", "samples", "tokenize", "sampling", "feature_model", "reference_model")


class Colours:
    """Colours by labels: as few as a chart needs, and a label keeps its own from chart to chart as far as that goes."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def among(self, labels: Iterable[str]) -> dict[str, int]:
        """A number of its own for each label of a chart."""
        labels = list(dict.fromkeys(labels))
        found: dict[str, int] = {}
        for label in sorted(labels, key=lambda label: label not in self._known):
            wanted = self._known.get(label)
            free = next(n for n in range(len(labels)) if n not in found.values())
            found[label] = free if wanted is None or wanted in found.values() else wanted
            self._known.setdefault(label, found[label])
        return found


# Training


def training(runs: Sequence[Run], colours: Colours) -> str:
    """Curves of all training runs, figure by figure, with what the runs differ in."""
    runs = [run for run in runs if run.curves]
    if not runs:
        return ""
    names = list(dict.fromkeys(name for run in runs for name in run.curves))
    numbers = colours.among(run.label for run in runs)
    parts = [panels.parts(run.curves, run.loss_unit) for run in runs]
    used = set().union(*parts)
    order = [p for p in PARTS if p in used] + sorted(used.difference(PARTS))
    main = [_part(part, runs, [each.get(part, {}) for each in parts], colours) for part in order]
    taken = {name for part in {*PARTS, *used} for name in part.names}
    rest = sorted((n for n in names if n not in taken and not is_mark(n)), key=lambda n: not n.startswith("eval_"))
    others = [
        _drawn(
            words(name),
            Axis(label=words(name)),
            [(run.label, name, run.curves.get(name, ()), numbers[run.label]) for run in runs],
        )
        for name in rest
    ]
    found = [_bests(runs), element("div", *main, class_="charts") if any(main) else ""]
    if "eval_loss" in names and len(runs) > 1:
        found.append(
            paragraph(
                "Losses per token compare runs of one tokenizer only. Bits per byte compare all runs over the same "
                "validation texts, unless words are unknown to a model.",
                "soft",
            )
        )
    if any(others):
        grid = element("div", *others, class_="charts")
        found.append(_folded(f"{len([o for o in others if o])} more figures", grid, opened=not any(main)))
    found.append(_options(runs))
    return "".join(found)


def _folded(summary: str, content: str, opened: bool = False) -> str:
    return element("details", element("summary", escaped(summary)), content, open="" if opened else None)


def _part(part: Part, runs: Sequence[Run], curves: Sequence[Mapping[str, Curve]], colours: Colours) -> str:
    """The chart of one unit: of each run its curves, with the stretches marked in which training had failed."""
    several = len(dict.fromkeys(panels.label(name) for found in curves for name in found)) > 1
    named = {
        (run.label, name): ": ".join([run.label] * (len(runs) > 1 or not several) + [panels.label(name)] * several)
        for run, found in zip(runs, curves, strict=True)
        for name in found
    }
    # One colour a run, if a line and its validation's points are all that there is to tell apart.
    alone = all(sum(n.startswith("eval_") == of for n in found) < 2 for found in curves for of in (True, False))
    numbers = colours.among(run for run, _ in named) if alone else colours.among(named.values())
    lines = [
        (named[run.label, name], name, curve, numbers[run.label if alone else named[run.label, name]])
        for run, found in zip(runs, curves, strict=True)
        for name, curve in found.items()
    ]
    bands = [band for run, found in zip(runs, curves, strict=True) for band in _bands(run, found, len(runs) > 1)]
    return _drawn(part.title, Axis(label=part.unit, start=part.start), lines, bands)


def _bands(run: Run, drawn: Mapping[str, Curve], named: bool) -> list[Band]:
    """Where the run had failed; nothing on a chart that it is not on."""
    marks = panels.marks(run.curves) if drawn else []
    return [Band(f"{run.label}: {mark.label}" if named else mark.label, mark.begin, mark.end) for mark in marks]


def _drawn(title: str, y: Axis, lines: Sequence[tuple[str, str, Curve, int]], bands: Sequence[Band] = ()) -> str:
    """A chart of (label, figure's name, curve, colour), thinned."""
    series, means = [], 1
    for text, name, curve, colour in lines:
        points, each = thinned(curve)
        means = max(means, each)
        form = "points" if name.startswith("eval_") and len(points) <= 60 else "line"
        series.append(Series(label=text, points=points, colour=colour, form=form))
    values = [y for s in series for _, y in s.points]
    only = all(name.startswith("eval_") for _, name, _, _ in lines)
    log = bool(values) and not only and min(values) > 0 and max(values) > 20 * min(values)
    caption = f"Each point is the mean of up to {means} updates." if means > 1 else ""
    return chart(title, series, Axis(label="update"), replace(y, log=log), caption, bands)


def thinned(points: Sequence[tuple[float, float]], most: int = THIN) -> tuple[list[tuple[float, float]], int]:
    """At most `most` points, each the mean of as many neighbours; and of how many."""
    each = -(-len(points) // most) or 1
    parts = [points[n : n + each] for n in range(0, len(points), each)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts], each


def _bests(runs: Sequence[Run]) -> str:
    heading = ["run", "backend", "updates", "lowest validation loss", "at update", "bits per byte there"]
    rows: list[Sequence[object]] = [heading]
    for run in runs:
        losses = run.curves.get("eval_loss", ())
        step, best = min(losses, key=lambda p: p[1]) if losses else (None, None)
        bits = dict(run.curves.get("eval_bits_per_byte", ())).get(step) if step is not None else None
        last = max(points[-1][0] for points in run.curves.values())
        shown = ["–" if v is None else f"{v:.4f}" for v in (best, bits)]
        at = "–" if step is None else f"{step:g}"
        rows.append([run.label, run.options.get("backend") or "–", f"{last:g}", shown[0], at, shown[1]])
    return table(rows, class_="wide stacked")


def _options(runs: Sequence[Run]) -> str:
    """Of several runs the options in which they differ; of one all that were given."""
    runs = [run for run in runs if run.options]
    names = sorted({name for run in runs for name in run.options})
    if len(runs) > 1:
        names = [n for n in names if len({_value(run.options.get(n)) for run in runs}) > 1]
    rows = [[n, *(_value(run.options.get(n)) for run in runs)] for n in names]
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    if not rows:
        return ""
    title = "What the runs were started with differently" if len(runs) > 1 else "What the run was started with"
    return _folded(title, table([["option", *(run.label for run in runs)], *rows]))


def _value(value: Any) -> str:
    if value is None or value in ("", []):
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# Evaluation


def evaluation(runs: Sequence[Run], colours: Colours) -> str:
    """The frontier and the tables; evaluations that measured alike share them."""
    return "".join(_evaluated(report, names, colours) for names, report in merged(runs))


def merged(runs: Sequence[Run]) -> list[tuple[list[str], Report]]:
    """Reports that were measured in one way as one, with the labels of their runs.

    A label that two of them use gets its run's before it.
    """
    groups: dict[str, list[tuple[Run, Report]]] = {}
    for run in runs:
        if run.report is not None:
            alike = repr([run.report.protocol.get(name) for name in SAME])
            groups.setdefault(alike, []).append((run, run.report))
    found = []
    for members in groups.values():
        names, first = [run.label for run, _ in members], members[0][1]
        if len(members) > 1:
            rows = [*first.rows[:1], *_relabelled(members)]
            both = axes(first)
            first = replace(first, rows=rows, findings=frontier.findings(rows, *both) if both else [])
        found.append((names, first))
    return found


def _relabelled(members: Sequence[tuple[Run, Report]]) -> list[Row]:
    labels = [label for _, report in members for label in {row.label for row in report.rows[1:]}]
    return [
        replace(row, label=f"{run.label}: {row.label}") if labels.count(row.label) > 1 else row
        for run, report in members
        for row in report.rows[1:]
    ]


def axes(report: Report) -> tuple[str, str] | None:
    """The figures of quality and diversity: those that the evaluation was asked for, else the first that are there."""
    asked = [str(report.protocol.get(name)) for name in ("quality", "diversity")]
    both = []
    for name, known in zip(asked, (QUALITIES, DIVERSITIES), strict=True):
        there = {c for row in report.rows[1:] for c, value in row.values.items() if c in COLUMNS and _is_number(value)}
        both.append(next((c for c in (name, *known) if c in there), None))
    return (both[0], both[1]) if both[0] and both[1] else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def _evaluated(report: Report, names: Sequence[str], colours: Colours) -> str:
    tables = []
    for block in blocks(report):
        heading, *rows = block
        tables.append(table([["", *heading[1:]], *rows], heading[0]))
    return "".join(
        [
            element("h3", escaped(", ".join(names))),
            element("div", _frontier(report, colours), bullets(report.findings), class_="charts"),
            *tables,
            bullets([*report.notes(), protocol(report)]),
        ]
    )


def _frontier(report: Report, colours: Colours) -> str:
    both = axes(report)
    if both is None:
        return ""
    quality, diversity = both
    series = []
    for label, colour in colours.among(row.label for row in report.rows[1:]).items():
        rows = [row for row in report.rows[1:] if row.label == label]
        series.append(_points(rows, quality, diversity, label, colour))
    series.append(_points(report.rows[:1], quality, diversity, report.rows[0].label, 0, "star"))
    swept = dict.fromkeys(name for row in report.rows for name in row.at)
    caption = "Better is up and to the right; bars are standard errors."
    if swept:
        caption += f" Figures at the points are {', '.join(swept)}."
    x, y = (Axis(label=_direction(name), reverse=COLUMNS[name].better == LOWER) for name in (diversity, quality))
    return chart("Quality against diversity", series, x, y, caption)


def _direction(name: str) -> str:
    return f"{name} ({'lower' if COLUMNS[name].better == LOWER else 'higher'} is better)"


def _points(rows: Sequence[Row], quality: str, diversity: str, label: str, colour: int, form: str = "points") -> Series:
    both = [row for row in rows if _is_number(row.values.get(quality)) and _is_number(row.values.get(diversity))]
    both.sort(key=lambda row: tuple(map(float, row.at.values())))
    return Series(
        label=label,
        points=[(float(row.values[diversity]), float(row.values[quality])) for row in both],
        colour=colour,
        form=form,
        notes=[" ".join(f"{v:g}" for v in row.at.values()) for row in both],
        errors=[(row.errors.get(diversity, 0.0), row.errors.get(quality, 0.0)) for row in both],
    )


# Pictures


def pictures(runs: Sequence[Run]) -> str:
    """Pictures as they are, inside the page."""
    found = []
    for run in runs:
        for picture in run.pictures:
            name = f"{run.label}: {picture.name}"
            source = f"data:{picture.kind};base64,{base64.b64encode(picture.content).decode()}"
            image = f'<img src="{source}" alt="{escaped(name)}">'
            found.append(element("figure", element("figcaption", escaped(name)), image, class_="picture"))
    return "".join(found)
