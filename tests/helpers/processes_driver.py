"""Runs things in several processes for tests: forked, so that torch is imported once for all of them.

Reads one line of JSON a job and answers with one. It does what a launcher does: it gives each process its place in
the environment, and ends the others when one has failed.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

# Imported before the forks.
import accelerate.utils  # noqa: F401, E402
import matplotlib.pyplot  # noqa: F401, E402
import peft  # noqa: F401, E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel  # noqa: F401, E402

import aigc_text.generation.engines.torch_engine  # noqa: F401, E402
import tests.training.test_distributed  # noqa: F401, E402
import tests.training.test_distributed_state  # noqa: F401, E402
from aigc_text import cli  # noqa: E402
from aigc_text.backends.hf import backend as transformers_backend  # noqa: F401, E402
from aigc_text.cli import train  # noqa: F401, E402
from aigc_text.plots import training_curves  # noqa: E402

training_curves.curves = lambda metrics, picture: picture.touch()  # drawing takes longer than a run
torch.set_num_threads(1)  # forked children must not inherit a pool of threads
LIMIT = 60.0  # seconds a job may take


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def child(rank, world, job, scratch):
    """Forks one process of a job: a command line, or `call(rank, *arguments)` whose answer is passed on."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(scratch / f"{name}-{rank}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
        if world > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(job["port"]), **job.get("env", {})}
        if "call" in job:
            function = getattr(sys.modules[job["module"]], job["call"])
            answer = function(rank, *job["arguments"])
            (scratch / f"answer-{rank}").write_text(json.dumps(answer))
            code = 0
        else:
            sys.argv = ["aigc-text", *job["words"], *job.get("more", {}).get(str(rank), [])]
            cli.main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def wait(pids, killed):
    """The exit codes, as a launcher collects them; a signal's number is negative."""
    codes, started, ending = {}, time.monotonic(), None
    while len(codes) < len(pids):
        for rank, pid in enumerate(pids):
            if rank in codes:
                continue
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[rank] = os.waitstatus_to_exitcode(status)
        for rank, path in list(killed.items()):
            if Path(path).exists():
                for n in range(len(pids)) if rank == "all" else [int(rank)]:
                    os.kill(pids[n], signal.SIGKILL)
                del killed[rank]
        left = [pid for rank, pid in enumerate(pids) if rank not in codes]
        if ending is None and any(codes.values()):
            ending = time.monotonic() + 5
            for pid in left:
                os.kill(pid, signal.SIGTERM)
        if time.monotonic() > min(started + LIMIT, ending or started + LIMIT):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return [codes[rank] for rank in range(len(pids))]


def main():
    scratch = Path(sys.argv[1])
    for line in sys.stdin:
        job = json.loads(line)
        for leftover in scratch.iterdir():
            leftover.unlink()
        job["port"] = free_port()
        started = time.monotonic()
        pids = [child(rank, job["world"], job, scratch) for rank in range(job["world"])]
        codes = wait(pids, job.get("kill", {}))
        answer = {"codes": codes, "seconds": time.monotonic() - started}
        for name in ("out", "err"):
            answer[name] = [(scratch / f"{name}-{r}").read_text() for r in range(job["world"])]
        answers = [scratch / f"answer-{r}" for r in range(job["world"])]
        answer["answers"] = [json.loads(a.read_text()) if a.exists() else None for a in answers]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
