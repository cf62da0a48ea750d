"""Prompts that end in white space, which a tokenizer would otherwise cut where no training text was ever cut.

Byte-level BPE glues white space to what follows it: `\\n    return` is two tokens, `\\n···` and `·return`. After a
prompt that ends with `\\n` such a model has never seen an indentation follow. So the white space is taken off the
prompt, and the text must begin with it ("token healing", Lundberg 2023); it is not shown again. SentencePiece glues
spaces in the same way: `▁return`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

WHITE = " \t\r\n"
SPACE = "▁"  # what SentencePiece writes for a space


def end_of(prompt: str) -> str:
    """The white space that a prompt ends with; nothing for one that is white space only."""
    kept = prompt.rstrip(WHITE)
    return prompt[len(kept) :] if kept else ""


def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str] | None:
    """The text of each token, or `None` where no beginning can be made of them.

    So it is where tokens have no text of their own (neither byte-level nor SentencePiece), or where a byte-level
    tokenizer has no token for some white space.
    """
    core = getattr(tokenizer, "backend_tokenizer", None)
    decoder = repr(core.decoder) if core is not None else ""
    special = set(tokenizer.all_special_ids)
    if SPACE in decoder:
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        return ["" if i in special else _spaced(piece or "") for i, piece in enumerate(pieces)]
    if "ByteLevel" not in decoder:
        return None
    before = tokenizer("x", add_special_tokens=False)["input_ids"]  # some leave out a space that nothing stands before
    known = len(str(tokenizer.decode(before)))
    texts = ["" if i in special else str(tokenizer.decode([*before, i]))[known:] for i in range(len(tokenizer))]
    return texts if set(WHITE) <= set(texts) else None


def _spaced(piece: str) -> str:
    """The text of a piece of SentencePiece; of half a character U+FFFD."""
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return bytes.fromhex(byte[1]).decode(errors="replace")
    return piece.replace(SPACE, " ")


class Beginning:
    """Which tokens may follow those made so far, so that a text begins with `wanted`."""

    def __init__(self, texts: Sequence[str], wanted: str) -> None:
        self.texts, self.wanted = texts, wanted

    def __call__(self, made: Sequence[int]) -> torch.Tensor | None:
        """(V,) of bool, or `None` once the text has begun as it must.

        Args:
            made: ids generated so far.
        """
        left = self.wanted
        for token in made:
            left = left[len(self.texts[token]) :]
            if not left:
                return None
        return self._mask(left)

    def _mask(self, left: str) -> torch.Tensor:
        import torch

        return torch.tensor([t.startswith(left) or (t != "" and left.startswith(t)) for t in self.texts])
