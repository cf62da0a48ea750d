"""What texts have copied, and how to keep a model from copying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .copies import Copy, Lengths, Source, report
    from .regenerate import WithoutCopies

__all__ = ["Copy", "Lengths", "Source", "WithoutCopies", "report"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "copies": ("Copy", "Lengths", "Source", "report"),
        "regenerate": ("WithoutCopies",),
    },
)
