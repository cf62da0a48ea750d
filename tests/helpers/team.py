"""Several processes in tests: a team that is forked and works job after job, or a launcher's run; and how both fail."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("processes_driver.py")
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
ENV = {**os.environ, **QUIET, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Team:
    """Starts jobs in several processes; see processes_driver.py."""

    def __init__(self, folder):
        self.driver = subprocess.Popen(
            [sys.executable, str(DRIVER), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENV,
        )

    def _do(self, **job):
        self.driver.stdin.write(json.dumps(job) + "\n")
        self.driver.stdin.flush()
        return json.loads(self.driver.stdout.readline())

    def command(self, world, *words, **more):
        return self._do(world=world, words=[str(w) for w in words], **more)

    def call(self, world, function, *arguments, **more):
        done = self._do(
            world=world,
            call=function.__name__,
            module=function.__module__,
            arguments=arguments,
            **more,
        )
        assert done["codes"] == [0] * world, done["err"]
        return done["answers"]


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    made = Team(tmp_path_factory.mktemp("team"))
    yield made
    made.driver.kill()
    made.driver.wait()


ACCELERATE = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
)


def launched(*command, limit=120):
    """A launcher's run in two processes, with a limit against hanging; the whole group is ended at it."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENV, start_new_session=True) as launcher:
        try:
            return launcher, launcher.communicate(timeout=limit)[1]
        finally:
            if launcher.poll() is None:
                os.killpg(launcher.pid, signal.SIGKILL)


def fails(done, code, message):
    """One process says it, once; both end by it or are ended."""
    assert done["codes"][0] == code and done["codes"][1] in (code, -15), done
    said = "".join(done["err"])
    assert said.count(message) == 1 and said.count("Error: ") == 1, said
    assert "Traceback" not in said and len(done["err"][0].splitlines()) <= 3
    assert done["seconds"] < 20
