"""The one interface of all models, and its plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .base import Backend, Capabilities
    from .hf.backend import TransformersBackend
    from .registry import get_backend, list_backends, register_backend

__all__ = ["Backend", "Capabilities", "TransformersBackend", "get_backend", "list_backends", "register_backend"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "base": ("Backend", "Capabilities"),
        "hf.backend": ("TransformersBackend",),
        "registry": ("get_backend", "list_backends", "register_backend"),
    },
)
