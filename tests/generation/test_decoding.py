"""Whole characters, stop strings, order, limits; the same text in every batch."""

import random
import re

import pytest
import tiny
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from aigc_text import load
from aigc_text.backends.hf.prompt_requests import RequestBuilder
from aigc_text.errors import OptionError
from aigc_text.generation.decoding import Budget, in_order
from aigc_text.generation.detokenizer import Detokenizer
from aigc_text.generation.stop_strings import StopMatcher, stops
from aigc_text.models.causal_lm import GPT2
from aigc_text.outputs import Completion, Piece

TOKENS = tiny.tokenizer()


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return load("gpt2", str(tiny.save("gpt2", tmp_path_factory.mktemp("decoding") / "model")))


# Characters


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, len(TOKENS) - 1), max_size=30))
def test_pieces_joined_are_the_whole_decoded(ids):
    characters = Detokenizer(TOKENS)
    pieces = [characters.push(i) for i in ids]
    assert "".join(pieces) + characters.flush() == TOKENS.decode(ids, skip_special_tokens=True)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_no_piece_is_half_a_character(text):
    ids = TOKENS(text)["input_ids"]
    characters = Detokenizer(TOKENS)
    shown = ""
    for i in ids:
        shown += characters.push(i)
        assert text.startswith(shown) or "\ufffd" in text
    assert shown + characters.flush() == text


def test_an_emoji_of_several_tokens_comes_at_once():
    ids = TOKENS("🦄")["input_ids"]
    characters = Detokenizer(TOKENS, TOKENS("a ")["input_ids"])
    assert len(ids) > 1
    assert [characters.push(i) for i in ids] == [""] * (len(ids) - 1) + ["🦄"]


def test_bytes_that_never_make_a_character_come_at_the_end():
    first = TOKENS("🦄")["input_ids"][0]
    characters = Detokenizer(TOKENS)
    assert characters.push(first) == ""
    assert characters.flush() == "\ufffd"


# Stop strings


def cut(text, strings):
    """The reference: the first completed stop string ends the text; of two completed at once, the longer."""
    for end in range(1, len(text) + 1):
        ended = [s for s in strings if text[:end].endswith(s)]
        if ended:
            return text[: end - max(map(len, ended))], True
    return text, False


@settings(max_examples=1000, deadline=None)
@given(
    st.text("ab\n", max_size=20),
    st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3),
    st.randoms(),
)
def test_the_text_is_cut_the_same_however_it_is_divided(text, strings, draw):
    matcher, shown, stopped, rest = StopMatcher(strings), "", False, text
    expected, ends = cut(text, strings)
    while rest and not stopped:
        n = draw.randint(1, len(rest))
        part, stopped = matcher.push(rest[:n])
        shown, rest = shown + part, rest[n:]
        assert expected.startswith(shown)  # nothing is shown that a stop string takes back
    assert (shown if stopped else shown + matcher.flush(), stopped) == (expected, ends)


def test_half_a_stop_string_is_held_back_and_given_at_the_end():
    matcher = StopMatcher(["END"])
    assert matcher.push("the EN") == ("the ", False)
    assert matcher.push("emy") == ("ENemy", False)
    assert matcher.push("E") == ("", False)
    assert matcher.flush() == "E"


def test_stop_strings_across_tokens_are_never_shown(backend):
    whole = next(iter(backend.generate(["the cat"], max_new_tokens=30, seed=4, do_sample=True))).text
    for place in range(2, len(whole) - 4, 5):
        stop = whole[place : place + 4]
        pieces = list(backend.pieces(["the cat"], max_new_tokens=30, seed=4, do_sample=True, stop_strings=(stop,)))
        made = pieces[-1].completion
        assert "".join(p.text for p in pieces) == made.text == whole[: whole.index(stop)]
        assert made.finish_reason == "stop"


# Stop strings that name special tokens, which are not shown


MARKED = ("<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="module")
def chatty():
    """A model that ends each answer with a special token which ends no text."""
    from aigc_text.data.sources import Pair
    from aigc_text.training import trainer

    tokens = tiny.tokenizer(MARKED)
    made = GPT2(tiny.model("gpt2", tokens), tokens)
    pairs = [Pair("Hi<|im_end|>", "the cat\n<|im_start|>a dog<|im_end|> sat"), Pair("Ho<|im_end|>", "a king<|im_end|>")]
    options = made.Training(block_size=48, batch_size=2, max_steps=80, learning_rate=1e-2, warmup_steps=5)
    list(trainer.train(made.model.train(), made.objective(options), made.batches(pairs, options), options))
    return made


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("<|im_start|>",), "the cat\n"),
        (("\n<|im_start|>",), "the cat"),
        (("<|im_start|>a dog",), "the cat\n"),
        (("dog<|im_end|>",), "the cat\na "),
        (("<|im_start|>king", "<|im_end|>"), "the cat\na dog"),
        (("\na dog",), "the cat"),  # special tokens between are passed over
        (("cat\n<|im_end|>",), "the cat\na dog sat"),
        (("d", "<|im_start|>"), "the cat\n"),
        (("sat<|endoftext|>",), "the cat\na dog "),
    ],
)
@pytest.mark.parametrize("how", [{}, {"num_beams": 2}, {"batch_size": 1}], ids=str)
def test_a_stop_string_may_name_special_tokens(chatty, stop, text, how):
    beside = {} if "num_beams" in how else {"Ho<|im_end|>": "a king"}
    options = {"stop_strings": stop, "max_new_tokens": 30, "do_sample": False, **how}
    first, *_ = chatty.generate(["Hi<|im_end|>", *beside], **options)
    assert (first.text, first.finish_reason) == (text, "stop")
    options.pop("batch_size", None)
    assert "".join(chatty.stream("Hi<|im_end|>", **options)) == text


def test_the_other_engine_stops_at_special_tokens_too(chatty, tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    chatty.save_pretrained(tmp_path / "model")
    theirs = load("gpt2", str(tmp_path / "model"), engine="ctranslate2")
    for stop, text in (("<|im_start|>a dog", "the cat\n"), ("dog<|im_end|>", "the cat\na "), ("\na dog", "the cat")):
        (made,) = theirs.generate(["Hi<|im_end|>"], stop_strings=(stop,), max_new_tokens=30, do_sample=False)
        assert (made.text, made.finish_reason) == (text, "stop")


def test_a_special_token_spelled_by_others_stops_too(chatty):
    strings = stops(chatty.tokenizer, ["<|im_start|>"]).strings
    assert StopMatcher(strings).push("a <|im_start|> b") == ("a ", True)


pieces_of_text = st.lists(st.sampled_from(["a", "b", "\n", *MARKED]), max_size=12)


@settings(max_examples=500, deadline=None)
@given(pieces_of_text, st.lists(st.lists(st.sampled_from(["a", "b", *MARKED]), min_size=1, max_size=4), max_size=3))
@example(["<|im_start|>", "<|im_end|>", "<|im_start|>"], [["<|im_start|>", "<|im_start|>"]])  # across one not named
def test_texts_with_special_tokens_are_cut_at_the_first_stop_string(made, wanted):
    """Against a reference that looks at all of the text, with special tokens and without them."""
    prepared = stops(TOKENS_WITH_MARKS, ["".join(w) for w in wanted])
    matcher, shown, stopped = StopMatcher(prepared.strings), "", False
    ids = {name: TOKENS_WITH_MARKS.convert_tokens_to_ids(name) for name in MARKED}
    for piece in made:
        grown = prepared.marks.get(ids[piece], "") if piece in MARKED else piece
        part, stopped = matcher.push(grown)
        shown += part
        if stopped:
            break
    shown += "" if stopped else matcher.flush()
    assert (shown, stopped) == _first_stop(made, wanted)


def _first_stop(made, wanted):
    for end in range(1, len(made) + 1):
        starts = []
        for stop in wanted:
            if set(stop) & set(MARKED):
                if made[end - len(stop) : end] == stop and end >= len(stop):
                    starts.append(end - len(stop))
                continue
            places = [n for n in range(end) if made[n] not in MARKED]
            last = places[-len(stop) :]
            if made[end - 1] not in MARKED and [made[n] for n in last] == stop:
                starts.append(last[0])
        if starts:
            return "".join(p for p in made[: min(starts)] if p not in MARKED), True
    return "".join(p for p in made if p not in MARKED), False


TOKENS_WITH_MARKS = tiny.tokenizer(MARKED)


# Order


def piece(i, j, text, last=False):
    done = Completion(prompt="", text=text, prompt_index=i, index=j) if last else None
    return Piece(prompt_index=i, index=j, text=text, completion=done)


def test_texts_come_one_after_the_other():
    places = [(i, j) for i in range(3) for j in range(2)]
    coming = [piece(i, j, f"{i}{j}{n}", n == 2) for n in range(3) for i, j in reversed(places)]
    given_back = [p.text for p in in_order(coming, 2)]
    assert given_back == [f"{i}{j}{n}" for i, j in places for n in range(3)]


def test_the_first_text_is_not_held_back():
    seen = []

    def coming():
        yield piece(0, 0, "a")
        seen.append("asked again")
        yield piece(0, 0, "b", True)

    assert next(in_order(coming(), 1)).text == "a" and seen == []


# The same text in every batch


WORDS = ["the", "cat", "sat", "on", "a", "mat", "once", "upon", "time", "king"]
PROMPTS = [" ".join(random.Random(n).choices(WORDS, k=n % 9 + 1)) for n in range(40)]


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True},
        {"do_sample": True, "top_k": 5, "temperature": 1.4, "repetition_penalty": 1.3},
        {"do_sample": True, "no_repeat_ngram_size": 2, "top_p": 0.9},
        {"do_sample": False},
        {"num_beams": 3, "do_sample": False},
    ],
    ids=str,
)
def test_batch_size_never_changes_the_text(backend, options):
    def texts(size):
        return [c.text for c in backend.generate(PROMPTS, max_new_tokens=10, seed=3, batch_size=size, **options)]

    alone = texts(1)
    assert len(set(alone)) > 5
    for size in (2, 4, 7):
        assert texts(size) == alone


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_order_of_work_never_changes_the_text(dtype, tmp_path):
    backend = load("gpt2", str(tiny.save("gpt2", tmp_path / "m")), dtype=dtype)
    options = backend.resolve(None, {"max_new_tokens": 8, "seed": 11, "do_sample": True, "num_return_sequences": 3})
    expected = {(c.prompt_index, c.index): c.text for c in backend.generate(PROMPTS, options, batch_size=1)}
    places = [(i, j, PROMPTS[i]) for i, j in expected]
    for size in (2, 4, 7):
        random.Random(size).shuffle(places)
        made = {
            (p.prompt_index, p.index): p.completion
            for p in backend.decode(places, options, Budget(size))
            if p.completion
        }
        assert all(c.exact for c in made.values())
        assert {k: c.text for k, c in made.items()} == expected


def test_a_share_of_the_work_gives_the_same_texts(backend):
    options = backend.resolve(None, {"max_new_tokens": 8, "seed": 5, "do_sample": True})
    expected = [c.text for c in backend.generate(PROMPTS, options)]
    share = [(i, 0, PROMPTS[i]) for i in range(1, 40, 2)]
    made = {p.prompt_index: p.completion.text for p in backend.decode(share, options) if p.completion}
    assert made == {i: expected[i] for i in range(1, 40, 2)}


def test_greedy_text_is_that_of_transformers_generate(backend):
    for prompt in PROMPTS[:10]:
        ids = torch.tensor([backend.tokenizer(prompt)["input_ids"]])
        plain = backend.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        expected = backend.tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True)
        assert next(iter(backend.generate([prompt], do_sample=False, max_new_tokens=12))).text == expected


def test_a_model_saved_without_its_cache_gives_the_same_text(backend, tmp_path):
    backend.model.generation_config.use_cache = backend.model.config.use_cache = False
    backend.save_pretrained(tmp_path / "saved")
    backend.model.generation_config.use_cache = backend.model.config.use_cache = True
    without = load("gpt2", str(tmp_path / "saved"))
    made = [[c.text for c in b.generate(PROMPTS[:5], max_new_tokens=12, seed=1)] for b in (backend, without)]
    assert made[0] == made[1]


def test_sampled_tokens_follow_the_model(backend):
    """First tokens of many samples against the model's own probabilities."""
    ids = torch.tensor([backend.tokenizer("the cat")["input_ids"]])
    wanted = backend.model(ids).logits[0, -1].detach().softmax(-1)
    # The likeliest token that has a text of its own; halves of characters all look alike.
    top = next(i for i in wanted.argsort(descending=True).tolist() if backend.tokenizer.decode([i]).isalpha())
    options = {
        "max_new_tokens": 1,
        "do_sample": True,
        "top_k": 0,
        "top_p": 1.0,
        "num_return_sequences": 3000,
        "seed": 1,
    }
    made = [c.text for c in backend.generate(["the cat"], batch_size=500, **options)]
    share = made.count(backend.tokenizer.decode([top])) / 3000
    assert share == pytest.approx(float(wanted[top]), abs=0.03)


# White space at the end of a prompt


@pytest.mark.parametrize("white", [" ", "\n", "\n    ", " \n\t ", "  "])
@pytest.mark.parametrize("options", [{"do_sample": True, "seed": 3}, {"do_sample": False}, {"num_beams": 2}], ids=str)
def test_a_text_goes_on_after_the_prompts_white_space(backend, white, options):
    """The model sees the prompt without it, and begins with it: what is shown is the rest."""
    [healed] = backend.generate([f"the cat{white}"], max_new_tokens=10, **options)
    places, resolved = [(0, 0, f"the cat{white}")], backend.resolve(None, {"max_new_tokens": 10, **options})
    engine = backend.engine()
    config = backend.generation_config(engine, resolved)
    row = RequestBuilder(backend, engine, config, resolved, 3).build(places[0]).row
    assert backend.tokenizer.decode(row.tokens) == "the cat"
    made = engine.beams(row, backend.generation_config(engine, resolved))[0] if "num_beams" in options else None
    if made is not None:
        whole = backend.tokenizer.decode([e.token for e in made], skip_special_tokens=True)
        assert whole == white + healed.text
    assert healed.prompt == f"the cat{white}"
    allowed = row.allowed([])
    assert allowed.any() and not allowed.all()


@pytest.mark.parametrize("options", [{"do_sample": False}, {"num_beams": 2}], ids=str)
def test_white_space_that_is_no_token_is_not_held_back(options):
    """Nothing could begin with it, so beams failed and a text lost its first character."""
    core = Tokenizer(models.BPE({"<end>": 0, "a": 1, "b": 2, "Ġb": 3}, []))
    core.decoder, core.pre_tokenizer = decoders.ByteLevel(), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    backend = GPT2(tiny.model("gpt2", tokens), tokens)
    assert backend.held_back("a b\t", backend.Options()) == ""
    [made] = backend.generate(["a b\t"], max_new_tokens=4, min_new_tokens=4, **options)
    assert len(made.text) >= 4


def test_a_tokenizers_seam_does_not_show():
    """A model that learnt one text by heart goes on from every cut of it, also after white space."""
    from aigc_text.api import from_scratch
    from aigc_text.options.training import TrainingOptions
    from aigc_text.training.trainer import train

    text = "def f(x):\n    return x\n\ndef g(y):\n    return y\n\n" * 3
    made = from_scratch("code", [text], vocab_size=290, n_layer=1, n_embd=32, n_head=2, n_positions=64)
    options = TrainingOptions(max_steps=150, learning_rate=1e-2, batch_size=4, block_size=32, precision="fp32")
    list(train(made.model.train(), made.objective(options), made.batches([text] * 4, options), options))
    for cut in ("def f(x):", "def f(x):\n", "def f(x):\n    "):
        [done] = made.generate([cut], do_sample=False, max_new_tokens=12)
        assert re.fullmatch(r"def f\(x\):\n    return [xy]\n", cut + done.text)  # and there the function ends


# Limits


def test_a_prompt_longer_than_the_context_gives_both_lengths(backend):
    with pytest.raises(OptionError, match=r"prompt 2 has \d+ tokens, the context is 64"):
        list(backend.generate(["the cat", "the cat sat " * 40], max_new_tokens=4))


def test_a_long_prompt_is_cut_on_its_left(backend):
    long = "the dog " * 40 + "the cat sat"
    made = list(backend.generate([long], max_new_tokens=4, truncate_prompt=True, do_sample=False))[0]
    assert made.prompt == long and 0 < made.tokens <= 4
    kept = backend.tokenizer(long)["input_ids"][-60:]
    plain = backend.model.generate(torch.tensor([kept]), do_sample=False, max_new_tokens=4)
    assert made.text == backend.tokenizer.decode(plain[0, 60:], skip_special_tokens=True)


def test_texts_end_where_the_context_ends(backend):
    prompts = ["the cat sat on", "a"]
    made = list(backend.generate(prompts, max_new_tokens=500, seed=2, do_sample=True, batch_size=2))
    for c in made:
        used = len(backend.tokenizer(c.prompt)["input_ids"]) + c.tokens
        assert used == 64 if c.finish_reason == "length" else used <= 64


def test_what_cannot_be_promised_says_so(tmp_path):
    backend = load("gpt2", str(tiny.save("gpt2", tmp_path / "m")), dtype="fp16")
    assert not next(iter(backend.generate(["a"], max_new_tokens=2, seed=1))).exact
