"""`--config`: a file of options, which the command line overrides, and which a run writes itself."""

import json

import pytest
import tiny

from aigc_text.utils import sealed_dir
from tests.runs.test_training_run import command


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    tiny.save("gpt2", tmp_path / "model")
    return tmp_path


CONFIG = """
model: model
data: data.txt
max-steps: 4
batch_size: 2
block_size: 16
eval_every: 2
precision: fp32
learning_rate: 1e-3
validation_split: 0.2
sample_prompts: [the, once]
samples: 1
packing: null
config:
  attn_pdrop: 0.1
"""


def test_a_file_holds_options_and_the_command_line_overrides_it(place):
    (place / "run.yaml").write_text(CONFIG)
    assert command("train", "--config", "run.yaml", "--output", "out", "--max-steps", 2) == 0
    used = json.loads((place / "out" / "options.json").read_text())
    assert (used["max_steps"], used["batch_size"], used["learning_rate"]) == (2, 2, 1e-3)
    assert used["sample_prompts"] == ["the", "once"] and used["packing"] is None
    assert used["config"] == {"attn_pdrop": "0.1"}
    assert json.loads((place / "out" / "config.json").read_text())["attn_pdrop"] == 0.1
    texts = [json.loads(line) for line in (place / "out" / "samples.jsonl").read_text().splitlines()]
    assert [(t["step"], t["prompt"]) for t in texts] == [(2, "the"), (2, "once")]


def test_one_pair_on_the_command_line_overrides_one_pair_of_the_file(place):
    (place / "run.yaml").write_text(CONFIG + "  resid_pdrop: 0.2\n")
    words = ["train", "--config", "run.yaml", "--output", "out", "-o", "attn-pdrop=0.3", "-o", "embd_pdrop=0.4"]
    assert command(*words) == 0
    found = json.loads((place / "out" / "config.json").read_text())
    assert [found[name] for name in ("attn_pdrop", "resid_pdrop", "embd_pdrop")] == [0.3, 0.2, 0.4]
    assert command(*words, "-o", "attn_pdrop=0.1") == 2  # twice on the command line


def test_a_run_can_be_done_again_from_its_own_record(place):
    (place / "run.yaml").write_text(CONFIG)
    assert command("train", "--config", "run.yaml", "--output", "one") == 0
    assert command("train", "--config", "one/options.json", "--output", "two") == 0
    assert (place / "one/options.json").read_text() == (place / "two/options.json").read_text()
    assert (place / "one/model.safetensors").read_bytes() == (place / "two/model.safetensors").read_bytes()


def test_so_can_one_from_scratch(place):
    sizes = ["-o", "n_layer=1", "-o", "n_embd=16", "-o", "n_head=2", "-o", "n_positions=32"]
    options = ["--max-steps", 2, "--batch-size", 2, "--precision", "fp32", "--tokenizer", "char"]
    assert command("train", "--from-scratch", *sizes, "--data", "data.txt", "--output", "one", *options) == 0
    assert command("train", "--config", "one/options.json", "--output", "two") == 0
    assert sealed_dir.fingerprint(place / "one") == sealed_dir.fingerprint(place / "two")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_stps: 3", "run.yaml: there is no option 'max_stps'. Did you mean 'max_steps'?"),
        ("data: x\nmax_steps: [", "run.yaml:2 is not valid YAML"),
        ("just words", "run.yaml holds no options"),
        ("max_steps: [1, 2]", "run.yaml: max_steps cannot be [1, 2]"),
        ("data: data.txt\nmax_steps: many", "max_steps cannot be 'many'"),
        ("data: data.txt\nseeds: 0", "'--seeds': 0 is not in the range"),
        ("!!python/object/apply:os.system ['touch canary']", "run.yaml:1 is not valid YAML"),
    ],
)
def test_a_wrong_file_is_one_line(place, capsys, text, message):
    (place / "run.yaml").write_text(text)
    assert command("train", "--config", "run.yaml", "--output", "out") == 2
    told = capsys.readouterr().err
    assert message in told and len(told.splitlines()) <= 3
    assert not (place / "canary").exists() and not (place / "out").exists()


def test_a_missing_file_is_named(place, capsys):
    assert command("train", "--config", "no.yaml", "--output", "out") == 2
    assert "no.yaml cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "learning_rate=1"], "-o learning_rate has an option of its own"),
        (["-o", "atn_pdrop=1"], "GPT2Config has no field 'atn_pdrop'. Did you mean 'attn_pdrop'?"),
        (["--merge"], "--merge without --lora-rank: it is for LoRA"),
        (["--tokenizer", "char"], "--tokenizer char without --from-scratch"),
        (["--from-scratch"], "--from-scratch and --model model contradict each other"),
        (["--group", "modl.momentum=1"], "there is no group 'modl'. Did you mean 'model'?"),
        (["--prompt-column", "q"], "prompt_column and completion_column go together"),
        (
            ["--early-stopping", "1", "--validation-split", "0"],
            "--validation-split 0.0 and --early-stopping 1 contradict each other",
        ),
    ],
)
def test_options_that_do_not_go_together(place, capsys, words, message):
    assert command("train", "--model", "model", "--data", "data.txt", "--output", "out", *words) == 2
    assert message in capsys.readouterr().err


OWN = """
from dataclasses import dataclass

from aigc_text.models.causal_lm import GPT2
from aigc_text.training.objective import Likelihood, Step
from aigc_text.options import TrainingOptions, option


@dataclass(frozen=True, kw_only=True)
class Training(TrainingOptions):
    loss_scale: float = option(1.0, "Multiplies the loss.", above=0)


class Scaled(GPT2):
    Training = Training

    def objective(self, options):
        class Objective(Likelihood):
            def steps(self, model, batch, step):
                yield Step("model", options.loss_scale * model(**batch).loss)

        return Objective()
"""


def test_training_options_of_a_backends_own(place, capsys):
    (place / "own.py").write_text(OWN)
    words = ["train", "--backend", "own.py:Scaled", "--model", "model", "--data", "data.txt", "--max-steps", 1]
    words += ["--batch-size", 2, "--block-size", 16, "--precision", "fp32"]
    losses = []
    for scale in (1, 3):
        assert command(*words, "--output", f"out{scale}", "-o", f"loss_scale={scale}") == 0
        losses.append(json.loads((place / f"out{scale}" / "metrics.jsonl").read_text())["loss"])
        assert json.loads((place / f"out{scale}" / "options.json").read_text())["config"] == {"loss_scale": scale}
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-5)
    assert command(*words, "--config", "out3/options.json", "--output", "again") == 0
    assert (place / "again" / "options.json").read_text() == (place / "out3" / "options.json").read_text()
    capsys.readouterr()
    assert command(*words, "--output", "out4", "-o", "loss_scale=0") == 2
    assert "loss_scale cannot be 0" in capsys.readouterr().err
    assert command("backends", "show", "own.py:Scaled") == 0
    assert "Training options of its own (-o name=value):\n  loss_scale: Multiplies" in capsys.readouterr().out


def test_a_vocabulary_is_learned_from_what_is_trained_on_alone(place):
    (place / "two.jsonl").write_text(json.dumps({"text": "a b " * 60}) + "\n" + json.dumps({"text": "b z " * 60}))
    words = ["--from-scratch", "--tokenizer", "word", "-o", "n_layer=1", "-o", "n_embd=8", "-o", "n_head=1"]
    words += ["--max-steps", 1, "--batch-size", 1, "--block-size", 8, "--precision", "fp32", "--eval-every", 1]
    assert command("train", "--data", "two.jsonl", "--validation-split", 0.5, "--output", "out", *words) == 0
    logs = json.loads((place / "out" / "metrics.jsonl").read_text())
    assert logs["eval_unknown"] == pytest.approx(0.5, abs=0.1)
