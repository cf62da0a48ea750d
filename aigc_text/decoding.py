"""Rows of tokens in, pieces of text out: written once above all engines.

Batching, whole characters, stop strings, streaming and finish reasons live here, so every family and every engine
has all of them. `stream` and `generate` see the same pieces.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING

from .engines import Engine, Event, Row
from .results import Completion, Piece

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

WINDOW = 16  # batches that are sorted by length together
CONTEXT = 8  # prompt tokens that the first new character is decoded with (some tokenizers glue words together)


@dataclass(frozen=True)
class Request:
    """One completion that was asked for.

    Attributes:
        prompt: the prompt as the user gave it.
        prompt_index, index: its place; with the seed they name its random stream.
        row: what the engine gets.
        stop_strings: where the text ends.
        skip: characters at the start of the text that are not shown (white space of the prompt, see `healing`).
    """

    prompt: str
    prompt_index: int
    index: int
    row: Row
    stop_strings: Sequence[str] = ()
    skip: int = 0


@dataclass(frozen=True)
class Decoding:
    """How a batch is decoded.

    Attributes:
        config: the engine's effective generation config.
        seed: reported with what was drawn; `None` if nothing is.
        batch_size: most rows at once.
        equal_lengths: put only prompts of one length into a batch.
        exact: whether the text is promised to be the same in every batch.
        continues: whether the text goes on from the prompt (not in an encoder-decoder).
    """

    config: GenerationConfig
    seed: int | None
    batch_size: int
    equal_lengths: bool
    exact: bool
    continues: bool


def decode(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, requests: Iterable[Request], how: Decoding
) -> Iterator[Piece]:
    """Yields the pieces of all requests as they come; those of one request are in order, requests may interleave."""
    beams = (how.config.num_beams or 1) > 1
    for batch in _batches(requests, how.batch_size, how.equal_lengths):
        if beams:
            for best in _beam_batches(batch):
                yield from _beams(engine, tokenizer, best, how)
        else:
            yield from _batch(engine, tokenizer, batch, how)


def in_order(pieces: Iterable[Piece], per_prompt: int, first: int = 0) -> Iterator[Piece]:
    """Holds pieces back until all those of earlier completions have been given: one text after the other.

    Args:
        pieces: of prompts numbered from `first` without gaps, `per_prompt` completions each.
        per_prompt: how many completions a prompt has.
        first: the number of the first prompt.
    """
    waiting: dict[int, list[Piece]] = {}
    turn = first * per_prompt
    for piece in pieces:
        waiting.setdefault(piece.prompt_index * per_prompt + piece.index, []).append(piece)
        while held := waiting.pop(turn, []):
            yield from held
            if held[-1].completion is None:
                break
            turn += 1


def _batches(requests: Iterable[Request], size: int, equal: bool) -> Iterator[list[Request]]:
    """Batches of similar prompt lengths, taken from windows so that a long input is never held whole."""
    requests = iter(requests)
    while window := list(islice(requests, size * WINDOW)):
        if len(window) > size or equal:
            window.sort(key=_length)  # stable: equal lengths keep the input's order
        for _, group in groupby(window, key=_length if equal else lambda _: None):
            rows = list(group)
            yield from (rows[n : n + size] for n in range(0, len(rows), size))


def _length(request: Request) -> int:
    return len(request.row.tokens)


def _batch(engine: Engine, tokenizer: PreTrainedTokenizerBase, batch: list[Request], how: Decoding) -> Iterator[Piece]:
    texts = [_Text(tokenizer, request, how) for request in batch]
    steps = engine.decode([request.row for request in batch], how.config)
    closed: list[int] = []
    try:
        events = next(steps, None)
        while events is not None:
            closed = []
            for event in events:
                piece = texts[event.row].push(event)
                if piece is not None:
                    yield piece
                if texts[event.row].done and event.finish is None:
                    closed.append(event.row)
            try:
                events = steps.send(closed)
            except StopIteration:
                events = None
    finally:
        steps.close()


def _beam_batches(batch: list[Request]) -> Iterator[list[Request]]:
    """A prompt's completions together: one beam search gives them all."""
    for _, group in groupby(sorted(batch, key=lambda r: (r.prompt_index, r.index)), key=lambda r: r.prompt_index):
        yield list(group)


def _beams(engine: Engine, tokenizer: PreTrainedTokenizerBase, wanted: list[Request], how: Decoding) -> Iterator[Piece]:
    """Beam search from one prompt. The best sequences come first, so completion j is the j-th best."""
    found = engine.beams(wanted[0].row, how.config)
    for request in wanted:
        text = _Text(tokenizer, request, how)
        for event in found[request.index]:
            if not text.done and (piece := text.push(event)) is not None:
                yield piece


class _Text:
    """One completion while it grows: tokens become whole characters, stop strings end it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, request: Request, how: Decoding) -> None:
        self.request, self.how = request, how
        self.characters = Detokenizer(tokenizer, request.row.tokens if how.continues else ())
        self.matcher = StopMatcher(request.stop_strings)
        self.text, self.tokens, self.done, self.skip = "", 0, False, request.skip
        self.started = time.perf_counter()

    def push(self, event: Event) -> Piece | None:
        self.tokens += 1
        ended = event.finish == "stop"
        grown = "" if ended else self.characters.push(event.token)
        if event.finish is not None:
            grown += self.characters.flush()
        grown, self.skip = grown[self.skip :], max(0, self.skip - len(grown))
        shown, stopped = self.matcher.push(grown)
        if event.finish is not None and not stopped:
            shown += self.matcher.flush()
        self.text += shown
        self.done = stopped or event.finish is not None
        if not shown and not self.done:
            return None
        finish = "stop" if stopped else event.finish
        return Piece(
            prompt_index=self.request.prompt_index,
            index=self.request.index,
            text=shown,
            completion=self._completion(finish) if finish else None,
        )

    def _completion(self, finish: str) -> Completion:
        return Completion(
            prompt=self.request.prompt,
            text=self.text,
            index=self.request.index,
            prompt_index=self.request.prompt_index,
            finish_reason=finish,
            tokens=self.tokens,
            seed=self.how.seed,
            exact=self.how.exact,
            seconds=time.perf_counter() - self.started,
        )


class Detokenizer:
    """Token ids to text, a whole character at a time: never half of a Chinese character or an emoji.

    A window of the last tokens is decoded with and without the new ones; their difference is the growth, held back
    while it ends in U+FFFD, which stands for bytes that do not make a character yet.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.ids = list(prompt[-CONTEXT:])
        self.first, self.read = 0, len(self.ids)

    def push(self, token: int) -> str:
        """The text that the token adds, if it completes any."""
        self.ids.append(token)
        grown = self._growth()
        if not grown or grown.endswith("\ufffd"):
            return ""
        return self._take(grown)

    def flush(self) -> str:
        """What is held back: at the end, incomplete bytes come as U+FFFD."""
        return self._take(self._growth())

    def _growth(self) -> str:
        before = self._decode(self.ids[self.first : self.read])
        return self._decode(self.ids[self.first :])[len(before) :]

    def _take(self, grown: str) -> str:
        if grown:
            self.ids = self.ids[self.read :]
            self.first, self.read = 0, len(self.ids)
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
