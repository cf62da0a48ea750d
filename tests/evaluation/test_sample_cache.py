"""Samples are made once, go on after a kill, and belong to exactly one model, option set and seed."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aigc_text import Backend, Completion, load
from aigc_text.errors import OptionError
from aigc_text.evaluation.sample_cache import SampleCache


class Counting(Backend):
    """Texts that count; remembers how many were made, and fails after some if asked to."""

    def __init__(self, fail_after=None):
        self.made, self.fail_after = 0, fail_after
        self.name, self.revision = "counting", "1"

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        for i, prompt in enumerate(prompts):
            if self.fail_after is not None and i >= self.fail_after:
                raise RuntimeError("power cut")
            self.made += 1
            yield Completion(prompt=prompt, text=f"text {i}", prompt_index=i)


def cache(folder, backend, number, **options):
    return SampleCache(folder, backend, backend.resolve(None, options), [""] * number)


def texts(folder, backend, number, **options):
    return [s.text for s in cache(folder, backend, number, **options).samples(backend, 4)]


def test_samples_are_made_once_and_more_are_added(tmp_path):
    first = Counting()
    assert texts(tmp_path, first, 3, seed=1) == ["text 0", "text 1", "text 2"]
    again = Counting()
    assert texts(tmp_path, again, 2, seed=1) == ["text 0", "text 1"]
    assert again.made == 0
    assert len(texts(tmp_path, again, 5, seed=1)) == 5
    assert len(list(tmp_path.iterdir())) == 1
    assert len(next(tmp_path.glob("*/samples.jsonl")).read_text().splitlines()) == 5


def test_what_was_made_before_a_fault_is_kept(tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        texts(tmp_path, Counting(fail_after=3), 6, seed=1)
    path = next(tmp_path.glob("*/samples.jsonl"))
    assert len(path.read_text().splitlines()) == 3
    path.write_bytes(path.read_bytes() + b'{"text": "te')  # cut off in the middle of a line
    assert texts(tmp_path, Counting(), 6, seed=1) == [f"text {n}" for n in range(6)]
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == [f"text {n}" for n in range(6)]


@pytest.mark.parametrize("change", [{"seed": 2}, {"seed": 1, "temperature": 0.5}])
def test_other_options_are_other_samples(tmp_path, change):
    texts(tmp_path, Counting(), 2, seed=1)
    other = Counting()
    texts(tmp_path, other, 2, **change)
    assert other.made == 2


def test_another_model_has_other_samples_and_an_unnamed_one_is_not_kept(tmp_path):
    texts(tmp_path, Counting(), 2, seed=1)
    other = Counting()
    other.revision = "2"
    texts(tmp_path, other, 2, seed=1)
    assert other.made == 2
    unnamed = Counting()
    unnamed.revision = ""
    assert len(texts(tmp_path, unnamed, 2, seed=1)) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_model_without_a_revision_is_known_by_its_files(tmp_path):
    data = tmp_path / "chain.txt"
    folder = tmp_path / "cache"
    found = []
    for text in ("a b c a c b", "x y z x z y"):
        data.write_text(text)
        backend = Counting()
        backend.revision, backend.origin = "", {"backend": "counting", "model": str(data)}
        texts(folder, backend, 2)
        found.append(backend.made)
    assert found == [2, 2] and len(list(folder.iterdir())) == 2


def test_prompts_belong_to_the_key_and_their_number_does_not(tmp_path):
    backend = Counting()
    options = backend.resolve(None, {})
    folders = [SampleCache(tmp_path, backend, options, p).folder for p in (["a"], ["a", "a"], ["a", "b"], ["b"])]
    assert folders[0] == folders[1] and len(set(folders)) == 3


def test_a_torch_model_goes_on_with_the_same_texts(tmp_path, tiny_gpt2):
    backend = load("gpt2", str(tiny_gpt2))
    options = {"seed": 3, "do_sample": True, "max_new_tokens": 5}
    whole = texts(tmp_path / "a", backend, 7, **options)
    assert texts(tmp_path / "b", backend, 3, **options) == whole[:3]
    assert texts(tmp_path / "b", backend, 7, **options) == whole
    assert len(set(whole)) > 1
    direct = [c.text for c in backend.generate([""] * 7, **options)]
    assert whole == direct


def test_a_second_process_is_told(tmp_path):
    backend = Counting()
    held = cache(tmp_path, backend, 3).samples(backend, 1)
    next(held)
    with pytest.raises(OptionError, match="another process"):
        texts(tmp_path, Counting(), 3)
    assert len(list(held)) == 2


def test_a_folder_that_cannot_be_made_is_told_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be written"):
        cache(tmp_path / "file" / "samples", Counting(), 1).check()


@pytest.mark.parametrize("line", [b"nonsense", b"\xff", b'{"text": 5}', b'{"word": ""}', b"[" * 100_000])
def test_a_damaged_file_is_told_with_its_cure(tmp_path, line):
    texts(tmp_path, Counting(), 2)
    path = next(tmp_path.glob("*/samples.jsonl"))
    path.write_bytes(line + b"\n")
    with pytest.raises(OptionError, match="is damaged") as caught:
        texts(tmp_path, Counting(), 2)
    assert str(path.parent) in caught.value.cure


KILLED = """
import sys, time
sys.path.insert(0, {root!r})
from tests.evaluation.test_sample_cache import Counting, cache
class Slow(Counting):
    def generate(self, prompts, options=None, **overrides):
        for completion in super().generate(prompts, options):
            time.sleep(0.002)
            yield completion
from pathlib import Path
list(cache(Path({folder!r}), Slow(), 2000, seed=1).samples(Slow(), 1))
"""


def test_a_killed_process_loses_nothing(tmp_path):
    code = KILLED.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code])
    limit = time.monotonic() + 60
    while not any(p.stat().st_size > 2000 for p in tmp_path.glob("*/samples.jsonl")):
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    path = next(tmp_path.glob("*/samples.jsonl"))
    there = path.read_bytes().count(b"\n")
    after = Counting()
    assert texts(tmp_path, after, 2000, seed=1) == [f"text {n}" for n in range(2000)]
    assert 0 < there < 2000
    shutil.rmtree(tmp_path)
