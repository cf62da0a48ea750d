"""Prompts from files and templates."""

import csv
import json

import pytest
from commands import file

from aigc_text.errors import DataError
from aigc_text.generation.prompt_files import fill, read_prompts


def test_each_line_of_a_text_file_that_is_not_blank_is_a_prompt(tmp_path):
    path = file(tmp_path, "p.txt", "one\n\n  two \n   \nthree")
    assert list(read_prompts(path)) == ["one", "  two ", "three"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_prompts_are_read_with_any_line_ends(tmp_path, end):
    lines = file(tmp_path, "p.txt", "")
    lines.write_bytes(f"one{end}{end}two\u2028three{end}".encode())
    assert list(read_prompts(lines)) == ["one", "two\u2028three"]
    lines = file(tmp_path, "p.jsonl", "")
    lines.write_bytes(f'{{"prompt": "one"}}{end}{{"prompt": "two"}}{end}'.encode())
    assert list(read_prompts(lines)) == ["one", "two"]


def test_jsonl_holds_prompts_and_the_empty_one_is_a_prompt(tmp_path):
    path = file(tmp_path, "p.jsonl", '{"prompt": "one\\ntwo"}\n\n{"prompt": "", "id": 7}\n')
    assert list(read_prompts(path)) == ["one\ntwo", ""]


def test_an_ending_is_known_in_capitals_too(tmp_path):
    assert list(read_prompts(file(tmp_path, "P.JSONL", '{"prompt": "one"}\n'))) == ["one"]


def test_a_template_is_filled_from_fields(tmp_path):
    path = file(tmp_path, "p.ndjson", '{"topic": "loops", "n": 3}\n{"topic": "循环", "n": 4}\n')
    assert list(read_prompts(path, "{n} on {topic}")) == ["3 on loops", "4 on 循环"]


def test_a_template_takes_the_line_of_a_text_file_as_prompt(tmp_path):
    assert list(read_prompts(file(tmp_path, "p.txt", "cats\ndogs\n"), "On {prompt}:")) == ["On cats:", "On dogs:"]


def test_double_braces_are_braces():
    assert fill("{{a}} {a} {{{a}}} }}{{", {"a": 1}, "here") == "{a} 1 {1} }{"


def test_braces_in_a_value_are_not_filled_again():
    assert fill("{a}", {"a": "{b}{{", "b": "no"}, "here") == "{b}{{"


@pytest.mark.parametrize("template", ["{topic.__class__}", "{topic[0]}", "{topic!r}", "{topic:>9}", "{}", "{ topic }"])
def test_a_template_cannot_reach_into_a_value(template):
    assert fill(template, {"topic": "secret"}, "here") == template


def test_a_missing_field_names_the_place_the_nearest_and_those_found(tmp_path):
    path = file(tmp_path, "p.jsonl", '{"topic": "a"}\n{"tpoic": "b", "level": 1}\n')
    with pytest.raises(DataError) as refused:
        list(read_prompts(path, "On {topic}"))
    assert refused.value.message == f"{path}:2 has no field 'topic' for the template. Did you mean 'tpoic'?"
    assert refused.value.cure == "Fields found: tpoic, level"


def test_a_record_without_prompt_names_the_place_and_the_column_that_helps(tmp_path):
    path = file(tmp_path, "p.jsonl", '{"topic": "a", "promt": "b"}\n')
    with pytest.raises(DataError) as refused:
        list(read_prompts(path))
    assert refused.value.message == f"{path}:1 has no column 'prompt'. Did you mean 'promt'?"
    assert refused.value.cure == "Columns found: topic, promt. Choose one, e.g. --prompt-column promt"
    assert list(read_prompts(path, column="promt")) == ["b"]


@pytest.mark.parametrize(
    ("prompt", "said"), [(None, "null"), (5, "the number 5"), (["a"], "the list"), ({"text": "a"}, "the object")]
)
@pytest.mark.parametrize("template", [None, "On {prompt}"])
def test_a_prompt_that_is_no_text_says_what_it_is(tmp_path, prompt, said, template):
    path = file(tmp_path, "p.jsonl", json.dumps({"prompt": prompt}))
    if template and prompt == 5:
        assert list(read_prompts(path, template)) == ["On 5"]
        return
    with pytest.raises(DataError) as refused:
        list(read_prompts(path, template))
    assert refused.value.message.startswith(f"{path}:1: column 'prompt' is not text but {said}")
    assert "Did you mean" not in str(refused.value)


TABLE = [{"prompt": "one, two", "n": "1"}, {"prompt": "drei\nvier", "n": "2"}]


def _table(folder, kind, records):
    path = folder / f"p.{kind}"
    if kind == "json":
        path.write_text(json.dumps(records), encoding="utf-8")
    elif kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, records[0], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "parquet"])
def test_prompts_come_from_the_kinds_of_files_that_data_come_from(tmp_path, kind):
    path = _table(tmp_path, kind, TABLE)
    assert list(read_prompts(path)) == ["one, two", "drei\nvier"]
    assert list(read_prompts(path, column="n")) == ["1", "2"]
    assert list(read_prompts(path, "{n}: {prompt}")) == ["1: one, two", "2: drei\nvier"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_the_only_column_of_a_table_is_the_prompt_and_one_of_several_must_be_named(tmp_path, kind):
    path = _table(tmp_path, kind, [{"question": "who?"}, {"question": "when?"}])
    assert list(read_prompts(path)) == ["who?", "when?"]
    path = _table(tmp_path, kind, [{"question": "who?", "answer": "me"}])
    with pytest.raises(
        DataError, match="has no column 'prompt'.\nColumns found: question, answer. Choose one, e.g. --prompt-column"
    ):
        list(read_prompts(path))


def test_plain_text_has_no_columns(tmp_path):
    with pytest.raises(DataError, match="p.txt is plain text and has no column 'topic'"):
        list(read_prompts(file(tmp_path, "p.txt", "cats\n"), column="topic"))


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path, name, content):
    with pytest.raises(DataError, match=f"{name} holds no"):
        list(read_prompts(file(tmp_path, name, content)))


def test_errors_name_file_and_line(tmp_path):
    with pytest.raises(DataError, match="p.jsonl:2 is not valid JSON"):
        list(read_prompts(file(tmp_path, "p.jsonl", '{"prompt": "a"}\n{"prompt": \n')))
    with pytest.raises(DataError, match="q.jsonl:1 is not a JSON object"):
        list(read_prompts(file(tmp_path, "q.jsonl", "[1]\n")))
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(DataError, match="bad.txt:2 is not UTF-8"):
        list(read_prompts(tmp_path / "bad.txt"))


def test_half_a_character_in_json_is_refused(tmp_path):
    with pytest.raises(DataError, match="p.jsonl:1"):
        list(read_prompts(file(tmp_path, "p.jsonl", '{"prompt": "\\ud83d"}\n')))
    assert list(read_prompts(file(tmp_path, "q.jsonl", '{"prompt": "\\ud83d\\ude00"}\n'))) == ["😀"]
