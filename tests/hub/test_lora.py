"""Adapters: trained beside a frozen model, saved alone, loaded onto their base, merged."""

import json
import shutil
import subprocess
import sys

import pytest
import tiny
import torch
from safetensors.torch import load_file

from aigc_text import from_scratch, load, train
from aigc_text.errors import DamagedError, ModelError, OptionError, TrainingError
from aigc_text.models.causal_lm import GPT2

SMALL = {"batch_size": 4, "block_size": 16, "precision": "fp32", "eval_every": 4, "learning_rate": 1e-2, "lora_rank": 2}


@pytest.fixture
def trained(tmp_path, data, model):
    list(train(load("gpt2", model), data, tmp_path / "out", max_steps=8, merge=True, **SMALL))
    return tmp_path / "out"


def logits(backend):
    with torch.no_grad():
        return backend.model(torch.arange(12)[None] + 260).logits


@pytest.mark.parametrize("kind", tiny.CAUSAL)
def test_any_architecture_gets_an_adapter_that_begins_as_nothing(kind):
    tokens = tiny.tokenizer()
    backend = GPT2(tiny.model(kind, tokens), tokens)
    before = logits(backend)
    backend.attach_adapter(backend.Training(lora_rank=2))
    trainable = [n for n, p in backend.model.named_parameters() if p.requires_grad]
    assert trainable and all("lora_" in n for n in trainable)
    assert logits(backend).equal(before)


def test_the_folder_holds_the_adapter_alone_and_load_finds_its_base(trained, model):
    tensors = load_file(trained / "adapter_model.safetensors")
    assert tensors and all("lora_" in name for name in tensors)
    assert not (trained / "model.safetensors").exists()
    backend, base = load(str(trained)), load("gpt2", model)
    assert backend.name == "gpt2" and backend.source == str(trained)
    assert not torch.allclose(logits(backend), logits(base), atol=1e-3)
    frozen = {n.replace(".base_layer", ""): p for n, p in backend.model.named_parameters() if "lora_" not in n}
    assert all(p.equal(frozen[n]) for n, p in base.model.named_parameters()), "training left the base as it was"
    one = [c.text for c in backend.generate(["the cat"], max_new_tokens=8, seed=1, do_sample=True)]
    assert one == [c.text for c in load(str(trained)).generate(["the cat"], max_new_tokens=8, seed=1, do_sample=True)]


def test_the_merged_model_is_whole_and_says_the_same(trained, model, tmp_path):
    adapted, merged = load(str(trained)), load(str(trained / "merged"))
    assert merged.adapter is None
    assert torch.allclose(logits(adapted), logits(merged), atol=1e-4)
    adapted.save_pretrained(tmp_path / "later", merge=True)
    assert (tmp_path / "later" / "model.safetensors").read_bytes() == (
        trained / "merged" / "model.safetensors"
    ).read_bytes()
    shutil.rmtree(model)
    assert logits(load(str(trained / "merged"))).equal(logits(merged)), "it needs no base"


def test_a_missing_base_is_named_with_its_cure(trained, model):
    shutil.move(model, model + "-moved")
    with pytest.raises(ModelError) as refused:
        load(str(trained))
    assert f"needs its base model '{model}'" in refused.value.message
    assert refused.value.cure == f"Put it there again: ln -s NEW_PLACE {model}"
    subprocess.run(["ln", "-s", model + "-moved", model], check=True)
    assert load(str(trained)).adapter is not None


def test_another_base_in_its_place_is_noticed(trained, model):
    tokens = tiny.tokenizer()
    tiny.model("gpt2", tokens, seed=5).save_pretrained(model)
    with pytest.warns(UserWarning, match="trained on another state of its base"):
        load(str(trained))


def test_a_base_of_another_shape_is_refused(trained, model):
    shutil.rmtree(model)
    tiny.save("llama", trained.parent / "model")
    with pytest.raises(ModelError, match="adapter in .* (lacks tensors|cannot be loaded)"):
        load(str(trained))


def test_a_damaged_adapter_is_refused_by_name(trained):
    path = trained / "adapter_model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match=r"adapter_model\.safetensors is damaged"):
        load(str(trained))


def test_an_adapter_from_elsewhere_needs_no_files_of_ours(trained):
    for name in ("manifest.json", "config.json"):
        (trained / name).unlink()
    assert load("gpt2", str(trained)).adapter is not None
    (trained / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ModelError, match="does not name the adapter's base"):
        load("gpt2", str(trained))


def test_a_resumed_adapter_ends_with_the_very_weights(trained, data, model, tmp_path):
    out = tmp_path / "broken"
    run = train(load("gpt2", model), data, out, max_steps=8, save_every=1, **SMALL)
    for _ in range(3):
        next(run)
    run.close()
    list(train(load("gpt2", model), data, out, max_steps=8, save_every=1, resume=True, **SMALL))
    one, two = (load_file(f / "adapter_model.safetensors") for f in (trained, out))
    assert all(one[n].equal(two[n]) for n in one)


def test_training_goes_on_from_an_adapter_or_from_it_merged(trained, data, tmp_path):
    before = load_file(trained / "adapter_model.safetensors")
    list(train(load(str(trained)), data, tmp_path / "more", max_steps=2, **SMALL))
    after = load_file(tmp_path / "more" / "adapter_model.safetensors")
    assert before.keys() == after.keys() and any(not before[n].equal(after[n]) for n in before)
    assert logits(load(str(tmp_path / "more"))).shape == logits(load(str(trained))).shape
    with pytest.raises(OptionError, match="has lora_rank 2, not 3"):
        list(train(load(str(trained)), data, tmp_path / "other", max_steps=2, **{**SMALL, "lora_rank": 3}))
    list(train(load(str(trained)), data, tmp_path / "full", max_steps=2, **{**SMALL, "lora_rank": None}))
    assert (tmp_path / "full" / "model.safetensors").exists()


def test_wrong_layers_are_refused_with_those_there_are(data, model, tmp_path):
    with pytest.raises(OptionError) as refused:
        list(train(load("gpt2", model), data, tmp_path / "out", max_steps=1, lora_targets=("q_proj",), **SMALL))
    assert "q_proj" in refused.value.message and "c_attn" in refused.value.cure
    assert not (tmp_path / "out").exists()


def test_without_peft_the_extra_is_named(monkeypatch, data, model, tmp_path):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(OptionError) as refused:
        list(train(load("gpt2", model), data, tmp_path / "out", max_steps=1, **SMALL))
    assert refused.value.cure == 'pip install "aigc-text[lora]"'


def test_resuming_with_another_rank_says_what_differs(trained, data, model):
    with pytest.raises(TrainingError, match="started with lora_rank=2, not 4"):
        list(train(load("gpt2", model), data, trained, max_steps=8, resume=True, **{**SMALL, "lora_rank": 4}))


def test_a_new_model_gets_no_adapter_since_nothing_could_load_it(data, tmp_path, refused):
    out = tmp_path / "out"
    fresh = from_scratch("gpt2", tiny.SENTENCES, n_layer=1, n_embd=16, n_head=2)
    with pytest.raises(OptionError, match="from_scratch, lora_rank.* exclude each other"):
        list(train(fresh, data, out, max_steps=1, **SMALL))
    tokens = tiny.tokenizer()
    with pytest.raises(OptionError, match="lora_rank=2 for a model that was not loaded from anywhere"):
        list(train(GPT2(tiny.model("gpt2", tokens), tokens), data, out, max_steps=1, **SMALL))
    command = ("train", "--from-scratch", "--lora-rank", 4, "--data", data, "--output", out)
    refused(*command, says=["--from-scratch and --lora-rank 4 contradict each other"])
    assert not out.exists()


def test_merging_without_an_adapter_is_refused(data, model, tmp_path):
    with pytest.raises(OptionError, match="merge is for LoRA"):
        list(train(load("gpt2", model), data, tmp_path / "out", merge=True, **{**SMALL, "lora_rank": None}))


def test_a_base_by_a_relative_path_is_found_from_everywhere(data, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    list(train(load("gpt2", "model"), data, "out", max_steps=2, **SMALL))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load("../out").adapter is not None
    named = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == model
    shutil.move(model, model + "-moved")
    with pytest.raises(ModelError) as refused:
        load("../out")
    assert refused.value.cure == f"Put it there again: ln -s NEW_PLACE {model}"


def test_a_relative_base_of_another_tool_is_looked_for_beside_the_adapter(trained, model, tmp_path, monkeypatch):
    config = trained / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "base"}))
    (trained / "manifest.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ModelError) as refused:
        load(str(trained))
    assert str(trained / "base") in refused.value.cure
    shutil.copytree(model, trained / "base")
    assert load(str(trained)).adapter is not None


@pytest.mark.parametrize("family", ["rnn", "transformer", "vae", "gan"])
def test_an_adapter_of_every_family_can_be_loaded(family, data, tmp_path):
    sizes = {"transformer": {"num_hidden_layers": 1, "num_attention_heads": 2}}.get(family, {"embedding_size": 8})
    base = from_scratch(family, tiny.SENTENCES, hidden_size=16, **sizes)
    base.save_pretrained(tmp_path / "base")
    more = {"max_steps": 4}
    if family == "gan":
        more |= {"watch_samples": 0, "likelihood_steps": 4, "best": "loss", "deliver": "last"}
    options = {**SMALL, "sample_by": "line", **more}
    trained = load(str(tmp_path / "base"))
    list(train(trained, data, tmp_path / "out", **options))
    expected, found = ([s.nll for s in b.score(["the cat"])] for b in (trained, load(str(tmp_path / "out"))))
    assert found == pytest.approx(expected, rel=1e-4)
