"""The loop of the engine `torch`: steps, packed weights, and batches within memory."""

import pytest
import tiny
import torch

from aigc_text import load
from aigc_text.errors import GenerationError
from aigc_text.generation.engine import Engine
from aigc_text.generation.engines.kv_cache import Direct, Prepared, RoomyLayer, steps_of
from aigc_text.generation.engines.packed_linear import packed
from aigc_text.models.gan.backend import GAN
from aigc_text.models.rnn.backend import RNN

PROMPTS = ["the cat sat on", "once", "", "and the dog saw the king who had a daughter", "a", "从前", "the "]


def texts(backend, prompts=PROMPTS, **options):
    return [(c.text, c.finish_reason, c.tokens) for c in backend.generate(prompts, max_new_tokens=20, **options)]


# Steps


def test_known_models_are_stepped_directly(folders):
    for kind in tiny.CAUSAL:
        seen = _steps_seen(load("gpt2", str(folders[kind])))
        assert seen == {"Direct"}, kind
    rnn = RNN.from_scratch(tiny.tokenizer(), hidden_size="8", embedding_size="8")
    assert _steps_seen(rnn) == {"Direct"}


def _steps_seen(backend):
    from aigc_text.generation.engines import torch_engine as engine

    seen = set()
    with pytest.MonkeyPatch.context() as patch:

        def spied(*args):
            steps = steps_of(*args)
            seen.add(type(steps).__name__)
            return steps

        patch.setattr(engine, "steps_of", spied)
        list(backend.generate(["the cat", "once"], max_new_tokens=3, seed=1))
    return seen


@pytest.mark.parametrize("kind", tiny.CAUSAL)
def test_both_ways_to_step_give_the_same_text(kind, folders, monkeypatch):
    from aigc_text.generation.engines import torch_engine as engine

    backend = load("gpt2", str(folders[kind]))
    direct = texts(backend, seed=4, do_sample=True), texts(backend, do_sample=False)
    monkeypatch.setattr(engine, "steps_of", lambda model, ids, state, room: Prepared(model, state))
    assert (texts(backend, seed=4, do_sample=True), texts(backend, do_sample=False)) == direct


def test_keys_and_values_grow_beyond_their_room():
    layer, plain = RoomyLayer(4), []
    for n in range(12):
        new = torch.randn(3, 2, 1 if n else 3, 5)
        plain.append(new)
        keys, values = layer.update(new, -new)
        assert keys.equal(torch.cat(plain, 2)) and values.equal(-torch.cat(plain, 2))
        if n == 6:
            layer.batch_select_indices(torch.tensor([0, 2]))
            plain = [p[[0, 2]] for p in plain]
            break
    keys, _ = layer.update(torch.ones(2, 2, 1, 5), torch.ones(2, 2, 1, 5))
    assert keys.equal(torch.cat([*plain, torch.ones(2, 2, 1, 5)], 2)) and layer.get_seq_length() == 10


def test_direct_is_for_models_whose_inputs_are_the_usual_ones():
    tokens = tiny.tokenizer()
    t5 = tiny.model("t5", tokens)
    assert isinstance(steps_of(t5, torch.ones(1, 2), {}, 3), Prepared)
    assert Direct.can_drop is True


# Packed weights


def test_packed_layers_compute_the_same_and_leave_the_model_alone(folders):
    model = load("gpt2", str(folders["gpt2"])).model
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    with torch.inference_mode():
        plain = model(ids).logits
        layers = packed(model)
        assert len(layers.forwards) >= 9
        with layers.in_use():
            quick = model(ids).logits
        assert torch.allclose(quick, plain, atol=1e-4) and model(ids).logits.equal(plain)
    assert not any("forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("kind", ["gpt2", "gan", "rnn"])
def test_generation_under_autocast(kind, folders):
    backend = {
        "gpt2": lambda: load("gpt2", str(folders["gpt2"])),
        "gan": lambda: GAN.from_scratch(tiny.tokenizer(), hidden_size="8", embedding_size="8"),
        "rnn": lambda: RNN.from_scratch(tiny.tokenizer(), hidden_size="8", embedding_size="8"),
    }[kind]()
    before = texts(backend, seed=1)
    with torch.autocast("cpu", torch.bfloat16):  # as a validation of a training in bf16 draws its sentences
        assert len(texts(backend, seed=1)) == len(PROMPTS)
    assert texts(backend, seed=1) == before


def test_weights_that_changed_are_packed_anew(folders):
    backend = load("gpt2", str(folders["gpt2"]))
    before = texts(backend, do_sample=False)
    assert packed(backend.model) is packed(backend.model)
    kept = backend.model.transformer.h[0].mlp.c_fc.weight.detach().clone()
    backend.model.transformer.h[0].mlp.c_fc.weight.data.mul_(-3)  # .data: torch does not count this as a change
    changed = texts(backend, do_sample=False)
    assert changed != before
    backend.model.transformer.h[0].mlp.c_fc.weight.data.copy_(kept)
    assert texts(backend, do_sample=False) == before


# Memory


class Small(Engine):
    """Has memory for a few rows only, and forgets in the middle of a batch."""

    def __init__(self, engine, most, after):
        self.engine, self.most, self.after, self.sizes = engine, most, after, []

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def config(self, **options):
        return self.engine.config(**options)

    def context(self):
        return self.engine.context()

    def decode(self, rows, config):
        self.sizes.append(len(rows))
        steps = self.engine.decode(rows, config)
        for n, events in enumerate(steps):
            if len(rows) > self.most and n == self.after:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield events


@pytest.mark.parametrize("after", [0, 4])
def test_a_batch_that_is_too_large_is_halved_and_nothing_is_lost_or_said_twice(after, folders, monkeypatch):
    backend = load("gpt2", str(folders["gpt2"]))
    prompts = [f"{p} {n}" for n in range(5) for p in ("the cat", "once upon a")]
    expected = [c.text for c in backend.generate(prompts, max_new_tokens=12, seed=1)]
    small = Small(backend.engine(), 3, after)
    monkeypatch.setattr(backend, "engine", lambda: small)
    joined = dict.fromkeys(range(len(prompts)), "")
    for piece in backend.pieces(prompts, max_new_tokens=12, seed=1):
        joined[piece.prompt_index] += piece.text
        if piece.completion is not None:
            assert piece.completion.text == joined[piece.prompt_index]
    assert list(joined.values()) == expected
    assert small.sizes[:3] == [10, 5, 2] and max(small.sizes[3:]) <= 2
    assert [c.text for c in backend.generate(prompts, max_new_tokens=12, seed=1)] == expected


def test_too_little_memory_for_one_text_is_said(folders, monkeypatch):
    backend = load("gpt2", str(folders["gpt2"]))
    small = Small(backend.engine(), 0, 0)
    monkeypatch.setattr(backend, "engine", lambda: small)
    with pytest.raises(GenerationError, match="out of memory with a text of up to") as error:
        list(backend.generate(["the cat"] * 3, max_new_tokens=5, seed=1))
    assert "--max-new-tokens" in error.value.cure


def test_too_little_memory_for_a_beam_search_is_said(folders, monkeypatch):
    backend = load("gpt2", str(folders["gpt2"]))
    engine = backend.engine()
    monkeypatch.setattr(backend, "engine", lambda: engine)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine, "beams", full)
    with pytest.raises(GenerationError, match="out of memory with a text of up to"):
        list(backend.generate(["the cat"], max_new_tokens=5, num_beams=2, do_sample=False))


@pytest.mark.parametrize("options", [{"top_p": 1.0, "top_k": 0}, {"top_p": 0.9}, {"do_sample": False}], ids=str)
def test_scores_that_are_not_numbers_are_said(folders, options):
    backend = load("gpt2", str(folders["gpt2"]))
    backend.model.transformer.ln_f.weight.data[0] = torch.nan
    with pytest.raises(GenerationError, match="scores that are not numbers"):
        list(backend.generate(["the cat"], max_new_tokens=5, seed=1, **options))


def test_batches_keep_to_their_budget(folders, monkeypatch):
    backend = load("gpt2", str(folders["gpt2"]))
    small = Small(backend.engine(), 99, 0)
    monkeypatch.setattr(backend, "engine", lambda: small)
    prompts = ["the cat sat on the mat and the dog sat on the log"] * 3 + ["a"] * 9
    made = list(backend.generate(prompts, max_new_tokens=10, seed=1, batch_tokens=70))
    assert [c.prompt for c in made] == prompts
    widths = [len(backend.tokenizer(p)["input_ids"]) + 10 for p in ("a", prompts[0])]
    assert small.sizes[0] == 70 // widths[0] and small.sizes[-1] <= 70 // widths[1]
    assert sum(small.sizes) == 12
