"""What a validation of a GAN measures: the likelihood of held-out text, and sentences drawn at that moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

REFERENCES = 1000  # held-out sentences that drawn ones are compared with, at most


class Watch:
    """Called with a model during training: what `likelihood` gives, and figures of drawn sentences.

    `uniqueness`, `distinct_1` to `distinct_3`, `self_bleu_4`; `bleu_4` against the held-out sentences, `bleu_4_back` of
    those against the drawn ones, and `bleu_ha`, the harmonic mean of both: high only for what is good and diverse
    (BLEU_F, BLEU_B and BLEU_HA of Shi et al. 2018).

    Args:
        likelihood: the validation that all causal language models have.
        draw: gives the sentences, the same random streams each time.
        references: held-out sentences.
    """

    def __init__(self, likelihood: Any, draw: Callable[[], Sequence[str]] | None, references: Sequence[str]) -> None:
        self.likelihood, self.draw, self.references = likelihood, draw, references
        self.notes = likelihood.notes

    def __call__(self, model: Any) -> dict[str, float]:
        figures: dict[str, float] = dict(self.likelihood(model))
        return figures if self.draw is None else {**figures, **measures(self.draw(), self.references)}


def measures(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Figures of drawn texts; see `Watch`. Texts without a word count for nothing but uniqueness."""
    from aigc_text.metrics.bleu import Bleu
    from aigc_text.metrics.distinct import Distinct
    from aigc_text.metrics.self_bleu import SelfBleu
    from aigc_text.metrics.uniqueness import Uniqueness

    found = {"uniqueness": float(Uniqueness().compute(predictions=texts)["uniqueness"])}
    if not any(text.strip() for text in texts):
        return {**found, "distinct_1": 0.0, "distinct_2": 0.0, "self_bleu_4": 1.0, "bleu_ha": 0.0}
    distinct = Distinct().compute(predictions=texts, max_order=3)
    found |= {name.replace("-", "_"): value for name, value in distinct.items()}
    found.setdefault("distinct_2", 0.0)
    found["self_bleu_4"] = SelfBleu().compute(predictions=texts, max_order=4)["self-bleu-4"]
    if references:
        ahead, back = (
            Bleu().compute(predictions=one, references=other, max_order=4)["bleu-4"]
            for one, other in ((texts, references), (references, texts))
        )
        both = ahead + back
        found |= {"bleu_4": ahead, "bleu_4_back": back, "bleu_ha": 2 * ahead * back / both if both else 0.0}
    return found
