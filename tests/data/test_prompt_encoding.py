"""What stands before a text and what follows a prompt, the same in training, scoring and generation; BOS and EOS."""

import numpy as np
import pytest
import tiny
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import processors

from aigc_text.backends.hf.prompt_requests import RequestBuilder
from aigc_text.data import prompt_encoding
from aigc_text.data.augmentation import FillInTheMiddle
from aigc_text.data.encoding import encode
from aigc_text.data.sources import Pair
from aigc_text.data.tokenizer_training import INFILLING, train
from aigc_text.generation.decoding import Decoding, _Text
from aigc_text.generation.detokenizer import Detokenizer
from aigc_text.generation.engine import Event
from aigc_text.models.causal_lm import GPT2, Code
from aigc_text.training import trainer

CODE_LLAMA = INFILLING[3]
#: Those that lose nothing of a text, and those that lose kinds of white space.
WHOLE = {
    "bytes": tiny.tokenizer,
    "bytes after a space": tiny.prefixed_bytes,
    "characters": lambda: train("char", tiny.SENTENCES),
    "▁ by the normalizer": lambda: tiny.sentencepiece("normalizer"),
    "▁ by Metaspace": lambda: tiny.sentencepiece("metaspace"),
    "no ▁ before a text": lambda: tiny.sentencepiece(""),
    "▁ without BOS": lambda: tiny.sentencepiece("normalizer", template=False),
}
#: Put no space before a text that begins with one, so that it is lost.
SPACE_IS_THERE = ("bytes after a space", "▁ by Metaspace")
LOSSY = {"WordPiece": tiny.wordpiece, "words": lambda: train("word", tiny.SENTENCES)}
PAIRS = [
    ("今天天", "气很好"), ("Name: ", "Anna"), ("Na", "me: Anna"), ("Name:", " Anna"), ("", "Anna"), ("", " Anna"),
    ("the cat\n", "    sat"), ("the", "\n\n"), ("国王🙂", "🙂 x"), ("  ", "the"), ("the cat sat on ", "the mat"),
    ("naï", "ve"), ("(", "the)"), ("def add(a, b):\n    ", "return a + b"),
]  # fmt: skip
MADE: dict[str, GPT2] = {}


def backend(name):
    if name not in MADE:
        tokens = {**WHOLE, **LOSSY}[name]()
        MADE[name] = GPT2(tiny.model("gpt2", tokens), tokens)
    return MADE[name]


def request(backend, prompt, **options):
    options = backend.resolve(None, {"max_new_tokens": 8, **options})
    engine = backend.engine()
    config = backend.generation_config(engine, options)
    return RequestBuilder(backend, engine, config, options, None).build((0, 0, prompt))


def shown(backend, asked, ids):
    """What generation shows of these ids after a prompt."""
    config = backend.generation_config(backend.engine(), backend.Options())
    how = Decoding(config, None, equal_lengths=False, exact=True, continues=True, streamed=True)
    growing = _Text(backend.tokenizer, asked, how)
    last = [*(Event(0, i, None) for i in ids), Event(0, backend.tokenizer.eos_token_id, "stop")]
    return "".join(piece.text for event in last if (piece := growing.push(event)))


pieces = st.lists(st.sampled_from([*tiny.WORDS, " ", "  ", "\n", ".", ":", "🙂", "气", "é", "\t", "x"]), max_size=6)
others = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="▁<")
texts = pieces.map("".join) | st.text(others, max_size=8)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None)
@given(texts, texts.filter(bool))
@example(*PAIRS[0])
@example(*PAIRS[1])
@example(*PAIRS[2])
def test_prompt_and_completion_are_the_plain_text(name, prompt, completion):
    assume(name not in SPACE_IS_THERE or not (prompt + completion).startswith((" ", "\n", "\t")))
    ours = backend(name)
    before, after = ours.pair_tokens(prompt, completion)
    assume(len(before) < tiny.CONTEXT - 8)
    asked = request(ours, prompt)
    assert before == list(asked.row.tokens)
    assert after[-1] == ours.tokenizer.eos_token_id
    assert ours.tokenizer.decode([*before, *after], skip_special_tokens=True) == prompt + completion
    assert shown(ours, asked, after[:-1]) == completion


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize(("prompt", "completion"), PAIRS)
def test_where_white_space_is_lost_both_are_what_the_tokenizer_makes_of_the_text(name, prompt, completion):
    ours = backend(name)
    if name == "words" and prompt and not prompt[-1:].isspace() and not completion[:1].isspace():
        pytest.skip("a word cannot be divided")
    before, after = ours.pair_tokens(prompt, completion)
    asked = request(ours, prompt)
    assert before == list(asked.row.tokens)
    whole = ours.tokenizer.decode(ours.tokenizer(prompt + completion)["input_ids"])
    assert ours.tokenizer.decode([*before, *after], skip_special_tokens=True) == whole
    text = shown(ours, asked, after[:-1])
    assert whole.endswith(text.strip()) and bool(text.strip()) == bool(completion.strip())
    assert not (prompt[-1:] == " " and text[:1] == " ")  # which would be shown twice


@pytest.mark.parametrize("name", [*WHOLE, *LOSSY])
def test_the_same_tokens_as_of_the_whole_text_where_they_can_be(name):
    ours = backend(name)
    prompt, completion = "the cat sat", " on the mat."
    before, after = ours.pair_tokens(prompt, completion)
    assert [*before, *after[:-1]] == ours.tokenizer(prompt + completion)["input_ids"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_continues_as_it_was_taught(name):
    """Prompts that end inside a word, with a space, and with nothing."""
    tokens = WHOLE[name]()
    ours = GPT2(tiny.model("gpt2", tokens), tokens)
    pairs = [Pair(*pair) for pair in [*PAIRS[:3], ("the cat\n", "    sat")]]
    options = ours.Training(block_size=48, batch_size=4, max_steps=60, learning_rate=1e-2, warmup_steps=5)
    list(trainer.train(ours.model.train(), ours.objective(options), ours.batches(pairs, options), options))
    said = list(ours.generate([p.prompt for p in pairs], do_sample=False, max_new_tokens=30))
    assert [(c.text, c.finish_reason) for c in said] == [(p.completion, "stop") for p in pairs]
    for pair in pairs:
        assert "".join(ours.stream(pair.prompt, do_sample=False, max_new_tokens=30)) == pair.completion


@pytest.mark.parametrize("prepend", ["normalizer", "metaspace", ""])
def test_bytes_at_the_end_of_a_prompt_do_not_spoil_the_text(prepend):
    """The last tokens of the prompt, with which a text is decoded, may begin within a character."""
    tokens = tiny.sentencepiece(prepend)
    text = "😁 a"
    after = tokens(text, add_special_tokens=False)["input_ids"][bool(prepend) :]  # without the ▁
    for n in range(5):
        characters = Detokenizer(tokens, tokens("😀😃😄" + "x" * n)["input_ids"])
        assert "".join(map(characters.push, after)) + characters.flush() == text


# Infilling


@pytest.mark.parametrize("prepend", ["normalizer", "metaspace", ""])
@pytest.mark.parametrize(("prompt", "suffix"), [("Na", "me: Anna"), ("今天", "气很好"), ("the ", " mat"), ("", "x")])
def test_what_follows_a_gap_has_no_space_put_before_it(prepend, prompt, suffix):
    tokens = tiny.sentencepiece(prepend, special=CODE_LLAMA)
    ours = Code(tiny.model("gpt2", tokens), tokens)
    ids = ours.prompt_tokens(prompt, ours.resolve(None, {"suffix": suffix}))
    first, after, middle = (ids.index(tokens.convert_tokens_to_ids(t)) for t in CODE_LLAMA)
    assert (first, middle) == (1, len(ids) - 1) and ids[0] == tokens.bos_token_id
    assert ids[2:after] == prompt_encoding.plain_ids(tokens, prompt)
    pieces = "".join(tokens.convert_ids_to_tokens(ids[after + 1 : middle])).replace("▁", " ")
    assert pieces.replace("<0x78>", "x") == suffix


@pytest.mark.parametrize("prepend", ["normalizer", "metaspace", ""])
def test_a_gap_is_learned_as_it_is_filled(prepend):
    tokens = tiny.sentencepiece(prepend, special=CODE_LLAMA)
    text, step = "the cat sat on the mat and the dog sat on the log. once upon a time", FillInTheMiddle(1.0, tokens)
    ids = np.array([*tokens(text)["input_ids"], *[tokens.eos_token_id]])
    names = [tokens.convert_tokens_to_ids(t) for t in CODE_LLAMA]
    for seed in range(20):
        made, _ = step(ids, ids, np.random.default_rng(seed))
        made = made.tolist()
        begin, before, after, middle = made[0], *(made.index(n) for n in names)
        assert begin == tokens.bos_token_id and before == 1 and after < middle
        parts = [made[before + 1 : after], made[after + 1 : middle], made[middle + 1 :]]
        head, tail, rest = ("".join(tokens.convert_ids_to_tokens(p)).replace("▁", " ") for p in parts)
        whole = f"{head}{rest.split('</s>')[0]}{tail}"  # a token or two shorter, for which the three have taken room
        assert whole.removeprefix(" ") in text and len(whole) > len(text) // 3


def test_a_long_prompt_of_a_gap_keeps_its_tokens():
    tokens = tiny.sentencepiece("normalizer", special=CODE_LLAMA)
    ours = Code(tiny.model("gpt2", tokens), tokens)
    first, after, middle = (tokens.convert_tokens_to_ids(t) for t in CODE_LLAMA)
    long = " the cat" * 60
    for prompt, suffix in [(long, " sat on"), ("the cat", " sat on" * 60), (long, " sat on" * 60)]:
        row = request(ours, prompt, suffix=suffix, truncate_prompt=True).row
        assert row.tokens[:2] == [tokens.bos_token_id, first] and row.tokens[-1] == middle
        assert row.tokens.count(after) == 1 and len(row.tokens) + row.limit <= tiny.CONTEXT
    row = request(ours, long, suffix=" sat on", truncate_prompt=True).row
    assert tokens.decode(row.tokens, skip_special_tokens=True).endswith("the cat sat on")


# BOS and EOS

EDGES = {  # what the tokenizer's own template puts around a text
    "nothing": None, "BOS": "<s> $A", "EOS": "$A </s>", "both": "<s> $A </s>",
}  # fmt: skip


@pytest.fixture(scope="module", params=EDGES)
def edged(request):
    tokens = tiny.sentencepiece("normalizer", template=False)
    if EDGES[request.param]:
        special = [(t, tokens.convert_tokens_to_ids(t)) for t in ("<s>", "</s>")]
        tokens.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=EDGES[request.param], pair="$A $B", special_tokens=special
        )
    return GPT2(tiny.model("llama", tokens), tokens), "<s>" in (EDGES[request.param] or "")


def test_one_rule_says_what_begins_and_ends_a_text(edged):
    ours, has_bos = edged
    tokens = ours.tokenizer
    bos, eos = tokens.bos_token_id, tokens.eos_token_id
    plain = [prompt_encoding.plain_ids(tokens, t) for t in ("the cat", "sat on")]
    # generation, and the prompts of pairs
    assert ours.prompt_tokens("the cat", ours.Options()) == [*[bos] * has_bos, *plain[0]]
    assert ours.prompt_tokens("", ours.Options()) == [bos]
    before, after = ours.pair_tokens("the cat", " sat on")
    assert before == [*[bos] * has_bos, *plain[0]] and after == [*plain[1], eos]
    # rows of training: single ones, and packed ones, streamed or not
    rows = [[bos, *ids, eos] for ids in plain]
    encoder = ours.encoder(ours.Training(block_size=8))
    assert [(list(r.ids), r.masked) for r in encoder.rows(["the cat", "sat on"])] == [(row, 1) for row in rows]
    joined = rows[0] + rows[1]
    assert encode(tokens, ["the cat", "sat on"], eos, encoder.begin).tolist() == joined
    packed = ours.batches(["the cat", "sat on"] * 40, ours.Training(block_size=8, batch_size=1))
    assert packed.tokens.tolist() == joined * 40
    streamed = [i for row in encoder.packed(["the cat", "sat on"] * 40) for i in row.ids]
    assert streamed == (joined * 40)[: len(streamed)] and len(streamed) > 8
    # scoring
    [score] = ours.score(["the cat"])
    ids = torch.tensor([rows[0]])
    with torch.no_grad():
        loss = ours.model(input_ids=ids, labels=ids).loss.item()
    assert score.nll / score.tokens == pytest.approx(loss, rel=1e-5) and score.tokens == len(rows[0]) - 1


def test_what_is_cut_on_the_left_keeps_what_the_template_puts_there(edged):
    ours, has_bos = edged
    bos, long = ours.tokenizer.bos_token_id, "the cat sat on the mat " * 40
    row = request(ours, long, truncate_prompt=True).row
    assert len(row.tokens) == tiny.CONTEXT - 8 and (row.tokens[0] == bos) is has_bos
    assert ours.tokenizer.decode(row.tokens, skip_special_tokens=True).endswith("sat on the mat")
    encoder = ours.encoder(ours.Training(block_size=16))
    [pair] = encoder.rows([Pair(long, "and the dog")])
    assert len(pair.ids) == 16 and (pair.ids[0] == bos) is has_bos
    rows = list(encoder.rows([long]))
    assert len(rows) > 2 and all((r.ids[0] == bos) is (has_bos or n == 0) for n, r in enumerate(rows))
    learned = [i for r in rows for i in list(r.ids)[r.masked :]]
    assert learned == [*prompt_encoding.plain_ids(ours.tokenizer, long), ours.tokenizer.eos_token_id]
    assert all(len(r.ids) <= 16 for r in rows)


def test_every_window_of_a_long_text_begins_as_the_template_says(edged):
    ours, has_bos = edged
    text = "the cat sat on the mat " * 40
    ids = [ours.tokenizer.bos_token_id, *prompt_encoding.plain_ids(ours.tokenizer, text), ours.tokenizer.eos_token_id]
    expected, done, size = [], 1, 16
    for end in [size, *range(size + size // 2, len(ids), size // 2), len(ids)]:
        window = ids[max(0, end - size) : end]
        if has_bos and end > size:
            window = [ids[0], *window[1:]]
        with torch.no_grad():
            chances = ours.model(torch.tensor([window])).logits[0].log_softmax(-1)
        nll = [-float(chances[n, i]) for n, i in enumerate(window[1:])]
        expected, done = expected + nll[len(nll) - (end - done) :], end
    [score] = ours.score([text], context=size)
    assert [t.nll for t in score.per_token] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_token_that_ends_one_text_and_begins_the_next_stands_there_once():
    ours = backend("bytes")
    end = ours.tokenizer.eos_token_id
    encoder = ours.encoder(ours.Training(block_size=8))
    ids = prompt_encoding.plain_ids(ours.tokenizer, "the cat")
    assert encoder.begin == [end]
    assert encode(ours.tokenizer, ["the cat"] * 2, end, encoder.begin).tolist() == [*ids, end] * 2
