"""Runs a program that a model wrote, and answers the calls of the tests. Read by path in a bare interpreter."""

from __future__ import annotations

import builtins
import operator
import sys
import types
from typing import Any

from values import Channel, Gone, decode, encode

_SPECIAL = {
    "iter": iter, "next": next, "len": len, "getitem": operator.getitem, "str": str,
    "repr": repr, "bool": bool, "eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt,
    "ge": operator.ge, "getattr": getattr, "setattr": setattr, "setitem": operator.setitem,
}  # fmt: skip


class Program:
    """The module that the program makes, and the objects of it that the tests have references to."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.module = types.ModuleType("solution")  # not __main__: what is under that name is not for tests
        self.objects: dict[int, Any] = {}

    def serve(self) -> None:
        """Runs the program, then does what it is told until nobody tells it anything."""
        builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # of `site`, which is not loaded
        text = self.channel.receive()
        sys.modules["solution"] = self.module
        self._answer(lambda: self._start(text))
        while True:
            request = self.channel.receive()
            self._answer(lambda request=request: self._do(*request))

    def _answer(self, work: Any) -> None:
        try:
            found = work()
        except Gone:
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: a program does not end its test
            found = {"raised": [_kind(error), _said(error)]}
        self.channel.send(found)

    def _start(self, text: str) -> Any:
        exec(compile(text, "<program>", "exec", dont_inherit=True), self.module.__dict__)
        return {}

    def _do(self, what: str, args: Any, kwargs: Any) -> Any:
        if what == "name":
            if args[0] not in self.module.__dict__:
                raise NameError(f"the program defines no {args[0]!r}")
            return {"result": self._encode(self.module.__dict__[args[0]]), "args": [None]}
        values = [decode(a, self._referred) for a in args]
        named = {k: decode(v, self._referred) for k, v in kwargs.items()}
        given = [*values, *named.values()]
        function, *rest = values if what == "call" else [_SPECIAL[what], *values]
        result = self._encode(function(*rest, **named))
        # A function may change what it is given; the other side has a copy and is told.
        return {"result": result, "args": [self._encode(a) if _changes(a) else None for a in given]}

    def _encode(self, value: Any) -> Any:
        return encode(value, self._refer)

    def _refer(self, value: Any) -> Any:
        self.objects[id(value)] = value
        return ["object", id(value), type(value).__name__]

    def _referred(self, found: Any) -> Any:
        return self.objects[found[1]]


def _changes(value: Any) -> bool:
    return isinstance(value, (list, dict, set, bytearray))


def _kind(error: BaseException) -> str:
    """The name of the built-in class that an error is of, or is derived from."""
    names = [c.__name__ for c in type(error).__mro__]
    return next(n for n in names if isinstance(getattr(builtins, n, None), type))


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException:
        return type(error).__name__
