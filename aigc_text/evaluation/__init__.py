"""Models against texts, and against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .candidates import System
    from .evaluation_run import Evaluation, evaluate
    from .options import EvaluationOptions
    from .results import Report, Row

__all__ = ["Evaluation", "EvaluationOptions", "Report", "Row", "System", "evaluate"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "candidates": ("System",),
        "evaluation_run": ("Evaluation", "evaluate"),
        "options": ("EvaluationOptions",),
        "results": ("Report", "Row"),
    },
)
