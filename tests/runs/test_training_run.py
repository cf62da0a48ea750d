"""A run from data to a folder that can be loaded, through Python and the command line."""

import json
import math
import statistics
import subprocess
import sys

import pytest
import tiny
import torch

from aigc_text import load, train
from aigc_text.api import from_scratch
from aigc_text.cli import main
from aigc_text.errors import (
    BackendError,
    DamagedError,
    DataError,
    GenerationError,
    ModelError,
    OptionError,
    TrainingError,
)
from aigc_text.options.training import TrainingOptions
from aigc_text.plots import training_curves
from aigc_text.runs.run_data import hold_out
from aigc_text.runs.run_dir import delivered_figures
from aigc_text.runs.seeds import train_seeds
from aigc_text.utils import sealed_dir
from aigc_text.utils.lock import FolderLock

SMALL = {"batch_size": 4, "block_size": 16, "precision": "fp32", "eval_every": 4, "learning_rate": 1e-3}
QUICK = {"eval_every": 50, "learning_rate": 1e-2}  # learns in 100 updates, and each best checkpoint takes its time


def command(*words):
    """Runs the command line in this process; its exit code."""
    sys.argv = ["aigc-text", *map(str, words)]
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.usefixtures("drawn")
def test_a_run_leaves_a_model_its_figures_and_a_picture(tmp_path, data, model):
    out = tmp_path / "out"
    reports = list(train(load("gpt2", model), data, out, max_steps=8, **SMALL))
    assert [r.step for r in reports] == list(range(1, 9))
    assert {"config.json", "manifest.json", "metrics.jsonl", "curves.png", "README.md", "options.json"} <= {
        p.name for p in out.iterdir()
    }
    sealed_dir.verify(out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[7]["eval_bits_per_byte"] < lines[3]["eval_bits_per_byte"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    trained = load(str(out))
    assert trained.name == "gpt2"
    assert len(list(trained.generate(["the cat"], max_new_tokens=5, seed=1))) == 1


def test_fine_tuning_learns_the_text(tmp_path, data, model):
    reports = list(train(load("gpt2", model), data, tmp_path / "out", max_steps=150, **{**SMALL, **QUICK}))
    assert reports[-1].logs["loss"] < 0.5 * reports[0].logs["loss"]


def test_a_damaged_model_is_not_loaded(tmp_path, data, model):
    out = tmp_path / "out"
    list(train(load("gpt2", model), data, out, max_steps=2, **SMALL))
    path = out / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match=r"model\.safetensors is damaged"):
        load(str(out))


def test_an_unfinished_run_says_how_to_go_on(tmp_path, data, model):
    out = tmp_path / "out"
    run = train(load("gpt2", model), data, out, max_steps=4, save_every=1, **SMALL)
    next(run), next(run)
    run.close()
    with pytest.raises(ModelError, match="--resume"):
        load(str(out))


def test_a_run_is_not_overwritten_and_resumes_only_as_it_was(tmp_path, data, model):
    out = tmp_path / "out"
    list(train(load("gpt2", model), data, out, max_steps=2, **SMALL))
    with pytest.raises(TrainingError, match="holds a run already"):
        list(train(load("gpt2", model), data, out, max_steps=2, **SMALL))
    with pytest.raises(TrainingError, match="started with max_steps=2, not 3"):
        list(train(load("gpt2", model), data, out, max_steps=3, resume=True, **SMALL))


def test_a_folder_of_a_run_that_never_began_stays_free(tmp_path, model):
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    with pytest.raises(DataError, match="fewer than one block"):
        list(train(load("gpt2", model), tmp_path / "short.txt", tmp_path / "out", max_steps=2, **SMALL))
    (tmp_path / "long.txt").write_text("long enough " * 300, encoding="utf-8")
    list(train(load("gpt2", model), tmp_path / "long.txt", tmp_path / "out", max_steps=2, **SMALL))


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("own", [(), ("notes.txt",)])
def test_a_run_that_ends_before_its_first_update_leaves_the_folder_as_it_was(tmp_path, data, model, resume, own):
    out = tmp_path / "out"
    for name in own:
        out.mkdir()
        (out / name).write_text("mine")
    with pytest.raises(OptionError, match="no group 'modle'"):
        list(train(load("gpt2", model), data, out, resume=resume, group=("modle.learning_rate=1",), **SMALL))
    assert {p.name for p in out.glob("*")} - {".lock"} == set(own) and out.exists() == bool(own)


def test_the_figures_of_a_run_that_fails_later_stay(tmp_path, data, model):
    out = tmp_path / "out"
    with pytest.raises(OptionError, match="best 'nothing'"):
        list(train(load("gpt2", model), data, out, best="nothing", **SMALL))
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3 and (out / "options.json").exists()


@pytest.mark.usefixtures("drawn")
def test_a_message_breaks_no_line_of_figures(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    line = {"step": 1, "loss": 2.0, "message": "a\u2028b\x85c"}
    metrics.write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert delivered_figures(metrics, TrainingOptions()) == {"step": 1, "loss": 2.0}
    training_curves.curves(metrics, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_a_block_longer_than_the_context_is_refused(tmp_path, data, model):
    with pytest.raises(OptionError, match="more than the model's context of 64"):
        list(train(load("gpt2", model), data, tmp_path / "out", max_steps=2, **{**SMALL, "block_size": 65}))


def test_hold_out_takes_the_end():
    assert hold_out(["a", "b", "c", "d"], 0.25) == (["a", "b", "c"], ["d"])
    assert hold_out(["abcdefghij"], 0.2) == (["abcdefgh"], ["ij"])
    assert hold_out(["a", "b"], 0.0) == (["a", "b"], [])


def test_from_scratch_reads_the_configuration_and_is_seeded(data):
    one, two, other = (
        from_scratch("gpt2", tiny.SENTENCES, vocab_size=300, seed=s, n_layer="1", n_embd="16", n_head="2")
        for s in (1, 1, 2)
    )
    assert one.model.config.n_layer == 1
    first = [next(b.model.parameters()) for b in (one, two, other)]
    assert first[0].equal(first[1]) and not first[0].equal(first[2])
    with pytest.raises(OptionError, match="n_layers.*Did you mean 'n_layer'"):
        from_scratch("gpt2", tiny.SENTENCES, n_layers=1)
    with pytest.raises(OptionError, match="no such GPT2LMHeadModel"):
        from_scratch("gpt2", tiny.SENTENCES, n_embd=30, n_head=4)


def test_the_command_line_trains_from_scratch_and_generates(tmp_path, data, capsys):
    out = tmp_path / "out"
    sizes = ["-o", "n_layer=1", "-o", "n_embd=16", "-o", "n_head=2", "-o", "n_positions=32", "--vocab-size", 300]
    options = ["--max-steps", 4, "--batch-size", 2, "--eval-every", 2, "--precision", "fp32"]
    assert command("train", "--from-scratch", *sizes, "--data", data, "--output", out, *options) == 0
    told = capsys.readouterr()
    assert told.out == "" and "step 4 of 4" in told.err
    assert command("generate", "--model", out, "--prompt", "the", "--max-new-tokens", 4, "--format", "jsonl") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["backend"] == "gpt2" and record["tokens"] <= 4
    assert command("train", "--from-scratch", *sizes, "--data", data, "--output", out, *options, "--resume") == 0


def test_a_second_run_is_refused_before_torch_is_imported(tmp_path, data):
    lock = FolderLock(tmp_path / "out")
    code = (
        "import sys; from aigc_text.cli import main\n"
        f"sys.argv = ['aigc-text', 'train', '--data', {str(data)!r}, '--output', {str(tmp_path / 'out')!r}]\n"
        "try: main()\n"
        "except SystemExit as e: print(e.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lock.__exit__()
    assert done.stdout.split() == ["2", "False"]
    assert "another run is writing" in done.stderr and "Traceback" not in done.stderr


def test_a_backend_that_cannot_train_says_so(tmp_path, data):
    from tests.backends.test_backends import Careless

    with pytest.raises(BackendError, match="cannot be trained"):
        list(train(Careless(), data, tmp_path / "out", max_steps=1))


def test_seeds_are_runs_of_their_own_with_a_mean_and_a_deviation(tmp_path, data):
    def make(seed):
        return from_scratch("gpt2", tiny.SENTENCES, seed=seed, n_layer=1, n_embd=16, n_head=2, n_positions=32)

    out = tmp_path / "out"
    reports = list(train_seeds(make, data, out, 3, max_steps=4, seed=5, **SMALL))
    assert [r.step for r in reports] == [*range(1, 13), 12] and reports[0].total == 12
    summary = json.loads((out / "seeds.json").read_text())
    finals = [json.loads((out / f"seed-{s}" / "metrics.jsonl").read_text().splitlines()[-1]) for s in (5, 6, 7)]
    losses = [f["eval_loss"] for f in finals]
    assert len(set(losses)) == 3
    assert summary["eval_loss"]["values"] == losses
    assert summary["eval_loss"]["mean"] == pytest.approx(sum(losses) / 3)
    assert summary["eval_loss"]["sd"] == pytest.approx(statistics.stdev(losses))
    assert "3 seeds" in reports[-1].message and (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    alone = tmp_path / "alone"
    list(train(make(6), data, alone, max_steps=4, seed=6, **SMALL))
    assert (alone / "model.safetensors").read_bytes() == (out / "seed-6" / "model.safetensors").read_bytes()


def test_epochs_are_turned_into_updates(tmp_path, data, model):
    backend = load("gpt2", model)
    one_pass = len(backend.batches(hold_out([data.read_text(encoding="utf-8")], 0.05)[0], backend.Training(**SMALL)))
    reports = list(train(backend, data, tmp_path / "out", epochs=0.5, gradient_accumulation_steps=2, **SMALL))
    assert reports[-1].step == reports[-1].total == math.ceil(one_pass / 4)


def test_early_stopping_delivers_the_best_and_its_figures(tmp_path, data, model):
    other = tmp_path / "other.txt"
    other.write_text("zebra quilt fox jumps vexed wizards " * 40, encoding="utf-8")  # gets worse while training
    out = tmp_path / "out"
    options = {**SMALL, "learning_rate": 3e-2, "eval_every": 2}
    reports = list(train(load("gpt2", model), data, out, validation=other, max_steps=60, early_stopping=2, **options))
    assert "stopped: eval_loss has not improved" in reports[-2].message
    best = min(r.logs["eval_loss"] for r in reports if "eval_loss" in r.logs)
    assert f"| eval_loss | {best:.4g} |" in (out / "README.md").read_text()
    backend = load(str(out))
    evaluate = backend.validator([other.read_text()], backend.Training(**options))
    with torch.no_grad():
        assert evaluate(backend.model)["loss"] == pytest.approx(best, rel=1e-5)


def test_samples_show_how_the_text_changes_and_change_nothing(tmp_path, data, model):
    for name, more in (("without", {}), ("with", {"samples": 2, "sample_prompts": ("the cat", "a dog")})):
        list(train(load("gpt2", model), data, tmp_path / name, max_steps=8, **SMALL, **more))
    texts = [json.loads(line) for line in (tmp_path / "with" / "samples.jsonl").read_text().splitlines()]
    assert [t["step"] for t in texts] == [4] * 4 + [8] * 4
    assert [(t["prompt"], t["index"]) for t in texts[:4]] == [
        ("the cat", 0),
        ("the cat", 1),
        ("a dog", 0),
        ("a dog", 1),
    ]
    assert all(t["text"] for t in texts)
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("without", "with"))
    assert one == two


def test_a_sample_that_cannot_be_made_is_refused_before_the_training(tmp_path, data, model):
    more = {"samples": 1, "sample_prompts": ("the cat " * 100,)}
    with pytest.raises(OptionError, match="--sample-prompts: prompt 1 has .* tokens, the context is 64"):
        list(train(load("gpt2", model), data, tmp_path / "out", max_steps=8, **SMALL, **more))
    assert not (tmp_path / "out").exists()


def test_a_training_outlives_its_samples(tmp_path, data, model, monkeypatch):
    def fails(*_, **__):
        raise GenerationError("out of memory with a text of up to 64 tokens", "")

    backend = load("gpt2", model)
    monkeypatch.setattr(type(backend), "generate", fails)
    reports = list(train(backend, data, tmp_path / "out", max_steps=4, samples=1, **SMALL))
    assert "no samples: out of memory" in reports[-1].message and reports[-1].step == 4
    sealed_dir.verify(tmp_path / "out")


def test_a_failed_start_leaves_nothing(tmp_path, data):
    assert command("train", "--backend", "nobody", "--data", data, "--output", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_streamed_data_resumes_where_it_was(tmp_path, data, model):
    words = {**SMALL, "streaming": True, "sample_by": "line", "validation_split": 0.2, "max_steps": 6, "save_every": 1}
    list(train(load("gpt2", model), data, tmp_path / "whole", **words))
    run = train(load("gpt2", model), data, tmp_path / "broken", **words)
    next(run), next(run), next(run)
    run.close()
    list(train(load("gpt2", model), data, tmp_path / "broken", resume=True, **words))
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("whole", "broken"))
    assert one == two
    assert "eval_loss" in (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_streamed_data_has_no_epochs(tmp_path, data, model):
    with pytest.raises(OptionError, match="--streaming and --epochs 1 contradict each other"):
        list(train(load("gpt2", model), data, tmp_path / "out", streaming=True, sample_by="line", epochs=1, **SMALL))


def test_pairs_are_learned_and_what_was_cut_is_said(tmp_path, model):
    rows = [{"q": f"what is {n}", "a": f" it is {'very ' * (n == 7) * 40}{n}"} for n in range(40)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    words = {**SMALL, **QUICK, "prompt_column": "q", "completion_column": "a", "block_size": 32}
    reports = list(train(load("gpt2", model), data, tmp_path / "out", epochs=12, **words))
    told = [r.message for r in reports if r.message]
    assert any("1 of 38" in m or "completion" in m for m in told), told
    assert reports[-1].logs["loss"] < 0.5 * reports[0].logs["loss"]
