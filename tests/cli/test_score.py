"""`aigc-text score`: records, coloured texts and pictures, and what is refused before a model is loaded."""

import json
import math
import re
import sys

import pytest
import tiny
from commands import MARKOV, file

from aigc_text import load
from aigc_text.outputs import Score, TokenScore
from aigc_text.plots import surprisal as pictures
from aigc_text.scoring import surprisal

TEXTS = ["the cat sat on the mat", "从前有一个国王 🙂", "<b>&amp; $x$ \x1b[31m"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save("gpt2", tmp_path_factory.mktemp("models") / "m")


@pytest.fixture
def tales(tmp_path):
    return file(tmp_path, "tales.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in TEXTS))


def test_records_of_texts_and_tokens(run, folder, tales):
    done = run("score", tales, "--model", folder)
    assert done.code == 0
    for record, score in zip(done.records, load(model=str(folder)).score(TEXTS), strict=True):
        assert record["text"] == score.text
        assert record["nll"] == pytest.approx(score.nll, rel=1e-5)
        assert record["bits_per_byte"] == pytest.approx(score.nll / math.log(2) / len(score.text.encode()), rel=1e-5)
        assert record["perplexity"] == pytest.approx(math.exp(score.nll / score.tokens), rel=1e-4)
        assert (record["kind"], record["model"], record["tokens"]) == ("exact", str(folder), score.tokens)
        assert "".join(t["text"] for t in record["per_token"]) == score.text
        assert sum(t["nll"] for t in record["per_token"]) == pytest.approx(score.nll, rel=1e-4)
        assert all(record["text"][t["start"] : t["end"]] == t["text"] for t in record["per_token"])
    tokens, size = sum(r["tokens"] for r in done.records), sum(len(t.encode()) for t in TEXTS)
    assert f"3 texts, {tokens} tokens, {size} bytes: " in done.err and "(exact)" in done.err


def test_plain_text_from_a_file_and_from_standard_input(run, folder, tmp_path):
    path = file(tmp_path, "tale.txt", "the cat\n\nsat on\n")
    lines = run("score", path, "--sample-by", "line", "--model", folder, "--no-tokens").records
    piped = run("score", "-", "--sample-by", "line", "--model", folder, "--no-tokens", stdin=b"the cat\r\n\nsat on\r")
    assert [r["text"] for r in lines] == ["the cat", "sat on"]
    assert piped.records == lines and "per_token" not in lines[0]
    [whole] = run("score", "-", "--model", folder, stdin=b"the cat\n\nsat on\n").records
    assert whole["text"] == "the cat\n\nsat on\n"


def test_chinese_has_a_figure_per_character_and_long_work_is_announced(run, folder, tmp_path, monkeypatch):
    path = file(tmp_path, "poem.txt", "从前有一个国王\n今天天气很好\n")
    done = run("score", path, "--sample-by", "line", "--model", folder)
    nll = sum(record["nll"] for record in done.records)
    assert f"{math.exp(nll / 15):.2f} a character" in done.err and "a word" not in done.err
    assert "To do" not in done.err
    monkeypatch.setattr("aigc_text.cli.score.LONG", 12)
    assert (
        "To do: 2 texts of 13 characters to score" in run("score", path, "--sample-by", "line", "--model", folder).err
    )


def test_an_output_file_appears_when_it_is_complete(run, refused, folder, tales, tmp_path):
    output = tmp_path / "scores.jsonl"
    done = run("score", tales, "--model", folder, "--output", output)
    assert done.out == "" and "scoring" in done.err
    assert [json.loads(line)["text"] for line in output.read_text("utf-8").splitlines()] == TEXTS
    assert not (tmp_path / "scores.jsonl.partial").exists()
    refused("score", tales, "--model", "no/such/model", "--output", output, says=["exists already", "--overwrite"])
    assert run("score", tales, "--model", folder, "--output", output, "--overwrite").code == 0


# Refusals


def test_mistakes_are_told_before_a_model_is_loaded(refused, plain, tales, tmp_path):
    none = ["--model", "no/such/model"]
    refused("score", tmp_path / "tale.jsonl", *none, says=["does not exist", "tales.jsonl"])
    refused("score", tales, *none, "--text-column", "body", says=["body"])
    refused("score", "-", *none, stdin=b" \n", says=["standard input holds no text"])
    refused("score", "-", *none, stdin=b"\xff", says=["not UTF-8 at byte 1"])
    late = file(tmp_path, "late.jsonl", '{"text": "a"}\n' * 50 + "{\n")
    refused("score", late, *none, says=["late.jsonl:51"])
    for name in ("a.gif", "a"):
        refused("score", tales, *none, "--picture", tmp_path / name, says=[".png, .svg, .html"])
    refused("score", tales, *none, "--picture", tmp_path / "no" / "a.png", says=["there is no folder"])
    file(tmp_path, "a.png", "")
    refused("score", tales, *none, "--picture", tmp_path / "a.png", says=["exists already", "--picture"])
    both = tmp_path / "b.html"
    refused("score", tales, *none, "--picture", both, "--output", both, says=["both"])
    for backend in (plain("Plain"), f"{MARKOV}:Markov"):
        refused("score", tales, "--backend", backend, says=["has no likelihood", "gpt2, code"])


BOUND = """
from aigc_text import Backend, Capabilities, Score

class Bound(Backend):
    capabilities = Capabilities(likelihood="bound")

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        return iter(())

    def score(self, texts):
        return (Score(text=t, nll=7.0, tokens=2, kind="bound") for t in texts)
"""


def test_a_bound_is_named_and_has_no_colours(run, refused, tales, tmp_path):
    backend = f"{file(tmp_path, 'bound.py', BOUND)}:Bound"
    done = run("score", tales, "--backend", backend)
    assert [(r["kind"], r["per_token"]) for r in done.records] == [("bound", [])] * 3
    assert "(bound)" in done.err
    for how in (["--picture", tmp_path / "a.png"], ["--format", "color"]):
        refused("score", tales, "--backend", backend, *how, says=["whole texts only", "--format jsonl"])
    assert not (tmp_path / "a.png").exists()


# Colours


def plainly(painted):
    return re.sub(r"\x1b\[(?:38;5;(?:16|231);48;5;\d+|[02])m", "", painted)


def test_a_terminal_gets_colours_and_nothing_from_the_text(run, folder, tales, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    done = run("score", tales, "--model", folder)
    shown = plainly(done.out)
    assert "\x1b" in done.out and "\x1b" not in shown
    for text in ("the cat sat on the mat∎", "从前有一个国王 🙂∎", "<b>&amp; $x$ ␛[31m∎"):
        assert f"\n{text}\n" in shown
    assert "text 1: " in shown and "12 bits" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    monochrome = run("score", tales, "--model", folder).out
    assert "\x1b" not in monochrome and json.loads(monochrome.splitlines()[0])["text"] == TEXTS[0]
    assert "\x1b" in run("score", tales, "--model", folder, "--format", "color").out


@pytest.mark.parametrize("kind", ["png", "svg", "html"])
def test_pictures_of_all_kinds(run, folder, tales, tmp_path, kind):
    picture = tmp_path / f"a.{kind}"
    done = run("score", tales, "--model", folder, "--picture", picture)
    assert done.code == 0 and len(done.records) == 3
    content = picture.read_bytes()
    assert {"png": content[:4] == b"\x89PNG", "svg": b"<svg" in content, "html": b"<!doctype" in content}[kind]
    if kind == "html":
        page = content.decode()
        assert "<b>" not in page and "\x1b" not in page and "国" in page
        spoken = re.sub(r"<[^>]*>", "", page.split("<h2>text 3")[1])
        assert "&lt;b&gt;&amp;amp; $x$ ␛[31m∎" in spoken
    else:
        missing = "no font here has" in done.err
        assert missing is bool(text_plots_missing(TEXTS))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["tales.jsonl", picture.name])


def text_plots_missing(texts):
    import warnings

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pictures._fonts("".join(texts).replace("\x1b", "␛"))
    return told


def test_a_long_text_is_drawn_in_part_and_says_so(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "LINES", 3)
    monkeypatch.setattr(pictures, "save", lambda figure, picture: drawn.append(figure))
    block = surprisal.Block("a", [surprisal.Piece("word ", 3.0)] * 200)
    pictures.draw([block], "caption", tmp_path / "a.png")
    words = [t.get_text() for t in drawn[0].axes[0].texts]
    assert "caption  (the first 3 of 12 lines)" in words
    assert len(drawn[0].axes[0].patches) == 2 * 19  # a heading and two lines of nineteen words


# Pieces, lines and colours


def scored(text, *tokens):
    """Tokens as (start, end, bits)."""
    per_token = tuple(TokenScore(start=a, end=b, nll=bits * math.log(2)) for a, b, bits in tokens)
    return Score(text=text, nll=0.0, tokens=len(tokens), per_token=per_token)


def test_pieces_are_the_text_and_add_up_the_tokens_of_a_character():
    found = list(surprisal.pieces(scored("a  前b ", (0, 1, 1.0), (3, 3, 2.0), (3, 4, 0.5), (4, 5, 4.0), (6, 6, 3.0))))
    assert [p.text for p in found] == ["a", "  ", "前", "b", " ", surprisal.END]
    assert [p.bits for p in found] == [
        pytest.approx(1),
        None,
        pytest.approx(2.5),
        pytest.approx(4),
        None,
        pytest.approx(3),
    ]
    assert [p.text for p in surprisal.pieces(scored("ab", (0, 2, 1.0)))] == ["ab"]  # no end token, no end
    assert list(surprisal.pieces(scored(""))) == []


def test_lines_break_at_line_feeds_before_words_and_in_what_is_too_long():
    def broken(columns, *texts):
        found = list(surprisal.lines([surprisal.Piece(t, 1.0) for t in texts], columns))
        assert all(sum(surprisal.width(p.text) for p in line) <= columns for line in found)
        return ["".join(p.text for p in line) for line in found]

    assert broken(9, "the", " ca", "t", " sat") == ["the cat", " sat"]
    assert broken(9, "a\n\nb", "\n") == ["a↵", "↵", "b↵"]
    assert broken(4, "abcdefghij") == ["abcd", "efgh", "ij"]
    assert broken(4, "从", "前", "有") == ["从前", "有"]
    assert broken(5, "从前有一个") == ["从前", "有一", "个"]
    assert broken(8, "\tx") == ["    x"]
    assert broken(8) == []


def test_colours_grow_darker_and_stay_within_the_scale():
    light = [sum(surprisal.colour(b)) for b in range(-1, 15)]
    assert light[0] == light[1] and light[-1] == light[-2] == light[-3]
    assert all(a > b for a, b in zip(light[1:13], light[2:14], strict=True))
    assert not surprisal.is_dark(surprisal.colour(0)) and surprisal.is_dark(surprisal.colour(12))
