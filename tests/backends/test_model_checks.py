"""A plugin's own model class: all that it lacks is named at once, before training; one that is whole is trained."""

import random

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput, CausalLMOutputWithPast

from aigc_text import TransformersBackend, load, train
from aigc_text.api import from_scratch
from aigc_text.backends import registry
from aigc_text.backends.hf import model_checks
from aigc_text.backends.registry import register_backend
from aigc_text.data.tokenizer_training import train_char
from aigc_text.errors import BackendError
from aigc_text.hub.transformers_compat import CACHE

TEXTS = ["the cat sat on the mat"] * 20


class Config(PreTrainedConfig):
    model_type = "bigram_of_a_test"
    vocab_size: int = 300
    width: int = 16


class Whole(PreTrainedModel, GenerationMixin):
    """A token is predicted from the one before it alone."""

    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.table, self.output = nn.Embedding(config.vocab_size, 16), nn.Linear(16, config.vocab_size)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, **_):
        return CausalLMOutput(logits=self.output(self.table(input_ids)))


class Looks(Whole):  # at what comes after
    def forward(self, input_ids, attention_mask=None, **_):
        x = self.table(input_ids)
        return CausalLMOutput(logits=self.output(x + x.mean(1, keepdim=True)))


class Narrow(Whole):
    def forward(self, input_ids, attention_mask=None, **_):
        return CausalLMOutput(logits=self.output(self.table(input_ids))[..., :5])


class Strict(Whole):
    def forward(self, input_ids, attention_mask=None):
        return super().forward(input_ids)


class Positional(Whole):
    def forward(self, input_ids):
        return super().forward(input_ids)


class Detached(Whole):
    def forward(self, input_ids, attention_mask=None, **_):
        return CausalLMOutput(logits=super().forward(input_ids).logits.detach())


class Tied(Whole):
    def __init__(self, config):
        super().__init__(config)
        self.output.weight = self.table.weight


class Unsaved(Whole):  # it has a number that is in no parameter and no buffer
    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.rand(())

    def forward(self, input_ids, attention_mask=None, **_):
        return CausalLMOutput(logits=super().forward(input_ids).logits * (1 + self.scale))


class Drawn(Unsaved):  # and draws it anew whenever it is made
    def __init__(self, config):
        super().__init__(config)
        self.scale = random.random()


def cached(self, input_ids, attention_mask=None, cache=None, past_key_values=None, **_):
    x = self.table(input_ids)
    x = x + x.cumsum(1)  # of the tokens that it is given, which with a cache is the last one only
    return CausalLMOutputWithPast(logits=self.output(x), **{CACHE: cache or past_key_values})


class Forgetful(Whole):
    forward = cached


class Layered(Config):
    model_type = "layered_of_a_test"
    num_hidden_layers: int = 1


class ForgetfulWithLayers(Whole):
    config_class = Layered
    forward = cached


class Lost(PreTrainedConfig):
    model_type = "lost_of_a_test"

    def __init__(self, vocab_size=300, **kwargs):
        super().__init__()
        self.vocab_size = vocab_size


class Demanding(PreTrainedConfig):
    model_type = "demanding_of_a_test"

    def __init__(self, vocab_size, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size


class Untyped(Config):
    model_type = ""


def with_config(kind):
    return type("WithConfig", (Whole,), {"config_class": kind})


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What is registered here is not there for other tests."""
    monkeypatch.setattr(registry, "_registered", {})


def backend(model, own=True):
    """A backend of a model class, registered with this process; `own`: it names the class."""

    def scratch(cls, tokenizer, **config):
        return cls(model(model.config_class(vocab_size=len(tokenizer))), tokenizer)

    members = {"model_class": model} if own else {"from_scratch": classmethod(scratch)}
    cls = type("Of", (TransformersBackend,), members)
    register_backend("of_a_test", cls)
    return from_scratch("of_a_test", TEXTS, tokenizer="char")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Looks, "Looks.forward must score a token from those before it alone"),
        (Looks, "Looks.forward must pass over the padding"),
        (Narrow, "its logits are (2, 5, 5)"),
        (Strict, "unexpected keyword argument 'use_cache' (end the parameters of forward with **_)"),
        (Positional, "Positional.forward must take input_ids and attention_mask"),
        (Detached, "Detached.forward must give logits that a gradient passes through"),
        (Tied, "Tied cannot be saved: RuntimeError: "),
        (Unsaved, "Unsaved cannot be loaded and run again: RuntimeError: "),
        (Drawn, "Drawn must give the same logits when it has been saved and loaded"),
        (Forgetful, "(the cache needs Config.num_hidden_layers)"),
        (ForgetfulWithLayers, "ForgetfulWithLayers must give the same logits with its cache as without"),
        (with_config(Lost), "Lost must keep bos_token_id, eos_token_id, pad_token_id when it is saved and loaded"),
        (with_config(Demanding), "Demanding must have a default for every field"),
        (with_config(Untyped), "Untyped.model_type must name the architecture"),
    ],
)
def test_what_is_missing_is_named_before_training(model, says, tmp_path):
    (tmp_path / "data.txt").write_text("\n".join(TEXTS))
    with pytest.raises(BackendError) as refused:
        list(train(backend(model), tmp_path / "data.txt", tmp_path / "run", max_steps=1))
    assert says in refused.value.message and refused.value.cure.endswith("aigc-text backends check of_a_test")
    assert not list(tmp_path.glob("run/[!.]*"))  # the folder is free for another try


def test_all_of_it_is_named_at_once():
    class Bare(nn.Module):
        def __init__(self, config):
            super().__init__()

        config_class = Config

    with pytest.raises(BackendError) as refused:
        model_checks.check_model(backend(Bare, own=False))
    for part in (
        "derive from transformers.PreTrainedModel",
        "GenerationMixin",
        "AutoConfig.register('bigram_of_a_test'",
    ):
        assert part in refused.value.message

    class Half(PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            self.table, self.output = nn.Embedding(config.vocab_size, 16), nn.Linear(16, config.vocab_size)
            self.post_init()

        forward = Looks.forward

    made = backend(Half, own=False)
    made.tokenizer.eos_token = None
    with pytest.raises(BackendError) as refused:
        model_checks.check_model(made)
    for part in ("GenerationMixin", "AutoModelForCausalLM.register", "eos_token", "those before it alone", "padding"):
        assert part in refused.value.message


def test_a_whole_class_goes_all_the_way_without_being_registered(tmp_path):
    (tmp_path / "data.txt").write_text("\n".join(TEXTS))
    options = {"max_steps": 30, "batch_size": 2, "block_size": 16, "learning_rate": 3e-2}
    losses = [p.logs["loss"] for p in train(backend(Whole), tmp_path / "data.txt", tmp_path / "run", **options)]
    assert losses[-1] < losses[0] / 2
    again = load("of_a_test", str(tmp_path / "run"))
    assert type(again.model) is Whole
    [made] = again.generate(["the"], max_new_tokens=6, seed=1)
    [score] = again.score(["the cat sat"])
    assert made.tokens and score.nll / score.tokens < 4


def test_registered_classes_do_in_place_of_a_model_class(tmp_path):
    class Registered(Config):
        model_type = "registered_of_a_test"

    model = with_config(Registered)
    with pytest.raises(BackendError, match="AutoConfig.register"):
        model_checks.check_model(backend(model, own=False))
    AutoConfig.register("registered_of_a_test", Registered)
    AutoModelForCausalLM.register(Registered, model)
    model_checks.check_model(backend(model, own=False))


def test_lora_and_a_model_of_another_class(tmp_path):
    (tmp_path / "data.txt").write_text("\n".join(TEXTS))
    list(train(backend(Whole), tmp_path / "data.txt", tmp_path / "base", max_steps=1, block_size=16, batch_size=2))
    pytest.importorskip("peft")
    lora = {"max_steps": 1, "lora_rank": 2, "block_size": 16, "batch_size": 2, "lora_targets": ("output",)}
    list(train(load("of_a_test", str(tmp_path / "base")), tmp_path / "data.txt", tmp_path / "lora", **lora))
    assert load("of_a_test", str(tmp_path / "lora")).adapter is not None
    other = with_config(Layered)
    register_backend("of_a_test", type("Other", (TransformersBackend,), {"model_class": other}))
    with pytest.raises(BackendError, match="bigram_of_a_test"):
        load("of_a_test", str(tmp_path / "base"))
    tokens = train_char(TEXTS)
    mixed = type("Mixed", (TransformersBackend,), {"model_class": other})(Whole(Config(vocab_size=len(tokens))), tokens)
    with pytest.raises(BackendError, match="Mixed.model_class is WithConfig, its model is a Whole"):
        model_checks.check_model(mixed)
