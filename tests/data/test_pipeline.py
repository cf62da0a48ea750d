"""Options to batches, and steps that vary rows: how much, what stays, and the same again after a resumption."""

from itertools import islice

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_text.data.augmentation import FillInTheMiddle, SpanMasking, WordDropout, augmented, parse_augment
from aigc_text.data.batching import LengthGroupedBatches, PackedBatches, StreamedBatches
from aigc_text.data.encoding import encode
from aigc_text.data.sources import Pair
from aigc_text.data.tokenizer_training import INFILLING, train, unknown_token
from aigc_text.errors import DataError, OptionError
from aigc_text.models.causal_lm import GPT2
from aigc_text.training import trainer

TEXTS = ["the cat sat on the mat", "from here to there\nand back", "a b c d e f g h", "一 二 三 四 五"] * 6


@pytest.fixture(scope="module", params=["bpe", "word"])
def tokenizer(request):
    return train(request.param, TEXTS, special=INFILLING[0])


def _row(tokenizer, length=4000):
    return np.resize(encode(tokenizer, TEXTS, tokenizer.eos_token_id).astype(np.int64), length)


@pytest.mark.parametrize("step", [WordDropout, SpanMasking])
@pytest.mark.parametrize("rate", [0.0, 0.15, 1.0])
def test_a_share_of_what_is_read_is_replaced_and_nothing_of_what_is_learned(step, rate, tokenizer):
    ids = _row(tokenizer)
    made, labels = step(rate, tokenizer)(ids, ids, np.random.default_rng(0))
    special = np.isin(ids, tokenizer.all_special_ids)
    assert labels is ids
    assert (made[special] == ids[special]).all()
    unknown = unknown_token(tokenizer)
    changed = made[~special] != ids[~special]
    if unknown is None:  # a drawn token may be the one that was there
        assert rate * 0.9 - 0.01 <= changed.mean() <= rate * 1.1
        assert not np.isin(made[~special], tokenizer.all_special_ids).any()
        assert len(np.unique(made[~special][changed])) > 50 or rate == 0
    else:
        assert abs(changed.mean() - rate) < 0.02
        assert (made[~special][changed] == unknown).all()


def test_spans_are_longer_than_single_words():
    tokenizer = train("word", ["a b c d e f g"])
    ids = np.full(20_000, tokenizer.get_vocab()["a"])
    unknown = unknown_token(tokenizer)

    def mean_run(step):
        hit = np.concatenate([[False], step(0.15, tokenizer)(ids, ids, np.random.default_rng(0))[0] == unknown])
        return hit.sum() / (hit[1:] & ~hit[:-1]).sum()

    assert mean_run(WordDropout) < 1.3 < 3 < mean_run(SpanMasking) < 6  # some meet


def test_a_mask_goes_before_the_unknown_token():
    tokenizer = train("word", ["a b c"])
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    ids = np.full(10, tokenizer.get_vocab()["a"])
    assert (SpanMasking(1.0, tokenizer)(ids, ids, np.random.default_rng(0))[0] == tokenizer.mask_token_id).all()
    assert (WordDropout(1.0, tokenizer)(ids, ids, np.random.default_rng(0))[0] == unknown_token(tokenizer)).all()


@pytest.fixture(scope="module")
def infilling():
    return train("bpe", tiny.SENTENCES, 300, special=INFILLING[0])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=1), st.integers(0))
def test_a_rearranged_row_has_the_characters_of_its_texts(infilling, texts, seed):
    prefix, suffix, middle = INFILLING[0]
    ids = encode(infilling, texts, infilling.eos_token_id).astype(np.int64)
    made, labels = FillInTheMiddle(1.0, infilling)(ids, ids, np.random.default_rng(seed))
    assert len(made) == len(ids) == len(labels)
    learned = int((labels != -100).sum())
    assert labels.tolist() == [*made[:learned].tolist(), *[-100] * (len(ids) - learned)]
    new = infilling.decode(made[:learned]).split(infilling.eos_token)
    assert len(new) == len(texts) + 1 and new[-1] == ""
    for old, text in zip(texts, new, strict=False):
        if text != old:  # not too short
            assert text.startswith(prefix)
            head, rest = text.removeprefix(prefix).split(suffix)
            tail, rest = rest.split(middle)
            # The new tokens took the room of the beginning, then of the end, a few tokens at most.
            kept = (head + rest + tail).strip("\ufffd")
            assert kept in old
            assert len(infilling(old)["input_ids"]) - len(infilling(kept)["input_ids"]) <= 9


def test_half_of_the_rearranged_texts_are_in_either_order_and_the_rest_as_they_were(infilling):
    text = "the cat sat on the mat and the dog sat on the log. " * 4
    row = encode(infilling, [text] * 400, infilling.eos_token_id).astype(np.int64)
    made, _ = FillInTheMiddle(0.5, infilling)(row, row, np.random.default_rng(0))
    new = infilling.decode(made).split(infilling.eos_token)[:-1]
    prefix, suffix, _ = INFILLING[0]
    changed = [t for t in new if t != text]
    spm = [t for t in changed if t.startswith(prefix + suffix)]
    assert 150 < len(changed) < 250
    assert 0.35 < len(spm) / len(changed) < 0.65


def test_every_text_ends_where_its_gap_is_full_even_at_the_row_s_end(infilling):
    row = encode(infilling, ["the cat sat on the mat"], None).astype(np.int64)
    made, _ = FillInTheMiddle(1.0, infilling)(row, row, np.random.default_rng(3))
    assert made[-1] == infilling.eos_token_id


def test_a_tokenizer_without_the_tokens_cannot_fill_in_the_middle():
    with pytest.raises(OptionError, match="fim=0.5: the tokenizer has no tokens") as refused:
        parse_augment(["fim=0.5"], train("bpe", TEXTS, 300))
    assert "--from-scratch" in refused.value.cure


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


STEPS = ("word_dropout=0.3", "span_masking=0.2", "fim=0.5")


@pytest.mark.parametrize("kind", ["packed", "grouped", "streamed"])
def test_what_is_drawn_is_a_function_of_seed_and_step(kind):
    tokens = tiny.tokenizer(INFILLING[0])
    backend = GPT2(tiny.model("gpt2", tokens), tokens)
    how = {"packed": {}, "grouped": {"packing": False}, "streamed": {"streaming": True}}[kind]

    def made(seed, augment=STEPS):
        options = backend.Training(block_size=16, batch_size=2, seed=seed, augment=augment, **how)
        return backend.batches(tiny.SENTENCES * 3, options)

    unbroken = list(islice(made(1), 12))
    assert all(map(_same, made(1).from_step(5), unbroken[5:]))
    assert not all(map(_same, made(2), unbroken))
    plain = made(1, None)
    assert made(1).place(5) == plain.place(5)
    assert [b["input_ids"].shape for b in islice(plain, 12)] == [b["input_ids"].shape for b in unbroken]
    assert not any(map(_same, plain, unbroken))
    if kind == "streamed":
        assert not hasattr(made(1), "__len__")
    else:
        assert len(made(1)) == len(plain)


def test_what_fills_up_is_not_varied():
    tokenizer = train("word", ["a b c d"])
    rows = LengthGroupedBatches(
        GPT2(tiny.model("gpt2", tokenizer), tokenizer)
        .encoder(GPT2.Training(block_size=16))
        .rows(["a", "a b c d a b c d"]),
        batch_size=2,
        seed=0,
        pad=tokenizer.get_vocab()["a"],
    )
    batch = next(iter(augmented(rows, [WordDropout(1.0, tokenizer)], 0)))
    mask = batch["attention_mask"].bool()
    assert (batch["input_ids"][~mask] == tokenizer.get_vocab()["a"]).all()
    assert set(batch["input_ids"][mask].tolist()) == {tokenizer.eos_token_id, unknown_token(tokenizer)}
    assert (batch["labels"] == next(iter(rows))["labels"]).all()


def test_steps_are_taken_in_the_order_that_suits_them(infilling):
    steps = parse_augment(["word-dropout=0.1", "fim=1", "span_masking=0"], infilling)
    assert [type(s) for s in steps] == [FillInTheMiddle, SpanMasking, WordDropout]
    assert [s.rate for s in steps] == [1, 0, 0.1]


@pytest.mark.parametrize(
    ("texts", "says", "cure"),
    [
        (["word_dropuot=0.1"], "no step 'word_dropuot'. Did you mean 'word_dropout'?", "span_masking=RATE"),
        (["fim"], "'' is no rate", "fim=0.1"),
        (["fim=half"], "'half' is no rate", "0 to 1"),
        (["fim=1.5"], "'1.5' is no rate", "0 to 1"),
        (["fim=nan"], "'nan' is no rate", "0 to 1"),
        (["fim=0.5", "fim=0.1"], "fim is given twice", "once"),
    ],
)
def test_wrong_augmentations_are_refused(texts, says, cure, infilling):
    with pytest.raises(OptionError) as refused:
        parse_augment(texts, infilling)
    assert says in refused.value.message and repr(texts[-1]) in refused.value.message
    assert cure in refused.value.cure


@pytest.mark.parametrize(
    ("examples", "how"),
    [
        (tiny.SENTENCES * 2, {"packing": False}),
        (tiny.SENTENCES * 2, {"streaming": True, "augment": STEPS}),
        ([Pair(t[:10], t[10:]) for t in tiny.SENTENCES * 2], {"streaming": True}),
    ],
    ids=["grouped", "streamed and varied", "streamed pairs"],
)
def test_a_resumed_run_ends_with_the_very_weights(examples, how, tmp_path):
    def run(folder, steps, resume=False):
        tokens = tiny.tokenizer(INFILLING[0])
        backend = GPT2(tiny.model("gpt2", tokens), tokens)
        options = backend.Training(block_size=24, batch_size=2, max_steps=7, save_every=3, precision="fp32", **how)
        reports = trainer.train(
            backend.model.train(),
            backend.objective(options),
            backend.batches(examples, options),
            options,
            checkpoints=folder,
            resume=resume,
        )
        assert len(list(islice(reports, steps))) == steps
        return torch.cat([p.flatten() for p in backend.model.parameters()])

    unbroken = run(tmp_path / "a", 7)
    run(tmp_path / "b", 5)  # let go of after five updates, which saves it
    assert torch.equal(run(tmp_path / "b", 3, resume=True), unbroken)  # a message and two updates


# Which batches are chosen

PAIRS = [Pair("the cat", " sat on the mat"), Pair("who was it?", " a king and his daughter.")] * 3


@pytest.fixture(scope="module")
def backend():
    tokens = tiny.tokenizer()
    return GPT2(tiny.model("gpt2", tokens), tokens)


@pytest.mark.parametrize(
    ("examples", "how", "kind"),
    [
        (tiny.SENTENCES, {}, PackedBatches),
        (tiny.SENTENCES, {"packing": True}, PackedBatches),
        (tiny.SENTENCES, {"packing": False}, LengthGroupedBatches),
        (tiny.SENTENCES, {"streaming": True}, StreamedBatches),
        (PAIRS, {}, LengthGroupedBatches),
        (PAIRS, {"packing": False}, LengthGroupedBatches),
        (PAIRS, {"streaming": True}, StreamedBatches),
    ],
)
def test_options_choose_the_batches(examples, how, kind, backend):
    made = backend.batches(examples, backend.Training(block_size=16, batch_size=2, **how))
    assert isinstance(made, kind)
    batch = next(iter(made))
    assert batch["input_ids"].shape == batch["labels"].shape
    assert (batch["labels"][:, 0] == -100).all() == (kind is LengthGroupedBatches or examples is PAIRS)
    if not how.get("streaming"):
        again = backend.batches(iter(examples), backend.Training(block_size=16, batch_size=2, **how))
        assert _same(next(iter(again)), batch)


def test_a_backend_says_whether_it_packs(backend, monkeypatch):
    monkeypatch.setattr(type(backend), "packing", False)
    options = backend.Training(block_size=16)
    assert isinstance(backend.batches(tiny.SENTENCES, options), LengthGroupedBatches)


def test_notes_tell_what_was_cut(backend):
    for augment in (None, ("word_dropout=0.1",)):
        options = backend.Training(block_size=32, augment=augment)
        made = backend.batches([*PAIRS, Pair("the cat " * 20, "sat")], options)
        assert list(made.notes) == [
            "1 of 7 pairs are longer than 32 tokens (--block-size): their prompts were cut on the left"
        ]
    assert list(backend.batches(tiny.SENTENCES, backend.Training(block_size=16)).notes) == []


@pytest.mark.parametrize(
    ("how", "says", "cure"),
    [({"packing": True}, "packing joins texts", "--no-packing"), ({"augment": ("fim=0.5",)}, "fim rearranges", "fim")],
)
def test_what_cannot_be_done_with_pairs_is_refused(how, says, cure):
    tokens = tiny.tokenizer(INFILLING[0])
    backend = GPT2(tiny.model("gpt2", tokens), tokens)
    with pytest.raises(OptionError, match=says) as refused:
        backend.batches(PAIRS, backend.Training(block_size=16, **how))
    assert cure in refused.value.cure


@pytest.mark.parametrize("how", [{}, {"packing": False}])
def test_no_data_is_refused(how, backend):
    with pytest.raises(DataError, match="the training data"):
        backend.batches([], backend.Training(block_size=16, **how))
