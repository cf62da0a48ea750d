"""A model's files before anything is made of them; and what was found to be wrong with mutants of them."""

import json
import os
import struct
import threading

import pytest
import tiny

from aigc_text import load
from aigc_text.errors import ModelError
from aigc_text.hub import model_files
from aigc_text.utils import file_descriptors


@pytest.fixture
def folder(tmp_path):
    return tiny.save("gpt2", tmp_path / "model")


def weights(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def change(path, edit):
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))


def test_a_header_tells_all_shapes(folder):
    found = model_files.header(folder / "model.safetensors")
    assert found["transformer.wte.weight"] == (300, 32) and len(found) == 28


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "header too small"),
        (b"\xff" * 8, "header too large"),
        (
            weights({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
            "invalid shape, data type",
        ),
        (
            weights({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
            "invalid offset",
        ),
        (weights({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"123"), "file not fully covered"),
        (weights({"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}}, b"1234"), "unknown variant"),
        (weights({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}), "expected usize"),
        (weights({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, b"1234"), "expected usize"),
        (weights({"a": 3}), "expected struct TensorInfo"),
        (weights([1]), "invalid JSON in header"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "invalid JSON in header"),
    ],
)
def test_a_broken_header_is_one_error(tmp_path, raw, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=says) as caught:
        model_files.header(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("field", ["attn_pdrop", "resid_pdrop", "embd_pdrop", "n_head", "n_layer"])
@pytest.mark.parametrize("value", [-1, 1e308, float("nan"), float("inf")])
def test_numbers_that_a_text_would_trip_over(folder, field, value):
    change(folder / "config.json", lambda c: c.update({field: value}))
    with pytest.raises(ModelError, match=f"{field} cannot be|is no number of JSON"):
        load("gpt2", str(folder))


def test_a_model_that_cannot_take_a_single_token_is_named(folder):
    backend = load("gpt2", str(folder))
    backend.model.transformer.h[0].attn.num_heads = 3
    backend.model.transformer.h[0].attn.head_dim = -7
    with pytest.raises(ModelError, match="fails when it is run"):
        list(backend.generate(["a"], max_new_tokens=2, seed=1))


def test_a_fault_of_ours_stays_ours(folder, monkeypatch):
    backend = load("gpt2", str(folder))
    monkeypatch.setattr("aigc_text.generation.decoding.decode", lambda *_: iter(1 / 0 for _ in "a"))
    with pytest.raises(ZeroDivisionError):
        list(backend.generate(["a"], max_new_tokens=2, seed=1))


def test_a_tokenizer_that_panics_is_one_error_and_silent(folder, capfd):
    change(folder / "tokenizer.json", lambda t: t["model"].update(continuing_subword_prefix="a" * 5000))
    with file_descriptors.owned(), pytest.raises(ModelError):
        load("gpt2", str(folder))
    assert "panicked" not in capfd.readouterr().err


def test_a_tokenizer_with_more_words_than_the_model(folder):
    def edit(tree):
        word = next(w for w in tree["model"]["vocab"] if w.isalpha())
        tree["model"]["vocab"][word] = 10_000

    change(folder / "tokenizer.json", edit)
    with pytest.raises(ModelError, match="has the number 10000, the model has 300 tokens"):
        load("gpt2", str(folder))


def test_what_is_written_to_standard_error_is_kept_where_nothing_panics(capfd):
    with file_descriptors.owned(), file_descriptors.panics_muted():
        os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


@pytest.mark.parametrize("diverting", [file_descriptors.panics_muted, file_descriptors.to_standard_error])
def test_a_process_that_is_not_ours_keeps_its_descriptors(capfd, diverting):
    before = [os.fstat(n).st_ino for n in (1, 2)]
    with diverting():
        assert [os.fstat(n).st_ino for n in (1, 2)] == before
        print("printed")
    assert capfd.readouterr().out == "printed\n"


def test_one_thread_at_a_time_diverts_and_the_others_pass(capfd):
    """Whoever began first puts the descriptors back last, so nobody may save a descriptor that is diverted."""
    inside, over = threading.Event(), threading.Event()

    def first():
        with file_descriptors.to_standard_error():
            inside.set()
            over.wait(5)

    def second():
        inside.wait(5)
        with file_descriptors.to_standard_error():
            over.set()
            thread.join(5)

    before = [os.fstat(n).st_ino for n in (1, 2)]
    thread = threading.Thread(target=first)
    with file_descriptors.owned():
        thread.start()
        second()
    assert [os.fstat(n).st_ino for n in (1, 2)] == before


def test_ends_of_a_text_that_the_model_does_not_have_are_no_error(folder):
    change(folder / "config.json", lambda c: c.update(bos_token_id=50256, eos_token_id=50256, pad_token_id=-1))
    (folder / "generation_config.json").unlink()
    load("gpt2", str(folder))
