"""Values on their way between the tests and the program: data as copies, all else as references.

Read by path in a bare interpreter. Nothing that comes from the other side is ever executed: what arrives are numbers,
texts, containers of these and objects of listed types, so a value cannot claim to be equal to what the tests expect.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLAIN = frozenset([type(None), bool, int, str])  # as JSON has them
_BUILTIN_TYPES = (
    int, float, complex, bool, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice, object, type,
    type(None),
)  # fmt: skip


class Exchange:
    """The values of one request and its answer. Containers are numbered, so that the same one comes back as the same.

    Args:
        refer: the JSON of a reference to what is no data.
        resolve: what such a reference stands for here.
    """

    def __init__(self, refer: Callable[[Any], Any], resolve: Callable[[Any], Any]) -> None:
        self.refer, self.resolve = refer, resolve
        self.containers: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.before: list[list[Any]] = []  # what was in each when it came or went

    def encode(self, value: Any) -> Any:
        """A value as JSON."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind is float:
            return value if math.isfinite(value) else ["float", repr(value)]
        if id(value) in self.numbers:
            return ["again", self.numbers[id(value)]]
        if kind in _MUTABLE:
            return [_MUTABLE[kind], self._number(value), self._header(value), self.content(value)]
        if kind in _BY_TYPE:
            name, parts = _BY_TYPE[kind]
            return [name, *(self.encode(part) for part in parts(value))]
        return self._encode_rare(value, kind)

    def _encode_rare(self, value: Any, kind: type) -> Any:
        if kind.__module__ == "array" and kind.__name__ == "array":
            _MUTABLE[kind] = "array"
            return self.encode(value)
        if kind in LAZY:
            return [LAZY[kind], str(value)]
        if isinstance(value, type) and value in _BUILTIN_TYPES:
            return ["type", value.__name__]
        if kind.__module__ == "inspect" and kind.__name__ == "Signature":
            each = [[p.name, int(p.kind), p.default is p.empty] for p in value.parameters.values()]
            return ["signature", each]
        if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
            fields = value._fields
            more = []
            if kind.__module__ == "solution":  # of the program, to which it comes back as such
                own = _named_types.setdefault((kind.__name__, fields), kind)
                more = [self.refer(kind)] if own is kind and _has_more(kind) else []
            return ["named", kind.__name__, list(fields), [self.encode(v) for v in tuple.__iter__(value)], *more]
        dated = _encode_date(value, kind)
        if dated is not None:
            return [dated[0], *(self.encode(part) for part in dated[1:])]
        for base in (
            str,
            int,
            float,
            bytes,
            bytearray,
            dict,
            list,
            tuple,
            set,
            frozenset,
        ):  # of a class derived from it
            if issubclass(kind, base) and kind.__module__ != "enum" and not hasattr(kind, "__members__"):
                return self.encode(_plain(base, value))
        return self.refer(value)

    def content(self, value: Any) -> list[Any]:
        """What is in a mutable container, as JSON."""
        inside = list(value.items()) if isinstance(value, dict) else list(value)
        self.before[self.numbers[id(value)]] = inside
        if isinstance(value, dict):
            return [[self.encode(k), self.encode(v)] for k, v in inside]
        return inside if all(type(v) in PLAIN for v in inside) else [self.encode(v) for v in inside]

    def _header(self, value: Any) -> Any:
        if type(value) is defaultdict:
            return self.encode(value.default_factory)
        if type(value) is deque:
            return value.maxlen
        return value.typecode if type(value).__name__ == "array" else None

    def _number(self, value: Any) -> int:
        self.numbers[id(value)] = number = len(self.containers)
        self.containers.append(value)
        self.before.append([])
        return number

    def changes(self, most: int) -> list[Any]:
        """[number, content] of each of the first containers that has changed since it came."""
        changed = []
        for number, (value, before) in enumerate(zip(self.containers[:most], self.before[:most], strict=True)):
            now = list(value.items()) if isinstance(value, dict) else list(value)
            if not _same(now, before, isinstance(value, dict)):
                changed.append([number, self.content(value)])
        return changed

    def apply(self, changes: Iterable[Any]) -> None:
        """Changes containers of this side as the other side changed its copies."""
        for number, content in changes:
            own = self.containers[number]
            _refill(own, self._contents(isinstance(own, dict), content))

    def _contents(self, pairs: bool, content: list[Any]) -> list[Any]:
        if pairs:
            return [(self.decode(k), self.decode(v)) for k, v in content]
        return [v if type(v) in PLAIN or type(v) is float else self.decode(v) for v in content]

    def decode(self, found: Any) -> Any:
        """The value of `encode`.

        Raises:
            ValueError, TypeError, IndexError, KeyError: it is none.
        """
        if not isinstance(found, list):
            if found is None or isinstance(found, (str, bool, int, float)):
                return found
            raise TypeError("no value")
        kind, *rest = found
        if kind == "again":
            return self.containers[rest[0]]
        if kind in _EMPTY:
            return self._decode_container(kind, *rest)
        if kind in _FROM_PARTS:
            return _FROM_PARTS[kind](*(self.decode(part) for part in rest))
        if kind == "named":
            kind = _named(rest[0], tuple(rest[1]), self.resolve(rest[3]) if len(rest) > 3 else None)
            return tuple.__new__(kind, [self.decode(v) for v in rest[2]])
        if kind == "type":
            return next(t for t in _BUILTIN_TYPES if t.__name__ == rest[0])
        if kind == "signature":
            return _signature(rest[0])
        if kind in _IMPORTED:
            return _IMPORTED[kind](*(self.decode(part) for part in rest))
        return self.resolve(found)

    def _decode_container(self, kind: str, number: int, header: Any, content: list[Any]) -> Any:
        value = _EMPTY[kind](self.decode(header))
        if self._number(value) != number:
            raise ValueError("numbers of containers")
        inside = self._contents(isinstance(value, dict), content)
        self.before[number] = inside
        _refill(value, inside)
        return value


def _same(now: list[Any], before: list[Any], pairs: bool) -> bool:
    if len(now) != len(before):
        return False
    if pairs:
        return all(a[0] is b[0] and a[1] is b[1] for a, b in zip(now, before, strict=True))
    return all(a is b for a, b in zip(now, before, strict=True))


def _refill(own: Any, inside: list[Any]) -> None:
    if isinstance(own, (list, bytearray)):
        own[:] = inside
    elif isinstance(own, dict):
        own.clear()
        for key, value in inside:
            own[key] = value
    elif isinstance(own, set):
        own.clear()
        own.update(inside)
    elif isinstance(own, deque):
        own.clear()
        own.extend(inside)
    else:  # an array
        del own[:]
        own.extend(inside)


def _signature(parameters: list[Any]) -> Any:
    import inspect

    each = []
    for name, number, needed in parameters:
        default = inspect.Parameter.empty if needed else ...
        each.append(inspect.Parameter(name, inspect._ParameterKind(number), default=default))
    return inspect.Signature(each)


def _array(code: Any) -> Any:
    from array import array

    return array(code)


def _plain(base: Any, value: Any) -> Any:
    """A copy of a value of a derived class, by the methods of the base alone."""
    if base is dict:
        return dict(dict.items(value))
    if base is str:
        return str.__str__(value)
    if base is int:
        return int(int.__format__(value, "d"))
    if base is float:
        return float.fromhex(float.hex(value))
    return base(base.__iter__(value))


_named_types: dict[Any, Any] = {}


def _named(name: str, fields: tuple[str, ...], asked: Any = None) -> Any:
    """The class of a named tuple; what it has besides the fields is asked of the class of the other side."""
    if (name, fields) not in _named_types:
        _named_types[name, fields] = made = namedtuple(name, fields, rename=True)
        if asked is not None:
            made.__getattr__ = lambda value, attribute: asked.link.ask("getattr", (value, attribute), {})  # type: ignore[attr-defined]
    return _named_types[name, fields]


def _has_more(kind: type) -> bool:
    """Whether the class of a named tuple has methods of its own."""
    return any(not n.startswith("_") and n not in kind._fields for k in kind.__mro__[:-2] for n in vars(k))  # type: ignore[attr-defined]


_MUTABLE: dict[type, str] = {
    list: "list", dict: "dict", set: "set", bytearray: "bytearray", deque: "deque", Counter: "Counter",
    OrderedDict: "OrderedDict", defaultdict: "defaultdict",
}  # fmt: skip
_EMPTY: dict[str, Callable[[Any], Any]] = {
    "list": lambda _: [], "dict": lambda _: {}, "set": lambda _: set(), "bytearray": lambda _: bytearray(),
    "deque": lambda most: deque(maxlen=most), "Counter": lambda _: Counter(), "OrderedDict": lambda _: OrderedDict(),
    "defaultdict": defaultdict, "array": _array,
}  # fmt: skip
_BY_TYPE: dict[type, tuple[str, Callable[[Any], Any]]] = {
    tuple: ("tuple", lambda v: v),
    frozenset: ("frozenset", lambda v: v),
    bytes: ("bytes", lambda v: (v.hex(),)),
    complex: ("complex", lambda v: (v.real, v.imag)),
    range: ("range", lambda v: (v.start, v.stop, v.step)),
    slice: ("slice", lambda v: (v.start, v.stop, v.step)),
    memoryview: ("memoryview", lambda v: (v.tobytes(),)),
    type({}.keys()): ("keys", lambda v: (dict.fromkeys(v),)),
    type({}.values()): ("values", lambda v: (list(v),)),
    type({}.items()): ("items", lambda v: (dict(v),)),
    type(Ellipsis): ("Ellipsis", lambda v: ()),
    type(NotImplemented): ("NotImplemented", lambda v: ()),
}
_FROM_PARTS: dict[str, Callable[..., Any]] = {
    "tuple": lambda *v: v, "frozenset": lambda *v: frozenset(v), "bytes": bytes.fromhex, "complex": complex,
    "range": range, "slice": slice, "memoryview": memoryview, "float": float, "keys": lambda d: d.keys(),
    "values": lambda v: dict(enumerate(v)).values(), "items": lambda d: d.items(), "Ellipsis": lambda: Ellipsis,
    "NotImplemented": lambda: NotImplemented,
}  # fmt: skip


def _from(module: str, name: str) -> Callable[..., Any]:
    def make(*parts: Any, **named: Any) -> Any:
        return getattr(__import__(module), name)(*parts, **named)

    return make


_IMPORTED: dict[str, Callable[..., Any]] = {
    "Decimal": _from("decimal", "Decimal"), "Fraction": _from("fractions", "Fraction"),
    "UUID": _from("uuid", "UUID"), "PosixPath": _from("pathlib", "Path"),
    "PurePosixPath": _from("pathlib", "PurePosixPath"), "date": _from("datetime", "date"),
    "time": _from("datetime", "time"), "timedelta": _from("datetime", "timedelta"),
    "timezone": _from("datetime", "timezone"), "ZoneInfo": _from("zoneinfo", "ZoneInfo"),
    "datetime": lambda *v: _from("datetime", "datetime")(*v[:-1], fold=v[-1]),
}  # fmt: skip


class _Lazy(dict):
    """Types that are written as their text, found where their modules have been imported."""

    def __contains__(self, kind: object) -> bool:
        names = ("Decimal", "Fraction", "UUID", "PosixPath", "PurePosixPath", "ZoneInfo")
        module, name = getattr(kind, "__module__", ""), getattr(kind, "__name__", "")
        known = module.partition(".")[0] in ("decimal", "fractions", "uuid", "pathlib", "zoneinfo")
        return known and name in names and getattr(sys.modules.get(module), name, None) is kind

    def __missing__(self, kind: type) -> str:
        return kind.__name__


LAZY: Any = _Lazy()


def _encode_date(value: Any, kind: type) -> Any:
    module = sys.modules.get("datetime")
    if module is None or kind.__module__ != "datetime":
        return None
    if kind is module.datetime:
        v = value
        return ["datetime", v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.tzinfo, v.fold]
    if kind is module.date:
        return ["date", value.year, value.month, value.day]
    if kind is module.time:
        return ["time", value.hour, value.minute, value.second, value.microsecond, value.tzinfo]
    if kind is module.timedelta:
        return ["timedelta", value.days, value.seconds, value.microseconds]
    if kind is module.timezone:
        return ["timezone", value.utcoffset(None), value.tzname(None)]
    return None
