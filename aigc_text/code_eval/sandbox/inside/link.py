"""The objects of one process in the other: stand-ins that ask over the channel.

Read by path in a bare interpreter. The judge has stand-ins for what the program makes, the program for functions,
classes and objects that the tests hand to it. `judge` says what a stand-in of the program's may decide.
"""

from __future__ import annotations

import builtins
import importlib
import operator
import sys
from threading import RLock
from types import TracebackType

from channel import Channel, Gone
from pure_modules import MODULES
from stand_in import StandInClass, StandInErrorClass
from values import Exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SPECIAL: dict[str, Callable[..., Any]] = {
    "iter": iter, "next": next, "len": len, "str": str, "repr": repr, "bool": bool, "hash": hash, "format": format,
    "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "contains": operator.contains, "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge,
    "abs": abs, "neg": operator.neg, "pos": operator.pos, "invert": operator.invert, "round": round, "int": int,
    "float": float, "complex": complex, "index": operator.index, "reversed": reversed, "dir": dir,
    "isinstance": isinstance, "issubclass": issubclass,
}  # fmt: skip
_WITH_OWN_DOC = ("function", "method", "builtin_function_or_method")  # others have that of their class


class Unsent(Exception):
    """A value that cannot be sent to the other side."""


class Link:
    """One side of the channel: what it has handed over, and what it holds of the other side's."""

    def __init__(self, channel: Channel, base: type) -> None:
        self.channel, self.base = channel, base
        self.asking = RLock()  # one thread at a time waits for an answer, and answers what is asked meanwhile
        self.handed: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}  # of what was handed over, by its id
        self.held: dict[int, Any] = {}  # stand-ins by the other side's number
        self.theirs: dict[int, tuple[int, Any]] = {}  # that number, and the stand-in, by its id

    def exchange(self) -> Exchange:
        """The values of one request and its answer."""
        made: Exchange = Exchange(self.refer, lambda found: self.resolve(made, found))
        return made

    # Asking

    def ask(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Has the other side do something; raises what that raises."""
        error, found = self.consult(what, args, kwargs)
        if error is not None:
            raise error
        return found

    def consult(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[BaseException | None, Any]:
        """(error, result) of what the other side does."""
        exchange = self.exchange()
        try:
            coded = [[exchange.encode(a) for a in args], [[k, exchange.encode(v)] for k, v in kwargs.items()]]
        except RecursionError:
            raise Unsent("values nested too deeply to be sent to the program") from None
        with self.asking:
            self.channel.send([what, *coded])
            return self.hear(exchange)

    def hear(self, exchange: Exchange) -> tuple[BaseException | None, Any]:
        """(error, result) of the other side, whose own questions are answered until then."""
        while isinstance(answer := self.channel.receive(), list):
            self.answer(answer)
        exchange.apply(answer["changed"])
        self.heard(answer.get("out", ()))
        if "raised" not in answer:
            return None, exchange.decode(answer["result"])
        error = exchange.decode(answer["raised"])
        if not isinstance(error, BaseException):
            raise TypeError("no error")
        return error, None

    def heard(self, out: Any) -> None:
        """What the other side has printed meanwhile."""

    # Answering

    def answer(self, request: list[Any]) -> None:
        """Does what the other side asks for, and sends what comes of it."""
        what, args, kwargs = request
        exchange = self.exchange()
        given = [exchange.decode(a) for a in args]
        named = {str(k): exchange.decode(v) for k, v in kwargs}
        known = len(exchange.containers)
        try:
            found, raised = self.do(what, given, named), False
        except Gone:
            raise
        except BaseException as error:  # SystemExit among them: a program does not end its test
            found, raised = error, True
        message = {"changed": exchange.changes(known), "raised" if raised else "result": exchange.encode(found)}
        self.channel.send({**message, **self.said()})

    def said(self) -> dict[str, Any]:
        """What goes with an answer."""
        return {}

    def do(self, what: str, given: list[Any], named: dict[str, Any]) -> Any:
        """What a request asks for."""
        first, *rest = given
        if what == "call":
            return first(*rest, **named)
        if what == "getattr" and rest == ["__signature__"]:
            return inspect().signature(first)
        if what == "getattr":
            return getattr(first, *rest)
        if what == "setattr":
            return setattr(first, *rest)
        if what == "delattr":
            return delattr(first, *rest)
        if what == "method":  # of the class, as Python looks for special methods; NotImplemented where there is none
            name, *args = rest
            method = getattr(type(first), name, None)
            return NotImplemented if method is None else method(first, *args, **named)
        return SPECIAL[what](*given, **named)

    # References

    def refer(self, value: Any) -> Any:
        """The reference to what is no data."""
        if id(value) in self.theirs:
            return ["yours", self.theirs[id(value)][0]]
        if isinstance(value, BaseException):
            return self._encode_error(value)
        if isinstance(value, TracebackType):  # it leads to frames; generators take no stand-in for one
            return None
        if isinstance(value, type) and (place := _place_of_exception(value)):
            return ["exception", place]
        known = id(value) in self.numbers
        number = self._hand(value)
        return ["mine", number] if known else ["mine", number, *self._describe(value)]

    def _hand(self, value: Any) -> int:
        number = self.numbers.setdefault(id(value), len(self.numbers))
        self.handed[number] = value
        return number

    def _describe(self, value: Any) -> list[Any]:
        if isinstance(value, type):
            doc = value.__doc__ if isinstance(value.__doc__, str) else None
            bases = [self.refer(b) for b in value.__bases__ if b is not object and not _is_data(b)]
            return ["class", value.__name__, doc, bases]
        return ["object", self.refer(type(value))]

    def resolve(self, exchange: Exchange, found: Any) -> Any:
        """What a reference of the other side stands for here."""
        kind, *rest = found
        if kind == "yours":
            return self.handed[rest[0]]
        if kind == "exception":
            return _exception_at(rest[0])
        if kind == "error":
            return self._decode_error(exchange, *rest)
        if kind != "mine" or type(rest[0]) is not int:
            raise TypeError(kind)
        number, *description = rest
        if number not in self.held:
            made = self._stand_in(exchange, number, *description)
            self.held[number], self.theirs[id(made)] = made, (number, made)
        return self.held[number]

    def _stand_in(self, exchange: Exchange, number: int, kind: str, *rest: Any) -> Any:
        if kind == "object":
            return self.object_of(number, self.resolve(exchange, rest[0]))
        name, doc, bases = rest
        decoded = tuple(self.resolve(exchange, b) for b in bases)
        errors = tuple(b for b in decoded if issubclass(b, BaseException))
        space = {"__doc__": doc, "__slots__": () if not errors else ("said",), "__module__": "solution", "link": self}
        if errors:
            space.update(__str__=lambda error: getattr(error, "said", "") or BaseException.__str__(error))
            space.update(__getattr__=lambda error, name: self._ask_error(error, name))
            del space["__slots__"]
            return StandInErrorClass(str(name), errors, space)
        if name in _WITH_OWN_DOC:
            space["__doc__"] = property(lambda made: made._ask("getattr", "__doc__"))
        if not any(issubclass(b, self.base) for b in decoded):
            decoded = (*decoded, self.base)
        return StandInClass(str(name), decoded, space)

    def object_of(self, number: int, kind: Any) -> Any:
        """A stand-in for an object of the other side's class."""
        made = object.__new__(kind)
        object.__setattr__(made, "number", number)
        return made

    # Errors

    def _encode_error(self, error: BaseException) -> Any:
        try:
            said = str.__str__(f"{error}")[:2000]
        except Exception:
            said = ""
        state = {k: v for k, v in vars(error).items() if isinstance(k, str)} if hasattr(error, "__dict__") else {}
        for name in ("name", "obj", "path", "msg", "lineno", "offset", "text"):  # of AttributeError, SyntaxError, …
            if isinstance(error, (AttributeError, NameError, ImportError, SyntaxError)) and hasattr(error, name):
                state[name] = getattr(error, name)
        given = list(error.args)
        if isinstance(error, OSError) and error.errno:
            given = [error.errno, error.strerror, error.filename]
        inner = Exchange(self.refer, _nothing)
        args, attributes = _encoded(inner, given), {k: _encoded(inner, v) for k, v in state.items()}
        cause = error.__cause__
        caused = self._encode_error(cause) if cause is not None and cause is not error else None
        number = self._hand(error) if _has_methods(type(error)) else None
        return ["error", self.refer(type(error)), args, attributes, said, caused, number]

    def _ask_error(self, error: BaseException, name: str) -> Any:
        """What the class of an error has besides its state: methods, properties and its own attributes."""
        if id(error) not in self.theirs or name.startswith("__"):
            raise AttributeError(f"{type(error).__name__!r} object has no attribute {name!r}")
        return self.ask("getattr", (error, name), {})

    def _decode_error(
        self, _: Exchange, kind: Any, args: Any, attributes: Any, said: str, caused: Any, number: Any = None
    ) -> Any:
        inner = self.exchange()
        made = self.resolve(inner, kind)
        given = inner.decode(args)
        error = _made(made, given)
        for name, value in attributes.items():
            decoded = inner.decode(value)
            if not (name.startswith("__") and name != "__notes__"):
                _try_to_set(error, name, decoded)
        if made.__module__ == "solution":
            _try_to_set(error, "said", said)
            if type(number) is int:
                self.theirs[id(error)] = number, error
        if caused is not None:
            error.__cause__ = self.resolve(inner, caused)
        return error


def inspect() -> Any:
    """The module, which few programs need."""
    import inspect

    return inspect


def _nothing(_: Any) -> Any:
    raise TypeError("nothing comes back here")


def _encoded(exchange: Exchange, value: Any) -> Any:
    try:
        return exchange.encode(value)
    except RecursionError:
        return exchange.encode(repr(type(value)))


def _made(kind: type[BaseException], given: list[Any]) -> BaseException:
    try:
        complete = issubclass(kind, OSError) or kind.__module__ == "builtins"  # `value` of a StopIteration, …
        error = kind(*given) if complete else kind.__new__(kind, *given)
        error.args = tuple(given) if not issubclass(kind, OSError) else error.args
    except TypeError:  # its class wants others
        error = Exception.__new__(kind)
        error.args = tuple(given)
    return error


def _try_to_set(error: BaseException, name: str, value: Any) -> None:
    try:
        setattr(error, name, value)
    except (AttributeError, TypeError):
        return


def _has_methods(kind: type[BaseException]) -> bool:
    """Whether the classes of an error that are not the library's define more than special methods."""
    own = [vars(k) for k in kind.__mro__ if k is not object and not _place_of_exception(k)]
    return any(not name.startswith("__") for space in own if "link" not in space for name in space)


def _place_of_exception(kind: type) -> str:
    """`module:name` of an exception of the standard library, or nothing."""
    module = kind.__module__
    if not issubclass(kind, BaseException) or module.partition(".")[0] not in sys.stdlib_module_names | {"builtins"}:
        return ""
    found = getattr(sys.modules.get(module), kind.__name__, None)
    return f"{module}:{kind.__name__}" if found is kind and module != "__main__" else ""


def _exception_at(place: str) -> Any:
    module, _, name = place.partition(":")
    if module not in sys.modules and module not in MODULES:
        raise TypeError(place)
    found = getattr(builtins if module == "builtins" else importlib.import_module(module), name)
    known = isinstance(found, type) and issubclass(found, BaseException) and not name.startswith("_")
    if not known or module.partition(".")[0] in ("unittest", "doctest", "bdb"):
        raise TypeError(place)
    return found


def _is_data(kind: type) -> bool:
    return kind in (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
