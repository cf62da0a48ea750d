"""Names to backends. Listing imports nothing; a backend that is broken hurts only whoever picks it."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BackendError, nearest, one_line

if TYPE_CHECKING:
    from .backend import Backend

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
    "gpt2": ("aigc_text.backends.causal_lm:GPT2", _CAUSAL, ("chat",)),
    "code": (
        "aigc_text.backends.causal_lm:Code",
        (*_CAUSAL[:5], "infilling", _CAUSAL[5]),
        ("chat", "suffix", "stop_at_function_end"),
    ),
    "rnn": ("aigc_text.backends.rnn:RNN", _CAUSAL, ()),
    "transformer": ("aigc_text.backends.transformer:Transformer", _CAUSAL, ()),
    "vae": (
        "aigc_text.backends.vae:VAE",
        (*_CAUSAL[:5], "latents", "sentences", "likelihood (bound)"),
        ("mode", "z_temperature", "posterior", "z_of", "interpolate_to", "steps", "path", "z_add", "z_scale"),
    ),
    "gan": ("aigc_text.backends.gan:GAN", (*_CAUSAL[:5], "sentences", _CAUSAL[5]), ()),
}
_registered: dict[str, Origin] = {}


def register_backend(name: str, backend: type[Backend]) -> None:
    """Makes a class available under a name for this process.

    Raises:
        BackendError: the name is taken by a built-in backend, or the class is no `Backend`.
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
    for origin in _plugins():
        if origin.name in found:
            first = found[origin.name]
            _warn_once(
                f"backend {origin.name!r} of {origin.distribution} is left out: {first.distribution} has that name"
            )
            continue
        found[origin.name] = origin
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


def _plugins() -> Iterator[Origin]:
    allowed = os.environ.get(PLUGINS)
    names = None if allowed is None else {n.strip() for n in allowed.split(",")}
    points = sorted(entry_points(group=GROUP), key=lambda p: (p.dist.name if p.dist else "", p.name))
    for point in points:
        if names is None or point.name in names:
            dist = point.dist
            yield Origin(point.name, point.value, dist.name if dist else "?", dist.version if dist else "?")


def get_backend(name: str) -> type[Backend]:
    """The class of a backend.

    Args:
        name: a registered name, or `path/to/file.py:Class` for a class that is not packaged yet.

    Raises:
        BackendError: unknown name (with the nearest), or a plugin that fails when it is imported.
    """
    if ".py:" in name:
        return _from_file(name)
    known = list_backends()
    if name not in known:
        hidden = f" ({PLUGINS} is set and may hide it.)" if PLUGINS in os.environ else ""
        raise BackendError(
            f"unknown backend {name!r}.{nearest(name, known)}{hidden}", f"Allowed: {', '.join(known)}, or FILE.py:CLASS"
        )
    origin = known[name]
    if isinstance(origin.value, type):
        return origin.value
    if name in _BUILT_IN:
        return EntryPoint(name, origin.value, GROUP).load()  # a failure here is ours, not the user's
    what = f"backend {name!r} of {origin.distribution} {origin.version}"
    cure = f"Leave it out: pip uninstall {origin.distribution}, or set {PLUGINS} to the plugins that you want."
    return _checked(_import(what, cure, EntryPoint(name, origin.value, GROUP).load), what, cure)


def _from_file(spec: str) -> type[Backend]:
    file, _, attribute = spec.rpartition(":")
    path = Path(file).expanduser()
    what = f"backend file {spec!r}"
    if not path.is_file():
        raise BackendError(f"{what}: there is no file {path}", "Write path/to/file.py:ClassName")
    loader = importlib.util.spec_from_file_location(f"aigc_text_file_{path.stem}", path)
    assert loader is not None and loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[loader.name] = module  # dataclasses and pickling look a class's module up
    _import(what, "Mend the file.", partial(loader.loader.exec_module, module))
    if not hasattr(module, attribute):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise BackendError(
            f"{what}: no class {attribute!r}.{nearest(attribute, classes)}", f"Found: {', '.join(classes) or 'none'}"
        )
    return _checked(getattr(module, attribute), what)


def _import(what: str, cure: str, load: Any) -> Any:
    try:
        return load()
    except BaseException as error:  # a plugin may also call sys.exit or raise KeyboardInterrupt when imported
        cause = f"{type(error).__name__}: {one_line(str(error))}"[:200]
        raise BackendError(f"{what} cannot be imported: {cause}", cure) from error


def _checked(backend: Any, what: str, cure: str = "Derive it from aigc_text.Backend.") -> type[Backend]:
    from .backend import Backend

    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise BackendError(f"{what} is not a subclass of aigc_text.Backend: {backend!r}"[:200], cure)
    return backend
