"""SIGINT, SIGTERM and SIGHUP to the command itself, to one process and to two: nothing lost, nobody left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import tiny
from commands import listening

from aigc_text.code_eval.sandbox import cases
from aigc_text.code_eval.sandbox import runner as sandbox
from aigc_text.training import checkpoint_folders, interrupts
from aigc_text.utils import sealed_dir

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A training of many short updates."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "data.txt"
    data.write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    model = tiny.save("gpt2", folder / "model")
    words = ["train", "--model", model, "--data", data, "--max-steps", 4000, "--batch-size", 2, "--block-size", 16]
    return [*map(str, words), "--precision", "fp32", "--eval-every", "100000", "--save-every", "100000"]


ONE = (sys.executable, "-m", "aigc_text")
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "aigc_text")


def interrupted(start, words, out, number, after=20, again=False, limit=60):
    """(exit code, seconds, standard error) of a run that got a signal after so many updates; all of it must end."""
    command = [*start, *words, "--output", str(out)]
    how = {"stderr": subprocess.PIPE, "text": True, "env": ENV, "start_new_session": True}
    with subprocess.Popen(command, preexec_fn=listening, **how) as run:
        try:
            metrics = out / "metrics.jsonl"
            end = time.monotonic() + limit
            while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= after):
                assert run.poll() is None and time.monotonic() < end, run.communicate()[1]
                time.sleep(0.01)
            updates = metrics.read_bytes().count(b"\n")
            sent = time.monotonic()
            os.kill(run.pid, number)
            if again:
                os.kill(run.pid, number)
            said = run.communicate(timeout=limit)[1]
            seconds = time.monotonic() - sent
            time.sleep(0.2)
            assert not left_in(run.pid), "processes are left behind"
            return run.returncode, seconds, said, updates
        finally:
            if run.poll() is None or left_in(run.pid):
                os.killpg(run.pid, signal.SIGKILL)


def left_in(session):
    """The processes of a session that are still there."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_an_interrupted_run_saves_its_last_update(words, tmp_path, number):
    out = tmp_path / "out"
    code, seconds, said, updates = interrupted(ONE, words, out, number)
    assert code == 128 + number
    assert seconds < 10
    assert "the same command with --resume goes on" in said
    assert said.splitlines()[-1] == {1: "Terminated", 2: "Interrupted", 15: "Terminated"}[number]
    [step] = checkpoint_folders.steps(out / "checkpoints")
    sealed_dir.verify(step)
    saved = int(step.name.removeprefix("step-"))
    assert saved >= updates
    assert (out / "metrics.jsonl").read_bytes().count(b"\n") == saved
    assert not [p for p in out.rglob("*") if ".tmp" in p.name]


def test_a_second_signal_ends_at_once(words, tmp_path):
    out = tmp_path / "out"
    code, seconds, _, _ = interrupted(ONE, words, out, signal.SIGINT, again=True)
    assert code == 130 and seconds < 10


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_two_processes_save_together(words, tmp_path, number):
    out = tmp_path / "out"
    code, seconds, said, updates = interrupted(TWO, words, out, number)
    assert code != 0
    assert seconds < 40, said
    [step] = checkpoint_folders.steps(out / "checkpoints")
    sealed_dir.verify(step)
    assert int(step.name.removeprefix("step-")) >= updates
    assert len(re.findall("with --resume goes on", said)) == 1


SLOW = """
import hashlib, time
from aigc_text import Backend, Capabilities, Completion

class Asleep(Backend):
    capabilities = Capabilities(likelihood="exact")

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def work(self):
        open("busy", "w").close()
        time.sleep(60)

    def generate(self, prompts, options=None, **overrides):
        self.work()
        yield Completion(prompt="", text="", prompt_index=0)

    def score(self, texts):
        self.work()
        yield

class InC(Asleep):
    def work(self):
        open("busy", "w").close()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # where no handler of Python's is run
"""
PROBLEM = {"task_id": "a", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f):\n    f()\n"}
ASLEEP = PROBLEM | {"canonical_solution": "    import time; open('busy', 'w').close(); time.sleep(60)\n"}
WORKING = {
    "evaluate-code": "evaluate-code problems.jsonl --samples solutions --run-unconfined --seconds 60 --output out",
    "score": "score data.txt --backend slow.py:Asleep --output out",
    "score in C": "score data.txt --backend slow.py:InC --output out",
    "generate in C": "generate --backend slow.py:InC --prompt a --output out",
    "evaluate": "evaluate --backend slow.py:InC --data data.txt --metrics lengths --cache cache --output out",
}


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *(("evaluate-code", n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)),
        *((kind, signal.SIGTERM) for kind in WORKING if kind != "evaluate-code"),
    ],
)
def test_a_command_ends_in_time_and_leaves_nothing(tmp_path, kind, number):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "data.txt").write_text("a text\n")
    (tmp_path / "problems.jsonl").write_text(json.dumps(ASLEEP) + "\n")
    (tmp_path / "tmp").mkdir()
    how = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True, "env": {**ENV, "TMPDIR": str(tmp_path / "tmp")}}
    command = [*ONE, *WORKING[kind].split()]
    with subprocess.Popen(command, preexec_fn=listening, start_new_session=True, **how) as run:
        end = time.monotonic() + 60
        while not list(tmp_path.rglob("busy")):
            assert run.poll() is None and time.monotonic() < end, run.communicate()[1]
            time.sleep(0.01)
        sent = time.monotonic()
        os.kill(run.pid, number)
        said = run.communicate(timeout=60)[1]
        assert time.monotonic() - sent < 5  # within a second on a machine that has nothing else to do
    assert run.returncode == 128 + number
    assert said.splitlines()[-1] == ("Interrupted" if number == signal.SIGINT else "Terminated")
    assert not left_in(run.pid) and os.listdir(tmp_path / "tmp") == []
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(("out", ".out", ".lock")) and p.is_file()]


def test_programs_are_ended_where_their_verdicts_are_not_waited_for(tmp_path):
    flag = tmp_path / "busy"
    program = f"import time\ndef f():\n    open({str(flag)!r}, 'w').close()\n    time.sleep(60)\n"
    found = sandbox.run_all(
        [cases.Case("", ""), cases.Case(program, "f()", names=["f"])] * 2, confined=False, workers=2
    )
    assert next(found).passed
    while not flag.exists():
        time.sleep(0.01)
    start = time.monotonic()
    found.close()
    assert time.monotonic() - start < 5


def test_outside_of_held_a_signal_is_raised_where_it_comes():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        raised_where_it_comes()
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.postponed(), interrupts.held():
            signal.raise_signal(signal.SIGINT)
            assert interrupts.asked() == 0
    finally:
        signal.signal(signal.SIGINT, before)


def raised_where_it_comes():
    with pytest.raises(KeyboardInterrupt), interrupts.postponed():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(interrupts.Terminated), interrupts.postponed():
        signal.raise_signal(signal.SIGTERM)
    with interrupts.postponed(), interrupts.held():
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.asked() == signal.SIGTERM
        with pytest.raises(interrupts.Terminated), interrupts.at_once():
            pass
    assert interrupts.asked() == 0
    with pytest.raises(KeyboardInterrupt):  # and without all that as always
        signal.raise_signal(signal.SIGINT)
