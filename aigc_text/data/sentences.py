"""Sentences as VAE and GAN read them: each a row of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aigc_text.errors import DataError

from .encoding import CHUNK, Encoder, Row, chunks, tokenised

if TYPE_CHECKING:
    from .sources import Example

UNKNOWN_SHARE = 0.05  # of the tokens, above which the vocabulary covers too little


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
