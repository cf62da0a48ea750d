"""What goes to a terminal: control characters made visible, so that no text can move the cursor or hide itself."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from types import FrameType
from typing import Any, TextIO, TypeVar, cast

import click

from aigc_text.errors import redacted
from aigc_text.utils.visible_text import visible

T = TypeVar("T")


class Guarded:
    """A stream of the user's with whatever is written to it made visible on a terminal: by libraries and plugins too.

    It has no `buffer`, so that nothing gets around it.

    Args:
        stream: standard output or standard error.
        hides: secrets are taken out, wherever the stream leads.
    """

    def __init__(self, stream: TextIO, hides: bool) -> None:
        self.raw, self.hides = stream, hides

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.raw, name)

    def write(self, text: str) -> int:
        if self.hides:
            text = redacted(text)
        if self.raw.isatty():
            # The bars of downloads move the cursor; what they say is no safer than anything else.
            moves = _MOVES.match(text)[0] if _is_bar(inspect.currentframe()) else ""  # type: ignore[index]
            text = moves + visible(text[len(moves) :])
        return self.raw.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


class ReaderGone(BaseException):
    """The reader of our standard output closed it, so there is nothing left to do."""


class _Outgoing:
    """Standard output whose reader may go; no other pipe that breaks is taken for it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with _leaving():
            return self.stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        with _leaving():
            self.stream.writelines(lines)

    def flush(self) -> None:
        with _leaving():
            self.stream.flush()


@contextmanager
def _leaving() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error


class _Lasting:
    """Standard error whose reader may go, or whose device may be full: what is said then goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        return int(self._tried(self.stream.write, text))

    def flush(self) -> None:
        self._tried(self.stream.flush)

    def _tried(self, do: Callable[..., Any], *given: Any) -> Any:
        try:
            return do(*given)
        except OSError:  # its reader closed it, or its device is full: there is nowhere to report that
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno())  # for whatever else writes there too
            os.close(null)
            return 0


def error_stream(stream: TextIO) -> TextIO:
    """Standard error as a command has it."""
    return cast(TextIO, Guarded(cast(TextIO, _Lasting(stream)), hides=True))


_MOVES = re.compile(r"(?:\r|\n|\x1b\[A)*")


def _is_bar(frame: FrameType | None) -> bool:
    """Whether the function that a frame was called from is one of tqdm's."""
    caller = frame.f_back if frame is not None else None
    return caller is not None and str(caller.f_globals.get("__name__")).partition(".")[0] == "tqdm"


@contextmanager
def guarded() -> Iterator[None]:
    """Guards both streams; files and pipes get standard output byte for byte.

    Raises:
        ReaderGone: nobody reads standard output any more.
    """
    out, err = sys.stdout, sys.stderr
    try:
        outgoing = cast(TextIO, _Outgoing(out))
        sys.stdout = cast(TextIO, Guarded(outgoing, hides=False)) if out.isatty() else outgoing
        sys.stderr = error_stream(err)
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def raw(stream: TextIO) -> TextIO:
    """The stream behind the guard, for what moves the cursor or colours on purpose."""
    return stream.raw if isinstance(stream, Guarded) else stream


def bar(total: int, label: str, **how: Any) -> Any:
    """A bar on standard error."""
    show: Callable[[Any], str | None] | None = how.pop("item_show_func", None)
    if show is not None:
        how["item_show_func"] = lambda item: visible(show(item) or "")
    return click.progressbar(length=total, file=raw(sys.stderr), label=visible(" ".join(label.split())), **how)


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
