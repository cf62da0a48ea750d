"""Vocabulary: which tokens texts are made of, compared with others."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np

from .base import TextMetric
from .tokenization import all_words


class Vocabulary(TextMetric):
    """The number of types, and against references the share of unseen tokens and the divergence of the unigrams.

    A type is a different token. `unseen-tokens` is the share of tokens whose type is not in the references.
    `unigram-jsd` is the Jensen-Shannon divergence of the two distributions of tokens in bits (Lin 1991):
    H((p + q) / 2) - (H(p) + H(q)) / 2, from 0 for the same shares to 1 for no type in common. Two samples of one
    source do not reach 0, the less the smaller they are. Both need references, and a token on either side.

    >>> from aigc_text.metrics.vocabulary import Vocabulary
    >>> Vocabulary().compute(predictions=["a dog", "a cow"], references=["a dog", "a cat"])
    {'types': 3.0, 'unseen-tokens': 0.25, 'unigram-jsd': 0.25}
    """

    citation = """\
@article{lin-1991-divergence,
    title = "Divergence Measures Based on the {S}hannon Entropy",
    author = "Lin, Jianhua",
    journal = "IEEE Transactions on Information Theory",
    volume = "37",
    number = "1",
    year = "1991",
    pages = "145--151",
}"""

    def _compute(
        self, predictions: list[str], references: list[str] | None = None, tokenize: str = "words"
    ) -> dict[str, float]:
        ours = Counter(chain.from_iterable(all_words(predictions, tokenize)))
        others = Counter(chain.from_iterable(all_words(references or (), tokenize)))
        found = {"types": float(len(ours))}
        if ours and others:
            found["unseen-tokens"] = sum(count for token, count in ours.items() if token not in others) / ours.total()
            found["unigram-jsd"] = jensen_shannon(ours, others)
        return found


def jensen_shannon(one: Counter[str], other: Counter[str]) -> float:
    """The Jensen-Shannon divergence in bits of two distributions given as counts, of one token at least each."""
    types = [*one, *(token for token in other if token not in one)]
    p, q = (np.array([counts[token] for token in types], float) / counts.total() for counts in (one, other))
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def _entropy(shares: np.ndarray) -> float:
    """In bits; shares (V,) add up to 1."""
    some = shares[shares > 0]
    return float(-(some * np.log2(some)).sum())
