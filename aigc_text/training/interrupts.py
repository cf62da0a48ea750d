"""Interrupts: SIGINT (Ctrl-C), SIGTERM and SIGHUP, which wait until work can be stopped without losing any.

Who runs the work says `postponed`, who does it says `held` around what should be finished first, and looks at `asked`.
Then the first signal is noted only; elsewhere it is raised where it comes. A second one ends the process at once.

Work that has nothing to save says `ended_in_time` instead: a signal is raised where it comes there too, and the process
ends soon even if it is inside a long call into C, where Python raises nothing.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aigc_text import distributed
from aigc_text.utils import output_file

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
PATIENCE = 0.6  # seconds from a signal to the end of a process that does not come to it by itself


class Terminated(BaseException):
    """SIGTERM came, or SIGHUP: the signal's number is its argument."""


class _Here:
    """What is in force in this process."""

    postponed = held = False
    noted = 0


def asked() -> int:
    """The signal that asks the work to stop, or 0."""
    return _Here.noted


def error_of(number: int) -> BaseException:
    """What a signal is raised as."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


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
        with _handlers() if distributed.world() == 1 else _nothing():
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
        with _handlers() if distributed.world() > 1 else _nothing():
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
def ended_in_time() -> Iterator[None]:
    """Within it a signal ends the process after `PATIENCE` seconds, wherever it is; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # which ends the watcher
        watcher.join()
        os.close(reader)


def _watch(reader: int) -> None:
    """Waits for a signal's number from the system's own handler; the end of the pipe is the end of the work."""
    first, end = 0, None
    while select.select([reader], [], [], None if end is None else max(0.0, end - time.monotonic()))[0]:
        if not (number := os.read(reader, 1)):
            return
        if end is None and number[0] in SIGNALS:
            first, end = number[0], time.monotonic() + PATIENCE
    output_file.abandon()
    with suppress(OSError):
        os.write(2, b"Interrupted\n" if first == signal.SIGINT else b"Terminated\n")
    os._exit(128 + first)


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
