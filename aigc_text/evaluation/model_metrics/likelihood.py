"""`Likelihood`: how well a model predicts texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aigc_text.errors import MetricError
from aigc_text.metrics.base import TextMetric

from .reference_model import loaded

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.scoring.totals import Total


class Likelihood(TextMetric):
    """How well a model predicts texts, the end of each text included.

    Bits per byte are comparable across tokenizers, and so is perplexity per word or character on one corpus; perplexity
    per token is not. `kind` says whether the figures are `exact`, a `bound` from which the true ones can only be
    better, or an estimate.

    >>> from aigc_text.evaluation.model_metrics.likelihood import Likelihood
    >>> found = Likelihood().compute(predictions=["Once upon a time there was a king."], model="bundled:gpt2-tales")
    >>> found["kind"], round(found["bits_per_byte"], 2), round(found["perplexity"], 1)
    ('exact', 1.09, 10.3)
    """

    citation = """@article{shannon1951prediction, title={Prediction and Entropy of Printed English}, author={Claude E. \
Shannon}, journal={Bell System Technical Journal}, volume={30}, number={1}, pages={50--64}, year={1951}}"""

    def _compute(self, predictions: Iterable[str], model: Backend | str | None = None) -> dict[str, Any]:
        """The likelihood of `predictions`.

        Args:
            predictions: texts; an empty one has its end only, and no bytes.
            model: a loaded backend, a backend's name, a hub id or a folder.

        Returns:
            `perplexity` (per token of the model's tokenizer), `perplexity_per_word` (words are separated by white
            space, the end of each text is one; left out of texts in scripts without such spaces, as Chinese),
            `perplexity_per_character` (the end of each text is one), `bits_per_byte` (of UTF-8) and `nats_per_text`,
            both with a standard error over the texts (`…_se`) if there are several, and of estimates one from their
            samples alone (`…_samples_se`); the counts `texts`, `tokens`, `words`, `characters` and `utf8_bytes`;
            `kind` and `model`. What has nothing to be counted by, such as bits per byte of empty texts
            alone, is left out.

        Raises:
            MetricError: no model.
            BackendError: the backend has no likelihood.
        """
        if model is None:
            raise MetricError(f"{self.name}: whose likelihood?", 'Give a model: model="gpt2", a folder or a backend.')
        from aigc_text.scoring.totals import total

        backend = loaded(model)
        found = total(backend.score(predictions))
        figures = {
            "perplexity": found.perplexity,
            "perplexity_per_word": found.perplexity_per_word,
            "perplexity_per_character": found.perplexity_per_character,
            "bits_per_byte": found.bits_per_byte,
            "bits_per_byte_se": found.bits_per_byte_se,
            "nats_per_text": found.nll / found.texts,
            "nats_per_text_se": found.nats_per_text_se,
            **_of_samples(found),
            "texts": found.texts,
            "tokens": found.tokens,
            "words": found.words if found.has_words else None,
            "characters": found.characters,
            "utf8_bytes": found.utf8_bytes,
        }
        labels = {"kind": found.kind, "model": backend.source or backend.name}
        return {**{k: float(v) for k, v in figures.items() if v is not None}, **labels}


def _of_samples(found: Total) -> dict[str, float]:
    """What the samples behind estimates add to the errors."""
    if found.nll_se is None:
        return {}
    errors = {"nats_per_text_samples_se": found.nll_se / found.texts}
    if found.utf8_bytes:
        errors["bits_per_byte_samples_se"] = found.nll_se / math.log(2) / found.utf8_bytes
    return errors
