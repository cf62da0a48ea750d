"""Uniqueness: how many of the texts of a set are different ones."""

from __future__ import annotations

from typing import Any

from .base import TextMetric
from .tokenization import all_words


class Uniqueness(TextMetric):
    """The number of different texts over the number of texts (Devlin et al. 2015): 1 if no text comes twice.

    Texts are the same if their tokens are: with the tokens of `words`, case and white space make no difference. The
    more texts, the lower: compare sets of the same size only. References play no part.

    >>> from aigc_text.metrics.uniqueness import Uniqueness
    >>> Uniqueness().compute(predictions=["A dog.", "a  dog .", "A cat.", "A cow."])
    {'uniqueness': 0.75}
    """

    citation = """\
@inproceedings{devlin-etal-2015-language,
    title = "Language Models for Image Captioning: The Quirks and What Works",
    author = "Devlin, Jacob and Cheng, Hao and Fang, Hao and Gupta, Saurabh and Deng, Li and He, Xiaodong and
        Zweig, Geoffrey and Mitchell, Margaret",
    booktitle = "Proceedings of the 53rd Annual Meeting of the Association for Computational Linguistics and the 7th
        International Joint Conference on Natural Language Processing (Volume 2: Short Papers)",
    year = "2015",
    pages = "100--105",
}"""

    def _compute(self, predictions: list[str], references: Any = None, tokenize: str = "words") -> dict[str, float]:
        texts = all_words(predictions, tokenize)
        return {"uniqueness": len(set(map(tuple, texts))) / len(texts)}
