"""The transformer family: what attention computes, what it may look at, and its cache of keys and values."""

import itertools
import math

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from aigc_text import load, train
from aigc_text.errors import OptionError
from aigc_text.models import transformer
from aigc_text.models.transformer import Attention, Transformer, TransformerConfig
from aigc_text.testing.contract import check_backend
from tests.runs.test_training_run import command

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
PROMPTS = ["the cat sat", "once", "and the dog on the log saw", "a"]


def made(**config):
    """A random model, its weights large enough that its texts are not one token over and over."""
    torch.manual_seed(0)
    backend = Transformer.from_scratch(tiny.tokenizer(), **{**SIZES, **config})
    with torch.no_grad():
        for parameter in backend.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    backend.name = "transformer"
    return backend


@pytest.fixture(scope="module")
def backend():
    return made()


def test_it_keeps_the_contract():
    assert len(list(check_backend(made()))) == 12


# Attention


def test_attention_is_what_its_equation_says():
    """softmax(q kᵀ / √d) v over the tokens up to each, head by head, one number at a time."""
    torch.manual_seed(0)
    config = TransformerConfig(hidden_size=8, num_attention_heads=2)
    attention, x = Attention(config, 0), torch.randn(1, 5, 8)
    turn = torch.polar(torch.ones(5, 1, 2), torch.randn(5, 1, 2))
    with torch.no_grad():
        attention.output.weight.normal_()
        found = attention(x, turn, None, None)[0]
        q, k, v = attention.query_key_value(x)[0].chunk(3, dim=-1)  # (T, C)
        q, k = turned(q, turn), turned(k, turn)
        heads = torch.zeros(5, 8)
        for head in (slice(0, 4), slice(4, 8)):
            for t in range(5):
                fit = torch.stack([q[t, head] @ k[s, head] / math.sqrt(4) for s in range(t + 1)])
                heads[t, head] = sum(w * v[s, head] for s, w in enumerate(fit.softmax(0)))
        assert torch.allclose(found, attention.output(heads), atol=1e-6)


def turned(x, turn):
    """(T, C) with the pairs of each head multiplied by its 2 x 2 rotation matrices."""
    made = x.clone()
    for t, first in itertools.product(range(5), range(0, 8, 2)):
        c = turn[t, 0, first % 4 // 2]
        made[t, first : first + 2] = torch.tensor([[c.real, -c.imag], [c.imag, c.real]]) @ x[t, first : first + 2]
    return made


def test_a_rotation_leaves_only_how_far_apart_two_tokens_stand():
    model = made().model
    q, k = torch.randn(2, 1, 1, 1, 16).unbind()

    def fit(*places):
        a, b = (transformer.rotated(x, model.turn(torch.tensor([n]))) for x, n in zip((q, k), places, strict=True))
        return (a * b).sum().item()

    assert fit(7, 3) == pytest.approx(fit(44, 40), abs=1e-4)
    assert fit(7, 3) != pytest.approx(fit(7, 4), abs=1e-2)


def test_no_token_sees_a_later_one(backend):
    ids = torch.randint(0, 300, (2, 9))
    with torch.no_grad():
        before = backend.model(ids).logits
        ids[:, 6] = (ids[:, 6] + 1) % 300
        after = backend.model(ids).logits
    assert before[:, :6].equal(after[:, :6])
    assert all((before[:, n] != after[:, n]).any() for n in range(6, 9))


def test_who_may_look_at_whom():
    mask, places = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]), torch.arange(5)
    padded, whole = transformer.visible(mask, places[2:], 2)[:, 0].int().tolist()  # two were read before these three
    assert padded == [[0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert whole == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert transformer.visible(mask, places, 0)[0, 0, 0].int().tolist() == [1, 0, 0, 0, 0]  # padding sees itself
    assert transformer.visible(None, places[2:4], 2)[0, 0].int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert transformer.visible(mask[1:], places, 0) is None and transformer.visible(None, places[4:], 4) is None


def test_padding_on_either_side_changes_nothing(backend):
    rows = [torch.randint(0, 300, (n,)) for n in (6, 2, 4)]
    for left in (True, False):
        ids, mask = torch.zeros(3, 6, dtype=torch.long), torch.zeros(3, 6, dtype=torch.long)
        places = [slice(6 - len(r), 6) if left else slice(0, len(r)) for r in rows]
        for n, (row, place) in enumerate(zip(rows, places, strict=True)):
            ids[n, place], mask[n, place] = row, 1
        with torch.no_grad():
            logits = backend.model(ids, mask).logits
            for n, (row, place) in enumerate(zip(rows, places, strict=True)):
                assert torch.allclose(logits[n, place], backend.model(row[None]).logits[0], atol=1e-4)
        assert logits.isfinite().all()


# The cache


def test_reading_in_parts_is_reading_at_once(backend):
    ids = torch.randint(0, 300, (3, 9))
    with torch.no_grad():
        whole = backend.model(ids, use_cache=False)
        cache, logits = None, []
        for part in ids.split([4, 1, 1, 3], dim=1):
            out = backend.model(part, cache=cache)
            cache, _ = out.cache, logits.append(out.logits)
    assert torch.allclose(torch.cat(logits, 1), whole.logits, atol=1e-4)
    assert isinstance(cache, DynamicCache) and cache.get_seq_length() == 9
    assert whole.cache is None


def test_each_token_is_read_once(backend, monkeypatch):
    widths = []
    forward = transformer.TransformerForCausalLM.forward

    def counted(self, input_ids, **more):
        widths.append(input_ids.shape[1])
        return forward(self, input_ids, **more)

    monkeypatch.setattr(transformer.TransformerForCausalLM, "forward", counted)
    (text,) = backend.generate(["the cat sat on"], max_new_tokens=20, min_new_tokens=20, seed=1)
    assert text.tokens == 20 and widths[1:] == [1] * 19


def test_beams_with_the_cache_are_those_without(backend):
    ids = torch.tensor([backend.tokenizer("the cat sat")["input_ids"]])
    options = {"num_beams": 5, "num_return_sequences": 5, "max_new_tokens": 10, "do_sample": False}
    found = [backend.model.generate(ids, use_cache=cached, **options) for cached in (True, False)]
    assert found[0].equal(found[1]) and len({tuple(row) for row in found[0].tolist()}) == 5
    together = [c.text for c in backend.generate(PROMPTS, max_new_tokens=8, num_beams=3)]
    assert together == [c.text for p in PROMPTS for c in backend.generate([p], max_new_tokens=8, num_beams=3)]


# As a model of the house


def test_blocks_begin_by_adding_nothing():
    torch.manual_seed(0)
    model = Transformer.from_scratch(tiny.tokenizer(), **SIZES).model
    ids = torch.randint(0, 300, (1, 5))
    with torch.no_grad():
        plain = model.output(model.norm(model.embedding(ids)))
        assert model(ids).logits.equal(plain)
    assert model.output.weight is model.embedding.weight


def test_dropout_is_of_training_only():
    model = made(dropout=0.5).model
    ids = torch.randint(0, 300, (1, 5))
    assert model(ids).logits.equal(model(ids).logits)
    model.train()
    assert not model(ids).logits.equal(model(ids).logits)


def test_a_folder_loads_as_a_model_of_transformers(backend, tmp_path):
    backend.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    for name, tensor in backend.model.state_dict().items():
        assert tensor.equal(again.state_dict()[name]), name
    assert again.output.weight is again.embedding.weight
    ids = torch.randint(0, 300, (2, 6))
    assert again(ids, labels=ids).loss.item() == pytest.approx(backend.model(ids, labels=ids).loss.item())


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"n_layer": 2}, "TransformerConfig has no field 'n_layer'"),
        ({"hidden_size": "30"}, "hidden_size 30 is no multiple of twice the 2 attention heads"),
        ({"num_hidden_layers": "0"}, "num_hidden_layers cannot be 0"),
        ({"dropout": "2"}, "dropout cannot be 2"),
    ],
)
def test_a_configuration_that_cannot_be(config, says):
    with pytest.raises(OptionError) as refused:
        Transformer.from_scratch(tiny.tokenizer(), **{**SIZES, **config})
    cure = "from 0 up to 1" if "dropout" in says else "-o num_hidden_layers=4"
    assert says in refused.value.message and cure in refused.value.cure


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_ends_with_the_same_bytes(precision, tmp_path, data):
    options = {"batch_size": 3, "block_size": 16, "learning_rate": 0.01, "precision": precision, "optimizer": "muon"}
    options |= {"max_steps": 4, "save_every": 2, "eval_every": 2, "warmup_steps": 0}
    reports = list(train(made(dropout=0.1), data, tmp_path / "whole", **options))
    assert reports[-1].logs["eval_loss"] < reports[0].logs["loss"]
    broken = train(made(dropout=0.1), data, tmp_path / "broken", **options)
    list(itertools.islice(broken, 3))
    broken.close()
    assert (
        "resumed from step 3"
        in next(iter(train(made(dropout=0.1), data, tmp_path / "broken", resume=True, **options))).message
    )
    list(train(made(dropout=0.1), data, tmp_path / "broken", resume=True, **options))
    whole, again = (tmp_path / n / "model.safetensors" for n in ("whole", "broken"))
    assert whole.read_bytes() == again.read_bytes()


def test_the_command_line_trains_and_generates(tmp_path, data, capsys):
    words = ["train", "--backend", "transformer", "--from-scratch", "--tokenizer", "char", "--data", data]
    words += [part for name, value in SIZES.items() for part in ("-o", f"{name}={value}")]
    words += ["--output", tmp_path / "out", "--max-steps", 3, "--batch-size", 4, "--precision", "fp32"]
    assert command(*words) == 0
    capsys.readouterr()
    assert command("generate", "--model", tmp_path / "out", "--prompt", "the", "--max-new-tokens", 4) == 0
    assert capsys.readouterr().out.startswith("the")
    assert load(str(tmp_path / "out")).name == "transformer"
