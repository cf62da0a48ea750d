"""The groups of figures that an evaluation can be asked for: each takes one set of texts and fills some columns."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aigc_text.errors import MetricError

if TYPE_CHECKING:
    import numpy as np

    from aigc_text.backends.base import Backend

T = TypeVar("T")


@dataclass
class Yardstick:
    """What all rows are measured against.

    Attributes:
        references: the real texts.
        train: what the models were trained on, for novelty and for the row of real data.
        completions: the real completion of each prompt, where the data are pairs.
        tokenize: how texts become words.
        reference_model: of `reference ppl`, a name that `load` takes.
        feature_model: of MAUVE, likewise.
    """

    references: Sequence[str]
    train: Sequence[str] | None = None
    completions: Sequence[str] | None = None
    tokenize: str = "words"
    reference_model: str = ""
    feature_model: str = ""
    _loaded: dict[str, Backend] = field(default_factory=dict)
    _features: dict[int, np.ndarray] = field(default_factory=dict)

    def model(self, name: str) -> Backend:
        """A model that measures, loaded once."""
        from aigc_text.evaluation.model_metrics.reference_model import loaded

        if name not in self._loaded:
            self._loaded[name] = loaded(name)
        return self._loaded[name]

    def has_words(self) -> bool:
        """Whether white space separates words in the references."""
        from aigc_text.scoring.totals import letters_of, spaces_separate

        if self.tokenize == "chars":
            return False
        counts = [letters_of(text) for text in self.references]
        return spaces_separate(sum(n for n, _ in counts), sum(n for _, n in counts))

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """What MAUVE compares (N, D); those of the last sets are kept, since rows share their references."""
        from aigc_text.evaluation.model_metrics.mauve import features

        key = hash(tuple(texts))
        if key not in self._features:
            self._features[key] = features(texts, self.model(self.feature_model))
            while len(self._features) > 2:
                del self._features[next(iter(self._features))]
        return self._features[key]


@dataclass(frozen=True)
class Texts:
    """One row's texts.

    Attributes:
        texts: to be measured.
        own: for the row of real data, their places among the references if they were taken from there.
        real: whether this is the row of real data.
        likelihood: the model's likelihood of the data, already found; or why there is none.
    """

    texts: Sequence[str]
    own: Sequence[int] | None = None
    real: bool = False
    likelihood: Mapping[str, float | str] | str = "these texts come without a model"


@dataclass
class Found:
    """Figures by column, with standard errors, what the reader should know, and why a column has none."""

    values: dict[str, float | str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def means(self, scores: Mapping[str, Any]) -> Found:
        """Takes the mean of one score a text, and its standard error."""
        for name, each in scores.items():
            self.values[name] = float(each.mean())
            self.errors[name] = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else 0.0
        return self


def _bleu(to: Yardstick, row: Texts) -> Found:
    from aigc_text.metrics.bleu import Bleu
    from aigc_text.metrics.self_bleu import SelfBleu

    if row.own is None:
        return Found().means(Bleu().scores(row.texts, to.references, tokenize=to.tokenize))
    every = SelfBleu().scores(to.references, tokenize=to.tokenize)
    found = Found().means({name.removeprefix("self-"): each[list(row.own)] for name, each in every.items()})
    found.notes.append("BLEU of each text against all the other texts of the data, for want of --train")
    return found


def _self_bleu(to: Yardstick, row: Texts) -> Found:
    from aigc_text.metrics.self_bleu import SelfBleu

    return Found().means(SelfBleu().scores(row.texts, tokenize=to.tokenize))


def _mauve(to: Yardstick, row: Texts) -> Found:
    from aigc_text.evaluation.model_metrics.mauve import compare, demand_texts

    others: Sequence[str] = to.references
    texts, notes = row.texts, []
    if row.own is not None:
        own = set(row.own)
        others = [t for n, t in enumerate(to.references) if n not in own]
        if len(others) < len(texts):
            texts, others = row.texts[::2], row.texts[1::2]
        notes.append("MAUVE of some of the data against others, for want of --train")
    demand_texts(len(texts), len(others))  # before the features are found, of which there may be none
    size = min(len(texts), len(others))
    found = compare(*(to.features(evenly(each, size)) for each in (others, texts)))
    notes += [found["note"]] if "note" in found else []
    return Found({"mauve": found["mauve"]}, {"mauve": found["mauve_sd"]}, notes)


def _plain(metric: str) -> Callable[[Yardstick, Texts], Found]:
    """A group whose columns are named as the figures of a metric of that name, against all references."""

    def fill(to: Yardstick, row: Texts) -> Found:
        module = importlib.import_module(f"aigc_text.metrics.{metric}")
        made = getattr(module, metric.capitalize())()
        return Found(made.compute(predictions=row.texts, references=to.references, tokenize=to.tokenize))

    return fill


def _novelty(to: Yardstick, row: Texts) -> Found:
    from aigc_text.metrics.novelty import Novelty

    if to.train is None:
        raise MetricError("no training texts are given (--train)")
    if row.real:
        raise MetricError("these are the training texts themselves")
    return Found().means(Novelty().scores(row.texts, to.train, tokenize=to.tokenize))


def _likelihood(to: Yardstick, row: Texts) -> Found:
    if isinstance(row.likelihood, str):
        raise MetricError(row.likelihood)
    found = dict(row.likelihood)
    names = {"perplexity": "ppl/token", "perplexity_per_word": "ppl/word", "bits_per_byte": "bits/byte"}
    values = {new: found[old] for old, new in names.items() if old in found}
    if isinstance(ppl := found.get("perplexity"), float):
        values["nats/token"] = math.log(ppl)
    missing: dict[str, str] = {}
    if to.tokenize == "chars" or "ppl/word" not in values:
        values.pop("ppl/word", None)
        missing["ppl/word"] = "no spaces separate the words of the data"
        if "perplexity_per_character" in found:
            values["ppl/char"] = found["perplexity_per_character"]
    errors = {"bits/byte": float(found["bits_per_byte_se"])} if "bits_per_byte_se" in found else {}
    return Found({**values, "kind": found["kind"]}, errors, missing=missing)


def _reference_ppl(to: Yardstick, row: Texts) -> Found:
    from aigc_text.evaluation.model_metrics.reference_perplexity import ReferencePerplexity

    found = ReferencePerplexity().compute(predictions=row.texts, model=to.model(to.reference_model))
    unit = "word" if to.has_words() else "character"
    if f"reference_perplexity_per_{unit}" not in found:
        raise MetricError(f"there is no {unit} in these texts")
    notes = [] if unit == "word" else ["reference ppl is per character: no spaces separate the words of the data"]
    return Found({"reference ppl": found[f"reference_perplexity_per_{unit}"]}, notes=notes)


def _sacrebleu(to: Yardstick, row: Texts) -> Found:
    from aigc_text.metrics.sacrebleu import SacreBleu

    if row.real:
        raise MetricError("these are the references themselves")
    if to.completions is None:
        raise MetricError("corpus BLEU needs a reference for each text (--prompt-column and --completion-column)")
    return Found(dict(SacreBleu().compute(predictions=row.texts, references=to.completions[: len(row.texts)])))


class Group:
    """Some columns and what fills them.

    Args:
        measure: finds the figures of a row.
        columns: their names.
        default: whether they are found where nobody says which.
        of_texts: whether generated texts are measured, under a yardstick; else none need be generated.
    """

    def __init__(
        self,
        measure: Callable[[Yardstick, Texts], Found],
        *columns: str,
        default: bool = True,
        of_texts: Callable[[Yardstick], bool] = lambda _: True,
    ) -> None:
        self.measure, self.columns, self.default, self.of_texts = measure, columns, default, of_texts


_FOUR = range(2, 6)
WITHOUT_WORDS = ("ppl/char",)  # columns of data whose words nothing separates; other data have no such column
GROUPS = {
    "bleu": Group(_bleu, *(f"bleu-{n}" for n in _FOUR)),
    "self-bleu": Group(_self_bleu, *(f"self-bleu-{n}" for n in _FOUR)),
    "mauve": Group(_mauve, "mauve"),
    "distinct": Group(_plain("distinct"), *(f"distinct-{n}" for n in range(1, 5))),
    "uniqueness": Group(_plain("uniqueness"), "uniqueness"),
    "novelty": Group(_novelty, "novelty", of_texts=lambda to: to.train is not None),
    "reference-ppl": Group(_reference_ppl, "reference ppl"),
    "lengths": Group(_plain("lengths"), "length-mean", "length-sd", "length-w1"),
    "vocabulary": Group(_plain("vocabulary"), "types", "unseen-tokens", "unigram-jsd"),
    "likelihood": Group(
        _likelihood, "nats/token", "ppl/token", "ppl/word", "ppl/char", "bits/byte", "kind", of_texts=lambda _: False
    ),
    "sacrebleu": Group(_sacrebleu, "sacrebleu", default=False, of_texts=lambda to: to.completions is not None),
}


def measure(to: Yardstick, row: Texts, wanted: Sequence[str]) -> tuple[Found, dict[str, str]]:
    """The figures of some groups; and by column why there is none."""
    found, missing = Found(), {}
    for name in wanted:
        group = GROUPS[name]
        columns = [c for c in group.columns if c not in WITHOUT_WORDS]
        try:
            part = group.measure(to, row)
        except MetricError as error:
            missing.update(dict.fromkeys(columns, ". ".join(filter(None, (error.message, error.cure)))))
            continue
        for column in (*columns, *(c for c in group.columns if c in part.values and c not in columns)):
            value = part.values.get(column)
            if value is None or (isinstance(value, float) and math.isnan(value)):
                missing[column] = part.missing.get(column, "it is not defined for these texts")
                continue
            found.values[column] = value
            if column in part.errors:
                found.errors[column] = part.errors[column]
        found.notes += part.notes
    return found, missing


def evenly(texts: Sequence[T], number: int) -> list[T]:
    """So many texts, taken evenly from first to last; all if there are not more."""
    return [texts[n * len(texts) // number] for n in range(number)] if number < len(texts) else list(texts)
