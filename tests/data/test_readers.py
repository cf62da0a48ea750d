"""One file to its examples, lazily, with errors that name the place: text, JSONL, JSON, CSV, Parquet, broken ones."""

import csv
import io
import json
import os
import subprocess
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigc_text.data import file_access, readers
from aigc_text.data.readers import read_jsonl
from aigc_text.data.sources import Pair, Source, texts
from aigc_text.errors import DataError, OptionError, UserError
from aigc_text.options.training import TrainingOptions

COLUMNS = {"prompt_column": "ask", "completion_column": "answer"}
TABULAR = ["t.jsonl", "t.json", "t.csv", "t.tsv", "t.parquet"]


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def put_table(folder, name, records):
    """The same records in the form that the name's suffix asks for."""
    path, columns = folder / name, list(records[0])
    if path.suffix == ".parquet":
        pq.write_table(pa.table({c: [r[c] for r in records] for c in columns}), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, "excel-tab" if path.suffix == ".tsv" else "excel")
            writer.writerows([columns, *([r[c] for c in columns] for r in records)])
    return path


def refusal(what, kind=DataError, check=False, **how):
    """What iterating refuses with; and that `check` refuses with the very same, where it must find it."""
    with pytest.raises(kind) as refused:
        list(Source(what, **how))
    if check:
        with pytest.raises(kind) as early:
            Source(what, **how).check()
        assert str(early.value) == str(refused.value)
    return refused.value


# Plain text


@pytest.mark.parametrize(
    ("sample_by", "examples"),
    [
        ("document", ["a\nb\n\nc\n"]),
        ("paragraph", ["a\nb", "c\n"]),
        ("line", ["a", "b", "c"]),
    ],
)
def test_a_plain_file_is_one_text_or_its_paragraphs_or_lines(tmp_path, sample_by, examples):
    assert list(Source(put(tmp_path, "t.txt", "a\nb\n\nc\n"), sample_by=sample_by)) == examples


ENDS = pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])


@ENDS
def test_all_line_ends_become_line_feeds(tmp_path, end):
    path = put(tmp_path, "t.txt", "a\nb\n\nc\n".replace("\n", end))
    assert list(Source(path)) == ["a\nb\n\nc\n"]
    assert list(Source(path, sample_by="paragraph")) == ["a\nb", "c\n"]
    assert list(Source(path, sample_by="line")) == ["a", "b", "c"]


@ENDS
def test_nothing_but_line_ends_breaks_lines(tmp_path, end):
    path = put(tmp_path, "t.txt", f"a\u2028b\x0cc\x85d{end}e{end}")
    assert list(Source(path, sample_by="line")) == ["a\u2028b\x0cc\x85d", "e"]


@ENDS
@pytest.mark.parametrize("buffer", [1, 2, 3, 1 << 16])
def test_lines_are_the_same_however_a_file_is_read(tmp_path, monkeypatch, end, buffer):
    monkeypatch.setattr(file_access, "BUFFER", buffer)
    whole = f"one{end}{end}从前{end}last"
    path = put(tmp_path, "t.txt", whole)
    found = list(file_access.lines(path))
    assert found == [(1, f"one{end}"), (2, end), (3, f"从前{end}"), (4, "last")]
    assert [line for _, line in found] == list(file_access.text_lines(whole))


@ENDS
@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.json"])
def test_tables_are_read_with_any_line_ends(tmp_path, name, end):
    records = [{"text": "a", "n": "1"}, {"text": "b c", "n": "2"}]
    content = put_table(tmp_path, name, records).read_bytes().decode().replace("\r\n", "\n").replace("\n", end)
    assert list(Source(put(tmp_path, name, content))) == ["a", "b c"]


@ENDS
def test_a_mistake_has_its_line_and_its_cure_with_any_line_ends(tmp_path, end):
    path = put(tmp_path, "t.jsonl", f'{{"text": "a"}}{end}{{"text"{end}{{"text": "b"}}{end}')
    refused = refusal(path)
    assert refused.message.startswith(f"{path}:2 is not valid JSON")
    subprocess.run(refused.cure.partition("Without this one: ")[2], shell=True, check=True)
    assert list(Source(path.with_name("mended.jsonl"))) == ["a", "b"]


def test_a_byte_order_mark_is_dropped_at_the_start_alone(tmp_path):
    assert list(Source(put(tmp_path, "t.txt", "\ufeffa\n\ufeffb"))) == ["a\n\ufeffb"]
    assert list(Source(put(tmp_path, "t.jsonl", '\ufeff{"text": "a"}'))) == ["a"]
    assert list(Source(put(tmp_path, "t.json", '\ufeff[{"text": "a"}]'))) == ["a"]
    assert list(Source(put(tmp_path, "t.csv", "\ufefftext\na"))) == ["a"]


@given(st.text(alphabet="ab \n\r", max_size=40))
def test_paragraphs_are_what_splitting_the_whole_text_gives(tmp_path_factory, whole):
    path = put(tmp_path_factory.getbasetemp(), "p.txt", whole)
    pieces = whole.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
    assert list(readers.read_plain(path, "paragraph")) == pieces


def test_paragraphs_and_lines_are_read_as_they_are_asked_for(tmp_path):
    path = put(tmp_path, "t.txt", b"one\n\ntwo\n\nthree\xff\n\n")
    for sample_by in ("line", "paragraph"):
        assert list(islice(Source(path, sample_by=sample_by), 2)) == ["one", "two"]


def test_an_unknown_sample_is_refused():
    with pytest.raises(OptionError, match="sample_by cannot be 'sentence'"):
        Source("t.txt", sample_by="sentence")


# Tables


@pytest.mark.parametrize("name", TABULAR)
def test_tables_give_the_chosen_column_and_pass_over_blank_texts(tmp_path, name):
    records = [{"text": "a, b", "body": "x"}, {"text": " ", "body": "y"}, {"text": 'c\n"d"', "body": ""}]
    path = put_table(tmp_path, name, records)
    assert list(Source(path)) == ["a, b", 'c\n"d"']
    assert list(Source(path, text_column="body")) == ["x", "y"]


@pytest.mark.parametrize("name", TABULAR)
def test_two_columns_give_pairs_and_those_without_completion_are_passed_over(tmp_path, name):
    records = [{"ask": "1+1", "answer": "2"}, {"ask": "why?", "answer": "\n"}, {"ask": "", "answer": "so"}]
    found = list(Source(put_table(tmp_path, name, records), **COLUMNS))
    assert found == [Pair("1+1", "2"), Pair("", "so")]
    assert [type(p) for p in found] == [Pair, Pair]
    assert list(texts([*found, "plain"])) == ["1+1", "2", "", "so", "plain"]


@pytest.mark.parametrize("name", TABULAR)
def test_a_table_can_be_read_again(tmp_path, name):
    source = Source(put_table(tmp_path, name, [{"text": "a"}, {"text": "b"}]))
    assert list(source) == list(source) == ["a", "b"]


@pytest.mark.parametrize("missing", COLUMNS)
def test_half_a_pair_of_columns_is_refused(missing):
    given = {name: column for name, column in COLUMNS.items() if name != missing}
    with pytest.raises(OptionError) as refused:
        Source("t.jsonl", **given)
    assert refused.value.message == "prompt_column and completion_column go together"
    assert f"--{missing.replace('_', '-')}" in refused.value.cure


def test_pairs_need_columns(tmp_path):
    path = put(tmp_path, "t.txt", "text")
    refused = refusal(path, check=True, **COLUMNS)
    assert refused.message == f"{path} is plain text and has no columns ask and answer"
    assert "CSV" in refused.cure


@pytest.mark.parametrize(("name", "place"), zip(TABULAR, [":1", ": record 1", ":1", ":1", ""], strict=True))
def test_a_missing_column_names_those_found_and_the_nearest(tmp_path, name, place):
    path = put_table(tmp_path, name, [{"texts": "b", "title": "c"}])
    refused = refusal(path, check=True)
    assert refused.message == f"{path}{place} has no column 'text'. Did you mean 'texts'?"
    assert refused.cure == "Columns found: texts, title. Choose one, e.g. --text-column texts"
    refused = refusal(path, check=True, prompt_column="title", completion_column="reply")
    assert refused.message == f"{path}{place} has no column 'reply'."
    assert refused.cure.endswith("Choose two with --prompt-column and --completion-column.")


@pytest.mark.parametrize("name", TABULAR)
def test_a_table_without_text_is_refused(tmp_path, name):
    path = put_table(tmp_path, name, [{"text": " "}, {"text": ""}])
    refused = refusal(path, check=True)
    assert refused.message == f"{path} holds no text"
    assert refused.cure


def test_options_choose_the_columns(tmp_path):
    path = put_table(tmp_path, "t.csv", [{"ask": "q", "answer": "a"}])
    assert list(Source.of(path, TrainingOptions(**COLUMNS))) == [Pair("q", "a")]
    assert list(Source.of(path, TrainingOptions(text_column="ask"))) == ["q"]
    lines = put(tmp_path, "t.txt", "a\nb")
    assert list(Source.of(lines, TrainingOptions(sample_by="line"))) == ["a", "b"]


def test_a_suffix_counts_in_capitals_too(tmp_path):
    assert list(Source(put(tmp_path, "T.CSV", "text\na\n"))) == ["a"]


# JSONL and JSON


@pytest.mark.parametrize("line", ['{"text": "a"', "text", '{"text": "a"} {"text": "b"}', "[" * 100_000])
def test_broken_json_names_the_line(tmp_path, line):
    path = put(tmp_path, "t.jsonl", f'{{"text": "fine"}}\n{line}\n')
    assert refusal(path).message.startswith(f"{path}:2 is not valid JSON")
    path = put(tmp_path, "t.json", f'[{{"text": "fine"}},\n{line}]')
    assert refusal(path, check=True).message.startswith(f"{path}:{1 if line[0] == '[' else 2} is not valid JSON")


@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "null", "3"])
def test_json_that_is_no_object_names_the_line(tmp_path, line):
    path = put(tmp_path, "t.jsonl", line)
    refused = refusal(path, check=True)
    assert refused.message == f"{path}:1 is not a JSON object: {line}"
    assert '{"text"' in refused.cure
    path = put(tmp_path, "t.json", f'[{{"text": "a"}}, {line}]')
    assert refusal(path).message == f"{path}: record 2 is not a JSON object: {line}"


@pytest.mark.parametrize("content", ['{"text": "a"}', '"text"', "null"])
def test_json_that_is_no_list_names_jsonl(tmp_path, content):
    path = put(tmp_path, "t.json", content)
    refused = refusal(path, check=True)
    assert refused.message == f"{path} is no JSON list of objects"
    assert ".jsonl" in refused.cure
    lines = put(tmp_path, "u.json", '{"text": "a"}\n{"text": "b"}\n')
    assert refusal(lines).message.startswith(f"{lines}:2 is not valid JSON: Extra data")


@pytest.mark.parametrize(("name", "around"), [("t.jsonl", "%s"), ("t.json", "[%s]")])
def test_half_a_character_in_json_is_refused(tmp_path, name, around):
    assert name in refusal(put(tmp_path, name, around % '{"text": "\\ud83d"}')).message
    assert list(Source(put(tmp_path, name, around % '{"text": "\\ud83d\\ude00"}'))) == ["😀"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (5, "the number 5"),
        (-0.5, "the number -0.5"),
        (True, "true"),
        (None, "null"),
        (["a"], 'the list ["a"]'),
        ({"a": 1}, 'the object {"a": 1}'),
    ],
)
def test_a_value_that_is_no_text_is_refused_with_its_type_and_what_it_is(tmp_path, value, kind):
    records = [{"text": "a"}, {"text": value}]
    path = put_table(tmp_path, "t.jsonl", records)
    assert refusal(path).message == f"{path}:2: column 'text' is not text but {kind}"
    path = put_table(tmp_path, "t.json", records)
    assert refusal(path).message == f"{path}: record 2: column 'text' is not text but {kind}"


def test_records_come_with_their_places(tmp_path):
    path = put(tmp_path, "t.jsonl", '{"a": 1}\n\n{"a": 2}\n')
    assert list(read_jsonl(path)) == [(f"{path}:1", {"a": 1}), (f"{path}:3", {"a": 2})]


# CSV


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,n\na,1\n"b\nc,2\nd,3\n', "{}:3 is not valid CSV: a quote opened in this row is never closed"),
        ("text,n\na,1\n\nb\n", "{}:4 has 1 field(s), the header 2"),
        ('text,n\n"a\nb",1\nc,2,3\n', "{}:4 has 3 field(s), the header 2"),
        ('text\n"a" b\n', "{}:2 is not valid CSV: ',' expected after '\"'"),
        ("text,n\ra\rb,1\r", "{}:2 has 1 field(s), the header 2"),
        ("text,text\na,b\n", "{}:1 has 2 columns 'text'"),
        (b"text\nfine\n\xe9\n", "{}:3 is not UTF-8: byte 0xe9 at column 1"),
    ],
)
def test_a_broken_csv_names_the_line(tmp_path, content, message):
    path = put(tmp_path, "t.csv", content)
    refused = refusal(path)
    assert refused.message == message.format(path)
    assert refused.cure


def test_a_csv_is_read_as_it_is_asked_for(tmp_path):
    path = put(tmp_path, "t.csv", 'text\na\nb\n"c')
    assert list(islice(Source(path), 2)) == ["a", "b"]


def test_a_csv_has_room_for_long_fields(tmp_path):
    long = "x" * 300_000  # more than the csv module allows by itself
    assert list(Source(put_table(tmp_path, "t.csv", [{"text": long}]))) == [long]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=200)
@given(st.lists(ANY_TEXT, min_size=1), st.sampled_from([".csv", ".tsv"]), st.booleans())
@example(['a\r\nb "c", d\r', "\t", "\ufeff", ""], ".csv", False)
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, values, suffix, quoted):
    path = tmp_path_factory.getbasetemp() / f"back{suffix}"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, "excel-tab" if suffix == ".tsv" else "excel")
        if quoted:  # with line feeds alone the module would not quote a carriage return by itself
            writer = csv.writer(stream, writer.dialect, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([["id", "text"], *enumerate(values)])
    assert [record["text"] for _, record in readers.read_records(path, ["text"])] == values


# Parquet


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_text_in_parquet_is_text(tmp_path, kind):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", "é", "a"]).cast(kind)}), path)
    assert list(Source(path)) == ["a", "é", "a"]


@pytest.mark.parametrize(
    ("values", "kind"), [([1, 2], "int64"), ([b"a"], "binary"), ([["a"]], "list<element: string>"), ([None], "null")]
)
def test_a_parquet_column_that_is_no_text_names_its_type(tmp_path, values, kind):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": values, "title": ["a"] * len(values)}), path)
    refused = refusal(path, check=True)
    assert refused.message == f"{path}: column 'text' is not text but {kind}"
    assert refused.cure == "Choose a column of text. Columns found: text, title"


def test_a_null_in_parquet_names_its_row(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": [*["a"] * 300, None]}), path, row_group_size=7)
    assert refusal(path).message == f"{path}: row 301: column 'text' is not text but null"


def test_a_broken_parquet_is_one_line(tmp_path):
    whole = put_table(tmp_path, "t.parquet", [{"text": "a" * 100}]).read_bytes()
    for content in (b"", b"text", b"PAR1" + b"\xff" * 40 + b"PAR1", whole[:-30], whole[:4] + bytes(60) + whole[64:]):
        path = put(tmp_path, "broken.parquet", content)
        refused = refusal(path, check=True)
        assert refused.message.startswith(f"{path} is not a whole Parquet file: ")


def test_of_a_parquet_file_no_more_is_read_than_was_asked_for(tmp_path):
    path = tmp_path / "t.parquet"
    rows = [f"{n} {os.urandom(500).hex()}" for n in range(4000)]
    other = pa.array([os.urandom(2000) for _ in rows])
    pq.write_table(pa.table({"text": rows, "other": other}), path, row_group_size=500, use_dictionary=False)
    raw, groups = path.read_bytes(), pq.ParquetFile(path).metadata
    start = groups.row_group(1).column(0).data_page_offset
    end = groups.row_group(7).column(1).data_page_offset
    path.write_bytes(raw[:start] + bytes(end - start) + raw[end:])  # of the first row group alone something is left
    assert list(islice(Source(path), 500)) == rows[:500]
    with pytest.raises(DataError, match=r"t\.parquet is not a whole Parquet file"):
        list(Source(path))


def test_a_row_group_that_is_the_whole_file_is_not_in_memory_at_once(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"text": [os.urandom(1000).hex() for _ in range(10_000)]})
    pq.write_table(table, path, use_dictionary=False, compression="none")
    del table
    assert pq.ParquetFile(path).num_row_groups == 1 and path.stat().st_size > 2e7
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in Source(path))
    assert 1e5 < most < 8e6


# UTF-8


@pytest.mark.parametrize("name", ["t.txt", "t.jsonl"])
def test_bad_utf8_names_line_byte_and_column(tmp_path, name):
    path = put(tmp_path, name, b'{"text": "good"}\n{"text": "\xe9"}\n')
    refused = refusal(path)
    assert refused.message == f"{path}:2 is not UTF-8: byte 0xe9 at column 11"
    assert "iconv" in refused.cure


def test_bad_utf8_after_a_byte_order_mark_names_the_right_byte(tmp_path):
    assert "byte 0xfe at column 3" in refusal(put(tmp_path, "t.txt", b"\xef\xbb\xbfab\xfe")).message


# Whatever the bytes are


def _parquet_bytes():
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(20)], "n": range(20)}), stream, row_group_size=5)
    return stream.getvalue()


SOUND = {
    ".jsonl": b'{"text": "a\\u00e9"}\n{"text": "b", "n": [1, 2]}\n',
    ".json": b'[{"text": "a\\u00e9"}, {"text": "b"}]',
    ".csv": b'text,n\n"a ""b""\nc",1\r\nd,2\n',
    ".parquet": _parquet_bytes(),
    ".txt": b"a\n\nb\r\n",
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_never_raise_anything_but_the_users_error(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from(sorted(SOUND)))
    raw = bytearray(SOUND[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = put(tmp_path_factory.getbasetemp(), f"damaged{suffix}", bytes(raw))
    try:
        found = list(Source(path, sample_by="paragraph"))
    except UserError as error:
        assert path.name in error.message and "\n" not in error.message
    else:
        assert found and all(isinstance(f, str) and f.strip() for f in found)
