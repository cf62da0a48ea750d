"""What prepared tests call: a failed assertion decides, whoever catches its error. `prepared` prepares them.

Read by path in a bare interpreter.
"""

from __future__ import annotations

import ast
import functools
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator

from derived import Undecided
from prepared import prepare as prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SWALLOWED = "a context manager of the program swallowed an error before the tests ended"
_CACHED = type(functools.lru_cache(len))


class Checks:
    """What the tests of a program have found.

    Attributes:
        failed: whether an assertion has failed, or was passed over.
        why: of the last.
    """

    def __init__(self, asked: Callable[[Any, Any], Any]) -> None:
        self.failed, self.why = False, "a test failed"
        self._asked = asked
        threading.excepthook = self._thread_ended

    def namespace(self) -> dict[str, Any]:
        """What prepared tests call."""
        return {
            "__fail__": self._fail, "__swallowed__": self._swallowed, "__task__": self._task,
            "__ask__": self._asked, "__settled__": self._settled, "__map__": _map, "__filter__": _filter,
            "__called__": _called, "__guard__": _guard, "__awaited__": _awaited, "__left__": self._left,
            "__text__": _text, "__ending__": _ending, "__unpickled__": _unpickled,
        }  # fmt: skip

    def _settled(self, value: Any) -> Any:
        self._asked(None, None)
        return value

    def _fail(self) -> None:
        self.failed = True

    def _swallowed(self) -> None:
        self.failed, self.why = True, SWALLOWED

    def _thread_ended(self, by: threading.ExceptHookArgs) -> None:
        """An error that ends a thread of the tests fails them, as in their main thread."""
        self.failed, self.why = True, f"{by.exc_type.__name__} ended a thread of the tests"

    def _left(self, error: BaseException) -> None:
        """An error leaves a function of the tests that has assertions, and they expect none: a program may catch it."""
        if not isinstance(error, (GeneratorExit, StopIteration)) and type(error).__name__ != "CancelledError":
            self.failed, self.why = True, f"{type(error).__name__} ended a function of the tests"

    def _task(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As the function; but its error fails the tests, which do not ask what has become of the task."""

        @functools.wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            try:
                return function(*given, **named)
            except BaseException as error:
                self.failed, self.why = True, f"{type(error).__name__} ended a task of the tests"
                raise

        return run


def _map(function: Any, *values: Iterable[Any]) -> Iterator[Any]:
    """As `map`; but a StopIteration of the function is an error, as it is in a loop, and not the end."""
    for each in zip(*values):  # noqa: B905
        yield function(*each)


def _filter(function: Any, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if value if function is None else function(value):
            yield value


def _called(function: Any, /, *given: Any, **named: Any) -> Any:
    """Calls what the program defines; its StopIteration does not end an iterator that the tests use."""
    try:
        return function(*map(_with_frame, given), **{name: _with_frame(value) for name, value in named.items()})
    except (StopIteration, StopAsyncIteration) as error:
        raise RuntimeError(f"the program raised {type(error).__name__}") from error


def _with_frame(value: Any) -> Any:
    """A function that is not written in Python, so that the tests ask for what it compares, and not the program."""
    bound = type(value) is types.BuiltinMethodType and not isinstance(value.__self__, (type, types.ModuleType))
    if not bound and type(value) not in (types.MethodWrapperType, functools.partial):
        return value
    return lambda *given, **named: value(*given, **named)


def _ending(value: Any) -> Any:
    """A function for an iterator that is not written in Python, whose StopIteration would end it in silence."""
    return _guarded(value) if callable(value) and not isinstance(value, type) else value


def _text(source: Any) -> Any:
    """What tests run that they have not written themselves; it may import nothing and name nothing private."""
    if isinstance(source, (str, bytes)):
        for node in ast.walk(ast.parse(source.strip())):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if isinstance(node, (ast.Import, ast.ImportFrom)) or name.startswith("_") or name in _REACHING:
                raise Undecided(f"the tests would run {name or 'an import'} of a text that the program has made")
    return source


_REACHING = frozenset(
    "eval exec compile getattr setattr delattr vars globals locals open type object breakpoint".split()  # noqa: SIM905
)


def _unpickled(data: Any, *_: Any, **__: Any) -> Any:
    """As `pickle.loads`, but of the classes of data only."""
    import io
    import pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module not in _WITH_DATA:
                raise pickle.UnpicklingError(f"{module}.{name} is no class of data")
            return super().find_class(module, name)

    return Unpickler(io.BytesIO(data)).load()


_WITH_DATA = ("solution", "__main__", "collections", "datetime", "decimal", "fractions", "uuid", "enum", "array")


def _guard(value: Any) -> Any:
    """A function of the program for others to call, as `_called` calls it."""
    if not isinstance(value, (types.FunctionType, types.MethodType, _CACHED)):
        return value
    code = getattr(value, "__code__", None)
    if code is not None and code.co_flags & 0x2A0:  # generators and coroutines raise nothing when they are called
        return value
    return _guarded(value)


def _guarded(value: Any) -> Any:
    @functools.wraps(value)
    def guarded(*given: Any, **named: Any) -> Any:
        return _called(value, *given, **named)

    for name in ("cache_info", "cache_clear", "cache_parameters"):
        if hasattr(value, name):
            setattr(guarded, name, getattr(value, name))
    return guarded


async def _awaited(value: Any) -> Any:
    """Awaits a value; a CancelledError that nobody has asked for is an error, and does not end the task in silence."""
    try:
        return await value
    except BaseException as error:
        asyncio = sys.modules.get("asyncio")
        if asyncio is None or not isinstance(error, asyncio.CancelledError):
            raise
        task = asyncio.current_task()
        if not hasattr(task, "cancelling") or task.cancelling():  # Python 3.10 does not tell
            raise
        raise RuntimeError("the program raised CancelledError") from error
