"""Trains tokenizers on the user's data: byte-level BPE, words or characters. All are transformers fast tokenizers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from aigc_text.errors import OptionError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

END = "<|endoftext|>"
UNKNOWN = "<unk>"
BPE_SIZE = 4096  # entries of a BPE vocabulary where nobody says how many

#: (prefix, suffix, middle) tokens by which models were trained to fill in the middle (Bavarian et al. 2022).
INFILLING = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, StarCoder2
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
)


def train(
    kind: str,
    texts: Iterable[str],
    vocab_size: int | None = None,
    context: int | None = None,
    special: Iterable[str] = (),
) -> PreTrainedTokenizerFast:
    """A tokenizer by the name of its kind: `bpe`, `word` or `char`.

    Args:
        kind: see `train_bpe`, `train_word`, `train_char`.
        texts: what to learn from.
        vocab_size: entries in all; by default `BPE_SIZE`, and all words or characters there are.
        context: the model's context in tokens, stored as `model_max_length`.
        special: further special tokens, after the end of text, which also stands for padding.

    Raises:
        OptionError: another kind.
    """
    if kind not in KINDS:
        raise OptionError(
            f"no tokenizer {kind!r} can be trained.{nearest(kind, KINDS)}", f"Allowed: {', '.join(KINDS)}"
        )
    if kind == "bpe":
        made = train_bpe(texts, BPE_SIZE if vocab_size is None else vocab_size, context, special)
    else:
        made = (train_word if kind == "word" else train_char)(texts, vocab_size, context, special)
    if vocab_size is not None and len(made) > vocab_size:
        cause = f"vocab_size {vocab_size} is less than the {len(made)} entries that a {kind} vocabulary begins with"
        raise OptionError(cause, f"Set --vocab-size to {len(made)} or more.")
    return made


KINDS = ("bpe", "word", "char")


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

    special = list(special)
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
    return _fast(core, context, special)


def train_char(
    texts: Iterable[str], vocab_size: int | None = None, context: int | None = None, special: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """One token a Unicode character, and bytes for characters not in the vocabulary, so that nothing is ever lost.

    Args:
        texts: whose characters become tokens, the most frequent first.
        vocab_size: entries in all, the 256 bytes (ASCII among them) and the special tokens included; by default
            there is room for every character.
        context: the model's context in tokens, stored as `model_max_length`.
        special: further special tokens, after the end of text, which also stands for padding.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    special = list(special)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    frequent = (_in_bytes(byte_level, c) for c in sorted(counts, key=lambda c: (-counts[c], c)) if c > "\x7f")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = _vocabulary([END, *special, *alphabet], frequent, vocab_size)
    # Each character is a word of its own, taken whole if it is in the vocabulary (`ignore_merges`), else its bytes.
    # The decoder is that of bytes rather than `ByteFallback`, which spoils every byte beside a broken character.
    core = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    each = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([each, byte_level])
    core.decoder = decoders.ByteLevel()
    return _fast(core, context, special)


def _in_bytes(byte_level: Any, character: str) -> str:
    return str(byte_level.pre_tokenize_str(character)[0][0])


def train_word(
    texts: Iterable[str], vocab_size: int | None = None, context: int | None = None, special: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """One token a word between white space, a line break being a word too, and `<unk>` for any other word.

    Decoding puts one space between words and none around line breaks.

    Args:
        texts: whose words become tokens, the most frequent first.
        vocab_size: entries in all, `<unk>` and the special tokens included; by default there is room for every word.
        context: the model's context in tokens, stored as `model_max_length`.
        special: further special tokens, after the end of text, which also stands for padding.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    special = list(special)
    words = pre_tokenizers.Split(Regex(r"\n|\S+"), "removed", invert=True)
    counted = Tokenizer(models.WordLevel())
    counted.pre_tokenizer = words
    counted.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=1 << 31, show_progress=False))
    ranks = counted.get_vocab()
    vocabulary = _vocabulary([END, UNKNOWN, *special], sorted(ranks, key=ranks.__getitem__), vocab_size)
    # transformers is not told of `<unk>`: it would take it for a special token, and leave it out of what is shown.
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = words
    spaced = decoders.WordPiece(prefix=" ", cleanup=False)  # no word begins with the prefix, so all get a space
    core.decoder = decoders.Sequence([spaced, decoders.Fuse(), decoders.Replace(Regex(" ?\n ?"), "\n")])
    return _fast(core, context, special)


def _vocabulary(first: list[str], frequent: Iterable[str], size: int | None) -> dict[str, int]:
    known = set(first)
    room = None if size is None else max(0, size - len(first))
    return {w: i for i, w in enumerate([*first, *islice((w for w in frequent if w not in known), room)])}


def _fast(core: Any, context: int | None, special: list[str]) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    extra = {"model_max_length": context} if context else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=special,
        **extra,
    )


def unknown_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id that stands for what is not in the vocabulary, or `None` where everything has tokens of its own."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    token = tokenizer.unk_token or getattr(core.model if core else None, "unk_token", None)
    found = tokenizer.get_vocab().get(token) if token else None
    # GPT-2's tokenizer says that its end of text is `unk_token` too, and never uses it as such.
    others = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
    return None if found in others else found


def unknown_share(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> float:
    """The share of the tokens of texts that are not in the vocabulary: what a model need not spell is cheap."""
    unknown = unknown_token(tokenizer)
    if unknown is None:
        return 0.0
    rows = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    return sum(row.count(unknown) for row in rows) / max(1, sum(map(len, rows)))


def infilling_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int, int] | None:
    """The ids of the (prefix, suffix, middle) tokens, or `None` where the tokenizer has none."""
    vocabulary = tokenizer.get_vocab()
    for prefix, suffix, middle in INFILLING:
        if prefix in vocabulary and suffix in vocabulary and middle in vocabulary:
            return vocabulary[prefix], vocabulary[suffix], vocabulary[middle]
    return None
