"""The command line: other commands, exit codes, and what goes where."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import MARKOV, Terminal

from aigc_text.cli.streams import destination
from aigc_text.errors import OptionError


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["genrate"], ["'genrate'", "generate"]),
        (["backends", "show", "gtp2"], ["'gtp2'", "Did you mean 'gpt2'?"]),
        (["backends", "check", "cod"], ["'cod'", "Did you mean 'code'?"]),
        (["backends", "check", "no.py:Class"], ["no.py"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_other_commands_refuse(refused, words, says):
    refused(*words, says=says)


def test_backends_lists_names_origins_and_capabilities(run):
    table = run("backends")
    assert table.code == 0 and table.err == ""
    header, *rows = table.out.splitlines()
    assert header.split() == ["NAME", "FROM", "VERSION", "CAPABILITIES"]
    assert [row.split()[:2] for row in rows[:2]] == [["gpt2", "aigc-text"], ["code", "aigc-text"]]
    records = json.loads(run("backends", "--json").out)
    assert [r["name"] for r in records[:2]] == ["gpt2", "code"]
    assert "infilling" in records[1]["capabilities"]
    assert set(records[0]) == {"name", "distribution", "version", "capabilities"}


def test_backends_show_tells_all_options_with_their_help(run):
    shown = run("backends", "show", "code").out
    assert "Capabilities: prompts, continues" in shown
    for line in ("  suffix: What follows the gap", "  temperature: Divides the scores", "(a number above 0)"):
        assert line in shown
    options = json.loads(run("backends", "show", "code", "--json").out)["options"]
    assert options["top_p"]["allowed"] == "a number above 0 and up to 1"
    assert options["stop_at_function_end"]["help"]


def test_backends_show_tells_no_option_that_the_backend_refuses(run):
    shown = run("backends", "show", f"{MARKOV}:Markov").out
    shared, own = shown.split("Options of its own (-o name=value):")
    assert "  max_new_tokens: " in shared and "temperature" not in shown
    assert own.startswith("\n  restart: Chance of jumping")
    assert "restart" in json.loads(run("backends", "show", f"{MARKOV}:Markov", "--json").out)["options"]
    assert "temperature" not in run("backends", "show", f"{MARKOV}:Markov", "--json").out


def test_backends_check_holds_a_backend_to_the_contract(run, refused, plain):
    pytest.importorskip("torch")
    kept = run("backends", "check", f"{MARKOV}:Markov")
    assert kept.code == 0, kept.err
    assert "ok  Stream equals generate" in kept.out and kept.out.endswith("keeps the contract.\n")
    broken = run("backends", "check", plain("Plain"))
    assert broken.code == 2
    assert "breaks the contract" in broken.err and "Traceback" not in broken.err


def test_without_a_command_the_help_is_shown(run):
    shown = run()
    assert "Usage: aigc-text" in shown.out + shown.err and "Error" not in shown.err
    assert run("--help").out.count("generate") == 1
    assert run("--version").out.startswith("aigc-text, version ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate", "--prompts", "LONG", "--format", "jsonl", "--output", "o"], "cannot be read: File name too long"),
        (["generate", "--backend", "LONG.py:C", "--prompt", "a"], "there is no file"),
        (["generate", "--model", "~nobody-of-that-name/m", "--prompt", "a"], "there is no folder"),
        (["copies", "LONG", "--source", "LONG"], "cannot be read: File name too long"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_name_that_no_file_can_have_is_told_like_a_missing_file(refused, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    refused(*(word.replace("LONG", "x" * 300) for word in words), says=[says])


def test_debug_shows_the_traceback(run):
    told = run("--debug", "backends", "show", "gtp2")
    assert told.code == 2
    assert "Traceback (most recent call last)" in told.err and "Error: unknown backend 'gtp2'" in told.err


def test_a_fault_of_ours_is_exit_code_1_and_one_line(run, monkeypatch):
    def fail():
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("aigc_text.cli.backends.list_backends", fail)
    words = ["backends"]
    told = run(*words)
    assert told.code == 1
    assert told.err.splitlines() == [
        "Error: internal error: ZeroDivisionError: two lines",
        "Run it again with --debug and report it.",
    ]
    assert "Traceback" in run("--debug", *words).err


def test_a_fault_of_a_plugin_is_its_own_and_exit_code_2(run, plain):
    words = ["generate", "--backend", plain("Faulty"), "--prompt", "stop"]
    told = run(*words)
    assert told.code == 2
    file, _, _ = plain("Faulty").rpartition(":")
    line = next(n for n, text in enumerate(Path(file).read_text().split("\n"), 1) if "raise ZeroDivisionError" in text)
    assert told.err.splitlines() == [
        f"Error: backend file '{plain('Faulty')}' failed: ZeroDivisionError: two lines ({file}:{line})",
        f"Mend the file, and try it: aigc-text backends check {plain('Faulty')}",
    ]
    assert "Traceback" in run("--debug", *words).err


@pytest.mark.parametrize(("kind", "says"), [("Piping", "BrokenPipeError"), ("Full", "No space left on device")])
@pytest.mark.parametrize("more", [[], ["--output", "out"], ["--output", "out", "--format", "jsonl"]], ids=str)
def test_a_pipe_or_disk_of_a_plugin_is_not_taken_for_our_output(run, plain, tmp_path, monkeypatch, kind, says, more):
    monkeypatch.chdir(tmp_path)
    told = run("generate", "--backend", plain(kind), "--prompt", "stop", *more)
    assert told.code == 2 and f"Error: backend file '{plain(kind)}' failed: " in told.err and says in told.err
    assert os.listdir() == []


def test_a_broken_pipe_of_our_own_is_not_taken_for_a_reader_that_left(run, monkeypatch):
    def fail():
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("aigc_text.cli.backends.list_backends", fail)
    told = run("backends")
    assert told.code == 1 and told.err.startswith("Error: internal error: BrokenPipeError")


@pytest.mark.parametrize(
    "words",
    [
        ["copies", "texts.txt", "--source", "texts.txt", "--output", "out"],
        ["evaluate-code", "problems.jsonl", "--samples", "solutions", "--syntax-only", "--output", "out"],
    ],
    ids=lambda words: words[0],
)
def test_the_output_file_is_complete_when_the_reader_of_standard_output_has_gone(tmp_path, words):
    (tmp_path / "texts.txt").write_text("a text\n")
    problem = {"task_id": "a", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f): pass"}
    (tmp_path / "problems.jsonl").write_text(json.dumps({**problem, "canonical_solution": "    pass\n"}))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "aigc_text", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60)
    os.close(writer)
    assert done.returncode == 0 and "Error" not in done.stderr
    assert json.loads((tmp_path / "out").read_text()) and not (tmp_path / "out.partial").exists()


def test_an_interrupt_is_exit_code_130(run, plain):
    told = run("generate", "--backend", plain("Interrupted"), "--prompt", "stop")
    assert told.code == 130
    assert "Traceback" not in told.err and "Interrupted" in told.err


def test_a_termination_is_exit_code_143(run, plain):
    told = run("generate", "--backend", plain("Terminated"), "--prompt", "stop")
    assert told.code == 143
    assert "Traceback" not in told.err and "Terminated" in told.err


def test_a_closed_pipe_is_quiet(plain):
    words = ["generate", "--backend", plain("Long"), "--prompt", "x", "--seed", "1"]
    command = [sys.executable, "-m", "aigc_text", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"xa line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_take_nothing_and_give_nothing(plain, tmp_path, closed):
    """As those of a daemon are; the work is done without them."""
    words = ["generate", "--backend", plain("Plain"), "--prompt", "ab", "--seed", "1"]
    for more in ([], ["--output", "text"], ["--format", "jsonl", "--output", "records"]):
        command = ["bash", "-c", f'"$@" {closed}', "bash", sys.executable, "-m", "aigc_text", *words, *more]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert done.stdout == ("" if more or ">&-" in closed.split() else "abba\n")
    assert (tmp_path / "text").read_text() == "abba\n"
    assert json.loads((tmp_path / "records").read_text())["text"] == "ba"


def test_a_standard_input_that_is_closed_holds_no_text():
    command = ["bash", "-c", '"$@" <&-', "bash", sys.executable, "-m", "aigc_text", "score", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("Error: standard input holds no text")


def test_an_output_that_somebody_removes_meanwhile_is_told(tmp_path):
    out = tmp_path / "out"
    for error, says in ((None, "out cannot be written: No such file"), (OptionError("of the work", ""), "of the work")):
        with pytest.raises(OptionError, match=says), destination(str(out), False) as stream:
            stream.write("text")
            (tmp_path / "out.partial").unlink()
            if error:
                raise error
    with pytest.raises(OptionError, match="out cannot be written: Is a directory"), destination(str(out), False):
        out.mkdir()


def test_work_goes_on_when_the_reader_of_what_is_said_has_gone(plain, tmp_path):
    words = ["generate", "--backend", plain("Plain"), "--prompt", "ab", "--seed", "1"]
    records = ["--format", "jsonl", "--output", tmp_path / "records"]
    for more, code in (([], 0), (["--output", tmp_path / "text"], 0), (records, 0), (["--nonsense"], 2)):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "aigc_text", *words, *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, timeout=60)
        os.close(writer)
        assert (done.returncode, done.stdout) == (code, "" if more else "abba\n")
    assert (tmp_path / "text").read_text() == "abba\n"
    assert json.loads((tmp_path / "records").read_text())["text"] == "ba"


def test_a_terminal_gets_control_characters_made_visible(run, plain, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    run("generate", "--backend", plain("Plain"), "--prompt", "\x1b[2J", "--seed", "1")
    assert sys.stdout.getvalue() == "␛[2JJ2[␛\n"
