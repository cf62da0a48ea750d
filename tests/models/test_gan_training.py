"""Training of gan: its phases, schedules, what follows a collapse, what a validation measures, and its options."""

import itertools
import json
import math

import pytest
import torch

from aigc_text.data.sources import Pair
from aigc_text.errors import DataError, OptionError
from aigc_text.models.gan.collapse_monitor import measures
from aigc_text.models.gan.objective import Adversarial, GANTraining, inverse_temperature
from aigc_text.training import trainer
from tests.models.test_gan import SIZES, TEXTS, made
from tests.runs.test_training_run import command
from tests.scripts.test_decisions import script


@pytest.fixture(scope="module")
def backend():
    return made()


def test_the_inverse_temperature_is_a_function_of_the_step():
    base = {"max_steps": 300, "likelihood_steps": 200, "eval_every": 100, "inverse_temperature": 100.0}
    options = GANTraining(**base)
    assert [inverse_temperature(n, options) for n in (0, 50, 100, 500)] == pytest.approx([1, 10, 100, 100])
    relgan = GANTraining(**base, inverse_temperature_steps=5000)
    assert inverse_temperature(2000, relgan) == pytest.approx(100 ** (2 / 5))  # 6.3, where RelGAN's runs end
    line = GANTraining(**base, inverse_temperature_schedule="linear")
    assert inverse_temperature(50, line) == pytest.approx(50.5)
    assert inverse_temperature(0, GANTraining(**base, inverse_temperature_schedule="fixed")) == 100


OPTIONS = {
    "batch_size": 3, "block_size": 16, "precision": "fp32", "learning_rate": 0.01, "warmup_steps": 0, "eval_every": 2,
    "watch_samples": 6,
}  # fmt: skip


def run(backend, folder=None, resume=False, **options):
    chosen = GANTraining(**{**OPTIONS, **options})
    evaluate, objective = backend.validator(TEXTS, chosen), backend.objective(chosen)
    steps = trainer.train(
        backend.model.train(), objective, backend.batches(TEXTS, chosen), chosen, evaluate=evaluate,
        checkpoints=folder, resume=resume,
    )  # fmt: skip
    return objective, steps


def test_likelihood_comes_first_and_then_both_in_turn():
    backend = made()
    _, steps = run(backend, max_steps=8, likelihood_steps=4, discriminator_steps=2, deliver="last", min_rate=0.1)
    seen, rates = [], []
    judge = backend.model.discriminator.score.weight
    before = judge.detach().clone()
    for report in steps:
        if not report.logs or "generator_learning_rate" not in report.logs:
            continue
        logs = report.logs
        seen.append(("generator_loss" in logs, "discriminator_loss" in logs))
        rates.append(logs["generator_learning_rate"])
        assert judge.equal(before) is (report.step <= 4)
    assert seen == [(True, False)] * 4 + [(False, True), (True, True)] * 2
    falling = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * n / 4)) for n in range(4)]
    assert rates[:4] == pytest.approx([0.01 * share for share in falling])
    assert rates[5] == pytest.approx(0.01 * 0.05 * 2 / 20)  # a share of the rate, rising


LOSSES = [
    {"adversarial_loss": "wasserstein"},
    {"adversarial_loss": "hinge", "r1": 0.5, "gumbel": "straight_through"},
    {"adversarial_loss": "minimax", "likelihood_weight": 0.3},
    {"adversarial_loss": "non_saturating", "generator_average": 0.9, "discriminator_steps": 2},
]
MEMORY = {"cell": "memory", "discriminator": "cnn", "spectral_norm": True}  # ten seconds each


@pytest.mark.parametrize(
    ("options", "config"),
    [
        *((options, {}) for options in LOSSES),
        (LOSSES[1], MEMORY),
        *(pytest.param(LOSSES[n], MEMORY, marks=pytest.mark.slow) for n in (0, 2, 3)),
    ],
)
def test_a_resumed_run_is_the_unbroken_one(options, config, tmp_path):
    given = {"max_steps": 8, "likelihood_steps": 4, "save_every": 1, **options}
    config = {**config, "discriminator_dropout": 0.3}
    whole = made(**config)
    objective, steps = run(whole, tmp_path / "whole", **given)
    list(steps)
    for stop in (3, 5, 7):
        folder = tmp_path / str(stop)
        broken = made(**config)
        list(itertools.islice(run(broken, folder, **given)[1], stop + 1))
        again = made(**config)
        other, rest = run(again, folder, resume=True, **given)
        list(rest)
        for name, tensor in whole.model.state_dict().items():
            assert tensor.equal(again.model.state_dict()[name]), (stop, name)
        assert all(a.equal(b) for a, b in zip(objective.average, other.average, strict=True))


def test_the_average_is_what_is_validated_and_delivered(tmp_path):
    backend = made()
    objective, steps = run(
        backend, tmp_path, max_steps=30, likelihood_steps=0, generator_average=0.9, deliver="last", eval_every=30
    )
    means: list[torch.Tensor] = []
    seen = None
    for report in steps:
        now = [p.detach().clone() for p in objective.generator]
        if report.step == 1:
            means = now
        elif report.logs and report.step > 1:
            decay = min(0.9, report.step / (report.step + 9))
            means = [m * decay + p * (1 - decay) for m, p in zip(means, now, strict=True)]
        if report.step == 30 and "eval_loss" in report.logs:
            seen = report.logs["eval_loss"]
    for mean, p in zip(means, objective.generator, strict=True):
        assert torch.allclose(mean, p, atol=1e-6)  # at the end the parameters are the averages
    loss = backend.validator(TEXTS, GANTraining(**{**OPTIONS, "watch_samples": 0}))(backend.model)["loss"]
    assert loss == pytest.approx(seen, rel=1e-5)


def test_the_best_by_a_named_figure_is_delivered(tmp_path):
    backend = made()
    figures = iter([0.1, 0.5, 0.3, 0.2, 0.4])
    chosen = GANTraining(**{**OPTIONS, "max_steps": 8, "likelihood_steps": 4})
    weights = {}

    def evaluate(model):
        value = next(figures)
        weights[value] = model.output.bias.clone()
        return {"loss": 1.0, "bleu_ha": value}

    steps = trainer.train(
        backend.model.train(), backend.objective(chosen), backend.batches(TEXTS, chosen), chosen, evaluate=evaluate,
        checkpoints=tmp_path,
    )  # fmt: skip
    last = list(steps)[-1]
    assert last.message == "the weights are those of step 2, the best"
    assert backend.model.output.bias.equal(weights[0.5])


def test_a_best_that_is_no_figure_is_refused():
    with pytest.raises(OptionError, match="best 'max:bleu_hx' is no figure of this validation. Did you mean 'bleu_ha'"):
        list(run(made(), max_steps=2, likelihood_steps=2, best="max:bleu_hx")[1])


def test_a_collapse_is_told_once_with_what_to_try():
    objective = Adversarial(GANTraining(max_steps=10, likelihood_steps=4, eval_every=2))
    warm = {"eval_distinct_2": 0.6, "eval_self_bleu_4": 0.5}
    objective.step = 3
    assert objective.after_eval(warm) == objective.after_eval({**warm}) and not objective.after_eval(warm).note
    objective.step = 6
    said, flags = [], []
    for distinct, alike, accuracy in (
        (0.5, 0.6, 0.9), (0.29, 0.6, 0.9), (0.29, 0.66, 0.9), (0.4, 0.6, 0.995), (0.4, 0.6, 0.995), (0.2, 0.6, 0.5),
    ):  # fmt: skip
        logs = {"eval_distinct_2": distinct, "eval_self_bleu_4": alike, "discriminator_accuracy": accuracy}
        verdict = objective.after_eval(logs)
        said.append(verdict.note)
        flags.append(verdict.logs["mode_collapse"])
    assert [bool(text) for text in said] == [False, True, True, False, True, True]
    assert flags == [0, 1, 1, 0, 0, 1]  # a discriminator that wins is no collapse of modes
    assert "distinct-2 is 0.290, 0.600 after the likelihood" in said[1] and "likelihood_weight=0.1" in said[1]
    assert "Self-BLEU-4 is 0.660, 0.500" in said[2] and "distinct-2" not in said[2]
    assert "the discriminator wins outright: it is right 99.5% of the time" in said[4]


def test_a_collapse_rolls_back_with_half_the_rate_or_stops(tmp_path):
    for answer in ("roll_back", "stop"):
        backend = made()
        options = {"max_steps": 8, "likelihood_steps": 2, "on_collapse": answer, "watch_samples": 0}
        chosen = GANTraining(**{**OPTIONS, **options})
        objective = backend.objective(chosen)
        found = iter([0.6, 0.6, 0.6, 0.2, 0.2, 0.2])
        kept = {}

        def evaluate(model, found=found, kept=kept):
            value = next(found)
            kept.setdefault("best", model.output.bias.clone()) if value == 0.6 else None
            return {"loss": 1.0, "bleu_ha": value, "distinct_2": value, "self_bleu_4": 0.3}

        reports = list(
            trainer.train(
                backend.model.train(), objective, backend.batches(TEXTS, chosen), chosen, evaluate=evaluate,
                checkpoints=tmp_path / answer,
            )
        )  # fmt: skip
        told = next(r for r in reports if "mode collapse" in r.message)
        assert told.step == 6
        if answer == "stop":
            assert "stopped: mode collapse" in told.message and max(r.step for r in reports) == 6
        else:
            assert told.message.startswith("rolled back to step 0; learning rate times 0.5; mode collapse")
            assert objective.rolled_back == 2 and reports[-1].step == 8
            assert told.logs["eval_mode_collapse"] == 1 and told.logs["rolled_back_to"] == 0


def test_a_loss_that_is_not_finite_stops_before_the_weights():
    backend = made()
    _, steps = run(backend, max_steps=8, likelihood_steps=2, watch_samples=0, eval_on_start=False, best="loss")
    for report in steps:
        if report.step == 3:
            with torch.no_grad():
                backend.model.discriminator.score.bias.fill_(float("nan"))
            break
    before = {n: p.detach().clone() for n, p in backend.model.named_parameters()}
    with pytest.raises(Exception, match="step 4: loss nan .* group 'discriminator' is not finite"):
        list(steps)
    for name, p in backend.model.named_parameters():
        assert torch.equal(p.nan_to_num(7.0), before[name].nan_to_num(7.0)), name


def test_it_trains_points_in_the_plane_too():
    """Nothing in objective or trainer knows of text."""
    toy = script("toy2d")
    points = toy.ring(512, 0)
    model = toy.PlaneGAN()
    options = toy.gan_options(max_steps=300, r1=0.3, adversarial_loss="non_saturating")
    batches = toy.batches(points, options)
    list(trainer.train(model.train(), Adversarial(options), batches, options))
    made_points = model.sample(512, 1)
    near = torch.cdist(made_points, toy.CENTRES).min(1).values
    far = torch.cdist(toy.PlaneGAN().sample(512, 1), toy.CENTRES).min(1).values
    assert near.mean() < far.mean()


def test_the_pictures_of_the_plane_tell_how_far_they_are(capsys):
    toy = script("toy2d")
    toy.trained(toy.PlaneGAN, Adversarial, toy.gan_options(max_steps=10), toy.ring(256, 0), "GAN, a ring")
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines() == [f"GAN, a ring: step {n} of 10" for n in (2, 4, 6, 8, 10)]


# Watching


def test_what_a_validation_measures():
    references = ["a man rides a horse .", "a dog sleeps on a bed .", "two cats sit on a mat ."]
    good = measures(references, references)
    assert good["bleu_ha"] == pytest.approx(1) and good["uniqueness"] == 1
    alike = measures(["a man rides a horse ."] * 3, references)
    assert alike["bleu_4"] == pytest.approx(1) and alike["self_bleu_4"] == pytest.approx(1)
    assert alike["bleu_ha"] < 0.8 and alike["distinct_2"] < good["distinct_2"] and alike["uniqueness"] < 0.5
    empty = measures(["", " "], references)
    assert empty["distinct_2"] == 0 and empty["self_bleu_4"] == 1 and empty["bleu_ha"] == 0


# Data, options, the command line


def test_batches_mix_lengths():
    texts = ["a"] * 40 + ["the cat sat on the mat and the dog"] * 40
    widths = {b["input_ids"].shape[1] for b in itertools.islice(made().batches(texts, GANTraining(batch_size=8)), 10)}
    assert len(widths) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"packing": True}, "packing joins sentences"),
        ({"likelihood_steps": 2000}, "likelihood_steps 2000 is more than max_steps 1000"),
        ({"likelihood_steps": 30}, "likelihood_steps 30 does not end at a validation"),
        ({"adversarial_loss": "hinges"}, "Did you mean 'hinge'"),
        ({"inverse_temperature": 0.5}, "inverse_temperature cannot be 0.5"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(OptionError, match=says):
        GANTraining(**options)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"cell": "gru"}, "cell cannot be 'gru', allowed are lstm, memory"),
        ({"representations": "7"}, "discriminator_size 8 cannot be divided among 7 representations"),
        ({"noise_at_every_step": "true"}, "noise_at_every_step needs a noise_size"),
        ({"cell": "memory", "hidden_size": "23"}, "hidden_size 23 cannot be divided among 2 attention heads"),
        ({"filter": 3}, "GANConfig has no field 'filter'. Did you mean 'filters'"),
    ],
)
def test_configurations_that_cannot_be(config, says):
    with pytest.raises(OptionError, match=says):
        made(**config)


def test_a_model_without_its_discriminator_learns_by_likelihood_only():
    backend = made(discriminator="none")
    list(run(backend, max_steps=2, likelihood_steps=2, best="loss")[1])
    with pytest.raises(OptionError, match="saved without its discriminator") as refused:
        run(backend, max_steps=4, likelihood_steps=2)
    assert "likelihood_steps" in refused.value.cure


def test_pairs_are_no_sentences(backend):
    with pytest.raises(DataError, match="this backend learns sentences"):
        backend.batches([Pair("a", "b")], GANTraining())


@pytest.mark.usefixtures("drawn")
def test_the_command_line_trains_and_resumes_into_the_adversarial_phase(tmp_path, capsys):
    data = tmp_path / "data.txt"
    data.write_text("\n".join(TEXTS * 8) + "\n")
    sizes = [word for k, v in SIZES.items() for word in ("-o", f"{k}={v}")]
    words = [
        "train", "--backend", "gan", "--from-scratch", "--tokenizer", "word", "--sample-by", "line", "--data", data,
        "--batch-size", 4, "--block-size", 16, "--max-steps", 8, "--eval-every", 2, "-o", "likelihood_steps=4",
        "-o", "watch_samples=8", *sizes,
    ]  # fmt: skip
    assert command(*words, "--output", tmp_path / "run") == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"eval_bleu_ha", "eval_self_bleu_4", "eval_distinct_2", "eval_uniqueness"} <= set(lines[-1])
    assert "generator_adversarial" not in lines[-1] and lines[-1]["discriminator_accuracy"] <= 1
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    capsys.readouterr()
    assert (
        command("generate", "--model", tmp_path / "run", "--prompt", "", "-n", 3, "--seed", 1, "--max-new-tokens", 5)
        == 0
    )
    assert len(capsys.readouterr().out.strip().splitlines()) <= 3
    assert command(*words, "--output", tmp_path / "other", "-o", "adversarial_loss=hing") == 2
    refused = capsys.readouterr().err
    assert "Did you mean 'hinge'?" in refused and "Traceback" not in refused
