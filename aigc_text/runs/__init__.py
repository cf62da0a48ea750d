"""Training runs: data in, a folder out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .run_dir import RunFolder
    from .seeds import train_seeds
    from .training_run import train

__all__ = ["RunFolder", "train", "train_seeds"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "run_dir": ("RunFolder",),
        "seeds": ("train_seeds",),
        "training_run": ("train",),
    },
)
