"""One program and its tests in a process of their own, watched from outside until there is a verdict."""

from __future__ import annotations

import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event

from aigc_text.code_eval.sandbox.screening.pure_modules import MODULES

from .cases import Case, Limits
from .scratch import entries_of, size

START = Path(__file__).parent / "inside" / "start.py"
LOOK = 0.02  # seconds between looks at what a program has written
PAUSE = 0.001  # seconds after which a process that is told to stop has stopped
THREADS = 500  # of one program; those of the C library reach `memory` before


class _Trial:
    """The one or two processes of a program, and what they may use."""

    def __init__(self, case: Case, limits: Limits, confined: bool, scratch: str, stop: Event) -> None:
        self.case, self.limits, self.confined, self.scratch, self.stop = case, limits, confined, scratch, stop
        self.end = time.monotonic() + 4 * limits.seconds
        self.nonce = secrets.token_hex(16)  # a verdict without it is none of the tests' process
        self.used, self.printed = 0.0, 0  # CPU seconds, bytes
        self.why_apart = _needs_two(case.program)  # and not beside its tests, if that is known
        folder = re.escape(os.fsencode(os.path.realpath(scratch)))
        self.mapped = re.compile(rb"^\S+ \S+ \S+ \S+ (\d+) +" + folder + rb"/.*\(deleted\)$", re.MULTILINE)

    def outcome(self, apart: bool = False) -> tuple[str, str]:
        """(outcome, why) of `Verdict`, or `unlocked`, or `again`: with `apart`, in other processes.

        Args:
            apart: whether program and tests run in two processes in any case.
        """
        to_program, from_program, to_judge, verdict, output = pipes = [os.pipe() for _ in range(5)]
        self.open = {end for pipe in pipes for end in pipe}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.answer = b""
        apart = apart or self.why_apart != ""
        try:
            self.judge = self.program = self._spawn(
                "judge", output[1], read=from_program[0], write=to_program[1], input=to_judge[0], verdict=verdict[1]
            )
            self._close(from_program[0], to_program[1], to_judge[0], verdict[1])
            if not apart:
                self._tell(to_judge[1], apart)
                stopped = self._watch(verdict[0], output[0])
                outcome, self.why_apart = self._answered()
                if stopped or outcome != "apart":
                    self.why_apart = ""
                    return self._decide(stopped)
                self.answer = b""
            self.program = self._spawn("program", output[1], read=to_program[0], write=from_program[1])
            self._close(to_program[0], from_program[1])
            if apart:
                self._tell(to_judge[1], apart)
            return self._decide(self._watch(verdict[0], output[0]))
        finally:
            for process in self.processes:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                self.used += _cpu_seconds(process.pid)
                process.wait()
            self._close(*tuple(self.open))

    def _spawn(self, role: str, output: int, **pipes: int) -> subprocess.Popen[bytes]:
        limits = self.limits
        settings = {
            "seconds": max(1, round(limits.seconds - self.used)),
            "memory": limits.memory << 20, "file": limits.disk << 20, "confined": self.confined,
            "scratch": self.scratch, "watcher": os.getpid(), **pipes,
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", str(START), role, json.dumps(settings)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=list(pipes.values()),
            env={"LANG": "C.UTF-8", "HOME": self.scratch, "TMPDIR": self.scratch, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def _tell(self, pipe: int, apart: bool) -> None:
        case = self.case
        told = [case.program, case.tests, case.given, list(case.names), apart, self.nonce]
        message = json.dumps(told).encode() + b"\n"
        with suppress(BrokenPipeError), os.fdopen(os.dup(pipe), "wb") as stream:
            stream.write(message)
        self._close(pipe)

    def _close(self, *ends: int) -> None:
        """Closes ends of pipes, each once: their numbers are given to other threads' pipes at once."""
        for end in ends:
            self.open.remove(end)
            os.close(end)

    def _watch(self, verdict: int, output: int) -> str:
        """Waits for the verdict; the limit that was passed before, or nothing."""
        with selectors.DefaultSelector() as ready:
            ready.register(verdict, selectors.EVENT_READ)
            ready.register(output, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select(LOOK):
                    data = os.read(key.fd, 1 << 16)
                    if key.fd == verdict:
                        self.answer += data
                        if not data or data.endswith(b"\n"):
                            return self._exceeded()  # what it did last counts as well
                    elif data:
                        self.printed += len(data)
                    else:
                        ready.unregister(output)
                if stopped := self._exceeded():
                    return stopped

    def _exceeded(self) -> str:
        if self.stop.is_set() or time.monotonic() > self.end:
            return "timeout"
        if self.printed > self.limits.printed << 10:
            return "output"
        if self._threads() > THREADS:
            return "memory"
        return "disk" if self._written() > self.limits.disk << 20 else ""

    def _threads(self) -> int:
        """Each takes memory of the kernel and one of its numbers, both beyond the limits of the process."""
        with suppress(OSError):
            return os.stat(f"/proc/{self.program.pid}/task").st_nlink - 2
        return 0

    def _written(self) -> int:
        """Bytes in the scratch folder, and of files that the program has removed but still holds."""
        most = self.limits.disk << 20
        total, whole = size(self.scratch, most)
        if not whole:  # a program that keeps moving things could hide them from a look while it runs
            with suppress(ProcessLookupError):
                os.kill(self.program.pid, signal.SIGSTOP)
                time.sleep(PAUSE)
                total, _ = size(self.scratch, most)
                os.kill(self.program.pid, signal.SIGCONT)
        return total + self._removed()

    def _removed(self) -> int:
        held: dict[int, int] = {}
        for thread in entries_of(f"/proc/{self.program.pid}/task"):  # the first may have ended; they share all
            descriptors = entries_of(f"{thread.path}/fd")
            for entry in descriptors:
                with suppress(OSError):
                    found = os.stat(entry.path)
                    if found.st_nlink == 0:
                        held[found.st_ino] = found.st_blocks * 512
            with suppress(OSError), open(f"{thread.path}/maps", "rb") as maps:
                for number in self.mapped.findall(maps.read()):
                    held.setdefault(int(number), self.limits.disk << 20)  # nobody tells how much of it there is
            if descriptors:
                break
        return sum(held.values())

    def _decide(self, stopped: str) -> tuple[str, str]:
        if stopped:
            return stopped, f"more than {self._most(stopped)}"
        outcome, why = self._answered()
        if outcome == "gone":
            return self._how_it_ended(why)
        if outcome != "passed" and why.startswith("MemoryError"):
            return "memory", f"more than {self._most('memory')}"
        if outcome == "failed" and self.why_apart:
            why += f" (it ran apart from its tests, which exchange copies of values with it, because {self.why_apart})"
        return outcome, " ".join(why.split())

    def _answered(self) -> tuple[str, str]:
        """(outcome, why) as the tests' process has reported it."""
        try:
            nonce, outcome, why = self.answer.decode("ascii").removesuffix("\n").split(" ")
            if nonce == self.nonce:
                return outcome, bytes.fromhex(why).decode()
        except ValueError:
            pass  # it was ended by a limit of its own, or by the tests
        return "gone", "the tests ended without a verdict"

    def _how_it_ended(self, why: str) -> tuple[str, str]:
        for process in (self.program, self.judge):
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(1)
                if code in (-signal.SIGXCPU, -signal.SIGKILL):
                    return "timeout", f"more than {self._most('timeout')}"
                if code < 0:
                    return "ended", f"by {_signal(-code)}"
        return "ended", why or "the program ended its process"

    def _most(self, what: str) -> str:
        limits = self.limits
        return {
            "timeout": f"{limits.seconds} seconds of CPU time, or {4 * limits.seconds} by the clock",
            "memory": f"{limits.memory} MiB of memory, or {THREADS} threads",
            "disk": f"{limits.disk} MiB in files, or folders that cannot be looked into",
            "output": f"{limits.printed} KiB printed",
        }[what]


_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+([\w.]+)", re.MULTILINE)


def _cpu_seconds(number: int) -> float:
    """What a process has used that has not been waited for; 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _needs_two(program: str) -> str:
    """Why program and tests must be kept apart, if it shows at once: then both processes start together."""
    return next((f"it imports {name}" for name in _IMPORT.findall(program) if name not in MODULES), "")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most signals of real time have no name
        return f"signal {number}"
