"""Files, folders and globs to examples, and shares of them; see test_readers and test_hub_datasets for the rest."""

import os
import tempfile
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pytest

from aigc_text.data.sources import Source, refuse_unused, split
from aigc_text.errors import OptionError
from tests.data.test_readers import put, refusal


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "data/b.txt", "b")
    put(tmp_path, "data/a/z.py", "z")
    put(tmp_path, "data/a/empty.py", "")
    put(tmp_path, "data/c.jsonl", '{"text": "c"}')
    put(tmp_path, "data/.hidden.txt", "hidden")
    put(tmp_path, "data/.git/config.txt", "hidden")
    return tmp_path / "data"


def test_a_folder_is_all_its_files_in_order_each_by_its_suffix(tree):
    for name in (tree, str(tree), "data", "./data/"):
        source = Source(name)
        source.check()
        assert list(source) == ["z", "b", "c"]


def test_a_folder_is_looked_up_once(tree):
    source = Source("data")
    assert len(list(source)) == 3
    put(tree, "new.txt", "of the run itself, perhaps")
    assert list(source) == ["z", "b", "c"]
    assert len(list(Source("data"))) == 4


def test_links_are_followed_and_a_circle_of_them_is_walked_once(tree, tmp_path):
    put(tmp_path, "elsewhere/l.txt", "l")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    (tree / "a" / "up").symlink_to(tree)
    (tree / "dangling.txt").symlink_to(tmp_path / "nowhere")
    assert list(Source("data")) == ["z", "b", "c", "l"]
    assert list(Source("data/**")) == ["z", "b", "c", "l"]


@pytest.mark.parametrize(
    ("pattern", "examples"),
    [("data/**/*.py", ["z"]), ("data/*.[tj]*", ["b", "c"]), ("data/**", ["z", "b", "c"]), ("dat?/b.txt", ["b"])],
)
def test_a_glob_is_the_files_that_match_in_order(tree, pattern, examples):
    Source(pattern).check()
    assert list(Source(pattern)) == examples


def test_a_file_whose_name_looks_like_a_glob_or_a_split_is_that_file(tree):
    put(tree, "x[1]@y.txt", "odd")
    assert list(Source("data/x[1]@y.txt")) == ["odd"]


def test_several_names_come_in_the_order_given_and_as_often(tree):
    assert list(Source(["data/c.jsonl", tree / "b.txt", "data/b.txt"])) == ["c", "b", "b"]


def test_a_home_folder_is_found(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert list(Source("~/b.txt")) == list(Source("~/*.txt")) == ["b"]


@pytest.mark.parametrize(
    ("what", "message", "cure"),
    [
        ("data/b.tx*s", "no file matches data/b.tx*s", "** any folders"),
        ("data/[ab]", "no file matches data/[ab]", "** any folders"),  # a folder is no file
        ("data/bb.txt", "data/bb.txt does not exist", "Did you mean 'b.txt'?"),
        ("./datta", "datta does not exist", "Did you mean 'data'?"),
        ("data@train", "data is a folder of files and has no split 'train'", "Give the folder: data"),
        ("a/b/c", "a/b/c does not exist", "Looked in"),
        ("quite-another.jsonl", "quite-another.jsonl does not exist", "Looked in"),
        ("x" * 300 + ".txt", f"{'x' * 300}.txt does not exist", "Looked in"),
        ("x" * 300 + "/t.txt", f"{'x' * 300}/t.txt does not exist", "Looked in"),
        ("data/\0/b.txt", "the data's name has a NUL character in it", "Give a file"),
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x does not exist", "Looked in"),
        ("", "the data's name is empty", "Give a file"),
        ([], "no data is given", "Give a file"),
        (os.devnull, f"{os.devnull} is neither a file nor a folder", "A pipe"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(tree, what, message, cure):
    refused = refusal(what, check=True)
    assert refused.message == message
    assert cure in refused.cure


def test_a_path_is_never_the_name_of_a_dataset(tree):
    assert refusal(tree.parent / "dat").message == f"{tree.parent / 'dat'} does not exist"
    assert refusal(tree.parent.relative_to(tree.parent) / "dat").cure == "Did you mean 'data'?"


def test_a_folder_without_files_or_without_text_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    put(tmp_path, "empty/.hidden", "text")
    assert refusal(tmp_path / "empty", check=True).message == f"{tmp_path / 'empty'} holds no file"
    put(tmp_path, "blank/t.txt", "\n")
    assert refusal(tmp_path / "blank", check=True).message == f"{tmp_path / 'blank'} holds no text"


@pytest.fixture
def common_user():
    """A folder of a user's who is not root, for whom rights mean nothing."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield Path(folder)
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_is_refused(common_user):
    path = put(common_user, "data/t.txt", "text")
    assert list(Source(path)) == list(Source(path.parent)) == ["text"]
    path.chmod(0)
    assert refusal(path, check=True).message == f"{path} cannot be read: Permission denied"
    path.parent.chmod(0)
    assert refusal(path.parent, check=True).message == f"{path.parent} cannot be read: Permission denied"
    path.parent.chmod(0o700)


def test_a_check_reads_only_the_beginning(tmp_path):
    Source(put(tmp_path, "t.txt", b"fine\n\xff\n")).check()
    Source(put(tmp_path, "t.jsonl", '{"text": "fine"}\n{')).check()


# Shares


class Once:
    """Counts how often it is begun, and fails where a reader that keeps nothing never comes."""

    def __init__(self, count, fails_at=None):
        self.count, self.fails_at, self.begun = count, fails_at, 0

    def __iter__(self):
        self.begun += 1
        for n in range(self.count):
            assert n != self.fails_at, "read further than asked for"
            yield str(n)


@pytest.mark.parametrize(("share", "every"), [(0.5, 2), (0.25, 4), (0.05, 20), (0.01, 100)])
def test_every_kth_example_is_held_out_and_none_is_lost(share, every):
    source = Once(1000)
    train, held_out = split(source, share)
    assert source.begun == 0
    assert list(held_out) == [str(n) for n in range(1, 1000, every)]
    assert sorted([*train, *held_out], key=int) == [str(n) for n in range(1000)]
    assert list(train) == list(train)
    assert source.begun == 5


def test_splitting_reads_no_further_than_asked_for():
    train, held_out = split(Once(1000, fails_at=50), 0.1)
    assert list(islice(train, 3)) == ["0", "2", "3"]
    assert list(islice(held_out, 3)) == ["1", "11", "21"]


def test_of_two_examples_each_side_has_one_and_a_share_of_nothing_is_nothing():
    train, held_out = split(["a", "b"], 0.05)
    assert (list(train), list(held_out)) == (["a"], ["b"])
    train, held_out = split(["a"], 0.05)
    assert (list(train), list(held_out)) == (["a"], [])
    train, held_out = split(["a", "b"], 0)
    assert (list(train), list(held_out)) == (["a", "b"], [])


@pytest.mark.parametrize("share", [-0.1, 0.6, 1])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(OptionError, match="share cannot be"):
        split(["a"], share)


@pytest.mark.parametrize(
    ("names", "asked", "says"),
    [
        (["data/b.txt"], {"text_column": "body"}, "--text-column body: data/b.txt is plain text and has no columns"),
        (["data/c.jsonl"], {"sample_by": "line"}, "--sample-by line: data/c.jsonl is no plain text"),
        (["data/c.jsonl", "data/b.txt"], {"text_column": "body", "sample_by": "line"}, None),
        (["data"], {"text_column": "body", "sample_by": "line"}, None),
        (["data/b.txt"], {"sample_by": "line", "learning_rate": 0.1}, None),
        (["data/c.jsonl"], {"text_column": "body"}, None),
    ],
)
def test_how_to_read_what_is_not_there_is_refused(tree, names, asked, says):
    sources = [Source(name) for name in names]
    with nullcontext() if says is None else pytest.raises(OptionError, match=says):
        refuse_unused(sources, asked)


def test_training_from_python_refuses_it_too(tree, tmp_path):
    from aigc_text.options.training import TrainingOptions
    from aigc_text.runs.run_data import read_data

    with pytest.raises(OptionError, match="--text-column body: data/b.txt is plain text"):
        read_data(["data/b.txt"], None, TrainingOptions(text_column="body"))
    read_data(["data/b.txt"], "data/c.jsonl", TrainingOptions(sample_by="line"))
