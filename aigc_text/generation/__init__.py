"""Prompts in, text out, on any engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .detokenizer import Detokenizer
    from .engine import Engine, Event, Row
    from .stop_strings import StopMatcher

__all__ = ["Detokenizer", "Engine", "Event", "Row", "StopMatcher"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "detokenizer": ("Detokenizer",),
        "engine": ("Engine", "Event", "Row"),
        "stop_strings": ("StopMatcher",),
    },
)
