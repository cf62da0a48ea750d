"""Runs programs that a model wrote, with tests, where they can do no harm; the verdict is found outside of them.

A process runs the tests. Where the program's syntax tree shows that it cannot reach them (`screen`), the program runs
in that process too (`together`); otherwise a second process runs it, and the tests call it over a pipe (`judge`). Each
process has locked itself in before it reads the first line of the program: no network, no files but Python's library
and a scratch folder, no other processes, no environment, and limits on CPU time, memory, files and output (`lock`).
This process watches them from outside, and ends them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Event

from aigc_text.errors import OptionError, described

from .cases import Case, Limits, Verdict
from .scratch import remove
from .trial import _Trial
from .ulimits import too_low


def check_support() -> None:
    """Makes sure that this machine can lock programs in.

    Raises:
        OptionError: it cannot; says what is missing, or which limit of this process is too low.
    """
    if missing := _missing():
        low, enough = too_low()
        if low:
            raise OptionError(
                f"Python cannot start under the hard limit of this process: {low}",
                f"Start from a shell with a higher one; this is enough: {enough}",
            )
        raise OptionError(
            f"generated code cannot be locked in here: {missing}",
            "Use a machine with Landlock and seccomp (Linux 5.13 and later), or take the risk: --run-unconfined.",
        )


@lru_cache(maxsize=1)
def _missing() -> str:
    try:
        import resource  # noqa: F401
    except ImportError:
        return f"{sys.platform} has no limits for processes"
    try:
        found = run(Case("", "pass"))
    except (OSError, MemoryError) as error:  # too few files or too little memory to start a process
        return described(error)
    return "" if found.passed else found.why or found.outcome


def run_all(
    cases: Iterable[Case], limits: Limits | None = None, *, confined: bool = True, workers: int = 1
) -> Iterator[Verdict]:
    """Yields the verdict of each, in order.

    Args:
        cases: programs with their tests.
        limits: of each program.
        confined: lock them in; else only the limits hold, and a program can do whatever this user can.
        workers: programs at once; changes no verdict but by the clock.

    Where the iterator is left early, the programs that run are ended.
    """
    stop = Event()
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(lambda case: run(case, limits, confined=confined, stop=stop), cases)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def run(case: Case, limits: Limits | None = None, *, confined: bool = True, stop: Event | None = None) -> Verdict:
    """Runs one program with its tests; see `run_all`.

    Args:
        stop: ends the program when it is set; what becomes of it then says nothing.

    Raises:
        OptionError: it cannot be locked in here.
    """
    scratch = tempfile.mkdtemp(prefix="aigc-text-run-")
    started = time.monotonic()
    try:
        trial = _Trial(case, limits or Limits(), confined, scratch, stop or Event())
        outcome, why = trial.outcome()
        if outcome == "again":  # from the beginning, with what is left of CPU time and of what may be printed
            remove(scratch)
            os.mkdir(scratch, 0o700)
            trial.why_apart = why
            outcome, why = trial.outcome(apart=True)
    finally:
        remove(scratch)
    if outcome == "unlocked":
        if case == Case("", "pass"):  # the question itself
            return Verdict(outcome, why)
        check_support()
    return Verdict(outcome, why, time.monotonic() - started)
