"""Rows of tokens in, pieces of text out: written once above all engines.

Batching, streaming and finish reasons live here, whole characters in `detokenizer`, stop strings in `stop_strings`, so
every family and every engine has all of them. `stream` and `generate` see the same pieces.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING

from aigc_text.errors import GenerationError, OptionError, out_of_memory
from aigc_text.outputs import Completion, Piece

from .detokenizer import Detokenizer
from .engine import Engine, Event, Row, batch_size
from .stop_strings import StopMatcher, Stops

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

WINDOW = 4096  # requests that are sorted by length together
ROWS = 128  # at once, unless it is said otherwise: each has a score for every word of the vocabulary
TOKENS = 8192  # of prompts and texts in a batch: half a gigabyte of keys and values in a model like GPT-2


@dataclass(frozen=True, eq=False)
class Request:
    """One completion that was asked for.

    Attributes:
        prompt: the prompt as the user gave it.
        prompt_index, index: its place; with the seed they name its random stream.
        row: what the engine gets.
        stops: where the text ends.
        skip: characters of white space at the prompt's end that are not shown again where the text begins with them.
    """

    prompt: str
    prompt_index: int
    index: int
    row: Row
    stops: Stops = field(default_factory=Stops)
    skip: int = 0


@dataclass(frozen=True)
class Decoding:
    """How a batch is decoded.

    Attributes:
        config: the engine's effective generation config.
        seed: reported with what was drawn; `None` if nothing is.
        equal_lengths: put only prompts of one length into a batch.
        exact: whether the text is promised to be the same in every batch.
        continues: whether the text goes on from the prompt (not in an encoder-decoder).
        streamed: whether pieces are wanted as the texts grow; else a text comes as one piece.
    """

    config: GenerationConfig
    seed: int | None
    equal_lengths: bool
    exact: bool
    continues: bool
    streamed: bool


class Budget:
    """How large batches may be; it shrinks where memory runs out.

    Args:
        rows: most rows at once.
        tokens: most tokens at once, of prompts and of texts at their longest; one row is always allowed.

    Raises:
        OptionError: either is below 1.
    """

    def __init__(self, rows: int | None = None, tokens: int | None = None) -> None:
        for name, value in (("batch_size", rows), ("batch_tokens", tokens)):
            if value is not None and value < 1:
                raise OptionError(f"{name} cannot be {value!r}", f"Allowed for {name}: a whole number from 1")
        self.rows, self.tokens = ROWS if rows is None else rows, TOKENS if tokens is None else tokens

    def allows(self, rows: int, width: int) -> bool:
        """Whether so many rows of so many tokens may be computed at once."""
        return rows == 1 or (rows * width <= self.tokens and rows <= self.rows)

    def halve(self, batch: Sequence[Request]) -> None:
        """Allows half of a batch that was too large."""
        self.rows = max(1, len(batch) // 2)
        self.tokens = max(1, len(batch) * max(map(_width, batch)) // 2)


def decode(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, requests: Iterable[Request], how: Decoding, budget: Budget
) -> Iterator[Piece]:
    """Yields the pieces of all requests as they come; those of one request are in order, requests may interleave.

    Raises:
        GenerationError: there is not enough memory for one text.
    """
    beams = (how.config.num_beams or 1) > 1
    for batch in _batches(requests, budget, how.equal_lengths):
        if beams:
            for best in _beam_batches(batch):
                yield from _beams(engine, tokenizer, best, how)
        else:
            yield from _within_memory(engine, tokenizer, batch, how, budget)


def in_order(pieces: Iterable[Piece], per_prompt: int) -> Iterator[Piece]:
    """Holds pieces back until all those of earlier completions have been given: one text after the other.

    Args:
        pieces: of prompts numbered from 0 without gaps, `per_prompt` completions each.
        per_prompt: how many completions a prompt has.
    """
    waiting: dict[int, list[Piece]] = {}
    turn = 0
    for piece in pieces:
        waiting.setdefault(piece.prompt_index * per_prompt + piece.index, []).append(piece)
        while held := waiting.pop(turn, []):
            yield from held
            if held[-1].completion is None:
                break
            turn += 1


def _batches(requests: Iterable[Request], budget: Budget, equal: bool) -> Iterator[list[Request]]:
    """Batches of similar prompt lengths, taken from windows so that a long input is never held whole."""
    requests = iter(requests)
    while window := list(islice(requests, WINDOW)):
        if equal or not budget.allows(len(window), max(map(_width, window))):
            window.sort(key=_length)  # stable: equal lengths keep the input's order
        for _, group in groupby(window, key=_length if equal else lambda _: None):
            yield from _cut(list(group), budget)


def _cut(requests: list[Request], budget: Budget) -> Iterator[list[Request]]:
    """Consecutive batches, as large as the budget allows when each is asked for."""
    first = 0
    while first < len(requests):
        end, width = first + 1, _width(requests[first])
        while end < len(requests):
            width = max(width, _width(requests[end]))
            if not budget.allows(end + 1 - first, width):
                break
            end += 1
        if end < len(requests):
            end = first + batch_size(end - first)
        yield requests[first:end]
        first = end


def _length(request: Request) -> int:
    return len(request.row.tokens)


def _width(request: Request) -> int:
    return len(request.row.tokens) + request.row.limit


def _within_memory(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, batch: list[Request], how: Decoding, budget: Budget
) -> Iterator[Piece]:
    """A batch; where memory runs out, what it did not finish again in smaller ones."""
    given: dict[Request, int] = {}  # characters that were passed on, of texts that are not finished
    waiting = batch
    while waiting:
        rows = next(_cut(waiting, budget))
        waiting = waiting[len(rows) :]
        left = {(r.prompt_index, r.index): r for r in rows}
        try:
            for piece in _batch(engine, tokenizer, rows, how, given):
                place = (piece.prompt_index, piece.index)
                given[left[place]] = given.get(left[place], 0) + len(piece.text)
                if piece.completion is not None:
                    del left[place]
                yield piece
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(rows) == 1:
                raise _too_long(rows[0]) from error
            budget.halve(rows)
        waiting = [*left.values(), *waiting]


def _too_long(request: Request) -> GenerationError:
    return GenerationError(
        f"out of memory with a text of up to {_width(request)} tokens",
        "Lower --max-new-tokens, shorten the prompt, or choose a smaller model or --dtype bf16.",
    )


def _batch(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Request],
    how: Decoding,
    given: Mapping[Request, int],
) -> Iterator[Piece]:
    texts = [_Text(tokenizer, request, how, given.get(request, 0)) for request in batch]
    steps = engine.decode([request.row for request in batch], how.config)
    closed: list[int] = []
    try:
        events = next(steps, None)
        while events is not None:
            closed = []
            for event in events:
                if texts[event.row].done:  # an engine may be ahead of what ended it
                    continue
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
    try:
        found = engine.beams(wanted[0].row, how.config)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise _too_long(wanted[0]) from error
    for request in wanted:
        text = _Text(tokenizer, request, how)
        for event in found[request.index]:
            if not text.done and (piece := text.push(event)) is not None:
                yield piece


class _Text:
    """One completion while it grows: tokens become whole characters, stop strings end it.

    Args:
        given: characters that were passed on by an attempt before this one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, request: Request, how: Decoding, given: int = 0) -> None:
        self.request, self.how, self.given = request, how, given
        before = request.row.tokens if how.continues else ()
        self.characters = Detokenizer(tokenizer, before, request.stops.marks)
        self.matcher = StopMatcher(request.stops.strings)
        self.text, self.tokens, self.done = "", 0, False
        self.skip = request.prompt[len(request.prompt) - request.skip :]
        self.waits = not how.streamed and not request.stops.strings
        self.started = time.perf_counter()

    def push(self, event: Event) -> Piece | None:
        self.tokens += 1
        ended, grown = event.finish == "stop", ""
        if not ended or event.token in self.request.stops.marks:
            grown = self.characters.keep(event.token) if self.waits else self.characters.push(event.token)
        if event.finish is not None:
            grown += self.characters.flush()
        elif self.waits:
            return None
        grown = self._unrepeated(grown)
        shown, stopped = self.matcher.push(grown)
        if event.finish is not None and not stopped:
            shown += self.matcher.flush()
        self.text += shown
        self.done = stopped or event.finish is not None
        shown, self.given = shown[self.given :], max(0, self.given - len(shown))
        if not (shown and self.how.streamed) and not self.done:
            return None
        finish = "stop" if stopped else event.finish
        return Piece(
            prompt_index=self.request.prompt_index,
            index=self.request.index,
            text=shown if self.how.streamed else self.text,
            completion=self._completion(finish) if finish else None,
        )

    def _unrepeated(self, grown: str) -> str:
        """What the text grew by, without the white space that the prompt ends with already.

        A tokenizer that passes over white space decodes it as one space, whatever the prompt ends with.
        """
        if not (self.skip and grown):
            return grown
        known = len(os.path.commonprefix([self.skip, grown])) or int(grown.startswith(" "))
        self.skip = self.skip[known:] if known == len(grown) else ""
        return grown[known:]

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
