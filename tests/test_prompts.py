"""Prompts from files and templates."""

import json

import pytest

from aigc_text.errors import DataError
from aigc_text.prompts import fill, read_prompts


def _file(folder, name, content):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_each_line_of_a_text_file_that_is_not_blank_is_a_prompt(tmp_path):
    path = _file(tmp_path, "p.txt", "one\n\n  two \n   \nthree")
    assert list(read_prompts(path)) == ["one", "  two ", "three"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_prompts_are_read_with_any_line_ends(tmp_path, end):
    lines = _file(tmp_path, "p.txt", "")
    lines.write_bytes(f"one{end}{end}two\u2028three{end}".encode())
    assert list(read_prompts(lines)) == ["one", "two\u2028three"]
    lines = _file(tmp_path, "p.jsonl", "")
    lines.write_bytes(f'{{"prompt": "one"}}{end}{{"prompt": "two"}}{end}'.encode())
    assert list(read_prompts(lines)) == ["one", "two"]


def test_jsonl_holds_prompts_and_the_empty_one_is_a_prompt(tmp_path):
    path = _file(tmp_path, "p.jsonl", '{"prompt": "one\\ntwo"}\n\n{"prompt": "", "id": 7}\n')
    assert list(read_prompts(path)) == ["one\ntwo", ""]


def test_an_ending_is_known_in_capitals_too(tmp_path):
    assert list(read_prompts(_file(tmp_path, "P.JSONL", '{"prompt": "one"}\n'))) == ["one"]


def test_a_template_is_filled_from_fields(tmp_path):
    path = _file(tmp_path, "p.ndjson", '{"topic": "loops", "n": 3}\n{"topic": "循环", "n": 4}\n')
    assert list(read_prompts(path, "{n} on {topic}")) == ["3 on loops", "4 on 循环"]


def test_a_template_takes_the_line_of_a_text_file_as_prompt(tmp_path):
    assert list(read_prompts(_file(tmp_path, "p.txt", "cats\ndogs\n"), "On {prompt}:")) == ["On cats:", "On dogs:"]


def test_double_braces_are_braces():
    assert fill("{{a}} {a} {{{a}}} }}{{", {"a": 1}, "here") == "{a} 1 {1} }{"


def test_braces_in_a_value_are_not_filled_again():
    assert fill("{a}", {"a": "{b}{{", "b": "no"}, "here") == "{b}{{"


@pytest.mark.parametrize("template", ["{topic.__class__}", "{topic[0]}", "{topic!r}", "{topic:>9}", "{}", "{ topic }"])
def test_a_template_cannot_reach_into_a_value(template):
    assert fill(template, {"topic": "secret"}, "here") == template


def test_a_missing_field_names_the_place_the_nearest_and_those_found(tmp_path):
    path = _file(tmp_path, "p.jsonl", '{"topic": "a"}\n{"tpoic": "b", "level": 1}\n')
    with pytest.raises(DataError) as refused:
        list(read_prompts(path, "On {topic}"))
    assert refused.value.message == f"{path}:2 has no field 'topic' for the template. Did you mean 'tpoic'?"
    assert refused.value.cure == "Fields found: tpoic, level"


def test_a_record_without_prompt_names_the_place_and_the_template_that_helps(tmp_path):
    path = _file(tmp_path, "p.jsonl", '{"topic": "a"}\n')
    with pytest.raises(DataError) as refused:
        list(read_prompts(path))
    assert f"{path}:1 has no text field 'prompt'" in refused.value.message
    assert "Fields found: topic." in refused.value.cure and "--template '{topic}'" in refused.value.cure


@pytest.mark.parametrize("prompt", [None, 5, ["a"], {"text": "a"}])
def test_a_prompt_that_is_no_text_is_refused(tmp_path, prompt):
    path = _file(tmp_path, "p.jsonl", json.dumps({"prompt": prompt}))
    with pytest.raises(DataError, match="p.jsonl:1"):
        list(read_prompts(path))


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path, name, content):
    with pytest.raises(DataError, match=f"{name} holds no"):
        list(read_prompts(_file(tmp_path, name, content)))


def test_errors_name_file_and_line(tmp_path):
    with pytest.raises(DataError, match="p.jsonl:2 is not valid JSON"):
        list(read_prompts(_file(tmp_path, "p.jsonl", '{"prompt": "a"}\n{"prompt": \n')))
    with pytest.raises(DataError, match="q.jsonl:1 is not a JSON object"):
        list(read_prompts(_file(tmp_path, "q.jsonl", "[1]\n")))
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(DataError, match="bad.txt:2 is not UTF-8"):
        list(read_prompts(tmp_path / "bad.txt"))


def test_half_a_character_in_json_is_refused(tmp_path):
    with pytest.raises(DataError, match="p.jsonl:1"):
        list(read_prompts(_file(tmp_path, "p.jsonl", '{"prompt": "\\ud83d"}\n')))
    assert list(read_prompts(_file(tmp_path, "q.jsonl", '{"prompt": "\\ud83d\\ude00"}\n'))) == ["😀"]
