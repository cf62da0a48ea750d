"""`EvaluateMetric`: the interface of the library evaluate, which takes seconds to import and is made on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import evaluate
from datasets import Features, Value

if TYPE_CHECKING:
    from .base import TextMetric


class EvaluateMetric(evaluate.Metric):
    """A `TextMetric` behind the interface of `evaluate.Metric`.

    The base class writes both lists into an Arrow file in the user's cache, side by side, so they have to be equally
    long. Here they are held in memory, and may have any lengths.

    Args:
        metric: computes the figures, and holds the texts that were added.
    """

    def __init__(self, metric: TextMetric) -> None:
        self.metric = metric
        super().__init__()

    @property
    def name(self) -> str:
        return self.metric.name

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.metric.description,
            citation=self.metric.citation,
            inputs_description="",
            features=Features({"predictions": Value("string"), "references": Value("string")}),
        )

    def _build_data_dir(self) -> str:
        return str(self._data_dir_root)  # the base class would make a folder there

    def __len__(self) -> int:
        return len(self.metric)

    def add(self, *, prediction: str | None = None, reference: str | None = None, **_: Any) -> None:
        """See `TextMetric.add`."""
        self.metric.add(prediction=prediction, reference=reference)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **_: Any) -> None:
        """See `TextMetric.add_batch`."""
        self.metric.add_batch(predictions=predictions, references=references)

    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict[str, Any]:
        """See `TextMetric.compute`."""
        return self.metric.compute(predictions=predictions, references=references, **kwargs)
