"""Interrupts that wait until work can be stopped without losing any: SIGINT (Ctrl-C) and SIGTERM.

Who runs the work says `postponed`, who does it says `held` around what should be finished first, and looks at `asked`.
Then the first signal is noted only; elsewhere it is raised where it comes. A second one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM came."""


class _Here:
    """What is in force in this process."""

    postponed = held = False
    noted = 0


def asked() -> int:
    """The signal that asks the work to stop, or 0."""
    return _Here.noted


def error_of(number: int) -> BaseException:
    """What a signal is raised as."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def postponed() -> Iterator[None]:
    """Within it `held` holds signals back. In the main thread only; elsewhere they are not Python's to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Here.postponed, _Here.noted = True, 0
    try:
        # Of several processes each may wait for another outside of Python, where no handler would run: until they work
        # step by step, signals end them as always.
        with _handlers() if processes.world() == 1 else _nothing():
            yield
    finally:
        _Here.postponed, _Here.noted = False, 0


@contextmanager
def held() -> Iterator[None]:
    """Within it, inside `postponed`, the first signal is noted and nothing else happens."""
    if not _Here.postponed:
        yield
        return
    _Here.held = True
    try:
        with _handlers() if processes.world() > 1 else _nothing():
            yield
    finally:
        _Here.held = False


@contextmanager
def at_once() -> Iterator[None]:
    """Within it, inside `held`, a signal is raised where it comes; one that was noted before, at the start."""
    before, _Here.held = _Here.held, False
    try:
        if _Here.noted:  # looked at after that, so that one which comes in between is not missed
            raise error_of(_Here.noted)
        yield
    finally:
        _Here.held = before


@contextmanager
def _handlers() -> Iterator[None]:
    # One that is ignored stays so: a shell has its background jobs ignore SIGINT.
    wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _note) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _note(number: int, _: Any) -> None:
    if _Here.noted:
        os._exit(128 + number)
    _Here.noted = number
    if not _Here.held:
        raise error_of(number)
