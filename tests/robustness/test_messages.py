"""The commonest mistakes: what is said of each, word for word, and that what it says to do can be done and works.

`data/messages.txt` holds them to be read. A case is a heading, the mistake (`$`), what standard error says, and what
then cures it (`>`): a command that stands in the message as it is, or the mistake with the options that it names.
After a change of words: `AIGC_TEXT_SNAPSHOTS=write pytest tests/robustness/test_messages.py`, and read the difference.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

FILE = Path(__file__).parent / "messages.txt"
ROOT = Path(__file__).parents[2]


class Case(NamedTuple):
    heading: str
    mistake: str
    said: str
    cures: list[str]


def read():
    """The cases of the file, and what stands before them."""
    intro, *parts = re.split(r"^# (?=.)", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    cases = []
    for part in parts:
        heading, mistake, *rest = part.strip().split("\n")
        cures = [line.removeprefix("> ") for line in rest if line.startswith("> ")]
        said = "".join(f"{line}\n" for line in rest if not line.startswith("> "))
        cases.append(Case(heading, mistake.removeprefix("$ "), said, cures))
    return intro, cases


INTRO, CASES = read()
PLUGIN = """
from aigc_text import Backend, Capabilities, Completion
class Unprompted(Backend):
    takes = ("max_new_tokens", "num_return_sequences", "seed")
    capabilities = Capabilities(prompts=False)
    @classmethod
    def from_pretrained(cls, model=None):
        return cls()
    def generate(self, prompts, options=None, **overrides):
        self.resolve(options, overrides)
        yield from (Completion(prompt=p, text="a text", prompt_index=i) for i, p in enumerate(prompts))
"""
PROBLEM = {
    "task_id": "T/1",
    "prompt": 'def up(x):\n    """One more."""\n',
    "entry_point": "up",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}
LINES = "".join(f"the cat sat on the mat and saw dog {n}\n" for n in range(60))


@pytest.fixture(scope="module")
def template(tmp_path_factory, tiny_gpt2):
    """A folder with all that the cases name."""
    from aigc_text import load, train

    folder = tmp_path_factory.mktemp("messages")
    shutil.copytree(tiny_gpt2, folder / "tiny")
    files = {
        "text.txt": LINES,
        "empty.txt": "\n \n",
        "columns.jsonl": "".join(
            json.dumps({"id": n, "body": line}) + "\n" for n, line in enumerate(LINES.split("\n"), 1)
        ),
        "broken.jsonl": '{"text": "the cat sat on the mat"}\n{"text": "it ends too so\n',
        "broken.csv": "text,n\na dog,2\nthe cat, and the dog,1\n",
        "latin1.txt": "le café\n".encode("latin-1"),
        "chinese.txt": "从前有一座山\n".encode("gb18030"),
        "unprompted.py": PLUGIN,
        "problems.jsonl": json.dumps(PROBLEM) + "\n",
        "samples.jsonl": json.dumps({"task_id": "T/1", "completion": "    return x + 1\n"}) + "\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    model = load("gpt2", str(folder / "tiny"))
    small = {"block_size": 16, "batch_size": 2, "max_steps": 2, "save_every": 1}
    before = os.getcwd()
    os.chdir(folder)  # so that the run's options hold no path of this machine
    try:
        list(train(load("gpt2", "tiny"), "text.txt", "run", **small))
    finally:
        os.chdir(before)
    unsafe = folder / "pickled"
    shutil.copytree(tiny_gpt2, unsafe)
    import torch

    torch.save(model.model.state_dict(), unsafe / "pytorch_model.bin")
    (unsafe / "model.safetensors").unlink()
    return folder


@pytest.fixture
def place(template, tmp_path, monkeypatch):
    """The folder to be in, of the test's own."""
    place = tmp_path / "here"
    shutil.copytree(template, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    return place


def damaged(place, monkeypatch):
    path = place / "run" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")


def damaged_checkpoints(place, monkeypatch):
    for path in place.glob("run/checkpoints/step-*/manifest.json"):
        path.unlink()


def short_of_memory(place, monkeypatch):
    """A device with memory for 40 tokens a text."""
    from aigc_text.generation.engines.torch_engine import TorchEngine

    decode = TorchEngine.decode

    def limited(self, rows, config):
        if max(len(row.tokens) + row.limit for row in rows) > 40:
            raise MemoryError("can't allocate memory")
        return decode(self, rows, config)

    monkeypatch.setattr(TorchEngine, "decode", limited)


def short_of_memory_in_training(place, monkeypatch):
    """A device with memory for 8 tokens: one row of a batch, which cannot be divided further, is too long for it."""
    import torch

    embed = torch.nn.Embedding.forward

    def limited(self, tokens):
        if tokens.shape[-1] > 8 and torch.is_grad_enabled():  # a validation needs less
            raise MemoryError("can't allocate memory")
        return embed(self, tokens)

    monkeypatch.setattr(torch.nn.Embedding, "forward", limited)


def broken_plugin(place, monkeypatch):
    info = place / "site" / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aigc-text-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aigc_text.backends]\nbroken = aigc_text_broken:Broken\n")
    (place / "site" / "aigc_text_broken.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(place / "site")


PREPARED = {
    "damaged model of a run": damaged,
    "damaged checkpoints": damaged_checkpoints,
    "out of memory": short_of_memory,
    "out of memory in training": short_of_memory_in_training,
    "plugin that cannot be imported": broken_plugin,
}


def words_of(line, monkeypatch):
    """The words of a command, its assignments made."""
    words = shlex.split(line)
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    assert words[0] == "aigc-text"
    return words[1:]


def cured(line, case, run, monkeypatch):
    """Does what a line says; it must be in the message, or be the mistake again after what the message says."""
    if "aigc-text" not in line.split():
        assert line in case.said, f"the message does not say: {line}"
        subprocess.run(["bash", "-euc", line], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return
    exact = line in case.said
    for option in (w for w in shlex.split(line) if w.startswith("--") and w not in shlex.split(case.mistake)):
        assert exact or option in case.said, f"the message does not say: {option}"
    done = run(*words_of(line, monkeypatch))
    assert done.code == 0, done.err


@pytest.mark.parametrize("case", CASES, ids=[case.heading for case in CASES])
def test_a_mistake_is_told_and_its_cure_works(case, run, place, monkeypatch):
    PREPARED.get(case.heading, lambda *_: None)(place, monkeypatch)
    done = run(*words_of(case.mistake, monkeypatch))
    said = re.sub(r"\b[0-9a-f]{64}\b", "(a sum)", done.err.replace(f"{place}/", ""))
    if os.environ.get("AIGC_TEXT_SNAPSHOTS") == "write":
        _written[case.heading] = case = case._replace(said=said)
    assert said == case.said
    assert done.code == 2 and done.out == ""
    assert len(said.splitlines()) <= 3 and said.startswith("Error: ")
    assert "Traceback" not in said and case.cures
    for line in case.cures:
        cured(line, case, run, monkeypatch)


_written: dict[str, Case] = {}


@pytest.fixture(scope="module", autouse=True)
def snapshots():
    """Writes what was said into the file, if that was asked for."""
    yield
    if _written:
        text = INTRO
        for case in CASES:
            found = _written.get(case.heading, case)
            cures = "".join(f"> {line}\n" for line in found.cures)
            text += f"# {found.heading}\n$ {found.mistake}\n{found.said}{cures}\n"
        FILE.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
