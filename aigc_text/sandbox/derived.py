"""What comes of arithmetic with an object of the program and data of the tests.

Read by path in a bare interpreter. The program has seen the value that the tests expect by then, so a difference of it
could always be made to look like nothing: such an object calculates and is compared with others of the program's, and
is asked for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from link import OPERATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNARY = ("__abs__", "__neg__", "__pos__", "__invert__", "__round__", "__trunc__", "__floor__", "__ceil__")
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

    __slots__ = ("is_own", "limit", "value")

    def __init__(self, value: Any, is_own: Callable[[Any], bool], limit: Callable[[str, Any], Any]) -> None:
        for name, given in (("value", value), ("is_own", is_own), ("limit", limit)):
            object.__setattr__(self, name, given)

    def __getattr__(self, name: str) -> Any:
        raise _refusal(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Derived) or not self.is_own(other):
            raise _refusal(self)
        return bool(self.value == other)

    def __ne__(self, other: object) -> bool:
        return not self == other


def underlying(value: Any) -> Any:
    """The object of the program that a value stands for, or the value."""
    return value.value if type(value) is Derived else value


def begins_sum(operation: str, other: Any) -> bool:
    """Whether an object is added to the 0 of `sum`, which tells it nothing of what the tests expect."""
    return operation == "__radd__" and type(other) is int and other == 0


def _refusal(derived: Derived) -> Undecided:
    derived.limit("calculates with data", None)
    return Undecided(f"what came of a {type(derived.value).__name__} and data does not become data here")


def _operation(name: str) -> Any:
    def calculate(self: Derived, *others: Any) -> Any:
        method = getattr(type(self.value), name, None)
        found = NotImplemented if method is None else method(self.value, *map(underlying, others))
        if found is NotImplemented or type(found) is Derived:
            return found
        if not self.is_own(found):
            raise _refusal(self)
        return Derived(found, self.is_own, self.limit)

    return calculate


def _refused(self: Derived, *_: Any) -> Any:
    raise _refusal(self)


for _name in (*OPERATIONS, *_UNARY):
    setattr(Derived, _name, _operation(_name))
for _name in _REFUSED:
    setattr(Derived, _name, _refused)
