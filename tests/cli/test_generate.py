"""`aigc-text generate`: what it refuses and what it gives."""

import json
import os

import pytest
from commands import file


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--backend", "gtp2"], ["'gtp2'", "Did you mean 'gpt2'?", "code"]),
        (["--backend", "b" * 500], ["unknown backend", "gpt2"]),
        (["--tempreature", "1"], ["--tempreature", "--temperature"]),
        (["--temperature", "0"], ["temperature cannot be 0.0", "above 0"]),
        (["--temperature", "hot"], ["temperature cannot be 'hot'", "a number"]),
        (["--temperature", "nan"], ["temperature cannot be nan"]),
        (["--top-p", "1.5"], ["top_p cannot be 1.5", "up to 1"]),
        (["--max-new-tokens", "-3"], ["max_new_tokens cannot be -3", "from 1"]),
        (["--seed", "one"], ["seed cannot be 'one'", "a whole number"]),
        (["--stop", ""], ["stop_strings cannot be ''", "not empty"]),
        (["-n", "3", "--no-do-sample"], ["num_return_sequences=3 without sampling", "--do-sample"]),
        (["--format", "xml"], ["'xml'", "jsonl"]),
        (["--batch-size", "0"], ["--batch-size", "0"]),
        (["-o", "suffix"], ["-o 'suffix' is not of the form key=value", "E.g."]),
        (["-o", "a=1", "-o", "a=2"], ["-o a is given twice"]),
        (["--prompts", "no-such.txt"], ["no-such.txt does not exist"]),
        (["--prompts", "x.txt"], ["--prompt", "and --prompts x.txt contradict each other"]),
        (["--template", "On {topic}"], ["no field 'topic'", "Fields found: prompt"]),
        (["--min-new-tokens", "9", "--max-new-tokens", "8"], ["min_new_tokens=9 is more than max_new_tokens=8"]),
        (["--device", "gpux"], ["'gpux'", "Allowed: cpu"]),
        (["--device", "meta"], ["'meta'", "Allowed: cpu"]),
        (["--dtype", "fp8"], ["unknown dtype 'fp8'", "fp16"]),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_generate_refuses(refused, tmp_path, monkeypatch, tiny_gpt2, words, says):
    monkeypatch.chdir(tmp_path)
    prompt = [] if words == ["--prompts", "no-such.txt"] else ["--prompt", "x"]
    model = [] if "--backend" in words else ["--model", tiny_gpt2]
    refused("generate", *model, *prompt, *words, says=says)


def test_an_option_of_the_backend_that_does_not_exist_is_refused_with_the_nearest(refused, tiny_gpt2):
    words = ["generate", "--model", tiny_gpt2, "--backend", "code", "--prompt", "x", "-o"]
    refused(*words, "sufix=1", says=["no option 'sufix'", "Did you mean 'suffix'?"])
    refused(*words, "stop-at-function-end=maybe", says=["stop_at_function_end cannot be 'maybe'", "true or false"])


def test_an_option_that_a_backend_does_not_heed_is_refused(refused, plain):
    words = ["generate", "--backend", plain("Plain"), "--prompt", "x"]
    refused(
        *words,
        "--temperature",
        "0.5",
        says=["no option 'temperature'", "Allowed: max_new_tokens, num_return_sequences, seed"],
    )
    refused(*words, "--device", "cpu", says=["no loading option 'device'"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.txt", "", ["p.txt holds no prompt"]),
        ("p.jsonl", "\n", ["p.jsonl holds no prompt", '{"prompt"']),
        ("p.txt", b"fine\n\xb0\xa1\n", ["p.txt:2 is not UTF-8", "0xb0", "iconv"]),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt"\n', ["p.jsonl:2 is not valid JSON", "one JSON object"]),
        ("p.jsonl", '{"promt": "a", "id": 1}', ["p.jsonl:1", "Did you mean 'promt'?", "Columns found: promt, id"]),
        ("p.jsonl", '{"prompt": "\\ud83d"}', ["p.jsonl:1"]),
    ],
)
def test_a_bad_prompt_file_is_refused_with_file_and_line(refused, tmp_path, tiny_gpt2, name, content, says):
    path = file(tmp_path, name, content)
    refused("generate", "--model", tiny_gpt2, "--prompts", path, says=says)


def test_a_prompt_file_that_is_missing_or_a_folder_is_refused(refused, tmp_path):
    file(tmp_path, "prompts.txt", "a")
    refused("generate", "--prompts", tmp_path / "promts.txt", says=["promts.txt does not exist", "'prompts.txt'"])
    refused("generate", "--prompts", tmp_path, says=[f"{tmp_path} cannot be read"])


def test_prompts_that_are_not_utf8_are_refused(refused, tiny_gpt2):
    refused("generate", "--model", tiny_gpt2, stdin=b"ab\xff", says=["standard input is not UTF-8 at byte 3"])
    words = ["generate", "--model", tiny_gpt2, "--format", "jsonl", "--output", "never.jsonl"]
    refused(*words, "--prompt", "a\udcff", says=["the prompt 'a\\udcff' is not UTF-8"])
    refused(*words, "--prompt", "a", "--template", "\udcff{prompt}", says=["the template '\\udcff{prompt}' is not"])
    refused(*words, "--prompt", "a", "--stop", "\udcff", says=["stop_strings is not UTF-8: '\\udcff'"])


def test_a_prompt_longer_than_the_context_is_refused_with_both_lengths(refused, generate, tiny_gpt2):
    long = "z " * 59 + "z"
    refused("generate", "--model", tiny_gpt2, "--prompt", long, says=["119 tokens", "64", "--truncate-prompt"])
    assert generate("--prompt", long, "--truncate-prompt", "--no-echo").out


def test_a_model_neither_cached_nor_reachable_is_refused(refused, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    words = ["generate", "--prompt", "x", "--model"]
    says = ["'nobody/nothing' is neither a folder nor in the cache", "hf download nobody/nothing"]
    refused(*words, "nobody/nothing", says=says)
    refused(*words, "not a name!", says=["'not a name!' is neither a folder nor a hub id", "owner/name"])


def test_a_folder_without_a_model_is_refused(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "runs" / "first").mkdir(parents=True)
    file(tmp_path / "runs" / "first", "config.json", "{}")
    words = ["generate", "--prompt", "x", "--model"]
    refused(*words, tmp_path / "empty", says=["empty holds no model: no config.json", "Give the folder"])
    refused(*words, tmp_path / "runs", says=["Models inside it: first"])
    refused(*words, tmp_path / "none", says=["there is no folder", "none"])
    refused(*words, file(tmp_path, "note.txt", "x"), says=["note.txt is a file"])
    file(tmp_path / "empty", "config.json", "{broken")
    refused(*words, tmp_path / "empty", says=["config.json cannot be read"])


def test_a_backend_that_is_not_the_models_own_is_refused_naming_both(refused, run, tmp_path, tiny_gpt2):
    from aigc_text import load

    load("code", str(tiny_gpt2)).save_pretrained(tmp_path / "saved")
    words = ["generate", "--model", tmp_path / "saved", "--prompt", "x"]
    refused(*words, "--backend", "gpt2", says=["belongs to backend 'code', not 'gpt2'", "--backend code"])
    own = run(*words, "--max-new-tokens", "2", "--format", "jsonl")
    assert own.records[0]["backend"] == "code"


def test_a_suffix_is_refused_where_the_tokenizer_cannot_fill_in(refused, tiny_gpt2):
    words = ["generate", "--model", tiny_gpt2, "--prompt", "x", "--suffix", "y"]
    refused(*words, "--backend", "code", says=["no tokens to fill in the middle", "Qwen/Qwen2.5-Coder-0.5B"])
    refused(*words, "--backend", "gpt2", says=["no option 'suffix'"])


def test_a_text_follows_its_prompt_and_the_seed_goes_to_standard_error(generate):
    echoed, bare = generate("--prompt", "The cat"), generate("--prompt", "The cat", "--no-echo")
    assert echoed.out == f"The cat{bare.out}"
    assert len(bare.out) > 1
    assert echoed.err == "seed 1\n"


def test_a_seed_repeats_itself_and_another_one_does_not(generate):
    words = ["--prompt", "The cat", "-n", "2"]
    assert generate(*words).out == generate(*words).out
    assert generate(*words).out != generate(*words, seed="2").out


def test_a_drawn_seed_is_told_and_gives_the_text_again(run, generate, tiny_gpt2):
    words = ["--prompt", "The cat", "--max-new-tokens", "12"]
    drawn = run("generate", "--model", tiny_gpt2, *words)
    assert generate(*words, seed=drawn.err.split()[1]).out == drawn.out


def test_a_record_has_all_its_fields(generate, tiny_gpt2):
    [record] = generate("--prompt", "The cat", "--format", "jsonl", "--temperature", "0.9").records
    assert record["prompt"] == "The cat" and record["text"]
    assert (record["prompt_index"], record["index"], record["seed"]) == (0, 0, 1)
    assert record["finish_reason"] in ("stop", "length")
    assert record["exact"] is True
    assert record["options"]["temperature"] == 0.9
    assert record["options"]["max_new_tokens"] == 12
    assert record["options"]["do_sample"] is True
    assert (record["backend"], record["model"], record["precision"]) == ("gpt2", str(tiny_gpt2), "float32")
    assert len(record["revision"]) == 12
    assert 0 < record["tokens"] <= 12
    assert record["seconds"] >= 0
    assert record["engine"] == "torch" and len(record) == 15


def test_json_is_one_list_of_the_same_records(generate):
    words = ["--prompt", "The cat", "--prompt", "狗", "--format"]

    def timeless(records):
        return [{k: v for k, v in r.items() if k != "seconds"} for r in records]

    as_list = generate(*words, "json")
    assert timeless(json.loads(as_list.out)) == timeless(generate(*words, "jsonl").records)
    assert "狗" in as_list.out


def test_several_texts_come_in_order_under_headings(generate):
    words = ["--prompt", "a", "--prompt", "b", "-n", "3"]
    texts = {(r["prompt_index"], r["index"]): r["text"] for r in generate(*words, "--format", "jsonl").records}
    assert list(texts) == [(i, j) for i in (0, 1) for j in (0, 1, 2)]
    blocks = [f"=== prompt {i + 1}, text {j + 1} ===\n{'ab'[i]}{text}\n" for (i, j), text in texts.items()]
    assert generate(*words).out == "\n".join(blocks)


def test_a_file_of_several_texts_has_no_headings(run, plain, tmp_path):
    out = tmp_path / "texts.txt"
    told = run(
        "generate", "--backend", plain("Plain"), "--prompt", "ab", "--prompt", "cd", "--no-echo", "--output", out
    )
    assert told.code == 0 and out.read_text() == "ba\ndc\n" and "line breaks" not in told.err
    prompts = ["--prompt", "a\nb", "--prompt", "cd"]
    told = run("generate", "--backend", plain("Plain"), *prompts, "--output", out, "--overwrite")
    assert out.read_text() == "a\nbb\na\ncddc\n"
    assert "1 text(s) have line breaks; to tell texts apart: --format jsonl" in told.err


def test_texts_of_several_prompts_have_headings_without_their_prompts_too(run, plain):
    told = run("generate", "--backend", plain("Plain"), "--prompt", "ab", "--prompt", "cd", "--no-echo")
    assert told.out == "=== prompt 1, text 1 ===\nba\n\n=== prompt 2, text 1 ===\ndc\n"


def test_a_stop_string_ends_the_text_before_it(generate):
    words = ["--prompt", "The cat", "--format", "jsonl"]
    [whole] = generate(*words).records
    stop = whole["text"][4:6]
    [cut] = generate(*words, "--stop", "never to be found", "--stop", stop).records
    assert cut["text"] == whole["text"][: whole["text"].index(stop)]
    assert cut["finish_reason"] == "stop"
    assert cut["options"]["stop_strings"] == ["never to be found", stop]


def test_prompts_come_from_a_file_and_templates_from_its_fields(run, plain, tmp_path):
    words = ["generate", "--backend", plain("Plain"), "--format", "jsonl", "--prompts"]
    lines = file(tmp_path, "p.txt", "one\n\ntwo\n")
    assert [r["prompt"] for r in run(*words, lines).records] == ["one", "two"]
    assert [r["prompt"] for r in run(*words, lines, "--template", "{prompt}!").records] == ["one!", "two!"]
    fields = file(tmp_path, "p.jsonl", '{"topic": "loops"}\n{"topic": "lists"}\n')
    template = "About {topic} {{and}} {topic.__class__}"
    prompts = [r["prompt"] for r in run(*words, fields, "--template", template).records]
    assert prompts == [f"About {t} {{and}} {{topic.__class__}}" for t in ("loops", "lists")]


def test_a_prompt_comes_from_standard_input(run, plain):
    words = ["generate", "--backend", plain("Plain"), "--no-echo"]
    assert run(*words, stdin="abc 猫\n".encode()).out == "猫 cba\n"
    assert run(*words, "--template", "<{prompt}>", stdin=b"ab").out == ">ba<\n"
    assert run(*words, stdin=b"").out == "\n"
    assert run(*words, "--prompt", "given", stdin=b"ignored").out == "nevig\n"


def test_an_output_file_appears_when_it_is_complete(run, refused, plain, tmp_path):
    out = tmp_path / "out.txt"
    words = ["generate", "--backend", plain("Peeking"), "--prompt", tmp_path, "--no-echo", "--output", out]
    made = run(*words)
    assert (made.code, made.out) == (0, "")
    assert out.read_text() == ".out.txt.lock out.txt.partial\n"
    assert os.listdir(tmp_path) == ["out.txt"]
    refused(*words, says=["out.txt exists already", "--overwrite"])
    assert out.read_text() == ".out.txt.lock out.txt.partial\n"
    assert run(*words, "--overwrite").code == 0
    assert out.read_text() == ".out.txt.lock out.txt out.txt.partial\n"


def test_an_output_file_that_cannot_be_written_is_refused_before_anything_is_generated(refused, plain, tmp_path):
    words = ["generate", "--backend", plain("Faulty"), "--prompt", "stop", "--output"]
    refused(*words, tmp_path / "no" / "out.txt", says=["out.txt", "cannot be written", "--output"])
    (tmp_path / "folder").mkdir()
    refused(*words, tmp_path / "folder", "--overwrite", says=["folder is a folder"])
    refused(*words, tmp_path / ("x" * 300), says=["cannot be written"])
    file(tmp_path, "left.txt.partial", "of a run before")
    refused(*words, tmp_path / "left.txt", says=["left.txt.partial exists already"])


def test_what_was_finished_before_an_interruption_is_kept_under_another_name(run, plain, tmp_path):
    prompts = ["--prompt", "one", "--prompt", "stop", "--format", "jsonl"]
    broken = run("generate", "--backend", plain("Interrupted"), *prompts, "--output", tmp_path / "out.jsonl")
    assert broken.code == 130
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl.partial", "out.jsonl.partial.run"]
    assert json.loads((tmp_path / "out.jsonl.partial").read_text())["text"] == "one"
    assert "out.jsonl.partial" in broken.err and "--resume" in broken.err


def test_the_code_backend_takes_its_own_options(generate):
    words = ["--backend", "code", "--prompt", "def f(x):\n", "--format", "jsonl"]
    [stopped] = generate(*words).records
    [free] = generate(*words, "-o", "stop_at_function_end=no").records
    assert stopped["backend"] == "code"
    assert free["options"]["stop_at_function_end"] is False
    assert free["text"].startswith(stopped["text"])


def test_a_name_is_a_backend_even_where_a_folder_is_called_so(run, plain, tmp_path, monkeypatch):
    from aigc_text.backends import registry

    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})
    registry.register_backend("plain", registry.get_backend(plain("Plain")))
    assert run("generate", "--backend", "plain", "--prompt", "ab").out == "abba\n"
