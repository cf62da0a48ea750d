"""BLEU and Self-BLEU are nltk's, text by text; so are the tokens."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from aigc_text.errors import MetricError
from aigc_text.metrics.bleu import Bleu
from aigc_text.metrics.self_bleu import SelfBleu
from aigc_text.metrics.tokenization import words

ORDERS = (2, 3, 4, 5)
SENTENCES = st.lists(st.sampled_from("aabc"), max_size=9).map(" ".join)  # few words, so that texts come twice
CHUNKS = [
    "a",
    "dog",
    "dog's",
    "a-b",
    "x--y",
    "50",
    "3,5",
    ",",
    ",,",
    ".",
    "..",
    "u.s.",
    "'s",
    "s'",
    "can't",
    "'tis",
    "--",
]
CHUNKS += [
    "cannot",
    "gonna",
    "wanna",
    "d'ye",
    "more'n",
    '"',
    "''",
    "``",
    "(a)",
    "a:",
    "a,",
    "a.",
    "?",
    "é",
    "中文",
    "\n",
]
CHUNKS += ["'", "the'", "i'll", "won't", "İ", "$5", "a/b", "<unk>", "\t", "\u00a0", "ſ", "it's,", "a's's", "-a", "a-"]


def by_nltk(text, references):
    weights = [(1 / n,) * n for n in ORDERS]
    return sentence_bleu(references, text, weights, SmoothingFunction().method1)


def stacked(scores, name):
    assert list(scores) == [f"{name}-{n}" for n in ORDERS]
    return np.stack(list(scores.values()), 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(SENTENCES, min_size=1, max_size=5), st.lists(SENTENCES, min_size=1, max_size=6))
@example(["a a b"], ["a b", "a a b a"])  # two references equally close
@example(["", "a"], ["", ""])
def test_bleu_of_each_text_is_nltks(texts, references):
    expected = [by_nltk(text.split(), [r.split() for r in references]) for text in texts]
    scores = Bleu().scores(texts, references, tokenize="split")
    assert stacked(scores, "bleu") == pytest.approx(np.array(expected), abs=1e-9)
    found = Bleu().compute(predictions=texts, references=references, tokenize="split")
    assert list(found.values()) == pytest.approx(np.mean(expected, 0), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.lists(SENTENCES, min_size=2, max_size=7))
@example(["a a b", "a a b"])
@example(["a b c", "a b", "a b c a", "b"])
def test_self_bleu_leaves_out_one_copy_of_the_text(texts):
    tokens = [text.split() for text in texts]
    expected = [by_nltk(text, tokens[:i] + tokens[i + 1 :]) for i, text in enumerate(tokens)]
    assert stacked(SelfBleu().scores(texts, tokenize="split"), "self-bleu") == pytest.approx(
        np.array(expected), abs=1e-9
    )
    found = SelfBleu().compute(predictions=texts, tokenize="split")
    assert list(found.values()) == pytest.approx(np.mean(expected, 0), abs=1e-9)


def test_self_bleu_of_one_text_is_undefined():
    with pytest.raises(MetricError, match="undefined"):
        SelfBleu().compute(predictions=["a dog"])


@pytest.mark.parametrize("order", [1, True, 2.0, "3"])
def test_an_order_that_is_none_is_refused(order):
    with pytest.raises(MetricError, match="max_order is"):
        Bleu().compute(predictions=["a"], references=["a"], max_order=order)


def test_a_higher_order_changes_no_lower_one():
    texts, references = ["a b c a b", "b c"], ["a b c d", "b c a b"]
    short = Bleu().compute(predictions=texts, references=references, max_order=3)
    long = Bleu().compute(predictions=texts, references=references, max_order=7)
    assert list(short) == ["bleu-2", "bleu-3"] and list(long)[-1] == "bleu-7"
    assert {name: long[name] for name in short} == short
    assert 0 < long["bleu-7"] < long["bleu-3"] < 1 and not any(map(math.isnan, long.values()))


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text("ab0 ,.'s-nt", max_size=25),
        st.lists(st.sampled_from(CHUNKS), max_size=8).map(" ".join),
        st.lists(st.sampled_from(CHUNKS), max_size=6).map("".join),
        st.text(max_size=20),
    )
)
@example("A dog's bed, a well-made one, and a cat .")
@example("a  dog, ")
def test_words_are_those_of_nltk(text):
    assert words(text) == NLTKWordTokenizer().tokenize(text.lower())


def test_characters_and_white_space():
    assert words("春 眠\n不觉曉", "chars") == ["春", "眠", "不", "觉", "曉"]
    assert words(" A dog. ", "split") == ["A", "dog."]
    with pytest.raises(MetricError, match="Did you mean 'chars'"):
        words("a", "char")
