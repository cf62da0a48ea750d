"""Trains a tokenizer on the user's data. The result is always a transformers fast tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


def train_bpe(
    texts: Iterable[str], vocab_size: int, context: int | None = None, special: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Radford et al. 2019): every text is encodable, and decoding gives it back exactly.

    Args:
        texts: what to learn the merges from.
        vocab_size: entries in all, the 256 bytes and the special tokens included.
        context: the model's context in tokens, stored as `model_max_length`.
        special: further special tokens, after the end of text, which also stands for padding.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    extra = {"model_max_length": context} if context else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=list(special),
        **extra,
    )
