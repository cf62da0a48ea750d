"""Folders are whole or not there, and a byte that changed is noticed."""

import contextlib
import json
import os

import pytest

from aigc_text.errors import DamagedError
from aigc_text.training import checkpoint_folders
from aigc_text.utils import atomic, sealed_dir


def write(folder):
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "b.json").write_text('{"x": 1}')


def test_a_saved_folder_verifies(tmp_path):
    sealed_dir.save(tmp_path / "step-1", write)
    sealed_dir.verify(tmp_path / "step-1")
    sums = json.loads((tmp_path / "step-1" / "manifest.json").read_text())
    assert sorted(sums) == ["a.bin", "b.json"]


@pytest.mark.parametrize("name", ["a.bin", "b.json"])
def test_every_changed_byte_is_named_with_both_sums(tmp_path, name):
    folder = tmp_path / "step-1"
    sealed_dir.save(folder, write)
    raw = (folder / name).read_bytes()
    old = sealed_dir.sha256(folder / name)
    for place in range(0, len(raw), 7):
        (folder / name).write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        new = sealed_dir.sha256(folder / name)
        with pytest.raises(DamagedError) as caught:
            sealed_dir.verify(folder)
        assert name in caught.value.message and old in caught.value.message and new in caught.value.message


def test_a_missing_file_is_named(tmp_path):
    sealed_dir.save(tmp_path / "step-1", write)
    (tmp_path / "step-1" / "a.bin").unlink()
    with pytest.raises(DamagedError, match="a.bin is missing"):
        sealed_dir.verify(tmp_path / "step-1")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a.bin": 3}'])
def test_a_broken_manifest_is_damage(tmp_path, text):
    sealed_dir.save(tmp_path / "step-1", write)
    (tmp_path / "step-1" / "manifest.json").write_text(text)
    with pytest.raises(DamagedError):
        sealed_dir.verify(tmp_path / "step-1")


def test_an_edited_readme_is_no_damage(tmp_path):
    sealed_dir.save(tmp_path / "m", lambda f: (write(f), (f / "README.md").write_text("x")))
    (tmp_path / "m" / "README.md").write_text("edited")
    sealed_dir.verify(tmp_path / "m")


def test_a_failing_write_leaves_nothing(tmp_path):
    def fail(folder):
        write(folder)
        raise OSError("No space left on device")

    sealed_dir.save(tmp_path / "step-1", write)
    with pytest.raises(OSError):
        sealed_dir.save(tmp_path / "step-2", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


CALLS = ("rename", "replace", "mkdir", "open", "close", "fsync", "unlink", "rmdir", "scandir", "listdir", "stat")


def version(text):
    return lambda folder: [(folder / name).write_text(text) for name in ("a", "b")]


def state(folder):
    """What a folder holds, if it is whole."""
    sealed_dir.verify(folder)
    (text,) = {(folder / name).read_text() for name in ("a", "b")}
    return text


def at_call(monkeypatch, number, act):
    """Has the `number`-th call of the system from here on do `act` instead; returns how many there were."""
    count = [0]

    def wrapped(real):
        def call(*arguments, **named):
            count[0] += 1
            return act() if count[0] == number else real(*arguments, **named)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrapped(getattr(os, name)))
    monkeypatch.setattr(sealed_dir, "_exchange", wrapped(sealed_dir._exchange))
    return count


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_folder_that_is_replaced_is_the_old_or_the_new_one(tmp_path, exchange, error):
    """Interrupted at each call of the system in turn."""

    def stop():
        raise error

    for number in range(1, 1000):
        folder = tmp_path / f"{number}" / "step-1"
        sealed_dir.save(folder, version("old"))
        with pytest.MonkeyPatch.context() as patch:
            if not exchange:
                patch.setattr(sealed_dir, "_exchange", lambda *_: False)
            count = at_call(patch, number, stop)
            with contextlib.suppress(error):
                sealed_dir.save(folder, version("new"))
        assert state(folder) in ("old", "new")
        sealed_dir.save(folder, version("newest"))
        assert state(folder) == "newest" and [p.name for p in folder.parent.iterdir()] == ["step-1"]
        if count[0] < number:
            break
    assert 10 < number < 200


@pytest.mark.parametrize("exchange", [True, False])
def test_a_process_killed_while_it_replaces_a_folder_leaves_one_to_go_on_from(tmp_path, exchange):
    for number in range(1, 1000):
        folder = tmp_path / f"{number}" / "step-1"
        sealed_dir.save(folder, version("old"))
        pid = os.fork()
        if not pid:
            with pytest.MonkeyPatch.context() as patch:
                if not exchange:
                    patch.setattr(sealed_dir, "_exchange", lambda *_: False)
                at_call(patch, number, lambda: os._exit(9))
                sealed_dir.save(folder, version("new"))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if exchange:
            assert state(folder) in ("old", "new")
        checkpoint_folders.sweep(folder.parent)
        assert checkpoint_folders.latest(folder.parent, print) == folder and state(folder) in ("old", "new")
        assert [p.name for p in folder.parent.iterdir()] == ["step-1"]
        if not status:
            break
    assert 10 < number < 200


def test_two_folders_are_exchanged_where_the_system_can(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not sealed_dir._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("the file system cannot exchange two folders")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()
    with pytest.raises(FileNotFoundError):
        sealed_dir._exchange(tmp_path / "a", tmp_path / "nothing")


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "table.md"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.whole(path) as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic.whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_files_are_flushed_before_the_rename(tmp_path, monkeypatch):
    order = []
    flush, rename = sealed_dir.flush, sealed_dir.os.rename
    monkeypatch.setattr(sealed_dir, "flush", lambda p: (order.append(p.name), flush(p)))
    monkeypatch.setattr(sealed_dir.os, "rename", lambda a, b: (order.append("rename"), rename(a, b)))
    sealed_dir.save(tmp_path / "step-1", write)
    assert order == ["a.bin", "b.json", "manifest.json", ".step-1.tmp", "rename", tmp_path.name]


def test_latest_passes_over_damage_and_says_so(tmp_path):
    for n in (1, 2, 10):
        sealed_dir.save(tmp_path / f"step-{n}", write)
    (tmp_path / "step-10" / "a.bin").write_bytes(b"")
    said = []
    assert checkpoint_folders.latest(tmp_path, said.append) == tmp_path / "step-2"
    assert len(said) == 1 and "step-10/a.bin is damaged" in said[0]


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="a file that fails to be read")
def test_a_file_that_cannot_be_read_is_damage(tmp_path):
    for n in (1, 2):
        sealed_dir.save(tmp_path / f"step-{n}", write)
    (tmp_path / "step-2" / "a.bin").unlink()
    (tmp_path / "step-2" / "a.bin").symlink_to("/proc/self/mem")
    said = []
    assert checkpoint_folders.latest(tmp_path, said.append) == tmp_path / "step-1"
    assert "step-2/a.bin cannot be read: Input/output error" in said[0]


def test_prune_keeps_the_newest_and_the_named(tmp_path):
    for n in range(1, 6):
        sealed_dir.save(tmp_path / f"step-{n}", write)
    checkpoint_folders.prune(tmp_path, 2, also=tmp_path / "step-1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-4", "step-5"]


def test_sweep_removes_what_a_kill_left(tmp_path):
    (tmp_path / ".step-3.tmp").mkdir()
    (tmp_path / ".step-1.old").mkdir()
    sealed_dir.save(tmp_path / "step-2", write)
    checkpoint_folders.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-2"]
