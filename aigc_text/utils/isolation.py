"""Leaves the caller's process as it was: random states, training mode, and what is still open when Python exits."""

from __future__ import annotations

import atexit
import contextlib
import random
import sys
import threading
import weakref
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

from aigc_text.errors import UserError

T = TypeVar("T")

_DONE: Any = object()
_open: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
_global_generators = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's global generators, for libraries that draw from no other, and restores them at the end.

    They are shared by all threads, so one thread at a time may do this; the others wait.
    """
    import torch

    with _global_generators, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Puts all modules of a torch model into evaluation mode; afterwards those that were in training mode are again."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def in_evaluation(model: Any, items: Iterable[T]) -> Iterator[T]:
    """The same items, each computed in evaluation mode; between them the modules are in the caller's modes."""
    return closed_at_exit(_in_evaluation(model, iter(items)))


def _in_evaluation(model: Any, items: Iterator[T]) -> Generator[T, None, None]:
    try:
        while True:
            with evaluation(model):
                item = next(items, _DONE)
            if item is _DONE:
                return
            yield item
    finally:
        _close(items)


def own_randomness(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, computed with random states of their own: Python's, NumPy's and torch's on all devices.

    The caller's states are in force between items, so neither side's draws change what the other draws.
    """
    own = _random_states()
    try:
        while True:
            callers = _random_states()
            _set_random_states(own)
            try:
                item = next(items, _DONE)
            finally:
                own = _random_states()
                _set_random_states(callers)
            if item is _DONE:
                return
            yield item
    finally:
        callers = _random_states()
        try:
            _close(items)
        finally:
            _set_random_states(callers)


def _random_states() -> tuple[Any, ...]:
    import numpy as np
    import torch

    on_devices = [g.get_state() for g in torch.cuda.default_generators] if torch.cuda.is_initialized() else []
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state(), on_devices


def _set_random_states(states: tuple[Any, ...]) -> None:
    import numpy as np
    import torch

    of_python, of_numpy, of_torch, on_devices = states
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.default_generator.set_state(of_torch)
    for generator, state in zip(torch.cuda.default_generators, on_devices, strict=False):
        generator.set_state(state)


def closed_at_exit(run: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same generator, closed when Python exits if it is still open.

    Later its cleaning up would fail, since the interpreter takes the modules away first.
    """
    if not _open:
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # called in reverse order: before what torch and others have registered so far
    _open.add(run)
    return run


def _close_all() -> None:
    for run in list(_open):
        try:
            _close(run)
        except UserError as error:
            print(f"Error: {error.message}", file=sys.stderr)
        except ValueError:  # a thread is still running it
            pass


def _close(items: Any) -> None:
    if hasattr(items, "close"):
        items.close()
