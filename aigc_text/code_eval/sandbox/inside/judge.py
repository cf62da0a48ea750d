"""Runs the tests of a program that runs in a process of its own, and says what they found.

Read by path in a bare interpreter. The tests call stand-ins; values come back as copies. So nothing that the program
does to its own interpreter, prints, raises or returns makes a test pass that expects something else.
"""

from __future__ import annotations

import ast
import builtins
import sys
import types
import warnings
from contextlib import suppress

from channel import Channel, Gone
from checks import Checks, prepare
from code_names import LEADS_OUT, only_names
from derived import NUMBERS, Derived, Numbers, Undecided, begins_sum, underlying
from link import SPECIAL, Link, Unsent
from own_classes import defines_method
from stand_in import METHODS, OPERATIONS, StandIn, StandInClass
from together import checked_name, provide_modules, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Judge(Link):
    """The tests' side of the channel."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, Remote)
        Remote.link = self
        self.gone = False
        self.asked: Any = None  # an object whose answer to the next question counts
        self.limits: dict[str, None] = {}
        self.as_numbers = Numbers(self.limit)
        self.stops = False  # whether the tests name StopIteration; else none ends an iterator of theirs in silence
        self.shared: set[type] = set()  # the classes that the problem itself defines

    def verdict(self, program: str, tests: str, given: str, names: list[str]) -> list[str]:
        """[outcome, why]: outcome is `passed`, `failed`, `error` (of the program as it starts), or `gone`.

        Args:
            program: what the model wrote, after its prompt.
            tests: run here.
            given: what the tests need of the problem itself (imports, helpers), run here as well.
            names: the only ones that the tests take from the program; so it cannot put a helper of its own in place.
        """
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        self.stops = "StopIteration" in tests
        checks = Checks(self.ask_about)
        space = main.__dict__
        space.update(checks.namespace())
        try:
            exec(compile(prepare(given, ()), "<problem>", "exec", dont_inherit=True), space)
            self.channel.send(program)
            self.shared = {v for v in space.values() if isinstance(v, type) and v.__module__ == "__main__"}
            if error := self._started():
                return ["error", error]
            space.update({name: checked_name(name, self.ask("name", (name,), {})) for name in names})
            prepared = prepare(tests, names, given)
            provide_modules(space, prepared, _nodes(program))
            exec(compile(prepared, "<tests>", "exec", dont_inherit=True), space)
        except Gone:
            return ["gone", ""]
        except BaseException as error:
            if self.gone and not isinstance(error, MemoryError):
                return ["gone", ""]
            limit = next(iter(self.limits), "")
            return ["failed", said(error, True) + (f" ({limit})" if limit else "")]
        if self.gone:
            return ["gone", ""]
        return ["failed", checks.why] if checks.failed else ["passed", ""]

    def _started(self) -> str:
        """Waits until the program's module has run; the error that it raised, or nothing."""
        error, _ = self._trusting_no_form(lambda: self.hear(self.exchange()))
        return "" if error is None else said(error, False)

    def ask(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Has the program do something; raises what that raises.

        Raises:
            Gone: the program has ended, or answers for itself. A test that catches everything goes on, but in vain.
        """
        if self.gone:
            raise Gone
        error, found = self._trusting_no_form(lambda: self.consult(what, args, kwargs))
        if what == "call" and isinstance(error, StopIteration) and not self.stops:
            raise RuntimeError("the program raised StopIteration") from error
        if error is not None:
            raise error
        return found

    def _trusting_no_form(self, consult: Callable[[], Any]) -> Any:
        try:
            return consult()
        except Unsent as unsent:  # before anything was sent
            raise TypeError(f"{unsent}") from None
        except BaseException as fault:
            self.gone = True
            if isinstance(fault, MemoryError) or not isinstance(fault, Exception):
                raise
            raise Gone from fault

    def heard(self, out: Any) -> None:
        """What the program has printed, for tests that capture it; outside, it was counted when it was printed."""
        for number, text in out:
            own = sys.__stdout__ if number == 1 else sys.__stderr__
            stream = sys.stdout if number == 1 else sys.stderr
            if stream is not own:
                stream.write(str(text))

    # What the program may ask for

    def answer(self, request: list[Any]) -> None:
        """Lets the program use what the tests have handed to it, and nothing else."""
        what, args, _ = request
        if what not in ("input", "stdin") and not (isinstance(args[0], list) and args[0][0] == "yours"):
            raise ValueError("not of the tests")
        super().answer(request)

    def do(self, what: str, given: list[Any], named: dict[str, Any]) -> Any:
        if what == "input":
            return builtins.input(*given)
        if what == "stdin" and given[0] in ("read", "readline"):
            return getattr(sys.stdin, given[0])(*given[1:])
        if what in ("getattr", "setattr", "delattr"):
            self._check_attribute(what, *given[:2])
        elif what == "method" and given[1] not in (*METHODS, *OPERATIONS):
            raise AttributeError(given[1])
        elif what == "call" and isinstance(given[0], type) and given[0].__module__ not in CALLABLE:
            raise TypeError(f"a program may not call {given[0].__name__} of the tests")
        elif what != "call" and what not in SPECIAL:
            raise ValueError(what)
        return super().do(what, given, named)

    def _check_attribute(self, what: str, value: Any, name: str) -> None:
        """Raises `AttributeError`: a program may not read or set it, for it leads to the tests or changes a class."""
        leads_out = LEADS_OUT.fullmatch(name) or name.startswith("_")
        home = value.__module__ if isinstance(value, types.FunctionType) else type(value).__module__
        changes = what != "getattr" and (home != "__main__" or defines_method(type(value), name))
        if name == "__signature__" and what == "getattr":
            return
        if type(value).__module__.startswith("unittest"):  # a mock would let its own assertions be replaced
            raise AttributeError(f"a program may call a {type(value).__name__} of the tests, but not look into it")
        if (leads_out and name not in ("__name__", "__doc__")) or changes or isinstance(value, types.ModuleType):
            raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r} for the program")

    # What objects of the program may decide

    def object_of(self, number: int, kind: Any) -> Any:
        made = super().object_of(number, kind)
        if kind.__name__ == "coroutine":
            self.theirs[id(made)] = number, made

            async def coroutine() -> Any:
                return await made

            return coroutine()
        return made

    def ask_about(self, value: Any, made_by: Any) -> Any:
        """The value, whose answer to the next question counts: the tests have made it from a class under test."""
        if made_by is None:
            self.asked = None
        elif isinstance(made_by, StandInClass) and type(value) is made_by:
            self.asked = value
        return value

    def take_asked(self, value: Any) -> bool:
        """Whether the tests ask just this object."""
        asked, self.asked = self.asked, None
        return asked is value

    def compares(self, value: Remote, other: Any, order: bool = False) -> bool:
        """Whether an object may say how it compares with another value: with objects of the program only.

        With what came of arithmetic with data (see `derived`) it compares, but without an order.
        """
        return self.take_asked(value) or is_remote(other) or (type(other) is Derived and not order)

    def refer(self, value: Any) -> Any:
        return super().refer(underlying(value))

    def as_shared(self, value: Any, like: Any) -> Any:
        """An object of a class that the problem defines, made here from the data in the program's own.

        Args:
            value: the program's.
            like: what the tests compare it with.

        Raises:
            TypeError: the classes differ, or an attribute is no data.
        """
        if type(like) not in self.shared:
            if isinstance(value, Remote):
                raise TypeError("no data")
            return value
        if not isinstance(value, Remote) or type(value).__name__ != type(like).__name__:
            raise TypeError("of another class")
        made = object.__new__(type(like))
        for name in _attributes(like):
            object.__setattr__(made, name, self.as_shared(getattr(value, name), getattr(like, name)))
        return made

    def limit(self, what: str, answer: Any) -> Any:
        """Notes that an object was not allowed to decide something."""
        self.limits[f"an object of the program {what}, which the sandbox does not let it decide"] = None
        return answer


def is_remote(value: Any) -> bool:
    """Whether a value stands for an object of the program."""
    return isinstance(value, Remote)


CALLABLE = ("__main__", "collections", "datetime", "decimal", "fractions")


_LATER: Any = None  # set by the judge


class Remote(StandIn):
    """Stands for an object of the program. It is equal to others of its kind if the program says so, to data never."""

    __slots__ = ()
    link = _LATER  # an annotation would hide those of the program's functions

    def __await__(self) -> Any:
        ask, task = self.link.ask, (self._ask("await"),)
        try:
            while ask("step", task, {}) is False:
                yield
        except BaseException:
            ask("cancel", task, {})
            raise
        return ask("result", task, {})

    def __getattr__(self, name: str) -> Any:
        if name == "__globals__":  # `get_type_hints` would have all of the program's namespace sent
            raise AttributeError(name)
        found = super().__getattr__(name)
        if name == "__annotations__" and not all(map(only_names, _texts_in(found))):
            raise Undecided("the tests would evaluate types of the program that do more than to name one")
        return found

    def __contains__(self, item: Any) -> bool:
        """By iteration: the program is not asked, nor told for what."""
        if self.link.take_asked(self):
            return bool(self._ask("contains", item))
        return any(value is item or value == item for value in self)

    def __eq__(self, other: object) -> Any:
        if self.link.compares(self, other):
            return self._ask("eq", other) is True
        if type(other) in self.link.shared and type(other).__eq__ is not object.__eq__:
            with suppress(TypeError, AttributeError):
                return bool(self.link.as_shared(self, other) == other)
        return self.link.limit("compares with data", False) if self._compares() else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _compares(self) -> bool:
        return type(self).__name__ not in ("function", "type", "NoneType", "builtin_function_or_method")

    __hash__ = StandIn.__hash__


def _texts_in(value: Any) -> list[str]:
    """The texts in the annotations of a function or a class; what is no plain type is asked for nothing."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in _texts_in(each)]
    return [value] if isinstance(value, str) else []


def _attributes(value: Any) -> list[str]:
    slots = [s for kind in type(value).__mro__ for s in _listed(kind.__dict__.get("__slots__", ()))]
    return [*getattr(value, "__dict__", ()), *(s for s in slots if hasattr(value, s))]


def _listed(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else [s for s in slots if s not in ("__dict__", "__weakref__")]


def _comparison(what: str) -> Any:
    def compare(self: Any, other: Any) -> Any:
        if self.link.compares(self, other, order=True):
            return self._ask(what, other)
        return self.link.limit("compares with data", NotImplemented)

    return compare


def _operation(name: str) -> Any:
    def calculate(self: Any, other: Any) -> Any:
        judge = self.link
        asked = judge.take_asked(self)
        found = self._ask("method", name, other)
        if asked or found is NotImplemented or is_remote(other):
            return found
        if not is_remote(found):
            return judge.limit("calculates with data", NotImplemented)
        return found if begins_sum(name, other) else Derived(found, is_remote, judge.limit)

    return calculate


def _number(name: str) -> Any:
    before = getattr(StandIn, name)

    def convert(self: Any, *rest: Any) -> Any:
        found = before(self, *rest)
        return found if is_remote(found) else self.link.as_numbers.checked(self, (name, *rest), found)

    return convert


for _name in NUMBERS:
    setattr(Remote, _name, _number(_name))
for _what in ("lt", "le", "gt", "ge"):
    setattr(Remote, f"__{_what}__", _comparison(_what))
for _name in OPERATIONS:
    setattr(Remote, _name, _operation(_name))


def _nodes(program: str) -> list[ast.AST]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(ast.walk(ast.parse(program)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
