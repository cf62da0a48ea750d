"""Refuses classes and objects that are not what the interface says."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from aigc_text.errors import BackendError, ask_author

if TYPE_CHECKING:
    from .base import Backend


def check_loaded(loaded: Any, name: str) -> None:
    """Refuses what a backend's `from_pretrained` has returned, if that is no backend.

    Raises:
        BackendError: it is none.
    """
    from .base import Backend

    if not isinstance(loaded, Backend):
        cure = ask_author(name)
        raise BackendError(f"backend {name!r} is loaded as {loaded!r}"[:150] + ", which is no aigc_text.Backend", cure)


def check_class(backend: Any, what: str, cure: str = "") -> type[Backend]:
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
