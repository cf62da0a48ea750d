"""What import-linter cannot see: which modules are light, which libraries have one importer, how large files are."""

import ast
import functools
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[2] / "aigc_text"
HEAVY = {"torch", "transformers", "accelerate", "datasets", "pyarrow", "evaluate", "matplotlib"}
# Modules that import a heavy package at their top; nothing that `--help` needs may import them.
MAY_BE_HEAVY = (
    "hub.transformers_compat",
    "utils.torch_compat",
    "generation.sampling",
    "generation.engines.*",
    "training.*",
    "models.*",
    "metrics.hf_evaluate",
    "backends.plugin_template.*",
)
# Importing these imports no heavy package.
LIGHT = (
    "aigc_text",
    "api",
    "cli",
    "cli.*",
    "options.*",
    "backends.registry",
    "runs.training_run",
    "evaluation.*",
    "html_report.*",
    "jobs.*",
    "memorization.*",
    "code_eval.*",
    "metrics",
    "metrics.[!h]*",
    "data.*",
    "hub.[!t]*",
)
STANDARD_LIBRARY_ONLY = ("errors", "outputs", "options", "options.*", "_version", "_moved", "utils.lazy")
ONE_IMPORTER = {
    "click": ["cli", "cli.*"],
    "huggingface_hub": ["hub.locate"],
    "datasets": ["data.hub_datasets", "metrics.hf_evaluate"],
    "evaluate": ["metrics.hf_evaluate"],
    "nltk": ["metrics.tokenization"],
    "pyarrow": ["data.tables"],
    "sacrebleu": ["metrics.sacrebleu"],
    "matplotlib": ["plots.*"],
    "accelerate": ["training.hardware"],
    "peft": ["hub.lora"],
    "ctranslate2": ["hub.ctranslate2", "generation.engines.ctranslate2_engine"],
}


class Import(NamedTuple):
    """`when`: `top` (as the module is imported), `inside` (a function), or `types` (never at run time)."""

    target: str
    when: str


def name_of(path: Path) -> str:
    """`generation.decoding` for a file, `generation` for a package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "aigc_text"


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports(name: str) -> tuple[set[Import], set[Import]]:
    """What a module imports of this package, and of others (their first names)."""
    ours, others = set(), set()
    for module, when in _statements(ast.parse(FILES[name].read_text(encoding="utf-8")), FILES[name], "top"):
        first, _, rest = module.partition(".")
        if first != "aigc_text":
            others.add(Import(first, when))
            continue
        parts = rest.split(".") if rest else []
        while parts and ".".join(parts) not in FILES:  # the last part is a name in a module, not a module
            parts.pop()
        ours.add(Import(".".join(parts) or "aigc_text", when))
    return ours, others


def _statements(node: ast.AST, path: Path, when: str) -> Iterator[tuple[str, str]]:
    """(absolute module, when) of each import below a node; of `from a import b` both a.b, which may be a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            package = ["aigc_text", *path.relative_to(PACKAGE).parts[:-1]]
            base = package[: len(package) - child.level + 1] if child.level else []
            module = ".".join([*base, *([child.module] if child.module else [])])
            yield from ((f"{module}.{alias.name}", when) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _statements(child, path, "types")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _statements(child, path, "inside")
        else:
            yield from _statements(child, path, when)


def matches(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def heavy_at_top(name: str) -> set[str]:
    return {i.target for i in imports(name)[1] if i.when == "top"} & HEAVY


def loaded_with(start: str) -> set[str]:
    """All modules of the package that are imported when one is: those it imports, and the packages they are in."""
    waiting, seen = [start], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in FILES:
            continue
        seen.add(name)
        waiting += [i.target for i in imports(name)[0] if i.when == "top"]
        waiting += [name.rpartition(".")[0], "aigc_text"]
    return seen


@pytest.mark.parametrize("name", [name for name in FILES if matches(name, STANDARD_LIBRARY_ONLY)])
def test_some_modules_need_the_standard_library_only(name):
    assert {target for target, _ in imports(name)[1]} - sys.stdlib_module_names == set()


def test_heavy_packages_are_imported_at_the_top_of_few_modules():
    for name in FILES:
        assert not heavy_at_top(name) or matches(name, MAY_BE_HEAVY), f"{name} imports {heavy_at_top(name)} at its top"


@pytest.mark.parametrize("start", [name for name in FILES if matches(name, LIGHT)])
def test_light_modules_load_no_heavy_one(start):
    assert [name for name in loaded_with(start) if heavy_at_top(name)] == []


@pytest.mark.parametrize(("package", "importers"), ONE_IMPORTER.items())
def test_some_libraries_have_one_importer(package, importers):
    users = {name for name in FILES if package in {i.target for i in imports(name)[1] if i.when != "types"}}
    assert users
    assert all(matches(name, importers) for name in users), users


def test_folders_and_files_stay_small():
    """A folder that grows past this is split, and so is a file with more than one idea."""
    for name, path in FILES.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, name
    for folder in {path.parent for path in FILES.values()}:
        count = len(list(folder.glob("*.py")))
        most = {PACKAGE: 10, PACKAGE / "cli": 40}.get(folder, 14)
        assert count <= most, f"{folder} has {count} modules"
