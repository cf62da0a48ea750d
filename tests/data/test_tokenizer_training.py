"""A trained tokenizer gives every text back, and the same data gives the same tokenizer."""

import os
import subprocess
import sys

import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigc_text.api import from_scratch
from aigc_text.data.tokenizer_training import (
    END,
    INFILLING,
    KINDS,
    UNKNOWN,
    infilling_tokens,
    train,
    train_bpe,
    unknown_token,
)
from aigc_text.errors import ModelError, OptionError
from aigc_text.generation.detokenizer import Detokenizer

TEXTS = ["the cat sat on the mat", "the dog saw the cat", "从前有一座山,山里有座庙", "def f(x):\n    return x\n"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(TEXTS, 300, context=64, special=["<|gap|>"])


@pytest.fixture(scope="module")
def characters():
    return train("char", TEXTS, context=64, special=["<|gap|>"])


@pytest.fixture(scope="module")
def words():
    return train("word", TEXTS, context=64, special=["<|gap|>"])


@settings(max_examples=200, deadline=None)
@given(st.text())
@example("  two  spaces \n\n\ttabs ")
@example("😀👩\u200d👧 从前 \x00\x1b\u202e")
@example("'s don't , .")
@example(f"a{END} b <|gap|> c")
def test_any_text_comes_back(tokenizer, characters, text):
    for either in (tokenizer, characters):
        assert either.decode(either(text)["input_ids"]) == text


def test_the_end_of_text_is_one_token_with_three_duties(tokenizer):
    end = tokenizer.convert_tokens_to_ids(END)
    assert tokenizer(END)["input_ids"] == [end]
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == end
    assert tokenizer.decode([end], skip_special_tokens=True) == ""


def test_further_special_tokens_are_one_token_each(tokenizer):
    ids = tokenizer("a<|gap|>b")["input_ids"]
    assert len(ids) == 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab"


def test_nothing_is_added_to_a_text(tokenizer):
    assert tokenizer("")["input_ids"] == []
    assert tokenizer("z")["input_ids"] == [tokenizer.convert_tokens_to_ids("z")]


def test_sizes_are_kept(tokenizer):
    assert len(tokenizer) == 300
    assert tokenizer.model_max_length == 64
    assert len(tokenizer("the cat")["input_ids"]) < len("the cat")  # it has learnt merges


@pytest.mark.parametrize("size", [257, 300])
def test_two_trainings_give_the_same_file(tmp_path, size):
    for name in ("a", "b"):
        train_bpe(iter(TEXTS), size).save_pretrained(tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert "tokenizer.json" in files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_padding_goes_to_the_left_and_survives_saving(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    for either in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        padded = either(["z", "z z z z"], padding=True)
        assert padded["input_ids"][0][0] == either.pad_token_id
        assert padded["attention_mask"][0][-1] == 1
        assert either.decode(either("  a  b")["input_ids"]) == "  a  b"


def _tokens(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_every_character_seen_is_one_token(characters):
    for text in TEXTS:
        assert len(characters(text)["input_ids"]) == len(text)
    assert len(characters("庙鬼")["input_ids"]) == 1 + len("鬼".encode())
    assert len(characters) == 2 + 256 + len({c for t in TEXTS for c in t if c > "\x7f"})
    assert characters.model_max_length == 64


def test_the_most_frequent_characters_are_in_a_small_vocabulary():
    small = train("char", ["山里有座庙", "山里", "山"], 256 + 1 + 2)
    assert len(small) == 259
    assert [len(small(c)["input_ids"]) for c in "山里有a"] == [1, 1, 3, 1]


def test_words_are_what_white_space_divides_and_line_breaks(words):
    assert _tokens(words, "the cat\n\n\tsaw  山里有座庙") == ["the", "cat", "\n", "\n", "saw", UNKNOWN]
    assert _tokens(words, f"the {UNKNOWN} cat{END}dog <|gap|>") == ["the", UNKNOWN, "cat", END, "dog", "<|gap|>"]
    assert words.decode(words(" the  cat \n\n on the mat \n")["input_ids"]) == "the cat\n\non the mat\n"


def test_the_most_frequent_words_are_in_a_small_vocabulary():
    small = train("word", ["a b a", "b a c"], 4)
    assert sorted(small.get_vocab()) == sorted([END, UNKNOWN, "a", "b"])
    assert len(train("word", ["a b a", "b a c"])) == 5


def test_an_unknown_word_is_shown(words):
    assert words.decode(words("the zebra sat")["input_ids"], skip_special_tokens=True) == f"the {UNKNOWN} sat"


def test_only_a_word_tokenizer_has_an_unknown_token(tokenizer, characters, words):
    assert unknown_token(words) == words.get_vocab()[UNKNOWN]
    assert unknown_token(tokenizer) is unknown_token(characters) is None
    like_gpt2 = train_bpe(TEXTS, 300)
    like_gpt2.unk_token = END
    assert unknown_token(like_gpt2) is None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 10**6)), st.integers(0, 12))
def test_the_pieces_of_a_text_are_the_text(tokenizer, characters, words, kind, ids, prompt):
    chosen = {"bpe": tokenizer, "char": characters, "word": words}[kind]
    ids = [i % len(chosen) for i in ids]
    stream = Detokenizer(chosen, ids[:prompt])
    streamed = "".join(stream.push(i) for i in ids[prompt:]) + stream.flush()
    if kind == "word":  # the others may be cut within a character, where neither decoding is the right one
        whole = chosen.decode(ids, skip_special_tokens=True)
        assert chosen.decode(ids[:prompt], skip_special_tokens=True) + streamed == whole
    elif not prompt:
        assert streamed == chosen.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_saving(kind, tmp_path):
    from transformers import AutoTokenizer

    made = train(kind, TEXTS, special=["<|gap|>"])
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "the cat\n saw 鬼 <|gap|>"
    assert again(text)["input_ids"] == made(text)["input_ids"]
    for skip in (True, False):
        assert again.decode(made(text)["input_ids"], skip_special_tokens=skip) == made.decode(
            made(text)["input_ids"], skip_special_tokens=skip
        )
    assert again.eos_token_id == again.pad_token_id == made.eos_token_id
    assert unknown_token(again) == unknown_token(made)


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_trains_the_same_file(kind, tmp_path):
    code = (
        "import sys; from aigc_text.data.tokenizer_training import train; "
        "train(sys.argv[1], sys.argv[2:]).save_pretrained(%r)"
    )
    texts = [*TEXTS, "一 二 三 四 五 ab ba ab ba"]
    running = [
        subprocess.Popen([sys.executable, "-c", code % str(tmp_path / n), kind, *texts], env={**os.environ, **hashing})
        for n, hashing in (("a", {"PYTHONHASHSEED": "1"}), ("b", {"PYTHONHASHSEED": "2"}))
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(OptionError, match="no tokenizer 'chars' can be trained. Did you mean 'char'") as refused:
        train("chars", TEXTS)
    assert refused.value.cure == "Allowed: bpe, word, char"


@pytest.mark.parametrize("names", INFILLING, ids=lambda n: n[0])
def test_tokens_to_fill_in_the_middle_are_found(names):
    made = train("bpe", TEXTS, 300, special=names)
    assert infilling_tokens(made) == tuple(made.convert_tokens_to_ids(list(names)))
    assert infilling_tokens(train_bpe(TEXTS, 300, special=names[:2])) is None


SIZES = {"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 16}


def test_a_model_from_scratch_takes_each_kind_or_a_given_tokenizer(tmp_path, words):
    for kind in KINDS:
        assert len(from_scratch("gpt2", TEXTS, tokenizer=kind, **SIZES).tokenizer) == len(train(kind, TEXTS))
    words.save_pretrained(tmp_path / "tokens")  # without any model
    for given_one in (str(tmp_path / "tokens"), words, str(tiny.save("gpt2", tmp_path / "model"))):
        made = from_scratch("gpt2", [], tokenizer=given_one, infilling=True, **SIZES)
        assert made.model.config.vocab_size == len(made.tokenizer)
        assert made.tokenizer("".join(INFILLING[0]))["input_ids"] == list(infilling_tokens(made.tokenizer))


@pytest.mark.parametrize("name", ["folder", "no folder", "hub", "no name"])
def test_a_tokenizer_that_is_not_there_is_refused(name, tmp_path):
    wanted = {
        "folder": (str(tmp_path), "holds no tokenizer"),
        "no folder": (str(tmp_path / "x"), "holds no tokenizer"),
        "hub": ("nobody/nothing", "neither a folder nor in the cache"),
        "no name": ("a b", "is no tokenizer"),
    }[name]
    with pytest.raises(ModelError, match=wanted[1]) as refused:
        from_scratch("gpt2", TEXTS, tokenizer=wanted[0], **SIZES)
    assert "bpe" in refused.value.cure


def test_a_broken_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be loaded"):
        from_scratch("gpt2", TEXTS, tokenizer=str(tmp_path), **SIZES)


def test_a_given_tokenizer_has_its_own_size(words):
    with pytest.raises(OptionError, match="vocab_size 300 is for a tokenizer that is trained"):
        from_scratch("gpt2", TEXTS, tokenizer=words, vocab_size=300, **SIZES)
