"""What a validation reads: windows of texts, evenly spread, or pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aigc_text.data.encoding import CHUNK, Encoder, Row, chunks, spread, tokenised
from aigc_text.data.pipeline import packs

if TYPE_CHECKING:
    from aigc_text.data.sources import Example
    from aigc_text.options.training import TrainingOptions


SIDE_BY_SIDE = 16  # texts of which a validation reads the beginnings, where each alone is more than it may read


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
    from aigc_text.scoring.windows import Span, kept_in_front, spans_of, window_of

    kept = kept_in_front(kept, context)
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
