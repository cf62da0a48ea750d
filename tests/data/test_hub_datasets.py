"""Datasets from a saved folder, from the cache and from the hub, without waiting for a dead network."""

import socket
import time
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from aigc_text.data import hub_datasets
from aigc_text.data.sources import Pair, Source
from aigc_text.errors import DataError
from aigc_text.hub import locate

RECORDS = {"text": ["a", "", "c"], "ask": ["q", "r", "s"], "n": [1, 2, 3]}


def _refusal(what, **how):
    """What iterating refuses with, which `check` finds as well."""
    with pytest.raises(DataError) as refused:
        list(Source(what, **how))
    with pytest.raises(DataError) as early:
        Source(what, **how).check()
    assert str(early.value) == str(refused.value)
    return refused.value


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No network, an empty cache, and an empty folder to work in."""
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("a connection was tried"))
    monkeypatch.setattr(locate, "is_reachable", lambda: False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def online(monkeypatch):
    """The hub answers; what it gives is what `load_dataset` is made to give."""

    def serve(made):
        def load(name, config=None):
            if isinstance(made, Exception):
                raise made
            return made[name, config]

        monkeypatch.setattr(locate, "is_reachable", lambda: True)
        monkeypatch.setattr(datasets, "load_dataset", load)

    return serve


class Prepared(datasets.GeneratorBasedBuilder):
    """Writes its splits into the cache, as a dataset of the hub is written when it has been downloaded."""

    VERSION = datasets.Version("0.0.0")

    def __init__(self, *args, splits, **kwargs):
        self.made = splits
        super().__init__(*args, **kwargs)

    def _info(self):
        return datasets.DatasetInfo(features=datasets.Features({"text": datasets.Value("string")}))

    def _split_generators(self, manager):
        return [datasets.SplitGenerator(name=name, gen_kwargs={"name": name}) for name in self.made]

    def _generate_examples(self, name):
        yield from enumerate({"text": text} for text in self.made[name])


def cached(name, config="default", **splits):
    datasets.disable_progress_bars()
    last = name.split("/")[-1]
    Prepared(
        dataset_name=last,
        repo_id=name,
        config_name=config,
        hash="0a1b",
        cache_dir=str(datasets.config.HF_DATASETS_CACHE),
        splits=splits,
    ).download_and_prepare()


# A folder written by save_to_disk


def test_a_saved_dataset_is_read_by_its_columns(tmp_path):
    Dataset.from_dict(RECORDS).save_to_disk(tmp_path / "saved")
    source = Source(tmp_path / "saved")
    source.check()
    assert list(source) == list(source) == ["a", "c"]
    assert list(Source(str(tmp_path / "saved"), prompt_column="ask", completion_column="text")) == [
        Pair("q", "a"),
        Pair("s", "c"),
    ]


def test_a_saved_dataset_gives_texts_whatever_form_it_was_shown_in(tmp_path):
    Dataset.from_dict(RECORDS).with_format("numpy").save_to_disk(tmp_path / "saved")
    assert [type(t) for t in Source(tmp_path / "saved")] == [str, str]


def test_of_saved_splits_one_is_chosen(tmp_path):
    parts = {"train": Dataset.from_dict({"text": ["a"]}), "validation": Dataset.from_dict({"text": ["b"]})}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert list(Source(tmp_path / "saved")) == ["a"]
    assert list(Source(f"{tmp_path / 'saved'}@validation")) == ["b"]
    refused = _refusal(f"{tmp_path / 'saved'}@valid")
    assert refused.message == f"dataset {tmp_path / 'saved'} has no split 'valid'. Did you mean 'validation'?"
    assert refused.cure == f"Splits found: train, validation. Choose one: {tmp_path / 'saved'}@train"
    del parts["train"]
    DatasetDict(parts).save_to_disk(tmp_path / "one")
    assert list(Source(tmp_path / "one")) == ["b"]


def test_a_dataset_without_splits_has_none(tmp_path):
    Dataset.from_dict(RECORDS).save_to_disk(tmp_path / "saved")
    refused = _refusal(f"{tmp_path / 'saved'}@train")
    assert refused.message == f"{tmp_path / 'saved'} is a dataset without splits"


def test_columns_of_a_dataset_are_held_to_the_same_rules(tmp_path):
    path = tmp_path / "saved"
    Dataset.from_dict({**RECORDS, "text": ["a", "b", None]}).save_to_disk(path)
    refused = _refusal(path, text_column="txt")
    assert refused.message == f"{path} has no column 'txt'. Did you mean 'text'?"
    assert refused.cure == "Columns found: text, ask, n. Choose one, e.g. --text-column text"
    assert _refusal(path, text_column="n").message == f"{path}: column 'n' is not text but int64"
    with pytest.raises(DataError) as null:
        list(Source(path))
    assert null.value.message == f"{path}: row 3: column 'text' is not text but null"


def test_a_damaged_saved_dataset_is_one_line(tmp_path):
    Dataset.from_dict({"text": ["a" * 100] * 9}).save_to_disk(tmp_path / "saved")
    [arrow] = (tmp_path / "saved").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:200])
    assert _refusal(tmp_path / "saved").message.startswith(f"{tmp_path / 'saved'} is not a whole saved dataset: ")
    (tmp_path / "saved" / "state.json").write_text("{")
    assert _refusal(tmp_path / "saved").message.startswith(f"{tmp_path / 'saved'} is not a whole saved dataset: ")


def test_data_that_breaks_while_it_is_read_is_one_line():
    class Breaking:
        column_names, features = ["text"], datasets.Features({"text": datasets.Value("string")})

        def with_format(self, form):
            return self

        def select_columns(self, columns):
            return self

        def iter(self, size):
            yield {"text": ["a", "b"]}
            raise pa.ArrowInvalid("torn\npage")

    rows = hub_datasets.Split("x@train", Breaking()).read(["text"])
    assert next(rows) == ("x@train: row 1", {"text": "a"})
    with pytest.raises(DataError) as refused:
        list(rows)
    assert refused.value.message == "dataset x@train breaks after row 2: torn page"


# The cache


@pytest.mark.parametrize("name", ["owner/Tiny-tales_2", "MyOwner_/TinyTALESet", "tales"])
def test_a_cached_dataset_needs_no_network(name, capfd):
    cached(name, train=["a", "b"], test=["c"])
    capfd.readouterr()
    source = Source(name)
    source.check()
    assert list(source) == ["a", "b"]
    assert list(Source(f"{name}@test")) == ["c"]
    assert list(Source(f"{name}:default@test")) == ["c"]
    assert capfd.readouterr() == ("", "")
    refused = _refusal(f"{name}@tset")
    assert refused.message == f"dataset {name} has no split 'tset'. Did you mean 'test'?"


def test_a_configuration_is_chosen(online):
    cached("owner/tales", "long", train=["long"])
    assert list(Source("owner/tales")) == ["long"]  # the only one there, and nobody can be asked
    cached("owner/tales", "short", train=["short"])
    assert list(Source("owner/tales:short")) == ["short"]
    refused = _refusal("owner/tales")
    assert refused.message == "the hub cannot be reached for the default configuration of dataset 'owner/tales'."
    assert refused.cure == "In the cache: owner/tales:long, owner/tales:short"
    refused = _refusal("owner/tales:shrt")
    assert refused.message == (
        "the hub cannot be reached for configuration 'shrt' of dataset 'owner/tales'. Did you mean 'short'?"
    )
    online({("owner/tales", None): {"train": Dataset.from_dict({"text": ["the default"]})}})
    assert list(Source("owner/tales")) == ["the default"]  # which it is, the hub knows


def test_the_cache_is_where_the_library_has_it(monkeypatch):
    monkeypatch.undo()
    assert locate.datasets_cache() == Path(datasets.config.HF_DATASETS_CACHE).expanduser()


# Neither


def test_without_network_and_cache_the_cure_is_a_command():
    refused = _refusal("owner/tales:long@test")
    assert refused.message == (
        "'owner/tales' is neither a file nor a dataset in the cache, and the hub cannot be reached."
    )
    assert refused.cure == (
        'With a network: python -c \'import datasets; datasets.load_dataset("owner/tales", "long")\''
    )


def test_a_dead_network_costs_seconds(monkeypatch):
    from huggingface_hub import constants

    def hang(address, timeout):
        time.sleep(3)
        raise TimeoutError

    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(locate, "WAIT", 0.3)
    monkeypatch.setattr(socket, "create_connection", hang)
    begun = time.monotonic()
    with pytest.raises(DataError, match="the hub cannot be reached"):
        Source("no-such-owner/no-such-dataset").check()
    assert time.monotonic() - begun < 2


def test_a_mistyped_file_is_found_though_it_could_be_a_dataset(tmp_path):
    (tmp_path / "work" / "tales").write_text("text")
    assert "Did you mean 'tales'?" in _refusal("tale").message


@pytest.mark.parametrize("name", ["json", "text", "csv", "imagefolder"])
def test_the_name_of_a_reader_is_no_dataset(tmp_path, name, online):
    (tmp_path / "work" / "private.txt").write_text("not asked for")
    online({})
    assert _refusal(name).message == f"{name!r} is neither a file nor a dataset of the hub"


# The hub


def test_a_dataset_of_the_hub_is_loaded_by_its_name(online):
    parts = {"train": Dataset.from_dict({"text": ["a"]}), "test": Dataset.from_dict({"text": ["b"]})}
    online({("owner/tales", None): parts, ("tales", "long"): parts})
    assert list(Source("owner/tales")) == ["a"]
    assert list(Source("tales:long@test")) == ["b"]
    assert _refusal("owner/tales", text_column="txt").message == (
        "owner/tales@train has no column 'txt'. Did you mean 'text'?"
    )


@pytest.mark.parametrize(
    ("error", "message", "cure"),
    [
        (
            RuntimeError("Dataset scripts are no longer supported, but found tales.py"),
            "dataset 'owner/tales' cannot be loaded: Dataset scripts are no longer supported, but found tales.py",
            "never run",
        ),
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['long', 'short']"),
            "dataset 'owner/tales' cannot be loaded: Config name is missing. Please pick one among the available "
            "configs: ['long', 'short']",
            "owner/tales:CONFIGURATION",
        ),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'owner/tales' doesn't exist on the Hub"),
            "dataset 'owner/tales' cannot be loaded: Dataset 'owner/tales' doesn't exist on the Hub",
            "HF_TOKEN",
        ),
        (ConnectionError(), "dataset 'owner/tales' cannot be loaded: ConnectionError", "Give a file"),
    ],
)
def test_what_is_wrong_with_a_dataset_is_one_line(online, error, message, cure):
    online(error)
    refused = _refusal("owner/tales")
    assert refused.message == message
    assert cure in refused.cure
