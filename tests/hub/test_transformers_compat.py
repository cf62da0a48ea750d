"""Private names of transformers: each is there in the installed version, and does what it is used for."""

import pytest

torch = pytest.importorskip("torch")

from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel  # noqa: E402

from aigc_text.hub import transformers_compat as compat  # noqa: E402

SMALL = GPT2Config(vocab_size=11, n_layer=1, n_head=2, n_embd=16, n_positions=8)


def test_settings_that_a_config_leaves_open_have_defaults():
    found = compat.default_settings(GenerationConfig())
    assert found["temperature"] == 1.0 and found["num_beams"] == 1 and found["do_sample"] is False


def test_a_step_advances_mask_and_cache():
    model = GPT2LMHeadModel(SMALL).eval()
    ids = torch.tensor([[1, 2, 3]])
    out = model(input_ids=ids, use_cache=True)
    state = compat.advanced(model, out, {"attention_mask": torch.ones_like(ids), "use_cache": True})
    assert state["attention_mask"].shape == (1, 4)
    assert state[compat.CACHE].get_seq_length() == 3


def test_registered_classes_are_found():
    class Other(GPT2Config):
        model_type = "no_such_type"

    assert compat.registered_model("AutoModelForCausalLM", GPT2Config) is GPT2LMHeadModel
    assert compat.registered_model("AutoModelForCausalLM", Other) is None


def test_parameters_are_drawn_again():
    model = GPT2LMHeadModel(SMALL)
    layer = model.transformer.h[0].mlp.c_fc
    drawn, other = layer.weight.detach().clone(), model.transformer.wte.weight.detach().clone()
    with torch.no_grad():
        layer.weight.zero_()
    compat.draw_again(model, [layer], layer.parameters())
    made = layer.weight.detach()
    assert float(made.std()) == pytest.approx(float(drawn.std()), rel=0.2) and not torch.equal(made, drawn)
    assert torch.equal(model.transformer.wte.weight, other)


def test_the_cache_has_its_name_among_the_outputs():
    from dataclasses import fields

    from transformers.modeling_outputs import CausalLMOutputWithPast

    assert compat.CACHE in {field.name for field in fields(CausalLMOutputWithPast)}
