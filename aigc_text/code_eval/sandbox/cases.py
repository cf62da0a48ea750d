"""What runs in the sandbox, under which limits, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aigc_text.options.base import Options, option

OUTCOMES = ("passed", "failed", "error", "timeout", "memory", "disk", "output", "ended")


@dataclass(frozen=True, kw_only=True)
class Limits(Options):
    """What one program may use."""

    seconds: int = option(5, "CPU seconds of a program; four times as many pass by the clock at most.", low=1)
    memory: int = option(1024, "MiB of memory of a program.", low=64)
    disk: int = option(16, "MiB that a program may write into its scratch folder.", low=1)
    printed: int = option(1024, "KiB that a program may print.", low=1)


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Attributes:
        outcome: `passed`; `failed`: a test failed or an error was raised in one; `error`: the program itself raised
            one, or is no Python; `timeout`, `memory`, `disk`, `output`: a limit; `ended`: its process ended.
        why: the error, on one line.
        seconds: by the clock.
    """

    outcome: str
    why: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


@dataclass(frozen=True)
class Case:
    """A program and what decides about it.

    Attributes:
        program: what runs as the program.
        tests: what runs outside of it.
        given: what the tests need of the problem itself, run with the tests.
        names: what the tests take from the program.
    """

    program: str
    tests: str
    given: str = ""
    names: Sequence[str] = ()
