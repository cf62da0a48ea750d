"""Prompts and pairs in the chat template of a tokenizer: the user asks, the assistant answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.data.prompt_encoding import continuation, decoded, plain_ids
from aigc_text.errors import ModelError, OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CURE = "Mend or remove chat_template.jinja in the model's folder."


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The ids of a prompt as a user's message, up to where the assistant's answer begins.

    Raises:
        OptionError: the tokenizer has no chat template.
        ModelError: its chat template fails, or makes nothing of the prompt.
    """
    if not tokenizer.chat_template:
        raise OptionError("chat: the model's tokenizer has no chat template", "Leave chat out, or use a chat model.")
    ids = plain_ids(tokenizer, _rendered(tokenizer, prompt))  # the template has put special tokens in itself
    if not ids:
        raise ModelError("the chat template of the model's tokenizer makes an empty text of a prompt", CURE)
    return ids


def pair_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """The ids of a prompt as `prompt_tokens` gives them, and of the answer that is to follow, end of text included.

    Generation goes on from exactly the prompt's ids, so these must come first. Where the whole conversation is
    divided otherwise, what the template adds to its text is tokenised as their continuation; where its text goes
    another way (some templates leave out of an answer what they add to a prompt), the completion as it is.

    Raises:
        ModelError: the chat template fails.
    """
    before = prompt_tokens(tokenizer, prompt)
    asked, whole = _rendered(tokenizer, prompt), _rendered(tokenizer, prompt, completion)
    ids = plain_ids(tokenizer, whole)
    if len(ids) > len(before) and ids[: len(before)] == before:
        after = ids[len(before) :]
    else:
        text = whole[len(asked) :] if whole.startswith(asked) else completion
        wanted = {decoded(tokenizer, ids), decoded(tokenizer, before) + text}
        after = continuation(tokenizer, text, before, wanted)
    end = tokenizer.eos_token_id  # not every template ends with it, and generation would not
    return before, after if end is None or end in after else [*after, end]


def _rendered(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str | None = None) -> str:
    messages = [{"role": "user", "content": prompt}]
    if completion is not None:
        messages.append({"role": "assistant", "content": completion})
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=completion is None))
    except Exception as error:  # a template is a program of the model's author
        raise ModelError(
            f"the chat template of the model's tokenizer fails: {type(error).__name__}: {error}"[:300],
            CURE,
        ) from error
