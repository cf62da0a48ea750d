"""A page's sections of texts: their lengths and frequencies, samples side by side, and verbatim copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean, median
from typing import NamedTuple

from .html import bullets, element, escaped, paragraph, table
from .metric_sections import Colours
from .reading import Key, Run, Text, Texts
from .reading_copies import Copies, Copy
from .svg_chart import Axis, Series, chart, nice_ticks

BINS = 40  # of a histogram, at most about
RANKS = 120  # points of a curve over ranks


def named(runs: Sequence[Run]) -> list[Texts]:
    """All systems with texts; a label that two runs use gets its run's before it."""
    both = [(run, texts) for run in runs for texts in run.texts]
    labels = Counter(texts.label for _, texts in both)
    return [
        replace(t, label=f"{run.label}: {t.label}", of=f"{run.label}: {t.of}") if labels[t.label] > 1 else t
        for run, t in both
    ]


# Lengths and frequencies


def statistics(systems: Sequence[Texts], colours: Colours) -> str:
    """How long the texts are, and how often their words come; words as the metrics have them."""
    if not systems:
        return ""
    from aigc_text.metrics.tokenization import all_words

    unit = "words" if all(system.tokenize == "words" for system in systems) else "tokens"
    heading = ["texts of", "texts", f"{unit}, mean", f"{unit}, median", f"different {unit}", "different texts"]
    rows: list[Sequence[object]] = [heading]
    lengths, ranks = [], []
    for system in systems:
        tokens = all_words([item.text for item in system.items], system.tokenize)
        sizes, counts = [len(t) for t in tokens], Counter(word for t in tokens for word in t)
        once = len({item.text for item in system.items}) / len(tokens)
        shown = [f"{mean(sizes):.1f}", f"{median(sizes):g}", str(len(counts)), f"{once:.0%}"]
        rows.append([system.label, len(tokens), *shown])
        lengths.append((system, sizes))
        ranks.append((system, ranked(list(counts.values()))))
    numbers = colours.among(system.of for system in systems)
    width = bin_width([size for _, sizes in lengths for size in sizes])
    histograms = [
        Series(label=s.label, points=histogram(Counter(sizes), width), colour=numbers[s.of], form="steps")
        for s, sizes in lengths
    ]
    curves = [Series(label=s.label, points=points, colour=numbers[s.of]) for s, points in ranks]
    bars = "" if width == 1 else f"Each step holds {width} lengths."
    charts = [
        chart("Lengths", histograms, Axis(label=unit), Axis(label="share of the texts", start=0), bars),
        chart(
            "Frequency by rank",
            curves,
            Axis(label=f"rank among the {unit}", log=True),
            Axis(label=f"share of all {unit}", log=True),
            "Natural language lies near a straight line (Zipf 1949); a curve that ends early uses few words.",
        ),
    ]
    notes = [
        f"{', '.join(s.label for s in systems if s.note == n)}: {n}"
        for n in dict.fromkeys(s.note for s in systems)
        if n
    ]
    return table(rows) + bullets(notes) + element("div", *charts, class_="charts")


def bin_width(lengths: Sequence[int]) -> int:
    """A whole number, so that every bin holds as many lengths."""
    longest = max(lengths, default=0)
    ticks = nice_ticks(0, max(longest, 1), BINS)
    return max(1, round(ticks[1] - ticks[0]))


def histogram(counts: Mapping[int, int], width: int) -> list[tuple[float, float]]:
    """The outline of the shares of texts by their lengths: (left edge, share), ending at 0.

    Args:
        counts: texts by length.
        width: lengths in a step; its edges lie between two whole numbers.
    """
    bins: Counter[int] = Counter()
    for length, count in counts.items():
        bins[length // width] += count
    total = sum(bins.values())
    if not total:
        return []
    first, last = min(bins), max(bins)
    shares = [(n * width - 0.5, bins[n] / total) for n in range(first, last + 1)]
    return [(first * width - 0.5, 0.0), *shares, ((last + 1) * width - 0.5, 0.0)]


def ranked(counts: Sequence[int]) -> list[tuple[float, float]]:
    """(rank, share of all), the most frequent first; of many ranks some, evenly spread on a logarithmic axis."""
    ordered, total = sorted(counts, reverse=True), sum(counts)
    if not ordered:
        return []
    places = {min(round(len(ordered) ** (n / (RANKS - 1))), len(ordered)) for n in range(RANKS)}
    return [(float(rank), ordered[rank - 1] / total) for rank in sorted(places)]


# Samples


def side_by_side(systems: Sequence[Texts], most: int) -> list[Key]:
    """The first prompts that most systems have texts for; another text of a prompt comes after all prompts' first."""
    count: Counter[Key] = Counter(key for system in systems for key in system.keyed())
    order = {key: n for n, key in enumerate(count)}
    return sorted(count, key=lambda k: (-count[k], k[1], order[k]))[:most]


class Side(NamedTuple):
    """Systems that have prompts in common, and the texts of theirs that are shown side by side."""

    systems: Sequence[Texts]
    rows: Sequence[Key]


def sides(systems: Sequence[Texts], most: int) -> list[Side]:
    """Tables that together show texts of every system: in each are those that have its first prompt in common."""
    found, left = [], list(systems)
    while left and most:
        [first] = side_by_side(left, 1)
        members = [system for system in left if first in system.keyed()]
        found.append(Side(members, side_by_side(members, most)))
        left = [system for system in left if system not in members]
    return found


def samples(tables: Sequence[Side], runs: Sequence[Run]) -> str:
    """The tables, and how many of each system's texts are in them."""
    if not tables:
        return ""
    counts = []
    for systems, rows in tables:
        for system in systems:
            here = sum(key in system.keyed() for key in rows)
            counts.append(f"{system.label}: {here:,} of {len(system.items):,} texts")
    drawn = "".join(compared(systems, rows, runs) for systems, rows in tables)
    return paragraph("The first texts of each, not picked; --samples shows more.", "soft") + bullets(counts) + drawn


def compared(systems: Sequence[Texts], rows: Sequence[Key], runs: Sequence[Run]) -> str:
    """A table of prompts by systems, on a narrow screen a card a prompt; what is copied is marked."""
    spans = {c.text: c for run in runs for c in _over(run.copies)}
    prompts = any(prompt for prompt, _ in rows)
    heading = [element("th", "prompt" if prompts else "number", scope="col")]
    heading += [element("th", escaped(system.label), scope="col") for system in systems]
    both = [(system, system.keyed()) for system in systems]
    body = [element("tr", _prompt(*key), *(_cell(s, f.get(key), spans) for s, f in both)) for key in rows]
    parts = element("thead", element("tr", *heading)), element("tbody", *body)
    drawn = element("table", *parts, style=f"--systems: {len(systems)}")
    kind = "wide texts prompted" if prompts else "wide texts"
    say = ""
    if any(f[key].text in spans for _, f in both for key in rows if key in f):
        say = paragraph("What is marked is copied word by word; from where, shows where the mouse rests.", "soft")
    return say + element("div", drawn, class_=kind)


def _prompt(prompt: str, number: int) -> str:
    """The heading of a row: the prompt; of a text without one its number."""
    name = f"{prompt} ({number + 1})" if prompt and number else prompt or str(number + 1)
    return element("th", element("div", escaped(name), class_="text", dir="auto"), class_="prompt", scope="row")


def _cell(system: Texts, item: Text | None, spans: Mapping[str, Copy]) -> str:
    if item is None:
        return element("td", "–", data_label=system.label)
    copy = spans.get(item.text)
    text = element("div", marked(copy) if copy else escaped(item.text), class_="text", dir="auto")
    return element("td", text, data_label=system.label)


def shown(runs: Sequence[Run], tables: Sequence[Side], most: int) -> set[str]:
    """The texts that the page shows with the name of their system."""
    found = set()
    for systems, rows in tables:
        found |= {item.text for system in systems for key, item in system.keyed().items() if key in set(rows)}
    return found | {copy.text for run in runs for copy in _over(run.copies)[:most]}


# Copies


def copies(runs: Sequence[Run], colours: Colours, most: int) -> str:
    """How long the longest copy in each text is, and the longest ones, marked."""
    found = [run.copies for run in runs if run.copies is not None]
    if not found:
        return ""
    heading = ["texts of", "texts", "longest copy, mean", "median", "95th percentile", "longest", "over the threshold"]
    rows: list[Sequence[object]] = [heading]
    curves: dict[str, dict[int, int]] = {}
    for each in found:
        for name, figures in ((each.label, each.outputs), (f"{each.label}: held-out texts", each.held_out)):
            if figures is not None:
                shown = [f"{figures[k]:.1f}" for k in ("mean", "median", "p95")]
                rows.append([name, figures["texts"], *shown, figures["max"], f"{figures['share_over']:.1%}"])
                curves[name] = figures["histogram"]
    numbers = colours.among(curves)
    width = bin_width([length for counts in curves.values() for length in counts])
    series = [
        Series(label=name, points=histogram(counts, width), colour=numbers[name], form="steps")
        for name, counts in curves.items()
    ]
    about = [f"{c.label}: looked for in {c.source}; the threshold is {c.threshold} {c.unit}" for c in found]
    unit = found[0].unit
    x, y = Axis(label=f"longest copy of a text, {unit}"), Axis(label="share of the texts", start=0)
    drawn = element("div", chart("Lengths of the longest copies", series, x, y), class_="charts")
    return table(rows) + bullets(about) + drawn + "".join(_longest(each, most) for each in found)


def _over(found: Copies | None) -> list[Copy]:
    """The copies that are longer than the threshold, the longest first."""
    if found is None:
        return []
    return sorted((c for c in found.texts if c.length > found.threshold), key=lambda c: -c.length)


def _longest(found: Copies, most: int) -> str:
    over = _over(found)
    chosen = over[:most]
    heading = f"The longest copies of {found.label}" if over else f"{found.label}: no copy over the threshold"
    if len(chosen) < len(over):
        heading += f": {len(chosen)} of {len(over)}, --samples shows more"
    parts = [element("h3", escaped(heading))]
    for copy in chosen:
        prompt = element("span", escaped(copy.prompt), class_="prompt") if copy.prompt else ""
        text = element("div", prompt, marked(copy), class_="text", dir="auto")
        who = f"{copy.label}: {copy.length} {found.unit}, from {copy.place}"
        parts.append(element("div", text, paragraph(who, "soft"), class_="copy"))
    return "".join(parts)


def marked(copy: Copy) -> str:
    """The text with its copied part in a `mark`, whose title is where that part comes from."""
    before, part, after = copy.text[: copy.start], copy.text[copy.start : copy.end], copy.text[copy.end :]
    return escaped(before) + element("mark", escaped(part), title=copy.place) + escaped(after)
