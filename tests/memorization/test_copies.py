"""The longest copies of texts: found as by hand, and drawn anew where there are too many."""

import json

import numpy as np
import pytest
from commands import file

from aigc_text import Backend, Completion
from aigc_text.errors import DataError
from aigc_text.memorization import regenerate
from aigc_text.memorization.copies import Copy, Lengths, Source, alike, words
from aigc_text.memorization.regenerate import WithoutCopies
from aigc_text.memorization.suffix_array import Match, SuffixArray


def array(*numbers):
    return np.array(numbers, np.int32)


def by_hand(corpus, sequence):
    """(length, start) of the longest match, by trying everything."""
    best = (0, 0)
    for i in range(len(sequence)):
        for p in range(len(corpus)):
            n = 0
            while i + n < len(sequence) and p + n < len(corpus) and corpus[p + n] == sequence[i + n] > 0:
                n += 1
            if n > best[0]:
                best = (n, i)
    return best


@pytest.mark.parametrize("seed", range(60))
def test_matches_are_those_by_hand(seed):
    draw = np.random.default_rng(seed)
    size = [1, 2, 3, 10, 40_000][seed % 5]
    corpus = draw.integers(seed % 2, size + 1, draw.integers(1, 60)).astype(np.int32)
    index = SuffixArray(corpus)
    if seed % 2:  # without borders inside, whose order does not matter
        whole = [*corpus.tolist(), 0]
        assert index.order.tolist() == sorted(range(len(whole)), key=lambda n: whole[n:])
    queries = [draw.integers(0, size + 2, draw.integers(0, 20)).astype(np.int32) for _ in range(4)]
    queries.append(np.concatenate([corpus[2:30], corpus[:10]]))
    for query, match in zip(queries, index.longest(queries), strict=True):
        length, start = by_hand(corpus, query)
        assert match.length == length
        if length:
            assert match.start == start
            assert corpus[match.place : match.place + length].tolist() == query[start : start + length].tolist()


def test_no_sequence_and_no_match():
    index = SuffixArray(array(1, 2, 0, 3))
    assert index.longest([]) == []
    assert [m.length for m in index.longest([array(), array(9, 0, -1), array(2, 3)])] == [0, 0, 1]
    assert index.longest([array(7, 1, 2, 3)])[0] == Match(2, 1, 0)


# Files


def test_where_a_copy_stands(tmp_path):
    path = file(tmp_path, "train.txt", "A cat sat.\n\nThe dog ran\naway from it, fast.\n")
    [found] = Source(path).longest(["Well, the dog ran away\tfrom it; then"])
    assert found == Copy(5, 10, 30, f"{path}:3")
    assert "Well, the dog ran away\tfrom it; then"[10:30] == "dog ran away\tfrom it"
    assert Source(path, sample_by="line").longest(["The dog ran away from it"]) == [Copy(3, 0, 11, f"{path}:3")]
    assert Source(path, sample_by="paragraph").longest(["sat. The dog ran away"]) == [Copy(4, 5, 21, f"{path}:3")]
    assert Source(path).longest(["sat. The dog ran away"])[0].length == 6
    assert Source(path).longest(["Zebra", ""]) == [Copy(0), Copy(0)]


def test_records_and_chinese(tmp_path):
    rows = [{"text": "床前明月光，疑是地上霜。"}, {"text": "举头望明月，低头思故乡。"}]
    path = file(tmp_path, "poems.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    [found] = Source(path).longest(["我举头望明月光"])
    assert (found.length, found.place) == (5, f"{path}:2")
    assert "我举头望明月光"[found.start : found.end] == "举头望明月"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("re\u0301sume\u0301s, no\u0308", ["re\u0301sume\u0301s", ",", "no\u0308"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("你好 —— don't \u0301x", ["你", "好", "——", "don", "'", "t", "\u0301", "x"]),
    ],
)
def test_marks_that_combine_belong_to_their_word(text, found):
    assert words(text) == found


def test_a_source_without_words(tmp_path):
    with pytest.raises(DataError, match="holds no word"):
        Source(file(tmp_path, "empty.txt", "\n \n"))
    with pytest.raises(DataError, match="does not exist"):
        Source(tmp_path / "missing.txt")


def test_lengths():
    found = Lengths.of([Copy(n) for n in (1, 2, 2, 7)], threshold=2)
    assert found == Lengths(4, 3.0, 2.0, pytest.approx(6.25), 7, 0.25, ((1, 1), (2, 2), (7, 1)))


def test_held_out_text_is_cut_like_the_texts():
    found = alike(["a b c", "a", "a b", "", "a b c d e f g h"], ["1 2", "3 4 5 6 7"])
    assert sorted(found) == ["1", "3 4 5", "6 7"]  # nothing is as long as eight words
    assert alike(["a b"], []) == []


# Drawn anew


class Drawing(Backend):
    """Text j of a prompt is the j-th letter; `seeded` says whether it counts as drawn."""

    def __init__(self, seeded=True):
        self.seeded, self.name = seeded, "drawing"

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        options = self.resolve(options, overrides)
        for i, p in enumerate(prompts):
            for j in range(options.num_return_sequences or 1):
                text = "abcdefghijklmnopqrstuvwxyz"[j] + " " + p
                yield Completion(prompt=p, text=text, prompt_index=i, index=j, seed=1 if self.seeded else None)


@pytest.fixture
def source(tmp_path):
    return Source(file(tmp_path, "train.txt", "a dog\nb dog\nc dog\nd dog\ne dog e\nx\n"), sample_by="line")


def drawn(backend, prompts, **options):
    return [(c.text, c.index, c.copied, c.tries) for c in backend.generate(prompts, seed=1, **options)]


def test_what_copies_too_much_is_drawn_anew(source):
    guarded = WithoutCopies(Drawing(), source, most=1)
    # With two texts a prompt, the tries of text 0 are texts 2, 4, 6, …: c and e copy two words, g copies one.
    assert drawn(guarded, ["dog", "owl"], num_return_sequences=2) == [
        ("g dog", 0, 1, 4),
        ("f dog", 1, 1, 3),
        ("a owl", 0, 1, 1),
        ("b owl", 1, 1, 1),
    ]
    assert (guarded.drawn_anew, guarded.gave_up) == (2, 0)


def test_it_gives_up_with_the_least_copy(source, monkeypatch):
    monkeypatch.setattr(regenerate, "TRIES", 2)
    guarded = WithoutCopies(Drawing(), source, most=1)
    assert drawn(guarded, ["dog"]) == [("a dog", 0, 2, 3)]
    assert guarded.gave_up == 1
    strict = WithoutCopies(Drawing(), source, most=0)
    assert drawn(strict, ["x"], num_return_sequences=1) == [("a x", 0, 1, 3)]


def test_what_is_not_drawn_is_not_tried_again(source):
    guarded = WithoutCopies(Drawing(seeded=False), source, most=1)
    assert drawn(guarded, ["dog"]) == [("a dog", 0, 2, 1)]
    assert guarded.gave_up == 1


def test_windows_and_wanted_texts(source, monkeypatch):
    from aigc_text import load

    monkeypatch.setattr(regenerate, "WINDOW", 2)
    guarded = WithoutCopies(Drawing(), source, most=1)
    some = guarded.generate_some(["dog"] * 5, guarded.resolve(None, {"seed": 1}), lambda i, _: i in (0, 3))
    assert [(c.prompt_index, c.text) for c in some] == [(0, "f dog"), (3, "f dog")]
    model = load("rnn")
    options = model.resolve(None, {"seed": 3, "num_return_sequences": 2, "max_new_tokens": 16})
    plain = [c.text for c in model.generate([""] * 5, options)]
    guarded = WithoutCopies(model, source, most=99)
    assert [c.text for c in guarded.generate([""] * 5, options)] == plain
    assert [c.text for c in guarded.generate([""] * 5, options, batch_size=3)] == plain


# The commands


@pytest.fixture
def train(tmp_path):
    return file(tmp_path, "train.txt", "a man riding a wave on top of a surfboard .\na dog runs .\n")


def test_the_command(run, tmp_path, train):
    texts = file(
        tmp_path,
        "texts.jsonl",
        json.dumps({"text": "see a man riding a wave on a <b>", "prompt": "P"})
        + "\n"
        + json.dumps({"text": "dog"})
        + "\n",
    )
    held = file(tmp_path, "held.txt", "a cat sleeps on a bed all day long .\n")
    out = tmp_path / "copies.json"
    done = run("copies", texts, "--source", train, "--held-out", held, "--threshold", 5, "--output", out, "--show", 1)
    assert done.code == 0, done.err
    assert f"6 words, {train}:1:\n  a man riding a wave on\n" in done.out
    assert done.out.splitlines()[1].split() == ["texts", "2", "3.5", "3.5", "5.8", "6", "50.0%"]
    found = json.loads(out.read_text())
    assert found["kind"] == "copies" and found["label"] == "texts"
    assert found["outputs"]["histogram"] == [[1, 1], [6, 1]]
    assert found["held_out"]["texts"] == 2 - 1  # of nine words there is one piece, and none is left for one more
    assert found["texts"][0] == {
        "label": "texts", "prompt": "P", "text": "see a man riding a wave on a <b>",
        "length": 6, "start": 4, "end": 26, "place": f"{train}:1",
    }  # fmt: skip
    assert json.loads(run("copies", texts, "--source", train, "--format", "json").out)["held_out"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.jsonl", "--source", "TRAIN"], ["missing.jsonl does not exist"]),
        (["TRAIN", "--source", "missing.txt"], ["missing.txt does not exist"]),
        (["TRAIN", "--source", "TRAIN", "--held-out", "gone.txt"], ["gone.txt does not exist"]),
        (["TRAIN", "--source", "FOLDER"], ["is a folder"]),
        (["TRAIN"], ["--source"]),
    ],
)
def test_refusals(refused, tmp_path, train, words, says):
    refused("copies", *({"TRAIN": train, "FOLDER": tmp_path}.get(w, w) for w in words), says=says)


def test_generate_without_copies(run, tmp_path):
    plain = run("generate", "--backend", "rnn", "--prompt", "", "-n", 8, "--seed", 2, "--format", "jsonl")
    texts = [r["text"] for r in plain.records]
    train = file(tmp_path, "train.txt", texts[0] + "\n" + texts[3] + "\n")
    words = ["generate", "--backend", "rnn", "--prompt", "", "-n", 8, "--seed", 2, "--format", "jsonl"]
    words += ["--max-copy", 7, "--copy-source", train]
    done = run(*words)
    assert done.code == 0, done.err
    assert "drawn anew" in done.err
    assert all(r["copied"] <= 7 for r in done.records)
    for n, (record, text) in enumerate(zip(done.records, texts, strict=True)):
        assert (record["text"] == text) == (record["tries"] == 1)
        assert record["index"] == n
    assert done.records[0]["text"] != texts[0] and done.records[0]["options"]["max_copy"] == 7
    out = tmp_path / "out.jsonl"
    assert run(*words, "--output", out).code == 0
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == [r["text"] for r in done.records]


def test_generate_says_that_it_gives_up(run, tmp_path):
    train = file(tmp_path, "train.txt", "a man in a kitchen . the and of on with\n")
    done = run(
        "generate", "--backend", "rnn", "--prompt", "", "--seed", 2, "--max-copy", 0, "--copy-source", train,
        "--max-new-tokens", 30,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "1 text(s) copy more than --max-copy allows after all tries" in done.err


def test_max_copy_needs_its_source(refused, train):
    refused("generate", "--backend", "rnn", "--prompt", "", "--max-copy", "3", says=["--copy-source"])
    refused(
        "generate", "--backend", "rnn", "--prompt", "", "--max-copy", "3", "--copy-source", "gone.txt",
        says=["gone.txt does not exist"],
    )  # fmt: skip


def test_an_output_that_cannot_be_written_is_told_before_anything_is_read(refused, tmp_path):
    says = ["no/such.json.partial cannot be written", "--output"]
    refused("copies", "gone.txt", "--source", "gone.txt", "--output", "no/such.json", says=says)
    refused("copies", "gone.txt", "--source", "gone.txt", "--output", tmp_path / "o", says=["gone.txt does not exist"])
    assert list(tmp_path.iterdir()) == []
