"""`ReferencePerplexity`: how likely samples are under a model that did not write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .likelihood import Likelihood
from .reference_model import REFERENCE_MODEL

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend


class ReferencePerplexity(Likelihood):
    """How likely samples are under a reference model that did not write them.

    Lower is not better: a model that says one safe sentence over and over is very likely. It belongs beside the same
    figure of the real data, which it should come near, and beside a measure of diversity.

    >>> from aigc_text.evaluation.model_metrics.reference_perplexity import ReferencePerplexity
    >>> found = ReferencePerplexity().compute(predictions=["Once upon a time there was a king."])
    >>> found["reference_model"], round(found["reference_perplexity"], 1)
    ('bundled:gpt2-tales', 10.3)
    """

    citation = """@inproceedings{fan2018hierarchical, title={Hierarchical Neural Story Generation}, author={Angela Fan \
and Mike Lewis and Yann Dauphin}, booktitle={ACL}, year={2018}}"""

    def _compute(self, predictions: Iterable[str], model: Backend | str | None = None) -> dict[str, Any]:
        """What `Likelihood` gives, each name with `reference_` before it.

        Args:
            predictions: texts.
            model: the reference: a loaded backend, a backend's name, a hub id or a folder; by default the bundled
                prose model.
        """
        found = super()._compute(predictions, REFERENCE_MODEL if model is None else model)
        return {f"reference_{name}": value for name, value in found.items()}
