"""Trains in forked children that are killed or interrupted, then resumed. Prints one line of JSON a case.

python faults_driver.py kill|interrupt BACKEND SCRATCH CASES INSIDE

Of the cases of `kill`, INSIDE are killed inside a save, at a flush or a rename; the others at random moments.
"""

import hashlib
import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

# Imported before the forks, so that a child's time is training and not importing.
import accelerate.state  # noqa: F401, I001
import tiny
import torch
from forked import dying, wait

import aigc_text.generation.engines.torch_engine  # noqa: F401
from aigc_text import from_scratch, train
from aigc_text.plots import training_curves
from aigc_text.runs import training_run  # noqa: F401
from aigc_text.training import checkpoint_folders, interrupts
from aigc_text.utils import sealed_dir

SIZES = {
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64},
    "rnn": {"embedding_size": 24, "hidden_size": 32},
    "vae": {"embedding_size": 24, "hidden_size": 32, "encoder_size": 16, "latent_size": 8},
    "gan": {"embedding_size": 16, "hidden_size": 24, "representations": 4, "discriminator_size": 8, "filters": 6},
}
OPTIONS = {
    "max_steps": 14, "batch_size": 4, "block_size": 16, "save_every": 2, "eval_every": 5, "precision": "fp32",
    "sample_by": "line",
}  # fmt: skip
OWN = {"gan": {"likelihood_steps": 5, "watch_samples": 6}}

if __name__ == "__main__":
    WHAT, BACKEND, SCRATCH = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    CASES, INSIDE = int(sys.argv[4]), int(sys.argv[5])
    DATA = SCRATCH / "data.txt"
    training_curves.curves = lambda metrics, picture: picture.touch()  # drawing takes longer than the run
    torch.set_num_threads(1)  # forked children must not inherit a pool of threads


def child(out, resume, die_at=None):
    """Forks a run; `die_at` kills it at the n-th flush or rename, which is inside a save."""
    pid = os.fork()
    if pid:
        return pid
    if die_at is not None:
        calls = itertools.count(1)
        for home, name in ((sealed_dir, "flush"), (sealed_dir.os, "rename")):
            setattr(home, name, dying(getattr(home, name), calls, die_at))
    code = 1
    try:
        with interrupts.postponed():
            made = from_scratch(BACKEND, tiny.SENTENCES * 30, tokenizer=tiny.tokenizer(), **SIZES[BACKEND])
            options = training_run.options_for(made, None, {**OPTIONS, **OWN.get(BACKEND, {})})
            list(train(made, DATA, out, resume=resume, options=options))
        code = 0
    except KeyboardInterrupt:
        code = 130
    except interrupts.Terminated:
        code = 143
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def await_updates(out, count):
    """Waits until a run has written so many updates down: a busy machine changes how long that takes."""
    metrics = out / "metrics.jsonl"
    while count and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= count):
        time.sleep(0.001)


def digest(out):
    """The bytes of everything that the run leaves, but for the picture.

    An interrupt leaves a checkpoint that the unbroken run has not; then the last one counts alone.
    """
    files = sorted(f for f in out.rglob("*") if f.is_file() and f.name not in (".lock", "curves.png"))
    if WHAT == "interrupt":
        last = f"step-{OPTIONS['max_steps']}"
        files = [f for f in files if "checkpoints" not in f.parts or last in f.parts]
    return {f.relative_to(out).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def whole_steps(out):
    """The checkpoints of a run, each of which must be whole."""
    steps = checkpoint_folders.steps(out / "checkpoints") if (out / "checkpoints").exists() else []
    for step in steps:
        sealed_dir.verify(step)
    return [p.name for p in steps]


def saved_updates(out):
    steps = [int(name.removeprefix("step-")) for name in whole_steps(out)]
    return max(steps, default=0)


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    DATA.write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    started = time.perf_counter()
    assert wait(child(SCRATCH / "unbroken", False)) == 0
    update = (time.perf_counter() - started) / OPTIONS["max_steps"]
    expected = digest(SCRATCH / "unbroken")
    draw = random.Random(BACKEND)
    for case in range(CASES):
        out = SCRATCH / f"run-{case}"
        inside = case < INSIDE
        pid = child(out, False, die_at=draw.randrange(1, 40) if inside else None)
        found = {"inside": inside}
        if not inside:
            await_updates(out, draw.randrange(OPTIONS["max_steps"] - 1))
            time.sleep(draw.uniform(0, 1) * update)
            number = signal.SIGKILL if WHAT == "kill" else draw.choice([signal.SIGINT, signal.SIGTERM])
            before = (out / "metrics.jsonl").read_bytes().count(b"\n") if (out / "metrics.jsonl").exists() else 0
            sent = time.perf_counter()
            os.kill(pid, number)
            found |= {"signal": int(number), "before": before}
        status = wait(pid)
        if not inside:
            found["seconds"] = time.perf_counter() - sent
        found |= {"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}
        found |= {"steps": whole_steps(out), "saved": saved_updates(out)}
        found["resumed"] = os.waitstatus_to_exitcode(wait(child(out, True)))
        after = digest(out)
        found["different"] = sorted(k for k in {*expected, *after} if expected.get(k) != after.get(k))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
