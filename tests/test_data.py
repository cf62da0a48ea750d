"""Tokens to batches whose order follows from the seed."""

import numpy as np
import pytest

from aigc_text.data import PackedBatches, blocks, encode
from aigc_text.errors import DataError


def _rows(batches, count):
    steps = iter(batches)
    return [next(steps)["input_ids"].tolist() for _ in range(count)]


def test_the_order_of_batches_is_a_function_of_seed_and_step():
    def made(seed):
        return PackedBatches(np.arange(103, dtype=np.uint16), batch_size=3, block_size=8, seed=seed)

    all_of_them = _rows(made(1), 14)
    assert _rows(made(1), 14) == all_of_them
    assert _rows(made(2), 14) != all_of_them
    for skipped in (1, 2, 3, 4, 7, 13):
        assert _rows(made(1).from_step(skipped), 14 - skipped) == all_of_them[skipped:]


def test_every_row_comes_once_a_pass_and_passes_differ():
    batches = PackedBatches(np.arange(13 * 8, dtype=np.uint16), batch_size=4, block_size=8, seed=0)
    assert len(batches) == 3
    passes = []
    for number in range(3):
        rows = [row for batch in _rows(batches.from_step(3 * number), 3) for row in batch]
        starts = sorted(row[0] for row in rows)
        assert all(row == list(range(row[0], row[0] + 8)) for row in rows)
        assert starts == list(range(starts[0], starts[0] + 12 * 8, 8))
        passes.append([row[0] for row in rows])
    assert len({tuple(p) for p in passes}) == 3


def test_labels_are_the_inputs_and_few_rows_make_a_smaller_batch():
    batch = next(iter(PackedBatches(np.arange(30, dtype=np.uint16), batch_size=8, block_size=8, seed=0)))
    assert batch["input_ids"].shape == (2, 8)
    assert batch["labels"].tolist() == batch["input_ids"].tolist()


def test_one_row_is_enough_and_less_is_refused():
    assert _rows(PackedBatches(np.arange(8), 4, 8, 0), 2) == [[list(range(8))]] * 2
    with pytest.raises(DataError) as refused:
        PackedBatches(np.arange(7), 4, 8, 0)
    assert "7 tokens, fewer than one block of 8" in refused.value.message
    assert "--block-size" in refused.value.cure


def test_blocks_are_spread_evenly_over_the_text():
    tokens = np.arange(100)
    assert [b[0] for b in blocks(tokens, 10, 99)] == list(range(0, 100, 10))
    assert [b[0] for b in blocks(tokens, 10, 3)] == [0, 40, 90]
    assert blocks(tokens[:19], 10, 3).tolist() == [list(range(10))]
    assert blocks(tokens[:5], 10, 3).tolist() == [list(range(5))]


class Letters:
    """As much of a tokenizer as `encode` asks for."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(c) for c in t] for t in texts]}


def test_encode_ends_every_text_and_keeps_their_order():
    texts = [chr(97 + n % 26) for n in range(150)]  # more than a chunk
    row = encode(Letters(300), iter(texts), 256)
    assert row.dtype == np.uint16
    assert row.tolist() == [i for t in texts for i in (ord(t), 256)]
    assert encode(Letters(300), ["ab"], None).tolist() == [97, 98]


def test_encode_has_room_for_large_vocabularies():
    assert encode(Letters(1 << 16), ["a"], (1 << 16) - 1).tolist() == [97, 65535]
    assert encode(Letters(70_000), ["a"], 69_999).tolist() == [97, 69_999]
    assert encode(Letters(300), [], 0).tolist() == []
