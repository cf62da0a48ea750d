"""Tokens to whole characters, and texts to the first stop string in them, however either comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = 8  # tokens that the next ones are decoded with (some tokenizers glue words together)
#: Where a function's body ends: HumanEval's list (Chen et al. 2021, section 2.2), and a decorator.
FUNCTION_END = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n@")
LONGEST = 32  # tokens of a window: beyond it those before the last few are let go


class Detokenizer:
    """Token ids to text, a whole character at a time: never half of a Chinese character or an emoji.

    A window of the last tokens is decoded again with each new one; what it gains is the growth, held back while it
    ends in U+FFFD, which stands for bytes that do not make a character yet.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.ids = list(prompt[-CONTEXT:])
        self.before = self._decode(self.ids)  # what was given of the window's text

    def push(self, token: int) -> str:
        """The text that the token adds, if it completes any."""
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
            self.ids = self.ids[-CONTEXT:]
            self.before = self._decode(self.ids)
        return grown

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class StopMatcher:
    """Cuts a growing text before the first stop string that is completed; of two completed at once, the longer.

    What could still become a stop string is held back, so it is never shown half. The result does not depend on
    how the text is divided into pieces.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = sorted(strings, key=len, reverse=True)
        self.held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """(what may be shown now, whether a stop string was completed)."""
        if not self.strings:
            return text, False
        known = len(self.held)
        self.held += text
        for end in range(known + 1, len(self.held) + 1):
            for s in self.strings:
                if self.held.endswith(s, 0, end):
                    shown, self.held = self.held[: end - len(s)], ""
                    return shown, True
        return self._release(self._begun()), False

    def flush(self) -> str:
        """The held text, when no more follows."""
        return self._release(0)

    def _begun(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = min(len(self.held), len(self.strings[0]) - 1)
        return next((n for n in range(longest, 0, -1) if any(s.startswith(self.held[-n:]) for s in self.strings)), 0)

    def _release(self, keep: int) -> str:
        cut = len(self.held) - keep
        shown, self.held = self.held[:cut], self.held[cut:]
        return shown
