"""Novelty: how many of the texts were not copied from the training set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .base import TextMetric
from .ngrams import Floats
from .tokenization import all_words


class Novelty(TextMetric):
    """The share of texts that are not in the training set (Devlin et al. 2015), which is given as references.

    Texts are the same if their tokens are: with the tokens of `words`, case and white space do not make a text new. A
    text with one word changed is new, so a novelty near 1 is no proof that nothing was copied; the share of real
    held-out texts that are new says what to expect.

    >>> from aigc_text.metrics.novelty import Novelty
    >>> Novelty().compute(predictions=["a dog .", "A cow."], references=["A dog.", "A cat."])
    {'novelty': 0.5}
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
    needs_references = True

    def scores(
        self, predictions: Iterable[str], references: Iterable[str], tokenize: str = "words"
    ) -> dict[str, Floats]:
        """`novelty` to an array (P,): 1 for each text that is new, 0 for the others.

        Args:
            predictions: P texts.
            references: the training set.
            tokenize: see `words.words`.

        Raises:
            MetricError: there is no text or no reference, or `tokenize` is unknown.
        """
        texts, others = self._checked(predictions, references)
        known = set(map(tuple, all_words(others, tokenize)))
        return {"novelty": np.array([tuple(text) not in known for text in all_words(texts, tokenize)], float)}
