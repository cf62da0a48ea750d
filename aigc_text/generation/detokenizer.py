"""Tokens to whole characters, and texts to the first stop string in them, however either comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

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


class Stops(NamedTuple):
    """Stop strings as a `StopMatcher` takes them.

    Special tokens are not shown, so a stop string that names one could never match in the text. So one character
    stands for each that is named: half of a surrogate pair, which no decoded text holds.

    Attributes:
        strings: the stop strings, with the marks of special tokens in place of their names, and as they were given.
        marks: the mark of each special token by its id; none, if no stop string names one.
    """

    strings: tuple[str, ...] = ()
    marks: Mapping[int, str] = MappingProxyType({})


def stops(tokenizer: PreTrainedTokenizerBase, strings: Iterable[str]) -> Stops:
    """Stop strings, prepared for the texts of a tokenizer."""
    strings = tuple(strings)
    special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special} if strings else {}
    named = {i for i, name in special.items() if any(name in s for s in strings)}
    # Those that are not named get marks too, so that a stop string of two never matches across a third.
    marked = sorted(special, key=lambda i: i not in named) if named else []
    marks = {i: chr(MARKS[n]) for n, i in enumerate(marked[: len(MARKS)])}
    coded = list(strings)
    for i in sorted(marks, key=lambda i: -len(special[i])):  # a longer name may hold a shorter one
        coded = [s.replace(special[i], marks[i]) for s in coded]
    return Stops(tuple(dict.fromkeys([*coded, *strings])), marks)


class StopMatcher:
    """Cuts a growing text before the first stop string that is completed; of two completed at once, the longer.

    What could still become a stop string is held back, so it is never shown half. The result does not depend on
    how the text is divided into pieces. Marks of special tokens (see `Stops`) are never shown, and stop strings
    without them pass over them.
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
        plain = _shown(self.held) == self.held
        for end in range(known + 1, len(self.held) + 1):
            starts = [self._start(s, end, plain) for s in self.strings]
            if found := [n for n in starts if n is not None]:
                shown, self.held = _shown(self.held[: min(found)]), ""
                return shown, True
        return self._release(self._begun(plain)), False

    def flush(self) -> str:
        """The held text, when no more follows."""
        return self._release(0)

    def _start(self, string: str, end: int, plain: bool) -> int | None:
        """Where the stop string that ends at `end` begins in the held text, if it is there."""
        if self.held.endswith(string, 0, end):
            return end - len(string)
        if plain or _shown(string) != string:
            return None
        at = end
        for character in reversed(string):
            while at and not _shown(self.held[at - 1]):
                at -= 1
            if not at or self.held[at - 1] != character:
                return None
            at -= 1
        return at

    def _begun(self, plain: bool) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = min(len(self.held), len(self.strings[0]) - 1) if plain else len(self.held)
        return next((n for n in range(longest, 0, -1) if self._begins(self.held[-n:])), 0)

    def _begins(self, end: str) -> bool:
        """Whether a stop string begins so, and goes on."""
        shown = _shown(end)
        return any(
            (s.startswith(end) and s != end) or (shown != "" and s.startswith(shown) and s != shown)
            for s in self.strings
        )

    def _release(self, keep: int) -> str:
        cut = len(self.held) - keep
        shown, self.held = self.held[:cut], self.held[cut:]
        return _shown(shown)


def _shown(text: str) -> str:
    """A text without marks of special tokens."""
    return _MARK.sub("", text)
