"""What an evaluation can be asked for. Needs no heavy package: the command line reads its options from here."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aigc_text.errors import OptionError, nearest
from aigc_text.options.base import Options, option, value_type
from aigc_text.options.generation import GenerationOptions

from .metric_groups import GROUPS

MOST_POINTS = 100
#: Draws from the model's own distribution, nothing cut off or bent.
PURE = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
#: What a sample is told by its place in the evaluation, not by generation options.
NOT_FOR_SAMPLES = ("num_return_sequences", "seed")
QUALITIES = ("bleu-2", "bleu-3", "bleu-4", "bleu-5", "mauve", "sacrebleu")
DIVERSITIES = (
    *(f"self-bleu-{n}" for n in range(2, 6)),
    *(f"distinct-{n}" for n in range(1, 5)),
    "uniqueness",
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Options):
    """How to measure."""

    num_samples: int = option(1000, "Texts to generate and measure for each row.", low=1)
    metrics: tuple[str, ...] | None = option(
        None, "Groups of figures, several with commas; by default all but sacrebleu."
    )
    tokenize: str = option(
        "words",
        "Tokens of BLEU and the like: words (lower-cased, as Texygen), chars (for Chinese), or split at white space.",
        choices=("words", "chars", "split"),
    )
    sampling: str = option(
        "pure",
        "pure draws from the model's distribution as it is; own takes the model's defaults (top_p and so on).",
        choices=("pure", "own"),
    )
    sweep: str | None = option(None, "Vary a generation option: temperature=0.5:1.2:0.1, or top_p=0.8,0.9,1.")
    quality: str = option("bleu-5", "The sweep's figure of quality.", choices=QUALITIES)
    diversity: str = option("self-bleu-5", "The sweep's figure of diversity.", choices=DIVERSITIES)
    reference_model: str = option("bundled:gpt2-tales", "The model of the perplexity of the samples.")
    feature_model: str = option("bundled:gpt2-tales", "The causal LM whose features MAUVE compares.")
    text_column: str = option("text", "The column that holds the text.")
    prompt_column: str | None = option(None, "The column that holds prompts; then one text is generated for each.")
    completion_column: str | None = option(None, "The column that holds what is to follow the prompt.")
    sample_by: str = option("line", "What one text of a plain file is.", choices=("document", "paragraph", "line"))
    seed: int = option(0, "Seed of the samples.", low=0)

    def groups(self) -> list[str]:
        """The names of the groups of figures.

        Raises:
            OptionError: one that does not exist, or none at all.
        """
        if self.metrics is None:
            pairs = self.prompt_column is not None
            return [name for name, group in GROUPS.items() if group.default or (pairs and name == "sacrebleu")]
        wanted = [name.strip() for text in self.metrics for name in text.split(",") if name.strip()]
        if not wanted:
            raise OptionError("metrics names no metric", f"Allowed: {', '.join(GROUPS)}")
        for name in wanted:
            if name not in GROUPS:
                allowed = f"Allowed: {', '.join(GROUPS)}"
                raise OptionError(f"there is no metric {name!r}.{nearest(name, GROUPS)}", allowed)
        return list(dict.fromkeys(wanted))


def sweep_of(text: str | None) -> list[dict[str, Any]]:
    """The points of `temperature=0.5:1.2:0.1` (first, last, step) or `top_p=0.8,0.9`; one empty point for `None`.

    Raises:
        OptionError: not of that form, an option that there is not, or a value out of its range.
    """
    if text is None:
        return [{}]
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    example = "E.g. --sweep temperature=0.5:1.2:0.1 or --sweep top_p=0.8,0.9,1.0"
    if not equals:
        raise OptionError(f"sweep {text!r} is not of the form option=first:last:step", example)
    fields = GenerationOptions.fields()
    if name in fields and (value_type(GenerationOptions, name)[0] not in (int, float) or name in NOT_FOR_SAMPLES):
        raise OptionError(f"sweep {text!r}: {name} cannot be swept", example)
    try:
        numbers = _span(values) if ":" in values else [Decimal(v) for v in values.split(",")]
        found = [int(v) if v == int(v) and _may_be_whole(name) else float(v) for v in numbers]
    except (ArithmeticError, ValueError):
        raise OptionError(
            f"sweep {text!r}: {values!r} is not first:last:step, nor values with commas", example
        ) from None
    for value in found:
        if name in fields:  # a backend's own options are checked when it is loaded
            GenerationOptions.parse({name: value})
    return [{name: value} for value in dict.fromkeys(found)]


def _may_be_whole(name: str) -> bool:
    """A backend's own option may, whose kind is not known here: one that takes any number takes a whole one too."""
    return name not in GenerationOptions.fields() or value_type(GenerationOptions, name)[0] is int


def _span(values: str) -> list[Decimal]:
    first, last, step = (Decimal(v) for v in values.split(":"))
    number = (last - first) / step + 1
    if not 1 <= number <= MOST_POINTS:
        raise ValueError
    return [first + step * n for n in range(int(number))]
