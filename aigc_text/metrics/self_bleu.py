"""Self-BLEU: how alike the texts of one set are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aigc_text.errors import MetricError

from .base import TextMetric
from .bleu import check_order, combine
from .ngrams import Floats, Ints, highest_elsewhere, lengths, ngrams
from .tokenization import all_words


class SelfBleu(TextMetric):
    """Self-BLEU-2 to Self-BLEU-n: the BLEU of each text against all the others, by the protocol of `Bleu`.

    The higher, the less diverse. A text is left out of its own references, once: its copies stay. References play no
    part; Self-BLEU of the real data is that of the data given as predictions. It rises with the number of texts, so
    sets of different sizes are not comparable.

    >>> from aigc_text.metrics.self_bleu import SelfBleu
    >>> texts = ["A man rides a horse.", "A man rides a bike.", "Two dogs sleep."]
    >>> found = SelfBleu().compute(predictions=texts, max_order=3)
    >>> {name: round(score, 4) for name, score in found.items()}
    {'self-bleu-2': 0.4899, 'self-bleu-3': 0.4351}
    """

    citation = """\
@inproceedings{zhu-etal-2018-texygen,
    title = "{T}exygen: A Benchmarking Platform for Text Generation Models",
    author = "Zhu, Yaoming and Lu, Sidi and Zheng, Lei and Guo, Jiaxian and Zhang, Weinan and Wang, Jun and Yu, Yong",
    booktitle = "The 41st International ACM SIGIR Conference on Research and Development in Information Retrieval",
    year = "2018",
    pages = "1097--1100",
}"""

    def scores(self, predictions: Iterable[str], max_order: int = 5, tokenize: str = "words") -> dict[str, Floats]:
        """The score of each text.

        Args:
            predictions: P texts, two at least.
            max_order: the n of the last Self-BLEU-n, from 2 on.
            tokenize: see `words.words`.

        Returns:
            `self-bleu-n` to an array (P,), for n from 2 to `max_order`.

        Raises:
            MetricError: there are fewer than two texts, or an argument is out of its range.
        """
        texts, _ = self._checked(predictions)
        if len(texts) < 2:
            raise MetricError("self_bleu of one text is undefined: it has no other to be compared with", "Give more.")
        tokens = all_words(texts, tokenize)
        length = lengths(tokens)
        matches = [
            np.bincount(found.text, np.minimum(found.count, highest_elsewhere(found)), len(texts))
            for found in ngrams(tokens, check_order(max_order))
        ]
        return combine("self-bleu", matches, length, closest_other(length))


def closest_other(length: Ints) -> Ints:
    """(P,) the length of another text that is closest to each length (P,); of two equally close ones the shorter.

    In the order of lengths it is next to the text itself; the neighbour before it is no longer than it.
    """
    order = np.argsort(length)
    ranked = length[order]
    none = np.iinfo(np.int64).max // 4  # farther than any text
    before, after = np.append(-none, ranked[:-1]), np.append(ranked[1:], none)
    found = np.empty_like(length)
    found[order] = np.where(ranked - before <= after - ranked, before, after)
    return found
