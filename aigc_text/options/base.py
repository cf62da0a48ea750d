"""Sets of options: fields with their help and their range, read from text and checked at construction."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aigc_text.errors import OptionError, nearest, shell

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


WHOLE = 2**63  # whole numbers from here on fit in no register


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] = (),
    instead: str = "",
) -> Any:
    """A field with its documentation and its range.

    Args:
        default: of the field.
        help: for the command line.
        low, high: the first and the last allowed value.
        above: the values begin above this one.
        choices: of texts, those that are allowed.
        instead: for values below the range, how to write what is usually meant by them.
    """
    bounds = {"low": low, "high": high, "above": above, "choices": tuple(choices)}
    metadata = {"help": help, "instead": instead, **bounds}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of option sets: refuses nonsense at construction, reads values from text, knows its fields' help."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value is None and f.default is None:
                continue
            kind, several = value_type(type(self), f.name)
            if several:
                # One text is one item: taken for a sequence it would be its letters.
                value = tuple(value) if isinstance(value, (list, tuple)) else (value,)
                object.__setattr__(self, f.name, value)
            for item in value if several else (value,):
                _check(f, item, kind)

    @classmethod
    def fields(cls) -> dict[str, dataclasses.Field[Any]]:
        """Field by name, in order of declaration."""
        return {f.name: f for f in dataclasses.fields(cls)}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Any:
        """Builds the options from names and values; text is read as the field's type.

        Raises:
            OptionError: a name that is no field (with the nearest one), or a value out of range.
        """
        known = cls.fields()
        for name in values:
            if name not in known:
                raise OptionError(f"unknown option {name!r}.{nearest(name, known)}", f"Allowed: {', '.join(known)}")
        return cls(**{n: _read(cls, n, v) if isinstance(v, str) else v for n, v in values.items()})

    @classmethod
    def check(cls, name: str, value: Any) -> None:
        """Refuses a value that a field cannot have.

        Raises:
            OptionError: as at construction.
        """
        _check(cls.fields()[name], value, value_type(cls, name)[0])

    @classmethod
    def on_command_line(cls, name: str, value: str) -> str:
        """A field as the command line takes it: `--max-steps 10`, `--no-packing`."""
        dashed = name.replace("_", "-")
        if value_type(cls, name)[0] is bool:
            return f"--no-{dashed}" if value.lower() in FALSE else f"--{dashed}"
        return f"--{dashed} " + shell("{}", value)

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain values for JSON."""
        return {f.name: plain(v) for f in dataclasses.fields(self) if (v := getattr(self, f.name)) != f.default}


def plain(value: Any) -> Any:
    """Tuples as lists, so that the value survives a trip through JSON or YAML unchanged."""
    return list(value) if isinstance(value, tuple) else value


@functools.cache  # they are read anew from their source each time, for each field of each check
def _annotations(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def value_type(cls: type, name: str) -> tuple[type, bool]:
    """The type of a field without its `None`, and whether it holds several values."""
    annotation = _annotations(cls)[name]
    parts = [a for a in typing.get_args(annotation) if a is not type(None)]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        annotation = parts[0]
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def _check(f: dataclasses.Field[Any], item: Any, kind: type) -> None:
    allowed = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}[kind]
    right = isinstance(item, allowed) and (kind is bool or not isinstance(item, bool))
    if isinstance(item, str):
        try:
            item.encode()
        except UnicodeEncodeError:  # the command line makes halves of characters of bytes that are not UTF-8
            raise OptionError(f"{f.name} is not UTF-8: {ascii(item)[:60]}", "Write it in UTF-8.") from None
    if not right or not _inside(f.metadata, item):
        close = nearest(item, f.metadata["choices"]) if isinstance(item, str) else ""
        most = ", below 2^63" if right and kind is int and item >= WHOLE else ""
        raise OptionError(
            f"{f.name} cannot be {item!r}{close and '.' + close}",
            f"Allowed for {f.name}: {describe_range(f, kind)}{most}{_instead(f, item)}",
        )


def _instead(f: dataclasses.Field[Any], item: Any) -> str:
    """What is usually meant by a value below a field's range."""
    low = f.metadata["low"] if f.metadata["low"] is not None else f.metadata["above"]
    below = isinstance(item, (int, float)) and not isinstance(item, bool) and low is not None and item <= low
    return f". {f.metadata['instead']}" if below and f.metadata.get("instead") else ""


def _inside(m: Mapping[str, Any], item: Any) -> bool:
    if m["choices"] and item not in m["choices"]:
        return False
    if isinstance(item, str):
        return bool(item)
    return (
        (m["low"] is None or item >= m["low"])
        and (m["above"] is None or item > m["above"])
        and (m["high"] is None or item <= m["high"])
        and abs(item) < (WHOLE if isinstance(item, int) else math.inf)  # nor is not-a-number, and JSON has neither
    )


def describe_range(f: dataclasses.Field[Any], kind: type) -> str:
    """What a field accepts, in words: `a number above 0 and up to 1`."""
    m = f.metadata
    if m["choices"]:
        return ", ".join(m["choices"])
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text that is not empty"}[kind]
    low = f"from {m['low']}" if m["low"] is not None else f"above {m['above']}" if m["above"] is not None else ""
    high = f"up to {m['high']}" if m["high"] is not None else ""
    return " ".join([words, *([" and ".join(filter(None, (low, high)))] if low or high else [])])


def _read(cls: type[Options], name: str, text: str) -> Any:
    kind, several = value_type(cls, name)
    if several:
        return (text,)
    if kind is bool and text.lower() in (*TRUE, *FALSE):
        return text.lower() in TRUE
    try:
        return int(text) if kind is int else float(text) if kind is float else text
    except ValueError:
        return text  # the check at construction names the field and what it accepts
