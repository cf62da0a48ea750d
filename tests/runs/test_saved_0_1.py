"""Runs, an adapter and checkpoints of version 0.1 load, generate the same texts, and go on.

`saved_0_1/` was made by scripts/tools/save_runs.py with the wheel of that version, on one machine. Another may round a
score otherwise, but hardly ever so that one of these few tokens is another.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

from aigc_text import load, train

SAVED = Path(__file__).with_name("saved_0_1")
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "tools"))
import save_runs  # noqa: E402

TEXTS = json.loads((SAVED / "texts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TEXTS)
def test_a_saved_model_generates_what_it_did(name, monkeypatch):
    monkeypatch.chdir(SAVED)
    backend = load(f"./{name}")
    assert backend.name == ("gpt2" if name == "lora" else name)
    assert save_runs.texts_of(name) == TEXTS[name]


def test_a_run_that_was_left_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(SAVED, tmp_path / "saved"))
    resumed = [*train(save_runs.fresh("transformer"), "texts.txt", "half", resume=True, **save_runs.HALF)]
    assert "resumed from step 10" in resumed[0].message
    assert [report.step for report in resumed[1:]] == list(range(11, save_runs.STEPS + 1))
    lines = [json.loads(line) for line in Path("half/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    unbroken = [*train(save_runs.fresh("transformer"), "texts.txt", "unbroken", **save_runs.HALF)]
    assert losses == pytest.approx({r.step: r.logs["loss"] for r in unbroken if "loss" in r.logs}, rel=1e-3)
    assert save_runs.texts_of("half") == save_runs.texts_of("unbroken")
