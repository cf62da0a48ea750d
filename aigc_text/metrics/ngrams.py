"""Texts as numbers of n-grams, counted by sorting: what BLEU, Self-BLEU and distinct-n share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NGrams:
    """The n-grams of one order, one entry for each pair of a text and an n-gram in it.

    Attributes:
        ngram: (K,) numbers of n-grams, below `types`.
        text: (K,) the texts' places.
        count: (K,) how often the n-gram is in the text, at least 1.
        types: how many different n-grams there are.
    """

    ngram: Ints
    text: Ints
    count: Ints
    types: int


def lengths(texts: Sequence[Sequence[str]]) -> Ints:
    """(T,) how many tokens each text has."""
    return np.fromiter(map(len, texts), np.int64, len(texts))


def ngrams(texts: Sequence[Sequence[str]], max_order: int) -> Iterator[NGrams]:
    """The n-grams of tokenized texts, for n from 1 to `max_order`."""
    length = lengths(texts)
    numbers: dict[str, int] = {}
    tokens = np.fromiter(
        (numbers.setdefault(token, len(numbers)) for token in chain.from_iterable(texts)), np.int64, int(length.sum())
    )  # (N,) of all texts, one after the other
    text = np.repeat(np.arange(len(texts)), length)
    left = np.cumsum(length)[text] - np.arange(len(tokens))  # (N,) tokens from here to the text's end
    start = np.arange(len(tokens))
    ngram = tokens  # of the n-gram that begins at `start`
    types = len(numbers)
    for order in range(1, max_order + 1):
        if order > 1:  # an n-gram is the one of n - 1 tokens before it, and one token more
            longer = left[start] >= order
            start, ngram = start[longer], ngram[longer]
            found, ngram = np.unique(ngram * len(numbers) + tokens[start + order - 1], return_inverse=True)
            types = len(found)
        pairs, count = np.unique(ngram * len(texts) + text[start], return_counts=True)
        yield NGrams(pairs // max(1, len(texts)), pairs % max(1, len(texts)), count, types)


def highest(found: NGrams, among: NDArray[np.bool_]) -> Ints:
    """(types,) the highest count of each n-gram in one text, 0 where it is in none.

    Args:
        found: the n-grams.
        among: (K,) true for the pairs that count.
    """
    best = np.zeros(found.types, np.int64)
    np.maximum.at(best, found.ngram[among], found.count[among])
    return best


def highest_elsewhere(found: NGrams) -> Ints:
    """(K,) for each pair the highest count of its n-gram in one of the *other* texts, 0 where it is in none.

    That is the highest of all, but for the text that owns it: there it is the second highest. Of several texts with
    the highest count one is taken for the owner, and the second highest is the same number.
    """
    best = highest(found, np.ones(len(found.ngram), bool))
    owner = np.full(found.types, -1)
    owns = found.count == best[found.ngram]
    owner[found.ngram[owns]] = found.text[owns]
    own = owner[found.ngram] == found.text
    return np.where(own, highest(found, ~own)[found.ngram], best[found.ngram])
