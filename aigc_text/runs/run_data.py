"""The data of a run: what is trained on, and what is held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aigc_text.data.sources import Example, Pair, Source, refuse_unused, split, texts
from aigc_text.options.training import TrainingOptions


class RunData(NamedTuple):
    """The data of a run, read once for its tokenizer, its training and its validation.

    Attributes:
        examples: to train on: a list, or read anew in each pass if they are streamed.
        held_out: to validate on.
        names: of the data, as the user gave them.
        validation: the data that is validated on, if it was given.
    """

    examples: Iterable[Example]
    held_out: list[Example]
    names: list[str | Path]
    validation: str | Path | None


def hold_out(examples: list[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Splits off the last examples, or the end of a single text, for validation."""
    if not share:
        return examples, []
    if len(examples) == 1:
        only = examples[0]
        if isinstance(only, Pair):
            return examples, []
        cut = int(len(only) * (1 - share))
        return [only[:cut]], [only[cut:]]
    cut = min(max(1, round(len(examples) * (1 - share))), len(examples) - 1)  # at least one of each, none in both
    return examples[:cut], examples[cut:]


def read_data(
    data: str | Path | Sequence[str | Path],
    validation: str | Path | None,
    options: TrainingOptions,
    sample_by: str = "document",
) -> RunData:
    """Reads what to train on and what to validate on.

    A tokenizer is trained on the examples alone.

    Args:
        data: what `Source` takes.
        validation: the same; without it a share of the data is held out.
        options: as the user gave them.
        sample_by: what one text of a plain file is where the options do not say.

    Raises:
        DataError, OptionError: see `sources.Source` and `sources.refuse_unused`.
    """
    names = [data] if isinstance(data, (str, Path)) else list(data)
    source = Source.of(names, options, sample_by)
    other = Source.of(validation, options, sample_by) if validation else None
    refuse_unused([source, other] if other else [source], options.given())
    if options.streaming:
        left, held_out = (source, other) if other else split(source, options.validation_split)
        # Of much held-out text no more is read than the blocks that a validation looks at.
        enough = options.eval_blocks * (options.block_size or 512) * 6
        return RunData(left, list(_first(held_out, enough)), names, validation)
    pair = (list(source), list(other)) if other else hold_out(list(source), options.validation_split)
    return RunData(*pair, names, validation)


def _first(examples: Iterable[Example], characters: int) -> Iterator[Example]:
    """The first examples that together have so many characters."""
    for example in examples:
        yield example
        characters -= sum(len(t) for t in texts([example]))
        if characters <= 0:
            return
