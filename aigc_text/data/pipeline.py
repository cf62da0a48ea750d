"""Examples to the batches that training options ask for, and steps that vary them anew in each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_text.errors import OptionError, nearest

from .batching import Batch, ContinuousBatches, LengthGroupedBatches, PackedBatches, StreamedBatches
from .encoding import CHUNK, Encoder, Row, chunks, encode, spread, tokenised
from .prompt_encoding import decoded, inner_ids, marks_beginnings, plain_ids
from .tokenizer_training import INFILLING, infilling_tokens, unknown_token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aigc_text.options.training import TrainingOptions

    from .sources import Example

SIDE_BY_SIDE = 16  # texts of which a validation reads the beginnings, where each alone is more than it may read

#: Ids and labels of a row, (T,) both, and what to draw from: to a row of the same length.
Augmentation = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def batches_of(
    encoder: Encoder,
    examples: Iterable[Example],
    options: TrainingOptions,
    packing: bool,
    pad: int,
    continuous: bool = False,
    by_length: bool = True,
) -> Iterable[Batch]:
    """The batches that training options ask for; with `from_step`, and with a length unless they are streamed.

    Args:
        encoder: of the model's tokenizer.
        examples: texts, or pairs of prompt and completion.
        options: `packing`, `streaming`, `augment` and sizes.
        packing: whether texts are packed where the options do not say.
        pad: the id to fill up with.
        continuous: whether what is packed is read as one text from batch to batch, if it is not streamed.
        by_length: whether rows of similar length share a batch.

    Raises:
        DataError: too few examples, or examples that cannot be streamed.
        OptionError: options that do not go together or do not suit the tokenizer.
    """
    steps = parse_augment(options.augment or (), encoder.tokenizer)
    packed, examples = packs(examples, options, packing)
    size, seed = options.completed().batch_size, options.seed
    made: Any
    if options.streaming:
        rows: Any = encoder.packed if packed else encoder.rows
        made = StreamedBatches(examples, rows, size, seed, pad, by_length)
    elif packed:
        end = encoder.tokenizer.eos_token_id
        tokens = encode(encoder.tokenizer, examples, end, encoder.begin)  # type: ignore[arg-type]
        made = (ContinuousBatches if continuous else PackedBatches)(tokens, size, encoder.block_size, seed)
    else:
        made = LengthGroupedBatches(encoder.rows(examples), size, seed, pad, by_length)
    made.notes = encoder.notes
    return augmented(made, steps, seed) if steps else made


def validation_rows(
    encoder: Encoder,
    examples: Iterable[Example],
    options: TrainingOptions,
    packing: bool,
    context: int,
    kept: Sequence[int] = (),
) -> list[Row]:
    """What a validation reads: texts in the windows of `score`, pairs in rows of their own; all of it with sizes.

    At most `eval_blocks` windows or pairs are taken, evenly spread over the examples; of texts that training packs, as
    many windows as hold about `eval_blocks` blocks of tokens, since windows may be shorter or longer than a block.

    Args:
        encoder: of the model's tokenizer.
        examples: texts, or pairs of prompt and completion.
        options: `eval_blocks`, and whether texts are packed.
        packing: whether texts are packed where the options do not say.
        context: tokens of a window.
        kept: ids that begin a window whose text began before it.
    """
    from aigc_text.scoring.windows import Span, spans_of, window_of

    packed, examples = packs(examples, options, packing)
    examples = list(examples)
    if not (examples and isinstance(examples[0], str)):
        rows = list(encoder.rows(examples, sized=True))
        return [rows[n] for n in spread(len(rows), options.eval_blocks)]
    texts = list(_whole_texts(encoder, map(str, examples)))
    spans = [(n, span) for n, (ids, _) in enumerate(texts) for span in spans_of(len(ids), len(encoder.begin), context)]
    lengths = [span.end - span.first for _, span in spans]
    most, longest = options.eval_blocks, options.eval_blocks * encoder.block_size
    if packed:
        budget = longest
        if max(lengths, default=0) > budget:  # even one is too long: the beginnings of several
            longest = max(encoder.block_size, budget // min(len(spans), SIDE_BY_SIDE))
        read = sum(min(length, longest) for length in lengths)
        most = len(spans) if read <= budget else max(1, len(spans) * budget // read)
    rows = []
    for n, (first, scored, end) in (spans[place] for place in spread(len(spans), most)):
        ids, sizes = texts[n]
        end = min(end, max(first + longest, scored + 1))
        rows.append(Row(window_of(ids, Span(first, scored, end), kept), scored - first, int(sizes[scored:end].sum())))
    return rows


def _whole_texts(encoder: Encoder, texts: Iterable[str]) -> Iterator[tuple[list[int], np.ndarray]]:
    """The ids of each text as `score` reads it, with beginning and end, and the bytes that each stands for."""
    before = np.zeros(len(encoder.begin), np.int64)
    for chunk in chunks(texts, CHUNK):
        for ids, sizes in tokenised(encoder.tokenizer, chunk, sized=True):
            assert sizes is not None
            whole = [*encoder.begin, *ids, *encoder.end]
            known = np.concatenate([before, sizes])
            # What follows the last token belongs to the end of the text, or to the last token where there is no end.
            yield whole, np.append(known[: len(whole) - 1], known[len(whole) - 1 :].sum())


def packs(examples: Iterable[Example], options: TrainingOptions, packing: bool) -> tuple[bool, Iterable[Example]]:
    """Whether the examples are to be packed, and the examples, of which an iterator has not lost its first.

    Raises:
        OptionError: something was asked for that cannot be done with pairs.
    """
    first = next(iter(examples), None)
    if isinstance(examples, Iterator) and not options.streaming and first is not None:
        examples = chain([first], examples)
    if first is None or isinstance(first, str):
        return packing if options.packing is None else options.packing, examples
    if options.packing:
        raise OptionError("packing joins texts, and the data is pairs", "Use --no-packing: they are grouped by length.")
    if any(text.startswith("fim") for text in options.augment or ()):
        raise OptionError("fim rearranges texts, and the data is pairs", "Leave --augment fim out.")
    return False, examples


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


#: Steps by name, in the order in which they are taken.
AUGMENTATIONS: dict[str, Callable[[float, PreTrainedTokenizerBase], Augmentation]] = {
    "fim": FillInTheMiddle,
    "span_masking": SpanMasking,
    "word_dropout": WordDropout,
}


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
