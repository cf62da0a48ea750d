"""Where a text meets what stands before it: the tokens of prompts, of what follows them, and of infilling.

Training and generation take the ids of a prompt from `prompt_ids`, and training those of what follows from `following`,
so a model meets in generation exactly the boundary that it saw in training.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = ("a", "0", "的", ".")  # texts of at least one token, in whatever language a tokenizer was trained on
#: Characters put before a text so that a tokenizer does not treat it as the beginning of one.
ANCHORS = ("x", "q", "z", "7", "的", "ж", "\n", ".", "☺")


class Template(NamedTuple):
    """The ids that a tokenizer itself adds to a text, such as BOS before it and EOS after it."""

    before: list[int]
    after: list[int]


def template(tokenizer: PreTrainedTokenizerBase) -> Template:
    """What a tokenizer adds before and after any text; nothing, for tokenizers like GPT-2's."""
    for probe in PROBES:
        own, whole = plain_ids(tokenizer, probe), list(tokenizer(probe, verbose=False)["input_ids"])
        for n in range(len(whole) - len(own) + 1) if own else ():
            if whole[n : n + len(own)] == own:
                return Template(whole[:n], whole[n + len(own) :])
    return Template([], [])


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text alone, without those of the tokenizer's template."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, added: Template) -> list[int]:
    """The ids of a prompt that a text goes on from.

    What the template puts before a text stands before it. What it puts after one does not: an end of text there would
    end the text before it has begun.
    """
    ids = plain_ids(tokenizer, prompt)
    return [*added.before, *ids] if ids else []


def cut_left(ids: Sequence[int], most: int, kept: Sequence[int]) -> list[int]:
    """Truncates `ids` on the left to at most `most`, keeping the leading ids `kept` if they are there.

    `backends/hf/prompt_requests` decides when to truncate a prompt, and to what length.
    """
    if len(ids) <= most:
        return list(ids)
    front = list(kept) if list(ids[: len(kept)]) == list(kept) and len(kept) <= most else []
    return [*front, *ids[len(ids) - (most - len(front)) :]]


def following(
    tokenizer: PreTrainedTokenizerBase, before: Sequence[int], prompt: str, text: str, added: Template
) -> list[int]:
    """The ids of a text that follows a prompt, with the end of text.

    As the tokenizer divides both together if that begins with the prompt's ids, from which generation goes on. Else
    the ids that turn the prompt's into the same text: a tokenizer that puts a space before any text must not put one
    between the two.

    Args:
        tokenizer: its `eos_token`, if it has one, ends the text.
        before: the ids of the prompt, as generation gives them to the model.
        prompt: the text that `before` stands for.
        text: what follows it.
        added: the tokenizer's template.
    """
    whole = [*added.before, *plain_ids(tokenizer, prompt + text)]
    known = len(before)
    if whole[:known] == list(before) and len(whole) > known:
        ids = whole[known:]
    elif not plain_ids(tokenizer, prompt):  # nothing but what begins a text
        ids = whole[len(added.before) :]
    else:
        wanted = {decoded(tokenizer, whole), decoded(tokenizer, before) + text}
        ids = continuation(tokenizer, text, before, wanted)
    end = tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def inner_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text that stands in the middle of another, where a tokenizer may not put a space before it."""
    anchor = plain_ids(tokenizer, ANCHORS[0])
    wanted = {decoded(tokenizer, anchor) + text, decoded(tokenizer, plain_ids(tokenizer, ANCHORS[0] + text))}
    return continuation(tokenizer, text, anchor, wanted)


def marks_beginnings(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer divides a text otherwise at its beginning, so that `inner_ids` are not those of it alone."""
    parts = [i for text in (ANCHORS[0], PROBES[0]) for i in plain_ids(tokenizer, text)]
    return decoded(tokenizer, parts) != ANCHORS[0] + PROBES[0]


def continuation(
    tokenizer: PreTrainedTokenizerBase, text: str, before: Sequence[int], wanted: Collection[str]
) -> list[int]:
    """The ids of a text for which `before` and they decode to one of the `wanted` texts.

    The text is tokenised alone and then after one character after another, whose ids are taken off again (Code Llama
    divides the text after a gap so). Where none is right, as where words are tokens and the boundary is inside one,
    the text stands alone.
    """
    alone = plain_ids(tokenizer, text)
    if decoded(tokenizer, [*before, *alone]) in wanted:
        return alone
    for anchor in ANCHORS:
        own, both = plain_ids(tokenizer, anchor), plain_ids(tokenizer, anchor + text)
        ids = both[len(own) :]
        if own and ids and both[: len(own)] == own and decoded(tokenizer, [*before, *ids]) in wanted:
            return ids
    return alone


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids with all their special tokens, and nothing tidied up."""
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
