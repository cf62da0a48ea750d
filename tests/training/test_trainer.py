"""The loop: any module, any batches, several groups, resuming bit for bit, and stopping before damage."""

import itertools
import json
import math

import pytest
import torch
from torch import nn

from aigc_text.errors import DamagedError, TrainingError
from aigc_text.options.training import TrainingOptions
from aigc_text.training import trainer
from aigc_text.training.objective import Objective, Step, Verdict
from aigc_text.utils import sealed_dir


def options(**given):
    defaults = {
        "max_steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "precision": "fp32",
        "save_every": 2,
        "eval_every": 2,
        "keep_checkpoints": 20,
    }
    return TrainingOptions(**{**defaults, **given})


class Net(nn.Module):
    def __init__(self, seed=0, dropout=0.3):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, x, y):
        return (self.layers(x) - y).square().mean()


class Regression(Objective):
    def weight(self, batch):
        return float(len(batch["x"]))

    def steps(self, model, batch, step):
        yield Step("model", model(**batch))


def data(batches=5, rows=4, seed=1):
    """A pass of five batches, so that six steps cross into the next."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batches, rows, 2, generator=generator)
    return [{"x": part, "y": part.sum(1, keepdim=True)} for part in x]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(model, objective=None, batches=None, opts=None, **more):
    return list(trainer.train(model, objective or Regression(), batches or data(), opts or options(), **more))


def test_it_learns_from_any_iterable_of_batches():
    model = Net(dropout=0.0)
    reports = run(model, opts=options(max_steps=300, schedule="linear", eval_every=300, save_every=300))
    assert reports[-1].logs["loss"] < 0.05 < reports[0].logs["loss"]
    assert [r.step for r in reports] == list(range(1, 301))


def test_the_learning_rate_warms_up_and_follows_its_schedule():
    rates = [r.logs["learning_rate"] for r in run(Net(), opts=options(schedule="cosine"))]
    expected = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]
    assert rates == pytest.approx([1e-2 * e for e in expected])


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "asgd"])
@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_resumed_run_ends_with_the_very_weights(tmp_path, stop_after, optimizer):
    opts = options(optimizer=optimizer, save_every=1)
    unbroken = Net()
    whole = run(unbroken, opts=opts, checkpoints=tmp_path / "a")
    first = trainer.train(Net(), Regression(), data(), opts, checkpoints=tmp_path / "b")
    list(itertools.islice(first, stop_after))
    first.close()
    resumed = Net(seed=99)
    rest = run(resumed, opts=opts, checkpoints=tmp_path / "b", resume=True)
    assert weights(resumed).equal(weights(unbroken))
    assert rest[0].message == f"resumed from step {stop_after}"
    assert [r.logs for r in rest[1:]] == [r.logs for r in whole[stop_after:]]


def test_accumulated_micro_batches_weigh_by_their_targets():
    uneven = [{k: v[:n] for k, v in b.items()} for b, n in zip(data(4), [1, 3, 4, 2], strict=True)]
    joined = [
        {k: torch.cat([uneven[i][k], uneven[i + 1][k]]) for k in ("x", "y")} for i in (0, 2)
    ]  # fmt: skip
    one, two = Net(dropout=0.0), Net(dropout=0.0)
    a = run(one, batches=joined, opts=options(max_steps=4))
    b = run(two, batches=uneven, opts=options(max_steps=4, gradient_accumulation_steps=2))
    assert torch.allclose(weights(one), weights(two), atol=1e-6)
    assert [r.logs["loss"] for r in a] == pytest.approx([r.logs["loss"] for r in b], rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, bad):
    batches = data()
    batches[3]["y"] = batches[3]["y"] * bad
    model = Net()
    seen = []
    with pytest.raises(TrainingError, match="step 4: .* not finite"):
        for report in trainer.train(model, Regression(), batches, options(save_every=1), checkpoints=tmp_path):
            seen.append(weights(model))
            assert report.step == len(seen)
    assert len(seen) == 3
    assert weights(model).equal(seen[-1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-2", "step-3"]


def test_no_batches_is_an_error():
    with pytest.raises(TrainingError, match="no batches"):
        list(trainer.train(Net(), Regression(), iter([]), options()))


# A generative adversarial network on points: two groups, two optimizers, the same loop


class PointGan(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, real, phase):
        loss = nn.functional.softplus
        made = self.generator(torch.randn_like(real))
        if phase == "discriminator":
            return loss(-self.discriminator(real)).mean() + loss(self.discriminator(made.detach())).mean()
        frozen = {k: v.detach() for k, v in self.discriminator.named_parameters()}
        return loss(-torch.func.functional_call(self.discriminator, frozen, (made,))).mean()


class Adversarial(Objective):
    def groups(self, model):
        return {"discriminator": [*model.discriminator.parameters()], "generator": [*model.generator.parameters()]}

    def optimizers(self, model, options):
        groups = self.groups(model).items()
        return {name: [torch.optim.Adam(p, options.learning_rate, betas=(0.5, 0.9))] for name, p in groups}

    def steps(self, model, batch, step):
        yield Step("discriminator", model(batch, phase="discriminator"))
        before = weights(model.generator)
        yield Step("generator", model(batch, phase="generator"))
        assert not weights(model.generator).equal(before)  # the step was taken between the two


def points(n=64):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, 2, generator=generator) * 0.1 + torch.tensor([2.0, -1.0]) for _ in range(7)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gan_on_points_trains_with_two_optimizers(accumulate):
    model = PointGan()
    opts = options(max_steps=300, learning_rate=5e-3, gradient_accumulation_steps=accumulate, schedule="constant")
    reports = run(model, Adversarial(), points(), opts)
    torch.manual_seed(1)
    center = model.generator(torch.randn(500, 2)).mean(0)
    assert torch.dist(center, torch.tensor([2.0, -1.0])) < 0.5
    assert {"discriminator_loss", "generator_loss", "generator_grad_norm"} <= set(reports[-1].logs)


def test_each_group_moves_by_its_own_step_only():
    class OnlyOne(Adversarial):
        def steps(self, model, batch, step):
            yield Step("discriminator", model(batch, phase="discriminator"))

    model = PointGan()
    generator, discriminator = weights(model.generator), weights(model.discriminator)
    run(model, OnlyOne(), points(), options(max_steps=2))
    assert weights(model.generator).equal(generator)
    assert not weights(model.discriminator).equal(discriminator)


class Halves(Regression):
    """Both layers are groups, and one loss updates them together."""

    def groups(self, model):
        return {"first": list(model.layers[0].parameters()), "last": list(model.layers[3].parameters())}

    def steps(self, model, batch, step):
        yield Step(("first", "last"), model(**batch))


def test_groups_that_step_together_are_as_one():
    one, both = Net(), Net()
    opts = options(max_grad_norm=0.1)
    alone, together = run(one, opts=opts), run(both, Halves(), opts=opts)
    assert weights(one).equal(weights(both))
    for a, b in zip(alone, together, strict=True):
        assert {k: a.logs[k] for k in ("loss", "grad_norm")} == {k: b.logs[k] for k in ("loss", "grad_norm")}
        assert a.logs["learning_rate"] == b.logs["first_learning_rate"] == b.logs["last_learning_rate"]


def test_a_gan_resumes_bit_for_bit(tmp_path):
    opts = options(max_steps=8, save_every=3, optimizer="adamw")
    unbroken = PointGan()
    run(unbroken, Adversarial(), points(), opts)
    first = trainer.train(PointGan(), Adversarial(), points(), opts, checkpoints=tmp_path)
    list(itertools.islice(first, 5))
    resumed = PointGan()
    run(resumed, Adversarial(), points(), opts, checkpoints=tmp_path, resume=True)
    assert weights(resumed).equal(weights(unbroken))


# A state that is carried from batch to batch


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.out = nn.GRUCell(2, 4), nn.Linear(4, 1)

    def forward(self, x, y, state):
        state = self.cell(x, state)
        return (self.out(state) - y).square().mean(), state


class Carried(Objective):
    def __init__(self):
        self.state = torch.zeros(4, 4)

    def steps(self, model, batch, step):
        loss, state = model(**batch, state=self.state)
        self.state = state.detach()
        yield Step("model", loss)

    def state_dict(self):
        return {"state": self.state}

    def load_state_dict(self, state):
        self.state = state["state"]


def test_a_carried_state_is_part_of_the_checkpoint(tmp_path):
    unbroken, resumed = Recurrent(), Recurrent()
    run(unbroken, Carried())
    first = trainer.train(Recurrent(), Carried(), data(), options(), checkpoints=tmp_path)
    list(itertools.islice(first, 3))
    objective = Carried()
    run(resumed, objective, checkpoints=tmp_path, resume=True)
    assert weights(resumed).equal(weights(unbroken))
    assert objective.state.abs().sum() > 0


# What follows from a validation


class Scripted(Regression):
    """Gives prepared verdicts, one for each validation."""

    def __init__(self, *verdicts):
        self.verdicts, self.seen = list(verdicts), []

    def after_eval(self, logs):
        self.seen.append(logs["eval_loss"])
        return self.verdicts[len(self.seen) - 1] if len(self.seen) <= len(self.verdicts) else Verdict()

    def reset(self, model, group):
        for layer in model.layers:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()


def falling():
    figures = iter([1.0, 3.0, 2.0, 2.0, 2.0])
    return lambda model: {"loss": next(figures)}


def test_stop_ends_the_run_with_its_reason():
    reports = run(Net(), Scripted(Verdict(stop="good enough")), evaluate=falling())
    assert reports[-1].step == 2
    assert reports[-1].message == "stopped: good enough"


def test_a_note_is_passed_on():
    class Noting(Regression):
        def after_eval(self, logs):
            return Verdict(note="look at this")

    reports = run(Net(), Noting(), evaluate=lambda model: {"loss": 1.0})
    assert [r.step for r in reports if r.message == "look at this"] == [2, 4, 6]


def test_a_stopped_run_stays_stopped_when_resumed(tmp_path):
    run(Net(), Scripted(Verdict(stop="enough")), evaluate=falling(), checkpoints=tmp_path)
    again = run(Net(), Scripted(), evaluate=falling(), checkpoints=tmp_path, resume=True)
    assert [r.step for r in again] == [2]


def test_scaling_the_rate_lasts():
    opts = options(schedule="constant")
    reports = run(Net(), Scripted(Verdict(scale_rate=0.5), Verdict(scale_rate=0.5)), opts=opts, evaluate=falling())
    assert [r.logs["learning_rate"] for r in reports] == pytest.approx([0.005, 0.01, 0.005, 0.005, 0.0025, 0.0025])


def test_a_reset_group_starts_anew():
    model, kept = Net(), {}
    objective = Scripted(Verdict(reset=("model",)))
    for report in trainer.train(model, objective, data(), options(max_steps=3), evaluate=falling()):
        kept[report.step] = weights(model)
    assert (kept[2] - kept[1]).norm() > 0.5  # far more than an update moves


def test_rolling_back_restores_the_best_weights_and_goes_on(tmp_path):
    model, kept = Net(), {}
    objective = Scripted(Verdict(), Verdict(roll_back=True, scale_rate=0.5))
    messages, logs = {}, {}
    for report in trainer.train(model, objective, data(), options(), evaluate=falling(), checkpoints=tmp_path):
        kept[report.step], messages[report.step], logs[report.step] = weights(model), report.message, report.logs
    assert [step for step, figures in logs.items() if "rolled_back_to" in figures] == [4]
    assert logs[4]["rolled_back_to"] == 2
    assert kept[4].equal(kept[2])  # the figures were 1.0 at step 2 and 3.0 at step 4
    assert messages[4] == "rolled back to step 2; learning rate times 0.5"
    assert sorted(kept) == [1, 2, 3, 4, 5, 6]


def test_the_best_checkpoint_outlives_the_newest_ones(tmp_path):
    opts = options(max_steps=10, save_every=1, keep_checkpoints=2)
    run(Net(), evaluate=falling(), opts=opts, checkpoints=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-2", "step-9"]


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path):
    unbroken = Net()
    run(unbroken, checkpoints=tmp_path)
    path = tmp_path / "step-6" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    resumed = Net()
    reports = run(resumed, checkpoints=tmp_path, resume=True)
    assert "step-6/model.safetensors is damaged" in reports[0].message
    assert weights(resumed).equal(weights(unbroken))


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_best_checkpoint_that_is_damaged_is_not_delivered(tmp_path, damage):
    opts = options(deliver="best", save_every=1)
    reports = trainer.train(Net(), Regression(), data(), opts, evaluate=falling(), checkpoints=tmp_path)
    assert [r.step for r in itertools.islice(reports, 5)][-1] == 5
    path = tmp_path / "step-2" / "model.safetensors"
    raw = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 64]))
    with pytest.raises(DamagedError, match="step-2/model.safetensors is (damaged|missing)"):
        list(reports)


@pytest.mark.parametrize("content", [{"step": 2, "of a later version": 1}, [], None])
def test_figures_of_another_form_are_refused(tmp_path, content):
    run(Net(), opts=options(max_steps=2), checkpoints=tmp_path)
    (tmp_path / "step-2" / "trainer.json").write_text(json.dumps(content))
    sealed_dir.seal(tmp_path / "step-2")
    with pytest.raises(TrainingError, match="trainer.json is not what this package saved"):
        run(Net(), checkpoints=tmp_path, resume=True)


@pytest.mark.parametrize("content", [[{}], [{"state": {99: {}}, "param_groups": []}], 5, [None]])
def test_optimizers_of_another_form_are_refused(tmp_path, content):
    run(Net(), opts=options(max_steps=2), checkpoints=tmp_path)
    torch.save(content, tmp_path / "step-2" / "optimizers.pt")
    sealed_dir.seal(tmp_path / "step-2")
    with pytest.raises(TrainingError, match="optimizers.pt is not what this package saved"):
        run(Net(), checkpoints=tmp_path, resume=True)


def test_no_whole_checkpoint_is_an_error(tmp_path):
    run(Net(), opts=options(max_steps=2), checkpoints=tmp_path)
    (tmp_path / "step-2" / "optimizers.pt").unlink()
    with pytest.raises(TrainingError, match="optimizers.pt is missing"):
        run(Net(), checkpoints=tmp_path, resume=True)


def test_the_module_comes_back_unwrapped():
    model = Net()
    run(model, opts=options(precision="bf16", max_steps=1))
    assert type(model) is Net and "forward" not in vars(model)
    x = torch.ones(1, 2)
    assert model.layers(x).dtype == torch.float32 and not model.training
