"""Results of an evaluation: rows of figures, and how they are written for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigc_text.errors import DataError
from aigc_text.utils import atomic

from .columns import COLUMNS

FORMS = ("table", "markdown", "csv", "json")


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one set of texts.

    Attributes:
        label: whose texts they are.
        at: the option that a sweep varied and its value, or empty.
        samples: how many texts.
        values: figure by column.
        errors: standard errors over the texts, where a figure is a mean over them.
        missing: why a column has no figure.
        notes: what the reader should know of these texts.
        about: backend, model and effective options, for records.
        comparable: whether the real data's figures measure the same thing: not so where each text has a reference of
            its own, or where texts are taken from the references.
    """

    label: str
    at: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 0
    values: Mapping[str, float | str] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    comparable: bool = True

    @property
    def name(self) -> str:
        """The label, with the point of the sweep."""
        return " ".join([self.label, *(f"{k}={v:g}" for k, v in self.at.items())])


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an evaluation found.

    Attributes:
        protocol: how it was measured: data, numbers of texts, tokens, models, versions.
        rows: the real data first.
        findings: what the curves or the rows come to, in sentences.
    """

    protocol: Mapping[str, Any]
    rows: Sequence[Row]
    findings: Sequence[str] = ()

    def columns(self) -> list[str]:
        """Those that any row has a figure for, or a reason to have none."""
        return [c for c in COLUMNS if any(c in row.values or c in row.missing for row in self.rows)]

    def notes(self) -> list[str]:
        """One line a reason for `n/a` and a note, with the rows that it concerns."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            reasons: dict[str, list[str]] = {}
            for column, why in row.missing.items():
                reasons.setdefault(why, []).append(column)
            for why, columns in reasons.items():
                found.setdefault(f"n/a in {_span(columns)}: {why}", []).append(row.name)
            for note in row.notes:
                found.setdefault(note, []).append(row.name)
        return [f"{_rows(names, len(self.rows))}: {note}" for note, names in found.items()]

    @classmethod
    def read(cls, file: Path) -> Report:
        """A `report.json` as `write` left it.

        Raises:
            DataError: it cannot be read, or is not a report.
        """
        cure = "Name a folder that aigc-text evaluate --output wrote."
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            report = cls(
                protocol=found["protocol"],
                rows=[_read_row(row) for row in found["rows"]],
                findings=[str(f) for f in found["findings"]],
            )
            report.rows[0], report.text()  # what is missing or of another kind shows when it is written out
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}", cure) from None
        except (ArithmeticError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{file} is not the report of an evaluation: {error!r}", cure) from None
        return report

    def text(self, form: str = "table") -> str:
        """As a `table` for a terminal, `markdown`, `csv` or `json`."""
        return {"table": _table, "markdown": _markdown, "csv": _csv, "json": _json}[form](self)

    def write(self, folder: Path) -> None:
        """Writes `report.json`, `table.md` and `table.csv`; each appears when it is complete, the first one last."""
        for name, form in (("table.md", "markdown"), ("table.csv", "csv"), ("report.json", "json")):
            with atomic.whole(folder / name) as temporary:
                temporary.write_text(self.text(form), encoding="utf-8", newline="")


def _read_row(found: Mapping[str, Any]) -> Row:
    return Row(
        label=str(found["label"]),
        at={str(name): float(value) for name, value in found["at"].items()},
        samples=int(found["samples"]),
        values={name: v if isinstance(v, str) else float(v) for name, v in found["values"].items()},
        errors={name: float(value) for name, value in found["errors"].items()},
        missing={name: str(why) for name, why in found["missing"].items()},
        notes=[str(note) for note in found["notes"]],
        about=dict(found["about"]),
        comparable=bool(found.get("comparable", True)),
    )


def file_name(name: str) -> str:
    """What a row's samples are called in an evaluation's folder, but for the ending."""
    return "".join(c if c.isalnum() or c in "-_.=" else "_" for c in name)


def _rows(names: Sequence[str], of: int) -> str:
    if len(names) == of > 2:
        return "all rows"
    return ", ".join(names) if len(names) < 5 else f"{names[0]} and {len(names) - 1} other rows"


def _span(columns: Sequence[str]) -> str:
    """`bleu-2 … bleu-5` for columns of one kind."""
    return ", ".join(columns) if len(columns) < 3 else f"{columns[0]} … {columns[-1]}"


def _cell(row: Row, column: str) -> str:
    if column not in row.values:
        return "n/a" if column in row.missing else "–"
    value = row.values[column]
    if isinstance(value, str):
        return value
    digits = COLUMNS[column].digits
    shown = f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"
    if COLUMNS[column].group == "likelihood of the data":
        kind = row.values.get("kind", "exact")
        shown = f"{'' if kind == 'exact' else '≤' if kind == 'bound' else '≈'}{shown}"
    return shown


def blocks(report: Report) -> list[list[list[str]]]:
    """A table a group of columns: its heading, then the rows; cells as they are shown."""
    found = []
    groups = dict.fromkeys(COLUMNS[c].group for c in report.columns())
    for group in groups:
        columns = [c for c in report.columns() if COLUMNS[c].group == group]
        rows = [row for row in report.rows if any(c in row.values or c in row.missing for c in columns)]
        heading = [group, "texts", *(f"{c}{COLUMNS[c].better}" for c in columns)]
        found.append([heading, *([row.name, str(row.samples), *(_cell(row, c) for c in columns)] for row in rows)])
    return found


def _table(report: Report) -> str:
    parts = []
    for block in blocks(report):
        widths = [max(len(line[i]) for line in block) for i in range(len(block[0]))]
        for line in block:
            cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
            parts.append("  ".join(cells))
        parts.append("")
    parts += [*report.findings, *([""] if report.findings else [])]
    parts += [f"* {note}" for note in report.notes()]
    parts.append(protocol(report))
    return "\n".join(parts) + "\n"


def _markdown(report: Report) -> str:
    parts = ["# Evaluation", ""]
    for block in blocks(report):
        parts.append("| " + " | ".join(block[0]) + " |")
        parts.append("|---|" + "---:|" * (len(block[0]) - 1))
        parts += ["| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in block[1:]]
        parts.append("")
    parts += [f"- {_escaped(line)}" for line in [*report.findings, *report.notes(), protocol(report)]]
    return "\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """Nothing that a label or a path holds becomes a cell, a tag or a link."""
    for c in "\\|<>[]*_`":
        text = text.replace(c, f"\\{c}")
    return text


def _csv(report: Report) -> str:
    stream = io.StringIO()
    columns = report.columns()
    swept = list(dict.fromkeys(name for row in report.rows for name in row.at))
    writer = csv.writer(stream, lineterminator="\n")
    errors = [c for c in columns if any(c in row.errors for row in report.rows)]
    writer.writerow(["label", *swept, "texts", *columns, *(f"{c} standard error" for c in errors)])
    for row in report.rows:
        cells = [row.values.get(c, "") for c in columns]
        writer.writerow(
            [row.label, *(row.at.get(s, "") for s in swept), row.samples, *cells]
            + [row.errors.get(c, "") for c in errors]
        )
    return stream.getvalue()


def _json(report: Report) -> str:
    rows = [
        {"label": r.label, "name": r.name, **{k: v for k, v in vars(r).items() if k != "label"}} for r in report.rows
    ]
    found = {"protocol": report.protocol, "rows": rows, "findings": report.findings, "notes": report.notes()}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def protocol(report: Report) -> str:
    """How it was measured, in a line."""
    p = report.protocol
    parts = [
        f"{p['samples']} texts a row, seed {p['seed']}",
        f"against {p['references']} texts of {p['data']}",
        f"tokens: {p['tokenize']}",
        f"sampling: {p['sampling']}",
        *(f"{name}: {p[key]}" for key, name in _MODELS.items() if p.get(key)),
        f"aigc-text {p['version']}",
    ]
    return "Protocol: " + "; ".join(parts)


_MODELS = {"feature_model": "MAUVE on features of", "reference_model": "reference ppl under"}
