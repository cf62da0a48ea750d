"""One web page of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .page import Page, build

__all__ = ["Page", "build"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "page": ("Page", "build"),
    },
)
