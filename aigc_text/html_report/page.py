"""One web page of runs: curves, figures, samples side by side, copies, and a blind sheet. It needs nothing else.

No resource is loaded from anywhere, and the page's own policy forbids it: one script, named by its hash, and nothing
that a model wrote can become markup, since all text goes through `html.escaped` or `blind.inline_json`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import blind, metric_sections, text_sections
from .html import bullets, element, escaped, paragraph, table
from .reading import Run, check_labels, read_all

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Page:
    """A page and what belongs to it.

    Attributes:
        html: the page.
        sheet: its blind sheet, whose `key` is to be kept apart; or `None`.
        notices: what the page lacks, and why.
    """

    html: str
    sheet: blind.Sheet | None
    notices: Sequence[str]


def build(
    runs: Sequence[Run | str | Path],
    *,
    title: str | None = None,
    seed: int = 0,
    pairs: int = 30,
    samples: int = 8,
) -> Page:
    """Makes a page of one or several runs, compared with each other where they have something in common.

    Args:
        runs: runs as `reading.read` gives them, or their paths, each of them `PATH` or `NAME=PATH`.
        title: of the page.
        seed: of the draw of the blind sheet's pairs and sides.
        pairs: at most so many pairs on the blind sheet; 0 for no sheet.
        samples: prompts whose texts are shown side by side, and copies shown of each file of them.

    Raises:
        OptionError: a label used twice.
        DataError: a run that is missing, broken or not one.
    """
    others = iter(read_all([run for run in runs if not isinstance(run, Run)]))
    read = [run if isinstance(run, Run) else next(others) for run in runs]
    check_labels([run.label for run in read])
    colours = metric_sections.Colours()
    systems = text_sections.named(read)
    tables = text_sections.sides(systems, samples)
    sheet, notices = _sheet(systems, text_sections.shown(read, tables, samples), pairs, seed)
    if systems and not samples:
        notices.append("No texts are shown side by side, as --samples 0 asks for.")
    sections = [
        ("training", "Training", metric_sections.training(read, colours)),
        ("evaluation", "Evaluation", metric_sections.evaluation(read, colours)),
        ("pictures", "Pictures", metric_sections.pictures(read)),
        ("lengths", "Lengths and frequencies", text_sections.statistics(systems, colours)),
        ("samples", "Samples", text_sections.samples(tables, read)),
        ("copies", "Verbatim copies", text_sections.copies(read, colours, samples)),
        ("blind", "Blind comparison", _blind(sheet)),
    ]
    body = [(id_, name, content) for id_, name, content in sections if content]
    heading = title or f"Report: {', '.join(run.label for run in read)}"
    return Page(_document(heading, read, body, notices, sheet), sheet, notices)


def _sheet(
    systems: Sequence[text_sections.Texts], shown: set[str], pairs: int, seed: int
) -> tuple[blind.Sheet | None, list[str]]:
    if not pairs or not systems:
        return None, []
    if len(systems) < 2:
        return None, ["There is no blind comparison: it takes texts of two systems."]
    sheet = blind.draw(systems, shown, pairs, seed)
    if sheet is None:
        return None, [
            "There is no blind comparison: no two systems have different texts for the same prompt, "
            "besides those that are shown side by side."
        ]
    few = f"The blind comparison has {len(sheet.pairs)} pairs, not {pairs}: there are no more texts in common."
    return sheet, [few] if len(sheet.pairs) < pairs else []


def _document(
    title: str,
    runs: Sequence[Run],
    sections: Sequence[tuple[str, str, str]],
    notices: Sequence[str],
    sheet: blind.Sheet | None,
) -> str:
    from aigc_text._version import __version__

    script = (ASSETS / "page.js").read_text(encoding="utf-8") if sheet else ""
    contents = [element("li", element("a", escaped(name), href=f"#{id_}")) for id_, name, _ in sections]
    overview = [["run", "what it is", "read from"], *([r.label, ", ".join(r.what), r.path] for r in runs)]
    parts = [
        element("h1", escaped(title)),
        element("nav", element("ul", *contents), aria_label="Sections"),
        table(overview, class_="wide words"),
        element("div", bullets(notices), class_="notices") if notices else "",
        *(element("section", element("h2", escaped(name)), content, id=id_) for id_, name, content in sections),
        element("footer", f"Made by aigc-text {escaped(__version__)}."),
    ]
    data = f'<script type="application/json" id="sheet-data">{sheet.payload()}</script>\n' if sheet else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escaped(_policy(script))}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{escaped(title)}</title>
<style>
{(ASSETS / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
{chr(10).join(part for part in parts if part)}
{data}{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


def _policy(script: str) -> str:
    """Nothing is loaded, and of scripts this very one may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _blind(sheet: blind.Sheet | None) -> str:
    if sheet is None:
        return ""
    say = (
        "Which of two texts is better? Whose they are is not in this page; it is in the key that was written beside "
        "it. Export your answers and give them to whoever has the key: aigc-text report --tally ANSWERS.json --key "
        "report.key.json"
    )

    def side(letter: str) -> str:
        text = element("div", class_="text", id=f"text-{letter.lower()}", dir="auto")
        return element("div", element("h3", f"Text {letter}"), text)

    def button(id_: str, words: str, key: str = "") -> str:
        return element("button", words, f" <kbd>{key}</kbd>" if key else "", type="button", id=id_)

    verdicts = [
        button("choose-a", "A is better", "1"),
        button("choose-b", "B is better", "2"),
        button("choose-same", "Same", "3"),
    ]
    name = element("label", 'Your name (optional) <input id="rater" autocomplete="off" maxlength="80">')
    ways = [button("previous", "Back"), button("next", "Next"), button("export", "Export answers")]
    return "".join(
        [
            paragraph(say),
            "<noscript><p>It needs JavaScript.</p></noscript>",
            '<div class="sheet" id="sheet" tabindex="-1" hidden>',
            '<p id="progress" role="status"></p><div class="bar"><div id="progress-bar"></div></div>',
            '<p id="pair-prompt-line">Prompt: <span class="prompt" id="pair-prompt" dir="auto"></span></p>',
            element("div", side("A"), side("B"), class_="pair"),
            element("div", *verdicts, class_="buttons verdicts"),
            element("div", *ways, class_="buttons"),
            element("p", name),
            '<p class="soft" id="kept"></p>',
            '<details><summary>The answers as text</summary><pre id="answers"></pre></details></div>',
        ]
    )
