"""The classes of a program that shares an interpreter with its tests: what their objects may decide.

Read by path in a bare interpreter. An object of the program is equal to others of the program's objects if the program
says so, to data never; and arithmetic with data never comes to data. Otherwise an object that claims to be equal to
everything, or whose distance to everything is 0, would pass every test.
"""

from __future__ import annotations

import builtins
import re
import sys
import types
from collections.abc import Callable, Mapping

from derived import NUMBERS, Derived, Numbers, begins_sum, underlying
from program_names import ARITHMETIC, COMPARISONS, METHODS, Apart
from reach import (
    forbidden_in,
    is_data_type,
    is_enumeration,
    is_inheritable,
    is_named_tuple,
    names_in,
    place_of,
    private_names,
)

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
    """The classes that a program has made, what their objects decide, and what it reaches through other objects.

    Attributes:
        namespace: of the program's module.
        refused: why the program may not go on in this interpreter, if it may not.
        limits: what objects were not allowed to decide.
        plain: its classes whose objects have no attribute that is the library's.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.refused = ""
        self.limits: dict[str, None] = {}
        self.plain: set[type] = set()
        self._classes: dict[type, None] = {}
        self._names: set[str] = set()
        self._asked: Any = None
        self.as_numbers = Numbers(self.limit)
        self._denials: dict[type, frozenset[str]] = {}  # by class: attributes that may not be read

    def refuse(self, reason: str) -> Apart:
        self.refused = self.refused or reason
        return Apart(reason)

    # What the program calls

    def build_class(self, function: Any, name: str, *bases: Any, **options: Any) -> Any:
        """Makes a class; in place of `builtins.__build_class__`.

        Its special methods are replaced in its namespace, so that no code of the program ever sees them as they were.
        """
        try:
            made = _BUILD(function, name, *bases, metaclass=_Maker(self._prepared, function), **options)
            own = isinstance(made, type) and made.__module__ == MODULE and made not in self._classes
            if not own or is_enumeration(made) and not made.__members__:
                raise self.refuse(f"the statement of class {name} does not make a class with content")
        except BaseException as error:
            self.refuse(f"making the class {name} raises {type(error).__name__}")
            raise
        self._classes[made] = None
        if not self._denied(made):
            self.plain.add(made)
        return made

    def _prepared(self, function: types.FunctionType, bases: tuple[Any, ...], space: dict[str, Any]) -> None:
        """Takes from the namespace of a class to be made what its objects may not decide.

        Raises:
            Apart: it has a special method that is not on the list, or a base that a program may not derive from.
        """
        line = [kind for base in bases for kind in type.__getattribute__(base, "__mro__")]
        library = [kind for kind in line if not self._is_own_class(kind) and not _is_own_tuple(kind)]
        for kind in library:
            if not is_inheritable(kind):
                raise self.refuse(f"it derives from {place_of(kind)}")
        forbidden = {name for kind in library for name in forbidden_in(kind)}
        private = {name for name in forbidden if name.startswith("_") and not name.endswith("__")}
        if forbidden & set(space) or private & set(names_in(function.__code__)):
            raise self.refuse("it defines what the class relies on that it is derived from")
        if any(place_of(kind) == "enum.Enum" for kind in library) and any(map(_OF_ENUMERATIONS.fullmatch, space)):
            raise self.refuse("it defines what enumerations rely on")
        self._names.add(space["__qualname__"])
        for name, value in list(space.items()):
            if (adapted := self._adapted(name, value, line)) is not value:
                dict.__setitem__(space, name, adapted)
        defined = next((vars(kind)["__contains__"] for kind in line if "__contains__" in vars(kind)), None)
        if defined is Mapping.__contains__ and "__contains__" not in space:
            dict.__setitem__(space, "__contains__", self._membership("__contains__", defined))

    def target(self, value: Any, name: str) -> Any:
        """The value, whose attribute of that name is to be set.

        Raises:
            Apart: neither the program nor the tests have made it, or the library relies on the attribute.
        """
        kind = type(value)
        if kind in self._classes and kind in self._denials:  # nearly always, and in the innermost loops
            allowed = name not in self._denials[kind]
        elif issubclass(kind, type):
            allowed = self._is_own_class(value)
        elif kind is types.FunctionType:
            allowed = value.__globals__ is self.namespace
        else:
            allowed = self.is_own(value) or kind.__module__ in (MODULE, "__main__", "types", "threading")
            allowed = allowed and (self._is_own_class(kind) or not defines_method(kind, name))
            allowed = (allowed or issubclass(kind, BaseException)) and name not in self._denied(kind)
        if not allowed or isinstance(value, types.ModuleType):
            raise self.refuse(f"it sets {name} of a {kind.__name__}")
        return value

    def owner(self, value: Any, name: str) -> Any:
        """The value, whose attribute of that name is to be read.

        Raises:
            Apart: it might lead to what the program must not have.
        """
        kind = type(value)
        if kind in self._denials:
            allowed = name not in self._denials[kind]
        elif kind is super:
            self.owner(value.__self__, name)
            return value
        elif kind is types.MethodType:
            self.owner(value.__func__, name)
            return value
        elif kind is types.FunctionType:
            allowed = value.__globals__ is self.namespace
        else:
            described = value if issubclass(kind, type) else kind
            allowed = self._is_open(described) and name not in self._denied(described)
        if not allowed:
            raise self.refuse(f"it reads the attribute {name} of a {kind.__name__}")
        return value

    def _denied(self, kind: type) -> frozenset[str]:
        """The attributes of an object or a class that the library keeps for itself."""
        if (found := self._denials.get(kind)) is None:
            line = type.__getattribute__(kind, "__mro__")
            library = [other for other in line if not self._is_own_class(other) and other.__module__ != "__main__"]
            found = frozenset(name for other in library for name in private_names(other))
            if self._is_open(kind):
                self._denials[kind] = found
        return found

    def _is_open(self, kind: type) -> bool:
        """Whether a class has no attributes but those of data, of the program and of the tests."""
        if self._is_own_class(kind) or issubclass(kind, BaseException) or kind.__module__ == "__main__":
            return True
        return is_data_type(kind) or kind is object

    def type_of(self, value: Any) -> type:
        """The type of a value; in place of `type` with one argument.

        Raises:
            Apart: a program must not have the type.
        """
        found = type(value)
        own = self._is_own_class(found) or found.__module__ == "__main__" or issubclass(found, BaseException)
        if issubclass(found, type) or not (own or is_data_type(found)):
            raise self.refuse(f"it asks for the type of a {found.__name__}")
        return found

    @staticmethod
    def type_name(value: Any) -> str:
        """The name of a value's type; in place of `type(value).__name__`."""
        return type(value).__name__

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

    def _adapted(self, name: str, value: Any, line: list[type]) -> Any:
        """What a class has under a name in place of the value.

        Args:
            name: of the attribute.
            value: in the namespace of the class that is to be made.
            line: the classes that it inherits from.
        """
        predicate = name.startswith(("startswith", "endswith")) or (name.startswith("is") and name.isalpha())
        if predicate and any(name in vars(kind) for kind in line):
            raise self.refuse(f"it answers {name} in place of the class that it is derived from")
        if not (name.startswith("__") and name.endswith("__")):
            return value
        for names, replace in (
            (COMPARISONS, self._comparison), (ARITHMETIC, self._arithmetic), (("__contains__",), self._membership),
            (NUMBERS, self._number),
        ):  # fmt: skip
            if name in names and value is not None:
                if type(value) not in _CALLABLE:
                    raise self.refuse(f"its {name} is a {type(value).__name__}")
                return replace(name, value)
        if name not in METHODS and name not in _MADE_BY_PYTHON and not name.startswith("__dataclass"):
            raise self.refuse(f"it defines {name}")
        return value

    def _comparison(self, name: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def compare(this: Any, other: Any) -> Any:
            if self._is_program(sys._getframe(1)):
                return function(this, other)
            comparable = self.is_own(other) or type(other) is Derived and name in ("__eq__", "__ne__")
            if not comparable and not self._take_asked(this):
                return self.limit("compares with data", NotImplemented)
            found = function(this, underlying(other))
            return found if found is NotImplemented or self.is_own(found) else bool(found)

        return _like(compare, function)

    def _arithmetic(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def calculate(this: Any, other: Any, *rest: Any) -> Any:
            if self._is_program(sys._getframe(1)):
                return function(this, other, *rest)
            asked = self._take_asked(this)
            found = function(this, underlying(other), *rest)
            if asked or self.is_own(other) or found is NotImplemented:
                return found
            if not self._is_no_data(found):
                return self.limit("calculates with data", NotImplemented)
            return found if begins_sum(name, other) else Derived(found, self.is_own, self.limit)

        return _like(calculate, function)

    def _number(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def convert(this: Any, *rest: Any) -> Any:
            found = function(this, *rest)
            if self._is_program(sys._getframe(1)) or self.is_own(found):
                return found
            return self.as_numbers.checked(this, (name, *rest), found)

        return _like(convert, function)

    def _membership(self, _: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
        def contains(this: Any, item: Any) -> bool:
            if self._take_asked(this) or self._is_program(sys._getframe(1)):
                return bool(function(this, item))
            try:
                values = iter(this)
            except TypeError:
                self.limit("says what it contains", None)
                raise
            return any(value is item or value == item for value in values)

        return _like(contains, function)

    def asked(self, value: Any, made_by: Any) -> Any:
        """The value, whose answer to the next question counts: the tests have made it from a class under test.

        Args:
            value: an operand in the tests.
            made_by: what the tests have called for it; `None` where no answer counts.
        """
        if made_by is None:
            self._asked = None
        elif isinstance(made_by, type) and type(value) is made_by and self.is_own(value):
            self._asked = value
        return value

    def _take_asked(self, *values: Any) -> bool:
        asked, self._asked = self._asked, None
        return asked is not None and any(value is asked for value in values)

    def limit(self, what: str, answer: Any) -> Any:
        self.limits[f"an object of the program {what}, which the sandbox does not let it decide"] = None
        return answer


_OF_ENUMERATIONS = re.compile(r"_(?!_|(missing|generate_next_value)_$)\w*[^_]_")
_BUILD = builtins.__build_class__
#: What a special method may be; anything else would run code of its own when it is looked up.
_CALLABLE = frozenset(
    [types.FunctionType, types.WrapperDescriptorType, types.MethodDescriptorType, types.BuiltinFunctionType]
)


def defines_method(kind: type, name: str) -> bool:
    """Whether a class has a method of that name, which an attribute of its object would hide."""
    return any(callable(vars(other).get(name)) for other in type.__getattribute__(kind, "__mro__"))


def _is_own_tuple(kind: type) -> bool:
    """Whether a class is a named tuple that the program has made."""
    return kind.__module__ == MODULE and is_named_tuple(kind)


class _Maker:
    """Stands for the metaclass while the body of a class runs, and then makes the class with the real one."""

    def __init__(self, prepared: Callable[[Any, Any, Any], None], function: Any) -> None:
        self.prepared, self.function = prepared, function

    def __prepare__(self, name: str, bases: tuple[Any, ...], **options: Any) -> Any:
        self.kind, space, _ = types.prepare_class(name, bases, options)
        return space

    def __call__(self, name: str, bases: tuple[Any, ...], space: Any, **options: Any) -> Any:
        self.prepared(self.function, bases, space)
        return self.kind(name, bases, space, **options)


def _like(made: Any, function: Any) -> Any:
    if type(function) is types.FunctionType:
        for name in ("__name__", "__qualname__", "__doc__"):
            setattr(made, name, getattr(function, name))
    return made
