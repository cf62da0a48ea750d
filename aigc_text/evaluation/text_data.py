"""The data of an evaluation as texts, and what they are like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aigc_text.data.sources import Pair, Source

from .options import EvaluationOptions

#: Texts or pairs, or where they are: a file, folder, glob or dataset.
Data = str | Path | Iterable[str | Pair]


def read_examples(what: Data, options: EvaluationOptions) -> Iterator[str | Pair]:
    if isinstance(what, (str, Path)):
        what = Source(
            what,
            text_column=options.text_column,
            prompt_column=options.prompt_column,
            completion_column=options.completion_column,
            sample_by=options.sample_by,
        )
    yield from what


def called(data: Data) -> str:
    """What a report calls the data."""
    names = [data] if isinstance(data, (str, Path)) else data.what if isinstance(data, Source) else ["a list"]
    return ", ".join(map(str, names))


def mean_length(texts: Sequence[str]) -> float:
    """Characters of a text on average."""
    return sum(map(len, texts)) / max(1, len(texts))


def share_spaced(texts: Sequence[str]) -> float:
    """The share of texts with white space before a full stop or a comma, as if they were cut into tokens."""
    return sum(bool(re.search(r"\s[.,]", text)) for text in texts) / max(1, len(texts))


def texts_of(examples: Iterable[str | Pair]) -> list[str]:
    """Of pairs the completions."""
    return [e.completion if isinstance(e, Pair) else e for e in examples]
