"""Examples to the batches that training options ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from aigc_text.errors import OptionError

from .augmentation import augmented, parse_augment
from .batching import Batch, ContinuousBatches, LengthGroupedBatches, PackedBatches, StreamedBatches
from .encoding import Encoder, encode

if TYPE_CHECKING:
    from aigc_text.options.training import TrainingOptions

    from .sources import Example


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
