"""sacreBLEU: corpus BLEU of texts that each have references of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from aigc_text.errors import MetricError, nearest

from .base import TextMetric

TOKENIZE = ("13a", "intl", "zh", "char", "none")  # sacrebleu's others download a model, or need one more package


class SacreBleu(TextMetric):
    """Corpus BLEU by the package sacrebleu, from 0 to 100: the figure of machine translation papers.

    Here text i belongs to reference i, or to all texts of a list i. Matches are counted over the whole corpus, so it is
    no mean over texts, and has nothing in common with `Bleu` but its n-grams. Say `signature` beside every score.

    >>> from aigc_text.metrics.sacrebleu import SacreBleu
    >>> metric = SacreBleu()
    >>> found = metric.compute(predictions=["The dog bit the man."], references=[["The dog had bit the man."]])
    >>> round(found["sacrebleu"], 4)
    51.1508
    >>> metric.signature.split("|version")[0]
    'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp'
    """

    citation = """\
@inproceedings{post-2018-call,
    title = "A Call for Clarity in Reporting {BLEU} Scores",
    author = "Post, Matt",
    booktitle = "Proceedings of the Third Conference on Machine Translation: Research Papers",
    year = "2018",
    pages = "186--191",
}"""
    needs_references = True

    #: How the last score was computed, in sacrebleu's words; empty before there is one.
    signature = ""

    def _references(self, references: Iterable[Any] | None) -> list[Any]:
        """A list of references for each text, made of one text or of several."""
        if references is None or isinstance(references, str) or not isinstance(references, Iterable):
            return self._texts(references, "references")  # nothing, or the error of no list
        found = []
        for place, several in enumerate(references):
            found.append(self._texts([several] if isinstance(several, str) else several, f"references[{place}]"))
            if not found[-1]:
                raise MetricError(f"{self.name}: references[{place}] is empty", "Give each text one at least.")
        return found

    def _compute(
        self, predictions: list[str], references: Sequence[list[str]], tokenize: str = "13a", lowercase: bool = False
    ) -> dict[str, float]:
        if len(predictions) != len(references):
            raise MetricError(
                f"{self.name}: {len(predictions)} predictions and references for {len(references)}",
                "Give a reference, or a list of references, for each prediction.",
            )
        if tokenize not in TOKENIZE:
            raise MetricError(
                f"{self.name}: tokenize is {tokenize!r}",
                f"It is one of {', '.join(TOKENIZE)}.{nearest(str(tokenize), TOKENIZE)}",
            )
        try:
            from sacrebleu.metrics import BLEU
        except ImportError as error:
            raise MetricError(
                f"{self.name} needs the package sacrebleu ({error})", 'pip install "aigc-text[metrics]"'
            ) from error
        bleu = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)  # force: no warning of texts that end in " ."
        score = bleu.corpus_score(predictions, list(zip_longest(*references)))
        self.signature = str(bleu.get_signature())
        return {"sacrebleu": float(score.score)}
