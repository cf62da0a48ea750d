"""Command-line options made from the fields of option classes, with their help and their ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..errors import OptionError
from ..options import Options, value_type

SHORT = {"num_return_sequences": ["-n"], "stop_strings": ["--stop"]}


def options_of(cls: type[Options]) -> Callable[[Any], Any]:
    """A decorator that adds one option a field; those not given arrive as `None`."""

    def decorate(command: Any) -> Any:
        for name in reversed(cls.fields()):
            command = _option(cls, name)(command)
        return command

    return decorate


def _option(cls: type[Options], name: str) -> Callable[[Any], Any]:
    field = cls.fields()[name]
    kind, several = value_type(cls, name)
    dashed = name.replace("_", "-")
    text = field.metadata["help"]
    if field.default is not None:
        text += f"  [default: {field.default}]"
    if kind is bool:
        return click.option(f"--{dashed}/--no-{dashed}", name, default=None, help=text)
    names = [*SHORT.get(name, []), f"--{dashed}"]
    metavar = "|".join(field.metadata["choices"]) or {int: "INTEGER", float: "NUMBER", str: "TEXT"}[kind]
    # Values stay text here: the option class reads and checks them, so that there is one message for both doors.
    return click.option(*names, name, default=None, multiple=several, metavar=metavar, help=text)


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those that the user gave."""
    return {k: v for k, v in values.items() if v is not None and v != ()}


def key_values(pairs: tuple[str, ...]) -> dict[str, str]:
    """`-o key=value` pairs.

    Raises:
        OptionError: no `=`, or a key given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise OptionError(f"-o {pair!r} is not of the form key=value", "E.g. -o suffix='return x'")
        if key in found:
            raise OptionError(f"-o {key} is given twice", "Give it once.")
        found[key.replace("-", "_")] = value
    return found
