"""Steps that vary rows anew in each pass: word dropout, span masking, fill in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_text.errors import OptionError, nearest

from .batching import Batch
from .prompt_encoding import decoded, inner_ids, marks_beginnings, plain_ids
from .tokenizer_training import INFILLING, infilling_tokens, unknown_token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


#: Ids and labels of a row, (T,) both, and what to draw from: to a row of the same length.
Augmentation = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def augmented(batches: Any, steps: Sequence[Augmentation], seed: int) -> Iterable[Batch]:
    """The same batches with every row varied by each step in turn.

    What is drawn follows from (seed, number of the batch), so it is anew in each pass, and a resumed run draws the
    same.

    Args:
        batches: with `from_step`; if they have a length, so has the result.
        steps: each gets the ids and labels of a row without what fills it up, and gives as many.
        seed: of what is drawn.
    """
    return (_SizedAugmented if isinstance(batches, Sized) else _Augmented)(batches, steps, seed)


class _Augmented:
    def __init__(self, batches: Any, steps: Sequence[Augmentation], seed: int) -> None:
        self.batches, self.steps, self.seed = batches, steps, seed
        self.notes = batches.notes

    def __iter__(self) -> Iterator[Batch]:
        return self.from_step(0)

    def place(self, step: int) -> str:
        return str(self.batches.place(step))

    def from_step(self, step: int) -> Iterator[Batch]:
        for number, batch in enumerate(self.batches.from_step(step), step):
            yield self._varied(batch, np.random.default_rng([self.seed, number, 1]))

    def _varied(self, batch: Batch, random: np.random.Generator) -> Batch:
        import torch

        ids, labels = batch["input_ids"].numpy().copy(), batch["labels"].numpy().copy()  # (B, T) both
        mask = batch.get("attention_mask")
        lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()
        for n, length in enumerate(lengths):
            row = ids[n, :length], labels[n, :length]
            for step in self.steps:
                row = step(*row, random)
            ids[n, :length], labels[n, :length] = row
        return {**batch, "input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


class _SizedAugmented(_Augmented):
    def __len__(self) -> int:
        return len(self.batches)


class WordDropout:
    """Puts the unknown token in place of tokens that are read, and leaves alone what is to be predicted.

    So a model cannot rely on the last words alone (Bowman et al. 2016, section 3.1). Where everything has a token, as
    with byte-level BPE, one drawn from the vocabulary stands in (SwitchOut, Wang et al. 2018). Special tokens stay.

    Args:
        rate: of the tokens.
        tokenizer: says what is unknown and what is special.
    """

    def __init__(self, rate: float, tokenizer: PreTrainedTokenizerBase) -> None:
        self.rate, self.special = rate, _special(tokenizer)
        self.instead = _instead(tokenizer, [unknown_token(tokenizer)])

    def __call__(
        self, ids: np.ndarray, labels: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        hit = (random.random(len(ids)) < self.rate) & ~np.isin(ids, self.special)
        return np.where(hit, random.choice(self.instead, len(ids)), ids), labels


class SpanMasking:
    """Puts the mask, or else the unknown token, in place of spans of tokens that are read; labels stay.

    Lengths of spans are geometric with p = 0.2 and at most 10, about 3.8 on average (SpanBERT, Joshi et al. 2020,
    section 3.1). Where there is neither token, tokens drawn from the vocabulary stand in. Special tokens stay.

    Args:
        rate: of the tokens.
        tokenizer: says what is special and what masks.
    """

    def __init__(self, rate: float, tokenizer: PreTrainedTokenizerBase) -> None:
        self.rate, self.special = rate, _special(tokenizer)
        self.instead = _instead(tokenizer, [tokenizer.mask_token_id, unknown_token(tokenizer)])

    def __call__(
        self, ids: np.ndarray, labels: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        free = np.flatnonzero(~np.isin(ids, self.special))
        wanted = int(self.rate * len(free) + random.random())  # the fraction of a token is a chance of one
        starts = random.permutation(free)[:wanted]  # so many spans are enough, even if each had one token
        lengths = np.minimum(random.geometric(0.2, len(starts)), 10)
        spans = starts[:, None] + np.arange(10)  # (spans, 10)
        places, first = np.unique(spans[np.arange(10) < lengths[:, None]], return_index=True)
        places = places[np.argsort(first)]  # in the order of the spans
        places = places[np.isin(places, free)][:wanted]
        made = ids.copy()
        made[places] = random.choice(self.instead, len(places))
        return made, labels


class FillInTheMiddle:
    """Cuts texts at two places and puts the middle last, so that a model learns to fill gaps (Bavarian et al. 2022).

    At context level: each text of a row, with probability `rate`, at two random characters. Half become
    prefix-suffix-middle, half suffix-prefix-middle in the paper's second form, which is
    `<PRE><SUF>suffix<MID>prefix middle`. An end of text follows each, for there the gap is full. The new tokens take
    the room of the prefix's beginning, then of the suffix's end; a text too short for that stays as it is. Comes
    before other steps, since its labels are its ids; where nothing is left to learn they are -100.

    Args:
        rate: of the texts.
        tokenizer: with tokens to fill in the middle.

    Raises:
        OptionError: the tokenizer has none.
    """

    def __init__(self, rate: float, tokenizer: PreTrainedTokenizerBase) -> None:
        found = infilling_tokens(tokenizer)
        if found is None:
            raise OptionError(
                f"fim={rate:g}: the tokenizer has no tokens to fill in the middle, such as {INFILLING[0][0]}",
                "Use one that has them: --model Qwen/Qwen2.5-Coder-0.5B, or --from-scratch, which adds them.",
            )
        self.rate, self.tokenizer = rate, tokenizer
        self.prefix, self.suffix, self.middle = found
        self.inner = inner_ids if marks_beginnings(tokenizer) else plain_ids  # which is quicker
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.ends = np.array([i for i in ends if i is not None])
        self.end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def __call__(
        self, ids: np.ndarray, labels: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        made: list[int] = []
        for part in np.split(ids, np.flatnonzero(np.isin(ids, self.ends)) + 1):  # each with the end of its text
            closed = part[-1:][np.isin(part[-1:], self.ends)].tolist()
            text = part[: len(part) - len(closed)].tolist()
            changed = self._rearranged(text, len(part), random) if text and random.random() < self.rate else None
            made += part.tolist() if changed is None else changed
        short = len(ids) - len(made)
        fill = [*self.end, self.middle][:1] * short
        return np.array([*made, *fill], ids.dtype), np.array([*made, *[-100] * short], labels.dtype)

    def _rearranged(self, ids: list[int], room: int, random: np.random.Generator) -> list[int] | None:
        """The tokens of a text, at most `room` of them with its end; `None` if they do not fit."""
        text = decoded(self.tokenizer, ids).strip("\ufffd")  # at a row's ends there may be halves of characters
        first, last = sorted(random.integers(len(text) + 1, size=2).tolist())
        before = plain_ids(self.tokenizer, text[:first])
        middle, after = (self.inner(self.tokenizer, part) for part in (text[first:last], text[last:]))
        psm = random.random() < 0.5
        over = max(0, len(before) + len(middle) + len(after) + 3 + len(self.end) - room)
        cut = min(over, len(before))
        if over - cut > len(after):
            return None
        before, after = before[cut:], after[: len(after) - (over - cut)]
        if psm:
            return [self.prefix, *before, self.suffix, *after, self.middle, *middle, *self.end]
        return [self.prefix, self.suffix, *after, self.middle, *before, *middle, *self.end]


def _special(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    return np.array(sorted({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}))


def _instead(tokenizer: PreTrainedTokenizerBase, wanted: Sequence[int | None]) -> np.ndarray:
    """The first of the wanted ids that there is, or all that are not special."""
    found = [i for i in wanted if i is not None]
    return np.array(found[:1]) if found else np.setdiff1d(list(tokenizer.get_vocab().values()), _special(tokenizer))


def parse_augment(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[Augmentation]:
    """Steps from texts such as `word_dropout=0.1`, in the order that suits them.

    Raises:
        OptionError: no such step (with the nearest), a rate that is not between 0 and 1, a step named twice, or one
            that the tokenizer has no tokens for.
    """
    rates: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in AUGMENTATIONS:
            raise OptionError(
                f"augment {text!r}: there is no step {name!r}.{nearest(name, AUGMENTATIONS)}",
                f"Allowed: {', '.join(f'{n}=RATE' for n in AUGMENTATIONS)}",
            )
        if name in rates:
            raise OptionError(f"augment {text!r}: {name} is given twice", "Give it once.")
        try:
            rates[name] = float(value)
        except ValueError:
            rates[name] = -1.0
        if not 0 <= rates[name] <= 1:
            raise OptionError(f"augment {text!r}: {value!r} is no rate", f"Give a number from 0 to 1: {name}=0.1")
    return [AUGMENTATIONS[name](rates[name], tokenizer) for name in AUGMENTATIONS if name in rates]


#: Steps by name, in the order in which they are taken.
AUGMENTATIONS: dict[str, Callable[[float, PreTrainedTokenizerBase], Augmentation]] = {
    "fim": FillInTheMiddle,
    "span_masking": SpanMasking,
    "word_dropout": WordDropout,
}
