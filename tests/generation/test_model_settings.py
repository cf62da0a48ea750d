"""A model's generation_config.json: every setting is honoured, has no effect anywhere, or is reported once."""

import json

import pytest
import tiny
import torch
from transformers import GenerationConfig

from aigc_text import load
from aigc_text.errors import ModelError, OptionError
from aigc_text.generation import model_settings
from aigc_text.generation.engines.ctranslate2_engine import LACKS
from aigc_text.options.generation import GenerationOptions

PROMPTS = ["the cat", "once upon a time there was", "a", "the dog sat on the"]
#: What each setting is tried with; those that name tokens name frequent ones.
VALUES = {
    "bad_words_ids": [[n] for n in range(20, 60)] + [[60, 61]],
    "begin_suppress_tokens": [20, 21],
    "encoder_no_repeat_ngram_size": 2,
    "encoder_repetition_penalty": 1.5,
    "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.01,
    "exponential_decay_length_penalty": [3, 1.2],
    "forced_eos_token_id": 0,
    "guidance_scale": 1.5,
    "min_length": 16,
    "remove_invalid_values": True,
    "renormalize_logits": True,
    "sequence_bias": [[[30], 5.0]],
    "suppress_tokens": list(range(20, 60)),
    "top_h": 0.5,
    "typical_p": 0.5,
    "watermarking_config": {"greenlist_ratio": 0.3, "bias": 4.0},
    "cache_implementation": "static",
}
REPORTED = {
    "assistant_early_exit": 1,
    "constraints": [1],
    "diversity_penalty": 0.5,
    "dola_layers": "low",
    "force_words_ids": [[5]],
    "max_time": 1.5,
    "num_beam_groups": 2,
    "num_return_sequences": 2,
    "penalty_alpha": 0.6,
    "prompt_lookup_num_tokens": 3,
    "token_healing": True,
    "use_mtp": True,
}


@pytest.fixture
def asking(tmp_path):
    """A model whose generation_config.json asks for these settings, beside what it needs."""

    def make(engine=None, **settings):
        folder = tmp_path / "model"
        if not folder.exists():
            tiny.save("gpt2", folder)
        path = folder / "generation_config.json"
        end = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        path.write_text(json.dumps({**end, **settings}), encoding="utf-8")
        return load("gpt2", str(folder), engine=engine)

    return make


def texts(backend, prompts=PROMPTS, **options):
    return [(c.text, c.finish_reason) for c in backend.generate(prompts, **options)]


def test_every_setting_of_transformers_is_in_one_table():
    tables = [
        model_settings.OPTIONS,
        model_settings.HONOURED,
        model_settings.WITHOUT_EFFECT,
        tuple(model_settings.NOT_HONOURED),
    ]
    listed = [name for table in tables for name in table]
    assert len(set(listed)) == len(listed)
    assert set(GenerationConfig().to_dict()) - set(listed) == set()
    assert set(model_settings.OPTIONS) <= set(GenerationOptions.fields())
    assert set(model_settings.LOOKING_BACK) <= {*model_settings.OPTIONS, *model_settings.HONOURED}
    assert set(REPORTED) == set(model_settings.NOT_HONOURED)


def test_ctranslate2_lacks_what_a_processor_of_transformers_does():
    by_tokens = {"decoder_start_token_id", "eos_token_id", "pad_token_id", "max_length"}  # by the row, or not there
    computing = {"early_stopping", "renormalize_logits"}
    assert set(model_settings.HONOURED) - by_tokens - computing <= set(LACKS)


ENDS = {"eos_token_id": [0, *range(60, 200)]}  # so that a text ends at once
SAMPLING = ("epsilon_cutoff", "eta_cutoff", "top_h", "typical_p")
SAME = (  # for these prompts
    "begin_suppress_tokens", "cache_implementation", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
    "remove_invalid_values", "renormalize_logits",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in VALUES if name not in SAMPLING])
def test_a_setting_is_honoured_as_transformers_does_in_every_batch(asking, name, capfd):
    ends = ENDS if name == "min_length" else {}
    ours = asking(**ends, **{name: VALUES[name]})
    how = {"max_new_tokens": 8, "do_sample": False}
    alone = texts(ours, batch_size=1, **how)
    assert texts(ours, batch_size=4, **how) == alone
    assert "not honored" not in capfd.readouterr().err
    for prompt, (text, _) in zip(PROMPTS, alone, strict=True):
        ids = torch.tensor([ours.tokenizer(prompt)["input_ids"]])
        made = ours.model.generate(ids, attention_mask=torch.ones_like(ids), **how)[0, ids.shape[1] :].tolist()
        kept = made[:-1] if ends and made[-1] in ENDS["eos_token_id"] else made
        assert ours.tokenizer.decode(kept, skip_special_tokens=True) == text
    assert name in SAME or texts(asking(**ends), **how) != alone


@pytest.mark.parametrize("name", SAMPLING)
def test_a_setting_of_sampling_is_honoured_in_every_batch(asking, name, capfd):
    how = {"max_new_tokens": 8, "do_sample": True, "seed": 3}
    ours = asking(**{name: VALUES[name]})
    alone = texts(ours, batch_size=1, **how)
    assert texts(ours, batch_size=4, **how) == alone != texts(asking(), **how)
    assert "not honored" not in capfd.readouterr().err


@pytest.mark.parametrize("name", REPORTED)
def test_what_is_not_honoured_is_reported_once(asking, name, capfd):
    ours = asking(do_sample=True, **{name: REPORTED[name]})
    made = texts(ours, max_new_tokens=6, seed=1)
    told = capfd.readouterr().err
    assert f"not honored from the generation_config.json of {ours.source!r}: {name}={REPORTED[name]!r}" in told
    assert made == texts(ours, max_new_tokens=6, seed=1)
    assert texts(ours, ["the"], max_new_tokens=4, num_beams=2, do_sample=False)
    assert "not honored" not in capfd.readouterr().err
    assert texts(asking(), max_new_tokens=6, seed=1) == made


def test_all_at_once_and_settings_that_transformers_does_not_know(asking, capfd):
    settings = {"max_time": 2.0, "penalty_alpha": 0.5, "invented": [7], "num_beam_groups": 1, "token_healing": False}
    texts(asking(**settings), max_new_tokens=2)
    told = [line for line in capfd.readouterr().err.splitlines() if "not honored" in line]
    assert len(told) == 1 and all(s in told[0] for s in ("invented=[7]", "max_time=2.0", "penalty_alpha=0.5"))
    assert "num_beam_groups" not in told[0] and "token_healing" not in told[0]


def test_settings_that_say_nothing_are_not_reported(asking, capfd):
    quiet = {"return_dict_in_generate": True, "output_scores": True, "num_assistant_tokens": 5, "is_assistant": True}
    ours = asking(**quiet, max_time=None, compile_config=None)
    assert texts(ours, max_new_tokens=5, seed=2) == texts(asking(), max_new_tokens=5, seed=2)
    beams = {"max_new_tokens": 5, "num_beams": 2}
    assert texts(ours, ["the"], **beams) == texts(asking(), ["the"], **beams)
    assert "not honored" not in capfd.readouterr().err


# Stop strings


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
@pytest.mark.parametrize("own", ["t", ["t"], ["zzz", "t"]])
def test_the_models_own_stop_strings_are_the_default(asking, engine, own, monkeypatch, tmp_path):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    whole = texts(asking(engine), max_new_tokens=20, do_sample=False)
    assert any("t" in text for text, _ in whole)
    ours = asking(engine, stop_strings=own)
    cut = [(text.partition("t")[0], "stop" if "t" in text else finish) for text, finish in whole]
    assert texts(ours, max_new_tokens=20, do_sample=False) == cut
    assert ours.effective(ours.resolve(None, {}))["stop_strings"] == ([own] if isinstance(own, str) else own)
    assert texts(ours, max_new_tokens=20, do_sample=False, stop_strings=("zzz",)) == whole


def test_stop_strings_of_the_model_work_with_beams(asking):
    [(whole, _)] = texts(asking(), ["the cat"], max_new_tokens=20, num_beams=2)
    ours = asking(stop_strings=[whole[5:7]])
    assert texts(ours, ["the cat"], max_new_tokens=20, num_beams=2) == [(whole[: whole.index(whole[5:7])], "stop")]


@pytest.mark.parametrize("own", [5, [""], [3], {"a": 1}])
def test_stop_strings_that_are_none_are_a_fault_of_the_model(asking, own):
    with pytest.raises(ModelError, match="stop_strings cannot be"):
        texts(asking(stop_strings=own), max_new_tokens=2)


# Lengths


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
def test_max_length_counts_the_prompt(asking, engine, monkeypatch, tmp_path):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    ours = asking(engine, max_length=22)
    for made in ours.generate(PROMPTS, do_sample=False):
        used = len(ours.tokenizer(made.prompt)["input_ids"]) + made.tokens
        assert used == 22 if made.finish_reason == "length" else used <= 22
    assert ours.effective(ours.resolve(None, {}))["max_length"] == 22
    assert max(c.tokens for c in ours.generate(PROMPTS, do_sample=False, max_new_tokens=20)) == 20
    effective = ours.effective(ours.resolve(None, {"max_new_tokens": 20}))
    assert "max_length" not in effective and effective["max_new_tokens"] == 20


def test_max_length_with_beams_and_with_new_tokens_of_the_models_own(asking):
    ours = asking(max_length=12)
    [made] = ours.generate(["the cat"], num_beams=2)
    assert made.tokens <= 12 - len(ours.tokenizer("the cat")["input_ids"])
    both = asking(max_length=12, max_new_tokens=3)  # of which transformers takes the second
    assert max(c.tokens for c in both.generate(PROMPTS, do_sample=False)) == 3


def test_a_prompt_longer_than_max_length_is_refused_with_both(asking):
    with pytest.raises(OptionError, match=r"prompt 2 has 15 tokens, .* allows 12 for prompt and text") as refused:
        texts(asking(max_length=12), PROMPTS)
    assert "--max-new-tokens" in refused.value.cure


@pytest.mark.parametrize("value", [0, -3, "12", 4.5, True])
def test_a_max_length_that_is_none_is_a_fault_of_the_model(asking, value):
    with pytest.raises(ModelError, match="max_length"):
        texts(asking(max_length=value))
