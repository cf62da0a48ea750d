"""Text in, batches out: files, datasets and tokenizers to what a model is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .sources import Pair, Source, split, texts

__all__ = ["Pair", "Source", "split", "texts"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "sources": ("Pair", "Source", "split", "texts"),
    },
)
