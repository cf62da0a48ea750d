"""`aigc-text report`: the page and its key, the tally, and what is refused."""

import json

import pages
import pytest

from aigc_text.html_report import blind


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with one run of every kind and a few that are none."""
    monkeypatch.chdir(tmp_path)
    pages.everything(tmp_path)
    pages.records(tmp_path / "one.jsonl", pages.texts(40, 0, "one"))
    pages.records(tmp_path / "two.jsonl", pages.texts(40, 1, "two"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "seeds").mkdir()
    pages.training(tmp_path / "seeds" / "seed-0")
    pages.training(tmp_path / "lr=0.1")
    return tmp_path


def test_a_page_and_its_key_are_written_and_not_replaced_unasked(run, refused, folder):
    words = ["report", "a=one.jsonl", "b=two.jsonl", "--output", "report.html", "--pairs", "9"]
    result = run(*words, "--title", "Two models")
    assert (result.code, result.out) == (0, ""), result.err
    assert "The page is report.html" in result.err and "report.key.json" in result.err
    html, key = (folder / "report.html").read_text(), json.loads((folder / "report.key.json").read_text())
    assert "<h1>Two models</h1>" in html and f'"id": "{key["sheet"]}"' in html
    assert len(key["pairs"]) == 9 and {s for p in key["pairs"].values() for s in p.values()} == {"a", "b"}
    assert not list(folder.glob("*.partial"))
    refused(*words, says=["report.html exists already", "--overwrite"])
    (folder / "report.html").unlink()
    refused(*words, says=["report.key.json exists already"])
    assert run(*words, "--overwrite", "--seed", "5").code == 0
    assert json.loads((folder / "report.key.json").read_text())["sheet"] != key["sheet"]


def test_answers_are_tallied(run, folder):
    assert run("report", "a=one.jsonl", "b=two.jsonl", "--output", "r.html", "--pairs", "8").code == 0
    key = json.loads((folder / "r.key.json").read_text())
    sides = {name: "a" if pair["a"] == "a" else "b" for name, pair in key["pairs"].items()}
    for rater in ("ann", "bob"):
        (folder / f"{rater}.json").write_text(json.dumps({"sheet": key["sheet"], "rater": rater, "answers": sides}))
    result = run("report", "--tally", "ann.json", "bob.json", "--key", "r.key.json")
    assert result.code == 0, result.err
    assert result.out.splitlines()[1].split()[:6] == ["a", "b", "8", "0", "0", "1.000"]
    found = json.loads(run("report", "--tally", "ann.json", "--key", "r.key.json", "--format", "json").out)
    assert found[0]["p"] == 2 / 2**8 and found[0]["raters"] == 1


def test_a_folder_may_have_an_equals_sign(run, folder):
    assert run("report", "lr=0.1", "--output", "x.html").code == 0
    assert "lr=0.1" in (folder / "x.html").read_text()


def broken(folder):
    """Files that are wrong in one way each."""
    (folder / "bad").mkdir()
    (folder / "bad" / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"loss": 1}\n{"step": 2}\n')
    (folder / "early").mkdir()
    (folder / "early" / "metrics.jsonl").write_text("")
    (folder / "torn").mkdir()
    (folder / "torn" / "report.json").write_text('{"protocol": {}')
    (folder / "old").mkdir()
    (folder / "old" / "report.json").write_text('{"rows": []}')
    (folder / "rows").mkdir()
    (folder / "rows" / "report.json").write_text('{"protocol": {}, "rows": [], "findings": []}')
    (folder / "list.json").write_text("[1]")
    (folder / "other.json").write_text('{"kind": "difference"}')
    found = json.loads((folder / "copied.json").read_text())
    found["texts"][0]["end"] = 10_000
    (folder / "outside.json").write_text(json.dumps(found))
    found["texts"][0]["end"] = 1
    for name, pair in (("negative", [-(10**20), 1]), ("huge", [1, 10**400])):
        found["outputs"]["histogram"] = [pair, [2, 1]]
        (folder / f"{name}.json").write_text(json.dumps(found))
    (folder / "far").mkdir()
    (folder / "far" / "metrics.jsonl").write_text(f'{{"step": {10**400}, "loss": 2}}\n{{"step": 2, "loss": 2}}\n')
    (folder / "numbers.jsonl").write_text('{"text": 3}\n')
    (folder / "nothing.jsonl").write_text("\n")
    (folder / "latin.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    (folder / "fake.png").write_bytes(b"GIF89a")
    (folder / "notes.txt").write_text("text")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], ["there is no run nowhere", "Looked in"]),
        (["smal"], ["there is no run smal", "Did you mean 'small'?"]),
        (["empty"], ["empty holds no run", "metrics.jsonl", "aigc-text train"]),
        (["seeds"], ["seeds holds no run", "seeds/seed-0"]),
        (["bad"], ["bad/metrics.jsonl:2", "step"]),
        (["early"], ["early/metrics.jsonl holds no figure yet", "leave the run out"]),
        (["small/metrics.jsonl"], ["metrics.jsonl:1 holds no text", "by its folder"]),
        (["torn"], ["torn/report.json", "aigc-text evaluate --output"]),
        (["old"], ["old/report.json is not the report"]),
        (["rows"], ["rows/report.json is not the report"]),
        (["comparison/report.json"], ["is no file of copies", "Name its folder"]),
        (["list.json"], ["list.json is not a JSON object"]),
        (["other.json"], ["other.json is no file of copies"]),
        (["outside.json"], ["outside.json is a broken file of copies", "10000"]),
        (["negative.json"], ["negative.json is a broken file of copies"]),
        (["huge.json"], ["huge.json is a broken file of copies"]),
        (["far"], ["far/metrics.jsonl:1 is no line of metrics"]),
        (["numbers.jsonl"], ["numbers.jsonl:1: column 'text' is not text but the number 3", '{"text": "3"}']),
        (["nothing.jsonl"], ["nothing.jsonl holds no text"]),
        (["latin.jsonl"], ["latin.jsonl:1 is not UTF-8"]),
        (["fake.png"], ["fake.png is not a picture"]),
        (["notes.txt"], ["notes.txt is no run", "A run is"]),
        (["=small"], ["NAME=PATH"]),
        (["small", "small"], ["the label 'small' is used twice", "one="]),
        (["x=small", "x=large"], ["the label 'x' is used twice"]),
        (["small", "--output", "report"], ["--output report is no name of a web page", "report.html"]),
        (["small", "--output", "none/report.html"], ["none/report.html", "cannot be written"]),
        (["small", "--key", "k.json"], ["--key k.json without --tally"]),
        (["small", "--format", "json"], ["--format json without --tally"]),
        (["small", "--tally", "--output", "report.html"], ["--tally and --output report.html contradict each other"]),
        (["small", "--pairs", "-1"], ["--pairs"]),
        (["x" * 5000], ["there is no run"]),
        ([], ["RUN"]),
    ],
)
def test_mistakes_are_refused(refused, folder, words, says):
    broken(folder)
    if "--output" not in words:
        words = [*words, "--output", "report.html"]
    refused("report", *words, says=says)
    assert not (folder / "report.html").exists() and not list(folder.glob("**/*.partial"))


def test_a_page_without_a_place_is_refused(refused, folder):
    refused("report", "small", says=["--output report.html"])


SHEET = {"kind": blind.KIND, "sheet": "s1", "seed": 0, "pairs": {"p1": {"a": "x", "b": "y"}}}


@pytest.mark.parametrize(
    ("answers", "key", "says"),
    [
        ({"sheet": "s2", "answers": {}}, SHEET, ["a.json answers sheet 's2'", "'s1'", "--key"]),
        ({"sheet": "s1", "answers": {"p9": "a"}}, SHEET, ["a pair 'p9'"]),
        ({"sheet": "s1", "answers": {"p1": "left"}}, SHEET, ["'left'", "Allowed: a, b, same"]),
        ({"sheet": "s1", "answers": {"p1": ["a"]}}, SHEET, ["['a']", "Allowed: a, b, same"]),
        ({"sheet": "s1"}, SHEET, ["a.json holds no answers", "Export answers"]),
        ([], SHEET, ["a.json is not a JSON object"]),
        ("{", SHEET, ["a.json is not valid JSON"]),
        (None, SHEET, ["a.json cannot be read"]),
        ({"sheet": "s1", "answers": {}}, {"kind": "x"}, ["k.json is not the key of a blind sheet"]),
        ({"sheet": "s1", "answers": {}}, {**SHEET, "pairs": {"p1": 3}}, ["k.json is not the key"]),
        ({"sheet": "s1", "answers": {}}, {**SHEET, "pairs": {"p1": {"a": 1, "b": 2}}}, ["k.json is not the key"]),
        ({"sheet": "s1", "answers": {}}, None, ["k.json cannot be read", "--key report.key.json"]),
    ],
)
def test_answers_and_keys_that_do_not_fit_are_refused(refused, folder, answers, key, says):
    for name, content in (("a.json", answers), ("k.json", key)):
        if content is not None:
            (folder / name).write_text(content if content == "{" else json.dumps(content))
    refused("report", "--tally", "a.json", "--key", "k.json", says=says)


def test_one_rater_is_not_counted_twice(refused, folder):
    (folder / "k.json").write_text(json.dumps(SHEET))
    for name in ("a.json", "b.json"):
        (folder / name).write_text(json.dumps({"sheet": "s1", "rater": "ann", "answers": {"p1": "a"}}))
    refused("report", "--tally", "a.json", "b.json", "--key", "k.json", says=["b.json", "'ann' already"])
