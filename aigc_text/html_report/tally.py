"""What the answers to a blind sheet come to: wins of each two systems, how sure, and whether the raters agree."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from aigc_text.errors import DataError
from aigc_text.utils.visible_text import visible

from .blind import KIND

VERDICTS = ("a", "b", "same")


@dataclass(frozen=True, kw_only=True)
class Line:
    """Two systems compared. A pair of texts counts once, for the system that more of its raters chose.

    Attributes:
        first, second: the systems.
        wins: pairs in which the first one's text was chosen.
        losses: pairs in which the second one's was.
        ties: pairs in which neither was chosen more often.
        share: of the first one's wins among wins and losses; `None` without any.
        low, high: its Wilson 95 % interval.
        p: two-sided sign test, exact, without the ties; `None` without wins and losses.
        judgments: answers of all raters.
        raters: who gave them.
        agreement: between two raters over the pairs that both judged Cohen's kappa (1960), between more the share of
            equal verdicts among all two raters of a pair; `None` if nobody judged the same, or kappa is undefined.
        agreement_kind: `kappa`, `equal` or empty.
        judged_by_several: how many pairs that is about.
    """

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    share: float | None
    low: float | None
    high: float | None
    p: float | None
    judgments: int
    raters: int
    agreement: float | None
    agreement_kind: str
    judged_by_several: int


def tally(answers: Sequence[str | Path], key: str | Path) -> list[Line]:
    """Counts files of answers by the key of their sheet.

    Raises:
        DataError: a file that is missing, broken, of another sheet, or of a rater who is there already.
    """
    secret = _key(Path(key))
    given: dict[str, Mapping[str, str]] = {}
    for path in map(Path, answers):
        rater, found = _answers(path, secret, Path(key))
        if rater in given:
            raise DataError(f"{path}: there are answers of rater {rater!r} already", "Give one file a rater.")
        given[rater] = found
    pairs = secret["pairs"]
    groups = list(dict.fromkeys(tuple(sorted((p["a"], p["b"]))) for p in pairs.values()))
    lines = []
    for first, second in sorted(groups):
        ours = {n: p for n, p in pairs.items() if {p["a"], p["b"]} == {first, second}}
        lines.append(_line(first, second, ours, given))
    return lines


def _line(first: str, second: str, pairs: Mapping[str, Any], given: Mapping[str, Mapping[str, str]]) -> Line:
    votes: dict[str, dict[str, int]] = {}  # pair: rater: 1 for the first system, -1 for the second
    for rater, answers in given.items():
        for pair, verdict in answers.items():
            if pair in pairs:
                chosen = pairs[pair].get(verdict)
                votes.setdefault(pair, {})[rater] = 0 if chosen is None else 1 if chosen == first else -1
    sums = [sum(each.values()) for each in votes.values()]
    wins, losses = sum(s > 0 for s in sums), sum(s < 0 for s in sums)
    share, low, high = wilson(wins, wins + losses)
    agreement, kind, several = agree(list(votes.values()))
    return Line(
        first=first,
        second=second,
        wins=wins,
        losses=losses,
        ties=len(sums) - wins - losses,
        share=share,
        low=low,
        high=high,
        p=sign_test(wins, losses),
        judgments=sum(map(len, votes.values())),
        raters=len({rater for each in votes.values() for rater in each}),
        agreement=agreement,
        agreement_kind=kind,
        judged_by_several=several,
    )


def wilson(wins: int, of: int, z: float = 1.959964) -> tuple[float | None, float | None, float | None]:
    """A share and its 95 % score interval (Wilson 1927); nothing of nothing."""
    if not of:
        return None, None, None
    share = wins / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return share, max(0.0, middle - half), min(1.0, middle + half)


def sign_test(wins: int, losses: int) -> float | None:
    """How likely so uneven a result is, either way, if both are equally good: twice the binomial tail, at most 1."""
    n = wins + losses
    if not n:
        return None
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**n)


def agree(votes: Sequence[Mapping[str, int]]) -> tuple[float | None, str, int]:
    """How far raters agree over the pairs that several judged: the figure, its kind, and how many pairs."""
    common = [each for each in votes if len(each) > 1]
    raters = sorted({rater for each in common for rater in each})
    if not common:
        return None, "", 0
    equal = [len({each[r] for r in two}) == 1 for each in common for two in combinations(each, 2)]
    observed = sum(equal) / len(equal)
    if len(raters) > 2:
        return observed, "equal", len(common)
    counts = [Counter(each[rater] for each in common) for rater in raters]
    expected = sum(counts[0][v] * counts[1][v] for v in (-1, 0, 1)) / len(common) ** 2
    return (None if expected == 1 else (observed - expected) / (1 - expected)), "kappa", len(common)


def _key(path: Path) -> dict[str, Any]:
    cure = "The key is beside its page: --key report.key.json"
    found = _read(path, cure)
    try:
        sides = [pair[side] for pair in found["pairs"].values() for side in "ab"]
        if found["kind"] != KIND or not all(isinstance(each, str) for each in [found["sheet"], *sides]):
            raise ValueError
    except (LookupError, TypeError, ValueError, AttributeError):
        raise DataError(f"{path} is not the key of a blind sheet", cure) from None
    return found


def _answers(path: Path, key: Mapping[str, Any], key_path: Path) -> tuple[str, dict[str, str]]:
    """The rater, by the file's name if there is none, and the verdict on each pair."""
    cure = "Give files that the page's Export answers wrote."
    found = _read(path, cure)
    sheet, answers = found.get("sheet"), found.get("answers")
    if not isinstance(sheet, str) or not isinstance(answers, dict):
        raise DataError(f"{path} holds no answers", cure)
    if sheet != key["sheet"]:
        message = f"{path} answers sheet {sheet!r}, and {key_path} is the key of {key['sheet']!r}"
        raise DataError(message, "Name the key that was written with that page: --key FILE")
    for pair, verdict in answers.items():
        if pair not in key["pairs"]:
            raise DataError(f"{path} answers a pair {pair!r}, which the sheet does not have", cure)
        if verdict not in VERDICTS:
            raise DataError(f"{path}: the answer to {pair} is {verdict!r}", f"Allowed: {', '.join(VERDICTS)}")
    return str(found.get("rater") or path.name), answers


def _read(path: Path, cure: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", cure) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}", cure) from None
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a JSON object", cure)
    return found


def written(lines: Sequence[Line], form: str = "table") -> str:
    """The tally as a `table` for a terminal, or as `json`."""
    if form == "json":
        return json.dumps([asdict(line) for line in lines], indent=1, ensure_ascii=False) + "\n"
    heading = ["first", "second", "wins", "losses", "ties", "share", "95 % interval", "p"]
    heading += ["judgments", "raters", "agreement"]
    rows = [heading, *(_cells(line) for line in lines)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(heading))]
    found = []
    for row in rows:
        names = [row[n].ljust(widths[n]) for n in (0, 1)]
        found.append("  ".join([*names, *(row[n].rjust(widths[n]) for n in range(2, len(row)))]))
    notes = [
        "A pair of texts counts once: as a win of the first system if more of its raters chose that one's text.",
        "share: wins among wins and losses, with its Wilson interval; p: exact two-sided sign test. Ties are left out.",
    ]
    if any(line.judged_by_several for line in lines):
        kinds = {line.agreement_kind for line in lines}
        notes += ["agreement: Cohen's kappa of two raters over the pairs that both judged."] * ("kappa" in kinds)
        notes += ["agreement in percent: equal verdicts among all two raters of a pair."] * ("equal" in kinds)
    return "\n".join([*found, "", *(f"* {note}" for note in notes)]) + "\n"


def _cells(line: Line) -> list[str]:
    def shown(value: float | None, digits: int = 3) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    p = "<0.001" if line.p is not None and line.p < 0.001 else shown(line.p)
    interval = f"{shown(line.low)} to {shown(line.high)}" if line.share is not None else "–"
    agreement = shown(line.agreement, 2)
    if line.agreement is not None:
        agreement = f"{line.agreement:.0%}" if line.agreement_kind == "equal" else f"kappa {agreement}"
    counts = [str(n) for n in (line.wins, line.losses, line.ties)]
    names = [visible(line.first), visible(line.second)]
    return [*names, *counts, shown(line.share), interval, p, str(line.judgments), str(line.raters), agreement]
