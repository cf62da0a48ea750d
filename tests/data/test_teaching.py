"""The data sets that ship with the package: what they hold, where their names are understood, and what damages them."""

import json
import shutil

import pytest

from aigc_text.data import teaching
from aigc_text.data.sources import Pair, Source
from aigc_text.errors import DataError

NAMES = ["captions", "shakespeare", "fairytales-small", "songci-small", "qa-small", "python-small"]
MOST_BYTES = 3_000_000


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A copy of the package's data to damage."""
    folder = tmp_path / "data"
    shutil.copytree(teaching.FOLDER, folder)
    monkeypatch.setattr(teaching, "FOLDER", folder)
    teaching.catalog.cache_clear()
    yield folder
    teaching.catalog.cache_clear()


def test_all_data_sets_are_whole_licensed_and_small():
    assert list(teaching.catalog()) == NAMES
    assert sum(path.stat().st_size for path in teaching.FOLDER.iterdir()) <= MOST_BYTES
    licenses = (teaching.FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    for name, entry in teaching.catalog().items():
        assert entry.license and entry.source and f"| {name} |" in licenses
        for split in entry.splits.values():
            content = split.read()  # verified against its checksum
            assert len(content) == split.size
            lines = [line for line in content.decode("utf-8").split("\n") if line]
            assert split.texts == (1 if entry.format == "txt:document" else len(lines))
        assert not set(lines) & set(entry.splits["train"].read().decode().split("\n")) or name in (
            "captions",
            "shakespeare",
        )


def test_the_python_files_parse_and_the_questions_are_pairs(cache):
    import ast

    for text in Source("teaching:python-small"):
        ast.parse(text)
    pairs = list(Source("teaching:qa-small", prompt_column="question", completion_column="answer"))
    assert len(pairs) == teaching.find("qa-small").texts
    assert all(isinstance(pair, Pair) and pair.completion.endswith(".") for pair in pairs)


def test_a_name_stands_for_the_file_that_the_command_writes(run, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, file in (("captions", "captions.txt"), ("qa-small@test", "qa-small-test.jsonl")):
        told = run("data", "get", name)
        assert told.code == 0 and "License: " in told.err and not told.out
        columns = {"prompt_column": "question", "completion_column": "answer"} if "qa" in name else {}
        assert list(Source(f"teaching:{name}", **columns)) == list(Source(file, **columns))
    assert run("data", "get", "captions", "--output", "-").out == (tmp_path / "captions.txt").read_text(
        encoding="utf-8"
    )


def test_the_list_names_all_with_their_licenses(run):
    table = run("data", "list").out
    assert [line.split()[0] for line in table.splitlines()[1:]] == NAMES and "CC-BY-4.0" in table
    assert run("data").out == table
    entries = json.loads(run("data", "list", "--json").out)
    assert [entry["name"] for entry in entries] == NAMES
    assert entries[0]["splits"]["test"]["texts"] == 10_000


MISTAKES = [
    (["get", "caption"], "no teaching data 'caption'. Did you mean 'captions'?", "Allowed: captions, shakespeare"),
    (["get", "captions@tst"], "has no split 'tst'. Did you mean 'test'?", "Allowed: train, test"),
    (["get", "captions", "--output", "there.txt"], "there.txt exists already", "--overwrite"),
    (["get", "captions", "--output", "captions.jsonl"], "would not be read as plain text", "--output captions.txt"),
    (["get", "qa-small", "--output", "a qa.csv"], "would not be read as JSONL", "--output 'a qa.jsonl'"),
]


@pytest.mark.parametrize(("words", "message", "hint"), MISTAKES)
def test_mistakes_are_refused_and_nothing_is_written(run, tmp_path, monkeypatch, words, message, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.txt").write_text("mine")
    told = run("data", *words)
    assert told.code == 2 and message in told.err and hint in told.err and len(told.err.splitlines()) <= 3
    assert [p.name for p in tmp_path.iterdir()] == ["there.txt"] and (tmp_path / "there.txt").read_text() == "mine"


def test_a_column_that_a_data_set_lacks_is_refused(run, cache, tmp_path):
    words = ["--data", "teaching:songci-small", "--text-column", "poem", "--output", tmp_path / "run"]
    told = run("train", *words)
    assert told.code == 2 and "has no column 'poem'" in told.err and "Columns found: author, title, text" in told.err
    told = run("train", "--data", "teaching:capitons", "--output", tmp_path / "run")
    assert told.code == 2 and "Did you mean 'captions'?" in told.err and not (tmp_path / "run").exists()


def test_a_damaged_package_is_noticed(run, cache, damaged, tmp_path):
    path = damaged / "qa-small.train.xz"
    path.write_bytes(path.read_bytes()[:-40])
    told = run("data", "get", "qa-small", "--output", tmp_path / "qa.jsonl")
    assert told.code == 2 and "qa-small.train.xz is damaged" in told.err and "pip install --force-reinstall" in told.err
    assert not (tmp_path / "qa.jsonl").exists()
    shutil.copy(damaged / "qa-small.test.xz", path)  # whole, and another one's
    with pytest.raises(DataError, match="SHA-256"):
        teaching.local("teaching:qa-small")
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        teaching.local("teaching:qa-small")
    (damaged / "catalog.json").write_text('{"captions": {}}')
    teaching.catalog.cache_clear()
    told = run("data", "list")
    assert told.code == 2 and "catalog.json is damaged" in told.err


def test_what_is_unpacked_is_verified_each_time(cache):
    path = teaching.local("teaching:qa-small@test")
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    assert teaching.local("teaching:qa-small@test") == path and path.read_bytes() == content
    shutil.rmtree(cache)
    cache.write_text("a file where a folder should be")
    with pytest.raises(DataError, match="cannot be written"):
        teaching.local("teaching:qa-small@test")


def test_commands_that_read_files_understand_the_names(run, cache, tmp_path, plain):
    texts = tmp_path / "texts.txt"
    texts.write_text("a man riding a wave on top of a surfboard.\n")
    told = run("copies", texts, "--source", "teaching:captions", "--sample-by", "line", "--threshold", 3)
    assert told.code == 0, told.err
    words = ["--prompts", "teaching:qa-small@test", "--prompt-column", "question", "--format", "jsonl"]
    told = run("generate", "--backend", plain("Plain"), *words)
    assert told.code == 0 and len(told.out.splitlines()) == teaching.find("qa-small@test").texts
