"""Makes files of records in forked children that are killed, then resumed. One line of JSON a case; see tests/jobs.

python jobs_driver.py MODEL PROMPTS SCRATCH MOMENTS
"""

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

# Imported before the forks, so that a child's time is generating and not importing.
import torch
from forked import dying, wait
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel  # noqa: F401

import aigc_text.generation.engines.torch_engine  # noqa: F401
from aigc_text import cli
from aigc_text.backends.hf import backend as transformers_backend  # noqa: F401
from aigc_text.cli import generate  # noqa: F401

MODEL, PROMPTS, SCRATCH, MOMENTS = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
WORDS = ["generate", "--model", MODEL, "--prompts", PROMPTS, "--format", "jsonl", "-n", "2", "--seed", "5"]
WORDS += ["--max-new-tokens", "8", "--batch-size", "7"]
RESUMES = 3  # after the kill: each but the last may be killed as well
torch.set_num_threads(1)  # forked children must not inherit a pool of threads


def child(out, resume, die_at=None):
    """Forks a run; `die_at` kills it before the n-th rename, removal or flush, so at the beginning or the end."""
    pid = os.fork()
    if pid:
        return pid
    if die_at is not None:
        calls = itertools.count(1)
        os.replace, os.fsync = dying(os.replace, calls, die_at), dying(os.fsync, calls, die_at)
        Path.unlink = dying(Path.unlink, calls, die_at)
    code = 1
    try:
        os.dup2(os.open(f"{out}.err", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
        sys.argv = ["aigc-text", *WORDS, "--output", str(out), *(["--resume"] if resume else [])]
        cli.main()
    except SystemExit as ended:
        code = ended.code
    finally:
        os._exit(code if isinstance(code, int) else 1)


def killed(out, resume):
    """A run that is killed at a random moment; true if it was, and did not end before."""
    if draw.random() < 0.4:
        return os.WIFSIGNALED(wait(child(out, resume, die_at=draw.randrange(1, 9))))
    pid, rows = child(out, resume), Path(f"{out}.partial")
    before = rows.read_bytes().count(b"\n") if rows.exists() else 0
    wanted = draw.randrange(before, max(before, TOTAL - 1) + 1)
    ended = 0
    while not ended and not (rows.exists() and rows.read_bytes().count(b"\n") >= wanted):
        ended = os.waitpid(pid, os.WNOHANG)[0]  # not a time: a busy machine changes how long it takes
        time.sleep(0.0005)
    if ended:
        return False
    time.sleep(draw.uniform(0, 1) * 0.02)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(wait(pid))


def rows(out):
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in out.read_text().splitlines()]


assert os.waitstatus_to_exitcode(wait(child(SCRATCH / "unbroken", False))) == 0, (SCRATCH / "unbroken.err").read_text()
expected = rows(SCRATCH / "unbroken")
TOTAL = len(expected)
draw = random.Random(1)
for case in range(MOMENTS):
    out = SCRATCH / f"run-{case}"
    kills, states = 0, []
    for attempt in range(RESUMES):
        if killed(out, attempt > 0):
            kills += 1
            states.append(
                sorted(p.name.removeprefix(out.name) for p in SCRATCH.glob(f"{out.name}*") if p.suffix != ".err")
            )
        if out.exists() and not Path(f"{out}.partial.run").exists():
            break  # it was finished
    code = 0
    if not out.exists() or Path(f"{out}.partial.run").exists():
        code = os.waitstatus_to_exitcode(wait(child(out, True)))
    left = sorted(p.name for p in SCRATCH.glob(f"{out.name}.*") if p.suffix != ".err")
    same = code == 0 and rows(out) == expected
    said = Path(f"{out}.err").read_text()[-500:] if not same else ""
    about = {"kills": kills, "states": states, "code": code, "same": same, "left": left, "err": said}
    print(json.dumps(about), flush=True)  # else each child would have it in its buffer too
