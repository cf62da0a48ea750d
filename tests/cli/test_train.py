"""`aigc-text train`: what it refuses before anything is loaded."""

import pytest
from commands import file


@pytest.mark.parametrize(
    ("name", "content", "words", "says"),
    [
        ("d.txt", "", [], ["d.txt holds no text"]),
        ("d.txt", b"\xff", [], ["d.txt:1 is not UTF-8"]),
        ("d.jsonl", '{"body": "a", "id": 1}', [], ["no column 'text'", "Columns found: body, id", "--text-column"]),
        ("d.jsonl", "{", [], ["d.jsonl:1 is not valid JSON"]),
        ("d.csv", 'text\n"a', [], ["d.csv:2 is not valid CSV", "never closed"]),
        ("d.txt", "a", ["--data", "*.none"], ["no file matches *.none"]),
        ("d.txt", "a", ["--data", "owner/none"], ["'owner/none' is neither a file", 'load_dataset("owner/none")']),
        ("d.txt", "too little", [], ["fewer than one block of 64", "--block-size"]),
        ("d.txt", "a", ["--block-size", "65"], ["block_size 65 is more than the model's context of 64"]),
        ("d.txt", "a", ["--batch-size", "0"], ["batch_size cannot be 0"]),
        ("d.txt", "a", ["--optimizer", "lion"], ["optimizer cannot be 'lion'", "adamw, muon"]),
        ("d.txt", "a", ["--learning-rat", "1"], ["--learning-rat", "--learning-rate"]),
        ("d.txt", "a", ["-o", "n_layer=1"], ["tensor(s) unexpected", "do not belong"]),
    ],
)
def test_train_refuses(refused, tmp_path, tiny_gpt2, name, content, words, says):
    data = file(tmp_path, name, content)
    refused("train", "--model", tiny_gpt2, "--data", data, "--output", tmp_path / "out", *words, says=says)


def test_training_without_its_data_is_refused(refused, tmp_path, tiny_gpt2):
    words = ["train", "--model", tiny_gpt2, "--output", tmp_path / "out"]
    refused(*words, says=["--data"])
    refused(*words, "--data", tmp_path / "none.txt", says=["none.txt does not exist"])
    words[2] = tmp_path / "no-model"  # the data is looked at before the model
    refused(*words, "--data", tmp_path / "none.txt", says=["none.txt does not exist"])


@pytest.mark.parametrize("from_scratch", [[], ["--from-scratch"]])
def test_training_a_backend_that_cannot_train_is_refused(refused, tmp_path, plain, from_scratch):
    words = ["train", "--backend", plain("Plain"), "--data", file(tmp_path, "d.txt", "a b c"), *from_scratch]
    refused(*words, "--output", tmp_path / "out", says=["plain.py:Plain' cannot be trained", "aigc-text backends"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "n_layers=2"], ["no field 'n_layers'", "Did you mean 'n_layer'?"]),
        (["-o", "n_embd=30", "-o", "n_head=4"], ["no such GPT2LMHeadModel", "multiple of n_head"]),
        (["-o", "n_layer=two"], ["no such GPT2LMHeadModel", "n_layer"]),
        (["-o", "activation_function=gelx"], ["no such GPT2LMHeadModel", "gelx"]),
        (["-o", "vocab_size=300"], ["-o vocab_size is no field", "--help"]),
        (["--vocab-size", "10"], ["--vocab-size", "10"]),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(refused, tmp_path, words, says):
    data = file(tmp_path, "d.txt", "a b c")
    refused("train", "--from-scratch", "--data", data, "--output", tmp_path / "out", *words, says=says)


def test_an_output_folder_that_is_taken_is_refused(refused, tmp_path, tiny_gpt2):
    data = file(tmp_path, "d.txt", "a")
    words = ["train", "--model", tiny_gpt2, "--data", data, "--output"]
    refused(*words, data, says=["d.txt is a file, not a folder"])
    refused(*words, data / "below", says=["d.txt/below", "--output"])
    refused(*words, "", says=["empty name", "--output"])
    file(tmp_path, "options.json", "{}")
    refused(*words, tmp_path, says=["holds a run already", "--resume"])
