"""BLEU of texts against a set of references, by Texygen's protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from aigc_text.errors import MetricError

from .base import TextMetric
from .ngrams import Floats, Ints, highest, lengths, ngrams
from .tokenization import all_words

EPSILON = 0.1  # what smoothing method 1 puts for a count of 0: Chen and Cherry (2014); nltk's default


class Bleu(TextMetric):
    """BLEU-2 to BLEU-n by Texygen's protocol: the mean over texts of nltk's `sentence_bleu`, from 0 to 1.

    Every reference is a reference of every text. Weights are uniform (BLEU-n: the first n precisions), smoothing is
    method 1 of Chen and Cherry (2014), the brevity penalty takes the closest reference length, of two equally close
    ones the shorter. All texts and all references count, so the figure is nltk's, in a second and not in hours.

    A score above that of real texts means that the likely is repeated, not that the texts are better: read it
    together with `SelfBleu`. It rises with the number of references.

    >>> from aigc_text.metrics.bleu import Bleu
    >>> references = ["A man rides a horse.", "A dog sleeps on a bed."]
    >>> found = Bleu().compute(predictions=["A man sleeps on a horse."], references=references)
    >>> {name: round(score, 4) for name, score in found.items()}
    {'bleu-2': 0.9129, 'bleu-3': 0.6934, 'bleu-4': 0.3021, 'bleu-5': 0.1944}
    """

    citation = """\
@inproceedings{papineni-etal-2002-bleu,
    title = "{B}leu: a Method for Automatic Evaluation of Machine Translation",
    author = "Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing",
    booktitle = "Proceedings of the 40th Annual Meeting of the Association for Computational Linguistics",
    year = "2002",
    pages = "311--318",
}
@inproceedings{chen-cherry-2014-systematic,
    title = "A Systematic Comparison of Smoothing Techniques for Sentence-Level {BLEU}",
    author = "Chen, Boxing and Cherry, Colin",
    booktitle = "Proceedings of the Ninth Workshop on Statistical Machine Translation",
    year = "2014",
    pages = "362--367",
}
@inproceedings{zhu-etal-2018-texygen,
    title = "{T}exygen: A Benchmarking Platform for Text Generation Models",
    author = "Zhu, Yaoming and Lu, Sidi and Zheng, Lei and Guo, Jiaxian and Zhang, Weinan and Wang, Jun and Yu, Yong",
    booktitle = "The 41st International ACM SIGIR Conference on Research and Development in Information Retrieval",
    year = "2018",
    pages = "1097--1100",
}"""
    needs_references = True

    def scores(
        self, predictions: Iterable[str], references: Iterable[str], max_order: int = 5, tokenize: str = "words"
    ) -> dict[str, Floats]:
        """The score of each text.

        Args:
            predictions: P texts.
            references: the texts that each of them is compared with.
            max_order: the n of the last BLEU-n, from 2 on.
            tokenize: see `words.words`.

        Returns:
            `bleu-n` to an array (P,), for n from 2 to `max_order`.

        Raises:
            MetricError: there is no text or no reference, or an argument is out of its range.
        """
        texts, others = self._checked(predictions, references)
        tokens = all_words([*texts, *others], tokenize)
        length, other_lengths = np.split(lengths(tokens), [len(texts)])
        matches = []  # (P,) for each order: n-grams found in a reference, no more often than they are in one
        for found in ngrams(tokens, check_order(max_order)):
            ours = found.text < len(texts)
            clipped = np.minimum(found.count, highest(found, ~ours)[found.ngram])[ours]
            matches.append(np.bincount(found.text[ours], clipped, len(texts)))
        return combine("bleu", matches, length, closest(length, other_lengths))


def check_order(max_order: int) -> int:
    """Returns `max_order`, or raises the error of one that is no order of BLEU."""
    if isinstance(max_order, bool) or not isinstance(max_order, int) or max_order < 2:
        raise MetricError(f"max_order is {max_order!r}", "It is a whole number from 2 on.")
    return max_order


def closest(length: Ints, references: Ints) -> Ints:
    """(P,) the reference length that is closest to each length (P,); of two equally close ones the shorter."""
    known = np.unique(references)
    above = np.minimum(np.searchsorted(known, length), len(known) - 1)
    below = np.maximum(above - 1, 0)
    shorter, longer = known[below], known[above]
    return np.where(np.abs(length - shorter) <= np.abs(longer - length), shorter, longer)


def combine(name: str, matches: Sequence[Ints | Floats], length: Ints, reference: Ints) -> dict[str, Floats]:
    """The scores from what was counted: Papineni et al. (2002), section 2.3, with smoothing method 1.

    Args:
        name: of the figure, before its order.
        matches: (P,) clipped matches, for each order from 1 on.
        length: (P,) of the texts in tokens.
        reference: (P,) the closest reference length.
    """
    used = np.maximum(length, 1)
    penalty = np.where(length > reference, 1.0, np.exp(1 - reference / used))
    penalty[(length == 0) | (matches[0] == 0)] = 0.0  # without a common token nltk smooths nothing
    total = np.zeros(len(length))
    found = {}
    for order, match in enumerate(matches, 1):
        total += np.log(np.where(match == 0, EPSILON, match) / np.maximum(length - order + 1, 1))
        if order > 1:
            found[f"{name}-{order}"] = penalty * np.exp(total / order)
    return found
