"""Bits per byte: the same from batches as from single rows, over the bytes of the text, whatever the tokenizer."""

import math
from pathlib import Path

import pytest
import tiny
import torch
from commands import MARKOV

from aigc_text import Score, load
from aigc_text.data.encoding import Row
from aigc_text.data.sources import Pair
from aigc_text.data.tokenizer_training import train
from aigc_text.errors import BackendError, MetricError, ModelError
from aigc_text.evaluation.model_metrics.likelihood import Likelihood
from aigc_text.evaluation.model_metrics.reference_perplexity import ReferencePerplexity
from aigc_text.models.causal_lm import GPT2
from aigc_text.scoring.totals import total
from aigc_text.training.validation import Validation


@pytest.fixture(scope="module")
def backend():
    tokens = tiny.tokenizer()
    return GPT2(tiny.model("gpt2", tokens), tokens)


@torch.no_grad()
def test_rows_of_other_lengths_change_nothing(backend):
    rows = [Row(backend.tokenizer(t)["input_ids"], n % 3, len(t.encode())) for n, t in enumerate(tiny.SENTENCES * 6)]
    how = (backend.token_nll, backend.tokenizer, backend.pad())
    together = Validation(rows, *how)(backend.model)
    alone = [Validation([row], *how)(backend.model) for row in rows]
    scored = [len(row.ids) - max(1, row.masked) for row in rows]
    nll = sum(one["loss"] * n for one, n in zip(alone, scored, strict=True))
    assert together["loss"] == pytest.approx(nll / sum(scored), rel=1e-5)
    assert together["bits_per_byte"] == pytest.approx(nll / math.log(2) / sum(row.size for row in rows), rel=1e-5)


@torch.no_grad()
def test_the_end_of_a_text_is_no_byte_of_it(backend):
    texts = ["the cat", "sat on the mat"] * 20
    validator = backend.validator(texts, backend.Training(block_size=8))
    kept = "".join(backend.tokenizer.decode(row.ids[1:], skip_special_tokens=True) for row in validator.rows)
    assert validator.utf8_bytes == len(kept)
    assert "unknown" not in validator(backend.model)


@torch.no_grad()
def test_texts_that_are_not_packed_are_measured_exactly(backend):
    figures = backend.validator(tiny.SENTENCES, backend.Training(packing=False))(backend.model)
    exact = total(backend.score(tiny.SENTENCES))
    assert figures["loss"] == pytest.approx(exact.nll / exact.tokens, rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(exact.bits_per_byte, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("packing", [True, False])
def test_words_count_the_bytes_of_the_text_and_the_unknown_ones(packing):
    tokens = train("word", ["the cat sat\n"])
    backend = GPT2(tiny.model("gpt2", tokens), tokens)
    text = "the  cat sat on\nthe zebra" + " the cat" * 11  # 7 tokens and 22, with the end 30
    validator = backend.validator([text], backend.Training(block_size=16, packing=packing))
    assert validator.utf8_bytes == len(text)
    assert validator(backend.model)["unknown"] == pytest.approx(2 / 30)


def test_at_most_so_many_rows_are_looked_at(backend):
    options = backend.Training(block_size=8, eval_blocks=3, packing=False)
    assert len(backend.validator(tiny.SENTENCES, options).rows) == 3
    packed = backend.validator(["the cat"] * 50, backend.Training(block_size=32, eval_blocks=3)).rows
    assert 3 * 32 - len(packed[0].ids) < sum(len(row.ids) for row in packed) <= 3 * 32
    pairs = [Pair("the cat", f" {n}") for n in range(50)]
    rows = backend.validator(pairs, backend.Training(block_size=16, eval_blocks=5)).rows
    assert [backend.tokenizer.decode(r.ids[r.masked : -1]) for r in rows] == [" 0", " 12", " 24", " 36", " 49"]


# The metrics


def test_the_metric_has_all_figures_and_names_their_kind_and_model(backend):
    backend.source = "runs/tiny"
    texts = [*(text for text in tiny.SENTENCES if text.isascii()), "A second one.", ""]
    found = Likelihood().compute(predictions=texts, model=backend)
    scores = list(backend.score(texts))
    nll = sum(s.nll for s in scores)
    assert found["nats_per_text"] == pytest.approx(nll / len(texts))
    assert found["perplexity"] == pytest.approx(math.exp(nll / found["tokens"]))
    assert found["words"] == sum(len(t.split()) + 1 for t in texts)
    assert found["perplexity_per_word"] == pytest.approx(math.exp(nll / found["words"]))
    assert found["bits_per_byte"] == pytest.approx(nll / math.log(2) / sum(len(t.encode()) for t in texts))
    assert found["characters"] == sum(len(t) + 1 for t in texts)
    assert found["perplexity_per_character"] == pytest.approx(math.exp(nll / found["characters"]))
    assert (found["kind"], found["model"], found["texts"]) == ("exact", "runs/tiny", len(texts))
    assert found["bits_per_byte_se"] > 0 and found["nats_per_text_se"] > 0
    labels = ("kind", "model")
    assert all(type(v) is float for k, v in found.items() if k not in labels)


def test_the_metric_has_no_figure_per_word_of_chinese(backend):
    found = Likelihood().compute(predictions=["今天天气很好", "一只猫"], model=backend)
    assert {"perplexity_per_word", "words"}.isdisjoint(found) and found["characters"] == 11
    assert found["perplexity_per_character"] == pytest.approx(math.exp(2 * found["nats_per_text"] / 11))


def test_a_bound_does_not_look_exact(backend):
    class Bounded(GPT2):
        def score(self, texts):
            return (Score(text=s.text, nll=s.nll + 1, tokens=s.tokens, kind="bound") for s in super().score(texts))

    bounded = Bounded(backend.model, backend.tokenizer)
    found, exact = (Likelihood().compute(predictions=["a b"], model=m) for m in (bounded, backend))
    assert found["kind"] == "bound" and exact["kind"] == "exact"
    assert found["nats_per_text"] == pytest.approx(exact["nats_per_text"] + 1)
    assert "nats_per_text_se" not in found  # of one text


def test_the_metric_takes_a_folder_and_empty_texts(tmp_path):
    folder = tiny.save("gpt2", tmp_path / "m")
    found = Likelihood().compute(predictions=["", ""], model=str(folder))
    assert found["tokens"] == 2.0 and found["utf8_bytes"] == 0.0
    assert "bits_per_byte" not in found and found["perplexity"] > 1


def test_the_metric_says_what_it_misses():
    with pytest.raises(MetricError, match="whose likelihood"):
        Likelihood().compute(predictions=["a"])
    with pytest.raises(BackendError, match="has no likelihood"):
        Likelihood().compute(predictions=["a"], model=f"{MARKOV}:Markov")
    with pytest.raises(ModelError):
        Likelihood().compute(predictions=["a"], model="no/such/model")


def test_samples_under_a_reference_are_named_so():
    found = ReferencePerplexity().compute(predictions=["Once upon a time there was a king."])
    assert found["reference_model"] == "bundled:gpt2-tales" and found["reference_kind"] == "exact"
    assert 2 < found["reference_perplexity"] < 50
    assert all(name.startswith("reference_") for name in found)


def test_the_bundled_models_keep_their_published_figures():
    """Two samples of the card, scored with what made its table; the table's own texts take minutes."""
    backend = load(model="bundled:gpt2-tales")
    text = (Path(__file__).parents[2] / "aigc_text" / "bundled" / "gpt2-tales" / "README.md").read_text("utf-8")
    tale = text.split("seed 1:")[1].split("seed 3:")[0]
    found = total(backend.score([tale]))
    assert (found.tokens, found.utf8_bytes) == (295, 1034)
    assert found.bits_per_byte == pytest.approx(1.1639991, rel=1e-5)
