"""Engines: the same text from each, nothing ignored, what was converted is verified; memory and packed weights."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
import tiny

from aigc_text import load
from aigc_text.errors import BackendError, ModelError, OptionError
from aigc_text.hub import ctranslate2
from aigc_text.models.rnn.backend import RNN
from aigc_text.testing.contract import check_backend

PROMPTS = ["the cat sat on", "once", "", "and the dog saw the king who had a daughter", "a", "从前", "the "]
KNOWN = ("gpt2", "codegen", "gpt_bigcode", "qwen2", "llama")  # of CTranslate2's architectures


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("AIGC_TEXT_CACHE", str(folder))
        yield folder


def texts(backend, prompts=PROMPTS, **options):
    return [(c.text, c.finish_reason, c.tokens) for c in backend.generate(prompts, max_new_tokens=20, **options)]


# One text from all engines


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize(
    "options",
    [{}, {"stop_strings": ("t", "a k")}, {"min_new_tokens": 6}, {"no_repeat_ngram_size": 2}, {"batch_size": 3}],
    ids=str,
)
def test_greedy_text_is_that_of_the_other_engine(kind, options, folders):
    ours, theirs = (load("gpt2", str(folders[kind]), engine=engine) for engine in ("torch", "ctranslate2"))
    assert texts(theirs, do_sample=False, **options) == texts(ours, do_sample=False, **options)


def test_auto_is_torch_so_that_an_extra_changes_nobodys_text(folders):
    made = [texts(load("gpt2", str(folders["gpt2"]), **how), seed=3) for how in ({}, {"engine": "auto"})]
    assert made[0] == made[1] == texts(load("gpt2", str(folders["gpt2"]), engine="torch"), seed=3)
    assert load("gpt2", str(folders["gpt2"])).engine().name == "torch"


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_contract_holds(quantize, folders):
    backend = load("gpt2", str(folders["qwen2"]), engine="ctranslate2", quantize=quantize)
    assert backend.precision == (quantize or "float32")
    assert backend.engine().name == backend.decodes_by == "ctranslate2"
    assert len(list(check_backend(backend))) == 9  # it neither saves nor scores, and promises no exactness


def test_a_seed_repeats_a_run_and_another_gives_other_texts(folders):
    backend = load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    first = texts(backend, seed=1, do_sample=True, top_k=0)
    assert texts(backend, seed=1, do_sample=True, top_k=0) == first
    assert texts(load("gpt2", str(folders["gpt2"]), engine="ctranslate2"), seed=1, do_sample=True, top_k=0) == first
    assert texts(backend, seed=2, do_sample=True, top_k=0) != first
    assert not any(c.exact for c in backend.generate(["the"], seed=1))  # it does not promise more


def test_samples_are_drawn_from_the_models_distribution(folders):
    ours, theirs = (load("gpt2", str(folders["gpt2"]), engine=engine) for engine in ("torch", "ctranslate2"))
    how = {"do_sample": True, "top_k": 0, "top_p": 1.0, "max_new_tokens": 1, "num_return_sequences": 3000, "seed": 5}
    shares = []
    for backend in (ours, theirs):
        made = [c.text for c in backend.generate(["the cat"], **how)]
        shares.append({text: made.count(text) / 3000 for text in set(made)})
    top = sorted(shares[0], key=shares[0].get, reverse=True)[:6]
    assert [shares[1].get(text, 0) for text in top] == pytest.approx([shares[0][text] for text in top], abs=0.04)


def test_a_prompt_that_ends_in_white_space_goes_on_as_with_torch(folders):
    backend = load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    for seed in range(3):
        made = next(iter(backend.generate(["once upon "], seed=seed, do_sample=True, max_new_tokens=8)))
        ours = next(iter(load("gpt2", str(folders["gpt2"])).generate(["once upon "], seed=seed, max_new_tokens=8)))
        assert made.tokens and made.prompt == ours.prompt == "once upon "


def test_streaming_gives_the_text_in_pieces(folders):
    backend = load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    pieces = list(backend.stream("the cat", max_new_tokens=20, do_sample=False))
    assert len(pieces) > 5 and "".join(pieces) == texts(backend, ["the cat"], do_sample=False)[0][0]


def test_who_stops_listening_can_ask_again(folders):
    backend = load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    for _ in range(3):
        stream = backend.stream("the cat", max_new_tokens=40, do_sample=False)
        next(stream)
        stream.close()
    assert texts(backend, do_sample=False) == texts(load("gpt2", str(folders["gpt2"])), do_sample=False)


def test_int8_is_near(folders):
    exact, rounded = (load("gpt2", "bundled:gpt2-tales", engine="ctranslate2", quantize=q) for q in (None, "int8"))
    made = [b.generate(["Once upon a time there was"], max_new_tokens=12, do_sample=False) for b in (exact, rounded)]
    a, b = (next(iter(m)).text.split() for m in made)
    assert a[:4] == b[:4]


def test_it_needs_no_torch(folders, cache):
    load("gpt2", str(folders["gpt2"]), engine="ctranslate2")  # converted
    ours = (
        "import sys; from aigc_text import load; b = load('gpt2', sys.argv[1], engine='ctranslate2');"
        "assert next(iter(b.generate(['the cat'], max_new_tokens=5, seed=1))).tokens == 5;"
    )
    theirs = (  # some versions of transformers import torch for a tokenizer
        "import sys; from transformers import GenerationConfig, PreTrainedTokenizerFast;"
        "PreTrainedTokenizerFast.from_pretrained(sys.argv[1]);"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", f"{script}print('torch.nn' in sys.modules)", str(folders["gpt2"])],
            capture_output=True, text=True, check=True, env={**os.environ, "AIGC_TEXT_CACHE": str(cache)},
        ).stdout
        for script in (ours, theirs)
    ]  # fmt: skip
    assert found[0] == found[1]


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_p": 0.1}, "min_p=0.1"),
        ({"repetition_penalty": 1.2}, "repetition_penalty=1.2"),
        ({"num_beams": 2, "do_sample": False}, "num_beams=2"),
    ],
)
def test_an_option_that_the_engine_lacks_is_refused(options, said, folders):
    backend = load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    with pytest.raises(OptionError, match=said) as error:
        texts(backend, **options)
    assert "--engine torch" in error.value.cure


def test_an_option_of_the_model_itself_that_the_engine_lacks_is_refused(folders, tmp_path):
    backend = load("gpt2", str(folders["llama"]))
    backend.model.generation_config.repetition_penalty = 1.1
    backend.save_pretrained(tmp_path / "penalty")
    again = load("gpt2", str(tmp_path / "penalty"), engine="ctranslate2")
    with pytest.raises(OptionError, match="which the model itself asks for"):
        texts(again)
    assert len(texts(again, repetition_penalty=1.0)) == len(PROMPTS)


@pytest.mark.parametrize(
    ("backend", "kind", "how", "said", "cure"),
    [
        ("gpt2", "gpt2", {"engine": "tensorrt"}, "no engine 'tensorrt'", "auto, torch, ctranslate2"),
        ("gpt2", "gpt2", {"engine": "ctranslat2"}, "Did you mean 'ctranslate2'", "ctranslate2"),
        ("gpt2", "gpt2", {"quantize": "int8"}, "torch does not quantise", "--engine ctranslate2"),
        ("gpt2", "gpt2", {"engine": "ctranslate2", "quantize": "int4"}, "'int4'", "int8"),
        ("gpt2", "starcoder2", {"engine": "ctranslate2"}, "does not know the architecture Starcoder2", "GPTBigCode"),
        ("gpt2", "gpt2", {"engine": "ctranslate2", "device": "tpu"}, "'tpu'", "cpu, cuda"),
        ("gpt2", "gpt2", {"engine": "ctranslate2", "dtype": "fp3"}, "'fp3'", "fp32"),
        ("gpt2", "gpt2", {"engine": "ctranslate2", "config": {"n_layer": 1}}, "changed configuration", "torch"),
    ],
)
def test_what_cannot_be_is_said(backend, kind, how, said, cure, folders):
    with pytest.raises(OptionError, match=said) as error:
        load(backend, str(folders[kind]), **how)
    assert cure in error.value.cure or cure in error.value.message


def test_an_engine_that_is_not_installed_names_the_command(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(OptionError, match="not installed") as error:
        load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    assert "pip install 'aigc-text[fast]'" in error.value.cure


def test_other_families_have_one_engine(tmp_path):
    made = RNN.from_scratch(tiny.tokenizer(), hidden_size="8", embedding_size="8")
    made.name = "rnn"
    made.save_pretrained(tmp_path / "rnn")
    with pytest.raises(OptionError, match="no engine 'ctranslate2'"):
        load("rnn", str(tmp_path / "rnn"), engine="ctranslate2")


def test_it_neither_scores_nor_saves(folders, tmp_path):
    backend = load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    with pytest.raises(BackendError, match="does not score"):
        backend.score(["a"])
    with pytest.raises(BackendError, match="does not save"):
        backend.save_pretrained(tmp_path / "copy")
    assert "likelihood (exact)" not in backend.capabilities.words() and list(tmp_path.iterdir()) == []


# What was converted


def test_a_damaged_conversion_is_noticed_and_made_again(folders, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path))
    expected = texts(load("gpt2", str(folders["gpt2"]), engine="ctranslate2"), do_sample=False)
    assert capfd.readouterr().err.count("converting the model") == 1
    weights = next(tmp_path.glob("ctranslate2/*/model.bin"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert texts(load("gpt2", str(folders["gpt2"]), engine="ctranslate2"), do_sample=False) == expected
    said = capfd.readouterr().err
    assert "model.bin is damaged" in said and "converted again" in said
    load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    assert "convert" not in capfd.readouterr().err


def test_another_model_at_the_same_place_is_converted_anew(tmp_path):
    tokens = tiny.tokenizer()
    for seed in (0, 1):
        folder = tmp_path / "model"
        tiny.model("gpt2", tokens, seed).save_pretrained(folder)
        tokens.save_pretrained(folder)
        ours, theirs = (load("gpt2", str(folder), engine=engine) for engine in ("torch", "ctranslate2"))
        assert texts(theirs, do_sample=False) == texts(ours, do_sample=False)


def test_a_model_with_more_tokens_than_its_tokenizer_is_converted(tmp_path):
    tokens = tiny.tokenizer()
    model = tiny.model("gpt2", tokens)
    model.resize_token_embeddings(len(tokens) + 84)
    model.save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    ours, theirs = (load("gpt2", str(tmp_path), engine=engine) for engine in ("torch", "ctranslate2"))
    assert texts(theirs, do_sample=False) == texts(ours, do_sample=False)


def test_a_cache_that_cannot_be_written_is_said(folders, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot be written") as error:
        load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    assert "AIGC_TEXT_CACHE" in error.value.cure


def test_a_full_disk_leaves_nothing_behind(folders, monkeypatch, tmp_path):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ctranslate2, "_write", full)
    with pytest.raises(ModelError, match="No space left"):
        load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_cache_that_cannot_be_locked_is_not_waited_for(folders, monkeypatch, tmp_path):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path))

    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(ModelError, match="No locks available") as error:
        load("gpt2", str(folders["gpt2"]), engine="ctranslate2")
    assert "AIGC_TEXT_CACHE" in error.value.cure
