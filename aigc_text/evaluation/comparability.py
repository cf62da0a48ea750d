"""Whether texts can be compared with the data, and what a reader of their figures should know of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigc_text.outputs import Completion

from .metric_groups import Yardstick
from .text_data import mean_length, share_spaced

LONGER = 1.5  # times the mean length of others, from which texts are of another length


def is_comparable(samples: Sequence[Completion], to: Yardstick) -> bool:
    """Whether BLEU against the references means for these texts what it means for the real row.

    That row's texts are never compared with themselves. Texts that answer prompts have their own reference among
    the others, and copies of references match themselves. Texts of other lengths, or cut into tokens where the
    data are not, have other n-grams for that reason alone.
    """
    if to.completions is not None or _is_spaced_otherwise(samples, to):
        return False
    lengths = [mean_length(texts) for texts in ([s.text for s in samples], to.references)]
    if max(lengths) > LONGER * min(lengths):
        return False
    references = set(to.references)
    copied = sum(sample.text in references for sample in samples)
    repeated = len(to.references) - len(references)
    return copied / max(1, len(samples)) <= 0.1 + repeated / max(1, len(to.references))


def _is_spaced_otherwise(samples: Sequence[Completion], to: Yardstick) -> bool:
    """Whether the texts are cut into tokens and the data are not, or the reverse."""
    return abs(share_spaced([s.text for s in samples]) - share_spaced(to.references)) > 0.5


def unknown_note(backend: Any, references: Sequence[str]) -> list[str]:
    """What a model need not spell out makes its likelihood look better than that of one that must."""
    from aigc_text.data.tokenizer_training import unknown_share

    tokenizer = getattr(backend, "tokenizer", None)
    share = unknown_share(tokenizer, references) if tokenizer is not None else 0.0
    if not share:
        return []
    return [f"{share:.1%} of the data's tokens are unknown to the model, so its likelihood is not comparable"]


def sample_notes(samples: Sequence[Completion], to: Yardstick, wanted: int) -> list[str]:
    """What makes the figures of generated texts differ for other reasons than their quality.

    Args:
        samples: the texts.
        to: what they are measured against.
        wanted: how many texts were asked for.
    """
    found = []
    total = len(samples)
    if total != wanted:
        found.append(f"{total} texts; figures over other numbers of texts differ by that alone")
    if empty := sum(not s.text.strip() for s in samples):
        found.append(f"{empty} of {total} texts are empty")
    if cut := sum(s.finish_reason == "length" for s in samples):
        found.append(f"{cut} of {total} texts were cut at the most tokens allowed (--max-new-tokens)")
    if not all(s.exact for s in samples):
        found.append("the texts may differ at another batch size or on another device")
    if _is_spaced_otherwise(samples, to):
        found.append("white space before punctuation, which BLEU does not see, tells these texts from the data")
    lines = sum("\n" in s.text.strip() for s in samples)
    if lines > total / 10 and not any("\n" in t.strip() for t in to.references):
        found.append(f"{lines} of {total} texts hold line breaks, the data hold none (--stop $'\\n')")
    return found
