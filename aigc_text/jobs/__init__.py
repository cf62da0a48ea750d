"""A file of prompts in, a file of records out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .batch_job import Job

__all__ = ["Job"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "batch_job": ("Job",),
    },
)
