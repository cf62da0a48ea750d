"""Outputs are claimed before anything is touched: of commands that write one thing at once, one goes on."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commands import file
from team import ENV

from aigc_text.errors import OptionError, TrainingError
from aigc_text.utils import output_file
from aigc_text.utils.lock import FolderLock, Lock
from aigc_text.utils.output_file import OutputFile

BACKEND = '''
import time
from aigc_text import Backend, Capabilities, Completion, Score

class Numbers(list):
    """A table of numbers as a tensor gives them."""
    shape = (2, 1)
    def numpy(self):
        import numpy
        return numpy.array(self)

class Posteriors:
    mean = Numbers([[1.0], [2.0]])

class Slow(Backend):
    """Says the number of its process, slowly; needs no torch."""

    takes = ("max_new_tokens", "num_return_sequences", "stop_strings", "seed", "do_sample", "temperature", "top_k",
             "top_p", "min_p", "repetition_penalty", "no_repeat_ngram_size")
    capabilities = Capabilities(likelihood="exact", latents=True)

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        import os
        options = self.resolve(options, overrides)
        for i, p in enumerate(prompts):
            time.sleep(0.02)
            yield Completion(prompt=p, text=f" {os.getpid()}", prompt_index=i, seed=options.seed, tokens=1)

    def score(self, texts):
        import os
        for text in texts:
            time.sleep(0.02)
            yield Score(text=text, nll=float(os.getpid()), tokens=1, kind="exact", per_token=())

    def posteriors(self, texts):
        time.sleep(0.2)
        return Posteriors()
'''

#: Runs a command as its console script does and tells which model libraries it has imported.
COMMAND = """
import atexit, os, sys
from aigc_text.cli import script
heavy = ("torch", "transformers", "tokenizers", "datasets", "accelerate")
atexit.register(lambda: os.write(2, f"\\nimported: {[n for n in heavy if n in sys.modules]}\\n".encode()))
script()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with something for each command to work on."""
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "slow.py", BACKEND)
    file(tmp_path, "p.txt", "".join(f"prompt {n}\n" for n in range(20)))
    file(tmp_path, "two.txt", "one text\nanother text\n")
    file(tmp_path, "texts.jsonl", "".join(f'{{"text": "a text of number {n}"}}\n' for n in range(9)))
    problem = {"task_id": "a", "prompt": "def f(x):\n", "entry_point": "f"}
    problem |= {"test": "def check(f):\n    assert f(1) == 2\n", "canonical_solution": "    return x + 1\n"}
    file(tmp_path, "problems.jsonl", json.dumps(problem) + "\n")
    return tmp_path


EACH = {
    "text": ("generate --backend slow.py:Slow --prompts p.txt --no-echo --output out", "out"),
    "records": ("generate --backend slow.py:Slow --prompts p.txt --format jsonl --output out", "out"),
    "score": ("score p.txt --backend slow.py:Slow --sample-by line --output out", "out"),
    "latents": ("latents two.txt --backend slow.py:Slow --output out.npy", "out.npy"),
    "copies": ("copies texts.jsonl --source p.txt --output out", "out"),
    "report": ("report texts.jsonl --output out.html", "out.html"),
    "evaluate-code": ("evaluate-code problems.jsonl --samples solutions --run-unconfined --output out", "out"),
    "evaluate": (
        "evaluate --backend slow.py:Slow --data p.txt -n 12 --metrics lengths --cache cache --output out",
        "out/report.json",
    ),
}


def at_once(command, number):
    """(code, standard error) of so many processes of one command that are started together."""
    words = [sys.executable, "-c", COMMAND, *command.split()]
    how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": ENV}
    running = [subprocess.Popen(words, **how) for _ in range(number)]
    said = [p.communicate(timeout=300)[1] for p in running]
    return [(p.returncode, err) for p, err in zip(running, said, strict=True)], [p.pid for p in running]


def check_one_wins(kind, number, overwrite):
    command, output = EACH[kind]
    ends, pids = at_once(command + (" --overwrite" if overwrite else ""), number)
    winners = [pid for (code, _), pid in zip(ends, pids, strict=True) if code == 0]
    assert sorted(code for code, _ in ends) == [0] + [2] * (number - 1), [err for _, err in ends]
    for code, err in ends:
        if code == 2:
            assert "Error: " in err and "imported: []" in err, err
    left = [n for n in os.listdir() if n.startswith(".") or "partial" in n or n.endswith(".tmp")]
    assert left == []
    made = Path(output).read_bytes()
    assert made and b"what was here" not in made
    if kind in ("text", "records", "score"):
        assert made.count(str(winners[0]).encode()) == 20  # every line is the winner's
    if kind == "evaluate":
        assert json.loads(made)["protocol"]["complete"]


@pytest.mark.parametrize("kind", EACH)
def test_of_commands_started_at_once_one_wins_and_the_others_touch_nothing(place, kind):
    check_one_wins(kind, 6 if kind == "text" else 3, overwrite=False)


@pytest.mark.parametrize("kind", ["text", "records", "copies"])
def test_leave_to_overwrite_is_leave_to_replace_what_was_there_before(place, kind):
    file(place, EACH[kind][1], "what was here")
    check_one_wins(kind, 3, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", EACH)
def test_of_fifty_commands_started_at_once_one_wins(place, kind, overwrite):
    check_one_wins(kind, 50, overwrite)


def test_different_commands_exclude_each_other_under_any_name_of_the_file(refused, place):
    (place / "link").symlink_to(place / "out")
    (place / "sub").mkdir()
    with OutputFile("out"):
        for name in ("out", "./sub/../out", place / "out", "link"):
            words = ["--backend", "slow.py:Slow", "--output", name]
            for command in (["generate", "--prompt", "a"], ["generate", "--prompt", "a", "--format", "jsonl"]):
                refused(*command, *words, says=["another process is writing to"])
            refused("score", "p.txt", *words, says=["another process is writing to"])
            refused("copies", "texts.jsonl", "--source", "p.txt", "--output", name, says=["another process"])
        assert sorted(p.name for p in place.iterdir() if "out" in p.name) == [".out.lock"]
    with OutputFile("key.key.json"), OutputFile("pic.svg"):
        refused("report", "texts.jsonl", "--output", "key.html", says=["another process", "key.key.json"])
        refused("score", "p.txt", "--backend", "slow.py:Slow", "--picture", "pic.svg", says=["--picture", "pic.svg"])
        refused("latents", "p.txt", "--output", "a.npy", "--output", "pic.svg", says=["another process", "pic.svg"])
    with FolderLock(Path("folder")):
        words = ["--model", "not/needed", "--data", "p.txt", "--output", "folder"]
        refused("evaluate", "gpt2", *words[2:], says=["another run is writing to", "folder"])
        refused("train", *words, says=["another run is writing to folder"])
        refused("train", *words, "--seeds", "2", says=["another run is writing to folder"])
    assert not list(place.glob(".*")) and not (place / "folder").exists()


def test_a_link_stays_a_link_to_the_file_that_is_written(run, place):
    file(place, "real", "old")
    (place / "link").symlink_to("real")
    for more in ([], ["--format", "jsonl"]):
        words = ["generate", "--backend", "slow.py:Slow", "--prompt", "a", "--overwrite", "--output", "link", *more]
        assert run(*words).code == 0
        assert (place / "link").is_symlink() and str(os.getpid()) in (place / "real").read_text()


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/null", "pipe"])
@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_standard_streams_devices_and_pipes_are_written_to_directly(place, name, form):
    words = ["generate", "--backend", "slow.py:Slow", "--prompt", "a", "--format", form, "--output", name]
    if name == "pipe":
        os.mkfifo("pipe")
        got = []
        reader = threading.Thread(target=lambda: got.append(Path("pipe").read_text()))
        reader.start()
    with open("shell", "w") as shell:
        done = subprocess.run([sys.executable, "-m", "aigc_text", *words], stdout=shell, stderr=-1, env=ENV, timeout=60)
    assert done.returncode == 0, done.stderr
    text = Path("shell").read_text()
    if name == "pipe":
        reader.join()
        text += got[0]
    assert text.count("\n") == (0 if name == "/dev/null" else 1)
    assert not list(place.glob(".*")) and not list(place.glob("*.partial")) and not Path("-").exists()


def test_a_page_to_standard_output_has_no_key_and_says_so(run, refused, place):
    done = run("report", "texts.jsonl", "--output", "-")
    assert done.code == 0 and done.out.startswith("<!doctype html>") and "its key needs a file" in done.err
    refused("evaluate", "--model", "x", "--data", "p.txt", "--output", "-", says=["--output - is not a folder"])
    words = ["generate", "--prompt", "a", "--format", "jsonl", "--output", "/dev/null"]
    refused(*words, "--resume", says=["--resume with --output /dev/null"])


def test_a_pipe_that_breaks_is_an_error_of_the_file_and_not_a_reader_that_left(place):
    words = ["generate", "--backend", "slow.py:Slow", "--prompts", "p.txt", "--output", "pipe"]
    os.mkfifo("pipe")
    running = subprocess.Popen([sys.executable, "-m", "aigc_text", *words], stderr=-1, text=True, env=ENV)
    with open("pipe", "rb") as stream:
        stream.read(1)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 2 and "Error: pipe cannot be written: Broken pipe" in said


def test_an_error_of_the_work_is_not_taken_for_one_of_the_file(place):
    with pytest.raises(OSError, match="of the work"), OutputFile("out") as out, out.text() as stream:
        stream.write("text")
        raise OSError(errno.ENOSPC, "of the work")
    assert Path("out.partial").read_text() == "text"
    with pytest.raises(OptionError, match=r"out\.partial exists already"):
        OutputFile("out")
    with OutputFile("out", overwrite=True) as out, out.text() as stream:
        stream.write("other")
    assert sorted(p.name for p in place.iterdir() if "out" in p.name) == ["out"]


def test_what_is_newer_than_the_command_is_not_replaced(place, monkeypatch):
    file(place, "out", "theirs")
    monkeypatch.setattr(output_file, "command_started", time.time() - 5)
    with pytest.raises(OptionError, match="out was written by another process after this command was started"):
        OutputFile("out", overwrite=True)
    monkeypatch.setattr(output_file, "command_started", time.time() + 1)
    OutputFile("out", overwrite=True).close()
    assert (place / "out").read_text() == "theirs"


def test_the_start_of_a_process_is_known():
    code = (
        "import time; t = time.time(); from aigc_text.utils.output_file import process_started; "
        "print(t, process_started())"
    )
    before = time.time()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    running, started = map(float, said)
    assert before - 0.05 < started < running + 0.05


# Locks


def test_a_lock_is_held_once_and_leaves_nothing(tmp_path):
    lock = Lock(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "lock")
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lock").touch()  # as a process leaves it that was killed
    Lock(tmp_path / "lock").release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_its_holder_removes_meanwhile_is_taken_again(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def late(stream, how):
        if not calls:
            (tmp_path / "lock").unlink()
        calls.append(how)
        flock(stream, how)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = Lock(tmp_path / "lock")
    assert len(calls) == 2
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "lock")
    lock.release()


def test_a_folder_is_locked_once(tmp_path):
    with FolderLock(tmp_path / "run"), pytest.raises(TrainingError, match="another run"):
        FolderLock(tmp_path / "run")
    FolderLock(tmp_path / "run").__exit__()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(TrainingError, match="out cannot be written"):
        FolderLock(Path("out"))


def test_a_file_system_without_locks_is_not_taken_for_another_run(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(TrainingError, match="cannot be locked: No locks available"):
        FolderLock(tmp_path / "run")
    with OutputFile(tmp_path / "out") as out, out.text() as stream:  # a file is written without one there
        stream.write("text")
    assert (tmp_path / "out").read_text() == "text"
