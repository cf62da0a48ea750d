"""`TextMetric`: an `evaluate.Metric` over plain lists of texts, that downloads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import evaluate
from datasets import Features, Value

from ..errors import MetricError


class TextMetric(evaluate.Metric):
    """What all metrics here share: `compute(predictions=[…], references=[…])` on lists of any two lengths.

    The base class would write both lists into an Arrow file in the user's cache, side by side, so they would have to
    be equally long. References here are a set that all predictions are compared with, unless a metric says otherwise.

    A subclass has a docstring (description, a worked example), a `citation`, and `_compute`.
    """

    #: BibTeX of the paper that defines the figure.
    citation: str = ""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation=self.citation,
            inputs_description="",
            features=Features({"predictions": Value("string")}),
        )

    def _build_data_dir(self) -> str:
        self._held: tuple[list[str], list[str]] = ([], [])
        return str(self._data_dir_root)  # the base class would make a folder there

    def __len__(self) -> int:
        return len(self._held[0])

    def add(self, *, prediction: str | None = None, reference: str | None = None, **_: Any) -> None:
        """Holds one text of each kind for the next `compute`."""
        self.add_batch(
            predictions=None if prediction is None else [prediction],
            references=None if reference is None else [reference],
        )

    def add_batch(
        self, *, predictions: Iterable[str] | None = None, references: Iterable[str] | None = None, **_: Any
    ) -> None:
        """Holds texts for the next `compute`."""
        self._held[0].extend(predictions or ())
        self._held[1].extend(references or ())

    def compute(
        self, *, predictions: Iterable[str] | None = None, references: Iterable[str] | None = None, **kwargs: Any
    ) -> dict[str, float]:
        """The metric's figures by their names.

        Args:
            predictions: the texts to measure; those held by `add` and `add_batch` come before them.
            references: what they are compared with, where the metric does so.
            kwargs: see the metric's `_compute`.

        Raises:
            MetricError: the figure is not defined for these texts, or something that it needs is missing.
        """
        self.add_batch(predictions=predictions, references=references)
        texts, others = self._held
        self._held = ([], [])
        if not texts:
            raise MetricError(f"{self.name}: there is no text to measure", "Give predictions, a list of texts.")
        if others:
            kwargs["references"] = others
        found: dict[str, float] = self._compute(predictions=texts, **kwargs)
        return found
