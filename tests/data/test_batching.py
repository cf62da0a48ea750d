"""Rows to batches whose order follows from the seed: packed, grouped by length, streamed."""

from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_text import distributed
from aigc_text.data import batching as module
from aigc_text.data.batching import ContinuousBatches, LengthGroupedBatches, PackedBatches, StreamedBatches, collate
from aigc_text.data.encoding import Row
from aigc_text.errors import DataError
from aigc_text.training import hardware


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


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 200), st.integers(1, 9), st.integers(8, 20), st.integers(0, 3))
def test_continuous_rows_go_on_where_they_ended(count, size, block, seed):
    if count < block:
        with pytest.raises(DataError, match=f"{count} tokens, fewer than one block of {block}"):
            ContinuousBatches(np.arange(count), size, block, seed)
        return
    made = ContinuousBatches(np.arange(count, dtype=np.uint16), size, block, seed)
    steps = list(islice(made, 3 * len(made)))
    for first in range(0, len(steps), len(made)):
        part = steps[first : first + len(made)]
        assert [b["begins"].tolist() for b in part] == [[n == 0] * made.batch_size for n in range(len(made))]
        ends = None
        for batch in part:
            ids = batch["input_ids"]
            assert ids.shape == (made.batch_size, block) and batch["labels"].equal(ids)
            assert (ids.diff(dim=1) == 1).all()
            assert ends is None or ends.equal(ids[:, 0])
            ends = ids[:, -1]
        learned = {int(i) for batch in part for i in batch["input_ids"][:, 1:].flatten()}
        assert len(learned) == made.rows * (block - 1)
        assert len(learned) > (count - 1) - (block - 1) * (1 + made.batch_size) - (block - 1)


def test_a_continuous_batch_is_a_function_of_seed_and_step():
    def made(seed):
        return ContinuousBatches(np.arange(230, dtype=np.uint16), batch_size=3, block_size=8, seed=seed)

    all_of_them = _rows(made(1), 25)
    assert len({tuple(row[0]) for row in all_of_them[:: len(made(1))]}) > 1  # passes are cut elsewhere
    assert _rows(made(2), 25) != all_of_them
    for skipped in (1, 9, 10, 11, 23):
        assert _rows(made(1).from_step(skipped), 25 - skipped) == all_of_them[skipped:]


ROWS = st.lists(st.integers(1, 9), min_size=1, max_size=60)


def _made(lengths):
    """Rows that can be told apart: row n holds the number n, and its first token is masked."""
    return [Row([n] * length, 1) for n, length in enumerate(lengths)]


def _numbers(batch):
    return batch["input_ids"][:, 0].tolist()


def _same(one, other):
    return one.keys() == other.keys() and all((one[k] == other[k]).all() for k in one)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 7), st.integers(0, 3))
def test_grouped_rows_come_once_a_pass_and_none_is_left_out_for_long(lengths, size, seed):
    made = LengthGroupedBatches(_made(lengths), size, seed, pad=0)
    seen = set()
    for number in range(30):
        rows = [n for batch in islice(made.from_step(number * len(made)), len(made)) for n in _numbers(batch)]
        assert len(rows) == len(set(rows)) == len(made) * min(size, len(lengths))
        seen |= set(rows)
    assert len(lengths) - len(seen) <= (1 if len(lengths) % size else 0)  # (1 - 1/2)^30 at the worst


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 7), st.integers(0, 3), st.integers(0, 40))
def test_grouped_batches_are_a_function_of_seed_and_step(lengths, size, seed, step):
    def made():
        return LengthGroupedBatches(_made(lengths), size, seed, pad=0)

    unbroken = list(islice(made(), step + 3))[step:]
    assert all(map(_same, islice(made().from_step(step), 3), unbroken))


def test_passes_and_seeds_have_other_orders():
    def order(seed, number):
        made = LengthGroupedBatches(_made([3] * 40), 4, seed, pad=0)
        return [n for batch in islice(made.from_step(number * 10), 10) for n in _numbers(batch)]

    assert len({tuple(order(seed, number)) for seed in (0, 1) for number in (0, 1)}) == 4


def test_rows_of_a_batch_have_similar_lengths():
    random = np.random.default_rng(0)
    lengths = random.integers(2, 60, 2000)
    grouped = LengthGroupedBatches(_made(lengths), 8, 0, pad=0)

    def padding(batches):
        filled = [(b["labels"] != -100).sum().item() + len(b["labels"]) for b in batches]  # one of each is masked
        return 1 - sum(filled) / sum(b["input_ids"].numel() for b in batches)

    plain = [collate([Row([1] * n, 1) for n in part], 0) for part in lengths.reshape(-1, 8)]
    assert padding(list(islice(grouped, len(grouped)))) < 0.02 < 0.3 < padding(plain)


def test_what_fills_up_is_masked_and_not_learned():
    batch = collate([Row([5, 6, 7], 1), Row([8], 0), Row([1, 2, 3], 3)], pad=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9], [1, 2, 3]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100], [-100] * 3]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 1]]
    assert "attention_mask" not in collate([Row([5, 6]), Row([7, 8])], pad=9)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="the training data is empty"):
        LengthGroupedBatches([], 4, 0, pad=0)


class Counted:
    """Rows of lengths, read again and again; says how far it was read at a time."""

    def __init__(self, lengths):
        self.lengths, self.read = lengths, 0

    def __iter__(self):
        for n, length in enumerate(self.lengths):
            self.read += 1
            yield Row([n] * length)


def _streamed(examples, size=3, seed=0):
    return StreamedBatches(examples, iter, size, seed, pad=0)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 5), st.integers(0, 3), st.integers(0, 150))
def test_streamed_batches_are_a_function_of_seed_and_step(lengths, size, seed, step):
    unbroken = list(islice(_streamed(Counted(lengths), size, seed), step + 3))[step:]
    again = islice(_streamed(Counted(lengths), size, seed).from_step(step), 3)
    assert all(map(_same, again, unbroken))


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 5))
def test_a_stream_gives_every_row_equally_often(lengths, size):
    made = _streamed(Counted(lengths), size)
    made.window = 8
    count = np.lcm(made.window * size, len(lengths)) // size  # whole windows and whole passes
    seen = [n for batch in islice(made, int(count)) for n in _numbers(batch)]
    assert np.unique(seen, return_counts=True)[1].tolist() == [len(seen) // len(lengths)] * len(lengths)


def test_a_stream_shuffles_and_reads_no_more_than_a_window(monkeypatch):
    monkeypatch.setattr(module, "SHUFFLED", 80)
    source = Counted([8] * 10_000)
    made = _streamed(source, size=1)
    assert made.window == 80
    stream = iter(made)
    order = [_numbers(next(stream))[0] for _ in range(80)]
    assert source.read == 80
    assert sorted(order) == list(range(80)) != order
    assert sorted(_numbers(next(stream)) for _ in range(80)) == [[n] for n in range(80, 160)]


def test_a_stream_groups_rows_by_length():
    made = _streamed(Counted([2, 9] * 500), size=5)
    assert sum("attention_mask" in b for b in islice(made, 300)) < 30  # one in 64, where the lengths meet


def test_what_can_be_read_only_once_cannot_be_streamed():
    with pytest.raises(DataError, match="a generator, which can be read only once") as refused:
        _streamed(n for n in range(3))
    assert "begins anew" in refused.value.cure


def test_an_empty_stream_is_refused_when_it_is_read():
    with pytest.raises(DataError, match="the training data is empty"):
        next(iter(_streamed(Counted([]))))


def test_a_stream_of_which_nothing_is_kept_is_refused(monkeypatch):
    monkeypatch.setattr(module, "BARREN", 1000)
    rare = StreamedBatches(range(600), lambda numbers: (Row([n]) for n in numbers if n == 599), 2, 0, pad=0)
    assert _numbers(next(iter(rare))) == [599, 599]
    with pytest.raises(DataError, match="the training data is empty"):
        next(iter(StreamedBatches(range(600), lambda numbers: (Row([n]) for n in numbers if n > 600), 2, 0, pad=0)))


class Pair(NamedTuple):
    left: torch.Tensor
    right: list


def test_a_batch_of_any_shape_is_cut_and_moved():
    words = torch.arange(6).view(3, 2)
    batch = {"pair": Pair(words, [np.arange(3), "as it is"]), "scale": torch.tensor(2.0)}
    first, second = distributed.parts(batch, 2)
    assert isinstance(first["pair"], Pair) and first["pair"].left.tolist() == [[0, 1]]
    assert second["pair"].right[0].tolist() == [1, 2] and second["pair"].right[1] == "as it is"
    assert second["scale"] == 2
    moved = hardware.to(batch, torch.device("meta"))
    assert moved["pair"].left.is_meta and moved["scale"].is_meta and moved["pair"].right[0] is batch["pair"].right[0]
