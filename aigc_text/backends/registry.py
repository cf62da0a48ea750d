"""Names to backends. Listing imports nothing; a backend that is broken hurts only whoever picks it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text.errors import BackendError, one_line, shell

from .builtin import BUILT_IN, GROUP, import_lock
from .class_checks import check_class
from .plugin_import import class_of_file, import_plugin, load_entry_point, picked
from .suggestions import misnamed

if TYPE_CHECKING:
    from .base import Backend


PLUGINS = "AIGC_TEXT_PLUGINS"  # unset: all; a list of names: only those; empty: none


@dataclass(frozen=True)
class Origin:
    """Where a backend comes from.

    Attributes:
        name: what it is picked by.
        value: `module:Class`, or the class itself for one registered in Python.
        distribution, version: the package that brings it.
        capabilities: in words, where they are known without importing it.
    """

    name: str
    value: Any
    distribution: str
    version: str
    capabilities: tuple[str, ...] | None = None


_registered: dict[str, Origin] = {}


def register_backend(name: str, backend: type[Backend]) -> None:
    """Makes a class available under a name for this process.

    Raises:
        BackendError: the name is taken by a built-in backend, or the class is no `Backend` or not made as one is.
    """
    if name in BUILT_IN:
        raise BackendError(f"the name {name!r} belongs to a built-in backend", "Register it under another name.")
    check_class(backend, f"the class registered as {name!r}")
    _registered[name] = Origin(name, backend, "registered in Python", "")


def list_backends() -> dict[str, Origin]:
    """All backends that can be picked, by name. Imports none of them."""
    found = {
        name: Origin(name, value, "aigc-text", version("aigc-text"), words)
        for name, (value, words, _) in BUILT_IN.items()
    }
    told: list[str] = []
    for origin in _plugins(told):
        if origin.name in found:
            first = found[origin.name]
            told.append(
                f"backend {origin.name!r} of {origin.distribution} is left out: {first.distribution} has that name"
            )
            continue
        found[origin.name] = origin
    if told:
        _warn_once("; ".join(told))
    return {**found, **_registered}


@cache
def _warn_once(text: str) -> None:
    """Said once a process, however often the backends are listed and whatever resets Python's own memory of it."""
    warnings.warn(text, stacklevel=3)


def _plugins(told: list[str]) -> Iterator[Origin]:
    allowed = os.environ.get(PLUGINS)
    names = None if allowed is None else {n.strip() for n in allowed.split(",")}
    if names == {""}:
        return
    try:
        points: Iterable[EntryPoint] = entry_points(group=GROUP)
    except Exception:  # one file that cannot be read hides all of them
        points = _readable(told)
    found = [
        Origin(p.name, p.value, _about(p.dist, "name"), _about(p.dist, "version"))
        for p in points
        if names is None or p.name in names
    ]
    yield from sorted(found, key=lambda o: (o.distribution, o.name))


def _readable(told: list[str]) -> Iterator[EntryPoint]:
    """The entry points of each distribution that can be read; tells of the others, as far as they are plugins."""
    seen = set()
    for dist in distributions():
        name = _about(dist, "name")
        if name in seen and name != "?":
            continue
        seen.add(name)
        try:
            yield from (p for p in dist.entry_points if p.group == GROUP)
        except Exception as error:
            path = Path(str(getattr(dist, "_path", ""))) / "entry_points.txt"
            with contextlib.suppress(OSError):
                if GROUP.encode() in path.read_bytes():
                    told.append(f"the backends of {name} are left out: {path}: {one_line(str(error))[:100]}")


def _about(dist: Distribution | None, what: str) -> str:
    """A word of a distribution's metadata, which may be missing or broken."""
    try:
        return one_line(getattr(dist, what) or "?")
    except Exception:
        return "?"


def get_backend(name: str) -> type[Backend]:
    """The class of a backend.

    Args:
        name: a registered name, or `path/to/file.py:Class` for a class that is not packaged yet.

    Raises:
        BackendError: unknown name (with the nearest), or a plugin that fails when it is imported.
    """
    if not name.endswith(".py:") and ".py:" in name:
        return class_of_file(name)
    known = list_backends()
    check_name(name, known)
    origin = known[name]
    if isinstance(origin.value, type):
        return origin.value
    if name in BUILT_IN:
        with import_lock:
            return EntryPoint(name, origin.value, GROUP).load()  # a failure here is ours, not the user's
    what = f"backend {name!r} of {origin.distribution} {origin.version}"
    cure = f"Leave it out: {PLUGINS}= aigc-text backends, or for good: " + shell(
        "pip uninstall {}", origin.distribution
    )
    loaded = import_plugin(what, cure, partial(load_entry_point, EntryPoint(name, origin.value, GROUP)))
    picked[origin.value.partition(":")[0].partition(".")[0].strip()] = (what, cure)
    return check_class(loaded, what, cure)


def check_name(name: str, known: Iterable[str]) -> None:
    """Refuses a name that is not among those known, and no `FILE.py:CLASS`.

    Raises:
        BackendError: with what was probably meant.
    """
    if name not in known and (name.endswith(".py:") or ".py:" not in name):
        hidden = f" ({PLUGINS} is set and may hide it.)" if PLUGINS in os.environ else ""
        raise misnamed(name, known, hidden)
