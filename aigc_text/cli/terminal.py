"""What goes to a terminal: control characters made visible, so that no text can move the cursor or hide itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TextIO, TypeVar

import click

T = TypeVar("T")

_PICTURES = {**{i: 0x2400 + i for i in range(32)}, 0x7F: 0x2421}  # ␛ for escape, and so on
_KEPT = {ord("\n"), ord("\t")}


def visible(text: str) -> str:
    """Control, bidirectional and other invisible formatting characters as pictures or `<U+202E>`.

    Joiners stay, since emoji and some scripts are written with them.
    """
    return "".join(c if _harmless(c) else _shown(c) for c in text)


def _harmless(c: str) -> bool:
    return ord(c) in _KEPT or c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _shown(c: str) -> str:
    return chr(_PICTURES[ord(c)]) if ord(c) in _PICTURES else f"<U+{ord(c):04X}>"


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
