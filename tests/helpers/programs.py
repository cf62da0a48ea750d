"""Programs with tests, read from `programs/*.txt`: correct ones by topic, and `forgeries*.txt`, which are all wrong.

As a script, it runs the cases of the topics given (without any, all correct programs) in plain Python, each in a
process of its own, and prints `[name, error]` as a line of JSON for each; the error of a case that passes is null. With
`--honest` the tests meet a function that returns None in place of each program.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "code_eval" / "programs"
FORGERIES = "forgeries"


@dataclass(frozen=True)
class ProgramCase:
    """A program and what decides about it.

    Attributes:
        name: unique among all topics.
        program: the whole program.
        tests: `check(candidate)` as in HumanEval, or plain assertions as in MBPP.
        entry: what `check` is called with.
        names: everything that the tests take from the program; the entry is the first.
        topic: the file's name.
        claim: what a forgery tries.
        given: what the problem itself defines; runs before the program, and with the tests.
    """

    name: str
    program: str
    tests: str
    entry: str
    names: tuple[str, ...] = ()
    topic: str = ""
    claim: str = ""
    given: str = ""

    @property
    def whole(self) -> str:
        """The program as it follows what the problem defines."""
        return self.given + self.program

    @property
    def decided(self) -> str:
        """The tests with the call of `check`, if they define one."""
        defines = "\ndef check(" in "\n" + self.tests
        return f"{self.tests}\ncheck({self.entry})\n" if defines else self.tests


def topics() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.txt") if not path.stem.startswith(FORGERIES))


def cases(topic: str | None = None) -> list[ProgramCase]:
    """The cases of one topic, or all correct programs; `forgeries` is every file whose name begins so.

    Raises:
        ValueError: a file is not in the form that `_parsed` reads.
    """
    names = topics() if topic is None else [topic]
    if topic == FORGERIES:
        names = sorted(path.stem for path in FOLDER.glob(f"{FORGERIES}*.txt"))
    return [case for name in names for case in _parsed(name, (FOLDER / f"{name}.txt").read_text("utf-8"))]


def _parsed(topic: str, text: str) -> Iterator[ProgramCase]:
    """Each case is `=== NAME`, the program, `--- tests`, the tests, `--- claim TEXT` (forgeries), `--- entry NAMES`.

    Before `--- tests` there may be `--- given` and what the problem itself defines.
    """
    for block in ("\n" + text).split("\n=== ")[1:]:
        name, _, body = block.partition("\n")
        program, found, rest = ("\n" + body).partition("\n--- tests\n")
        tests, ended, names = ("\n" + rest).rpartition("\n--- entry ")
        tests, _, claim = tests.partition("\n--- claim ")
        if not (name.strip() and found and ended and names.split()):
            raise ValueError(f"{topic}.txt: the case {name!r} lacks its tests or its entry")
        listed = tuple(names.split())
        program, defines, given = program.partition("\n--- given\n")
        claim = " ".join(claim.split())
        given = given + "\n" if defines else ""
        yield ProgramCase(name.strip(), program[1:] + "\n", tests[1:] + "\n", listed[0], listed, topic, claim, given)


def run_plainly(case: ProgramCase) -> str | None:
    """The error of a case in one namespace, as an ordinary harness runs it, or `None`; leaves traces behind."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        exec(compile(case.whole, "<program>", "exec", dont_inherit=True), module.__dict__)
        exec(compile(case.decided, "<tests>", "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        return traceback.format_exc()
    return None


def run_in_child(case: ProgramCase) -> str | None:
    """The same in a forked process with an empty working folder; its standard output goes nowhere."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        if (child := os.fork()) == 0:
            os.chdir(folder)
            null = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            os.write(write, json.dumps(run_plainly(case)).encode()[:60_000])
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            said = answer.read()
        os.waitpid(child, 0)
    return json.loads(said) if said else "the process ended"


def honest(case: ProgramCase) -> ProgramCase:
    """The same tests for a program that is wrong and does not hide it."""
    return replace(case, program=f"def {case.entry}(*args, **kwargs):\n    return None\n")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--honest"]
    for each in (case for topic in words or topics() for case in cases(topic)):
        print(json.dumps([each.name, run_in_child(honest(each) if "--honest" in sys.argv else each)]), flush=True)
