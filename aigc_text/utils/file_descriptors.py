"""Diverts file descriptors 1 and 2 for a moment, in a process that is ours alone.

Descriptors belong to the whole process: while one thread diverts them, every thread's output goes elsewhere. So only
the command line does it (`owned`). In anybody else's process the context managers here do nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PANIC = "PanicException"  # of Rust, as tokenizers raises it: no `Exception` to Python

_owned = False
_diverting = threading.RLock()


@contextmanager
def owned() -> Iterator[None]:
    """Allows diverting inside. For the entry point of a program, which knows that the process is its own."""
    global _owned
    before, _owned = _owned, True
    try:
        yield
    finally:
        _owned = before


@contextmanager
def _turn() -> Iterator[bool]:
    """Whether the descriptors may be diverted now: in our own process, and while no other thread does so."""
    free = _owned and _diverting.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _diverting.release()


@contextmanager
def to_standard_error() -> Iterator[None]:
    """Sends standard output to standard error, be it written by Python, by C or by another process.

    Does nothing outside of `owned`.
    """
    with _turn() as free:
        if not free:
            yield
            return
        kept = None
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream may be closed, or none at all
            sys.stdout.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            if kept is not None:
                with contextlib.suppress(ImportError, OSError, AttributeError):
                    import ctypes

                    ctypes.CDLL(None).fflush(None)  # what C has not written yet
                os.dup2(kept, 1)
                os.close(kept)


@contextmanager
def panics_muted() -> Iterator[None]:
    """Holds back what is written to standard error, and drops it if Rust panicked: Rust reports a panic there itself.

    Does nothing outside of `owned`.
    """
    with _turn() as free:
        try:
            own = os.dup(2) if free else None
        except OSError:  # there is none
            own = None
        if own is None:
            yield
            return
        with tempfile.TemporaryFile() as held:
            panicked = False
            sys.stderr.flush()
            os.dup2(held.fileno(), 2)
            try:
                yield
            except BaseException as error:
                panicked = type(error).__name__ == PANIC
                raise
            finally:
                sys.stderr.flush()
                os.dup2(own, 2)
                held.seek(0)
                if not panicked and (written := held.read()):
                    os.write(own, written)
                os.close(own)
