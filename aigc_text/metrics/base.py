"""`TextMetric`: what all metrics over plain lists of texts share. They download and write nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aigc_text.errors import MetricError

if TYPE_CHECKING:
    import evaluate


class TextMetric:
    """What all metrics here share: `compute(predictions=[…], references=[…])` on lists of any two lengths.

    References are a set that all predictions are compared with, unless a metric says otherwise. The methods are those
    of an `evaluate.Metric`; `as_evaluate` makes one, for code that asks for that class.

    A subclass has a docstring (description, a worked example), a `citation`, and `_compute`; or, if its figures are
    means over texts, `scores`, which takes the same and gives the name of each figure an array of one score a text.
    """

    #: Gives the scores of each text, where there are any.
    scores: Callable[..., Mapping[str, Any]]

    #: BibTeX of the paper that defines the figure.
    citation: str = ""

    #: Whether there is no figure without references.
    needs_references = False

    def __init__(self) -> None:
        self._held: tuple[list[str], list[str]] = ([], [])

    @property
    def name(self) -> str:
        """The class's name in lower case, such as `self_bleu`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def description(self) -> str:
        """What the figures are, with an example."""
        return type(self).__doc__ or ""

    def as_evaluate(self) -> evaluate.Metric:
        """This metric as an `evaluate.Metric`, for code that asks for that class. Imports evaluate and datasets."""
        from .hf_evaluate import EvaluateMetric

        return EvaluateMetric(self)

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
        texts, others = self._texts(predictions, "predictions"), self._references(references)
        self._held[0].extend(texts)
        self._held[1].extend(others)

    def compute(
        self, *, predictions: Iterable[str] | None = None, references: Iterable[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The metric's figures by their names, as floats; and what they must be read with, as text.

        A figure that these texts leave undefined is not among them.

        Args:
            predictions: the texts to measure; those held by `add` and `add_batch` come before them.
            references: what they are compared with, where the metric does so.
            kwargs: see the metric's `_compute`.

        Raises:
            MetricError: no figure is defined for these texts, or something that it needs is missing.
        """
        self.add_batch(predictions=predictions, references=references)
        held, self._held = self._held, ([], [])
        texts, others = self._checked(*held)
        if others:
            kwargs["references"] = others
        found: dict[str, Any] = self._compute(predictions=texts, **kwargs)
        return found

    def _compute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The means of `scores`."""
        if not self.needs_references:
            kwargs.pop("references", None)
        return {name: float(each.mean()) for name, each in self.scores(*args, **kwargs).items()}

    def _checked(
        self, predictions: Iterable[str] | None, references: Iterable[str] | None = None
    ) -> tuple[list[str], list[Any]]:
        """Both as lists, or the error of what is missing or no text."""
        texts, others = self._texts(predictions, "predictions"), self._references(references)
        if not texts:
            raise MetricError(f"{self.name}: there is no text to measure", "Give predictions, a list of texts.")
        if self.needs_references and not others:
            raise MetricError(f"{self.name}: there is nothing to compare with", "Give references, a list of texts.")
        return texts, others

    def _references(self, references: Iterable[Any] | None) -> list[Any]:
        return self._texts(references, "references")

    def _texts(self, texts: Iterable[str] | None, what: str) -> list[str]:
        """A list of texts, or the error of something else."""
        if texts is None:
            return []
        cure = f"Give {what}, a list of texts."
        if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
            raise MetricError(f"{self.name}: {what} is {_shown(texts)}", cure)
        found = list(texts)
        for place, text in enumerate(found):
            if not isinstance(text, str):
                raise MetricError(f"{self.name}: {what}[{place}] is {_shown(text)}", cure)
        return found


def _shown(value: object) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) < 60 else shown[:56] + ' ...'}"
