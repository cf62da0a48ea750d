"""The backend keeps the contract of aigc-text, and its model learns."""

from __future__ import annotations

from pathlib import Path

from aigc_text_template import TemplateBackend

from aigc_text import TrainingOptions, load, train
from aigc_text.api import from_scratch
from aigc_text.testing import check_backend

BACKEND = f"{Path(__file__).parents[1] / 'aigc_text_template.py'}:TemplateBackend"


def test_keeps_the_contract() -> None:
    assert "Trains: two updates with a finite loss, in place" in list(check_backend(BACKEND))
    assert TemplateBackend.capabilities.training


def test_learns_and_is_loaded_again(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat"] * 50
    (tmp_path / "data.txt").write_text("\n".join(texts), encoding="utf-8")
    made = from_scratch(BACKEND, texts, tokenizer="char", hidden_size=32)
    options = TrainingOptions(max_steps=40, batch_size=4, block_size=32, learning_rate=1e-2)
    run = train(made, tmp_path / "data.txt", tmp_path / "run", options=options)
    losses = [progress.logs["loss"] for progress in run]
    assert losses[-1] < losses[0] / 2
    [text] = load(BACKEND, str(tmp_path / "run")).generate(["the"], max_new_tokens=8, do_sample=False)
    assert text.text
