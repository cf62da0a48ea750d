"""Runs a program that a model wrote, and answers the calls of the tests. Read by path in a bare interpreter."""

from __future__ import annotations

import builtins
import sys
import types

from channel import Channel
from link import Link
from stand_in import StandIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOMENT = 0.005  # seconds
KEPT = 1 << 20  # characters printed during one call that the tests can capture


class Program(Link):
    """The module that the program makes, and the objects of it that the tests have references to."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, StandIn)
        StandIn.link = self
        self.module = types.ModuleType("solution")  # not __main__: what is under that name is not for tests
        self.printed: list[list[Any]] = []
        self.loop: Any = None
        self.tasks: list[Any] = []

    def serve(self) -> None:
        """Runs the program, then does what it is told until nobody tells it anything."""
        builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # of `site`, which is not loaded
        builtins.input = self._input
        sys.stdin = _Input(self)
        sys.stdout, sys.stderr = _Output(self, 1, sys.stdout), _Output(self, 2, sys.stderr)
        self.text = self.channel.receive()
        sys.modules["solution"] = self.module
        self.answer(["start", [], []])
        while True:
            self.answer(self.channel.receive())

    def do(self, what: str, given: list[Any], named: dict[str, Any]) -> Any:
        if what == "start":
            return exec(compile(self.text, "<program>", "exec", dont_inherit=True), self.module.__dict__)
        if what == "name":
            if given[0] not in self.module.__dict__:
                raise NameError(f"the program defines no {given[0]!r}")
            return self.module.__dict__[given[0]]
        if what == "await":
            return self._begin(given[0])
        if what in ("step", "cancel", "result"):
            return self._go_on(what, self.tasks[given[0]])
        return super().do(what, given, named)

    def _begin(self, value: Any) -> int:
        """The number of a task that awaits a value, in one loop for all of them."""
        import asyncio

        async def run() -> Any:
            return await value

        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        self.tasks.append(self.loop.create_task(run()))
        return len(self.tasks) - 1

    def _go_on(self, what: str, task: Any) -> Any:
        """Lets all tasks run for a moment; whether this one has ended. The tests' own run in between."""
        import asyncio

        if what == "result":
            return task.result()
        if what == "cancel":
            task.cancel()
        self.loop.run_until_complete(asyncio.wait([task], timeout=MOMENT))
        return task.done()

    def said(self) -> dict[str, Any]:
        out, self.printed = self.printed, []
        return {"out": out} if out else {}

    def _input(self, prompt: object = "") -> Any:
        """What the tests give in place of a keyboard."""
        return self.ask("input", (str(prompt),), {})


class _Output:
    """Standard output or error: what is printed is counted outside, and sent to the tests as well."""

    def __init__(self, program: Program, number: int, stream: Any) -> None:
        self.program, self.number, self.stream = program, number, stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if sum(len(t) for _, t in self.program.printed[-100:]) < KEPT and len(self.program.printed) < KEPT:
            self.program.printed.append([self.number, str(text)])
        return int(self.stream.write(text))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


class _Input:
    """Standard input, read where the tests run."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def readline(self, *size: int) -> str:
        return str(self.program.ask("stdin", ("readline", *size), {}))

    def read(self, *size: int) -> str:
        return str(self.program.ask("stdin", ("read", *size), {}))

    def readlines(self) -> list[str]:
        return list(self)

    def __iter__(self) -> Any:
        return iter(self.readline, "")

    def isatty(self) -> bool:
        return False
