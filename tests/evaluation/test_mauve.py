"""MAUVE: known values of two histograms, sets against themselves and against noise, and no meaning in the order."""

import math

import numpy as np
import pytest
import tiny
import torch

from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.errors import MetricError
from aigc_text.evaluation.model_metrics import mauve
from aigc_text.evaluation.model_metrics.mauve import Mauve, compare, features, kmeans, of_counts
from aigc_text.models.causal_lm import GPT2


@pytest.fixture(scope="module")
def backend():
    tokens = tiny.tokenizer()
    return GPT2(tiny.model("gpt2", tokens), tokens)


def cloud(n, shift=0.0, seed=0):
    """Points around (1, …, 1) whose axes matter less and less."""
    return 1 + (np.random.default_rng(seed).normal(shift, 1, (n, 32)) / np.arange(1, 33)).astype(np.float32)


def texts(n, seed=0):
    rng = np.random.default_rng(seed)
    words = ["the", "cat", "dog", "king", "wolf", "sat", "ran", "on", "in", "a", "mat", "log", "wood"]
    return [" ".join(rng.choice(words, rng.integers(3, 12))) for _ in range(n)]


# Of histograms


def test_equal_histograms_have_one_and_zero():
    found = of_counts(np.array([3, 5, 0, 9]), np.array([6, 10, 0, 18]))
    assert found.mauve == 1.0
    assert found.frontier_integral == 0.0
    assert found.mauve_star < 1.0  # half a text more is less to the side with more of them


def test_disjoint_histograms_have_the_area_that_can_be_calculated(monkeypatch):
    """KL(q | r) = -log(1 - w), KL(p | r) = -log w: the area is 5 B(6, 5) = 1 / 252."""
    monkeypatch.setattr(mauve, "POINTS", 2001)
    found = of_counts(np.array([4, 0]), np.array([0, 7]))
    assert found.mauve == pytest.approx(1 / 252, rel=1e-4)
    assert found.frontier_integral == pytest.approx(1.0)


def test_the_frontier_integral_is_the_integral_that_defines_it():
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.3, 0.2, 0.4])
    w = (np.arange(20_000) + 0.5) / 20_000

    def divergence(a):
        r = w[:, None] * p + (1 - w[:, None]) * q
        return np.where(a > 0, a * np.log(np.maximum(a, 1e-300) / r), 0).sum(1)

    integral = 2 * (w * divergence(p) + (1 - w) * divergence(q)).mean()
    assert of_counts(p * 10, q * 10).frontier_integral == pytest.approx(integral, rel=1e-6)


def test_the_sides_may_change_places():
    p, q = np.array([5, 1, 0, 4, 7]), np.array([1, 1, 3, 8, 0])
    assert of_counts(p, q) == pytest.approx(of_counts(q, p), rel=1e-9)


# Of features


def test_a_set_is_like_itself_and_like_its_other_half_and_unlike_noise():
    assert compare(cloud(400), cloud(400))["mauve"] == 1.0
    halves = compare(cloud(400), cloud(400, seed=1))
    assert halves["mauve"] > 0.93 and halves["mauve_sd"] < 0.05
    shifted = [compare(cloud(400), cloud(400, shift, seed=1))["mauve"] for shift in (0.3, 0.6, 3.0)]
    assert halves["mauve"] > shifted[0] > shifted[1] > shifted[2]
    assert shifted[2] < 0.02


def test_neither_the_order_nor_the_side_matters():
    p, q = cloud(150), cloud(170, 0.5, seed=1)
    found = compare(p, q)
    shuffled = compare(p[np.random.default_rng(2).permutation(150)], q[::-1])
    assert found == shuffled
    assert compare(q, p)["mauve"] == pytest.approx(found["mauve"], rel=1e-9)


def test_the_seed_is_of_the_clustering_alone():
    p, q = cloud(150), cloud(150, 0.5, seed=1)
    assert compare(p, q, seed=3) == compare(p, q, seed=3)
    assert compare(p, q, seed=3)["mauve"] != compare(p, q, seed=4)["mauve"]


def test_few_texts_are_said_and_fewer_refused(monkeypatch):
    assert "150 texts against 160" in compare(cloud(150), cloud(160))["note"]
    monkeypatch.setattr(mauve, "ADVISED", 150)
    assert "note" not in compare(cloud(150), cloud(160))
    with pytest.raises(MetricError, match="14 texts against 100") as refused:
        compare(cloud(14), cloud(100))
    assert "at least 15 texts" in refused.value.cure
    assert compare(cloud(15), cloud(100))["clusters"] == 2


def test_texts_that_are_all_the_same_have_a_figure():
    one = np.ones((50, 8), np.float32)
    assert compare(one, one)["mauve"] == 1.0
    assert compare(one, -one)["mauve"] < 0.02
    assert compare(one, np.repeat(cloud(3)[:, :8], 20, axis=0))["mauve"] < 0.02
    assert np.isfinite(compare(0 * one, one)["mauve"])


def test_features_that_are_not_finite_are_refused():
    broken = cloud(50)
    broken[3, 3] = np.nan
    with pytest.raises(MetricError, match="not finite"):
        compare(broken, cloud(50))


def test_kmeans_ends_where_each_point_is_nearest_to_its_own_mean():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(0, 1, (300, 4)).astype(np.float32), rng.integers(1, 5, 300).astype(float)
    labels = kmeans(x, weights, 9, rng)
    assert sorted(set(labels.tolist())) == list(range(9))
    means = np.stack([np.average(x[labels == c], axis=0, weights=weights[labels == c]) for c in range(9)])
    assert (((x[:, None] - means) ** 2).sum(2).argmin(1) == labels).all()
    assert kmeans(x[:3], weights[:3], 9, rng).tolist() == [0, 1, 2]


# Of texts


def test_features_are_the_last_state_at_the_last_token_of_the_cut_text(backend):
    some = ["the cat", "once upon a time there was a king", "", "从前", "the cat"]
    found = features(some, backend, max_length=5)
    assert found.shape == (5, 32) and found.dtype == np.float32
    for text, feature in zip(some, found, strict=True):
        ids = backend.tokenizer(text)["input_ids"][:5] or [backend.tokenizer.eos_token_id]
        with torch.no_grad():
            state = backend.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        assert feature == pytest.approx(state.numpy(), rel=1e-4, abs=1e-5)
    assert (found[0] == found[4]).all()


def test_features_take_texts_longer_than_the_context_and_batches_change_nothing(backend, monkeypatch):
    many = [*texts(40), "the cat " * 200]
    found = features(many, backend, max_length=1000)
    monkeypatch.setattr(mauve, "BATCH_TOKENS", 1)
    assert features(many[::-1], backend, max_length=1000)[::-1] == pytest.approx(found, rel=1e-3, abs=1e-4)


def test_the_metric_names_its_model_and_does_not_depend_on_the_order(backend):
    backend.source = "runs/tiny"
    a, b = texts(60), texts(70, seed=1)
    found = Mauve().compute(predictions=a, references=b, feature_model=backend, max_length=8)
    assert found["feature_model"] == "runs/tiny" and found["max_length"] == 8.0
    assert 0 < found["mauve"] < 1 and found["note"]
    assert found == Mauve().compute(predictions=a[::-1], references=b[::-1], feature_model=backend, max_length=8)
    same = Mauve().compute(predictions=a, references=a[::-1], feature_model=backend)
    assert same["mauve"] == 1.0 and same["frontier_integral"] == 0.0


def test_the_bundled_model_judges_where_nobody_names_another():
    sentences, others = texts(100), texts(100, seed=1)
    rng = np.random.default_rng(0)
    noise = ["".join(map(chr, rng.integers(33, 127, 20))) for _ in range(100)]
    near, far = (Mauve().compute(predictions=p, references=sentences) for p in (others, noise))
    assert near["feature_model"] == "bundled:gpt2-tales"
    assert near["mauve"] > 0.9 and far["mauve"] < 0.02


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "compares texts with references"),
        ({"references": ["a"] * 3}, "20 texts against 3"),
        ({"references": ["a"] * 20, "max_length": 0}, "max_length cannot be 0"),
    ],
)
def test_what_is_missing_is_told_before_a_model_is_loaded(how, says, backend):
    model = backend if "max_length" in how else "no/such-model"
    with pytest.raises(MetricError, match=says):
        Mauve().compute(predictions=["a"] * 20, feature_model=model, **how)


def test_a_model_without_states_of_texts_is_refused():
    tokens = tiny.tokenizer()
    cls = type("Seq2Seq", (TransformersBackend,), {"auto_class": "AutoModelForSeq2SeqLM"})
    with pytest.raises(MetricError, match="gives no features"):
        features(["a"], cls(tiny.model("t5", tokens), tokens))


def test_all_figures_are_numbers_that_json_can_write():
    import json

    found = compare(cloud(100), cloud(100, 1.0, seed=1))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(math.isfinite(v) for v in found.values() if isinstance(v, float))
