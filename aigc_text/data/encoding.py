"""Examples to rows of tokens: what a model reads at once, which of it is learned, and how much text that is.

Texts may be packed into rows or have rows of their own; sentences, as VAE and GAN read them, have a row each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from aigc_text.errors import DataError

from .prompt_encoding import cut_left, decoded, template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .sources import Example

CHUNK = 64  # texts that are tokenised together
UNKNOWN_SHARE = 0.05  # of the tokens, above which the vocabulary covers too little

T = TypeVar("T")


class Row(NamedTuple):
    """Tokens that the model reads at once.

    Attributes:
        ids: in the order of reading.
        masked: how many of the first are read but not learned, such as the prompt of a pair.
        size: UTF-8 bytes of the text that is learned; 0 where nobody asked.
    """

    ids: Sequence[int] | np.ndarray
    masked: int = 0
    size: int = 0


class Encoder:
    """Texts and pairs to rows of at most `block_size` tokens.

    Args:
        tokenizer: its `eos_token`, if it has one, ends every text.
        block_size: most tokens of a row.
        begin: the ids that a text begins with where it does not go on from a prompt.
        pair_tokens: the ids of a prompt and of what is to follow it, end included.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        block_size: int,
        begin: Sequence[int],
        pair_tokens: Callable[[str, str], tuple[list[int], list[int]]],
    ) -> None:
        self.tokenizer, self.block_size, self.pair_tokens = tokenizer, block_size, pair_tokens
        self.begin, self.kept = list(begin), template(tokenizer).before
        self.end = end_of(tokenizer)
        self.pairs = self.long = self.cut_completions = 0
        #: What was cut off so far, in words.
        self.notes: list[str] = []

    def rows(self, examples: Iterable[Example], sized: bool = False) -> Iterator[Row]:
        """Each example in a row of its own.

        A text too long for one becomes several that overlap by one token, so that each of its tokens, the end
        included, is learned exactly once. Of a pair that is too long the prompt is cut on its left, and the end of
        the completion only if it does not fit alone. What the tokenizer's template puts before a text stays in front.

        Args:
            examples: texts, and pairs of prompt and completion.
            sized: whether rows of texts have a `size`.
        """
        for chunk in chunks(examples, CHUNK):
            texts = tokenised(self.tokenizer, [e for e in chunk if isinstance(e, str)], sized)
            for example in chunk:
                if isinstance(example, str):
                    yield from self._of_text(*next(texts))
                else:
                    yield self._of_pair(*example)

    def packed(self, texts: Iterable[str]) -> Iterator[Row]:
        """The joined texts cut into full rows; what is left over at the end is not given."""
        held: list[int] = []
        before = joint(self.begin, self.end)
        for chunk in chunks(texts, CHUNK):
            for ids, _ in tokenised(self.tokenizer, chunk):
                held += [*before, *ids, *self.end]
            full = len(held) - len(held) % self.block_size
            yield from (Row(held[n : n + self.block_size]) for n in range(0, full, self.block_size))
            held = held[full:]

    def _of_text(self, ids: list[int], sizes: np.ndarray | None) -> Iterator[Row]:
        whole = [*self.begin, *ids, *self.end]
        known = len(self.begin)  # tokens that were learned already, or are there to be read
        kept = self.kept if 2 * len(self.kept) < self.block_size else []
        first, last = 0, self.block_size
        while True:
            part = whole[first:last]
            front = kept if first else []
            size = 0
            if sizes is not None:
                size = int(sizes[max(0, first + 1 - known) : first + len(part) - known].sum())
            yield Row([*front, *part], len(front) + 1 if first else known, size)
            if last >= len(whole):
                return
            first, last = last - 1, last - 1 + self.block_size - len(kept)

    def _of_pair(self, prompt: str, completion: str) -> Row:
        before, after = self.pair_tokens(prompt, completion)
        kept = after[: self.block_size - 1]  # one token of the prompt stays, or the first would follow on nothing
        read = cut_left(before, self.block_size - len(kept), self.kept)
        self._count(len(before) + len(after) > self.block_size, len(kept) < len(after))
        text = completion
        if kept != after:
            text = decoded(self.tokenizer, [*before, *kept])[len(decoded(self.tokenizer, before)) :]
        return Row([*read, *kept], len(read), len(text.encode()))

    def _count(self, long: bool, cut: bool) -> None:
        self.pairs += 1
        self.long += long
        self.cut_completions += cut
        if self.long:
            ends = f", and {self.cut_completions} completions at their end" if self.cut_completions else ""
            self.notes[:] = [
                f"{self.long} of {self.pairs} pairs are longer than {self.block_size} tokens (--block-size): "
                f"their prompts were cut on the left{ends}"
            ]


def tokenised(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], sized: bool = False
) -> Iterator[tuple[list[int], np.ndarray | None]]:
    """The ids of each text and, if `sized`, how many of its bytes each stands for (the end of the text one more)."""
    if not texts:
        return
    offsets = sized and tokenizer.is_fast
    made = tokenizer(texts, add_special_tokens=False, verbose=False, return_offsets_mapping=offsets)
    for n, (text, ids) in enumerate(zip(texts, made["input_ids"], strict=True)):
        sizes = None
        if sized:
            sizes = _sizes(text, made["offset_mapping"][n]) if offsets else _decoded_sizes(tokenizer, text, ids)
        yield ids, sizes


def _sizes(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Bytes of each token with what was passed over before it; the first one of a character has all of it."""
    code = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    total = np.concatenate([[0], np.cumsum(1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF))])
    ends = np.maximum.accumulate([0, *(end for _, end in offsets), len(text)])
    return np.diff(total[ends])


def _decoded_sizes(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int]) -> np.ndarray:
    """The same where a tokenizer does not know where its tokens come from: nearly, and right in sum."""
    sizes = [len(str(tokenizer.decode([i])).encode()) for i in ids]
    return np.array([*sizes, len(text.encode()) - sum(sizes)])


def end_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end a text: that of the end-of-text token, if there is one."""
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def joint(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """What stands before each text where several share a row: what begins a text, unless the end before it is that."""
    return [] if list(begin) == list(end) else list(begin)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], end: int | None, begin: Sequence[int] = ()
) -> np.ndarray:
    """All texts' tokens in one row. Shape (N,), uint16 or uint32.

    Args:
        tokenizer: of the model.
        texts: plain strings.
        end: the id that follows each text, or `None`.
        begin: the ids that a text begins with; see `joint`.
    """
    kind = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    after = [] if end is None else [end]
    before, parts = joint(begin, after), []
    for chunk in chunks(texts, CHUNK):
        for ids, _ in tokenised(tokenizer, chunk):
            parts.append(np.array([*before, *ids, *after], dtype=kind))
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread."""
    return [int(n) for n in np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))] if count else []


def chunks(examples: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` examples, the last one of what is left."""
    rest = iter(examples)
    while chunk := list(islice(rest, size)):
        yield chunk


class SentenceEncoder(Encoder):
    """Sentences to rows, one each; what is too long is cut or dropped, what is empty is dropped, and both are told."""

    def __init__(self, *args: Any, long_sentences: str, unknown: int | None) -> None:
        super().__init__(*args)
        self.drops, self.unknown = long_sentences == "drop", -1 if unknown is None else unknown

    def rows(self, examples: Iterable[Example], sized: bool = False) -> Iterator[Row]:
        empty = long = count = tokens = unknown = 0
        room = self.block_size - len(self.begin)
        for chunk in chunks(examples, CHUNK):
            for ids, sizes in tokenised(self.tokenizer, [s.strip() for s in sentences(chunk)], sized):
                count, tokens, unknown = count + 1, tokens + len(ids), unknown + ids.count(self.unknown)
                whole = [*ids, *self.end]
                empty, long = empty + (not ids), long + (len(whole) > room)
                if ids and not (self.drops and len(whole) > room):
                    size = int(sizes[: room if len(whole) > room else None].sum()) if sizes is not None else 0
                    yield Row([*self.begin, *whole[:room]], len(self.begin), size)
        self._tell(empty, long, count, unknown / max(1, tokens))

    def _tell(self, empty: int, long: int, count: int, unknown: float) -> None:
        said = []
        if long:
            done = "left out" if self.drops else "cut (-o long_sentences=drop leaves them out)"
            said.append(f"{long} of {count} sentences are longer than {self.block_size} tokens (--block-size): {done}")
        if empty:
            said.append(f"{empty} of {count} sentences are empty: left out")
        if unknown > UNKNOWN_SHARE:
            said.append(
                f"warning: {unknown:.1%} of the words are not in the vocabulary; "
                "use a larger --vocab-size, or --tokenizer bpe, which has none unknown"
            )
        self.notes[:] = said


def sentences(examples: Iterable[Example]) -> list[str]:
    """The examples, which must be texts.

    Raises:
        DataError: they are pairs of prompt and completion.
    """
    found = list(examples)
    for example in found:
        if not isinstance(example, str):
            raise DataError(
                "this backend learns sentences, and the data is pairs", "Give their texts with --text-column."
            )
    return found  # type: ignore[return-value]
