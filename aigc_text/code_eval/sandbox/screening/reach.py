"""Which attributes a program may read and set while it shares an interpreter with its tests.

Read by path in a bare interpreter. `screen` allows attributes by their names; a name that only the program itself
defines says nothing about the object, so the object is checked when the attribute is read. Threads, streams and
context managers of the library keep what the program must not have (a standard stream, the arguments of a test) in
attributes of their own, and so do the program's classes that are derived from them.
"""

from __future__ import annotations

import array
import ast
import collections
import enum
import types
from collections.abc import Iterator

from pure_modules import KEPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Modules whose classes keep nothing from a program, and compare their objects without calling overridable methods.
_NEUTRAL = frozenset(["builtins", "abc", "typing", "enum"])
_DATA_TYPES: tuple[type, ...] = (
    type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice,
    memoryview, type({}.keys()), type({}.items()), type({}.values()), type(NotImplemented), type(Ellipsis), object,
    collections.Counter, collections.deque, collections.OrderedDict, collections.defaultdict, array.array,
    types.SimpleNamespace,
)  # fmt: skip
#: The same in modules that are not always loaded.
_DATA_PLACES = frozenset(
    """decimal.Decimal fractions.Fraction datetime.date datetime.time datetime.datetime datetime.timedelta
    datetime.timezone uuid.UUID pathlib.PurePosixPath pathlib.PureWindowsPath pathlib.PurePath""".split()  # noqa: SIM905
)

#: Classes of the library that a program may derive from, each with the names that a derived class may not define,
#: because the class itself relies on them when the tests compare its objects.
_INHERITABLE: dict[str, str] = {
    "collections.UserDict": "keys items values __eq__", "collections.UserList": "", "collections.UserString": "",
    "collections.Counter": "__getitem__ __missing__ __iter__ keys items values", "collections.deque": "__iter__",
    "collections.OrderedDict": "", "collections.defaultdict": "", "collections.abc.Sequence": "",
    "collections.abc.MutableSequence": "", "collections.abc.Mapping": "keys items values",
    "collections.abc.MutableMapping": "keys items values", "collections.abc.Iterable": "",
    "collections.abc.Iterator": "", "collections.abc.Generator": "", "collections.abc.Sized": "",
    "collections.abc.Container": "", "collections.abc.Collection": "", "collections.abc.Reversible": "",
    "collections.abc.Hashable": "", "collections.abc.Callable": "", "collections.abc.Awaitable": "",
    "collections.abc.AsyncIterator": "", "collections.abc.AsyncIterable": "", "contextlib.ContextDecorator": "",
    "contextlib.AbstractContextManager": "", "json.encoder.JSONEncoder": "",
    "threading.Thread": "", "_thread._local": "", "datetime.tzinfo": "", "decimal.Decimal": "",
    "types.SimpleNamespace": "", "array.array": "",
}  # fmt: skip


def attributes(kind: type) -> Iterator[str]:
    """The attributes that a program may read by their names alone, of a class that it may name."""
    for name in dir(kind):
        value = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        changes = hasattr(type(value), "__setitem__") and not isinstance(value, kind)
        if name not in KEPT and not changes:
            yield name


def place_of(kind: type) -> str:
    """`module.name` of a class."""
    module = type.__getattribute__(kind, "__module__")
    name = type.__getattribute__(kind, "__qualname__")
    return f"{'collections.abc' if module == '_collections_abc' else module}.{name}"


def is_data_type(kind: type) -> bool:
    """Whether the objects of a class are data, so that a program may have the class for one of them."""
    return kind in _DATA_TYPES or place_of(kind) in _DATA_PLACES or is_named_tuple(kind)


def is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and isinstance(kind.__dict__.get("_fields"), tuple)


def is_inheritable(kind: type) -> bool:
    """Whether a program may derive from a class of the library."""
    return kind.__module__ in _NEUTRAL or issubclass(kind, BaseException) or place_of(kind) in _INHERITABLE


def forbidden_in(kind: type) -> frozenset[str]:
    """The names that a class of the program derived from a class of the library may not define."""
    listed = frozenset(_INHERITABLE.get(place_of(kind), "").split())
    return listed | private_names(kind)


def private_names(kind: type) -> frozenset[str]:
    """The names with an underscore that the methods of a class of the library use."""
    if kind.__module__ in _NEUTRAL or issubclass(kind, BaseException):
        return frozenset()
    used = set(vars(kind))
    for value in vars(kind).values():
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(function, types.FunctionType):
            used.update(names_in(function.__code__))
    return frozenset(n for n in used if n.startswith("_") and not n.endswith("__"))


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names of attributes and global variables in a function's code, nested functions and texts included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)
        elif isinstance(constant, str):  # as the name of a field that has no value
            yield constant


def is_enumeration(kind: type) -> bool:
    return isinstance(kind, enum.EnumMeta)


class AnyType(type):
    """The class of `Metatype`."""

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, type)

    def __subclasscheck__(cls, kind: Any) -> bool:
        return issubclass(kind, type)


class Metatype(metaclass=AnyType):
    """Stands for `type` in the second argument of `isinstance`, so that a program never has `type` itself."""


def compare_views_by_content() -> None:
    """Has views of a mapping compared by what is in them.

    `collections.abc.Set` trusts the length that a mapping says it has, so that one without keys equals all sets of
    that length.
    """
    from collections.abc import ItemsView, KeysView, Set

    def equals(this: Any, other: Any) -> Any:
        if not isinstance(other, Set):
            return NotImplemented
        ours, theirs = list(this), list(other)
        same = len(ours) == len(theirs) and all(v in theirs for v in ours)
        return same and all(v in ours for v in theirs)

    def within(this: Any, other: Any) -> Any:
        if not isinstance(other, Set):
            return NotImplemented
        theirs = list(other)
        return all(v in theirs for v in list(this))

    def contains(this: Any, other: Any) -> Any:
        if not isinstance(other, Set):
            return NotImplemented
        ours = list(this)
        return all(v in ours for v in list(other))

    for view in (KeysView, ItemsView):
        for name, function in (("__eq__", equals), ("__le__", within), ("__ge__", contains)):
            type.__setattr__(view, name, function)
        for name, wider in (("__lt__", within), ("__gt__", contains)):
            type.__setattr__(view, name, _strictly(wider, equals))


def _strictly(wider: Any, equals: Any) -> Any:
    def compare(this: Any, other: Any) -> Any:
        found = wider(this, other)
        return found if found is NotImplemented else found and not equals(this, other)

    return compare


def named_in(tree: ast.AST) -> Iterator[str]:
    """Every name that a tree binds, in whatever scope and form, as often as it does."""
    for node in ast.walk(tree):
        yield from bound_by(node)


def bound_by(node: ast.AST) -> Iterator[str]:
    """The names that a node itself binds."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from ((a.asname or a.name).partition(".")[0] for a in node.names)
    elif isinstance(node, (ast.Global, ast.Nonlocal)):
        yield from node.names
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.MatchMapping):
        yield node.rest or ""
    elif not isinstance(node, ast.alias) and isinstance(name := getattr(node, "name", None), str):
        yield name  # of functions, classes, handlers and patterns
