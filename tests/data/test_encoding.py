"""Texts and pairs to rows: every token is learned once, and every byte is counted."""

import numpy as np
import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigc_text.backends.hf.prompt_requests import RequestBuilder
from aigc_text.data.encoding import Encoder, chunks, encode, spread, tokenised
from aigc_text.data.sources import Pair
from aigc_text.data.tokenizer_training import train
from aigc_text.models.causal_lm import GPT2

TEXTS = ["the cat sat on the mat", "从前有一个国王，他有一个女儿。 🙂 naïve", "a b\n\n  c d\n"]


@pytest.fixture(scope="module", params=["bpe", "word", "char"])
def tokenizer(request):
    return train(request.param, TEXTS)


@pytest.fixture(scope="module")
def backend():
    tokens = tiny.tokenizer()
    return GPT2(tiny.model("gpt2", tokens), tokens)


def _encoder(tokenizer, block_size):
    return Encoder(tokenizer, block_size, [tokenizer.eos_token_id], lambda a, b: ([1] * len(a), [2] * len(b)))


texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TEXTS), max_size=5)


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(2, 20))
def test_every_token_of_every_text_is_learned_once(tokenizer, texts, block_size):
    end = tokenizer.eos_token_id
    rows = list(_encoder(tokenizer, block_size).rows(texts))
    assert all(2 <= len(row.ids) <= block_size and row.masked == 1 for row in rows)
    learned = [i for row in rows for i in row.ids[1:]]
    assert learned == [i for t in texts for i in [*tokenizer(t)["input_ids"], end]]
    before = [end, *learned][: len(learned)]  # each row is read from the token before its first
    assert [row.ids[0] for row in rows] == [
        before[n] for n in np.cumsum([0, *(len(row.ids) - 1 for row in rows)])[:-1].tolist()
    ]


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(2, 20))
@example(["  the \n cat\t", "zebra\u3000xyz "], 3)
def test_every_byte_of_every_text_is_counted_once(tokenizer, texts, block_size):
    rows = _encoder(tokenizer, block_size).rows(texts, sized=True)
    assert sum(row.size for row in rows) == sum(len(t.encode()) for t in texts)


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(2, 20))
def test_packed_rows_are_the_joined_texts(tokenizer, texts, block_size):
    joined = encode(tokenizer, texts, tokenizer.eos_token_id).tolist()
    rows = list(_encoder(tokenizer, block_size).packed(iter(texts)))
    assert [i for row in rows for i in row.ids] == joined[: len(joined) // block_size * block_size]
    assert all(len(row.ids) == block_size and row.masked == 0 for row in rows)


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_the_sizes_of_tokens_are_those_of_the_text_they_come_from(kind):
    tokenizer = train(kind, ["the cat\n"])
    ids, sizes = next(tokenised(tokenizer, ["the  zebra 国\n "], sized=True))
    pieces = {"word": ["the", "  zebra", " 国", "\n", " "]}.get(kind)
    assert len(sizes) == len(ids) + 1
    assert sizes.sum() == len("the  zebra 国\n ".encode())
    if pieces:
        assert sizes.tolist() == [len(p.encode()) for p in pieces]


def test_a_tokenizer_without_offsets_has_the_right_sum():
    tokenizer = train("bpe", TEXTS)
    slow = type(
        "Slow", (), {"is_fast": False, "decode": tokenizer.decode, "__call__": lambda _, t, **k: tokenizer(t)}
    )()
    for text in TEXTS:
        assert next(tokenised(slow, [text], sized=True))[1].sum() == len(text.encode())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=8), st.integers(2, 12))
def test_of_a_long_pair_the_prompt_is_cut_first(tokenizer, lengths, block_size):
    encoder = _encoder(tokenizer, block_size)
    pairs = [Pair("a" * p, "b" * c) for p, c in lengths]
    for (prompt, completion), row in zip(lengths, encoder.rows(pairs), strict=True):
        assert len(row.ids) == min(block_size, prompt + completion)
        assert list(row.ids) == [1] * row.masked + [2] * (len(row.ids) - row.masked)
        assert row.masked == max(1, min(prompt, block_size - completion))
    long = len([c for p, c in lengths if p + c > block_size])
    cut = len([c for p, c in lengths if c > block_size - 1])
    assert bool(encoder.notes) == bool(long)
    for note in encoder.notes:
        assert note.startswith(f"{long} of {len(lengths)} pairs are longer than {block_size} tokens")
        assert (f"and {cut} completions" in note) == bool(cut)


def test_a_pair_is_read_as_generation_reads_it_and_learned_to_its_end(backend):
    end = backend.tokenizer.eos_token_id
    for prompt, completion in [
        ("once upon a time", " there was a king."),
        ("def add(a, b):\n", "    return a + b\n"),
        ("从前", "有一个国王"),
        ("the ", "cat"),
        ("", "the cat"),
        ("  ", "x"),
    ]:
        before, after = backend.pair_tokens(prompt, completion)
        request = next(iter(_requests(backend, prompt)))
        assert before == list(request.row.tokens)
        assert after[-1] == end
        held = prompt[len(prompt) - request.skip :]
        assert backend.tokenizer.decode(after[:-1]) == held + completion
        (row,) = backend.encoder(backend.Training(block_size=32)).rows([Pair(prompt, completion)])
        assert row.masked == len(before) and list(row.ids) == [*before, *after]
        assert row.size == len(completion.encode())


def _requests(backend, prompt):
    options = backend.Options(max_new_tokens=1)
    engine = backend.engine()
    config = backend.generation_config(engine, options)
    yield RequestBuilder(backend, engine, config, options, None).build((0, 0, prompt))


def test_a_prompt_and_its_completion_are_divided_as_their_text_is(backend):
    text = "once upon a time there was a king."
    before, after = backend.pair_tokens(text[:16], text[16:])
    assert before + after[:-1] == backend.tokenizer(text)["input_ids"]


def test_what_is_taken_is_spread_evenly():
    assert spread(10, 99) == list(range(10))
    assert spread(10, 3) == [0, 4, 9]
    assert spread(0, 3) == []


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


def test_chunks_lose_nothing():
    assert list(chunks(iter(range(7)), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks([], 3)) == []
