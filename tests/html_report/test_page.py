"""The page of runs: its figures, what hostile texts come to, and how it behaves in a browser."""

import base64
import json
import re
from html.parser import HTMLParser

import pages
import pytest
from browser import browser, chromium  # noqa: F401

from aigc_text.html_report import metric_sections, page, text_sections
from aigc_text.html_report.reading import Text, Texts, read_all

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "</script><script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    '"><a href="javascript:document.title=\'taken\'">x</a>',
    "' onmouseover='x' <!-- ]]> &lt;b&gt; {{x}} ${x}",
    "\u202eback\u2028wards\x1b[31m\x00",
]


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._stack = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._stack.append(tag)

    def handle_endtag(self, tag):
        while tag in self._stack and self._stack.pop() != tag:
            pass

    def handle_data(self, data):
        if self._stack[-1:] not in (["script"], ["style"]):
            self.text += data

    def named(self, tag, **attributes):
        return [a for t, a in self.elements if t == tag and attributes.items() <= a.items()]


@pytest.fixture
def runs(tmp_path):
    return pages.everything(tmp_path)


def write(folder, html):
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    return path


# What it shows


def test_every_kind_of_run_has_its_section(runs):
    made = page.build(runs, title="A comparison")
    sections = [a["id"] for t, a in Reader(made.html).elements if t == "section"]
    assert sections == ["training", "evaluation", "pictures", "lengths", "samples", "copies", "blind"]
    text = Reader(made.html).text
    for words in ("A comparison", "training, 30 updates", "rnn dominates gan at bleu-3.", "train.txt:7", "latents.png"):
        assert words in text


def test_curves_of_several_runs_share_a_chart_and_a_table(runs):
    html = metric_sections.training(read_all(runs), metric_sections.Colours())
    assert "nats per token" in html and html.count("small: validation: 3 points, the last at 30, 2.5") == 1
    assert "large: validation: 3 points, the last at 30, 2" in html
    assert "small: training loss: 30 points" in html
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", html)
    cells = {name: re.findall(r"<td[^>]*>(.*?)</td>", rest) for name, rest in rows}
    assert cells["small"] == ["rnn", "30", "2.5000", "30", "1.2500"]
    assert cells["seed"] == ["1", "2"] and "learning_rate" not in cells  # what they have in common is not listed


def test_no_chart_of_training_has_two_units_and_a_collapse_is_marked(tmp_path):
    language = pages.training(tmp_path / "rnn")
    vae, gan = (pages.logged(tmp_path / name, lines) for name, lines in (("vae", pages.VAE), ("gan", pages.GAN)))
    html = page.build([language, vae, gan]).html
    charts = {}
    for drawn in re.findall(r'<figure class="chart">(.*?)</figure>', html):
        title = re.search("<figcaption>(.*?)</figcaption>", drawn)[1]
        unit = re.search('<text class="axis" transform.*?>(.*?)</text>', drawn)[1]
        legend = re.findall("</svg>([^<]+)</li>", drawn)
        charts[title, unit] = legend
    losses = ["rnn: training loss", "rnn: validation", "vae: validation", "gan: training", "gan: validation"]
    failed = ["vae: posterior collapse", "gan: mode collapse", "gan: rolled back"]
    assert charts["Loss", "nats per token"] == [*losses, *failed]
    assert charts["Negative bound", "nats per sentence"] == [
        "vae: training loss", "vae: training", "vae: validation", failed[0]
    ]  # fmt: skip
    assert charts["KL", "nats per sentence"] == ["vae: training", "vae: validation", failed[0]]
    assert charts["Active units", "units"] == ["vae", failed[0]]
    assert charts["Adversarial losses", "loss"] == ["gan: generator", "gan: discriminator", *failed[1:]]
    assert charts["Uniqueness", "share of the generated texts"] == ["gan", *failed[1:]]
    assert charts["BLEU", "BLEU"] == ["gan: BLEU-4", "gan: Self-BLEU-4", *failed[1:]]
    assert "<title>vae: posterior collapse: 20 to 30</title>" in html
    assert "<title>gan: rolled back at 30</title>" in html
    assert "posterior_collapse" not in html and "rolled_back_to" not in html  # marks have no chart of their own


def test_a_label_keeps_its_colour_and_a_chart_needs_few():
    colours = metric_sections.Colours()
    assert colours.among(["a", "b"]) == {"a": 0, "b": 1}
    assert colours.among(["x", "b", "y"]) == {"b": 1, "x": 0, "y": 2}
    assert sorted(colours.among(["a", "x", "b"]).values()) == [0, 1, 2]  # a and x both had the first


def test_long_curves_are_means_of_neighbours():
    points = [(float(n), n % 2) for n in range(1000)]
    found, each = metric_sections.thinned(points, 300)
    assert each == 4 and len(found) == 250 and found[0] == (1.5, 0.5)
    assert metric_sections.thinned(points[:3], 300) == (points[:3], 1)


def test_figures_that_no_chart_can_show_are_left_out(tmp_path):
    folder = pages.training(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(
            f'{{"step": 31, "loss": {10**400}}}\n{{"step": 32, "loss": NaN}}\n{{"step": 33, "loss": -Infinity}}\n'
        )
    [run] = read_all([folder])
    assert len(run.curves["loss"]) == 30
    assert "training loss: 30 points" in page.build([folder]).html


def test_three_words_that_are_about_as_frequent_have_a_chart(tmp_path):
    file = pages.records(tmp_path / "a.jsonl", ["a b c"] * 9 + ["a b"])
    assert "Frequency by rank" in page.build([file]).html


def test_the_frontier_has_a_curve_a_model_and_the_real_data(runs):
    html = metric_sections.evaluation(read_all(runs[2:3]), metric_sections.Colours())
    for title in ("rnn at 0.5: 0.7, 0.6", "rnn at 1: 0.5, 0.4", "gan at 1: 0.5, 0.3", "real data: 0.6, 0.5"):
        assert f"<title>{title}</title>" in html
    assert "self-bleu-3 (lower is better)" in html
    assert "<td>0.600</td>" in html and "bleu-3↑" in html  # the table of the command itself


def test_evaluations_that_measured_alike_share_a_table(tmp_path):
    one, other = (pages.evaluation(tmp_path / n, labels) for n, labels in (("one", ["rnn", "gan"]), ("two", ["rnn"])))
    [(names, report)] = metric_sections.merged(read_all([one, other]))
    assert names == ["one", "two"]
    assert list(dict.fromkeys(r.label for r in report.rows)) == ["real data", "one: rnn", "gan", "two: rnn"]
    found = json.loads((other / "report.json").read_text())
    found["protocol"]["references"] = 10
    (other / "report.json").write_text(json.dumps(found))
    assert len(metric_sections.merged(read_all([one, other]))) == 2


def test_lengths_and_ranks_are_counted():
    assert text_sections.histogram({1: 2, 2: 1, 4: 1}, 1) == [
        (0.5, 0),
        (0.5, 0.5),
        (1.5, 0.25),
        (2.5, 0),
        (3.5, 0.25),
        (4.5, 0),
    ]
    assert text_sections.histogram({0: 1, 5: 1, 9: 1}, 5) == [(-0.5, 0), (-0.5, 1 / 3), (4.5, 2 / 3), (9.5, 0)]
    assert text_sections.ranked([1, 5, 4]) == [(1, 0.5), (2, 0.4), (3, 0.1)]
    many = text_sections.ranked([1] * 5000)
    assert len(many) <= text_sections.RANKS and many[0][0] == 1 and many[-1][0] == 5000
    assert text_sections.bin_width([10, 39]) == 1 and text_sections.bin_width([1000]) == 50


def test_samples_are_side_by_side_for_the_same_prompts():
    one = Texts(label="one", of="one", items=[Text("x", "x1"), Text("x", "x2"), Text("y", "y1"), Text("z", "z1")])
    two = Texts(label="two", of="two", items=[Text("y", "Y1"), Text("x", "X1"), Text("x", "X2")])
    rows = text_sections.side_by_side([one, two], 3)
    assert rows == [("x", 0), ("y", 0), ("x", 1)]
    html = text_sections.compared([one, two], rows, [])
    shown = re.findall(r"<td data-label=\"(\w+)\"><div class=\"text\" dir=\"auto\">(\w+)<", html)
    assert shown == [("one", "x1"), ("two", "X1"), ("one", "y1"), ("two", "Y1"), ("one", "x2"), ("two", "X2")]


def test_texts_that_share_no_prompt_are_on_the_page_too_and_it_says_how_many(tmp_path):
    names = [
        pages.training(tmp_path / "a", samples=pages.texts(12, 3)),
        pages.training(tmp_path / "b", samples=pages.texts(12, 5)),
        pages.evaluation(tmp_path / "compared"),
        pages.records(tmp_path / "one.jsonl", pages.texts(18, 1, "of-one"), prompts=["The king", "The wolf", "A boat"]),
        pages.records(tmp_path / "two.jsonl", pages.texts(6, 2, "of-two"), prompts=["The king", "The wolf"]),
        pages.records(tmp_path / "three.jsonl", pages.texts(4, 2, "of-three"), prompts=["Elsewhere"]),
    ]
    text = Reader(page.build(names).html).text
    for label, shown in (("a", 8), ("b", 8), ("rnn temperature=1", 8), ("one", 8), ("two", 6), ("three", 4)):
        total = {"a": 12, "b": 12, "one": 18, "two": 6, "three": 4}.get(label, 40)
        assert f"{label}: {shown} of {total} texts" in text
    assert [text.count(f"of-{name}") for name in ("one", "two", "three")] == [8, 6, 4]
    every = Reader(page.build(names, samples=18).html).text
    assert [every.count(f"of-{name}") for name in ("one", "two", "three")] == [18, 6, 4]
    none = page.build(names, samples=0, pairs=0)
    assert none.notices == ["No texts are shown side by side, as --samples 0 asks for."]
    assert none.notices[0] in Reader(none.html).text


def test_a_page_says_what_it_leaves_out(tmp_path):
    folder = pages.evaluation(tmp_path / "e", labels=["rnn", "gan"])
    for file in (folder / "samples").glob("gan*"):
        file.unlink()
    pages.png(folder / "frontier.png")
    run = pages.training(tmp_path / "r", samples=pages.texts(3))
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 99, "loss": NaN, "eval_loss": Infinity}\n')
    (folder / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes())
    (folder / "samples.jsonl").write_bytes((run / "samples.jsonl").read_bytes())
    alone = tmp_path / "alone"
    alone.mkdir()
    pages.png(alone / "curves.png")
    copies = json.loads(pages.copies(tmp_path / "c.json").read_text())
    copies["texts"] = [{**copies["texts"][1], "text": f"he said a text of number {n}", "end": 9} for n in range(5)]
    (tmp_path / "c.json").write_text(json.dumps(copies))
    found = Reader(page.build([folder, run, alone, tmp_path / "c.json"], samples=2).html)
    assert "evaluation of 4 sets of texts, whose samples of gan are not there" in found.text
    assert "figures that are not finite, and not drawn: 2" in found.text
    assert "The longest copies of c: 2 of 5, --samples shows more" in found.text
    assert [a["alt"] for a in found.named("img")] == ["alone: curves.png"]
    assert "e: 2 of 3 texts" in found.text  # the samples of a training in the folder of an evaluation


def test_the_newest_texts_of_a_training_run_are_shown(runs):
    [texts] = read_all(runs[:1])[0].texts
    assert len(texts.items) == 12 and texts.note.startswith(
        "drawn while training, at update 20; 12 texts of earlier updates"
    )


def test_copied_spans_are_marked_where_the_text_is_shown(tmp_path):
    items = pages.texts(3)
    sampled = pages.records(tmp_path / "rnn.jsonl", items)
    copied = pages.copies(tmp_path / "c.json", text=items[0], place="train.txt:7")
    html = page.build([sampled, copied], samples=3).html
    first, rest = items[0].split(" ", 1)
    assert html.count(f'{first} <mark title="train.txt:7">{rest}</mark>') == 2  # among the samples and the copies
    assert "a short one" not in html  # under the threshold
    assert "95th percentile" in html and "held-out texts" in html


def test_copies_may_lack_a_label_held_out_texts_and_any_count(tmp_path):
    file = pages.copies(tmp_path / "c.json")
    found = json.loads(file.read_text())
    for copy in found["texts"]:
        copy["label"] = None
    found["outputs"]["histogram"] = [[1, 0]]
    found["texts"][0] |= {"length": 5, "text": "just the threshold"}  # it must be longer
    file.write_text(json.dumps({**found, "held_out": None}))
    html = page.build([file]).html
    assert "rnn: 9 words, from train.txt:7" in html and "held-out texts" not in html and "<svg" not in html
    assert "just the threshold" not in html


def test_pictures_of_a_folder_are_inside_the_page_but_for_those_drawn_anew(tmp_path):
    folder = tmp_path / "latents"
    folder.mkdir()
    for name in ("two.png", "curves.png", "frontier.png"):
        pages.png(folder / name)
    (folder / "one.svg").write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>')
    for source in ("curves.png", "frontier.png"):  # nothing draws them anew yet
        assert f"latents: {source}" in [a["alt"] for a in Reader(page.build([folder]).html).named("img")]
    pages.training(tmp_path / "run")
    pages.evaluation(tmp_path / "evaluated", labels=[])
    (tmp_path / "run" / "metrics.jsonl").rename(folder / "metrics.jsonl")
    (tmp_path / "evaluated" / "report.json").rename(folder / "report.json")
    found = Reader(page.build([folder]).html)
    assert [a["alt"] for a in found.named("img")] == ["latents: one.svg", "latents: two.png"]
    kinds = [a["src"].split(",")[0] for a in found.named("img")]
    assert kinds == ["data:image/svg+xml;base64", "data:image/png;base64"]
    assert base64.b64decode(found.named("img")[1]["src"].split(",")[1]) == (folder / "two.png").read_bytes()


def test_without_two_systems_there_is_no_sheet_and_a_word_why(tmp_path):
    made = page.build([pages.records(tmp_path / "a.jsonl", pages.texts(9))])
    assert made.sheet is None and "takes texts of two systems" in made.notices[0]
    assert made.notices[0] in Reader(made.html).text and "<script" not in made.html
    other = pages.records(tmp_path / "b.jsonl", pages.texts(9), prompts=["other"])
    assert "different texts for the same prompt" in page.build([tmp_path / "a.jsonl", other]).notices[0]


def test_the_same_runs_give_the_same_page(runs):
    assert page.build(runs).html == page.build(runs).html


def test_words_are_those_of_the_evaluation(tmp_path):
    folder = pages.evaluation(tmp_path / "e", labels=["rnn"])
    found = json.loads((folder / "report.json").read_text())
    found["protocol"]["tokenize"] = "chars"
    (folder / "report.json").write_text(json.dumps(found))
    [run] = read_all([folder])
    html = text_sections.statistics(run.texts, metric_sections.Colours())
    sizes = [len(t.text.replace(" ", "")) for t in run.texts[0].items]
    assert f"<td>{sum(sizes) / len(sizes):.1f}</td>" in html and "tokens, mean" in html


def test_an_evaluation_without_its_samples_says_so(tmp_path):
    folder = pages.evaluation(tmp_path / "e", labels=["rnn"])
    for file in (folder / "samples").iterdir():
        file.unlink()
    assert "whose samples are not there" in Reader(page.build([folder]).html).text


# What a model writes stays text


@pytest.fixture
def hostile(tmp_path):
    """Texts, prompts, labels, paths, options, places and figures' names that would take the page over."""
    for name in ("one", "two"):
        items = [f"{h} of {n}" for n in range(8) for h in HOSTILE]
        pages.records(tmp_path / f"{name}.jsonl", [f"{name}: {i}" for i in items], prompts=HOSTILE)
    pages.copies(tmp_path / "c.json", text=f"a {HOSTILE[0]}", place=HOSTILE[3], prompt=HOSTILE[2], label=HOSTILE[1])
    folder = pages.training(tmp_path / "<img src=x onerror=alert(1)>", samples=HOSTILE, data=HOSTILE)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"step": 99, HOSTILE[0]: 1.0, f"eval_{HOSTILE[2]}": 2.0}) + "\n")
    pages.evaluation(tmp_path / "e", labels=[HOSTILE[4], "x"])
    first = f"{HOSTILE[2].replace('=', ' ')}={tmp_path / 'one.jsonl'}"
    return [first, tmp_path / "two.jsonl", tmp_path / "c.json", folder, f"<b>={tmp_path / 'e'}"]


def test_hostile_texts_become_no_markup(hostile):
    made = page.build(hostile, title=HOSTILE[1], pairs=100)
    found = Reader(made.html)
    assert [a.get("id") for a in found.named("script")] == ["sheet-data", None]
    assert not found.named("img") and not [
        t for t, _ in found.elements if t in ("b", "iframe", "object", "form", "base")
    ]
    assert {a["href"][0] for a in found.named("a")} == {"#"}
    for tag, attributes in found.elements:
        assert not [n for n in attributes if n.startswith("on")], tag
    assert not set(made.html) & set("\u202e\u2028\x1b\x00")
    assert HOSTILE[1] in found.text and "<U+202E>back<U+2028>wards␛[31m␀" in found.text


def test_nothing_is_loaded_from_elsewhere(runs):
    html = page.build(runs).html
    for tag, attributes in Reader(html).elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    [policy] = [a["content"] for t, a in Reader(html).elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy


def test_the_key_is_not_in_the_page(runs):
    made = page.build(runs, samples=2)
    data = re.search(r'<script type="application/json" id="sheet-data">(.*?)</script>', made.html)[1]
    shown = Reader(made.html).text
    for pair in made.sheet.pairs:
        assert pair.a not in shown and pair.b not in shown  # a text beside its system's name would tell
    systems = {s for p in made.sheet.pairs for s in p.systems}
    assert systems == {"small", "large", "rnn temperature=1", "gan temperature=1"}
    assert not [s for s in systems if s in data]
    assert set(json.loads(data)["pairs"][0]) == {"id", "prompt", "a", "b"}


# In a browser


def test_a_browser_may_be_missing_but_not_in_ci(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        chromium()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        chromium()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_loads_without_an_error_and_does_not_scroll_sideways(browser, runs, tmp_path, width, dark):  # noqa: F811
    browser.open(write(tmp_path, page.build(runs).html), width, dark=dark)
    assert browser.errors == []
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert browser.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)"
    )
    assert browser.run("document.querySelectorAll('.chart polyline.line').length") > 8
    assert browser.run("document.querySelector('.picture img').naturalWidth") == 2
    shown = browser.run("getComputedStyle(document.querySelector('#samples tr')).display")
    assert shown == ("block" if width == 390 else "table-row")


def test_an_error_in_the_page_is_noticed(browser, runs, tmp_path):  # noqa: F811
    html = page.build(runs).html
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy".*?>')
    broken = policy.sub("", html).replace("recall();", "recall(); nowhere();")
    browser.open(write(tmp_path, broken))
    assert any("nowhere is not defined" in e for e in browser.errors)
    browser.open(write(tmp_path, html.replace("recall();", "recall(); nowhere();")))  # another script than the policy's
    assert any("Content Security Policy" in e for e in browser.errors)
    browser.open(write(tmp_path, html.replace("<h1>", '<img src="http://127.0.0.1:9/x.png"><h1>')))
    assert browser.errors


def test_hostile_texts_do_nothing(browser, hostile, tmp_path):  # noqa: F811
    browser.open(write(tmp_path, page.build(hostile, title="untouched", pairs=200).html), 390)
    assert browser.errors == [] and browser.run("document.title") == "untouched"
    assert browser.run("document.documentElement.scrollWidth") == 390
    total = browser.run("JSON.parse(document.getElementById('sheet-data').textContent).pairs.length")
    browser.run("document.getElementById('sheet').scrollIntoView()")  # keys answer where it is in view
    seen = set()
    for _ in range(total):
        seen.add(browser.run("document.getElementById('text-a').textContent"))
        browser.press("1")
    assert any("<script>document.title" in text for text in seen)
    assert browser.errors == [] and browser.run("document.title") == "untouched"
    assert browser.run("document.querySelectorAll('#sheet script, #sheet img, #sheet a').length") == 0


def answers(browser):  # noqa: F811
    return json.loads(browser.run("document.getElementById('answers').textContent"))


def test_the_sheet_takes_answers_by_buttons_and_keys_and_keeps_them(browser, runs, tmp_path):  # noqa: F811
    made = page.build(runs, pairs=5)
    file = write(tmp_path, made.html)
    browser.open(file)
    first = made.sheet.pairs[0]
    assert browser.run("document.getElementById('text-a').textContent") == first.a
    assert browser.run("document.getElementById('export').disabled") is True
    browser.run("document.getElementById('sheet').scrollIntoView()")
    browser.run("document.getElementById('choose-b').click()")
    assert browser.run("document.getElementById('text-b').textContent") == made.sheet.pairs[1].b
    for key in "31":
        browser.press(key)
    browser.run("document.getElementById('previous').click()")
    assert browser.run("document.getElementById('choose-a').getAttribute('aria-pressed')") == "true"
    browser.run("document.getElementById('rater').focus()")
    browser.press("2")  # a figure in a name is no answer
    assert answers(browser)["answers"] == {"p1": "b", "p2": "same", "p3": "a"}
    name = "document.getElementById('rater')"
    browser.run(f"{name}.value = 'Ann'; {name}.dispatchEvent(new Event('input'))")
    browser.open(file)
    assert answers(browser) == {"sheet": made.sheet.id, "rater": "Ann", "answers": {"p1": "b", "p2": "same", "p3": "a"}}
    assert "Pair 4 of 5, 3 answered" in browser.run("document.getElementById('progress').textContent")
    assert browser.errors == []


def test_answers_are_exported_as_a_file(browser, runs, tmp_path):  # noqa: F811
    made = page.build(runs, pairs=3, seed=7)
    folder = tmp_path / "downloads"
    folder.mkdir()
    browser.open(write(tmp_path, made.html))
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.run("document.getElementById('choose-same').click(); document.getElementById('export').click()")
    for _ in range(100):
        browser.settle(0.1)
        if found := list(folder.glob("*.json")):
            break
    assert json.loads(found[0].read_text()) == {"sheet": made.sheet.id, "rater": "", "answers": {"p1": "same"}}
    assert browser.errors == []


def test_a_browser_that_keeps_nothing_is_no_error(browser, runs, tmp_path):  # noqa: F811
    script = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied') } })"
    found = browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        browser.open(write(tmp_path, page.build(runs, pairs=3, seed=8).html))
        browser.run("document.getElementById('choose-a').click()")
        assert answers(browser)["answers"] == {"p1": "a"}
        assert "keeps nothing" in browser.run("document.getElementById('kept').textContent")
        assert browser.errors == []
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=found["identifier"])


def test_the_best_validations_are_not_cut_off_on_a_narrow_screen(browser, runs, tmp_path):  # noqa: F811
    browser.open(write(tmp_path, page.build(runs[:2]).html), 390)
    box = "document.querySelector('.stacked')"
    assert browser.run(f"{box}.scrollWidth <= {box}.clientWidth")
    shown = f"getComputedStyle({box}.querySelectorAll('td')[2], '::before').content"
    assert browser.run(shown) == '"lowest validation loss"'
    assert browser.errors == []
