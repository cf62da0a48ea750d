"""`aigc-text evaluate`: its table, its files, and what it refuses."""

import csv
import io
import json

import pytest

TEXTS = [
    "a man rides a horse on the beach.",
    "a dog sleeps on a red couch.",
    "two children play with a ball.",
    "a bowl of fruit on a wooden table.",
]
METRICS = ["--metrics", "bleu,self-bleu,uniqueness,novelty"]


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """A file of real texts; samples are kept in a folder of the test's own."""
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "real.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def evaluate(run, texts):
    """`aigc-text evaluate` of four samples against these texts."""

    def ran(*words):
        result = run("evaluate", "--data", texts, *METRICS, "-n", "4", *words)
        assert result.code == 0, result.err
        return result

    return ran


def test_a_model_is_measured_below_the_real_data(evaluate, tiny_gpt2):
    result = evaluate("--backend", "gpt2", "--model", tiny_gpt2, "--max-new-tokens", "5")
    heading, real, model = result.out.splitlines()[:3]
    assert heading.startswith("quality and diversity") and "self-bleu-5↓" in heading
    assert real.startswith("real data") and model.startswith("gpt2")
    assert "sampling gpt2" in result.err
    assert result.err.index("To do: 4 texts to generate (1 model)") < result.err.index("sampling gpt2")
    assert "Protocol: 4 texts a row, seed 0; against 4 texts of" in result.out


def test_several_models_and_texts_from_elsewhere_share_a_table(evaluate, tiny_gpt2, plain, tmp_path):
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("a man.\n" * 4)
    named = [f"one={tiny_gpt2}", f"two=gpt2:{tiny_gpt2}", "--max-new-tokens", "5"]
    result = evaluate("--compare", *named, "--samples", f"theirs={theirs}", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(result.out)))
    assert [row["label"] for row in found] == ["real data", "one", "two", "theirs"]
    assert found[1]["bleu-2"] == found[2]["bleu-2"] != ""
    assert found[3]["uniqueness"] == "0.25"


def test_a_report_is_written_and_not_replaced_unasked(evaluate, refused, texts, tiny_gpt2, tmp_path):
    words = ["--backend", "gpt2", "--model", tiny_gpt2, "--max-new-tokens", "5", "--output", tmp_path / "out"]
    swept = evaluate(*words, "--sweep", "temperature=0.5:1.5:0.5", "--format", "json")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["frontier.png", "report.json", "samples", "table.csv", "table.md"]
    assert json.loads(swept.out)["rows"] == json.loads((tmp_path / "out" / "report.json").read_text())["rows"]
    assert (tmp_path / "out" / "table.md").read_text().count("temperature=") >= 3
    refused("evaluate", "--data", texts, *words, says=["holds a report already", "--overwrite"])
    again = evaluate(*words, "--overwrite", "--format", "markdown")
    assert "| real data | 4 |" in again.out


def test_the_same_seed_gives_the_same_table_and_another_does_not(evaluate, tiny_gpt2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--model", tiny_gpt2, "--max-new-tokens", "8", "--format", "csv"]
    first = evaluate(*words, "--cache", "one", "--seed", "1")
    assert evaluate(*words, "--cache", "two", "--seed", "1", "--batch-size", "3").out == first.out
    # four short texts may well have the same figures twice
    others = {evaluate(*words, "--cache", "one", "--seed", str(seed)).out for seed in range(2, 6)}
    assert others != {first.out}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], ["nothing to evaluate", "--samples"]),
        (["--compare"], ["--compare names no model"]),
        (["=runs/a"], ["NAME="]),
        (["gtp2"], ["'gtp2'", "Did you mean 'gpt2'?"]),
        (["gpt2", "gpt2"], ["used twice", "first="]),
        (["a\nb=gpt2"], [r"the label 'a\nb' has more than one line", "first="]),
        (["gpt2", "--metrics", "blue"], ["'blue'", "Did you mean 'bleu'?"]),
        (["m=MODEL", "--sweep", "temprature=1:2:1"], ["temprature", "Did you mean 'temperature'?"]),
        (["gpt2", "--sweep", "temperature=2:1:1"], ["2:1:1", "E.g. --sweep"]),
        (["gpt2", "-n", "0"], ["num_samples", "from 1"]),
        (["gpt2", "--temperature", "-1"], ["temperature", "above 0"]),
        (["m=MODEL", "-o", "sufix=x"], ["sufix"]),
        (["gpt2", "--train", "nowhere.txt"], ["nowhere.txt"]),
        (["--samples", "nowhere.txt"], ["nowhere.txt"]),
        (["x=nowhere/at/all"], ["nowhere/at/all"]),
        (["gpt2", "--output", "/proc/none"], ["/proc/none", "--output"]),
        (["m=MODEL", "--cache", "/proc/none"], ["/proc/none", "--cache"]),
        (["--samples", "DATA", "--sweep", "temperature=1,2"], ["--samples", "--sweep", "contradict each other"]),
    ],
)
def test_mistakes_are_refused_before_any_work(refused, texts, tiny_gpt2, words, says):
    words = [w.replace("MODEL", str(tiny_gpt2)).replace("DATA", str(texts)) for w in words]
    refused("evaluate", "--data", texts, "--metrics", "bleu", *words, says=says)


def test_data_that_is_missing_is_refused(refused, tmp_path):
    refused("evaluate", "gpt2", "--data", tmp_path / "none.txt", says=["none.txt"])
    refused("evaluate", "gpt2", says=["--data"])
