"""Code never runs by accident: whatever comes with a model, a checkpoint, options or data, no canary file appears."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from aigc_text import load
from aigc_text.errors import ModelError, OptionError
from aigc_text.hub import locate, model_files

GENERATE = ("--prompt", "a", "--max-new-tokens", "2", "--seed", "1")
TINY = ("--max-steps", "2", "--batch-size", "2", "--block-size", "16", "--save-every", "1", "--device", "cpu")
SLOW = pytest.mark.slow
SMALL = ("-o", "n_layer=1", "-o", "n_embd=8", "-o", "n_head=1", "-o", "n_positions=32", *TINY)


class Bird:
    """Unpickled, it writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (exec, (f"open({str(self.canary)!r}, 'w').close()",))


@pytest.fixture
def canary(tmp_path):
    """A file that code which should not run would make; checked when the test ends."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code ran"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save("gpt2", tmp_path / "model")
    (tmp_path / "data.txt").write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    return tmp_path


def change(path, **fields):
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **fields}))


def code(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()\nclass Config: pass\nclass Model: pass\nclass Tokenizer: pass\n"


# Pickles


def _pickles(folder: Path, canary: Path, form: str) -> bytes:
    path = folder / "made.bin"
    if form == "pickle":
        return pickle.dumps(Bird(canary))
    torch.save({"transformer.wte.weight": Bird(canary)}, path, _use_new_zipfile_serialization=form == "zip")
    raw = path.read_bytes()
    path.unlink()
    return raw


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
@pytest.mark.parametrize("instead", [True, False], ids=["instead", "beside"])
def test_pickled_weights_are_never_read(place, canary, run, form, instead):
    for name in ("pytorch_model.bin", "model.bin", "adapter_model.bin", "training_args.bin", "tokenizer.pkl"):
        (place / "model" / name).write_bytes(_pickles(place, canary, form))
    if instead:
        (place / "model" / "model.safetensors").unlink()
    result = run("generate", "--model", "model", *GENERATE)
    assert result.code == (2 if instead else 0), result.err


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json"])
@pytest.mark.parametrize("form", ["pickle", "zip"])
def test_a_pickle_under_another_name_is_none(place, canary, refused, name, form):
    (place / "model" / name).write_bytes(_pickles(place, canary, form))
    refused("generate", "--model", "model", *GENERATE, says=["model"])


def test_an_index_does_not_lead_to_a_pickle(place, canary, refused):
    weights = load_file(place / "model" / "model.safetensors")
    (place / "model" / "model.safetensors").unlink()
    (place / "model" / "pytorch_model.bin").write_bytes(_pickles(place, canary, "zip"))
    for name in (
        "pytorch_model.bin",
        "../evil.safetensors",
        "/evil.safetensors",
        "a/b.safetensors",
        "..\\e.safetensors",
    ):
        index = {"weight_map": dict.fromkeys(weights, name)}
        (place / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
        refused("generate", "--model", "model", *GENERATE, says=["model.safetensors.index.json", "no safetensors file"])


@pytest.fixture
def stopped(place, run):
    """A run that has two checkpoints and is not done."""
    result = run("train", "--model", "model", "--data", "data.txt", "--output", "run", *TINY)
    assert result.code == 0, result.err
    for name in ("config.json", "model.safetensors"):
        (place / "run" / name).unlink()
    return place / "run" / "checkpoints"


@pytest.mark.parametrize("name", ["optimizers.pt", "objective.pt", "trainer.json", "model.safetensors"])
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "changed"])
def test_a_hostile_pickle_in_a_checkpoint(stopped, place, canary, run, name, sealed):
    from aigc_text.training import checkpoint_folders
    from aigc_text.utils import sealed_dir

    for form in ("zip", "pickle"):
        for step in checkpoint_folders.steps(stopped):
            (step / name).write_bytes(_pickles(place, canary, form))
            if sealed:  # whoever changes a checkpoint can mend its manifest
                sealed_dir.seal(step)
        result = run("train", "--model", "model", "--data", "data.txt", "--output", "run", "--resume", *TINY)
        assert result.code == 2 and name in result.err, result.err
        assert len(result.err.splitlines()) <= 3 and result.err.startswith("Error: "), result.err


def test_a_pickled_adapter_is_not_read(place, canary, run, refused):
    words = ("--data", "data.txt", "--output", "run", "--lora-rank", "2", *TINY)
    assert run("train", "--model", "model", *words).code == 0
    weights = place / "run" / "adapter_model.safetensors"
    (place / "run" / "manifest.json").unlink()
    weights.unlink()
    (place / "run" / "adapter_model.bin").write_bytes(_pickles(place, canary, "zip"))
    refused("generate", "--model", "run", *GENERATE, says=["adapter_model.safetensors"])


def test_an_adapter_names_no_module_to_import(place, canary, run, refused, monkeypatch):
    words = ("--data", "data.txt", "--output", "run", "--lora-rank", "2", *TINY)
    assert run("train", "--model", "model", *words).code == 0
    (place / "evil.py").write_text(code(canary))
    monkeypatch.syspath_prepend(str(place))
    (place / "run" / "manifest.json").unlink()
    change(place / "run" / "adapter_config.json", megatron_config={"a": 1}, megatron_core="evil")
    refused("generate", "--model", "run", *GENERATE, says=["adapter_config.json", "megatron"])


def test_an_adapter_on_itself_ends(place, run, refused):
    words = ("--data", "data.txt", "--output", "run", "--lora-rank", "2", *TINY)
    assert run("train", "--model", "model", *words).code == 0
    (place / "run" / "manifest.json").unlink()
    shutil.copytree(place / "run", place / "other")
    for base in ("run", "other"):
        change(place / "run" / "adapter_config.json", base_model_name_or_path=str(place / base))
        change(place / "other" / "adapter_config.json", base_model_name_or_path=str(place / "run"))
        refused("generate", "--model", "run", *GENERATE, says=["comes back to itself"])


# Code that is named in JSON


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "module", ["evil", pytest.param("owner/name--evil", marks=SLOW), pytest.param("../evil", marks=SLOW)]
)
@pytest.mark.parametrize("answer", [b"", b"y\ny\ny\n"], ids=["silent", "yes on standard input"])
def test_auto_map_runs_nothing(place, canary, run, file, module, answer):
    named = {
        "AutoConfig": f"{module}.Config",
        "AutoModelForCausalLM": f"{module}.Model",
        "AutoTokenizer": [f"{module}.Tokenizer", f"{module}.Tokenizer"],
    }
    change(place / "model" / file, auto_map=named, tokenizer_class="Tokenizer", model_type="evil")
    for folder in (place, place / "model"):
        (folder / "evil.py").write_text(code(canary))
    words = (
        ("generate", "--model", "model", *GENERATE),
        ("train", "--from-scratch", "--tokenizer", "model", "--data", "data.txt", "--output", "run", *SMALL),
    )
    for command in words:
        result = run(*command, stdin=answer)
        assert result.code in (0, 2) and "[y/N]" not in result.out + result.err, result.err
        shutil.rmtree(place / "run", ignore_errors=True)


def test_a_folder_does_not_choose_a_file_of_code(place, canary, refused):
    (place / "evil.py").write_text(code(canary))
    change(place / "model" / "config.json", aigc_text_backend=f"{place / 'evil.py'}:Model")
    refused("generate", "--model", "model", *GENERATE, says=["names a file of code"])


def test_attention_is_not_fetched_from_elsewhere(place, canary, run):
    for field in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        change(place / "model" / "config.json", **{field: "owner/name"})
        result = run("generate", "--model", "model", *GENERATE)
        assert result.code in (0, 2), result.err


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['datetime'] }}",
    "{% set f = messages.append %}{{ f(1) }}",
    "{{ ('%s' | attr('__class__'))('x') }}{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "{% include '/etc/passwd' %}",
    "{{ range(1000000000)|list|length }}",
    "{% for",
]


@pytest.mark.parametrize("template", ESCAPES)
@pytest.mark.parametrize("where", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_chat_template_stays_in_its_sandbox(place, canary, run, template, where):
    template = template.replace("CANARY", str(canary))
    if where.endswith(".jinja"):
        (place / "model" / where).write_text(template)
    else:
        change(place / "model" / where, chat_template=template)
    result = run("generate", "--model", "model", *GENERATE, "-o", "chat=true")
    assert result.code in (0, 2), result.err
    assert "posix" not in result.out and "root:" not in result.out
    assert result.code == 0 or (result.err.startswith("Error: ") and len(result.err.splitlines()) <= 3)


# Options


BOMB = "x0: &x0 [lol, lol]\n" + "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 30))
TAGS = [
    "!!python/object/apply:os.system ['touch CANARY']",
    "!!python/object/new:os.system ['touch CANARY']",
    "!!python/name:os.system",
    "!!python/module:evil",
    "!!python/object:evil.Model {}",
    "!!python/tuple [1]",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("field", ["model", "data", "max_steps", "config"])
def test_tags_of_python_are_refused(place, canary, refused, monkeypatch, tag, field):
    (place / "evil.py").write_text(code(canary))
    monkeypatch.syspath_prepend(str(place))
    (place / "run.yaml").write_text(f"{field}: {tag.replace('CANARY', str(canary))}\n")
    refused("train", "--config", "run.yaml", "--output", "run", says=["run.yaml:1 is not valid YAML"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB + "data: *x29", "more than 10000 values"),
        (BOMB + "config: {n_layer: *x29}", "more than 10000 values"),
        ("data: &a [*a]", "more than 20 in each other"),
        ("&a data: *a", "'data' is neither a file nor"),
        ("data: data.txt\n" + "a" * 300_000, "more than 262144 bytes"),
        ("data: " + "[" * 3000, "not valid YAML"),
        ("max_steps: 0x" + "f" * 6000, "whole number of 24000 bits"),
        ("data: [{2001-01-01: 1}]", "2001-01-01"),
        ('data: "a\\0b"', "text that is none"),
        ('data: "\\ud800"', "text that is none"),
        ("schedule: !!bool 3", "not valid YAML"),
    ],
)
def test_bombs_in_options_do_not_go_off(place, refused, text, says):
    (place / "run.yaml").write_text(text)
    refused("train", "--config", "run.yaml", "--model", "model", "--output", "run", says=[says])
    assert not (place / "run").exists()


# Data


def test_a_script_beside_data_is_text(place, canary, run, refused):
    folder = place / "tales"
    folder.mkdir()
    (folder / "tales.py").write_text(code(canary))
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "data.jsonl").write_text(json.dumps({"text": "a cat"}) + "\n")
    result = run("score", "tales", "--model", "model", "--output", "out.jsonl")
    assert result.code in (0, 2), result.err
    for name in ("tales.py", "json.py", "text.py", "evil.py"):
        (place / name).write_text(code(canary))
    for what in ("json", "text", "evil", "owner/evil", "tales@train", "json:evil", "evil:tales@train"):
        result = run("score", what, "--model", "model", "--output", "none.jsonl")
        assert result.code == 2 and "Traceback" not in result.err, (what, result.err)


@pytest.mark.parametrize("name", ["../canary", "/tmp/canary-of-aigc-text", "a/../../canary"])
def test_an_archive_is_not_unpacked(place, canary, run, name):
    with zipfile.ZipFile(place / "data.zip", "w") as archive:
        archive.writestr(name, "x")
    shutil.copy(place / "data.zip", place / "data.jsonl")
    for command in (
        ("score", "data.zip", "--model", "model"),
        ("score", "data.jsonl", "--model", "model"),
        ("generate", "--model", "data.zip", *GENERATE),
        ("train", "--config", "data.zip", "--output", "run"),
    ):
        result = run(*command)
        assert result.code == 2 and len(result.err.splitlines()) <= 3, result.err
    assert not Path("/tmp/canary-of-aigc-text").exists()


# Links and sizes


def test_links_out_of_a_models_folder_are_refused(place, refused, run):
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        shutil.copytree(place / "model", place / "linked")
        (place / "linked" / name).rename(place / name)
        (place / "linked" / name).symlink_to(place / name)
        refused("generate", "--model", "linked", *GENERATE, says=[name, "symbolic link out of"])
        (place / "linked" / name).unlink()
        (place / "linked" / name).symlink_to("../" + name)
        refused("generate", "--model", "linked", *GENERATE, says=[name, "symbolic link out of"])
        shutil.rmtree(place / "linked")
    (place / "alias").symlink_to(place / "model")  # a link to a whole folder is the user's own word
    assert run("generate", "--model", "alias", *GENERATE).code == 0


def test_the_hubs_cache_is_made_of_links(place, monkeypatch):
    from huggingface_hub import constants

    home = place / "hub" / "models--owner--name"
    (home / "blobs").mkdir(parents=True)
    snapshot = home / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for n, path in enumerate((place / "model").iterdir()):
        shutil.copy(path, home / "blobs" / str(n))
        (snapshot / path.name).symlink_to(f"../../blobs/{n}")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / "hub"))
    assert load("gpt2", "owner/name").source == "owner/name"
    assert load("gpt2", str(snapshot)).source == str(snapshot)
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").symlink_to(place / "model" / "tokenizer.json")
    with pytest.raises(ModelError, match="symbolic link out of"):
        load("gpt2", "owner/name")


HUGE = [10**9, 2**31, 10**18, 10**30]


@pytest.mark.parametrize("size", HUGE)
@pytest.mark.parametrize("field", ["n_layer", "n_head", "n_embd", "n_positions", "n_inner", "vocab_size", "num_labels"])
def test_no_config_asks_for_more_than_its_weights_hold(place, refused, field, size):
    change(place / "model" / "config.json", **{field: size})
    refused("generate", "--model", "model", *GENERATE, says=["model"])


@pytest.mark.parametrize(
    "size", [pytest.param(100_000, marks=SLOW), 10**9, *(pytest.param(n, marks=SLOW) for n in HUGE[1:])]
)
@pytest.mark.parametrize(
    ("backend", "field"),
    [("gpt2", f) for f in ("n_layer", "n_embd", "n_inner", "num_labels")]
    + [("rnn", f) for f in ("num_hidden_layers", "hidden_size")]
    + [("transformer", "num_hidden_layers"), ("vae", "latent_size"), ("gan", "memory_slots"), ("gan", "filters")],
)
def test_sizes_from_scratch_are_bounded(place, refused, run, backend, field, size):
    words = ("train", "--from-scratch", "--backend", backend, "--tokenizer", "char", "--data", "data.txt")
    if size == 100_000 and field not in ("n_layer", "num_hidden_layers"):
        pytest.skip("many, and not too many")
    refused(*words, "--output", "run", "-o", f"{field}={size}", *TINY, says=[])
    assert not (place / "run").exists()


@pytest.mark.parametrize("backend", ["rnn", "transformer", "vae", "gan"])
def test_bundled_models_and_new_ones_are_within_bounds(backend):
    assert model_files.inspect(locate.BUNDLED / hub_name(backend)) is not None
    load(backend)


def hub_name(backend: str) -> str:
    from aigc_text.backends.registry import get_backend

    return get_backend(backend).bundled  # type: ignore[attr-defined]


def test_counting_ends_with_the_building(place):
    from torch import nn

    bounds = model_files.fresh_bounds("")
    with pytest.raises(OptionError), model_files.bounded(bounds):
        nn.ModuleList(nn.Linear(1, 1) for _ in range(bounds.tensors))
    nn.ModuleList(nn.Linear(1, 1) for _ in range(10))
    assert os.environ.get("HF_HUB_OFFLINE") == "1"
