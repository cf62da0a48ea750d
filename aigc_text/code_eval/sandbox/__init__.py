"""Runs programs that a model wrote, with tests, where they can do no harm; the verdict is found outside of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .cases import Case, Limits, Verdict
    from .runner import check_support, run, run_all

__all__ = ["Case", "Limits", "Verdict", "check_support", "run", "run_all"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "cases": ("Case", "Limits", "Verdict"),
        "runner": ("check_support", "run", "run_all"),
    },
)
