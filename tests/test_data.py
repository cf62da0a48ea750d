"""Files to texts with errors that name the line; tokens to batches whose order follows from the seed."""

import numpy as np
import pytest

from aigc_text.data import PackedBatches, blocks, encode, read_jsonl, read_texts
from aigc_text.errors import DataError


def _file(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _refusal(path, **how):
    with pytest.raises(DataError) as refused:
        list(read_texts(path, **how))
    return refused.value


@pytest.mark.parametrize(
    ("sample_by", "texts"),
    [
        ("document", ["a\nb\n\nc\n"]),
        ("paragraph", ["a\nb", "c\n"]),
        ("line", ["a", "b", "c"]),
    ],
)
def test_a_plain_file_is_one_text_or_its_paragraphs_or_lines(tmp_path, sample_by, texts):
    assert list(read_texts(_file(tmp_path, "t.txt", "a\nb\n\nc\n"), sample_by=sample_by)) == texts


def test_jsonl_gives_the_chosen_column(tmp_path):
    path = _file(tmp_path, "t.jsonl", '{"text": "a", "body": "x"}\n\n{"text": "b", "body": "y"}')
    assert list(read_texts(path)) == ["a", "b"]
    assert list(read_texts(path, text_column="body")) == ["x", "y"]


def test_line_ends_of_windows_become_line_feeds(tmp_path):
    path = _file(tmp_path, "t.txt", b"a\r\nb\r\n\r\nc\r\n")
    assert list(read_texts(path)) == ["a\nb\n\nc\n"]
    assert list(read_texts(path, sample_by="paragraph")) == ["a\nb", "c\n"]
    assert list(read_texts(path, sample_by="line")) == ["a", "b", "c"]


def test_only_line_feeds_break_lines(tmp_path):
    path = _file(tmp_path, "t.txt", "a\u2028b\x0cc\x85d\ne\n")
    assert list(read_texts(path, sample_by="line")) == ["a\u2028b\x0cc\x85d", "e"]


def test_a_byte_order_mark_is_dropped_at_the_start_alone(tmp_path):
    assert list(read_texts(_file(tmp_path, "t.txt", "\ufeffa\n\ufeffb"))) == ["a\n\ufeffb"]
    assert list(read_texts(_file(tmp_path, "t.jsonl", '\ufeff{"text": "a"}'))) == ["a"]


@pytest.mark.parametrize("name", ["t.txt", "t.jsonl"])
def test_bad_utf8_names_line_byte_and_column(tmp_path, name):
    path = _file(tmp_path, name, b'{"text": "good"}\n{"text": "\xe9"}\n')
    refused = _refusal(path)
    assert refused.message == f"{path}:2 is not UTF-8: byte 0xe9 at column 11"
    assert "iconv" in refused.cure


def test_bad_utf8_after_a_byte_order_mark_names_the_right_byte(tmp_path):
    assert "byte 0xfe at column 3" in _refusal(_file(tmp_path, "t.txt", b"\xef\xbb\xbfab\xfe")).message


@pytest.mark.parametrize("line", ['{"text": "a"', "text", '{"text": "a"} {"text": "b"}', "[" * 100_000])
def test_broken_json_names_the_line(tmp_path, line):
    path = _file(tmp_path, "t.jsonl", f'{{"text": "fine"}}\n{line}\n')
    assert _refusal(path).message.startswith(f"{path}:2 is not valid JSON")


@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "null", "3"])
def test_json_that_is_no_object_names_the_line(tmp_path, line):
    path = _file(tmp_path, "t.jsonl", line)
    refused = _refusal(path)
    assert refused.message == f"{path}:1 is not a JSON object: {line}"
    assert '{"text"' in refused.cure


def test_half_a_character_in_json_is_refused(tmp_path):
    assert "t.jsonl:1" in _refusal(_file(tmp_path, "t.jsonl", '{"text": "\\ud83d"}')).message


def test_a_missing_column_names_those_found_and_the_nearest(tmp_path):
    path = _file(tmp_path, "t.jsonl", '{"text": "a"}\n{"texts": "b", "title": "c"}\n')
    refused = _refusal(path)
    assert refused.message == f"{path}:2 has no column 'text'. Did you mean 'texts'?"
    assert refused.cure == "Columns found: texts, title. Choose one with --text-column."


def test_a_column_that_is_no_text_is_refused_with_its_type(tmp_path):
    path = _file(tmp_path, "t.jsonl", '{"text": 5}')
    assert _refusal(path).message == f"{path}:1: column 'text' is not text but int"


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
@pytest.mark.parametrize("name", ["t.txt", "t.jsonl"])
def test_a_file_without_text_is_refused(tmp_path, name, content):
    refused = _refusal(_file(tmp_path, name, content))
    assert refused.message == f"{tmp_path / name} holds no text"
    assert refused.cure


def test_records_with_blank_texts_alone_are_no_data(tmp_path):
    assert "holds no text" in _refusal(_file(tmp_path, "t.jsonl", '{"text": " "}\n{"text": ""}')).message


def test_a_missing_file_names_the_nearest_sibling(tmp_path):
    _file(tmp_path, "train.jsonl", "{}")
    refused = _refusal(tmp_path / "trian.jsonl")
    assert refused.message == f"{tmp_path / 'trian.jsonl'} does not exist"
    assert refused.cure == "Did you mean 'train.jsonl'?"
    assert str(tmp_path) in _refusal(tmp_path / "quite-another").cure
    assert _refusal(tmp_path / "no" / "folder.txt").cure


def test_a_folder_is_no_file(tmp_path):
    assert _refusal(tmp_path).message == f"{tmp_path} cannot be read: Is a directory"


def test_records_come_with_their_line_numbers(tmp_path):
    path = _file(tmp_path, "t.jsonl", '{"a": 1}\n\n{"a": 2}\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (3, {"a": 2})]


def _rows(batches, count):
    steps = iter(batches)
    return [next(steps)["input_ids"].tolist() for _ in range(count)]


def test_the_order_of_batches_is_a_function_of_seed_and_step():
    def made(seed):
        return PackedBatches(np.arange(103, dtype=np.uint16), batch_size=3, block_size=8, seed=seed)

    all_of_them = _rows(made(1), 14)
    assert _rows(made(1), 14) == all_of_them
    assert _rows(made(2), 14) != all_of_them
    for skipped in (1, 2, 3, 4, 7, 13):
        assert _rows(made(1).from_step(skipped), 14 - skipped) == all_of_them[skipped:]


def test_every_row_comes_once_a_pass_and_passes_differ():
    batches = PackedBatches(np.arange(13 * 8, dtype=np.uint16), batch_size=4, block_size=8, seed=0)
    assert len(batches) == 3
    passes = []
    for number in range(3):
        rows = [row for batch in _rows(batches.from_step(3 * number), 3) for row in batch]
        starts = sorted(row[0] for row in rows)
        assert all(row == list(range(row[0], row[0] + 8)) for row in rows)
        assert starts == list(range(starts[0], starts[0] + 12 * 8, 8))
        passes.append([row[0] for row in rows])
    assert len({tuple(p) for p in passes}) == 3


def test_labels_are_the_inputs_and_few_rows_make_a_smaller_batch():
    batch = next(iter(PackedBatches(np.arange(30, dtype=np.uint16), batch_size=8, block_size=8, seed=0)))
    assert batch["input_ids"].shape == (2, 8)
    assert batch["labels"].tolist() == batch["input_ids"].tolist()


def test_one_row_is_enough_and_less_is_refused():
    assert _rows(PackedBatches(np.arange(8), 4, 8, 0), 2) == [[list(range(8))]] * 2
    with pytest.raises(DataError) as refused:
        PackedBatches(np.arange(7), 4, 8, 0)
    assert "7 tokens, fewer than one block of 8" in refused.value.message
    assert "--block-size" in refused.value.cure


def test_blocks_are_spread_evenly_over_the_text():
    tokens = np.arange(100)
    assert [b[0] for b in blocks(tokens, 10, 99)] == list(range(0, 100, 10))
    assert [b[0] for b in blocks(tokens, 10, 3)] == [0, 40, 90]
    assert blocks(tokens[:19], 10, 3).tolist() == [list(range(10))]
    assert blocks(tokens[:5], 10, 3).tolist() == [list(range(5))]


class Letters:
    """As much of a tokenizer as `encode` asks for."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(c) for c in t] for t in texts]}


def test_encode_ends_every_text_and_keeps_their_order():
    texts = [chr(97 + n % 26) for n in range(150)]  # more than a chunk
    row = encode(Letters(300), iter(texts), 256)
    assert row.dtype == np.uint16
    assert row.tolist() == [i for t in texts for i in (ord(t), 256)]
    assert encode(Letters(300), ["ab"], None).tolist() == [97, 98]


def test_encode_has_room_for_large_vocabularies():
    assert encode(Letters(1 << 16), ["a"], (1 << 16) - 1).tolist() == [97, 65535]
    assert encode(Letters(70_000), ["a"], 69_999).tolist() == [97, 69_999]
    assert encode(Letters(300), [], 0).tolist() == []
