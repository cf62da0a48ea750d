"""`plugin new`: its packages keep the contract as they are, as a file and installed; wrong names and folders."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aigc_text.backends import builtin, registry, scaffold
from aigc_text.errors import BackendError, OptionError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in; modules that are imported from it are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(registry.PLUGINS, "night_owl")
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if "night_owl" in name:
            del sys.modules[name]


def install(folder, monkeypatch):
    """What `pip install` leaves of the package: its module on the path, and its entry point beside it."""
    info = folder / "aigc_text_night_owl-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aigc-text-night-owl\nVersion: 0.1.0\n")
    [line] = [x for x in (folder / "pyproject.toml").read_text().splitlines() if x.startswith("night_owl = ")]
    (info / "entry_points.txt").write_text(f"[{builtin.GROUP}]\n{line.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("torch", [False, True])
def test_a_new_package_keeps_the_contract_as_a_file_and_installed(place, run, monkeypatch, torch):
    made = run("plugin", "new", "night_owl", *(["--torch"] if torch else []))
    assert made.code == 0, made.err
    folder = place / "aigc-text-night-owl"
    for command in ("backends check aigc-text-night-owl/aigc_text_night_owl.py:NightOwlBackend", "pip install -e ./"):
        assert command in made.err
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == ["README.md", "aigc_text_night_owl.py", "pyproject.toml", "tests/test_night_owl.py"]
    assert not any("template" in (folder / file).read_text().lower() for file in files)
    if not torch:  # the torch package's own test, which is called below, picks the file
        checked = run("backends", "check", "aigc-text-night-owl/aigc_text_night_owl.py:NightOwlBackend")
        assert (checked.code, len(checked.out.splitlines())) == (0, 10), checked.err
    install(folder, monkeypatch)
    assert registry.list_backends()["night_owl"].distribution == "aigc-text-night-owl"
    checked = run("backends", "check", "night_owl")
    assert (checked.code, checked.out.splitlines()[-1]) == (0, "night_owl keeps the contract."), checked.err
    assert ("Trains" in checked.out) is torch
    monkeypatch.syspath_prepend(folder / "tests")
    own = importlib.import_module("test_night_owl")
    for name in (n for n in vars(own) if n.startswith("test_")):
        getattr(own, name)(*([place] if "tmp_path" in getattr(own, name).__code__.co_varnames else []))
    with pytest.raises(BackendError, match="there is a backend of that name"):
        scaffold.write_plugin("night_owl", "elsewhere")


def test_its_command_imports_no_torch(place):
    code = "import sys; from aigc_text import cli; sys.argv = ['aigc-text', 'plugin', 'new', 'owl']\n"
    code += "try:\n    cli.main()\nfinally:\n    assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert (place / "aigc-text-owl" / "aigc_text_owl.py").exists()


@pytest.mark.parametrize(
    ("name", "says", "instead"),
    [
        ("my-poet", "is no identifier", "my_poet"),
        ("Ünï code", "is no identifier", "uni_code"),
        ("2gpt", "is no identifier", "my_2gpt"),
        ("诗", "is no identifier", "my_backend"),
        ("", "is no identifier", "my_backend"),
        ("../up", "is no identifier", "up"),
        ("a__b", "is no identifier", "a_b"),
        ("class", "is a keyword", "my_class"),
        ("transformers", "stands for a class of transformers", "my_transformers"),
        ("gpt2", "is taken: there is a backend of that name", "my_gpt2"),
    ],
)
def test_a_name_that_will_not_do(place, run, name, says, instead):
    refused = run("plugin", "new", name)
    error, cure = refused.err.splitlines()
    assert refused.code == 2 and error.startswith("Error: ") and repr(name) in error and says in error
    assert cure == f"Try: aigc-text plugin new {instead}"
    assert list(place.iterdir()) == []
    assert scaffold._suggested(name) == instead or says.startswith("is taken")
    scaffold.write_plugin(instead)  # the cure works


def test_a_name_whose_module_is_installed(place, monkeypatch):
    (place / "aigc_text_taken.py").write_text("")
    monkeypatch.syspath_prepend(place)
    with pytest.raises(BackendError, match="a module aigc_text_taken is installed"):
        scaffold.write_plugin("taken")


def test_a_folder_that_is_not_empty_stays_as_it_is(place, run):
    folder = place / "aigc-text-owl"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    refused = run("plugin", "new", "owl")
    assert refused.code == 2 and refused.err.splitlines() == [
        "Error: aigc-text-owl is a folder that is not empty",
        "Choose another: aigc-text plugin new owl --output aigc-text-owl-2",
    ]
    assert [p.name for p in place.rglob("*")] == ["aigc-text-owl", "notes.txt"]
    (folder / "notes.txt").unlink()
    assert run("plugin", "new", "owl").code == 0 and (folder / "README.md").exists()


def test_nothing_is_half_written(place, monkeypatch):
    (place / "file").write_text("")
    for folder in ("file", "file/within", "missing/owl"):
        if folder != "missing/owl":
            with pytest.raises(OptionError, match="file"):
                scaffold.write_plugin("owl", folder)
    written = Path.write_text

    def full(self, text, **kwargs):
        if self.name == "pyproject.toml":
            raise OSError(28, "No space left on device")
        return written(self, text, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OptionError, match="aigc-text-owl cannot be written: No space left on device"):
        scaffold.write_plugin("owl")
    assert [p.name for p in place.iterdir()] == ["file"]


def test_all_its_files_are_in_the_package():
    """The patterns of pyproject.toml are what a wheel is made by."""
    table = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.setuptools.package-data]")[2]
    patterns = re.findall(r'"(backends/plugin_template/[^"]*)"', table.partition("\n[")[0])
    package = ROOT / "aigc_text"
    shipped = {p for pattern in patterns for p in package.glob(pattern) if p.is_file()}
    files = {p for p in scaffold.TEMPLATES.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert len(files) == 8 and files <= shipped
