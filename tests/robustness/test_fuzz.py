"""Mutants of every kind of file that a user may be handed: exit code 0 or 2, one error, nothing half-written.

AIGC_TEXT_CASES says how many mutants of a kind; a failing one is named by its seed, and
`AIGC_TEXT_SEED=… pytest tests/robustness/test_fuzz.py -k KIND` makes it again.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import transformers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import mutant

from aigc_text import load
from aigc_text.utils import sealed_dir

CASES = int(os.environ.get("AIGC_TEXT_CASES", "0"))
SEED = os.environ.get("AIGC_TEXT_SEED")
SHOWN = 40  # recipes in one message
SECONDS, BYTES = 10, 2 << 30  # a mutant's limits: against hanging and bombs, no measurements
START = 10  # seconds of the processor's that Python, torch and transformers may take to start
WAIT = 60  # on the clock
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOM = 16 << 30  # of address space: a mutant that asks for more must not take the machine with it

PINNED = ("max_steps=1", "batch_size=2", "block_size=16", "gradient_accumulation_steps=1", "eval_blocks=1")
RECORDS = "".join(json.dumps({"text": s, "prompt": s[:9], "n": 1.5}) + "\n" for s in tiny.SENTENCES)
TABLE = 'text,n\n"the cat, the ""dog""",1\nonce upon a time,2\n"two\nlines",3\n'
YAML = """
data: data.txt
learning_rate: 1e-3
validation_split: 0.2
sample_prompts: [the, once]
schedule: cosine
packing: null
config:
  attn_pdrop: 0.1
"""

TUNED = {
    "do_sample": True, "temperature": 0.9, "top_k": 20, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9,
    "repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "max_new_tokens": 5, "min_new_tokens": 1, "max_length": 20,
    "num_return_sequences": 1, "suppress_tokens": [3], "eos_token_id": [0, 1], "bad_words_ids": [[4]],
}  # fmt: skip


class TooLong(BaseException):
    pass


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A tiny model, whole and in shards, with a manifest; data; and a file of options."""
    base = tmp_path_factory.mktemp("originals")
    tiny.save("gpt2", base / "model")
    whole = shutil.copytree(base / "model", base / "sealed")
    sealed_dir.seal(whole)
    tuned = shutil.copytree(base / "model", base / "tuned") / "generation_config.json"
    tuned.write_text(json.dumps({**json.loads(tuned.read_text()), **TUNED}))
    tokens = tiny.tokenizer()
    tiny.model("gpt2", tokens).save_pretrained(base / "shards", max_shard_size="30KB")
    tokens.save_pretrained(base / "shards")
    adapted = load("gpt2", str(base / "model"))
    adapted.attach_adapter(adapted.Training(lora_rank=2))
    adapted.save_pretrained(base / "adapter")
    (base / "adapter" / "manifest.json").unlink()  # whose sums would find any change
    (base / "adapter" / "config.json").unlink()  # as peft leaves it
    (base / "data.txt").write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    (base / "data.jsonl").write_text(RECORDS)
    (base / "data.csv").write_text(TABLE)
    pq.write_table(pa.table({"text": tiny.SENTENCES, "n": [*range(len(tiny.SENTENCES))]}), base / "data.parquet")
    (base / "run.yaml").write_text(YAML)
    return base


GENERATE = ("--prompt", "the cat", "--max-new-tokens", "3", "--seed", "1", "--output", "out.txt")


def _train(file: str) -> tuple[str, ...]:
    pinned = [word for pair in PINNED for word in (f"--{pair.split('=')[0].replace('_', '-')}", pair.split("=")[1])]
    return (
        "train",
        "--config",
        file,
        "--model",
        "model",
        "--output",
        "run",
        "--samples",
        "1",
        "--device",
        "cpu",
        *pinned,
    )


#: By kind: files of which one is changed, the form that they have, and the command that reads them.
KINDS = {
    "config": (["model/config.json"], "json", ("generate", "--model", "model", *GENERATE)),
    "generation": (["tuned/generation_config.json"], "json", ("generate", "--model", "tuned", *GENERATE)),
    "tokenizer": (
        ["model/tokenizer.json", "model/tokenizer.json", "model/tokenizer_config.json"],
        "json",
        ("generate", "--model", "model", *GENERATE),
    ),
    "safetensors": (["model/model.safetensors"], "safetensors", ("generate", "--model", "model", *GENERATE)),
    "adapter": (
        ["adapter/adapter_config.json"],
        "json",
        ("generate", "--backend", "gpt2", "--model", "adapter", *GENERATE),
    ),
    "shards": (["shards/model.safetensors.index.json"], "json", ("generate", "--model", "shards", *GENERATE)),
    "manifest": (["sealed/manifest.json"], "json", ("generate", "--model", "sealed", *GENERATE)),
    "jsonl": (["data.jsonl"], "jsonl", ("score", "data.jsonl", "--model", "model", "--output", "out.txt")),
    "prompts": (
        ["data.jsonl"],
        "jsonl",
        ("generate", "--model", "model", "--prompts", "data.jsonl", *GENERATE[2:], "--format", "jsonl"),
    ),
    "csv": (["data.csv"], "csv", ("score", "data.csv", "--model", "model", "--output", "out.txt")),
    "parquet": (["data.parquet"], "parquet", ("score", "data.parquet", "--model", "model", "--output", "out.txt")),
    "yaml": (["run.yaml"], "yaml", _train("run.yaml")),
}
STEP = re.compile(r"^step \d", re.MULTILINE)  # of a training's report


class Bench:
    """A folder with all originals, of which one is exchanged for a mutant, for one command."""

    def __init__(self, kind: str, originals: Path, folder: Path) -> None:
        self.files, self.form, self.words = KINDS[kind]
        self.kind, self.folder = kind, folder
        shutil.copytree(originals, folder, dirs_exist_ok=True)
        self.originals = originals
        self.before = self.names()

    def names(self) -> set[str]:
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob("*")}

    def put(self, seed: int) -> None:
        name = self.files[seed % len(self.files)]
        raw = mutant(self.form, (self.originals / name).read_bytes(), seed)
        (self.folder / name).write_bytes(raw)

    def judge(self, seed: int, run: Callable[[], tuple[int | None, str]]) -> None:
        """Runs the command over a mutant and looks at the outcome; then everything is as it was before.

        One that was too slow gets another try: that the machine was slow for a while is no fault of the program.
        """
        try:
            self.put(seed)
            code, err = run()
            if code is None:
                self.clean()
                self.put(seed)
                code, err = run()
            self.check(seed, code, err)
        finally:
            self.clean()

    def clean(self) -> None:
        for name in self.files:
            shutil.copy(self.originals / name, self.folder / name)
        for name in {n.split("/")[0] for n in self.names() - self.before}:
            shutil.rmtree(self.folder / name) if (self.folder / name).is_dir() else (self.folder / name).unlink()

    def check(self, seed: int, code: int | None, err: str) -> None:
        recipe = f"{self.kind} AIGC_TEXT_SEED={seed}: exit code {code}\n{err[-3000:]}"
        assert code in (0, 2), recipe
        assert "Traceback" not in err, recipe
        left = self.names() - self.before
        assert not [n for n in left if n.endswith((".partial", ".tmp"))], f"{recipe}\nleft: {sorted(left)}"
        if code == 2:
            parts = re.split(r"^Error: ", err, flags=re.MULTILINE)
            assert len(parts) == 2, recipe
            before, told = parts
            begun = self.kind == "yaml" and STEP.search(before) is not None  # a training that fails has made a folder
            assert (not before or begun) and len(told.splitlines()) <= 3, recipe
            assert not left or begun, f"{recipe}\nleft behind: {sorted(left)}"


@pytest.fixture
def limits():
    """No more than `ROOM` of address space; `SECONDS` and `WAIT` of a mutant are kept by timers."""

    def late(*_):
        raise TooLong

    old = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, old[1]))
    timers = (signal.SIGPROF, signal.SIGALRM)
    handlers = [signal.signal(timer, late) for timer in timers]
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # as the command line has it, before transformers is imported
    yield
    transformers.logging.set_verbosity(verbosity)
    for timer, handler in zip(timers, handlers, strict=True):
        signal.signal(timer, handler)
    resource.setrlimit(resource.RLIMIT_AS, old)


def peak() -> int:
    """The most memory since it was asked last, in bytes."""
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.split()[0]) << 10


def seeds(cases: int):
    """A decorator that calls a function with so many seeds, or with the one of the environment."""
    if SEED is not None:
        return lambda test: lambda: test(seed=int(SEED))
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    how = settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=checks, phases=[Phase.generate]
    )
    return lambda test: how(given(seed=st.integers(0, 2**48))(test))


def _note(error: AssertionError, failed: list[str]) -> None:
    """Shows a failure when it happens (`pytest -s`): a run that is broken off has told what it found."""
    failed.append(str(error).partition("\nassert ")[0])
    print(failed[-1], file=sys.__stdout__, flush=True)  # past the fixture that reads what a command prints


def _in_process(kind, originals, tmp_path, monkeypatch, run):
    bench = Bench(kind, originals, tmp_path / "bench")
    monkeypatch.chdir(bench.folder)
    failed: list[str] = []

    def attempt() -> tuple[int | None, str]:
        peak()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor's: a busy machine is no fault of the program
        signal.alarm(WAIT)
        try:
            code, _, err = run(*bench.words)
        except TooLong:
            return None, f"longer than {SECONDS} s of the processor's or {WAIT} s"
        except BaseException as error:
            return 1, f"escaped: {type(error).__name__}: {error}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        return (code, err) if (used := peak()) <= BYTES else (1, f"{err}\nmore than {BYTES} bytes: {used}")

    def one(seed: int) -> None:
        try:
            bench.judge(seed, attempt)
        except AssertionError as error:  # gone on with, so that one run shows all there is to mend
            _note(error, failed)

    def each(cases: int) -> None:
        seeds(cases)(one)()
        print(f"{cases} mutants of kind {kind}, {len(failed)} failed")
        assert not failed, "\n".join([f"{len(failed)} failed", *failed[:SHOWN]])

    return each


@pytest.mark.parametrize("kind", KINDS)
def test_an_unchanged_file_is_taken(kind, originals, tmp_path, monkeypatch, run):
    bench = Bench(kind, originals, tmp_path / "bench")
    monkeypatch.chdir(bench.folder)
    result = run(*bench.words)
    assert result.code == 0, result.err


@pytest.mark.parametrize("kind", KINDS)
def test_mutants(kind, originals, tmp_path, monkeypatch, run, limits):
    _in_process(kind, originals, tmp_path, monkeypatch, run)(20)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(kind, originals, tmp_path, monkeypatch, run, limits):
    _in_process(kind, originals, tmp_path, monkeypatch, run)(CASES or 10_000)


def _ended(child: subprocess.Popen) -> tuple[int, int]:
    """The exit code of a process, which is killed after `WAIT`, and the most memory that it held, in bytes."""
    alarm = threading.Timer(WAIT, child.kill)
    alarm.start()
    _, status, used = os.wait4(child.pid, 0)
    alarm.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, used.ru_maxrss << 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutants_in_processes_of_their_own(kind, originals, tmp_path):
    """The same as whole processes, whose standard error nobody else writes to."""
    bench, failed = Bench(kind, originals, tmp_path / "bench"), []
    count = int(os.environ.get("AIGC_TEXT_PROCESSES", "200"))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
        resource.setrlimit(
            resource.RLIMIT_CPU, (START + SECONDS, START + SECONDS + 1)
        )  # a signal ends it, which is no exit code

    def attempt() -> tuple[int | None, str]:
        words = [sys.executable, "-m", "aigc_text", *bench.words]
        with (tmp_path / "err").open("w+", errors="replace") as told:
            child = subprocess.Popen(
                words, cwd=bench.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=told,
                preexec_fn=limit, env=ENV,
            )  # fmt: skip
            code, used = _ended(child)
            told.seek(0)
            err = told.read()
        if used > BYTES:
            return 1, f"{err}\nmore than {BYTES} bytes: {used}"
        late = code in (-signal.SIGXCPU, -signal.SIGKILL)
        return (None, f"{err}\nlonger than {START + SECONDS} s of the processor's or {WAIT} s") if late else (code, err)

    def one(seed: int) -> None:
        try:
            bench.judge(seed, attempt)
        except AssertionError as error:
            _note(error, failed)

    seeds(count)(one)()
    print(f"{count} processes of kind {kind}, {len(failed)} failed")
    assert not failed, "\n".join([f"{len(failed)} failed", *failed[:SHOWN]])
