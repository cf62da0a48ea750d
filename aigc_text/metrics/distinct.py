"""distinct-n: how many of the n-grams of a set are different ones."""

from __future__ import annotations

from typing import Any

from aigc_text.errors import MetricError

from .base import TextMetric
from .ngrams import ngrams
from .tokenization import all_words


class Distinct(TextMetric):
    """distinct-1 to distinct-4: different n-grams over all n-grams of the whole set, from 0 to 1.

    Li et al. (2016) divide by the number of tokens; dividing by that of the n-grams has become usual, is the same for
    n = 1, and makes 1 the highest value for the others too. The more text, the lower: compare sets of the same size
    only. References play no part. Where no text has n tokens there is no distinct-n.

    >>> from aigc_text.metrics.distinct import Distinct
    >>> Distinct().compute(predictions=["a man and a dog", "a dog"], max_order=2)
    {'distinct-1': 0.5714285714285714, 'distinct-2': 0.8}
    """

    citation = """\
@inproceedings{li-etal-2016-diversity,
    title = "A Diversity-Promoting Objective Function for Neural Conversation Models",
    author = "Li, Jiwei and Galley, Michel and Brockett, Chris and Gao, Jianfeng and Dolan, Bill",
    booktitle = "Proceedings of the 2016 Conference of the North {A}merican Chapter of the Association for
        Computational Linguistics: Human Language Technologies",
    year = "2016",
    pages = "110--119",
}"""

    def _compute(
        self, predictions: list[str], references: Any = None, max_order: int = 4, tokenize: str = "words"
    ) -> dict[str, float]:
        if isinstance(max_order, bool) or not isinstance(max_order, int) or max_order < 1:
            raise MetricError(f"max_order is {max_order!r}", "It is a whole number from 1 on.")
        orders = enumerate(ngrams(all_words(predictions, tokenize), max_order), 1)
        shares = {f"distinct-{n}": found.types / int(found.count.sum()) for n, found in orders if found.types}
        if not shares:
            raise MetricError("distinct: these texts have no token", "Give texts that are not empty.")
        return shares
