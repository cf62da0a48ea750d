"""Tokens to whole characters, as they come."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CONTEXT = 8  # tokens that the next ones are decoded with (some tokenizers glue words together)
#: Where a function's body ends: HumanEval's list (Chen et al. 2021, section 2.2), and a decorator.
FUNCTION_END = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n@")
CHARACTER = 4  # most tokens of one character, each a byte of it
MARKS = range(0xD800, 0xDC00)  # see `Stops`
_MARK = re.compile(f"[{chr(MARKS[0])}-{chr(MARKS[-1])}]")
LONGEST = 32  # tokens of a window: beyond it those before the last few are let go


class Detokenizer:
    """Token ids to text, a whole character at a time: never half of a Chinese character or an emoji.

    A window of the last tokens is decoded again with each new one; what it gains is the growth, held back while it
    ends in U+FFFD, which stands for bytes that do not make a character yet. The window begins with the end of the
    prompt, since a tokenizer that leaves out the space before a text would leave it out before the continuation.

    Args:
        tokenizer: of the model.
        prompt: the ids that the text goes on from.
        marks: what to give for special tokens, by id; see `Stops`. Others are left out.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int] = (), marks: Mapping[int, str] | None = None
    ) -> None:
        self.tokenizer, self.marks = tokenizer, marks or {}
        self.before = ""
        self._begin_with(list(prompt))

    def push(self, token: int) -> str:
        """The text that the token adds, if it completes any."""
        if token in self.marks:
            return self.flush() + self.marks[token]
        self.ids.append(token)
        whole = self._decode(self.ids)
        return "" if whole.endswith("\ufffd") else self._take(whole)

    def keep(self, token: int) -> str:
        """Takes a token whose text is wanted at the next flush."""
        self.ids.append(token)
        return ""

    def flush(self) -> str:
        """What is held back: at the end, incomplete bytes come as U+FFFD."""
        return self._take(self._decode(self.ids))

    def _take(self, whole: str) -> str:
        grown, self.before = whole[len(self.before) :], whole
        if len(self.ids) > LONGEST and grown:
            self._begin_with(self.ids)
        return grown

    def _begin_with(self, ids: list[int]) -> None:
        """Keeps the last few ids, from the beginning of a character: bytes of half a one can spoil those after it."""
        for size in range(CONTEXT, CONTEXT + CHARACTER):
            self.ids = ids[-size:]
            self.before = self._decode(self.ids)  # what was given of the window's text
            if not self.before.startswith("\ufffd"):
                break

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
