"""What the scripts decide."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_sensible_english_is_recognised():
    check = script("check_text")
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    good = " ".join(words)
    assert check.faults(good, set(words)) == []
    assert check.faults(" ".join(words[:39]), set(words)) == ["only 39 words"]
    assert check.faults(good, set(words[:57])) == ["only 89% of the words are known"]
    assert check.faults(good, set(words[:58])) == []
    again = " ".join([*words, *words[:4], "x", *words[:4]])
    assert check.faults(again, {*words, "x"}) == ["'aa ab ac ad' comes 3 times"]


PROBLEM = "def add_up(numbers):\n    total = 0\n    for number in numbers:\n        total += number\n    return total\n"
OTHER = "def other(a):\n    return a\n"


def test_functions_of_the_benchmark_are_dropped(tmp_path):
    pretrain = script("pretrain")
    (tmp_path / "problems.jsonl").write_text(
        json.dumps({"prompt": PROBLEM[:21], "canonical_solution": PROBLEM[21:], "test": ""}), encoding="utf-8"
    )
    copied = f"import os\n\n\n@cache\n{PROBLEM}\n\n{OTHER}"
    inner = f"class A:\n    def f(self):\n        pass\n\n{OTHER}"
    only = "class B:\n" + "".join(f"    {line}\n" for line in PROBLEM.splitlines())
    records = [{"text": t} for t in (copied, inner, only)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    pretrain.decontaminated(tmp_path / "data.jsonl", tmp_path / "problems.jsonl", tmp_path / "out.jsonl")
    kept = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(kept) == 2  # the class that was left without a body is gone altogether
    assert "add_up" not in kept[0] and "@cache" not in kept[0] and OTHER in kept[0]
    assert kept[1] == inner


def test_text_that_was_seen_costs_little_with_a_primed_compressor(tmp_path):
    pretrain = script("pretrain")
    seen = " ".join(str(n * n) for n in range(3000))
    (tmp_path / "seen.txt").write_text(seen, encoding="utf-8")
    known = pretrain.primed_xz([tmp_path / "seen.txt"], [seen[:5000]])
    new = pretrain.primed_xz([tmp_path / "seen.txt"], [" ".join(str(n**3) for n in range(900))])
    assert known < 0.1 < new


@pytest.mark.parametrize("name", ["check", "test"])
def test_the_scripts_can_be_run(name):
    assert (SCRIPTS / name).stat().st_mode & 0o111
