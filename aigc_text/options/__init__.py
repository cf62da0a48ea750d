"""What a user can ask for: options of generation and of training, checked when they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .base import Options, option
    from .generation import GenerationOptions
    from .training import TrainingOptions

__all__ = ["GenerationOptions", "Options", "TrainingOptions", "option"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "base": ("Options", "option"),
        "generation": ("GenerationOptions",),
        "training": ("TrainingOptions",),
    },
)
