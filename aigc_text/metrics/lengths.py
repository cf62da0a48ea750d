"""Lengths: how long texts are, and how far that is from the lengths of others."""

from __future__ import annotations

import numpy as np

from .base import TextMetric
from .ngrams import Ints, lengths
from .tokenization import all_words


class Lengths(TextMetric):
    """Mean and standard deviation of the lengths in tokens, and the Wasserstein-1 distance from the references'.

    The deviation is that of the set (divided by the number of texts). The distance is the area between the two
    distribution functions (Vallender 1974): by how many tokens the average text would have to change for the lengths
    to be distributed as in the references. It needs references; the others do not.

    >>> from aigc_text.metrics.lengths import Lengths
    >>> Lengths().compute(predictions=["a dog", "a dog sleeps on"], references=["a cat", "a cat sits"])
    {'length-mean': 3.0, 'length-sd': 1.0, 'length-w1': 0.5}
    """

    citation = """\
@article{vallender-1974-calculation,
    title = "Calculation of the {W}asserstein Distance Between Probability Distributions on the Line",
    author = "Vallender, S. S.",
    journal = "Theory of Probability and Its Applications",
    volume = "18",
    number = "4",
    year = "1974",
    pages = "784--786",
}"""

    def _compute(
        self, predictions: list[str], references: list[str] | None = None, tokenize: str = "words"
    ) -> dict[str, float]:
        ours = lengths(all_words(predictions, tokenize))
        found = {"length-mean": float(ours.mean()), "length-sd": float(ours.std())}
        if references is not None:
            found["length-w1"] = wasserstein(ours, lengths(all_words(references, tokenize)))
        return found


def wasserstein(one: Ints, other: Ints) -> float:
    """The Wasserstein-1 distance of two samples of whole numbers from 0 on: the sum of |F(x) - G(x)| over all x."""
    size = int(max(one.max(), other.max())) + 1
    shares = [np.bincount(each, minlength=size) / len(each) for each in (one, other)]
    return float(np.abs(np.cumsum(shares[0] - shares[1])).sum())
