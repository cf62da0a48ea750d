"""What a page shows: the folders and files of training runs, evaluations, samples, copies and pictures, read."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aigc_text.data import file_access, readers, tables
from aigc_text.errors import DataError, OptionError, nearest, shell
from aigc_text.evaluation.results import Report, Row, file_name

from .reading_copies import Copies, read_copies

MOST_TEXTS = 50_000  # of one system: what is beyond is left out, and the page says so
PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
#: Pictures that the page has charts of its own for, where the file that they were drawn from is beside them.
DRAWN_ANEW = {"curves.png": "metrics.jsonl", "frontier.png": "report.json"}
A_RUN = (
    "A run is a folder that aigc-text train, evaluate or latents wrote, a picture, a .jsonl file of generated records, "
    "or a .json file that copies wrote."
)

WRITTEN = "It is written by aigc-text train; each line is one JSON object with a step."

Key = tuple[str, int]


class Text(NamedTuple):
    """A generated text."""

    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts of one system.

    Attributes:
        label: the system's, with the point of a sweep.
        of: the label whose colour it shares: without that point.
        items: the texts in their order.
        note: what the reader should know, or empty.
        tokenize: what its words are, as `metrics.words` has it.
    """

    label: str
    of: str
    items: Sequence[Text]
    note: str = ""
    tokenize: str = "words"

    def keyed(self) -> dict[Key, Text]:
        """The texts by their prompt and how many with that prompt came before: what several systems have in common."""
        seen: dict[str, int] = {}
        found = {}
        for item in self.items:
            number = seen[item.prompt] = seen.get(item.prompt, -1) + 1
            found[item.prompt, number] = item
        return found


class Picture(NamedTuple):
    """A picture as it goes into the page."""

    name: str
    kind: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Run:
    """One thing that a page shows.

    Attributes:
        label: its name on the page.
        path: where it was read.
        what: what it is, in words.
        curves: of a training run, each figure of `metrics.jsonl` as (update, value).
        loss_unit: of the figure `loss`, where the run recorded it.
        options: what a training run was started with.
        report: of an evaluation.
        texts: systems with texts.
        pictures: as they are.
        copies: verbatim copies.
    """

    label: str
    path: str
    what: Sequence[str]
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    loss_unit: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    report: Report | None = None
    texts: Sequence[Texts] = ()
    pictures: Sequence[Picture] = ()
    copies: Copies | None = None


def read_all(names: Sequence[str | Path]) -> list[Run]:
    """Runs by their paths, each of them `PATH` or `NAME=PATH`.

    Raises:
        OptionError: a name without a path, or a label used twice.
        DataError: a run that is missing, broken or not one.
    """
    found = [_split(str(name)) for name in names]
    check_labels([label for label, _ in found])
    return [read(path, label) for label, path in found]


def check_labels(labels: Sequence[str]) -> None:
    """Refuses a label that is used twice.

    Raises:
        OptionError: there is one.
    """
    for label in labels:
        if labels.count(label) > 1:
            raise OptionError(f"the label {label!r} is used twice", "Name each: one=runs/a other=runs/b")


def _split(name: str) -> tuple[str, Path]:
    label, equals, path = name.partition("=")
    if not equals or os.path.exists(name):  # a folder may be called lr=0.1
        return (Path(name).stem if os.path.isfile(name) else Path(os.path.abspath(name)).name) or name, Path(name)
    if not label.strip() or not path:
        raise OptionError(f"{name!r} is not of the form PATH or NAME=PATH", "E.g. small=runs/small")
    return label, Path(path)


def read(path: Path, label: str) -> Run:
    """One run.

    Raises:
        DataError: it is missing, broken or no run.
    """
    if os.path.isdir(path):
        with file_access.reading(path):
            return _folder(path, label)
    suffix = path.suffix.lower()
    if not os.path.exists(path):  # unlike Path.exists, no error for a name that no file can have
        raise DataError(f"there is no run {path}", file_access.siblings(path))
    if suffix in PICTURES:
        return Run(label=label, path=str(path), what=["picture"], pictures=[_picture(path)])
    if suffix == ".jsonl":
        items, note = _records(path)
        texts = Texts(label=label, of=label, items=items, note=note)
        return Run(label=label, path=str(path), what=[f"{len(items)} texts"], texts=[texts])
    if suffix == ".json":
        return _json(path, label)
    raise DataError(f"{path} is no run", A_RUN)


def _folder(path: Path, label: str) -> Run:
    what: list[str] = []
    values: dict[str, Any] = {}
    if (path / "report.json").exists():
        report = Report.read(path / "report.json")
        values["report"] = report
        values["texts"] = list(_samples(path, report))
        unfinished = "" if report.protocol.get("complete", True) else " that was not finished"
        lacking = _lacking(report, values["texts"])
        what.append(f"evaluation of {len(report.rows) - 1} sets of texts{unfinished}{lacking}")
    if (path / "metrics.jsonl").exists():
        values["curves"], values["loss_unit"], updates, undrawn = _curves(path / "metrics.jsonl")
        values["options"] = _options(path / "options.json")
        what.append(f"training, {updates:g} updates")
        if undrawn:
            what.append(f"figures that are not finite, and not drawn: {undrawn}")
        if (path / "samples.jsonl").exists():
            values["texts"] = [*values.get("texts", ()), *_newest(path / "samples.jsonl", label)]
    drawn = {name for name, source in DRAWN_ANEW.items() if (path / source).exists()}
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.name not in drawn)
    if files:
        values["pictures"] = [_picture(p) for p in files]
        what.append("picture" if len(files) == 1 else f"{len(files)} pictures")
    if not what:
        below = sorted(p.parent.name for p in path.glob("*/metrics.jsonl"))
        cure = shell("It holds runs; name them: {} …", path / below[0]) if below else A_RUN
        raise DataError(f"{path} holds no run: neither metrics.jsonl nor report.json nor a picture", cure)
    return Run(label=label, path=str(path), what=what, **values)


def _lacking(report: Report, texts: Sequence[Texts]) -> str:
    """Which samples of an evaluation are not there, if any."""
    labels = list(dict.fromkeys(row.label for row in report.rows[1:]))
    missing = [label for label in labels if label not in {each.of for each in texts}]
    if not missing:
        return ""
    whose = "" if len(missing) == len(labels) else f"of {', '.join(missing)} "
    return f", whose samples {whose}are not there"


def _curves(path: Path) -> tuple[dict[str, list[tuple[float, float]]], str, float, int]:
    """Each figure as (update, value), the unit of `loss`, the last update, and how many figures are not finite.

    The last line may have been cut off by a kill.
    """
    undrawn, unit = 0, ""
    found: dict[str, list[tuple[float, float]]] = {}
    lines = list(file_access.lines(path))
    last = 0.0
    for number, line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            last = float(record["step"])
            if not math.isfinite(last):
                raise ValueError("the step is not a finite number")
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataError(f"{path}:{number} is no line of metrics: {line.strip()[:60]}", WRITTEN) from None
        unit = str(record.get("loss_unit", unit))
        for name, value in record.items():
            if name == "step" or not isinstance(value, (int, float)):
                continue
            if abs(value) <= sys.float_info.max:  # not NaN
                found.setdefault(name, []).append((last, float(value)))
            else:
                undrawn += 1
    if not found:
        raise DataError(f"{path} holds no figure yet", "Wait for the run's first update, or leave the run out.")
    return found, unit, last, undrawn


def _options(path: Path) -> dict[str, Any]:
    """What the run was started with, the backend's own options beside the others."""
    if not path.exists():
        return {}
    found = _object(path, "It is written by aigc-text train; remove it if it is damaged.")
    config = found.pop("config", None)
    return {**found, **(config if isinstance(config, dict) else {})}


def _object(path: Path, cure: str) -> dict[str, Any]:
    try:
        found = json.loads("".join(line for _, line in file_access.lines(path)))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not valid JSON: {error}", cure) from None
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a JSON object", cure)
    return found


def _records(path: Path) -> tuple[list[Text], str]:
    """The texts of a file of records, and what is to be known of them."""
    found: list[Text] = []
    for place, record in readers.read_jsonl(path):
        if "text" not in record:
            cure = "Name a training run by its folder." if "step" in record else 'Each line must be like {"text": "…"}.'
            raise DataError(f"{place} holds no text: it has no field 'text'.{nearest('text', record)}", cure)
        text = tables.text_of(place, record, "text")
        prompt = tables.text_of(place, record, "prompt") if record.get("prompt") else ""
        if len(found) == MOST_TEXTS:
            return found, f"only the first {MOST_TEXTS} texts are read"
        found.append(Text(prompt, text))
    if not found:
        raise DataError(f"{path} holds no text", "Leave it out, or generate texts first.")
    return found, ""


def _newest(path: Path, label: str) -> list[Texts]:
    """The texts of a training run's last validation that drew some."""
    records = []
    for place, record in readers.read_jsonl(path):
        if isinstance(record.get("text"), str):
            step = record.get("step")
            if not isinstance(step, (int, float)) or not math.isfinite(step):
                raise DataError(f"{place}: the step is {json.dumps(step)[:60]}, not a finite number", WRITTEN)
            records.append(record)
    if not records:
        return []
    last = records[-1]["step"]
    items = [Text(str(r.get("prompt") or ""), r["text"]) for r in records if r.get("step") == last]
    before = len(records) - len(items)
    earlier = f"; {before:,} texts of earlier updates are left out" if before else ""
    return [Texts(label=label, of=label, items=items, note=f"drawn while training, at update {last}{earlier}")]


def _samples(folder: Path, report: Report) -> Iterator[Texts]:
    """The kept samples of each label of an evaluation; of a sweep those of one point."""
    for label in dict.fromkeys(row.label for row in report.rows[1:]):
        rows = [row for row in report.rows[1:] if row.label == label]
        row = point_of(rows)
        path = folder / "samples" / f"{file_name(row.name)}.jsonl"
        if path.exists():
            items, note = _records(path)
            swept = f"one of {len(rows)} points of the sweep" if len(rows) > 1 else ""
            notes = "; ".join(filter(None, (swept, note)))
            tokenize = str(report.protocol["tokenize"])
            yield Texts(label=row.name, of=label, items=items, note=notes, tokenize=tokenize)


def point_of(rows: Sequence[Row]) -> Row:
    """Of a sweep the point at 1, the model's own distribution; else the middle one."""
    own = [row for row in rows if set(row.at.values()) <= {1}]
    return own[0] if own else rows[len(rows) // 2]


def _picture(path: Path) -> Picture:
    with file_access.reading(path):
        content = path.read_bytes()
    kind = path.suffix.lower()
    starts = b"\x89PNG\r\n\x1a\n" if kind == ".png" else b"<"
    if not content.lstrip(b"\xef\xbb\xbf \r\n\t" if kind == ".svg" else b"").startswith(starts):
        raise DataError(f"{path} is not a picture of the kind that its name says", "Make it again, or leave it out.")
    return Picture(path.name, PICTURES[kind], content)


def _json(path: Path, label: str) -> Run:
    found = _object(path, A_RUN)
    if found.get("kind") != "copies":
        cure = "Name its folder." if path.name in ("report.json", "options.json") else A_RUN
        raise DataError(f"{path} is no file of copies", cure)
    try:
        copies = read_copies(found, label)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is a broken file of copies: {error!r}", "Make it again.") from None
    return Run(label=label, path=str(path), what=[f"copies in {copies.outputs['texts']} texts"], copies=copies)
