"""Which figures share an axis, where training failed, and what is printed while it goes on."""

import json

import pages
import pytest

from aigc_text.cli import train as command
from aigc_text.cli.meter import Meter, duration
from aigc_text.outputs import Progress
from aigc_text.plots import training_curves
from aigc_text.plots.panels import SENTENCE, TOKEN, marks, parts, told


def read(lines):
    found = {}
    for line in lines:
        for name, value in line.items():
            if name != "step" and isinstance(value, float):
                found.setdefault(name, []).append((line["step"], value))
    return found


def axes_of(lines, unit=""):
    return {(part.title, part.unit): list(names) for part, names in parts(read(lines), unit).items()}


def test_a_language_model_has_its_losses_bits_and_rate_apart():
    lines = [{"step": n, "loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0} for n in (1, 2)]
    lines[1] |= {"eval_loss": 2.5, "eval_bits_per_byte": 1.0}
    assert axes_of(lines) == {
        ("Loss", TOKEN): ["loss", "eval_loss"],
        ("Bits per byte", "bits per byte"): ["eval_bits_per_byte"],
        ("Learning rate", "learning rate"): ["learning_rate"],
    }


@pytest.mark.parametrize("unit", [SENTENCE, ""])  # older runs did not record it
def test_a_vae_has_an_axis_for_each_term_of_its_bound(unit):
    found = axes_of(pages.VAE, unit)
    assert found == {
        ("Loss", TOKEN): ["eval_loss"],
        ("Bits per byte", "bits per byte"): ["eval_bits_per_byte"],
        ("Negative bound", SENTENCE): ["loss", "bound", "eval_bound"],
        ("Reconstruction", SENTENCE): ["reconstruction", "eval_reconstruction"],
        ("KL", SENTENCE): ["kl", "eval_kl"],
        ("Active units", "units"): ["eval_active_units"],
        ("Learning rate", "learning rate"): ["learning_rate"],  # both groups have the same
    }


def test_a_gans_likelihood_and_its_adversarial_losses_are_apart():
    curves = read(pages.GAN)
    found = {part.title: names for part, names in parts(curves).items()}
    assert list(found["Loss"]) == ["generator_nll", "eval_loss"]
    assert [step for step, _ in found["Adversarial losses"]["generator_loss"]] == [20, 30, 40]
    assert list(found["Learning rate"]) == ["generator_learning_rate", "discriminator_learning_rate"]
    assert [tuple(mark) for mark in marks(curves)] == [("mode collapse", 30, 40), ("rolled back", 30, 30)]


def test_losses_of_units_that_nobody_knows_have_an_axis_each():
    lines = [{"step": 1, "critic_loss": 1.0, "actor_loss": 2.0, "loss": 3.0}]
    assert axes_of(lines, "nats per picture") == {
        ("Loss", "nats per picture"): ["loss"],
        ("Critic loss", "loss"): ["critic_loss"],
        ("Actor loss", "loss"): ["actor_loss"],
    }


def test_a_collapse_ends_where_a_validation_finds_none():
    flags = [(10, 0), (20, 1), (30, 1), (40, 0), (50, 1)]
    assert [tuple(mark)[1:] for mark in marks({"eval_posterior_collapse": flags})] == [(20, 30), (50, 50)]


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("lines", "panels", "label"), [(pages.VAE, 7, "posterior collapse"), (pages.GAN, 5, "rolled back")]
)
def test_the_picture_has_a_panel_for_each_unit_with_failures_marked(tmp_path, monkeypatch, lines, panels, label):
    drawn = []
    monkeypatch.setattr(training_curves, "save", lambda figure, _: drawn.append(figure))
    training_curves.curves(pages.logged(tmp_path / "run", lines) / "metrics.jsonl", tmp_path / "curves.png")
    (figure,) = drawn
    assert len(figure.axes) == panels
    for axes in figure.axes:
        assert axes.get_ylabel() and label in [text.get_text() for text in axes.get_legend().get_texts()]


def test_console_figures_are_those_of_the_curves():
    assert told(pages.VAE[1]) == (
        "loss 30  eval_loss 3  eval_bits_per_byte 2  bound 31  eval_bound 32  reconstruction 30  "
        "eval_reconstruction 31  kl 1  eval_kl 0.100  eval_active_units 0  eval_posterior_collapse 1"
    )
    said = told(pages.GAN[2])
    for figure in (
        "generator_loss 0.700",
        "discriminator_loss 0.600",
        "eval_uniqueness 0.900",
        "eval_self_bleu_4 0.500",
    ):
        assert figure in said
    assert told({"loss": 2.0, "bound": 2.0, "learning_rate": 1.0}) == "bound 2"


class Clock:
    """A clock that only moves when a test advances it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def reports(clock, seconds, count, tokens=600, every=10**9):
    for step in range(1, count + 1):
        clock.now += seconds
        logs = {"loss": 2.0, "learning_rate": 1e-3, **({"eval_loss": 2.5} if step % every == 0 else {})}
        yield Progress(step=step, total=count, logs=logs, tokens=tokens)


@pytest.mark.parametrize("seconds", [0.7, 4.0, 29.0])
def test_without_a_terminal_no_half_minute_is_silent(capsys, monkeypatch, seconds):
    clock, at = Clock(), [0.0]
    monkeypatch.setattr(command, "notice", lambda text: at.append(clock.now) or print(text))
    list(command._barred(reports(clock, seconds, 100), clock))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert max(b - a for a, b in zip(at, at[1:], strict=False)) <= 30 and len(lines) <= 100 * seconds / 15
    assert all("loss 2  learning rate 0.001" in line and " of 100: " in line for line in lines)
    assert all(f"{600 / seconds:,.0f} tokens/s" in line for line in lines[1:])
    assert "left" in lines[-2]


def test_an_update_longer_than_half_a_minute_has_its_line(capsys):
    clock = Clock()
    list(command._barred(reports(clock, 50.0, 4), clock))
    said = capsys.readouterr().err
    assert [f"step {n} of 4" in said for n in (2, 3, 4)] == [True] * 3
    assert "2 min left" in said and "50 s left" in said


def test_every_validation_has_a_line(capsys):
    clock = Clock()
    list(command._barred(reports(clock, 0.01, 40, every=10), clock))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    assert [line.split(":")[0] for line in said] == [f"step {n} of 40" for n in (10, 20, 30, 40)]
    assert "eval_loss 2.500" in said[0] and "60,000 tokens/s" in said[0]


def test_validations_do_not_slow_the_speed_down_but_count_towards_the_end():
    clock = Clock()
    meter = Meter(clock)
    for step in range(11):
        clock.now += 21.0 if step % 5 == 0 else 1.0
        logs = {"eval_loss": 1.0} if step % 5 == 0 else {"loss": 1.0}
        meter.count(Progress(step=step, total=20, logs=logs, tokens=100))
    assert meter.speed() == "100 tokens/s"
    assert meter.left == pytest.approx(2 * 21 + 8)  # ten more like these


def test_durations_are_short():
    assert [duration(s) for s in (0.4, 89, 100, 7100, 7300)] == ["0 s", "89 s", "2 min", "118 min", "2 h 2 min"]


def test_a_run_records_the_unit_of_its_loss_and_counts_tokens_without_padding(tmp_path):
    from aigc_text import from_scratch, train

    texts = ["a dog runs", "a cat", "two dogs sit on a mat", "a bird sings"] * 4
    data = tmp_path / "data.txt"
    data.write_text("\n".join(texts))
    model = from_scratch("vae", texts, tokenizer="word", hidden_size=8, latent_size=4)
    options = {"sample_by": "line", "max_steps": 2, "eval_every": 2, "batch_size": 4, "eval_blocks": 4}
    progress = list(train(model, data, tmp_path / "run", validation=data, precision="fp32", **options))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss_unit"] for line in lines] == [SENTENCE] * 2
    assert lines[1]["eval_bound"] == pytest.approx(lines[1]["eval_reconstruction"] + lines[1]["eval_kl"])
    assert lines[0]["bound"] == pytest.approx(lines[0]["reconstruction"] + lines[0]["kl"], rel=1e-5)
    rows = sorted(len(model.sentences([text])[0].ids) for text in texts)
    assert all(sum(rows[:4]) <= report.tokens <= sum(rows[-4:]) for report in progress if report.logs)


def test_tokens_of_a_batch_are_those_that_are_not_padding():
    import torch

    from aigc_text.training.stream import _tokens

    ids = torch.ones(2, 5, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    assert _tokens({"input_ids": ids, "attention_mask": mask}) == 7
    assert _tokens({"input_ids": ids}) == 10 and _tokens({"points": ids}) == _tokens([ids]) == 0


def test_all_files_of_a_saved_model_have_the_usual_mode(tmp_path):
    import os

    from safetensors.numpy import save_file

    from aigc_text.utils import sealed_dir

    def write(folder):
        import numpy

        save_file({"a": numpy.zeros(1)}, folder / "model.safetensors")
        (folder / "adapter.safetensors").touch(0o600)
        (folder / "config.json").write_text("{}")

    before = os.umask(0o027)
    try:
        sealed_dir.save(tmp_path / "saved", write)
    finally:
        os.umask(before)
    assert {oct(f.stat().st_mode & 0o777) for f in (tmp_path / "saved").iterdir()} == {"0o640"}
