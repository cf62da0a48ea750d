"""Runs the tests of a program that runs in a process of its own, and says what they found.

Read by path in a bare interpreter. The tests call stand-ins; values come back as copies. So nothing that the program
does to its own interpreter, prints, raises or returns makes a test pass that expects something else.
"""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

from values import Channel, Gone, decode, encode


class Broken(Exception):
    """The program raised an error of a class of its own, or one that cannot be made here."""


class Judge:
    """The tests' side of the channel."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.gone = False

    def verdict(self, program: str, tests: str, given: str, names: list[str]) -> list[str]:
        """[outcome, why]: outcome is `passed`, `failed`, `error` (of the program as it starts), or `gone`.

        Args:
            program: what the model wrote, after its prompt.
            tests: run here.
            given: what the tests need of the problem itself (imports, helpers), run here as well.
            names: the only ones that the tests take from the program; so it cannot put a helper of its own in place.
        """
        space: dict[str, Any] = {"__name__": "__main__"}
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            exec(compile(given, "<problem>", "exec", dont_inherit=True), space)
            self.channel.send(program)
            answer = self.channel.receive()
            if "raised" in answer:
                return ["error", str(answer["raised"][1])[:500]]
            space.update({name: self.ask("name", (name,), {}) for name in names})
            exec(compile(tests, "<tests>", "exec", dont_inherit=True), space)
        except Gone:
            return ["gone", ""]
        except BaseException as error:
            return ["failed", _said(error)] if not self.gone or isinstance(error, MemoryError) else ["gone", ""]
        return ["gone", ""] if self.gone else ["passed", ""]

    def ask(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Has the program do something; raises what that raises.

        Raises:
            Gone: the program has ended, or answers for itself. A test that catches everything goes on, but in vain.
        """
        coded = [encode(a, _refer) for a in args] if what != "name" else list(args)
        named = {k: encode(v, _refer) for k, v in kwargs.items()}
        if self.gone:
            raise Gone
        self.gone = True  # until it has answered well
        self.channel.send([what, coded, named])
        answer = self.channel.receive()
        try:
            error, result = None, None
            if "raised" in answer:
                error = _error(*answer["raised"])
            else:
                result = self.decode(answer["result"])
                given, before = [*args, *kwargs.values()], [*coded, *named.values()]
                for own, sent, after in zip(given, before, answer["args"], strict=True):
                    if after is not None and after != sent:
                        _become(own, self.decode(after))
        except MemoryError:
            raise
        except Exception as fault:
            raise Gone from fault
        self.gone = False
        if error is not None:
            raise error
        return result

    def decode(self, found: Any) -> Any:
        return decode(found, self._referred)

    def _referred(self, found: Any) -> Any:
        kind, number, name = found
        if kind != "object" or type(number) is not int:
            raise TypeError(kind)
        return Remote(self, number, str(name))


class Remote:
    """Stands for an object of the program. It is equal to others of its kind if the program says so, to data never."""

    def __init__(self, judge: Judge, number: int, name: str) -> None:
        self.__dict__.update(_judge=judge, _number=number, __name__=name)

    def _ask(self, what: str, *args: Any) -> Any:
        return self._judge.ask(what, (self, *args), {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._judge.ask("call", (self, *args), kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._ask("getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("setattr", name, value)

    def __iter__(self) -> Any:
        return self._ask("iter")

    def __next__(self) -> Any:
        return self._ask("next")

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("setitem", key, value)

    def __contains__(self, item: Any) -> bool:
        return any(value is item or value == item for value in self)  # the program is not asked, nor told for what

    def __bool__(self) -> bool:
        return bool(self._ask("bool"))

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._ask("eq", other) is True

    def __lt__(self, other: Any) -> Any:
        return self._ask("lt", other) if isinstance(other, Remote) else NotImplemented

    def __le__(self, other: Any) -> Any:
        return self._ask("le", other) if isinstance(other, Remote) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return self._ask("gt", other) if isinstance(other, Remote) else NotImplemented

    def __ge__(self, other: Any) -> Any:
        return self._ask("ge", other) if isinstance(other, Remote) else NotImplemented

    __hash__ = object.__hash__


def _refer(value: Any) -> Any:
    if isinstance(value, Remote):
        return ["object", value.__dict__["_number"], ""]
    raise TypeError(f"the tests pass a {type(value).__name__}, which cannot be sent to the program")


def _error(kind: str, said: str) -> BaseException:
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(said)
        except TypeError:  # UnicodeDecodeError wants five arguments
            pass
    return Broken(said)


def _become(own: Any, after: Any) -> None:
    """Changes a list, dict, set or bytearray of the tests as the program changed its copy."""
    if type(own) is not type(after):
        return
    if type(own) in (list, bytearray):
        own[:] = after
    elif type(own) in (dict, set):
        own.clear()
        own.update(after)


def _said(error: BaseException) -> str:
    try:
        text = f"{error}"
    except BaseException:
        text = ""
    name = type(error).__name__
    if isinstance(error, AssertionError):
        return f"a test failed{': ' + text if text else ''}"[:500]
    return (text if text.startswith(name) or name == "Broken" else f"{name}: {text}")[:500]
