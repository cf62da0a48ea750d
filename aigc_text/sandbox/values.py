"""Values on their way between the tests and the program: plain data as copies, all else as a reference.

Read by path in a bare interpreter. Nothing that comes from the other side is ever executed: what arrives are numbers,
texts and containers of these, so a value cannot claim to be equal to what the tests expect.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MOST = 64 << 20  # bytes of one message


class Gone(BaseException):
    """The other side has ended; not an `Exception`, so that no test catches it."""


class Channel:
    """Messages over two pipes, each a line of JSON."""

    def __init__(self, read: int, write: int) -> None:
        self.reader, self.write_to = os.fdopen(read, "rb"), write

    def send(self, message: Any) -> None:
        """Raises `Gone`: nobody reads."""
        left = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while left:
                left = left[os.write(self.write_to, left) :]
        except BrokenPipeError:
            raise Gone from None

    def receive(self) -> Any:
        """Raises `Gone`: nobody writes, or what comes is no message."""
        line = self.reader.readline(MOST)
        if not line.endswith(b"\n"):
            raise Gone
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise Gone from None


def encode(value: Any, refer: Callable[[Any], Any]) -> Any:
    """A value as JSON; `refer` makes a reference of what is no plain data."""

    def each(values: Any) -> list[Any]:
        return [encode(v, refer) for v in values]

    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return ["int", int.__format__(value, "x")]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, (bytes, bytearray)):
        return [type(value).__name__ if type(value) in (bytes, bytearray) else "bytes", value.hex()]
    if isinstance(value, dict):
        return ["dict", [each(pair) for pair in dict.items(value)]]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, each(kind.__iter__(value))]  # type: ignore[arg-type]
    if type(value) is range:
        return ["range", [value.start, value.stop, value.step]]
    if type(value) in (Decimal, Fraction):
        return [type(value).__name__, str(value)]
    return refer(value)


def decode(found: Any, referred: Callable[[Any], Any]) -> Any:
    """The value of `encode`; `referred` gives what a reference stands for.

    Raises:
        ValueError, TypeError, IndexError: it is none.
    """
    if not isinstance(found, list):
        if found is None or isinstance(found, (str, bool)):
            return found
        raise TypeError("no value")
    kind, *rest = found
    if kind in _PLAIN:
        return _PLAIN[kind](*rest)
    if kind in _CONTAINERS:
        return _CONTAINERS[kind]([decode(v, referred) for v in rest[0]])
    if kind == "dict":
        return {decode(k, referred): decode(v, referred) for k, v in rest[0]}
    return referred(found)


_PLAIN: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda a, b: complex(float.fromhex(a), float.fromhex(b)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda parts: range(*parts),
    "Decimal": Decimal,
    "Fraction": Fraction,
}
_CONTAINERS: dict[str, Callable[..., Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
