"""Files that are no UTF-8 text: what is said of them, and that the command that is offered makes text of them."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from aigc_text.data.file_access import lines
from aigc_text.data.readers import read_records
from aigc_text.errors import DataError

TEXT = "one café\ntwo\n"
DEVICE = "/dev/zero"


def refusal(path):
    with pytest.raises(DataError) as refused:
        list(lines(path))
    assert refused.value.message.endswith(", not UTF-8 text")
    return refused.value


def zipped(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, TEXT)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said", "made"),
    [
        ("a;touch X;.jsonl.gz", gzip.compress(TEXT.encode()), "is compressed with gzip", "a;touch X;.jsonl"),
        ("t.csv", gzip.compress(TEXT.encode()), "is compressed with gzip", "utf8-t.csv"),
        ("-t.txt.bz2", bz2.compress(TEXT.encode()), "is compressed with bzip2", "-t.txt"),
        ("t t.txt.xz", lzma.compress(TEXT.encode()), "is compressed with xz", "t t.txt"),
        ("t.txt", TEXT.encode("utf-16"), "is text in UTF-16", "utf8-t.txt"),
        ("t.txt", TEXT.encode("utf-16-le"), "is text in UTF-16LE", "utf8-t.txt"),
        ("t.txt", TEXT.encode("utf-16-be"), "is text in UTF-16BE", "utf8-t.txt"),
        ("t.txt", TEXT.encode("utf-32"), "is text in UTF-32", "utf8-t.txt"),
        ("t.zip", zipped("t.txt"), "is a ZIP archive", "t.txt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # archives hold the time, which every worker reads
)
def test_the_command_in_the_hint_makes_text_of_it(tmp_path, monkeypatch, name, content, said, made):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    refused = refusal(Path(name))
    assert said in refused.message
    command = refused.cure.partition(": ")[2]
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed")
    subprocess.run(["bash", "-euc", command], check=True)
    assert Path(made).read_text(encoding="utf-8").removeprefix("\ufeff") == TEXT
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, made])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\n", "a PDF document"),
        (zipped("[Content_Types].xml"), "a document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Microsoft Office"),
        (b"SQLite format 3\0\x10", "an SQLite database"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_of_files_are_named(tmp_path, content, said):
    (tmp_path / "t.txt").write_bytes(content)
    assert said in refusal(tmp_path / "t.txt").message


@pytest.mark.parametrize("content", ["PKs are fine", "BZ", "GIF", "a\0b\n", "\ufeffone\n", "", "%PD"])
def test_text_that_resembles_them_is_text(tmp_path, content):
    (tmp_path / "t.txt").write_text(content, encoding="utf-8")
    assert "".join(line for _, line in lines(tmp_path / "t.txt")) == content.removeprefix("\ufeff")


def test_nothing_is_overwritten_by_a_hints_command(tmp_path):
    (tmp_path / "t.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "utf8-t.txt").write_text("mine")
    with pytest.raises(DataError) as refused:
        list(lines(tmp_path / "t.txt"))
    assert refused.value.cure.endswith("utf8-t-2.txt")


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".json", ".csv", ".parquet"])
def test_a_device_has_no_end_and_is_refused(tmp_path, kind):
    path = tmp_path / f"zero{kind}"
    path.symlink_to(DEVICE)
    with pytest.raises(DataError, match="is a device, not a file of text"):
        list(read_records(path)) if kind != ".txt" else list(lines(path))


def test_an_empty_device_and_a_pipe_are_read(tmp_path):
    assert list(lines(Path(os.devnull))) == []
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\n")
    os.close(writer)
    try:
        assert [line for _, line in lines(Path(f"/dev/fd/{reader}"))] == ["one\n", "two\n"]
    finally:
        os.close(reader)


def test_a_pipe_without_line_feeds_is_refused_before_memory_ends(monkeypatch):
    monkeypatch.setattr("aigc_text.data.file_access.LONGEST_LINE", 1 << 20)
    endless = subprocess.Popen(["cat", DEVICE], stdout=subprocess.PIPE)
    try:
        with pytest.raises(DataError, match="is longer than 1 MiB"):
            list(lines(Path(f"/dev/fd/{endless.stdout.fileno()}")))
    finally:
        endless.kill()
        endless.wait()
        endless.stdout.close()
