"""The documentation is true: its files and commands run, its command lines parse, its links lead somewhere."""

import contextlib
import importlib.machinery
import importlib.util
import io
import re
import runpy
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from aigc_text import cli
from aigc_text.backends import builtin, registry
from aigc_text.cli import parameters
from aigc_text.testing.contract import check_backend

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/*.md")])
GUIDE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def names(pages):
    return [str(p.relative_to(ROOT)) for p in pages]


# The guide's files and commands


class Block(NamedTuple):
    """A fenced block: a file if the line before it ends with `name`:, commands if it is a console."""

    file: str | None
    kind: str
    body: str


def blocks(section: str, page: str = GUIDE) -> list[Block]:
    """The blocks of a section, from its heading to the next of its rank."""
    [part] = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    found = []
    for match in FENCE.finditer(part):
        label = re.search(r"`([\w./-]+)`:\n\n\Z", part[: match.start()])
        found.append(Block(label[1] if label else None, match[1], match[2]))
    return found


def commands(console: str) -> list[tuple[str, str]]:
    """Each command of a console block with the output that is shown below it."""
    parts = re.split(r"^\$ (.*)\n", console, flags=re.MULTILINE)
    assert parts[0] == "", f"output before the first command: {parts[0]!r}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def shows(page: str, output: str) -> bool:
    """Whether the page's output is the real one; a line of "…" stands for any lines, white space may differ."""
    lines = [r"(?:.*\n)*?" if line == "…" else re.escape(" ".join(line.split())) + "\n" for line in page.splitlines()]
    return re.fullmatch("".join(lines), "".join(" ".join(x.split()) + "\n" for x in output.splitlines())) is not None


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in, and a process that knows no plugin and forgets what it learns."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(registry.PLUGINS, "salad,soup")
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "")  # the command sets what is not set, for the whole process
    registry._warn_once.cache_clear()
    handler, modules = signal.getsignal(signal.SIGTERM), set(sys.modules)
    yield folder
    signal.signal(signal.SIGTERM, handler)
    for module in set(sys.modules) - modules:
        if any(word in module for word in ("salad", "soup", "ngram", "unfinished")):
            del sys.modules[module]


def install(project: Path, monkeypatch) -> None:
    """What `pip install` of a project makes: its modules on the path, its name, version and entry points beside."""
    toml = (project / "pyproject.toml").read_text(encoding="utf-8")
    name, version = (re.search(rf'^{key} = "(.*)"$', toml, re.MULTILINE)[1] for key in ("name", "version"))
    [points] = re.findall(r'^\[project\.entry-points\."(.*)"\]\n((?:\w+ = ".*"\n)+)', toml, re.MULTILINE)
    [modules] = re.findall(r"^py-modules = \[(.*)\]$", toml, re.MULTILINE)
    for module in re.findall(r'"(\w+)"', modules):
        assert (project / f"{module}.py").is_file()
    info = project / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{points[0]}]\n{points[1].replace(chr(34), '')}")
    monkeypatch.syspath_prepend(project)


def run(command: str, monkeypatch) -> str:
    """Runs a line of the guide in this process; both streams, as a terminal shows them."""
    program, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [program, *words])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        if program == "aigc-text":
            with pytest.raises(SystemExit):
                cli.main()
        elif program == "python":
            runpy.run_path(words[0], run_name="__main__")
        elif program == "pip":
            assert words[0] == "install"
            install(Path(words[-1]), monkeypatch)
        else:
            assert program in ("mkdir", "mv")
            subprocess.run([program, *words], check=True)
    return shown.getvalue()


def follow(section: str, monkeypatch) -> list[str]:
    """Does what a section says and compares what it shows; the commands that were run."""
    done = []
    for block in blocks(section):
        if block.kind == "console":
            for command, output in commands(block.body):
                real = run(command, monkeypatch)
                assert shows(output, real), f"$ {command}\nthe page shows:\n{output}\nit prints:\n{real}"
                done.append(command)
        else:
            assert block.file is not None, f"a block without a file's name: {block.body[:60]!r}"
            Path(block.file).write_text(block.body, encoding="utf-8")
    return done


def test_the_plugin_guide_works_from_an_empty_folder_to_an_installed_checked_backend(place, monkeypatch):
    done = [*follow("1. A file", monkeypatch), *follow("2. Check it", monkeypatch)]
    assert "aigc-text backends check salad.py:Salad" in done
    done = follow("3. Package it", monkeypatch)
    assert "pip install -q ./aigc-text-salad" in done and "aigc-text backends check salad" in done
    assert registry.list_backends()["salad"].value == "aigc_text_salad:Salad"
    assert not (place / "salad.py").exists()  # what ran last was the package


def test_the_plugin_guide_registers_a_class(place, monkeypatch):
    assert follow("In Python, without a package", monkeypatch) == ["python toast.py"]


def test_the_plugin_guide_starts_from_a_package(place, monkeypatch):
    follow("Start from a package", monkeypatch)
    assert (place / "aigc-text-haiku" / "tests" / "test_haiku.py").exists()


def test_the_plugin_guide_trains_an_architecture_of_ones_own(place, monkeypatch):
    monkeypatch.syspath_prepend(place)  # as Python does for a script in this folder
    done = follow("Your own torch architecture", monkeypatch)
    assert "aigc-text backends check ngram.py:Ngram --model run" in done
    card = (place / "run" / "README.md").read_text(encoding="utf-8")
    assert "aigc-text generate --backend ngram.py:Ngram --model ." in card
    assert not (place / "other").exists()  # nothing was begun


def test_the_plugin_guide_derives_a_torch_model(place, monkeypatch, tiny_gpt2):
    follow("A torch model: `TransformersBackend`", monkeypatch)
    assert len(list(check_backend("paragraph.py:Paragraph", str(tiny_gpt2)))) == 12


def test_the_plugin_guide_quotes_what_a_broken_and_a_clashing_plugin_say(place, monkeypatch):
    [pyproject] = [b.body for b in blocks("3. Package it") if b.kind == "toml"]
    consoles = [commands(b.body) for b in blocks("Which plugins are seen")]
    for dish, [(command, output)] in zip(("soup", "stew"), consoles, strict=True):  # stew clashes with soup
        project = place / dish
        project.mkdir()
        (project / f"aigc_text_{dish}.py").write_text("import spoon\n")
        text = pyproject.replace("salad = ", "soup = ").replace("salad", dish)
        (project / "pyproject.toml").write_text(text)
        install(project, monkeypatch)
        real = run(command, monkeypatch)
        assert shows(output, real), real


PAGES_OF_MISTAKES = [
    ("data", "Mistakes"),
    ("finetuning", "What goes wrong"),
    ("evaluation", "What goes wrong"),
    ("report", "What goes wrong"),
]


@pytest.mark.parametrize(("name", "section"), PAGES_OF_MISTAKES)
def test_the_pages_quote_what_mistakes_say(place, monkeypatch, name, section):
    import pyarrow
    import pyarrow.parquet

    (place / "my.txt").write_text("a")
    (place / "captions.txt").write_text("a")
    (place / "tales.csv").write_text("id,text\n1,a\n")
    (place / "open.csv").write_text('text\n"a\n')
    (place / "latin1.txt").write_bytes("caf\xe9".encode("latin-1"))
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "text": ["a"]}), place / "tales.parquet")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(place))
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    [console] = [commands(b.body) for b in blocks(section, page) if b.kind == "console"]
    for command, output in console:
        real = run(command, monkeypatch)
        assert shows(output, real), f"$ {command}\nthe page shows:\n{output}\nit prints:\n{real}"
    assert not (place / "runs").exists()


def test_the_guide_and_the_complete_plugin_have_one_entry_point_form():
    group = f'[project.entry-points."{builtin.GROUP}"]'
    [pyproject] = [b.body for b in blocks("3. Package it") if b.kind == "toml"]
    assert f'{group}\nsalad = "aigc_text_salad:Salad"\n' in pyproject
    complete = (ROOT / "plugins" / "aigc-text-markov" / "pyproject.toml").read_text(encoding="utf-8")
    assert f'{group}\nmarkov = "aigc_text_markov:Markov"\n' in complete


# The commands of all pages

SCRIPT = ROOT / "scripts" / "check_docs"
SHELL = ("printf ", "head ", "tail ", "cat ", "mkdir ")
ELSEWHERE = ("python scripts", "accelerate", "torchrun")  # tests of their own try them


@pytest.fixture(scope="module")
def check_docs():
    loader = importlib.machinery.SourceFileLoader("check_docs", str(SCRIPT))
    spec = importlib.util.spec_from_loader("check_docs", loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_docs"] = module
    loader.exec_module(module)
    yield module
    del sys.modules["check_docs"]


def in_process(text: str) -> list[str] | None:
    """The words of a command that can run in this process: one program of ours, without anything of the shell's."""
    if not text.startswith("aigc-text "):
        return None
    reader = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    reader.whitespace_split = True
    with contextlib.suppress(ValueError):
        words = list(reader)
        return None if any(set(word) <= set("|&;<>") for word in words) else shlex.split(text.replace("\\\n", " "))
    return None


@pytest.mark.parametrize("page", ["README.md", *names(sorted(ROOT.glob("docs/*.md")))])
def test_the_quick_commands_of_a_page_run_one_after_the_other(place, monkeypatch, check_docs, tmp_path, page):
    """The long ones, and what needs their files, are run by scripts/check_docs --long."""
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    for name in ("scripts", "plugins"):
        (place / name).symlink_to(ROOT / name)
    for command, reason in check_docs.chosen(page, long=False):
        words = in_process(command.text)
        if reason or command.text.startswith(ELSEWHERE):
            continue
        if words is not None:
            real = run(shlex.join(words), monkeypatch)
            assert ("Error: " in real) is command.fails, f"{command.place}: {command.text}\n{real}"
        elif command.text.startswith("python - <<"):
            Path("block.py").write_text("\n".join(command.text.split("\n")[1:-1]), encoding="utf-8")
            run("python block.py", monkeypatch)
        else:
            assert command.text.startswith(SHELL), f"{command.place}: {command.text}"
            subprocess.run(["bash", "-euo", "pipefail", "-c", command.text], check=True, cwd=place)


def test_the_checker_resumes_reports_and_skips(check_docs, tmp_path, capsys, monkeypatch):
    page = "README.md"
    costs = check_docs._command(page, 1, "aigc-text train --data a --output b    # about 1.5 hours on two cores", False)
    assert (costs.text, costs.seconds, costs.needs) == ("aigc-text train --data a --output b", 5400, "")
    needs = check_docs._command(page, 2, "nvidia-smi    # needs a GPU", False)
    assert needs.needs == "a GPU" and check_docs.skipped(needs, long=True) == "needs a GPU"
    good, bad = (check_docs._command(page, 3, text, False) for text in ("echo a >> file", "echo wrong >&2; false"))
    check = check_docs.Check(tmp_path)
    for command in (good, bad, good):
        check.run(command)
    assert (tmp_path / "README" / "file").read_text() == "a\n"  # what passed is not run again
    again = check_docs.Check(tmp_path)
    again.run(good)
    assert (tmp_path / "README" / "file").read_text() == "a\n"
    assert again.report([(good, ""), (bad, ""), (needs, "needs a GPU")]) == 1
    shown = capsys.readouterr().out
    assert "passed    README.md:3" in shown and "FAILED    README.md:3: echo wrong" in shown and "wrong\n" in shown
    assert "left out  README.md:2: needs a GPU" in shown
    again.note(good, "begun")
    again.run(check_docs._command(page, 3, good.text, False))
    assert (tmp_path / "README" / "file").read_text() == "a\na\n"


def test_the_checker_writes_the_files_that_a_page_shows(check_docs, tmp_path):
    [written] = [c for c in check_docs.commands("docs/scale.md") if c.text.startswith("cat > fsdp.yaml")]
    check = check_docs.Check(tmp_path)
    check.run(written)
    assert check.outcomes[written.key]["status"] == "passed"
    assert (tmp_path / "docs-scale" / "fsdp.yaml").read_text().startswith("compute_environment: LOCAL_MACHINE\n")


def test_every_command_of_half_an_hour_has_a_shorter_form(check_docs, tmp_path, capsys):
    long = [c for page in check_docs.PAGES for c, reason in check_docs.chosen(page, long=True) if not reason]
    assert all(check_docs.shortened(c) != c.text for c in long if c.seconds >= 1800)
    assert all(check_docs.shortened(c) == c.text for c in long if c.seconds < 300)
    command = check_docs._command("README.md", 3, "echo aigc-text train    # about 30 minutes on two cores", False)
    check = check_docs.Check(tmp_path, shorter=True)
    check.run(command)
    assert check.report([(command, "")]) == 0
    assert capsys.readouterr().out.startswith("shorter   README.md:3: 0 s, as echo aigc-text train --max-steps 4")


@pytest.mark.parametrize(
    ("words", "shorter"),
    [
        ("--epochs 14 --data a", "--epochs 0.01 --data a"),  # it and a number of steps contradict each other
        ("--max-steps 600 -o likelihood_steps=400", "--max-steps 6 -o likelihood_steps=4 --eval-every 4"),
        ("--max-steps 100", "--max-steps 2"),
    ],
)
def test_a_shorter_form_contradicts_no_other_option(check_docs, words, shorter):
    command = check_docs._command("README.md", 4, f"aigc-text train {words}    # about 8 minutes on two cores", False)
    assert check_docs.shortened(command) == f"aigc-text train {shorter}"


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/internals.md"])
def test_a_page_about_the_code_names_modules_that_exist(page):
    paths = [f"/{p.relative_to(ROOT).with_suffix('')}" for p in ROOT.rglob("*") if not p.name.startswith(".")]
    named = set(re.findall(r"`([a-z_0-9]{2,}(?:/[a-z_0-9]+)+)/?`", (ROOT / page).read_text(encoding="utf-8")))
    assert len(named) > 10
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in paths)] == []


# Links


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in found}


@pytest.mark.parametrize("page", names(PAGES))
def test_every_link_inside_the_project_leads_somewhere(page):
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        assert there.exists(), f"{page} links to {target}"
        assert there.resolve().is_relative_to(ROOT), f"{page} links out of the project: {target}"
        assert not anchor or anchor in headings(there), f"{page} links to {target}, which is no heading there"


# Command lines


class Line(NamedTuple):
    """A command line of a page; a quoted part of one may leave out what the command requires."""

    words: tuple[str, ...]
    whole: bool


def lines(text: str) -> list[Line]:
    """Every `aigc-text …` of a page: in fenced and indented blocks, and between back quotes."""
    found = []
    for kind, body in FENCE.findall(text):
        body = body.replace("\\\n", " ")
        shown = re.findall(r"^\$ (.*)$", body, re.MULTILINE) if kind == "console" else body.splitlines()
        found += [Line(words, True) for line in shown for words in simple(line)]
    rest = FENCE.sub("", text)
    found += [Line(words, True) for line in re.findall(r"^    (\S.*)$", rest, re.MULTILINE) for words in simple(line)]
    quoted = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^    .*$", "", rest, flags=re.MULTILINE))
    return [*found, *(Line(words, False) for span in quoted for words in simple(" ".join(span.split())))]


def simple(line: str) -> list[tuple[str, ...]]:
    """The words after `aigc-text` (or `-m aigc_text`) of each simple command in a line of shell."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    reader.whitespace_split, reader.commenters = True, "#"
    try:
        tokens = list(reader)
    except ValueError:
        return []  # an apostrophe in prose: no shell
    found, command = [], []
    for token in [*tokens, ";"]:
        if set(token) <= set("|&;<>()"):
            if "<" in token or ">" in token:
                command = command[:-1] if command[-1:] in (["1"], ["2"]) else command
            words = mine(command)
            found += [words] if words is not None else []
            command = []
        else:
            command.append(token)
    return found


def mine(command: list[str]) -> tuple[str, ...] | None:
    while command and re.match(r"\w+=", command[0]):
        command = command[1:]
    if command[:1] == ["aigc-text"]:
        return tuple(command[1:])
    for n in range(len(command) - 1):
        if command[n : n + 2] == ["-m", "aigc_text"]:
            return tuple(command[n + 2 :])
    return None


def parse(line: Line) -> None:
    """Reads a command line as click does, and runs nothing.

    Raises:
        click.UsageError: an unknown command or option, a value that is missing or not allowed.
    """
    words = [w for w in line.words if w not in ("…", "...", "--debug")]  # main() takes --debug out wherever it stands
    whole = line.whole and len(words) == len([w for w in line.words if w != "--debug"])
    command: click.Command = cli.cli
    name, context = "aigc-text", None
    try:
        while True:
            context = command.make_context(name, words, parent=context)
            rest = [*context._protected_args, *context.args]
            if not isinstance(command, click.Group) or not rest:
                return
            found, inner, words = command.resolve_command(context, rest)
            assert found is not None and inner is not None
            name, command = found, inner
    except click.exceptions.Exit:
        return  # --help, --version
    except click.MissingParameter:
        if whole:
            raise


@pytest.mark.parametrize("page", names(PAGES))
def test_every_command_line_of_the_documentation_parses(page, monkeypatch):
    monkeypatch.setattr(parameters, "_read_yaml", lambda path: {"data": path})  # --config: files that a reader has
    for line in lines((ROOT / page).read_text(encoding="utf-8")):
        try:
            parse(line)
        except click.UsageError as error:
            pytest.fail(f"{page}: aigc-text {shlex.join(line.words)}: {error.format_message()}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```console\n$ aigc-text generat --prompt x\n```", "unknown command 'generat'"),
        ("```sh\npip install . && aigc-text generate --promt x\n```", "No such option"),
        ("`aigc-text backends chek salad`", "chek"),
        ("```\naigc-text train --data x | head\n```", "Missing option '--output'"),
        ("    aigc-text generate --format yaml", "yaml"),
        ("```\nA=1 accelerate launch -m aigc_text train --no-such x > log\n```", "No such option"),
    ],
)
def test_a_command_line_that_does_not_parse_is_noticed(text, complaint):
    [line] = lines(text + "\n")
    with pytest.raises(click.UsageError) as refused:
        parse(line)
    assert complaint in refused.value.format_message()


def test_command_lines_are_read_as_the_shell_reads_them():
    text = "```sh\nX= aigc-text generate --prompt 'a > b' -n 2 2>/dev/null | wc -l  # a text\n```\n`aigc-text train …`"
    first, second = lines(text)
    assert first.words == ("generate", "--prompt", "a > b", "-n", "2")
    parse(first)
    parse(second)
