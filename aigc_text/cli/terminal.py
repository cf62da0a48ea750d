"""What goes to a terminal: control characters made visible, so that no text can move the cursor or hide itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TextIO, TypeVar

import click

from ..markup import visible

T = TypeVar("T")


def write(stream: TextIO, text: str) -> None:
    """Writes at once: made visible on a terminal, byte for byte elsewhere."""
    stream.write(visible(text) if stream.isatty() else text)
    stream.flush()


def begun(items: Iterable[T]) -> Iterator[T]:
    """The same items, the first of them made already: what fails at once must fail before a bar is drawn."""
    items = iter(items)
    return chain(list(islice(items, 1)), items)


def notice(text: str) -> None:
    """A line on standard error."""
    click.echo(visible(text), err=True)
