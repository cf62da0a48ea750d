"""Several processes: the same run as in one, one of them speaks and writes, and none is left waiting."""

import json
import re
import sys
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from team import ACCELERATE, fails, launched
from torch import nn

from aigc_text import load
from aigc_text.training import trainer
from aigc_text.training.objective import Likelihood, Objective, Step
from aigc_text.utils import sealed_dir
from tests.training.test_trainer import Net, PointGan, options

# What is run in them; the driver's children import this file


class Mean(Objective):
    """With the weight that an objective has by itself."""

    def steps(self, model, batch, step):
        yield Step("model", model(**batch))


def points(rows, batches=5):
    """Batches with so many rows, in turn."""
    generator = torch.Generator().manual_seed(1)
    x = [torch.randn(rows[n % len(rows)], 2, generator=generator) for n in range(batches)]
    return [{"x": part, "y": part.sum(1, keepdim=True)} for part in x]


def squared_error(model):
    """An `evaluate` that knows nothing of processes."""
    batch = points([30], 1)[0]
    return {"loss": float(model(**batch))}


def regression(rank, rows, accumulate=1, folder=None, resume=False, **given):
    model = Net(dropout=0.0)
    opts = options(eval_every=3, batch_size=max(rows), gradient_accumulation_steps=accumulate, **given)
    run = trainer.train(
        model,
        Mean(),
        points(rows),
        opts,
        evaluate=squared_error,
        checkpoints=Path(folder) if folder else None,
        resume=resume,
    )
    return [[r.step, dict(r.logs), r.message] for r in run]


class Gan(PointGan):
    def forward(self, real, noise, phase):
        loss = nn.functional.softplus
        made = self.generator(noise)
        if phase == "discriminator":
            return loss(-self.discriminator(real)).mean() + loss(self.discriminator(made.detach())).mean()
        return loss(-self.discriminator(made)).mean()


class Adversarial(Objective):
    def groups(self, model):
        return {"discriminator": [*model.discriminator.parameters()], "generator": [*model.generator.parameters()]}

    def steps(self, model, batch, step):
        for phase in ("discriminator", "generator"):
            yield Step(phase, model(**batch, phase=phase), {"rows": float(len(batch["real"]))})


def gan(rank, accumulate):
    batches = [{"real": b["x"], "noise": b["y"].expand(-1, 2)} for b in points([6, 5])]
    opts = options(batch_size=6, gradient_accumulation_steps=accumulate)
    return [dict(r.logs) for r in trainer.train(Gan(), Adversarial(), batches, opts)]


def close(one, two):
    """Whether the figures of two runs are the same but for rounding."""
    assert len(one) == len(two)
    for (step, logs, _), (other, others, _) in zip(one, two, strict=True):
        assert step == other
        assert logs == pytest.approx(others, rel=2e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("rows", [[4], [5, 1]], ids=["equal", "unequal, and fewer than processes"])
def test_the_curve_is_that_of_one_process(team, rows, accumulate):
    one = regression(0, rows, accumulate)
    two = team.call(2, regression, rows, accumulate)
    assert two[0] == two[1]
    close(one, two[0])


def masked(rank):
    """Rows of which the second process gets one without targets: the mean over none is no number."""
    model = tiny.model("gpt2", tiny.tokenizer())
    ids = torch.arange(32).reshape(2, 16)
    labels = ids.clone()
    labels[1] = -100
    batches = [{"input_ids": ids, "labels": labels}, {"input_ids": ids, "labels": ids}]
    opts = options(max_steps=4, batch_size=2)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return [[r.step, dict(r.logs), r.message] for r in trainer.train(model, Likelihood(), batches, opts)]


def test_a_share_without_targets_counts_for_nothing(team):
    close(masked(0), team.call(2, masked)[0])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_groups_have_the_curves_of_one_process(team, accumulate):
    one, two = gan(0, accumulate), team.call(2, gan, accumulate)[0]
    assert len(one) == len(two) == 6
    for logs, others in zip(one, two, strict=True):
        shared = {k: v for k, v in logs.items() if not k.endswith("rows")}
        assert shared == pytest.approx({k: others[k] for k in shared}, rel=2e-5)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A command line but for --output, with nothing drawn that depends on the number of processes."""
    folder = tmp_path_factory.mktemp("data")
    data = folder / "data.txt"
    data.write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    model = tiny.save("gpt2", folder / "model")
    config = json.loads((model / "config.json").read_text())
    none = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    (model / "config.json").write_text(json.dumps({**config, **none}))
    given = {"--batch-size": 5, "--block-size": 16, "--precision": "fp32", "--learning-rate": 1e-3, "--max-steps": 8}
    every = {"--eval-every": 4, "--save-every": 2, "--keep-checkpoints": 9}
    pairs = {"--model": model, "--data": data, **given, **every}
    return ["train", *(str(word) for pair in pairs.items() for word in pair)]


def metrics(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def curves_match(one, two, steps=8):
    assert [m["step"] for m in metrics(one)] == [m["step"] for m in metrics(two)] == list(range(1, steps + 1))
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert a == pytest.approx(b, rel=2e-5)


@pytest.fixture(scope="module")
def one(team, words, tmp_path_factory):
    """The folder of a run in one process."""
    out = tmp_path_factory.mktemp("one") / "out"
    assert team.command(1, *words, "--output", out)["codes"] == [0]
    return out


@pytest.fixture(scope="module")
def two(team, words, tmp_path_factory):
    """The folder of the same run in two."""
    out = tmp_path_factory.mktemp("two") / "out"
    done = team.command(2, *words, "--output", out, "--samples", 1)
    assert done["codes"] == [0, 0], done["err"]
    assert done["out"] == ["", ""] and done["err"][1] == ""
    assert done["err"][0].count("Done: ") == 1
    return out


def test_accelerate_reads_the_files_of_the_page(tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    files = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    for body in files:
        (tmp_path / "config.yaml").write_text(body)
        assert load_config_from_file(str(tmp_path / "config.yaml")).num_processes == 2  # unknown keys are refused
    assert len(files) == 3


def test_the_command_line_makes_the_same_run_and_a_whole_folder(team, one, two):
    curves_match(one, two)
    sealed_dir.verify(two)
    names = {p.name for p in two.iterdir()}
    assert {p.name for p in one.iterdir()} | {"samples.jsonl"} == names
    assert len((two / "samples.jsonl").read_text().splitlines()) == 2
    assert len(list(load(str(two)).generate(["the cat"], max_new_tokens=4, seed=1))) == 1


def test_accelerate_launch_makes_the_same_run(words, one, tmp_path):
    out = tmp_path / "out"
    launcher, said = launched(*ACCELERATE, "-m", "aigc_text", *words, "--output", str(out))
    assert launcher.returncode == 0, said
    curves_match(one, out)
    sealed_dir.verify(out)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    ours = [line for line in said.splitlines() if line.strip()]
    assert [line.split(":")[0] for line in ours] == ["training", "step 4 of 8", "step 8 of 8", "Done"]


def test_a_launcher_whose_run_is_refused_ends_soon_and_with_our_code(words, two):
    start = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    launcher, said = launched(*start, "-m", "aigc_text", *words, "--output", str(two), limit=60)
    assert launcher.returncode == 1, "torchrun's own"
    assert said.count("holds a run already") == 1
    assert re.search(r"exitcode\s*: 2 ", said)


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_a_killed_run_goes_on_in_any_number_of_processes(team, words, one, two, tmp_path, before, after):
    out = tmp_path / "out"
    die = {"kill": {"all": str(out / "checkpoints" / "step-4")}}
    killed = team.command(before, *words, "--output", out, *(["--samples", 1] if before == after == 2 else []), **die)
    assert set(killed["codes"]) == {-9}
    assert not (out / "config.json").exists()
    done = team.command(after, *words, "--output", out, "--resume", *(["--samples", 1] if before == after == 2 else []))
    assert done["codes"] == [0] * after, done["err"]
    curves_match(one, out)
    if before == after:
        assert (out / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


# FSDP: each process holds a part of the model

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


@pytest.mark.parametrize("optimizer", ["muon", pytest.param("asgd", marks=pytest.mark.slow)])
def test_a_divided_model_has_the_curve_of_a_whole_one(team, words, tmp_path, optimizer):
    given = [*words, "--optimizer", optimizer, "--gradient-accumulation-steps", 2, "--max-steps", 4, "--eval-every", 2]
    assert team.command(1, *given, "--output", tmp_path / "one")["codes"] == [0]
    done = team.command(2, *given, "--output", tmp_path / "two", "--samples", 1, env=FSDP)
    assert done["codes"] == [0, 0], done["err"]
    curves_match(tmp_path / "one", tmp_path / "two", 4)
    two = load(str(tmp_path / "two")).model
    assert two.lm_head.weight is two.transformer.wte.weight
    assert (tmp_path / "one" / "config.json").read_text() == (tmp_path / "two" / "config.json").read_text()


def held(rank):
    """How much of a model each process holds during training, and what it has at the end."""
    model, parts = Net(dropout=0.0), []

    def evaluate(model):
        parts.append(sum(p.to_local().numel() for p in model.parameters()))
        return {"loss": 1.0}

    list(trainer.train(model, Mean(), points([4]), options(max_steps=1), evaluate=evaluate))
    return [parts, [p.device.type for p in model.parameters()], type(model).__name__]


def test_each_process_holds_a_half_and_the_main_one_the_whole_at_the_end(team):
    size = sum(p.numel() for p in Net().parameters())
    main, other = team.call(2, held, env=FSDP)
    assert main[0][0] + other[0][0] == size and other[0][0] < 0.6 * size
    assert main[1:] == [["cpu"] * 4, "Net"] and other[1:] == [["meta"] * 4, "Net"]


@pytest.mark.parametrize(("before", "after"), [(FSDP, {}), ({}, FSDP)], ids=["to whole", "to divided"])
def test_a_run_goes_on_divided_or_not(team, words, one, tmp_path, before, after):
    out = tmp_path / "out"
    killed = team.command(2, *words, "--output", out, env=before, kill={"all": str(out / "checkpoints" / "step-4")})
    assert set(killed["codes"]) == {-9}
    done = team.command(2, *words, "--output", out, "--resume", env=after)
    assert done["codes"] == [0, 0], done["err"]
    curves_match(one, out)


def test_an_adapter_is_all_that_its_checkpoints_hold(team, words, tmp_path):
    given = [*words, "--lora-rank", 2, "--merge", "--max-steps", 4]
    assert team.command(1, *given, "--output", tmp_path / "one")["codes"] == [0]
    for name, env in (("two", {}), ("divided", FSDP)):
        done = team.command(2, *given, "--output", tmp_path / name, env=env)
        assert done["codes"] == [0, 0], done["err"]
        curves_match(tmp_path / "one", tmp_path / name, 4)
        weights = load_file(tmp_path / name / "checkpoints" / "step-4" / "model.safetensors")
        assert weights and all("lora_" in tensor for tensor in weights)
        assert load(str(tmp_path / name)).adapter is not None
        assert load(str(tmp_path / name / "merged")).adapter is None


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({**FSDP, "FSDP_VERSION": "1"}, "only FSDP 2 is known"),
        ({**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, "cannot offload"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "configured for DeepSpeed"),
    ],
)
def test_other_ways_are_refused(team, words, tmp_path, env, says):
    fails(team.command(2, *words, "--output", tmp_path / "out", env=env), 2, says)


# What goes wrong


def test_a_taken_folder_is_refused_by_the_main_process(team, words, two):
    before = {p: p.stat().st_mtime_ns for p in two.rglob("*")}
    done = team.command(2, *words, "--output", two)
    fails(done, 2, "holds a run already")
    assert before == {p: p.stat().st_mtime_ns for p in two.rglob("*")}


def test_a_resumed_run_with_other_options_is_refused(team, words, two):
    fails(team.command(2, *words, "--samples", 2, "--output", two, "--resume"), 2, "was started with samples=1, not 2")


def test_an_error_of_all_is_said_once(team, words, tmp_path):
    done = team.command(2, *words, "--data", tmp_path / "none.txt", "--output", tmp_path / "out")
    fails(done, 2, "none.txt does not exist")


def test_fewer_rows_than_processes_are_refused(team, words, tmp_path):
    done = team.command(2, *words, "--batch-size", 1, "--output", tmp_path / "out")
    fails(done, 2, "batch_size=1 has no row for each of the 2 processes")


def test_a_loss_that_is_not_finite_ends_both(team, words, tmp_path):
    done = team.command(2, *words, "--learning-rate", 1e30, "--output", tmp_path / "out")
    fails(done, 2, "is not finite")


def test_an_error_of_one_process_names_it(team, words, tmp_path):
    done = team.command(2, *words, "--output", tmp_path / "out", more={"1": ["--data", "none.txt"]})
    assert done["codes"][1] == 2 and done["codes"][0] in (2, -15)
    assert done["err"][1].startswith("Error: process 1 of 2 on ") and "none.txt does not exist" in done["err"][1]
    assert "Traceback" not in "".join(done["err"]) and done["seconds"] < 20


@pytest.mark.parametrize(("option", "what"), [("--seed=1", "options"), ("--data={}", "data")])
def test_processes_that_were_started_with_other_things_are_told(team, words, tmp_path, option, what):
    (tmp_path / "other.txt").write_text("something else " * 300)
    more = {"1": [option.format(tmp_path / "other.txt")]}
    fails(team.command(2, *words, "--output", tmp_path / "out", more=more), 2, f"process 1 has other {what} than")


def test_a_killed_process_does_not_leave_the_other_waiting(team, words, tmp_path):
    out = tmp_path / "out"
    done = team.command(2, *words, "--output", out, kill={"1": str(out / "checkpoints" / "step-4")})
    assert done["codes"][1] == -9 and done["codes"][0] in (2, -15)
    assert done["seconds"] < 20
    assert "Traceback" not in done["err"][0]
