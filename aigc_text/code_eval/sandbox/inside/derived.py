"""What comes of arithmetic with an object of the program and data of the tests.

Read by path in a bare interpreter. The program has seen the value that the tests expect by then, so a difference of it
could always be made to look like nothing: such an object calculates and is compared with others of the program's, and
is asked for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from stand_in import OPERATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNARY = ("__abs__", "__neg__", "__pos__", "__invert__", "__round__", "__trunc__", "__floor__", "__ceil__")
#: Conversions that give a number.
NUMBERS = ("__int__", "__float__", "__complex__", "__index__", "__round__", "__trunc__", "__floor__", "__ceil__")
_REFUSED = """__setattr__ __delattr__ __bool__ __len__ __int__ __float__ __complex__ __index__ __str__ __repr__
    __format__ __hash__ __iter__ __next__ __reversed__ __getitem__ __setitem__ __delitem__ __contains__ __call__
    __enter__ __exit__ __aenter__ __aexit__ __aiter__ __anext__ __await__ __lt__ __le__ __gt__ __ge__""".split()  # noqa: SIM905


class Undecided(Exception):
    """The tests ask an object for what the sandbox does not let it decide. No test expects just this error."""


class Derived:
    """Stands for an object that came of arithmetic with data.

    Args:
        value: the object of the program.
        is_own: whether a value is an object of the program.
        limit: notes what an object was not allowed to decide.
    """

    __slots__ = ("__parts",)

    def __init__(self, value: Any, is_own: Callable[[Any], bool], limit: Callable[[str, Any], Any]) -> None:
        object.__setattr__(self, _PARTS, (value, is_own, limit))

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Derived
        raise _refusal(self)

    def __eq__(self, other: object) -> bool:
        value, is_own, _ = _parts(self)
        if type(other) is Derived or not is_own(other):
            raise _refusal(self)
        return bool(value == other)

    def __ne__(self, other: object) -> bool:
        return not self == other


_PARTS = "_Derived__parts"


def _parts(derived: Derived) -> Any:
    """(object, whether a value is the program's, what notes a limit)"""
    return object.__getattribute__(derived, _PARTS)


def underlying(value: Any) -> Any:
    """The object of the program that a value stands for, or the value."""
    return _parts(value)[0] if type(value) is Derived else value


class Numbers:
    """What objects of the program are as numbers. One that is another number each time could be any that is expected.

    Args:
        limit: notes what an object was not allowed to decide.
    """

    def __init__(self, limit: Callable[[str, Any], Any]) -> None:
        self.limit = limit
        self.known: dict[Any, tuple[Any, Any]] = {}  # the object is kept, so that its id stays its own

    def checked(self, value: Any, how: tuple[Any, ...], found: Any) -> Any:
        """What a conversion has found, if it has found the same before.

        Raises:
            Undecided: it has not.
        """
        _, before = self.known.setdefault((id(value), *how), (value, found))
        if type(before) is not type(found) or before != found and before == before:
            self.limit("is another number than before", None)
            raise Undecided(f"a {type(value).__name__} is {before!r} at one time and {found!r} at another")
        return found


def begins_sum(operation: str, other: Any) -> bool:
    """Whether an object is added to the 0 of `sum`, which tells it nothing of what the tests expect."""
    return operation == "__radd__" and type(other) is int and other == 0


def _refusal(derived: Derived) -> Undecided:
    value, _, limit = _parts(derived)
    limit("calculates with data", None)
    return Undecided(f"what came of a {type(value).__name__} and data does not become data here")


def _operation(name: str) -> Any:
    def calculate(self: Derived, *others: Any) -> Any:
        value, is_own, limit = _parts(self)
        method = getattr(type(value), name, None)
        found = NotImplemented if method is None else method(value, *map(underlying, others))
        if found is NotImplemented or type(found) is Derived:
            return found
        if not is_own(found):
            raise _refusal(self)
        return Derived(found, is_own, limit)

    return calculate


def _refused(self: Derived, *_: Any) -> Any:
    raise _refusal(self)


for _name in (*OPERATIONS, *_UNARY):
    setattr(Derived, _name, _operation(_name))
for _name in _REFUSED:
    setattr(Derived, _name, _refused)
