"""Finding and loading models: exactly what was asked for or a clear error, and no waiting for a dead network."""

import json
import os
import shutil
import socket

import pytest
import tiny
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from aigc_text import load
from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.errors import BackendError, ModelError, OptionError
from aigc_text.hub import locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    return tiny.save("gpt2", tmp_path / "model")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and a function that puts a model into it as a download would."""
    home = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))

    def put(name, model):
        place = home / f"models--{name.replace('/', '--')}"
        shutil.copytree(model, place / "snapshots" / COMMIT)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(COMMIT)

    return put


def change(folder, edit):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_folder_is_loaded_with_its_hash(folder):
    one = load("gpt2", str(folder))
    assert one.source == str(folder) and len(one.revision) == 12
    change(folder, lambda t: t["transformer.wte.weight"].add_(1))
    assert load("gpt2", str(folder)).revision != one.revision


@pytest.mark.parametrize("name", ["/" + "a" * 5000, "./" + "a" * 300, "a" * 300])
def test_a_name_that_no_file_system_takes_is_refused(name):
    with pytest.raises(ModelError, match="cannot be looked at: File name too long"):
        load("gpt2", name)


@pytest.mark.parametrize(("backend", "model"), [("gpt2", "./here"), ("rnn", None)])
def test_a_revision_of_what_is_not_on_the_hub_is_refused(backend, model):
    with pytest.raises(OptionError, match="revision 'v2' is for models of the hub"):
        load(backend, model, revision="v2")


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda t: t.pop("transformer.h.1.mlp.c_fc.weight"), "missing.*h.1.mlp.c_fc.weight"),
        (lambda t: t.update(stray=torch.zeros(2)), "unexpected.*stray"),
        (
            lambda t: t.update({"transformer.ln_f.weight": torch.zeros(5)}),
            r"mismatched.*ln_f.weight torch.Size\(\[5\]\) torch.Size\(\[32\]\)",
        ),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_tensors_that_do_not_belong_are_errors(folder, edit, what):
    change(folder, edit)
    with pytest.raises(ModelError, match=what):
        load("gpt2", str(folder))


def test_only_safetensors_are_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded.*safetensors"):
        load("gpt2", str(folder))


def test_code_that_comes_with_a_model_does_not_run_unasked(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()\n")
    with pytest.raises(ModelError) as caught:
        load("gpt2", str(folder))
    assert "--trust-remote-code" in caught.value.cure
    assert not (tmp_path / "canary").exists()


def test_a_model_neither_cached_nor_reachable_is_an_error(cache, monkeypatch):
    monkeypatch.setattr(locate, "is_reachable", lambda: False)
    with pytest.raises(ModelError, match="'owner/name' is neither a folder nor in the cache"):
        load("gpt2", "owner/name")


def test_a_cached_model_needs_no_network(cache, folder, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("a connection was tried"))
    cache("owner/name", folder)
    made = load("gpt2", "owner/name")
    assert (made.source, made.revision) == ("owner/name", COMMIT)


def test_the_real_model_is_preferred_where_it_is_cached(cache, folder, capsys):
    cache("openai-community/gpt2", folder)
    assert load("gpt2").source == "openai-community/gpt2"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("name", "bundled", "real"), [
    ("gpt2", "gpt2-tales", "openai-community/gpt2"), ("code", "gpt2-python", "Qwen/Qwen2.5-Coder-0.5B")])  # fmt: skip
def test_else_the_bundled_model_speaks_and_one_notice_says_so(cache, capsys, name, bundled, real):
    backend = load(name)
    assert backend.source == f"bundled:{bundled}"
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("Notice") == 1
    assert bundled in told.err and f"hf download {real}" in told.err


def test_without_a_bundled_model_a_missing_one_is_an_error(cache, capsys):
    class Paragraph(TransformersBackend):
        hub_id = "owner/name"

    with pytest.raises(ModelError, match="'owner/name' is neither a folder nor in the cache"):
        Paragraph.from_pretrained()
    assert capsys.readouterr().err == ""


def test_a_model_that_was_asked_for_is_never_replaced(cache):
    with pytest.raises(ModelError):
        load("gpt2", "openai-community/gpt2")


def test_a_network_that_does_not_answer_costs_seconds(monkeypatch):
    asked = []

    def hang(address, timeout):
        asked.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", hang)
    assert not locate.is_reachable()
    assert asked == [locate.WAIT] and locate.WAIT <= 3


@pytest.mark.parametrize(
    ("proxies", "door"),
    [
        ({}, ("hub.example", 443)),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "proxy.example:3128"}, ("proxy.example", 3128)),
        ({"ALL_PROXY": "http://proxy.example"}, ("proxy.example", 80)),
        ({"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": "hub.example"}, ("hub.example", 443)),
        ({"HTTPS_PROXY": "http://proxy.example:port"}, None),
        ({"HTTPS_PROXY": "http://[::1"}, None),
    ],
)
def test_the_proxy_before_the_hub_is_knocked_at(monkeypatch, proxies, door):
    asked = []
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: asked.append(address) or socket.socket())
    assert locate.is_reachable() is (door is not None)
    assert asked == ([door] if door else [])


def test_the_home_of_nobody_is_a_folder_that_is_not_there(monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="there is no folder ~no-such-user/model"):
        load("gpt2", "~no-such-user/model")
    with pytest.raises(BackendError, match="there is no file ~no-such-user/mine.py"):
        load("~no-such-user/mine.py:Mine")
    monkeypatch.setenv("AIGC_TEXT_CACHE", "~no-such-user/cache")
    assert str(locate.cache_folder()) == "~no-such-user/cache"


def test_a_pipe_is_no_config(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(ModelError, match="holds no model: no config.json"):
        load("gpt2", str(folder))


def test_offline_is_honoured(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("a connection was tried"))
    assert not locate.is_reachable()


@pytest.mark.parametrize(
    ("kind", "stored"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_dtype_is_what_was_asked_for(folder, kind, stored):
    backend = load("gpt2", str(folder), dtype=kind)
    assert next(backend.model.parameters()).dtype == stored
    assert backend.precision == str(stored).removeprefix("torch.")


@pytest.mark.parametrize("given", [{"dtype": "fp64"}, {"device": "cuda:99"}, {"device": "tpu"}, {"revison": "main"}])
def test_wrong_loading_options_are_the_users_errors(folder, given):
    with pytest.raises(OptionError):
        load("gpt2", str(folder), **given)


def test_a_backend_that_is_not_the_models_names_both(folder, tmp_path):
    load("code", str(folder)).save_pretrained(tmp_path / "saved")
    with pytest.raises(BackendError, match="belongs to backend 'code', not 'gpt2'"):
        load("gpt2", str(tmp_path / "saved"))


def test_bundled_models_are_whole_and_small():
    from aigc_text.utils import sealed_dir

    for name, size, figure in (
        ("gpt2-tales", 12_200_000, "bits per byte"),
        ("gpt2-python", 12_200_000, "bits per byte"),
        ("rnn-captions", 3_000_000, "bits per byte"),
        ("transformer-shakespeare", 3_000_000, "bits per byte"),
        ("vae-captions", 3_000_000, "importance-weighted"),
    ):
        folder = locate.BUNDLED / name
        sealed_dir.verify(folder)
        assert sum(f.stat().st_size for f in folder.iterdir()) <= size
        assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.float16}
        assert figure in (folder / "README.md").read_text(encoding="utf-8")
