"""The likelihood of each text and of each of its tokens, exact, in sliding windows of the context."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aigc_text.errors import DataError, OptionError
from aigc_text.outputs import Score, TokenScore

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


CONTEXT = 2048  # tokens of a window where nobody says more; the logits of a longer one fill gigabytes
WINDOW = 64  # batches whose windows are sorted by length together
ELEMENTS = 1 << 27  # of the logits of one batch: half a gigabyte in fp32


class Encoded(NamedTuple):
    """A text as a model reads it.

    Attributes:
        text: as it was given.
        ids: what begins a text, the text, and its end.
        masked: how many ids begin it; they are not scored.
        spans: (start, end) in characters of each id that is scored; see `TokenScore`.
    """

    text: str
    ids: list[int]
    masked: int
    spans: list[tuple[int, int]]


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], begin: Sequence[int]) -> Iterator[Encoded]:
    """Texts to their ids, with where each comes from.

    Args:
        tokenizer: its `eos_token`, if it has one, ends every text.
        texts: plain strings.
        begin: the ids that a text begins with, which are not scored.

    Raises:
        DataError: a text holds half of a character, which no tokenizer takes.
    """
    from aigc_text.data.encoding import CHUNK, chunks

    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for chunk in chunks(map(whole, texts), CHUNK):
        made = tokenizer(chunk, add_special_tokens=False, verbose=False, return_offsets_mapping=tokenizer.is_fast)
        for n, (text, ids) in enumerate(zip(chunk, made["input_ids"], strict=True)):
            spans = _spans(made["offset_mapping"][n]) if tokenizer.is_fast else _found_spans(tokenizer, text, ids)
            yield Encoded(text, [*begin, *ids, *end], len(begin), spans + [(len(text), len(text))] * len(end))


def whole(text: str) -> str:
    """The same text.

    Raises:
        DataError: it holds half of a character, which no tokenizer takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        cause = f"the text {ascii(text)[:60]} holds half of a character at position {error.start}"
        raise DataError(cause, "Mend it: text.encode('utf-16', 'surrogatepass').decode('utf-16')") from None
    return text


def _spans(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets that do not overlap: the tokens of one character all claim it, and the last one gets it."""
    following = [start for start, _ in offsets[1:]] + [end for _, end in offsets[-1:]]
    return [(s, max(s, min(e, n))) for (s, e), n in zip(offsets, following, strict=True)]


def _found_spans(tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
    """The same where a tokenizer does not know where its tokens come from: what it decodes to, if it stands there."""
    spans, at, held = [], 0, []
    for token in ids:
        held.append(token)
        piece = str(tokenizer.decode(held))
        after = re.compile(r"\s*").match(text, at).end()  # type: ignore[union-attr]
        places = ((at, piece), (after, piece.strip()))  # some tokenizers keep the space before a word, some do not
        start, piece = next(((n, p) for n, p in places if p and text.startswith(p, n)), (at, ""))
        spans.append((start, start + len(piece)))
        if piece or len(held) == 4:  # a character has four bytes at most
            at, held = spans[-1][1], []
    return spans


@dataclass
class _Waiting:
    """A text whose windows are not all scored yet."""

    text: Encoded
    nll: np.ndarray  # (scored tokens,) in nats
    missing: int


class Span(NamedTuple):
    """One window over a text's ids: `first` to `end` are read together, and those from `scored` on are scored."""

    first: int
    scored: int
    end: int


def spans_of(length: int, masked: int, context: int) -> list[Span]:
    """The windows in which a text is read; they move by half the context, and each id is scored exactly once.

    Args:
        length: ids of the text, with what begins it and its end.
        masked: how many begin it; they are read but not scored.
        context: most ids of a window.
    """
    if length <= masked:
        return []
    half = max(1, context // 2)
    ends = [min(context, length), *range(context + half, length, half)]
    if ends[-1] < length:
        ends.append(length)
    return [Span(max(0, end - context), before, end) for before, end in zip([masked, *ends], ends, strict=False)]


class _Window(NamedTuple):
    waiting: _Waiting
    ids: list[int]
    place: slice  # in `waiting.nll`: the last tokens of the window

    @property
    def scored(self) -> int:
        return int(self.place.stop - self.place.start)


def check_window(context: int | None, most: int | None, batch_size: int) -> None:
    """Refuses windows that a model cannot read.

    Args:
        context: tokens of a window, as the user asked for them, if so.
        most: that the model can read, if there is a limit.
        batch_size: windows at once.

    Raises:
        OptionError: either is out of range.
    """
    if context is not None and not 2 <= context <= (most or context):
        allowed = f"a whole number from 2{f' up to {most}' if most else ''}"
        raise OptionError(f"context cannot be {context!r}", f"Allowed for context: {allowed}")
    if batch_size < 1:
        raise OptionError(f"batch_size cannot be {batch_size!r}", "Allowed for batch_size: a whole number from 1")


def rows_at_once(length: int, vocabulary: int, most: int) -> int:
    """How many rows of `length` tokens are scored together, so that their logits fit into memory."""
    return min(most, max(1, ELEMENTS // (length * vocabulary)))


def scores(
    token_nll: Callable[[torch.Tensor], torch.Tensor],
    texts: Iterable[Encoded],
    *,
    context: int,
    batch_size: int,
    kept: Sequence[int],
    pad: int,
    vocabulary: int,
) -> Iterator[Score]:
    """Yields the exact likelihood of each text; see `TransformersBackend.score`.

    A text longer than the context is read in windows that move by half of it, so every token but a text's first ones
    is predicted from about that many before it. Windows of similar length share a batch.

    Args:
        token_nll: ids (B, T) on the CPU to negative log-likelihoods (B, T - 1) in nats.
        texts: see `encoded`.
        context: tokens of a window.
        batch_size: most windows at once.
        kept: ids that the tokenizer puts before a text; they begin each window, unless it is too short for them.
        pad: the id that fills up short windows.
        vocabulary: how many scores there are for each token, for the memory they take.
    """
    import torch

    from aigc_text.data.encoding import chunks

    waiting: deque[_Waiting] = deque()
    for chunk in chunks(_windows(texts, context, waiting, kept_in_front(kept, context)), WINDOW * batch_size):
        chunk.sort(key=lambda window: len(window.ids))
        while chunk:
            size = rows_at_once(len(chunk[-1].ids), vocabulary, batch_size)
            batch, chunk = chunk[-size:], chunk[:-size]  # the longest first: if memory is short it is told at once
            ids = torch.full((len(batch), len(batch[-1].ids)), pad)
            for n, window in enumerate(batch):
                ids[n, : len(window.ids)] = torch.tensor(window.ids)
            with torch.inference_mode():
                nll = token_nll(ids).cpu().double().numpy()  # (B, T - 1)
            for row, window in zip(nll, batch, strict=True):
                last = len(window.ids) - 1
                window.waiting.nll[window.place] = row[last - window.scored : last]
                window.waiting.missing -= 1
        while waiting and not waiting[0].missing:
            yield _score(waiting.popleft())
    while waiting:
        yield _score(waiting.popleft())  # texts without any token


def kept_in_front(kept: Sequence[int], context: int) -> Sequence[int]:
    """The ids that begin every window; none where the context is short."""
    return kept if 4 * len(kept) < context else []


def window_of(ids: Sequence[int], span: Span, kept: Sequence[int]) -> list[int]:
    """The ids of one window; in place of its first ones those that begin a text, if the text's beginning is cut off."""
    front = kept if span.first else ()
    return [*front, *ids[span.first + len(front) : span.end]]


def _windows(
    texts: Iterable[Encoded], context: int, waiting: deque[_Waiting], kept: Sequence[int]
) -> Iterator[_Window]:
    """The windows of each text, which joins those that are `waiting`."""
    for text in texts:
        known = text.masked
        spans = spans_of(len(text.ids), known, context)
        waiting.append(_Waiting(text, np.zeros(len(text.ids) - known), len(spans)))
        for span in spans:
            place = slice(span.scored - known, span.end - known)
            yield _Window(waiting[-1], window_of(text.ids, span, kept), place)


def _score(done: _Waiting) -> Score:
    per_token = tuple(
        TokenScore(start=start, end=end, nll=nll)
        for (start, end), nll in zip(done.text.spans, done.nll.tolist(), strict=True)
    )
    return Score(text=done.text.text, nll=float(done.nll.sum()), tokens=len(per_token), per_token=per_token)
