"""The loop that trains any module; it knows no backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .objective import Likelihood, Objective, Step, Verdict
    from .trainer import train

__all__ = ["Likelihood", "Objective", "Step", "Verdict", "train"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "objective": ("Likelihood", "Objective", "Step", "Verdict"),
        "trainer": ("train",),
    },
)
