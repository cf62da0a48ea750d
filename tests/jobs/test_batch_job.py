"""A file of prompts to a file of records: streamed, in order, gone on with after a kill; see test_shard."""

import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest
import tiny
from commands import file
from team import ENV

from aigc_text import Backend, Completion
from aigc_text.cli import meter
from aigc_text.errors import DataError, GenerationError
from aigc_text.generation import decoding
from aigc_text.generation.prompt_files import Prompts
from aigc_text.jobs import shard
from aigc_text.jobs.batch_job import Job
from aigc_text.options.generation import GenerationOptions
from aigc_text.utils.lock import Lock


def timeless(path):
    records = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def names(folder):
    return sorted(os.listdir(folder))


def prompts_file(folder, count=30):
    return file(
        folder, "p.jsonl", "".join(f'{{"prompt": "{"the cat " * (i * 7 % 5 + 1)}{i}"}}\n' for i in range(count))
    )


# One process


@pytest.mark.parametrize("sizes", [[], ["--batch-size", "3"], ["--batch-tokens", "90"]], ids=" ".join)
def test_the_file_has_the_records_of_standard_output_in_their_order(generate, tmp_path, tmp_path_factory, sizes):
    words = ["--prompts", prompts_file(tmp_path_factory.mktemp("p")), "-n", "2", "--format", "jsonl"]
    shown = [{k: v for k, v in r.items() if k != "seconds"} for r in generate(*words).records]
    done = generate(*words, *sizes, "--output", tmp_path / "out.jsonl")
    assert timeless(tmp_path / "out.jsonl") == shown
    assert [(r["prompt_index"], r["index"]) for r in shown] == [(i, j) for i in range(30) for j in range(2)]
    assert names(tmp_path) == ["out.jsonl"]
    assert done.out == "" and "generating" in done.err


class Shuffled(Backend):
    """Gives texts out of order, within windows."""

    takes = ("num_return_sequences", "seed")
    name, window = "shuffled", 64

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        return self.generate_some(prompts, self.resolve(options, overrides), lambda i, j: True)

    def generate_some(self, prompts, options, wanted, *, batch_size=None, batch_tokens=None):
        held = []
        for i, prompt in enumerate(prompts):
            held += [(i, j, prompt) for j in range(options.num_return_sequences or 1) if wanted(i, j)]
            if len(held) >= self.window:
                yield from self.made(held)
                held = []
        yield from self.made(held)

    def made(self, held):
        for i, j, prompt in reversed(held):
            yield Completion(prompt=prompt, text="x", prompt_index=i, index=j)


def peak(count, out):
    """The most memory that a job of so many prompts holds at once."""
    tracemalloc.start()
    try:
        prompts = Prompts(lambda: (f"prompt {i}" for i in range(count)))
        for _ in Job(prompts, out).run(Shuffled(), GenerationOptions(seed=1)):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(tmp_path):
    peak(200, tmp_path / "first")  # what is imported and cached on the way is no part of it
    small, large = peak(1000, tmp_path / "small"), peak(20_000, tmp_path / "large")
    assert large < small + 20_000 // 8 + 60_000  # a bit a text, and some room
    with (tmp_path / "large").open(encoding="utf-8") as stream:
        assert [json.loads(line)["prompt_index"] for line in stream] == list(range(20_000))


def test_prompts_that_change_meanwhile_are_noticed(tmp_path):
    versions = iter([["a", "b"], ["a", "c"]])
    job = Job(Prompts(lambda: next(versions)), tmp_path / "out")
    with pytest.raises(DataError, match="have changed"):
        list(job.run(Shuffled(), GenerationOptions(seed=1)))
    longer = iter([["a"], ["a", "c"]])
    with pytest.raises(DataError, match="have changed"):
        list(Prompts(lambda: next(longer)))


def test_a_backend_that_leaves_texts_out_is_told(tmp_path):
    class Lazy(Shuffled):
        def made(self, held):
            return iter([c for c in super().made(held) if c.prompt_index])

    with pytest.raises(GenerationError, match="'shuffled' gave 1 texts of 2"):
        list(Job(Prompts(lambda: ["a", "b"]), tmp_path / "out").run(Lazy(), GenerationOptions(seed=1)))


def test_no_prompts_make_an_empty_file(tmp_path):
    job = Job(Prompts(list), tmp_path / "out")
    assert list(job.run(Shuffled(), GenerationOptions(seed=1))) == [(0, 0)]
    assert names(tmp_path) == ["out"] and (tmp_path / "out").read_bytes() == b""


def test_prompts_come_from_a_pipe_too(run, plain, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("one\ntwo\n",))
    writer.start()
    words = ["generate", "--backend", plain("Plain"), "--format", "jsonl", "--output", tmp_path / "out"]
    assert run(*words, "--prompts", pipe).code == 0
    writer.join()
    assert [r["text"] for r in timeless(tmp_path / "out")] == ["eno", "owt"]
    assert run(*words, "--overwrite", stdin=b"three").code == 0
    assert [r["text"] for r in timeless(tmp_path / "out")] == ["eerht"]


def test_a_broken_file_of_prompts_leaves_nothing_behind(refused, tmp_path):
    path = file(tmp_path, "p.jsonl", '{"prompt": "a"}\n' * 9 + '{"promt": 1}\n')
    words = ["generate", "--model", "not/needed", "--prompts", path, "--format", "jsonl"]
    refused(*words, "--output", tmp_path / "out", says=["p.jsonl:10"])
    assert names(tmp_path) == ["p.jsonl"]


@pytest.mark.parametrize("kind", ["Faulty", "Interrupted", "Terminated"])
def test_a_failure_before_the_first_record_leaves_nothing_behind(run, plain, tmp_path, kind):
    words = ["generate", "--backend", plain(kind), "--prompt", "stop", "--format", "jsonl"]
    done = run(*words, "--output", tmp_path / "out")
    assert done.code in (2, 130, 143) and "--resume" not in done.err
    assert names(tmp_path) == []


def test_a_full_disk_is_told_and_the_run_goes_on(refused, run, plain, tmp_path, monkeypatch):
    words = ["generate", "--backend", plain("Plain"), "--prompt", "ab", "--prompt", "cd", "--format", "jsonl"]
    words += ["--output", tmp_path / "out"]
    left = iter([100])

    def write(file, data):
        if (room := next(left, 0)) == 0:
            raise OSError(28, "No space left on device")
        return real(file, data[:room])

    real = os.write
    monkeypatch.setattr(shard.os, "write", write)
    says = ["out.partial cannot be written: No space left on device", "--resume"]
    result = run(*words)
    assert result.code == 2 and all(word in result.err for word in says), result.err
    monkeypatch.setattr(shard.os, "write", real)
    assert (tmp_path / "out.partial").stat().st_size == 100
    assert run(*words, "--resume").code == 0
    assert [r["text"] for r in timeless(tmp_path / "out")] == ["ba", "dc"]


def test_the_speed_counts_what_was_made_now(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    speed = meter.Speed(1000, 9000)
    assert not speed.is_due()
    now[0] += 100
    assert speed.is_due() and not speed.is_due()
    assert speed.words(1250) == "1250 of 9000, 2.5 texts/s, 0:51:40 left"


# Going on


@pytest.fixture
def broken(run, plain, tmp_path):
    """A run that was interrupted after its first record: the words of its command but for --seed and --prompts."""
    folder = tmp_path / "run"
    folder.mkdir()
    prompts = file(tmp_path, "p.txt", f"one\n{tmp_path / 'x.flag'}\nthree\n")
    words = ["generate", "--backend", plain("Once"), "--format", "jsonl", "--output", folder / "out.jsonl"]
    done = run(*words, "--prompts", prompts, "--max-new-tokens", "5")
    assert done.code == 130
    assert [line for line in done.err.splitlines() if line][-2:] == [
        f"What was finished is in {folder / 'out.jsonl.partial'}; the same command with --resume goes on.",
        "Interrupted",
    ]
    assert names(folder) == ["out.jsonl.partial", "out.jsonl.partial.run"]
    return [*words, "--prompts", prompts, "--max-new-tokens", "5"], folder


def test_an_interrupted_run_goes_on_with_the_seed_that_it_drew(run, broken):
    words, folder = broken
    [first] = timeless(folder / "out.jsonl.partial")
    assert run(*words, "--resume").code == 0
    assert names(folder) == ["out.jsonl"]
    records = timeless(folder / "out.jsonl")
    assert [r["prompt_index"] for r in records] == [0, 1, 2] and records[0] == first
    assert {r["seed"] for r in records} == {first["seed"]}


def test_a_resumed_run_with_nothing_to_go_on_with_begins(run, plain, tmp_path):
    words = ["generate", "--backend", plain("Plain"), "--prompt", "ab", "--format", "jsonl"]
    assert run(*words, "--output", tmp_path / "out", "--resume").code == 0
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--seed", "77"], ["was begun with seed=", "now 77"]),
        (["--max-new-tokens", "6"], ["max_new_tokens=5, now 6"]),
        (["-n", "2"], ["num_return_sequences=nothing, now 2"]),
        (["--backend", "gpt2"], ["backend=", "now gpt2", "model="]),
        (["--template", "{prompt}!"], ["prompts=3 with hash", "now 3 with hash"]),
    ],
    ids=lambda value: value[0] if value[0].startswith("-") else "",
)
def test_a_run_goes_on_with_what_began_it_only(refused, broken, tiny_gpt2, more, says):
    words, folder = broken
    before = {p: p.read_bytes() for p in folder.iterdir()}
    more = [*more, "--model", tiny_gpt2] if "gpt2" in more else more
    refused(*words, *more, "--resume", says=["out.jsonl.partial was begun with", *says, "--overwrite"])
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_what_an_interrupted_run_left_is_not_written_over_unasked(refused, run, broken):
    words, folder = broken
    refused(*words, says=["out.jsonl.partial exists already", "--resume", "--overwrite"])
    assert run(*words, "--overwrite").code == 0
    assert names(folder) == ["out.jsonl"] and len(timeless(folder / "out.jsonl")) == 3
    refused(*words, "--resume", says=["out.jsonl exists already", "--overwrite"])


def test_a_prompt_that_is_too_long_can_be_cut_when_the_run_goes_on(refused, run, tiny_gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "WINDOW", 2)
    long = "".join(f'{{"prompt": "{"the cat sat " * (60 if i == 4 else 1)}"}}\n' for i in range(6))
    words = ["generate", "--model", tiny_gpt2, "--prompts", file(tmp_path, "p.jsonl", long), "--seed", "1"]
    words += ["--max-new-tokens", "6", "--format", "jsonl", "--output", tmp_path / "out.jsonl"]
    done = run(*words)
    assert done.code == 2 and "Error: prompt 5 has" in done.err and "--truncate-prompt" in done.err
    assert len((tmp_path / "out.jsonl.partial").read_text().splitlines()) == 4
    assert run(*words, "--truncate-prompt", "--resume").code == 0
    assert [r["prompt_index"] for r in timeless(tmp_path / "out.jsonl")] == list(range(6))


def test_a_line_that_was_cut_off_is_made_again(run, broken):
    words, folder = broken
    with (folder / "out.jsonl.partial").open("ab") as stream:
        stream.write('{"prompt": "three", "prompt_index": 2, "text": "é'.encode()[:-1])
    assert run(*words, "--resume").code == 0
    assert [r["text"] for r in timeless(folder / "out.jsonl")][::2] == ["eno", "eerht"]


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "nonsense",
        '{"prompt_index": 1e999, "index": 0}',
        '{"prompt_index": 0, "index": 0}',
        '{"prompt_index": 3, "index": 0}',
    ],
)
def test_a_line_of_something_else_is_refused_with_its_number(refused, broken, line):
    words, folder = broken
    with (folder / "out.jsonl.partial").open("a") as stream:
        stream.write(line + "\n")
    refused(*words, "--resume", says=["out.jsonl.partial:2 is no record of this run", "--overwrite"])


def test_files_that_are_not_of_such_a_run_are_refused(refused, broken):
    words, folder = broken
    about = json.loads((folder / "out.jsonl.partial.run").read_text())
    for damaged in ("{", "[]", json.dumps({k: v for k, v in about.items() if k != "seed"})):
        (folder / "out.jsonl.partial.run").write_text(damaged)
        refused(*words, "--resume", says=["out.jsonl.partial.run is damaged", "--overwrite"])
    (folder / "out.jsonl.partial.run").unlink()
    refused(*words, "--resume", says=["out.jsonl.partial exists already, and nothing says what it was made from"])
    (folder / "out.jsonl").write_text("mine")
    refused(*words, "--resume", says=["out.jsonl exists already"])
    assert (folder / "out.jsonl").read_text() == "mine"


def test_an_output_that_was_to_be_replaced_is_there_until_the_end(refused, run, broken, tmp_path):
    words, folder = broken
    (tmp_path / "x.flag").unlink()
    (folder / "out.jsonl").write_text("old")
    refused(*words, "--resume", says=["out.jsonl exists already"])
    assert run(*words, "--overwrite").code == 130
    assert (folder / "out.jsonl").read_text() == "old"
    assert run(*words, "--resume").code == 0
    assert names(folder) == ["out.jsonl"] and len(timeless(folder / "out.jsonl")) == 3


def test_a_run_that_another_process_makes_is_left_alone(refused, run, broken):
    words, folder = broken
    before = {p: p.read_bytes() for p in folder.iterdir()}
    held = Lock(folder / ".out.jsonl.lock")
    for more in ("--resume", "--overwrite"):
        refused(*words, more, says=["another process is writing to", "out.jsonl"])
    held.release()
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert run(*words, "--resume").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--resume"], ["--resume without --output", "--format jsonl"]),
        (["--resume", "--format", "jsonl"], ["--resume without --output"]),
        (["--resume", "--output", "out.txt"], ["--resume with --format text", "--format jsonl"]),
        (["--resume", "--output", "out.txt", "--format", "json"], ["--resume with --format json"]),
        (["--resume", "--overwrite", "--output", "o", "--format", "jsonl"], ["--resume and --overwrite contradict"]),
        (["--batch-tokens", "0"], ["--batch-tokens"]),
        (["--format", "jsonl", "--output", "no/out"], ["out.partial cannot be written: there is no such folder"]),
        (["--format", "jsonl", "--output", "."], ["is a folder"]),
        (["--format", "jsonl", "--output", "x" * 240], ["cannot be written: File name too long"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(refused, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    refused("generate", "--model", "not/needed", "--prompt", "x", *words, says=says)
    assert names(tmp_path) == []


# kill -9


def killed_runs(tmp_path, moments):
    model = tiny.save("gpt2", tmp_path / "model")
    (tmp_path / "runs").mkdir()
    driver = Path(__file__).parents[1] / "helpers" / "jobs_driver.py"
    words = [sys.executable, driver, model, prompts_file(tmp_path, 40), tmp_path / "runs", moments]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=1200, env=ENV, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == moments
    assert [c for c in cases if c["code"] or not c["same"] or c["left"]] == []
    return cases


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_runs_go_on_without_repeating_or_losing_a_line(tmp_path):
    cases = killed_runs(tmp_path, 5)
    assert sum(c["kills"] for c in cases) >= 5  # each is killed up to three times


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_runs_killed_at_a_hundred_moments_go_on_without_repeating_or_losing_a_line(tmp_path):
    cases = killed_runs(tmp_path, 100)
    assert sum(c["kills"] for c in cases) >= 100
    states = {tuple(state) for c in cases for state in c["states"]}
    assert (".partial", ".partial.run") in states
    assert (".partial.ordered", ".partial.run") in states
    assert ("", ".partial.run") in states
