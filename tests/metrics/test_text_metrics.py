"""What metrics over texts refuse, and their figures where they can be found in another way."""

import doctest
import importlib
import re
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_text.errors import MetricError
from aigc_text.evaluation import metric_groups
from aigc_text.metrics.base import TextMetric
from aigc_text.metrics.bleu import Bleu
from aigc_text.metrics.distinct import Distinct
from aigc_text.metrics.lengths import Lengths
from aigc_text.metrics.novelty import Novelty
from aigc_text.metrics.sacrebleu import SacreBleu
from aigc_text.metrics.self_bleu import SelfBleu
from aigc_text.metrics.uniqueness import Uniqueness
from aigc_text.metrics.vocabulary import Vocabulary

METRICS = [Bleu, SelfBleu, Distinct, Uniqueness, Novelty, Lengths, Vocabulary, SacreBleu]


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_has_an_example_that_is_true_and_a_citation(metric):
    assert ">>>" in metric.__doc__ and metric.citation.count("{") == metric.citation.count("}") > 0
    assert doctest.testmod(importlib.import_module(metric.__module__)).failed == 0
    assert issubclass(metric, TextMetric) and metric().description == metric.__doc__


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_becomes_one_of_evaluate_on_request(metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_METRICS_CACHE", str(tmp_path))
    made = metric().as_evaluate()
    assert isinstance(made, evaluate.Metric) and not isinstance(metric(), evaluate.Metric)
    assert (made.name, made.description, made.citation) == (metric().name, metric.__doc__, metric.citation)
    texts, others = ["a dog sits on a bed", "a cat"], ["a dog sits on a mat", "a cow"]
    expected = metric().compute(predictions=texts, references=others)
    assert made.compute(predictions=texts, references=others) == expected
    made.add(prediction=texts[0], reference=others[0])
    made.add_batch(predictions=texts[1:], references=others[1:])
    assert len(made) == 2 and made.compute() == expected and len(made) == 0
    assert evaluate.combine([made]).compute(predictions=texts, references=others) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_no_text_is_refused_with_its_place(metric):
    for given_texts, message in [
        ("a dog", r"predictions is str 'a dog'"),
        (5, r"predictions is int 5"),
        (["a", None], r"predictions\[1\] is NoneType None"),
        ([], "no text to measure"),
    ]:
        with pytest.raises(MetricError, match=message):
            metric().compute(predictions=given_texts, references=["a", "b"])
    with pytest.raises(MetricError, match="references is str"):
        metric().compute(predictions=["a", "b"], references="a dog")
    with pytest.raises(MetricError, match=r"references\[1\] is (bytes|int)"):
        metric().compute(predictions=["a", "b"], references=["a", 7])


@pytest.mark.parametrize("metric", METRICS)
def test_references_that_are_needed_are_asked_for_and_others_are_not(metric):
    if metric.needs_references:
        with pytest.raises(MetricError, match="nothing to compare with"):
            metric().compute(predictions=["a", "b"])
    else:
        assert metric().compute(predictions=["a", "b"])


@pytest.mark.parametrize("metric", METRICS)
def test_empty_texts_crash_nothing(metric):
    expected = {Uniqueness: 0.5}.get(metric, 0.0)  # of two texts alike; all else counts tokens
    if metric is Distinct:
        with pytest.raises(MetricError, match="no token"):
            metric().compute(predictions=["", ""])
    else:
        found = metric().compute(predictions=["", ""], references=["", ""])
        assert found == dict.fromkeys(found, expected) != {}


@pytest.mark.parametrize("metric", [Bleu, SelfBleu, Novelty])
def test_a_figure_is_the_mean_of_its_scores(metric):
    texts, others = ["a dog", "a cat sits", "a cow"], ["a dog", "a cat"]
    scores = metric().scores(texts, others) if metric.needs_references else metric().scores(texts)
    assert all(each.shape == (3,) for each in scores.values())
    found = metric().compute(predictions=texts, references=others)
    assert found == {name: pytest.approx(each.mean()) for name, each in scores.items()}


def test_the_example_of_the_page_runs(capsys):
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    exec(re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1], {})
    bleu, self_bleu, error = capsys.readouterr().out.splitlines()
    assert "'bleu-5': 0.127" in bleu and self_bleu.startswith("{'self-bleu-2': 0.48986")
    assert float(error.split()[0]) == pytest.approx(float(bleu.split()[1].strip(",")))


@pytest.mark.parametrize("metric", METRICS)
def test_the_figures_are_the_columns_of_an_evaluation(metric):
    texts = ["a dog sits on a bed"] * 2
    found = metric().compute(predictions=texts, references=texts)
    assert tuple(found) == metric_groups.GROUPS[metric().name.replace("_", "-").replace("sacre-", "sacre")].columns


def test_texts_given_before_are_used_once():
    metric = Novelty()
    metric.add(prediction="a dog", reference="a dog")
    metric.add_batch(predictions=["a cat"])
    assert metric.compute() == {"novelty": 0.5}
    metric.add(prediction="a dog")
    with pytest.raises(MetricError):
        metric.compute()
    assert metric.compute(predictions=["a cow"], references=["a dog"]) == {"novelty": 1.0}


def test_distinct_counts_over_the_whole_set():
    found = Distinct().compute(predictions=["A b a b", "a b c"])
    assert found == {"distinct-1": 3 / 7, "distinct-2": 3 / 5, "distinct-3": 1.0, "distinct-4": 1.0}
    assert Distinct().compute(predictions=["a b"], max_order=3) == {"distinct-1": 1.0, "distinct-2": 1.0}
    with pytest.raises(MetricError, match="max_order"):
        Distinct().compute(predictions=["a"], max_order=0)


def test_case_and_white_space_make_no_text_new():
    assert Uniqueness().compute(predictions=["A  dog.", "a dog .", "a dog"]) == {"uniqueness": 2 / 3}
    assert Novelty().compute(predictions=["a\tDog.", "a dogs."], references=["a dog ."]) == {"novelty": 0.5}
    assert Novelty().compute(predictions=["A dog"], references=["a dog"], tokenize="split") == {"novelty": 1.0}


@settings(max_examples=60, deadline=None)
@given(*[st.lists(st.integers(0, 6), min_size=1, max_size=5)] * 2)
def test_the_distance_of_lengths_is_that_of_sorted_samples(one, other):
    expected = np.abs(np.sort(one * len(other)) - np.sort(other * len(one))).mean()  # both as often as it takes
    texts, references = ([" ".join("x" * n) for n in each] for each in (one, other))
    found = Lengths().compute(predictions=texts, references=references)
    assert found["length-w1"] == pytest.approx(expected)
    assert (found["length-mean"], found["length-sd"]) == (pytest.approx(np.mean(one)), pytest.approx(np.std(one)))


def test_the_divergence_of_vocabularies():
    def found(texts, references):
        return Vocabulary().compute(predictions=texts, references=references)

    assert found(["a b", "b a"], ["a b"]) == {"types": 2.0, "unseen-tokens": 0.0, "unigram-jsd": 0.0}
    assert found(["a b"], ["c d e"]) == {"types": 2.0, "unseen-tokens": 1.0, "unigram-jsd": pytest.approx(1.0)}
    p, q = np.array([3 / 4, 1 / 4, 0]), np.array([1 / 3, 0, 2 / 3])
    kl = sum(np.nansum(x[x > 0] * np.log2(x[x > 0] / ((p + q) / 2)[x > 0])) for x in (p, q)) / 2
    assert found(["a a", "a b"], ["a c c"])["unigram-jsd"] == pytest.approx(kl)
    assert found(["a a", "a b"], ["a c c"])["unseen-tokens"] == 0.25
    assert Vocabulary().compute(predictions=["a a"]) == {"types": 1.0} == found(["a"], [""])


def test_sacrebleu_gives_the_figure_of_its_own_page():
    texts = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    references = [
        ["The dog bit the man.", "The dog had bit the man."],
        ["It was not unexpected.", "No one was surprised."],
        ["The man bit him first.", "The man had bitten the dog."],
    ]
    metric = SacreBleu()
    assert metric.compute(predictions=texts, references=references)["sacrebleu"] == pytest.approx(48.53, abs=0.005)
    assert metric.signature.startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    single = metric.compute(predictions=texts, references=[first for first, _ in references])
    assert single == metric.compute(predictions=texts, references=[[first] for first, _ in references])
    references[1].pop()  # as many as there are
    assert metric.compute(predictions=texts, references=references)["sacrebleu"] > single["sacrebleu"]
    assert metric.signature.startswith("nrefs:var|")


def test_sacrebleu_says_what_is_wrong(monkeypatch):
    for wrong, message in [
        ({"references": ["a"]}, "2 predictions and references for 1"),
        ({"references": ["a", []]}, r"references\[1\] is empty"),
        ({"references": ["a", "b"], "tokenize": "flores200"}, "tokenize is 'flores200'"),
    ]:
        with pytest.raises(MetricError, match=message):
            SacreBleu().compute(predictions=["a", "b"], **wrong)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MetricError, match=r"pip install \"aigc-text\[metrics\]\""):
        SacreBleu().compute(predictions=["a"], references=["a"])
