"""Names to backends. Listing imports nothing; a backend that is broken hurts only whoever picks it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points, version
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from aigc_text.errors import BackendError, ask_author, described, nearest, one_line, shell
from aigc_text.utils.file_descriptors import to_standard_error as _printing_to_standard_error

from .suggestions import misnamed

if TYPE_CHECKING:
    from .base import Backend

GROUP = "aigc_text.backends"
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


# Capabilities, and options besides those of all: held equal to the classes' own by test, so that a table and an error
# can be printed without importing torch.
_CAUSAL = ("prompts", "continues", "streaming", "training", "saving", "likelihood (exact)")
_BUILT_IN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "gpt2": ("aigc_text.models.causal_lm:GPT2", _CAUSAL, ("chat",)),
    "code": (
        "aigc_text.models.causal_lm:Code",
        (*_CAUSAL[:5], "infilling", _CAUSAL[5]),
        ("chat", "suffix", "stop_at_function_end"),
    ),
    "rnn": ("aigc_text.models.rnn.backend:RNN", _CAUSAL, ()),
    "transformer": ("aigc_text.models.transformer:Transformer", _CAUSAL, ()),
    "vae": (
        "aigc_text.models.vae.backend:VAE",
        (*_CAUSAL[:5], "latents", "sentences", "likelihood (bound)"),
        ("mode", "z_temperature", "posterior", "z_of", "interpolate_to", "steps", "path", "z_add", "z_scale"),
    ),
    "gan": ("aigc_text.models.gan.backend:GAN", (*_CAUSAL[:5], "sentences", _CAUSAL[5]), ()),
}
_registered: dict[str, Origin] = {}
_importing = threading.RLock()  # imports of torch and transformers by several threads at once fail in the middle


def register_backend(name: str, backend: type[Backend]) -> None:
    """Makes a class available under a name for this process.

    Raises:
        BackendError: the name is taken by a built-in backend, or the class is no `Backend` or not made as one is.
    """
    if name in _BUILT_IN:
        raise BackendError(f"the name {name!r} belongs to a built-in backend", "Register it under another name.")
    _checked(backend, f"the class registered as {name!r}")
    _registered[name] = Origin(name, backend, "registered in Python", "")


def list_backends() -> dict[str, Origin]:
    """All backends that can be picked, by name. Imports none of them."""
    found = {
        name: Origin(name, value, "aigc-text", version("aigc-text"), words)
        for name, (value, words, _) in _BUILT_IN.items()
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


def built_in() -> dict[str, type[Backend]]:
    """The built-in backends' classes. Imports their files, and so torch."""
    return {name: EntryPoint(name, value, GROUP).load() for name, (value, *_) in _BUILT_IN.items()}


def takers(option: str) -> list[str]:
    """The built-in backends that have an option of their own by this name. Imports none of them."""
    return [name for name, (_, _, own) in _BUILT_IN.items() if option in own]


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
        return _from_file(name)
    known = list_backends()
    check_name(name, known)
    origin = known[name]
    if isinstance(origin.value, type):
        return origin.value
    if name in _BUILT_IN:
        with _importing:
            return EntryPoint(name, origin.value, GROUP).load()  # a failure here is ours, not the user's
    what = f"backend {name!r} of {origin.distribution} {origin.version}"
    cure = f"Leave it out: {PLUGINS}= aigc-text backends, or for good: " + shell(
        "pip uninstall {}", origin.distribution
    )
    loaded = _import(what, cure, partial(_load, EntryPoint(name, origin.value, GROUP)))
    _picked[origin.value.partition(":")[0].partition(".")[0].strip()] = (what, cure)
    return _checked(loaded, what, cure)


def check_name(name: str, known: Iterable[str]) -> None:
    """Refuses a name that is not among those known, and no `FILE.py:CLASS`.

    Raises:
        BackendError: with what was probably meant.
    """
    if name not in known and (name.endswith(".py:") or ".py:" not in name):
        hidden = f" ({PLUGINS} is set and may hide it.)" if PLUGINS in os.environ else ""
        raise misnamed(name, known, hidden)


def _load(point: EntryPoint) -> Any:
    if not EntryPoint.pattern.match(point.value):
        raise ValueError(f"its entry point {point.value!r} is not of the form module:Class")
    return point.load()


def _from_file(spec: str) -> type[Backend]:
    file, _, attribute = spec.rpartition(":")
    path = Path(os.path.expanduser(file))  # not the methods of Path: they raise for unknown users and long names
    what = f"backend file {spec!r}"
    if not os.path.isfile(path):
        raise BackendError(f"{what}: there is no file {path}", "Write path/to/file.py:ClassName")
    module = _executed(path, what)
    _picked[module.__name__] = (what, shell("Mend the file, and try it: aigc-text backends check {}", spec))
    if not hasattr(module, attribute):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise BackendError(
            f"{what}: no class {attribute!r}.{nearest(attribute, classes)}", f"Found: {', '.join(classes) or 'none'}"
        )
    return _checked(getattr(module, attribute), what)


def _executed(path: Path, what: str) -> ModuleType:
    """The module of a file, which is executed once in a process, however often and by whatever path it is picked.

    It is in `sys.modules`, where dataclasses, pickling and `inspect` look a class's module up, under a name that no
    other file has.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12]
    name = f"aigc_text_file_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest}"
    with _importing:
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, os.path.abspath(path))
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            _import(what, "Mend the file.", partial(spec.loader.exec_module, module))
        except BackendError:
            del sys.modules[name]
            raise
        return module


def _import(what: str, cure: str, load: Any) -> Any:
    try:
        with _importing, _printing_to_standard_error():  # what it prints is no text of a model
            return load()
    except BaseException as error:  # a plugin may also call sys.exit or raise KeyboardInterrupt when imported
        raise BackendError(f"{what} cannot be imported: {described(error)}", cure) from error


_picked: dict[str, tuple[str, str]] = {}  # the modules of the plugins that were picked: how each is called, and a cure


def failed_plugin(error: BaseException) -> BackendError | None:
    """The error to show for one that arose in a plugin: of its frames and ours the last one is a plugin's."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):  # what a generator makes of it
        error = error.__cause__
    frames = [(_top(frame), frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    known = [each for each in frames if each[0] in _picked or each[0] == "aigc_text"]
    if not known or known[-1][0] not in _picked:
        return None
    name, frame, line = known[-1]
    what, cure = _picked[name]
    return BackendError(f"{what} failed: {described(error)} ({frame.f_code.co_filename}:{line})", cure)


def _top(frame: FrameType) -> str:
    """The package, or the module, whose code a frame runs."""
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def check_loaded(loaded: Any, name: str) -> None:
    """Refuses what a backend's `from_pretrained` has returned, if that is no backend.

    Raises:
        BackendError: it is none.
    """
    from .base import Backend

    if not isinstance(loaded, Backend):
        cure = ask_author(name)
        raise BackendError(f"backend {name!r} is loaded as {loaded!r}"[:150] + ", which is no aigc_text.Backend", cure)


def _checked(backend: Any, what: str, cure: str = "") -> type[Backend]:
    from .base import Backend

    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        cure = cure or "Derive it from aigc_text.Backend."
        raise BackendError(f"{what} is not a subclass of aigc_text.Backend: {backend!r}"[:200], cure)
    if wrong := _misfit(backend):
        raise BackendError(f"{what} {wrong}"[:300], cure or "Mend it; docs/plugins.md says what a backend has.")
    return backend


#: How the methods that every backend has are called: what goes wrong in a call itself is in none of a plugin's lines.
_CALLS: dict[str, tuple[Any, ...]] = {"from_pretrained": (None,), "generate": (None, (), None)}


def _misfit(backend: type[Backend]) -> str:
    """What of a class is not as the interface has it, or nothing."""
    from .base import Backend, Capabilities

    if not isinstance(backend.capabilities, Capabilities):
        return f"has capabilities that are no Capabilities: {backend.capabilities!r}"
    options, takes = backend.Options, backend.takes
    if not (isinstance(options, type) and issubclass(options, Backend.Options)):
        return f"has Options that are not derived from GenerationOptions: {options!r}"
    if takes is not None and not (isinstance(takes, (tuple, list)) and set(takes) <= set(options.fields())):
        return f"takes what is no option of it: {takes!r}"
    for name, given in _CALLS.items():
        try:
            inspect.signature(getattr(backend, name)).bind(*given)
        except TypeError as error:
            return f"has a {name} that cannot be called as Backend has it: {error}"
    return ""
