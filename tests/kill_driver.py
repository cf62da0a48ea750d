"""Trains in forked children that are killed, then resumed. Prints one line of JSON a case; see test_kill.py.

python kill_driver.py MODEL DATA SCRATCH MOMENTS INSIDE
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
import matplotlib.pyplot  # noqa: F401
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel  # noqa: F401

import aigc_text.engines.torch  # noqa: F401
from aigc_text import checkpoint, load, plots, train, trainer, transformers_backend  # noqa: F401

MODEL, DATA, SCRATCH = sys.argv[1], sys.argv[2], Path(sys.argv[3])
MOMENTS, INSIDE = int(sys.argv[4]), int(sys.argv[5])
OPTIONS = {"max_steps": 14, "batch_size": 4, "block_size": 16, "save_every": 2, "eval_every": 5, "precision": "fp32"}
torch.set_num_threads(1)  # forked children must not inherit a pool of threads


def dying(original, calls, at):
    """The function, but the `at`-th call to any of those that share `calls` kills the process."""

    def call(*args):
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    return call


def child(out, resume, die_at=None):
    """Forks a run; `die_at` kills it at the n-th flush or rename, which is inside a save."""
    pid = os.fork()
    if pid:
        return pid
    if die_at is not None:
        calls = itertools.count(1)
        for home, name in ((checkpoint, "flush"), (checkpoint.os, "rename")):
            setattr(home, name, dying(getattr(home, name), calls, die_at))
    code = 1
    try:
        list(train(load("gpt2", MODEL), DATA, out, resume=resume, **OPTIONS))
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def wait(pid):
    return os.waitpid(pid, 0)[1]


def await_updates(out, count):
    """Waits until a run has written so many updates down."""
    metrics = out / "metrics.jsonl"
    while count and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= count):
        time.sleep(0.001)


def digest(out):
    """The bytes of everything that the run leaves, but for the picture."""
    files = sorted(f for f in out.rglob("*") if f.is_file() and f.name not in (".lock", "curves.png"))
    return {f.relative_to(out).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


started = time.perf_counter()
assert wait(child(SCRATCH / "unbroken", False)) == 0
length = time.perf_counter() - started
expected = digest(SCRATCH / "unbroken")
draw = random.Random(0)
for case in range(MOMENTS):
    out = SCRATCH / f"run-{case}"
    inside = case < INSIDE
    pid = child(out, False, die_at=draw.randrange(1, 40) if inside else None)
    if not inside:
        await_updates(
            out, draw.randrange(OPTIONS["max_steps"] - 1)
        )  # not a time: a busy machine changes how long it takes
        time.sleep(draw.uniform(0, 1) * length / OPTIONS["max_steps"])
        os.kill(pid, signal.SIGKILL)
    killed = os.WIFSIGNALED(wait(pid))
    steps = [p.name for p in checkpoint.steps(out / "checkpoints")] if (out / "checkpoints").exists() else []
    for step in steps:
        checkpoint.verify(out / "checkpoints" / step)
    resumed = wait(child(out, True))
    different = sorted(k for k in {*expected, *digest(out)} if expected.get(k) != digest(out).get(k))
    print(json.dumps({"killed": killed, "inside": inside, "steps": steps, "code": resumed, "different": different}))
