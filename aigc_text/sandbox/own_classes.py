"""The classes of a program that shares an interpreter with its tests: what their objects may decide.

Read by path in a bare interpreter. An object of the program is equal to others of the program's objects if the program
says so, to data never; and arithmetic with data never comes to data. Otherwise an object that claims to be equal to
everything, or whose distance to everything is 0, would pass every test.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable

from screen import ARITHMETIC, COMPARISONS, CONVERSIONS, METHODS, Apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "solution"  # the name of the program's module
_MADE_BY_PYTHON = frozenset(
    """__module__ __qualname__ __doc__ __dict__ __weakref__ __annotations__ __annotate_func__ __annotations_cache__
    __firstlineno__ __static_attributes__ __classcell__ __orig_bases__ __parameters__ __abstractmethods__
    __match_args__ __protocol_attrs__ __non_callable_proto_members__ __final__ __type_params__ __classdictcell__
    __reduce_ex__ __getnewargs__ __total__ __required_keys__ __optional_keys__ __readonly_keys__ __mutable_keys__
    __closed__ __extra_items__ __replace__ __callable_proto_members_only__ __subclasshook__ __signature__""".split()  # noqa: SIM905
)


class OwnClasses:
    """The classes that a program has made, and what their objects decide.

    Attributes:
        namespace: of the program's module.
        trusted: names of classes that the problem itself defines, whose methods are not the program's.
        refused: why the program may not go on in this interpreter, if it may not.
        limits: what objects were not allowed to decide.
    """

    def __init__(self, namespace: dict[str, Any], trusted: frozenset[str]) -> None:
        self.namespace, self.trusted = namespace, trusted
        self.refused = ""
        self.limits: dict[str, None] = {}
        self._classes: dict[type, None] = {}
        self._names: set[str] = set()
        self._asked: Any = None
        self._derived: dict[int, Any] = {}  # objects that came of arithmetic with data, kept so that ids stay theirs

    def refuse(self, reason: str) -> Apart:
        self.refused = self.refused or reason
        return Apart(reason)

    # What the program calls

    def build_class(self, function: Any, name: str, *bases: Any, **options: Any) -> Any:
        """Makes a class; in place of `builtins.__build_class__`."""
        made = _BUILD(function, name, *bases, **options)
        if made.__qualname__ in self.trusted and made.__qualname__ not in self._names:
            return made
        for special, value in list(vars(made).items()):
            self._adapt(made, special, value)
        self._classes[made] = None
        self._names.add(made.__qualname__)
        return made

    def target(self, value: Any) -> Any:
        """The value, whose attribute is to be set.

        Raises:
            Apart: neither the program nor the tests have made it.
        """
        kind = type(value)
        if issubclass(kind, type):
            allowed = self._is_own_class(value)
        elif kind is types.FunctionType:
            allowed = value.__globals__ is self.namespace
        else:
            allowed = self.is_own(value) or kind.__module__ in (MODULE, "__main__", "types", "threading")
            allowed = allowed or issubclass(kind, BaseException)
        if not allowed or isinstance(value, types.ModuleType):
            raise self.refuse(f"it sets an attribute of a {kind.__name__}")
        return value

    def type_of(self, value: Any) -> type:
        """The type of a value; in place of `type` with one argument.

        Raises:
            Apart: it is a type of classes.
        """
        found = type(value)
        if issubclass(found, type):
            raise self.refuse("it asks for the type of a class")
        return found

    # What objects may decide

    def is_own(self, value: Any) -> bool:
        return any(self._is_own_class(c) for c in type(value).__mro__)

    def _is_program(self, caller: types.FrameType) -> bool:
        """Whether the program itself asks: what its objects answer it is nobody else's business."""
        return caller.f_globals is self.namespace

    def _is_no_data(self, value: Any) -> bool:
        """Whether a value is an object of the program that is not derived from a type of data as well."""
        others = (c for c in type(value).__mro__ if not self._is_own_class(c))
        return self.is_own(value) and all(c is object or c.__module__ in ("abc", "typing") for c in others)

    def _is_own_class(self, kind: type) -> bool:
        # With slots, a dataclass is a copy of the class that the program wrote.
        return kind in self._classes or (kind.__module__ == MODULE and kind.__qualname__ in self._names)

    def _adapt(self, made: type, name: str, value: Any) -> None:
        """Takes from a class what its objects may not decide.

        Raises:
            Apart: it has a special method that is not on the list.
        """
        inherited = [vars(base)[name] for base in made.__mro__[1:] if name in vars(base)]
        if any(value is other for other in inherited):  # as enumerations copy them
            return
        if inherited and (name.startswith(("startswith", "endswith")) or (name.startswith("is") and name.isalpha())):
            raise self.refuse(f"it answers {name} in place of the class that it is derived from")
        if not (name.startswith("__") and name.endswith("__")):
            return
        for names, replace in (
            (COMPARISONS, self._comparison), (ARITHMETIC, self._arithmetic), (CONVERSIONS, self._conversion),
            (("__contains__",), self._membership),
        ):  # fmt: skip
            if name in names and value is not None:
                type.__setattr__(made, name, replace(value))
                return
        known = name in METHODS or name in _MADE_BY_PYTHON or name.startswith("__dataclass")
        if not known and type(made).__module__ != "enum":
            raise self.refuse(f"it defines {name}")

    def _comparison(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def compare(this: Any, other: Any) -> Any:
            if self._is_program(sys._getframe(1)):
                return function(this, other)
            if not self.is_own(other) and not self._take_asked(this):
                return self._limit("compares with data", NotImplemented)
            found = function(this, other)
            return found if found is NotImplemented or self.is_own(found) else bool(found)

        return _like(compare, function)

    def _arithmetic(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def calculate(this: Any, other: Any, *rest: Any) -> Any:
            if self._is_program(sys._getframe(1)):
                return function(this, other, *rest)
            asked = self._take_asked(this)
            found = function(this, other, *rest)
            if asked or self.is_own(other) and id(this) not in self._derived and id(other) not in self._derived:
                return found
            if found is not NotImplemented and not self._is_no_data(found):
                return self._limit("calculates with data", NotImplemented)
            self._derived[id(found)] = found
            return found

        return _like(calculate, function)

    def _conversion(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def convert(this: Any, *rest: Any) -> Any:
            if id(this) not in self._derived or self._is_program(sys._getframe(1)):
                return function(this, *rest)
            found = function(this, *rest)
            if not self._is_no_data(found):
                self._limit("calculates with data", None)
                raise TypeError(f"what came of a {type(this).__name__} and data does not become data here")
            self._derived[id(found)] = found
            return found

        return _like(convert, function)

    def _membership(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
        def contains(this: Any, item: Any) -> bool:
            if self._take_asked(this) or self._is_program(sys._getframe(1)):
                return bool(function(this, item))
            try:
                values = iter(this)
            except TypeError:
                self._limit("says what it contains", None)
                raise
            return any(value is item or value == item for value in values)

        return _like(contains, function)

    def asked(self, value: Any, made_by: Any) -> Any:
        """The value, whose answer to the next question counts: the tests have made it from a class under test.

        Args:
            value: an operand in the tests.
            made_by: what the tests have called for it.
        """
        if isinstance(made_by, type) and type(value) is made_by and self.is_own(value):
            self._asked = value
        return value

    def _take_asked(self, *values: Any) -> bool:
        asked, self._asked = self._asked, None
        return asked is not None and any(value is asked for value in values)

    def _limit(self, what: str, answer: Any) -> Any:
        self.limits[f"an object of the program {what}, which the sandbox does not let it decide"] = None
        return answer


_BUILD = builtins.__build_class__


def _like(made: Any, function: Any) -> Any:
    for name in ("__name__", "__qualname__", "__doc__"):
        if isinstance(value := getattr(function, name, None), str):
            setattr(made, name, value)
    return made
