"""A trained tokenizer gives every text back, and the same data gives the same tokenizer."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigc_text.tokenizer import END, train_bpe

TEXTS = ["the cat sat on the mat", "the dog saw the cat", "从前有一座山,山里有座庙", "def f(x):\n    return x\n"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(TEXTS, 300, context=64, special=["<|gap|>"])


@settings(max_examples=200, deadline=None)
@given(st.text())
@example("  two  spaces \n\n\ttabs ")
@example("😀👩\u200d👧 从前 \x00\x1b\u202e")
@example("'s don't , .")
@example(f"a{END} b <|gap|> c")
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text


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
