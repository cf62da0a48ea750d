"""Faults in training: not a number, no memory, no room, two runs in one folder; and the order of system calls."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from faults_driver import OPTIONS, OWN, SIZES

from aigc_text import from_scratch, train
from aigc_text.errors import TrainingError
from aigc_text.runs import training_run
from aigc_text.training import checkpoint_folders
from aigc_text.training.step import HALVINGS
from aigc_text.utils import sealed_dir

BACKENDS = ("gpt2", "rnn", "vae", "gan")
ALL = bool(os.environ.get("AIGC_TEXT_CASES"))  # as `scripts/tools/torture` runs them; else a few of each
FULL_DISKS = [round(512 * 1.36**n) for n in range(20)]  # bytes, up to the size of the largest file of a checkpoint


@pytest.fixture
def started(tmp_path):
    """`started(backend, …)` begins a small run in `tmp_path / "out"`: its reports, to be taken one by one."""
    data = tmp_path / "data.txt"
    data.write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")

    def begin(backend, resume=False, **options):
        made = from_scratch(backend, tiny.SENTENCES, tokenizer=tiny.tokenizer(), **SIZES[backend])
        chosen = training_run.options_for(made, None, {**OPTIONS, **OWN.get(backend, {}), **options})
        return made, train(made, data, tmp_path / "out", resume=resume, options=chosen)

    return begin


def weights(made):
    return {n: p.detach().clone() for n, p in made.model.named_parameters()}


# Not a number


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_finite_stops_before_the_update(started, tmp_path, backend, monkeypatch):
    for step in range(1, 21 if ALL else 4):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        made, reports = started(backend, max_steps=24, eval_every=5, save_every=1)
        reports = (r for r in reports if r.logs and any(not k.startswith("eval_") for k in r.logs))
        for _ in range(step - 1):
            next(reports)
        before = weights(made)
        poison(made, monkeypatch)
        with pytest.raises(
            TrainingError, match=rf"step {step}: .* is not finite; the weights were not updated. Its data: batch {step}"
        ):
            list(reports)
        monkeypatch.undo()
        # Of a step with two groups the discriminator was updated before.
        own = {n: p for n, p in made.model.named_parameters() if not n.startswith("discriminator")}
        assert all(torch.equal(p, before[n]) for n, p in own.items())
        saved = checkpoint_folders.steps(tmp_path / "out" / "checkpoints") if step > 1 else []
        assert {int(p.name.removeprefix("step-")) for p in saved} <= set(range(step))
        for folder in saved:
            sealed_dir.verify(folder)
            assert all(t.isfinite().all() for t in tensors(folder))


def poison(made, monkeypatch):
    """The first parameter's gradient is not a number from here on."""
    parameter = next(p for p in made.model.parameters() if p.requires_grad)
    handle = parameter.register_hook(lambda grad: torch.full_like(grad, float("nan")))
    monkeypatch.setattr(made, "_poisoned", handle, raising=False)


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors").values()


def test_the_batch_that_is_to_blame_is_named(started, monkeypatch):
    from aigc_text.training.objective import Likelihood

    made, reports = started("gpt2", gradient_accumulation_steps=2, batch_size=2)
    original, calls = Likelihood.steps, []

    def spoilt(self, model, batch, step):
        calls.append(step)
        for found in original(self, model, batch, step):
            found.loss = found.loss * (float("nan") if len(calls) == 6 else 1.0)  # second batch, third update
            yield found

    monkeypatch.setattr(Likelihood, "steps", spoilt)
    with pytest.raises(TrainingError) as error:
        list(reports)
    said = re.search(r"step 3: .* Its data: batch 6 of pass 1: (.*) of the data", str(error.value))
    assert said, error.value
    assert re.fullmatch(r"rows that begin at tokens \d+, \d+|rows \d+, \d+", said[1])


def test_weights_that_an_update_has_spoilt_are_not_saved(started, tmp_path):
    made, reports = started("gpt2", save_every=1)
    next(r for r in reports if r.logs)
    with torch.no_grad():
        next(made.model.parameters())[0, 0] = float("inf")
    with pytest.raises(TrainingError, match="not finite"):
        list(reports)
    for folder in checkpoint_folders.steps(tmp_path / "out" / "checkpoints"):
        assert all(t.isfinite().all() for t in tensors(folder))


# No memory


def starve(monkeypatch, most, at=None):
    """Calls of the objective with more rows than `most` find no memory; with `at` only in that update."""
    from aigc_text.models.gan import objective as gan_objective
    from aigc_text.models.rnn import objective as rnn_objective
    from aigc_text.models.vae import objective as vae_objective
    from aigc_text.training.objective import Likelihood

    for cls in (Likelihood, rnn_objective.RecurrentLikelihood, vae_objective.ELBO, gan_objective.Adversarial):
        original = cls.steps

        def steps(self, model, batch, step, original=original):
            rows = len(next(iter(batch.values())))
            if rows > most and (at is None or step == at):
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
                )
            yield from original(self, model, batch, step)

        monkeypatch.setattr(cls, "steps", steps)


def losses(reports):
    return [v for r in reports for k, v in r.logs.items() if k.endswith("loss") and not k.startswith("eval_")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_without_memory_is_halved(started, tmp_path, backend, monkeypatch):
    _, reports = started(backend, max_steps=6, sample_by="line", packing=False)
    plain = losses(reports)
    shutil.rmtree(tmp_path / "out")
    starve(monkeypatch, most=1)
    _, reports = started(backend, max_steps=6, sample_by="line", packing=False)
    found = list(reports)
    said = " ".join(r.message for r in found)
    assert "batches are computed in 2 parts" in said and "in 4 parts" in said  # four rows
    if backend != "vae":  # whose noise is drawn for other rows at once
        assert losses(found) == pytest.approx(plain, abs=0.05)
    state = json.loads((tmp_path / "out" / "checkpoints" / "step-6" / "trainer.json").read_text())
    assert state["halvings"] == 2


def test_a_run_without_memory_goes_on_as_it_was(started, tmp_path, monkeypatch):
    starve(monkeypatch, most=2, at=3)
    _, reports = started("gpt2", max_steps=8, save_every=4)
    list(reports)
    whole = (tmp_path / "out" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "out")
    _, reports = started("gpt2", max_steps=8, save_every=4)
    for report in reports:
        if report.step == 5:
            break
    reports.close()
    _, reports = started("gpt2", resume=True, max_steps=8, save_every=4)
    list(reports)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == whole


def test_it_is_halved_five_times_at_most(started, monkeypatch):
    starve(monkeypatch, most=0)
    _, reports = started("gpt2", batch_size=2 ** (HALVINGS + 1), block_size=16)
    with pytest.raises(TrainingError, match="out of memory with batch_size=64") as error:
        list(reports)
    assert "Halve --batch-size" in error.value.cure


def test_where_not_even_a_row_fits_the_batch_size_does_not_help(started, tmp_path, monkeypatch):
    for size in (1, 4):
        starve(monkeypatch, most=0)
        _, reports = started("gpt2", batch_size=size)
        with pytest.raises(TrainingError, match=f"out of memory with batch_size={size}") as error:
            list(reports)
        assert "lower --block-size" in error.value.cure and "--batch-size" not in error.value.cure
        assert not (tmp_path / "out").exists()
        monkeypatch.undo()
    _, reports = started("gpt2", max_steps=1)  # in the same folder
    list(reports)


def test_a_validation_without_memory_is_the_users_error(started, monkeypatch):
    def fail(self, model):
        raise MemoryError

    monkeypatch.setattr("aigc_text.training.validation.Validation.__call__", fail)
    _, reports = started("gpt2")
    with pytest.raises(TrainingError, match="out of memory in the validation of step 5"):
        list(reports)


def test_a_carried_state_cannot_be_divided(started, monkeypatch):
    starve(monkeypatch, most=2)
    _, reports = started("rnn", sample_by="document")
    with pytest.raises(TrainingError, match="out of memory"):
        list(reports)


# No room on the disk


@pytest.fixture
def limited():
    """`limited(bytes)`: no file can be larger; writing more is an error, as on a full disk, and not a signal."""
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def files(folder):
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("size", FULL_DISKS if ALL else FULL_DISKS[1::4])
def test_a_full_disk_while_saving(started, tmp_path, limited, size):
    out = tmp_path / "out"
    made, reports = started("gpt2", save_every=2)
    for report in reports:
        if report.step == 3:
            break
    before = files(out / "checkpoints")
    limited(size)
    with pytest.raises(TrainingError) as error:
        list(reports)
    assert re.search(r"cannot be written: .*; [\d.,]+ MB are free", error.value.message), error.value
    assert str(out) in error.value.message and "--resume" in error.value.cure
    limited(resource.RLIM_INFINITY)
    assert files(out / "checkpoints") == before
    sealed_dir.verify(out / "checkpoints" / "step-2")
    _, reports = started("gpt2", resume=True, save_every=2)
    assert list(reports)[-1].step == OPTIONS["max_steps"]
    sealed_dir.verify(out)


def test_what_is_needed_is_said_before_anything_is_written(started, tmp_path, monkeypatch):
    _, reports = started("gpt2", save_every=2)
    next(r for r in reports if r.logs)
    monkeypatch.setattr(sealed_dir.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(
        TrainingError, match=r"step-2 cannot be written: No space left on device; 0.0 MB are free, 0.\d MB are needed"
    ):
        list(reports)
    assert not files(tmp_path / "out" / "checkpoints")


@pytest.mark.parametrize("size", [100, 1000, 20_000] if ALL else [1000])
def test_a_full_disk_while_texts_are_written(tmp_path, limited, run_limited, size):
    out = tmp_path / "texts"
    done = run_limited(size, "generate", "--backend", "rnn", "--prompt", "", "-n", 1000, "--seed", 1, "--output", out)
    assert done.returncode == 2, done.stderr
    assert re.search(r"^Error: .*texts.partial cannot be written: File too large", done.stderr, re.M), done.stderr
    assert "Traceback" not in done.stderr and not out.exists()


@pytest.fixture
def run_limited():
    def ran(size, *words):
        def limit():
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        command = [sys.executable, "-m", "aigc_text", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)

    return ran


# Two runs, one folder


STARTER = """
import json, os, sys, time
from click.testing import CliRunner
from aigc_text import cli
def main(go, out, words):
    while not os.path.exists(go):
        time.sleep(0.001)
    sys.argv = ["aigc-text", *words]
    try:
        cli.main()
    except SystemExit as end:
        print(json.dumps([end.code, "torch" in sys.modules]), flush=True)
main(sys.argv[1], sys.argv[2], sys.argv[3:])
"""


def test_of_many_runs_in_one_folder_one_wins(tmp_path):
    data, out, go = tmp_path / "data.txt", tmp_path / "out", tmp_path / "go"
    data.write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    model = tiny.save("gpt2", tmp_path / "model")
    words = ["train", "--model", str(model), "--data", str(data), "--output", str(out), "--max-steps", "3"]
    words += ["--batch-size", "2", "--block-size", "16", "--precision", "fp32"]
    starts = 50 if ALL else 3
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(go), str(out), *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(starts)
    ]  # fmt: skip
    go.touch()
    found = [p.communicate(timeout=600) for p in processes]
    ends = [json.loads(out.splitlines()[-1]) for out, _ in found]
    assert [code for code, _ in ends].count(0) == 1
    assert [e for e in ends if e[0] != 0] == [[2, False]] * (starts - 1)  # and they had not imported torch
    for (code, _), (_, err) in zip(ends, found, strict=True):
        assert code == 0 or (err.startswith("Error: ") and len(err.splitlines()) <= 3), err
    sealed_dir.verify(out)


# Flushed before it is renamed, as the system sees it


def test_files_are_flushed_before_the_rename(tmp_path):
    strace = shutil.which("strace")
    if strace is None and not os.environ.get("CI"):
        pytest.skip("strace is not installed")
    assert strace, "CI needs strace"
    script = tmp_path / "save.py"
    script.write_text(
        "import pathlib, sys\nfrom aigc_text.utils import sealed_dir\n"
        "def write(folder):\n"
        "    (folder / 'a.bin').write_bytes(b'a' * 100_000)\n"
        "    (folder / 'b.bin').write_bytes(b'b')\n"
        "sealed_dir.save(pathlib.Path(sys.argv[1]), write)\n"
    )
    log = tmp_path / "log"
    calls = "trace=openat,fsync,fdatasync,rename,renameat,renameat2,write"
    target = tmp_path / "saved" / "step-1"
    subprocess.run([strace, "-f", "-y", "-e", calls, "-o", log, sys.executable, script, target], check=True)
    lines = log.read_text().splitlines()
    temporary = str(target.parent / ".step-1.tmp")
    [renamed] = [n for n, line in enumerate(lines) if "rename" in line and f'"{target}"' in line]
    parent = [n for n, line in enumerate(lines) if "fsync" in line and f"<{target.parent}>" in line]
    for name in ("a.bin", "b.bin", "manifest.json"):
        file = re.escape(f"<{temporary}/{name}>")
        written = [n for n, line in enumerate(lines) if re.search(rf"\bwrite\(\d+{file}", line)]
        flushed = [n for n, line in enumerate(lines) if re.search(rf"f(data)?sync\(\d+{file}", line)]
        assert written and flushed and max(written) < flushed[-1] < renamed
    assert any("fsync" in line and f"<{temporary}>" in line for line in lines[:renamed])
    assert parent and parent[-1] > renamed  # the folder that holds it, so that the new name is on disk as well
    assert Path(target, "a.bin").stat().st_size == 100_000
