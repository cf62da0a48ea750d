"""Imports plugins and files of code, and says whose fault it is when one fails."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from aigc_text.errors import BackendError, described, nearest, shell
from aigc_text.utils.file_descriptors import to_standard_error as _printing_to_standard_error

from .builtin import import_lock
from .class_checks import check_class

if TYPE_CHECKING:
    from .base import Backend


def load_entry_point(point: EntryPoint) -> Any:
    if not EntryPoint.pattern.match(point.value):
        raise ValueError(f"its entry point {point.value!r} is not of the form module:Class")
    return point.load()


def class_of_file(spec: str) -> type[Backend]:
    file, _, attribute = spec.rpartition(":")
    path = Path(os.path.expanduser(file))  # not the methods of Path: they raise for unknown users and long names
    what = f"backend file {spec!r}"
    if not os.path.isfile(path):
        raise BackendError(f"{what}: there is no file {path}", "Write path/to/file.py:ClassName")
    module = _executed(path, what)
    picked[module.__name__] = (what, shell("Mend the file, and try it: aigc-text backends check {}", spec))
    if not hasattr(module, attribute):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise BackendError(
            f"{what}: no class {attribute!r}.{nearest(attribute, classes)}", f"Found: {', '.join(classes) or 'none'}"
        )
    return check_class(getattr(module, attribute), what)


def _executed(path: Path, what: str) -> ModuleType:
    """The module of a file, which is executed once in a process, however often and by whatever path it is picked.

    It is in `sys.modules`, where dataclasses, pickling and `inspect` look a class's module up, under a name that no
    other file has.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12]
    name = f"aigc_text_file_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest}"
    with import_lock:
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, os.path.abspath(path))
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            import_plugin(what, "Mend the file.", partial(spec.loader.exec_module, module))
        except BackendError:
            del sys.modules[name]
            raise
        return module


def import_plugin(what: str, cure: str, load: Any) -> Any:
    try:
        with import_lock, _printing_to_standard_error():  # what it prints is no text of a model
            return load()
    except BaseException as error:  # a plugin may also call sys.exit or raise KeyboardInterrupt when imported
        raise BackendError(f"{what} cannot be imported: {described(error)}", cure) from error


picked: dict[str, tuple[str, str]] = {}  # the modules of the plugins that were picked: how each is called, and a cure


def failed_plugin(error: BaseException) -> BackendError | None:
    """The error to show for one that arose in a plugin: of its frames and ours the last one is a plugin's."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):  # what a generator makes of it
        error = error.__cause__
    frames = [(_top(frame), frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    known = [each for each in frames if each[0] in picked or each[0] == "aigc_text"]
    if not known or known[-1][0] not in picked:
        return None
    name, frame, line = known[-1]
    what, cure = picked[name]
    return BackendError(f"{what} failed: {described(error)} ({frame.f_code.co_filename}:{line})", cure)


def _top(frame: FrameType) -> str:
    """The package, or the module, whose code a frame runs."""
    return str(frame.f_globals.get("__name__")).partition(".")[0]
