"""No raw control byte reaches a terminal, whoever wrote it: models, data, names of files and plugins, libraries."""

import json
import os
import pty
import random
import re
import subprocess
import sys
import termios
import unicodedata
from pathlib import Path

import pytest
from commands import Terminal

from aigc_text.cli.terminal import guarded, visible

ROOT = Path(__file__).parents[2]
CASES = int(os.environ.get("AIGC_TEXT_CASES", "10000"))
EVIL = "\x1b]0;EVIL\x07\x1b[31m\x9b2J\u202eevil\u2066\x00\x08\r\x7f\x85\u2028\U000e0041"
NAME = "na\x1b]0;EVIL\x07me\u202e\x9b"  # what a file may be called
CURSOR = re.compile(r"\r\x1b\[\?25l|\x1b\[\?25h")  # of our bars
COLOURS = re.compile(r"\x1b\[(?:38;5;\d+;48;5;\d+|0|2)m")  # of score


def harmful(text, *ours):
    """The characters of a text that a terminal would obey or not show, besides what is ours."""
    for allowed in ours:
        text = allowed.sub("", text)
    kept = "\n\t\u200c\u200d"
    return {c for c in text if c not in kept and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


def wild(draw, length):
    """A text of which every second character is one that must not be obeyed."""
    parts = [
        lambda: draw.choice(
            ["\x1b[2J", "\x1b]0;t\x07", "\x1b]8;;http://x\x1b\\", "\x1bP1$r\x1b\\", "\x1b[6n", "\x1bc"]
        ),
        lambda: chr(draw.randrange(32)),
        lambda: chr(draw.randrange(0x7F, 0xA0)),
        lambda: draw.choice(
            "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\ufeff\u00ad\u2028"
        ),
        lambda: draw.choice("abc xyz\n\t从🙂é\u200d"),
        lambda: draw.choice(["word ", "\r\n", "\u200b"]),
    ]
    return "".join(draw.choice(parts)() for _ in range(length))


WILD = f"""
import random, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "helpers")!r}]
from aigc_text import Backend, Capabilities, Completion
from aigc_text.outputs import Piece
from tests.robustness.test_terminal_fuzz import wild

class Wild(Backend):
    '''Says wild things \\x1b[31m in its help too.'''
    takes = ("max_new_tokens", "num_return_sequences", "seed")
    capabilities = Capabilities(streaming=True)

    @classmethod
    def from_pretrained(cls, model=None):
        found = cls()
        found.source = found.revision = "\\x1b[31mEVIL\\x9b"
        return found

    def generate(self, prompts, options=None, **overrides):
        return (p.completion for p in self.pieces(prompts, options, **overrides) if p.completion)

    def pieces(self, prompts, options=None, **overrides):
        options = self.resolve(options, overrides)
        for i, prompt in enumerate(prompts):
            for j in range(options.num_return_sequences or 1):
                draw = random.Random(f"{{options.seed}}/{{i}}/{{j}}")
                text = wild(draw, draw.randrange(12))
                cuts = sorted(draw.randrange(len(text) + 1) for _ in range(3))  # escapes are cut in two as well
                for start, end in zip([0, *cuts], [*cuts, len(text)]):
                    yield Piece(prompt_index=i, index=j, text=text[start:end])
                made = Completion(prompt=prompt, prompt_index=i, index=j, text=text, seed=options.seed, tokens=1)
                yield Piece(prompt_index=i, index=j, text="", completion=made)

class Failing(Wild):
    def pieces(self, prompts, options=None, **overrides):
        import logging, threading, warnings
        evil = {EVIL!r}
        logging.getLogger("library").error("log %s", evil)
        warnings.warn("warning " + evil)
        print("print", evil, file=sys.stderr)
        sys.stdout.writelines(["lines ", evil])
        thread = threading.Thread(target=lambda: 1 / len(evil[:0]), name=evil)
        thread.start()
        thread.join()
        raise RuntimeError("error " + evil)
"""


@pytest.fixture
def wild_backend(tmp_path):
    (tmp_path / "wild.py").write_text(WILD)
    return lambda name="Wild": f"{tmp_path}/wild.py:{name}"


@pytest.fixture
def terminal(run, monkeypatch):
    """Runs a command with both streams on a terminal; gives the exit code and what was shown."""

    def ran(*words, **how):
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        code = run(*words, **how).code
        return code, screen.getvalue()

    return ran


def texts_of(count, seed=1):
    found = []
    for j in range(count):
        draw = random.Random(f"{seed}/0/{j}")
        found.append(wild(draw, draw.randrange(12)))
    return found


@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
def test_texts_of_a_model_cannot_command_a_terminal(terminal, wild_backend, form):
    words = ["generate", "--backend", wild_backend(), "--prompt", EVIL, "-n", CASES, "--seed", "1", "--format", form]
    code, shown = terminal(*words)
    assert code == 0
    assert harmful(shown) == set()
    texts = texts_of(CASES)
    if form == "text":  # and nothing is lost
        headed = [f"=== prompt 1, text {n} ===\n{visible(EVIL)}{visible(t)}\n" for n, t in enumerate(texts, 1)]
        assert shown == "\n".join(headed) + "seed 1\n"
    else:
        assert shown.count('"finish_reason"') == CASES and sum(map(len, texts)) < len(shown)


@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
def test_files_and_pipes_get_the_same_texts_byte_for_byte(run, wild_backend, tmp_path, form):
    words = ["generate", "--backend", wild_backend(), "--prompt", EVIL, "-n", 300, "--seed", "1", "--format", form]
    start = (
        f"import sys, aigc_text.cli as c; sys.argv = {['aigc-text', *map(str, words)]!r}; c.main()"  # for the null byte
    )
    piped = subprocess.run([sys.executable, "-c", start], capture_output=True, check=True).stdout
    out = tmp_path / "out"
    assert run(*words, "--output", out).code == 0
    texts = texts_of(300)
    if form == "text":
        wanted = "\n".join(f"=== prompt 1, text {n} ===\n{EVIL}{t}\n" for n, t in enumerate(texts, 1)).encode()
        assert piped == wanted
        assert out.read_bytes() == "".join(f"{EVIL}{t}\n" for t in texts).encode()  # a file has no headings
        return
    for found in (piped.decode(), out.read_bytes().decode()):
        records = json.loads(found) if form == "json" else [json.loads(line) for line in found.split("\n")[:-1]]
        assert [r["text"] for r in records] == texts
        assert records[0]["prompt"] == EVIL


def test_libraries_threads_warnings_and_tracebacks_are_held_to_it(terminal, wild_backend):
    for words in ([], ["--debug"]):
        code, shown = terminal(*words, "generate", "--backend", wild_backend("Failing"), "--prompt", "x", "--seed", "1")
        assert code == 2
        assert harmful(shown) == set()
        for word in ("print ␛]0;EVIL", "lines ␛]0;EVIL", "failed: RuntimeError: error ␛]0;EVIL␇"):
            assert word in shown
        assert ("Traceback" in shown.split("Error: ")[0].split("ZeroDivisionError")[-1]) == bool(words)


def commands(folder, wild_backend):
    """Commands whose words, files and data hold what must not be obeyed."""
    data = folder / f"{NAME}.jsonl"
    data.write_text(json.dumps({"text": EVIL, "prompt": EVIL, EVIL: 1}) + "\n", encoding="utf-8")
    broken = folder / f"{NAME}-broken.jsonl"
    broken.write_text(f"[{json.dumps(EVIL, ensure_ascii=False)}]\n", encoding="utf-8")
    table = folder / f"{NAME}.csv"
    table.write_text(f"{EVIL.translate({0: None, 13: None})},b\n1,2,3\n", encoding="utf-8", newline="")
    config = folder / "options.yaml"
    config.write_text(json.dumps({NAME: 1}), encoding="utf-8")
    generate = ["generate", "--backend", wild_backend()]
    yield [*generate, "--prompts", data, "--output", folder / f"{NAME}-out"], 0, "generating"
    yield [*generate, "--prompts", data, "--format", "jsonl", "--output", folder / f"{NAME}-out.jsonl"], 0, "generating"
    yield [*generate, "--prompts", data, "--output", folder / f"{NAME}-out"], 2, "exists already"
    yield [*generate, "--prompts", broken], 2, "not a JSON object"
    yield [*generate, "--prompts", folder / (NAME + "none")], 2, "does not exist"
    yield [*generate, "--prompts", data, "--template", "{none}"], 2, "no field 'none'"
    yield [*generate, "--prompt", "x", "-o", NAME], 2, "is not of the form"
    yield [*generate, "--prompt", "x", "-o", NAME + "=1"], 2, "has no option"
    yield [*generate, "--prompt", "x", "--" + NAME], 2, "No such option"
    yield [*generate, "--prompt", "x", "--seed", NAME], 2, "seed cannot be"
    yield ["generate", "--backend", NAME, "--prompt", "x"], 2, "unknown backend"
    yield ["generate", "--backend", f"{folder}/{NAME}.py:X", "--prompt", "x"], 2, "there is no file"
    yield ["generate", "--model", folder / NAME, "--prompt", "x"], 2, "there is no folder"
    yield ["generate", "--model", NAME, "--prompt", "x"], 2, "neither a folder"
    yield [NAME], 2, "unknown command"
    yield ["backends", "show", wild_backend()], 0, "Says wild things"
    yield ["backends", "check", wild_backend("Failing")], 2, "breaks the contract"
    yield ["score", table, "--text-column", NAME], 2, "has no column"
    yield ["train", "--data", folder / (NAME + "none"), "--output", folder / NAME], 2, "does not exist"
    yield ["train", "--data", data, "--output", folder / NAME, "--config", config], 2, "there is no option"
    yield ["copies", data, "--source", data, "--label", NAME, "--threshold", "0"], 0, "longest copy"
    yield ["copies", data, "--source", data, "--format", "json"], 0, '"texts"'
    yield ["evaluate", "--samples", f"{NAME}={data}", "--data", data, "--metrics", "lengths"], 0, "measured"
    yield ["evaluate-code", broken, "--syntax-only"], 2, "not a JSON object"


def test_every_command_shows_names_data_and_errors_harmlessly(terminal, wild_backend, tmp_path):
    for words, code, word in commands(tmp_path, wild_backend):
        for debug in ([], ["--debug"]):
            if debug and code == 0:
                continue
            found, shown = terminal(*debug, *words)
            assert found == code, (words, shown)
            assert word in shown
            assert harmful(shown, CURSOR) == set(), words


def test_a_list_of_plugins_shows_their_names_harmlessly(terminal, tmp_path, monkeypatch):
    info = tmp_path / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: evil{NAME}\nVersion: 1{NAME}\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        f"[aigc_text.backends]\n{NAME} = no:Class\ngpt2 = no:Class\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for words in (["backends"], ["backends", "--json"], ["backends", "show", NAME], ["generate", "--backend", "gpt3"]):
        code, shown = terminal(*words)
        assert code in (0, 2) and "na" in shown
        assert harmful(shown) == set(), words


def test_what_is_scored_is_coloured_by_us_alone(terminal, tmp_path, tiny_gpt2):
    data = tmp_path / f"{NAME}.txt"
    data.write_text(f"one {EVIL} two\x1b[0m\n", encoding="utf-8")
    code, shown = terminal("score", data, "--model", tiny_gpt2, "--format", "color")
    assert code == 0
    assert harmful(shown, COLOURS) == set()
    assert "two␛[0m" in COLOURS.sub("", shown)
    code, shown = terminal("score", data, "--model", tiny_gpt2, "--format", "jsonl")
    assert code == 0 and '"nll"' in shown and harmful(shown) == set()


def test_a_training_tells_its_folder_and_losses_harmlessly(terminal, data, tmp_path, tiny_gpt2):
    run = tmp_path / NAME
    words = ["train", "--model", tiny_gpt2, "--data", data, "--output", run, "--block-size", "16", "--batch-size", "2"]
    code, shown = terminal(*words, "--max-steps", "2", "--eval-every", "1")
    assert code == 0, shown
    assert "Done: " in shown and harmful(shown, CURSOR) == set()


def test_the_bar_of_an_evaluation_tells_its_label_harmlessly(terminal, data, tiny_gpt2, tmp_path):
    words = ["evaluate", "--compare", f"{NAME}={tiny_gpt2}", "--data", data, "-n", "2", "--metrics", "lengths"]
    code, shown = terminal(*words, "--max-new-tokens", "3", "--cache", tmp_path / "cache")
    assert code == 0, shown
    assert "na␛]0;EVIL␇me" in shown and CURSOR.search(shown)
    assert harmful(shown, CURSOR) == set()


def test_the_bars_of_downloads_still_move():
    from tqdm import tqdm

    screen = Terminal()
    stderr, sys.stderr = sys.stderr, screen
    try:
        with guarded():
            for _ in tqdm([1, 2], desc=EVIL):
                pass
    finally:
        sys.stderr = stderr
    assert screen.getvalue().count("\r") > 1
    assert harmful(screen.getvalue(), re.compile("\r(?=␛)|\x1b\\[A")) == set()


# Whole processes on a terminal


def on_a_terminal(*words, **environment):
    """Everything that a process writes to its terminal."""
    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    settings[1] &= ~termios.OPOST  # else line feeds get carriage returns
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "aigc_text", *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    shown = bytearray()
    try:
        while block := os.read(ours, 1 << 16):
            shown += block
    except OSError:  # Linux ends a terminal so
        pass
    os.close(ours)
    return process.wait(timeout=60), bytes(shown)


@pytest.mark.parametrize("environment", [{}, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}], ids=str)
def test_no_control_byte_comes_out_of_a_process_on_a_terminal(wild_backend, environment):
    prompt = EVIL.replace("\x00", "")
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    for name, code in (("Wild", 0), ("Failing", 2)):
        words = ["--debug", "generate", "--backend", wild_backend(name), "--prompt", prompt, "-n", "50", "--seed", "1"]
        found, shown = on_a_terminal(*words, **environment)
        assert found == code
        assert harmful(shown.decode(encoding)) == set()
        assert b"EVIL" in shown


def test_a_bar_on_a_terminal_is_all_that_moves_its_cursor(wild_backend, tmp_path):
    out = tmp_path / NAME
    words = ["generate", "--backend", wild_backend(), "--prompt", "x", "-n", "50", "--seed", "1", "--output", out]
    found, shown = on_a_terminal(*words)
    assert found == 0 and b"generating" in shown and b"\r" in shown
    assert harmful(shown.decode(), CURSOR) == set()
    assert out.read_bytes().count(b"\n") >= 50
