"""Commands in hints can be pasted: names arrive whole whatever is in them, and nothing else runs."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from aigc_text import errors
from aigc_text.backends import suggestions
from aigc_text.cli import mistakes
from aigc_text.data import file_access, file_signatures, readers, tables
from aigc_text.errors import UserError, one_line, shell
from aigc_text.hub import locate, lora
from aigc_text.utils.visible_text import visible

PACKAGE = Path(errors.__file__).parent
HOSTILE = [
    "a;touch PWNED",
    "a b",
    "a  b   c",
    "it's",
    '"quoted"',
    "$(touch PWNED)",
    "`touch PWNED`",
    "a&touch PWNED|x>y",
    "a\nb",
    "a\ttab\r",
    "-rf",
    "--help",
    "back\\slash",
    "' ' ; touch PWNED #",
    "\u202egnp.exe",
    "a\u00a0b\u2028c",
    "\x1b[31mred",
    "日本 語",
    "!x {} %s",
    "*?[a]~",
]
PLAIN = [name for name in HOSTILE if all(map(errors._visible, name))]


def words_of(command, folder):
    """The words of a command as bash splits it; every redirection is left out, and nothing may run."""
    before = sorted(os.listdir(folder))
    shown = visible(one_line(command))
    assert "\n" not in shown
    listing = "printf '%s\\0' " + re.sub(r" (>>?|<) ", " ", shown)
    done = subprocess.run(["bash", "-c", listing], cwd=folder, capture_output=True, check=True)
    assert sorted(os.listdir(folder)) == before and not done.stderr
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_arrives_whole_as_operand_as_an_options_value_and_in_redirections(tmp_path, name):
    words = words_of(shell("do {} --with {} < {} > {}", name, name, Path(name), Path(name)), tmp_path)
    guarded = ["--", name] if name.startswith("-") else [name]
    path = f"./{name}" if name.startswith("-") else str(Path(name))
    assert words == ["do", *guarded, "--with", name, path, path]


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_of_visible_characters_is_quoted_for_every_shell(name):
    assert shlex.split(shell("do --with {}", name)) == ["do", "--with", name]


def test_a_name_that_is_not_utf8_arrives_as_its_bytes(tmp_path):
    assert words_of(shell("do {}", Path("a\udcffb")), tmp_path) == ["do", "a\udcffb"]


def test_as_many_values_as_places():
    with pytest.raises(ValueError, match="zip"):
        shell("do {} {}", "one")


# Each hint of the package that names something


def refused(do, *given):
    with pytest.raises(UserError) as error:
        do(*given)
    return error.value.cure


def adapter(name, folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
    return refused(lora.base_of, folder)


def model_of(name, folder):
    from aigc_text import api

    (folder / "config.json").write_text(json.dumps({"aigc_text_backend": name}))
    return refused(api.find, "nosuch", str(folder))


def code_of(name, folder):
    from aigc_text import api

    (folder / "config.json").write_text(json.dumps({"aigc_text_backend": f"{name}.py:C"}))
    return refused(api.find, None, str(folder))


def made(name, content, folder):
    """A file of that name; `None` where no file can be called so."""
    path = Path(name)
    (folder / path).write_bytes(content)
    return path


def csv_of(name, folder):
    path = made(f"{name}.csv", b"text,n\na,1\nb\n", folder)
    return refused(lambda: list(readers.read_records(path, ["text"])))


def latin_of(name, folder):
    path = made(f"{name}.txt", "café".encode("latin-1"), folder)
    return refused(lambda: list(file_access.lines(path)))


def packed_of(name, folder):
    path = made(f"{name}.gz", b"\x1f\x8b\x08\x00", folder)
    return refused(lambda: list(file_access.lines(path)))


def column_of(name, folder):
    return refused(tables.check_columns, "here", ["text"], {name: "a"})


def split_of(name, folder):
    from aigc_text.data import hub_datasets

    return refused(hub_datasets._choose, "owner/data", {name: None}, "none")


def samples_of(name, folder):
    from aigc_text.evaluation.candidates import System, Systems

    path = made(name, b"a", folder)
    from aigc_text.evaluation.options import EvaluationOptions

    return refused(Systems.check, [System(label="a", backend=str(path))], EvaluationOptions())


def empty_of(name, folder):
    from aigc_text.data.sources import Source

    return refused(Source(str(made(f"{name}.txt", b"\n", folder))).check)


HINTS = {
    "an adapter's base": (adapter, lambda n: n),
    "a backend in config.json": (model_of, lambda n: n),
    "a file of code in config.json": (code_of, lambda n: f"{n}.py:C"),
    "a broken CSV": (csv_of, lambda n: f"{n}.csv"),
    "an encoding": (latin_of, lambda n: f"{n}.txt"),
    "a compressed file": (packed_of, lambda n: f"{n}.gz"),
    "a column": (column_of, lambda n: n),
    "a split": (split_of, lambda n: f"owner/data@{n}"),
    "a file as a model": (samples_of, lambda n: n),
    "an empty file": (empty_of, lambda n: f"{n}.txt"),
    "a download": (lambda n, _: f": {locate.download(n)}", lambda n: n),
    "a backend's name": (lambda n, _: suggestions.misnamed(f"x/{n}", []).cure, lambda n: f"x/{n}"),
    "a plugin's author": (lambda n, _: errors.ask_author(n), lambda n: n),
    "a prompt": (lambda n, _: mistakes._for_generate(n, [n]), lambda n: n),
    "a word too many": (lambda n, _: mistakes._meant(n, ["score", n]), lambda n: n),
}


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("name", HOSTILE)
def test_the_command_of_a_hint_has_the_name_whole(tmp_path, monkeypatch, hint, name):
    monkeypatch.chdir(tmp_path)
    make, expected = HINTS[hint]
    command = "x " + re.split(r": |e\.g\. ", make(name, tmp_path))[-1]
    (tmp_path / "PWNED").unlink(missing_ok=True)
    words = words_of(command, tmp_path)
    wanted = expected(name)
    assert any(word in (wanted, f"./{wanted}") or word.endswith(f"/{wanted}") for word in words), words
    assert not (tmp_path / "PWNED").exists()


# Nothing gets around it

COMMAND = re.compile(
    r"\b(?:aigc-text|pip|hf|python|iconv|sed|tr|rm|ln|mv|echo|gunzip|unzip|sh|bash)\s[^.]*$|(?:^|\s)--?[a-z][\w-]*[ =]$"
)


def test_every_value_in_a_command_of_a_hint_goes_through_the_builder():
    """In texts that users read, nothing is put straight after the words of a command, but for first lines of errors."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        first = {id(n.args[0]) for n in ast.walk(tree) if isinstance(n, ast.Call) and n.args and _is_error(n)}
        skipped = {id(s) for n in ast.walk(tree) if id(n) in first for s in ast.walk(n)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and id(node) not in skipped:
                found += [f"{path.name}: {value}" for value in _bare(node)]
    assert sorted(set(found) - OURS) == []


def _is_error(call):
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name.endswith("Error")


def _bare(node):
    """Values that follow the words of a command and are neither made by `shell` nor numbers of ours."""
    for before, part in zip(node.values, node.values[1:]):  # noqa: B905
        if isinstance(before, ast.Constant) and isinstance(part, ast.FormattedValue):
            call = ast.unparse(part.value)
            quoted = call.startswith(("shell(", "download(", "locate.download(")) or part.format_spec is not None
            if COMMAND.search(before.value) and not quoted:
                yield call


#: What is not the user's, nor of a file: versions, numbers, names of commands, programs and choices of ours.
OURS = {
    "file_signatures.py: name",
    "file_signatures.py: program",
    "generate.py: form",
    "generate.py: options.seed",
    "latents.py: given",
    "loading.py: own[0]",
    "lora.py: rank",
    "mistakes.py: owner",
    "page.py: escaped(__version__)",
    "parameters.py: ctx.info_name",
    "results.py: p['version']",
    "run_dir.py: backend.name",
    "sample_cache.py: __version__",
    "step.py: twice",
}


def test_templates_are_literal():
    """A value inside a template would not be quoted."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "shell":
                template = node.args[0]
                assert not (isinstance(template, ast.JoinedStr)) or path.name == "file_signatures.py", (
                    path,
                    node.lineno,
                )


def test_signatures_put_only_their_own_programs_into_templates():
    for _, program, _ in file_signatures._COMPRESSED:
        assert re.fullmatch(r"[a-z0-9]+", program)
    assert shutil.which("bash")
