"""What stands for classes and objects of the other process, and asks there for whatever is asked of it.

Read by path in a bare interpreter. `link` makes them, and knows what each stands for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from link import Link

#: Asked by the name of the method: it is there or not.
METHODS = ("__enter__", "__exit__", "__aenter__", "__aexit__", "__aiter__", "__anext__", "__trunc__", "__floor__",
           "__ceil__")  # fmt: skip
_BINARY = """add sub mul truediv floordiv mod divmod pow matmul and or xor lshift rshift""".split()  # noqa: SIM905
OPERATIONS = tuple(f"__{p}{name}__" for name in _BINARY for p in ("", "r", "i") if p + name != "idivmod")


class StandInErrorClass(type):
    """The class of errors of a class of the other side, which has its attributes."""

    link: Link

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        return cls.link.ask("getattr", (cls, name), {})


class StandInClass(type):
    """The class of stand-ins for the objects of a class of the other side; stands for that class itself."""

    link: Link

    def _consult(cls, what: str, *args: Any, **kwargs: Any) -> Any:
        return cls.link.ask(what, (cls, *args), kwargs)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._consult("call", *args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        return cls._consult("getattr", name)

    def __setattr__(cls, name: str, value: Any) -> None:
        cls._consult("setattr", name, value)

    def __iter__(cls) -> Any:
        return cls._consult("iter")

    def __len__(cls) -> int:
        return int(cls._consult("len"))

    def __getitem__(cls, key: Any) -> Any:
        return cls._consult("getitem", key)

    def __contains__(cls, item: Any) -> bool:
        return any(value is item or value == item for value in cls)

    def __bool__(cls) -> bool:
        return True


_LATER: Any = None  # set before the first is made


class StandIn:
    """Stands for an object of the other side, and asks there for whatever is asked of it."""

    __slots__ = ("number",)
    link = _LATER  # an annotation would hide those of the program's functions

    def _ask(self, what: str, *args: Any, **kwargs: Any) -> Any:
        return type(self).link.ask(what, (self, *args), kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask("call", *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._ask("getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("setattr", name, value)

    def __delattr__(self, name: str) -> None:
        self._ask("delattr", name)

    def __iter__(self) -> Any:
        return self._ask("iter")

    def __next__(self) -> Any:
        return self._ask("next")

    def __reversed__(self) -> Any:
        return self._ask("reversed")

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        self._ask("delitem", key)

    def __contains__(self, item: Any) -> bool:
        return bool(self._ask("contains", item))

    def __bool__(self) -> bool:
        return bool(self._ask("bool"))

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))

    def __format__(self, spec: str) -> str:
        return str(self._ask("format", spec))

    def __hash__(self) -> int:
        return int(self._ask("hash"))

    def __eq__(self, other: object) -> Any:
        return self._ask("eq", other)

    def __dir__(self) -> Any:
        return self._ask("dir")


def _convert(what: str) -> Any:
    def convert(self: Any, *rest: Any) -> Any:
        return self._ask(what, *rest)

    return convert


def _method(name: str) -> Any:
    def method(self: Any, *given: Any) -> Any:
        found = self._ask("method", name, *given)
        if found is NotImplemented and name in METHODS:
            raise TypeError(f"{type(self).__name__!r} object has no {name}")
        return found

    return method


for _what in ("abs", "neg", "pos", "invert", "round", "int", "float", "complex", "index", "lt", "le", "gt", "ge"):
    setattr(StandIn, f"__{_what}__", _convert(_what))
for _name in (*METHODS, *OPERATIONS):
    setattr(StandIn, _name, _method(_name))
