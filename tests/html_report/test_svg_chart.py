"""Charts: every figure stands where its axes say, axes have round ticks, colours can be seen on both backgrounds."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from aigc_text.html_report import svg_chart
from aigc_text.html_report.svg_chart import Axis, Series, chart, log_ticks, nice_ticks, number

SVG = "{http://www.w3.org/2000/svg}"
CSS = (Path(svg_chart.__file__).parent / "assets" / "page.css").read_text(encoding="utf-8")


def drawn(*series, x=None, y=None, title="Loss"):
    return ElementTree.fromstring(chart(title, series, x or Axis(label="update"), y or Axis(label="nats")))


def value(text):
    text = text.replace("−", "-")
    return float(text[:-1]) * {"k": 1e3, "M": 1e6}[text[-1]] if text[-1] in "kM" else float(text)


def reader(figure, axis, log=False):
    """What a place on the drawing means, by the axis' own first and last tick."""
    ticks = [t for t in figure.iter(f"{SVG}text") if t.get("class") == f"tick {axis}"]
    ends = [(float(t.get(axis)), value(t.text)) for t in (ticks[0], ticks[-1])]
    (p, low), (q, high) = [(place, math.log10(v) if log else v) for place, v in ends]

    def read(place):
        found = low + (high - low) * (place - p) / (q - p)
        return 10**found if log else found

    return read


def lines(figure, log=(False, False)):
    """The points of each joined series, read back from the drawing."""
    x, y = reader(figure, "x", log[0]), reader(figure, "y", log[1])
    found = []
    for line in figure.iter(f"{SVG}polyline"):
        places = [pair.split(",") for pair in line.get("points").split()]
        found.append([(x(float(a)), y(float(b))) for a, b in places])
    return found


def test_a_line_stands_where_its_axes_say():
    points = [(0, 4.25), (250, 3.0), (1000, 2.125), (2000, 2.5)]
    [found] = lines(drawn(Series(label="a", points=points)))
    for (a, b), (c, d) in zip(found, points, strict=True):
        assert a == pytest.approx(c, abs=5) and b == pytest.approx(d, abs=0.01)


def test_logarithmic_axes_and_reversed_ones():
    points = [(1, 0.1), (10, 0.01), (1000, 0.0003)]
    log = [Axis(label="rank", log=True), Axis(label="share", log=True)]
    [found] = lines(drawn(Series(label="a", points=points), x=log[0], y=log[1]), (True, True))
    for (a, b), (c, d) in zip(found, points, strict=True):
        assert a == pytest.approx(c, rel=0.02) and b == pytest.approx(d, rel=0.02)
    figure = drawn(Series(label="a", points=[(0.2, 1), (0.8, 2)]), x=Axis(label="self-bleu", reverse=True))
    [found] = lines(figure)
    assert [a for a, _ in found] == pytest.approx([0.2, 0.8], abs=0.01)
    first, last = re.findall(r"[\d.]+(?=,)", next(figure.iter(f"{SVG}polyline")).get("points"))
    assert float(first) > float(last)  # lower is to the right


def test_steps_hold_their_height_up_to_the_next_edge():
    outline = Series(label="a", points=[(0, 0.5), (2, 0.25), (4, 0)], form="steps")
    figure = drawn(outline, y=Axis(label="share", start=0))
    [found] = lines(figure)
    expected = [(0, 0.5), (2, 0.5), (2, 0.25), (4, 0.25), (4, 0)]
    assert [(round(a, 1), round(b, 2)) for a, b in found] == expected


def test_each_series_has_a_title_a_legend_and_its_points_their_figures():
    one = Series(label="small", points=[(10, 4.0), (20, 3.0)], form="points", notes=["0.5", "1"])
    figure = drawn(one, Series(label="large", points=[(10, 3.5), (20, 2.5)], colour=1))
    groups = [g for g in figure.iter(f"{SVG}g") if g.get("class", "").startswith("series")]
    assert [g.find(f"{SVG}title").text for g in groups] == [
        "small: 2 points, the last at 20, 3",
        "large: 2 points, the last at 20, 2.5",
    ]
    assert [t.text for t in groups[0].iter(f"{SVG}title")][1:] == ["small at 0.5: 10, 4", "small at 1: 20, 3"]
    assert [t.text for t in notes(figure)] == ["0.5", "1"]
    assert ["".join(item.itertext()) for item in figure.find("ul")] == ["small", "large"]
    assert figure.find(f"{SVG}svg").get("aria-label") == "Loss: nats by update, of small, large"


def notes(figure):
    return [t for t in figure.iter(f"{SVG}text") if t.get("class") == "note"]


def covered(note):
    """What a note covers at least, in the larger of the two types that the style sheet has for it."""
    x, y, width = float(note.get("x")), float(note.get("y")), 7.4 * len(note.text)
    left = x - {"start": 0, "middle": width / 2, "end": width}[note.get("text-anchor")]
    return left, y - 9.5, left + width, y


def meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_notes_of_near_points_cover_neither_each_other_nor_a_marker():
    series = [
        Series(
            label=str(n),
            points=[(0.3 + k / 20 + n / 500, 0.5 - k / 20 - n / 400) for k in range(8)],
            colour=n,
            form="points",
            notes=[f"0.{k}5" for k in range(8)],
        )
        for n in range(3)
    ]
    figure = drawn(*series)
    boxes = [covered(note) for note in notes(figure)]
    assert len(boxes) == 24
    assert not [(one, other) for n, one in enumerate(boxes) for other in boxes[:n] if meet(one, other)]
    for left, top, right, bottom in boxes:
        assert left >= 0 and top >= 0 and right <= svg_chart.WIDTH and bottom <= svg_chart.HEIGHT - svg_chart.BOTTOM
    marks = [tuple(map(float, re.match(r"M(\S+) (\S+?)[aL]", p.get("d")).groups())) for p in marked(figure)]
    assert len(marks) == 24
    assert not [(box, (x, y)) for box in boxes for x, y in marks if meet(box, (x, y, x, y))]


def marked(figure):
    svg = figure.find(f"{SVG}svg")  # without the legend
    return [p for p in svg.iter(f"{SVG}path") if p.get("class") == "mark"]


def test_where_there_is_no_room_for_a_note_it_is_left_out():
    crowd = Series(label="a", points=[(1, 1)] * 200 + [(2, 2)], form="points", notes=["1"] * 200 + ["alone"])
    shown = notes(drawn(crowd))
    assert 5 < len(shown) < 40 and shown[-1].text == "alone"


def test_errors_are_bars_of_one_standard_error():
    figure = drawn(Series(label="a", points=[(1, 10), (3, 20)], form="points", errors=[(0.5, 2), (0, 0)]))
    [bar] = [p.get("d") for p in figure.iter(f"{SVG}path") if p.get("class") == "error"]
    x, y = reader(figure, "x"), reader(figure, "y")
    left, right, low, high = map(float, re.fullmatch(r"M(\S+) \S+H(\S+)M\S+ (\S+)V(\S+)", bar).groups())
    assert [x(left), x(right)] == pytest.approx([0.5, 1.5], abs=0.02)
    assert [y(low), y(high)] == pytest.approx([8, 12], abs=0.1)


def test_what_cannot_be_drawn_is_left_out():
    points = [(1, math.nan), (2, math.inf), (3, 1.0), (4, 2.0)]
    [found] = lines(drawn(Series(label="a", points=points)))
    assert [round(a) for a, _ in found] == [3, 4]
    assert chart("t", [Series(label="a", points=[(0, -1)])], Axis(label="x", log=True), Axis(label="y")) == ""
    assert chart("t", [], Axis(label="x"), Axis(label="y")) == ""


@pytest.mark.parametrize(
    "values",
    [
        (0.3, 0.30000000000000004),
        (0.31, 0.345),  # of three words that are about as frequent; no multiple of a power of ten is between
        (5e-324, 1e-320),
        (1e308, -1e308),
        (1e-300, 1e300),
        (1e16, 1e16 + 2),
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_any_values_can_be_drawn(values, log):
    points = [(n, value) for n, value in enumerate(values, 1)]
    made = chart("t", [Series(label="a", points=points)], Axis(label="x"), Axis(label="y", log=log))
    assert not re.search(r'"[^"]*\b(nan|inf)', made)
    if 1e-150 <= min(values) <= max(values) <= 1e150:
        assert '<text class="tick y"' in made and '<polyline class="line"' in made


def test_one_point_is_drawn_with_a_marker_inside_its_frame():
    figure = drawn(Series(label="a", points=[(5, 3.0)]))
    assert not list(figure.iter(f"{SVG}polyline"))
    [mark] = [p for p in figure.iter(f"{SVG}path") if p.get("class") == "mark" and p.find(f"{SVG}title") is not None]
    x, y = map(float, re.match(r"M(\S+) (\S+?)a", mark.get("d")).groups())
    assert reader(figure, "x")(x + 3.6) == pytest.approx(5, abs=0.05)
    assert reader(figure, "y")(y) == pytest.approx(3.0, abs=0.05)


def test_labels_are_text_and_nothing_else():
    label = '<script>alert(1)</script> & "x" \u202e\x1b'
    found = chart(
        label,
        [Series(label=label, points=[(0, 1), (1, 2)], form="points", notes=[label] * 2)],
        Axis(label=label),
        Axis(label=label),
        label,
    )
    assert "<script" not in found and "\u202e" not in found and "\x1b" not in found
    figure = ElementTree.fromstring(found)
    assert figure.find("figcaption").text == '<script>alert(1)</script> & "x" <U+202E>␛'


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.12, 0.57, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (1990, 2010, [1990, 1995, 2000, 2005, 2010]),
        (2.1004, 2.1009, [2.1004, 2.1005, 2.1006, 2.1007, 2.1008, 2.1009]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, ticks):
    assert nice_ticks(low, high) == ticks


def test_logarithmic_ticks_are_powers_of_ten_where_they_are_enough():
    assert log_ticks(1, 5000) == [1, 10, 100, 1000]
    assert log_ticks(0.9, 30) == [1, 2, 5, 10, 20]
    assert log_ticks(2.5, 4.5) == [3, 4]
    assert len(log_ticks(1e-12, 1)) <= 7


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (0, "0"),
        (0.30000000000000004, "0.3"),
        (12000, "12k"),
        (-2.5, "−2.5"),
        (3e6, "3M"),
        (1e-05, "1e-05"),
        (1000, "1000"),
    ],
)
def test_numbers_are_short(figure, shown):
    assert number(figure) == shown


def luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_their_background(theme):
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[theme]))

    def contrast(one, other):
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    assert {f"c{n}" for n in range(svg_chart.COLOURS)} < set(colours)
    for name in ("real", *(f"c{n}" for n in range(svg_chart.COLOURS))):
        assert contrast(name, "bg") >= 3, name
    for text, ground in (
        ("ink", "bg"),
        ("soft", "bg"),
        ("soft", "card"),
        ("accent", "bg"),
        ("ink", "card"),
        ("mark-ink", "mark"),
        ("ink", "note"),
        ("bg", "accent"),
    ):
        assert contrast(text, ground) >= 4.5, (text, ground)
