"""`FILE.py:CLASS`: executed once in a process, whatever the command, as a module that no other file is taken for."""

import dataclasses
import inspect
import json
import pickle
import sys

import pytest

from aigc_text import load
from aigc_text.backends.registry import get_backend

COUNTED = """
import dataclasses, pathlib
with pathlib.Path(__file__).with_name("executed").open("a") as stream:
    stream.write("once ")
from aigc_text import Backend, Completion
from aigc_text.models.vae.backend import VAE

@dataclasses.dataclass
class Note:
    text: "str"

class Counted(VAE):
    hub_id, bundled = "", "vae-captions"

class Plain(Backend):
    capabilities = dataclasses.replace(Backend.capabilities, saving=True)

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        yield from ()

    def save_pretrained(self, path):
        path.mkdir()
        (path / "config.json").write_text('{"aigc_text_backend": "%s"}' % self.name)
"""
TRAIN = ("--data", "data.txt", "--sample-by", "line", "--max-steps", "1", "--batch-size", "2", "--output", "run")
COMMANDS = {
    "generate": ("--prompt", "a man", "--max-new-tokens", "2"),
    "score": ("data.txt",),
    "latents": ("data.txt", "--output", "latents.npy"),
    "train": TRAIN,
    "train from scratch": ("--from-scratch", "--tokenizer", "word", "-o", "hidden_size=8", *TRAIN),
    "evaluate": ("--data", "data.txt", "-n", "4", "--metrics", "likelihood"),
    "backends show": (),
    "backends check": (),
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "counted.py").write_text(COUNTED)
    (tmp_path / "data.txt").write_text("a man rides a horse\na dog sleeps\na cat sits on a bed\n" * 20)
    return tmp_path / "counted.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_executes_it_once(run, file, command):
    words = command.split(" from ")[0].split()
    picked = ("counted.py:Counted",) if words[0] == "backends" else ("--backend", "counted.py:Counted")
    done = run(*words, *picked, *COMMANDS[command])
    assert done.code == 0, done.err
    assert file.with_name("executed").read_text() == "once "


def test_by_whatever_path_it_is_picked(file, monkeypatch):
    picked = [get_backend("counted.py:Plain"), get_backend(f"{file}:Plain"), type(load("./counted.py:Plain"))]
    link = file.with_name("link.py")
    link.symlink_to(file)
    assert {*picked, get_backend(f"{file.parent}/../{file.parent.name}/counted.py:Plain")} == {picked[0]}
    assert file.with_name("executed").read_text() == "once "


def test_a_saved_model_that_names_its_file_is_loaded_by_the_class_that_was_picked(file):
    backend = load(f"{file}:Plain")
    backend.save_pretrained(file.with_name("saved"))
    named = json.loads((file.with_name("saved") / "config.json").read_text())["aigc_text_backend"]
    assert type(load(named, str(file.with_name("saved")))) is type(backend)
    assert file.with_name("executed").read_text() == "once "


def test_two_files_of_one_name_are_two_modules(tmp_path):
    found = {}
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "plugin.py").write_text(f"NAME = {name!r}\n{COUNTED}")
        found[name] = get_backend(f"{folder}/plugin.py:Plain")
    for name, cls in found.items():
        assert name == sys.modules[cls.__module__].NAME
        assert pickle.loads(pickle.dumps(cls)) is cls
        assert inspect.getsource(cls).startswith("class Plain(Backend):")
        note = sys.modules[cls.__module__].Note("x")
        assert pickle.loads(pickle.dumps(note)) == note and dataclasses.asdict(note) == {"text": "x"}


def test_one_that_failed_is_tried_again_when_it_was_corrected(file):
    file.write_text("import no_such_module_anywhere")
    with pytest.raises(Exception, match="no_such_module_anywhere"):
        get_backend(f"{file}:Plain")
    file.write_text(COUNTED)
    assert get_backend(f"{file}:Plain").__name__ == "Plain"
