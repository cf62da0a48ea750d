"""The likelihood of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .totals import Total, total

__all__ = ["Total", "total"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "totals": ("Total", "total"),
    },
)
