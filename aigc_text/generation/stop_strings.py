"""Texts to the first stop string in them, however they come in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from .detokenizer import _MARK, MARKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
