"""How many programming problems a model solves (pass@k)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .pass_at_k import PassAtK, Syntax
    from .problems import Problem, read_problems

__all__ = ["PassAtK", "Problem", "Syntax", "read_problems"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "pass_at_k": ("PassAtK", "Syntax"),
        "problems": ("Problem", "read_problems"),
    },
)
