"""Mistakes of the command line, and failures that are not ours: each has the message that its maker needs."""

import json
import os
import subprocess
import sys

import pytest
from commands import file

RULES = """
from aigc_text import Backend, Completion
open("RAN", "w").close()
class Helper: pass
class Rules(Backend): pass
"""

FAULTY = """
import os
from aigc_text import Backend, Completion

class Ugly(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class Base(Backend):
    takes = ("max_new_tokens", "num_return_sequences", "seed")

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        self.resolve(options, overrides)
        for i, p in enumerate(prompts):
            yield Completion(prompt=p, prompt_index=i, index=0, text=self.say(i), tokens=1, seed=1)

class Exhausted(Base):
    def say(self, i):
        return next(iter([]))

class Unspeakable(Base):
    def say(self, i):
        raise Ugly

class Own(Base):
    def say(self, i):
        raise type("Own", (BaseException,), {})("its own")

class Full(Base):
    def say(self, i):
        raise OSError(28, "No space left on device", "/some/file")

class Moving(Base):
    def say(self, i):
        os.chdir("/")
        return " moved"
"""


LINE = {
    words: next(n for n, line in enumerate(FAULTY.split("\n"), 1) if words in line)
    for words in ("next", "raise Ugly", "its own")
}


@pytest.fixture
def faulty(tmp_path):
    path = file(tmp_path, "faulty.py", FAULTY)
    return lambda name: f"{path}:{name}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate", "Once upon a time"], ["--prompt 'Once upon a time'"]),
        (["generate", "Once", "upon"], ["in quotes: --prompt 'Once upon'"]),
        (["generate", "p.txt"], ["--prompts p.txt"]),
        (["train", "--output", "o", "--data", "a.txt", "b.txt", "c d.txt"], ["--data b.txt --data 'c d.txt'"]),
        (["score", "p.txt", "gpt2"], ["--model gpt2"]),
        (["train", "--free-bits", "8", "--data", "p.txt"], ["-o free_bits=8"]),
        (["train", "--free-bits=8", "--data", "p.txt"], ["-o free_bits=8"]),
        (["train", "--no-tie-word-embeddings"], ["-o tie_word_embeddings=false"]),
        (["generate", "--z-temperature", "0.5"], ["-o z_temperature=0.5"]),
        (["generate", "--max-steps", "5"], ["--max-steps is an option of: aigc-text train"]),
        (["train", "--lr", "1"], ["Write --learning-rate"]),
        (["generate", "--promt", "x"], ["'--prompt'", "See: aigc-text generate --help"]),
        (["generate", "--prompt", "x", "--temperature", "0"], ["temperature cannot be 0", "--no-do-sample"]),
        (["generate", "--prompt", "x", "--top-k", "-1"], ["--top-k 0"]),
        (["generate", "--prompt", "x", "--backend", "rules.py"], ["Helper, Rules", "--backend rules.py:Rules"]),
        (["generate", "--prompt", "x", "--backend", "rules:Rules"], ["--backend rules.py:Rules"]),
        (["generate", "--prompt", "x", "--backend", "none.py"], ["there is no file none.py"]),
        (["generate", "--prompt", "x", "--backend", "markov"], ["plugin aigc-text-markov", "pip install"]),
        (["generate", "--prompt", "x", "--device", "cuda"], ["device 'cuda' cannot be used", "Allowed: cpu"]),
        (["generate", "--prompt", "x", "--model", "runs/mime"], ["no folder runs/mime", "Did you mean 'mine'?"]),
        (["evaluate", "--compare", "runs/nosuch", "--data", "p.txt"], ["'runs/nosuch' is neither a backend nor an"]),
        (["evaluate", "--compare", "a=runs/nosuch", "--data", "p.txt"], ["there is no folder runs/nosuch"]),
        (["evaluate", "p.txt", "--data", "p.txt"], ["p.txt is a file", "--samples p.txt"]),
        (["evaluate", "--samples", "none.txt", "--data", "p.txt"], ["none.txt does not exist"]),
    ],
)
def test_a_mistake_has_the_message_that_helps(refused, tmp_path, monkeypatch, words, says):
    import torch

    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has such a device")
    monkeypatch.setenv("AIGC_TEXT_PLUGINS", "")
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "p.txt", "a\nb\n")
    file(tmp_path, "rules.py", RULES)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    told = refused(*words, says=says)
    assert "cuda" not in words or "Allowed: cpu\n" in told.err
    assert not (tmp_path / "RAN").exists()


def test_a_folder_without_weights_has_no_hint_for_a_conversion(refused, tmp_path, model):
    (tmp_path / "model" / "model.safetensors").unlink()
    told = refused("generate", "--prompt", "x", "--model", model, says=["no file named model.safetensors"])
    assert "python -c" not in told.err and "model.safetensors beside config.json" in told.err


@pytest.mark.parametrize("first", [["--resume", "--output", "run"], ["--output", "run", "--resume"]])
def test_a_run_is_resumed_from_its_own_options(run, tmp_path, monkeypatch, first):
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "d.txt", "the cat sat on the mat\n" * 60)
    small = ["-o", "hidden_size=8", "-o", "embedding_size=8", "--block-size", "8", "--batch-size", "2"]
    small += ["--max-steps", "2", "--save-every", "1"]
    begun = run("train", "--from-scratch", "--backend", "rnn", "--data", "d.txt", "--output", "run", *small)
    assert begun.code == 0, begun.err
    (tmp_path / "run" / "config.json").unlink()
    resumed = run("train", *first)
    assert resumed.code == 0, resumed.err
    assert (tmp_path / "run" / "config.json").exists() and "Generate with" in resumed.err
    other = run("train", *first, "--max-steps", "9")
    assert other.code == 2 and "max_steps=2, not 9" in other.err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Exhausted", ["failed: StopIteration", f"faulty.py:{LINE['next']})"]),
        ("Unspeakable", ["failed: Ugly", f"faulty.py:{LINE['raise Ugly']})"]),
        ("Own", ["failed: Own: its own", f"faulty.py:{LINE['its own']})"]),
        ("Full", ["No space left on device"]),
    ],
)
@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_what_a_plugin_raises_is_its_own(run, faulty, tmp_path, name, says, form):
    done = run("generate", "--backend", faulty(name), "--prompt", "x", "--format", form, "--output", tmp_path / "o.txt")
    assert done.code == 2 and "internal error" not in done.err
    assert all(word in done.err for word in says), done.err


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_a_plugin_that_changes_the_folder_does_not_move_the_output(run, faulty, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "p.txt", "a\nb\n")
    words = ["--prompts", "p.txt", "--format", form, "--output", "out.txt"]
    done = run("generate", "--backend", faulty("Moving"), *words)
    assert done.code == 0, done.err
    assert (tmp_path / "out.txt").read_text().count(" moved") == 2


def test_errors_of_the_system_are_not_ours(run, monkeypatch, plain):
    from aigc_text import cli

    raised = [
        (OSError(24, "Too many open files"), "ulimit -n"),
        (PermissionError(13, "Permission denied", "/some/where"), "/some/where: Permission denied"),
        (MemoryError(), "out of memory"),
        (type("PanicException", (BaseException,), {})("index out of range"), "the tokenizer fails"),
    ]
    for error, says in raised:

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(cli.cli, "main", fail)
        done = run("generate")
        assert done.code == 2 and says in done.err and "internal error" not in done.err
    monkeypatch.setattr(cli.cli, "main", lambda **_: 1 / 0)
    done = run("generate")
    assert done.code == 1 and done.err.startswith("Error: internal error: ZeroDivisionError")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_standard_error_on_a_full_device_stops_nothing(plain):
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "aigc_text", "generate", "--backend", plain("Plain"), "--prompt", "ab"]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.returncode == 0 and done.stdout == b"abba\n"


@pytest.mark.parametrize("step", [float("nan"), float("inf"), "x", None, [1]])
@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_a_step_that_is_no_number_names_the_line(refused, tmp_path, name, step):
    for each in ("metrics.jsonl", "samples.jsonl"):
        line = {"step": step if each == name else 1, "loss": 1, "text": "x"}
        file(tmp_path, each, json.dumps(line) + "\n")
    refused("report", tmp_path, "--output", tmp_path / "r.html", says=[f"{name}:1"])
    assert not (tmp_path / "r.html").exists()
