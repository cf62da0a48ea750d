"""Metrics computed from texts alone; numpy and the standard library are all they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .base import TextMetric
    from .bleu import Bleu
    from .distinct import Distinct
    from .lengths import Lengths
    from .novelty import Novelty
    from .sacrebleu import SacreBleu
    from .self_bleu import SelfBleu
    from .uniqueness import Uniqueness
    from .vocabulary import Vocabulary

__all__ = ["Bleu", "Distinct", "Lengths", "Novelty", "SacreBleu", "SelfBleu", "TextMetric", "Uniqueness", "Vocabulary"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "base": ("TextMetric",),
        "bleu": ("Bleu",),
        "distinct": ("Distinct",),
        "lengths": ("Lengths",),
        "novelty": ("Novelty",),
        "sacrebleu": ("SacreBleu",),
        "self_bleu": ("SelfBleu",),
        "uniqueness": ("Uniqueness",),
        "vocabulary": ("Vocabulary",),
    },
)
