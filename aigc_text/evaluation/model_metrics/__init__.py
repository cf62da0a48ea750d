"""Metrics that need a model to measure with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .likelihood import Likelihood
    from .mauve import Mauve, compare, features
    from .reference_perplexity import ReferencePerplexity

__all__ = ["Likelihood", "Mauve", "ReferencePerplexity", "compare", "features"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "likelihood": ("Likelihood",),
        "mauve": ("Mauve", "compare", "features"),
        "reference_perplexity": ("ReferencePerplexity",),
    },
)
