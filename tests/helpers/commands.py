"""What the tests of commands share: a command run in this process, refusals in one form, backends without torch."""

import io
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

from aigc_text import cli

MARKOV = Path(__file__).parents[2] / "plugins" / "aigc-text-markov" / "aigc_text_markov.py"


BACKENDS = '''
import os, signal
from aigc_text import Backend, Completion

class Plain(Backend):
    """Says its prompt backwards."""

    takes = ("max_new_tokens", "num_return_sequences", "seed")

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        options = self.resolve(options, overrides)
        for i, p in enumerate(prompts):
            for j in range(options.num_return_sequences or 1):
                yield Completion(prompt=p, text=self.text(p), prompt_index=i, index=j, seed=options.seed, tokens=1)

    def text(self, prompt):
        return prompt[::-1]

class Peeking(Plain):
    def text(self, prompt):
        return " ".join(sorted(os.listdir(prompt)))

class Long(Plain):
    def text(self, prompt):
        return "a line\\n" * 100_000

class Stopping(Plain):
    def text(self, prompt):
        return self.stop() if prompt == "stop" else prompt

class Interrupted(Stopping):
    def stop(self):
        raise KeyboardInterrupt

class Once(Plain):
    """Interrupted the first time at a prompt that names a file."""

    def text(self, prompt):
        if prompt.endswith(".flag") and not os.path.exists(prompt):
            open(prompt, "w").close()
            raise KeyboardInterrupt
        return super().text(prompt)

class Terminated(Stopping):
    def stop(self):
        signal.raise_signal(signal.SIGTERM)

class Piping(Stopping):
    """Writes to a process that has ended."""

    def stop(self):
        import subprocess
        child = subprocess.Popen(["true"], stdin=subprocess.PIPE)
        child.wait()
        child.stdin.write(b"x" * 1_000_000)

class Full(Stopping):
    def stop(self):
        raise OSError(28, "No space left on device")

class Faulty(Stopping):
    def stop(self):
        raise ZeroDivisionError("two\\nlines")
'''


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal(io.StringIO):
    """A screen that keeps what is written to it."""

    def isatty(self):
        return True


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs a command as the console script does, in this process."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that what the command sets is taken back
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    handlers = {of: signal.getsignal(of) for of in (signal.SIGTERM, signal.SIGINT)}

    def ran(*words, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["aigc-text", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Result(end.value.code, *capfd.readouterr())

    yield ran
    for of, handler in handlers.items():
        signal.signal(of, handler)


@pytest.fixture
def refused(run):
    """Runs a command that must be refused in the form of all refusals, naming all of `words`."""

    def ran(*command, says, **how):
        result = run(*command, **how)
        assert result.code == 2, result.err
        assert result.out == ""
        assert result.err.startswith("Error: ")
        assert len(result.err.splitlines()) <= 3
        assert "Traceback" not in result.err
        for word in says:
            assert word in result.err, result.err
        return result

    return ran


@pytest.fixture
def generate(run, tiny_gpt2):
    """`aigc-text generate` with the tiny model, a few tokens and a fixed seed."""

    def ran(*words, seed="1", **how):
        fixed = ["--model", tiny_gpt2, "--max-new-tokens", "12", "--seed", seed]
        result = run("generate", *fixed, *words, **how)
        assert result.code == 0, result.err
        return result

    return ran


@pytest.fixture
def plain(tmp_path_factory):
    """`plain("Class")` is the backend of that name in a file that needs no torch."""
    path = tmp_path_factory.mktemp("backends") / "plain.py"
    path.write_text(BACKENDS)
    return lambda name: f"{path}:{name}"


def file(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def listening():
    """Tests that run in the background ignore SIGINT, with nohup SIGHUP too, and what they start would as well."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
