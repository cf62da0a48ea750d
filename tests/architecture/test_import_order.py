"""Who may import whom: the table of docs/architecture.md, held against the files."""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aigc_text"
HEAVY = {"torch", "transformers", "accelerate", "datasets", "pyarrow", "evaluate", "matplotlib"}
MAY_BE_HEAVY = (
    "caches",
    "own_models",
    "sampling",
    "losses",
    "optimizers",
    "training_state",
    "hardware",
    "updates",
    "trainer",
    "engines/*",
    "backends/*",
    "plugin_template/*",
)
MAY_BE_HEAVY += ("metrics/evaluate_metric",)
# Importing these imports no heavy package.
LIGHT = (
    "__init__",
    "cli",
    "cli/*",
    "registry",
    "api",
    "run",
    "evaluation",
    "figures",
    "page",
    "metrics",
    "metrics/[!e]*",
)
ONE_DOOR = {
    "click": ["cli"],
    "huggingface_hub": ["hub"],
    "datasets": ["hub_datasets", "metrics/evaluate_metric"],
    "evaluate": ["metrics/evaluate_metric"],
    "nltk": ["metrics/words"],
    "pyarrow": ["formats"],
    "sacrebleu": ["metrics/sacrebleu"],
    "matplotlib": ["plots", "text_plots", "latent_plots"],
    "accelerate": ["hardware"],
}
MAY_IMPORT_FAMILIES = dict.fromkeys(("vae", "gan"), {"rnn", "transformer"})


class Import(NamedTuple):
    """`when`: `top` (as the file is imported), `inside` (a function), or `types` (never at run time)."""

    target: str
    when: str


def name_of(path: Path) -> str:
    """`engines/transformers` for a file, `engines` for a package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports(name: str) -> tuple[set[Import], set[Import]]:
    """What a file imports of this package, and of others (their first names)."""
    ours, others = set(), set()
    for module, when in _statements(ast.parse(FILES[name].read_text(encoding="utf-8")), FILES[name], "top"):
        first, _, rest = module.partition(".")
        if first == "aigc_text":
            parts = rest.split(".") if rest else ["__init__"]
            while "/".join(parts) not in FILES:  # the last part is a name in a file, not a file
                parts = parts[:-1] or ["__init__"]
            ours.add(Import("/".join(parts), when))
        else:
            others.add(Import(first, when))
    return ours, others


def _statements(node: ast.AST, path: Path, when: str) -> Iterator[tuple[str, str]]:
    """(absolute module, when) of each import below a node; of `from a import b` both a.b, which may be a file."""
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


def family_of(name: str) -> str:
    """`vae` for `backends/vae` and for `backends/vae_model`: a family may have several files."""
    family = name.removeprefix("backends/")
    return next((known for known in ("rnn", *MAY_IMPORT_FAMILIES) if family.startswith(f"{known}_")), family)


def matches(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(fnmatch(name, p) or fnmatch(f"{name}/", p) for p in patterns)


class Row(NamedTuple):
    top: list[str]
    inside: list[str]


def table() -> dict[str, Row]:
    """The page's table: what a file may import at its top, and inside functions."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## Files, and who may import whom")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    return {cells[0].strip("`"): Row(_allowed(cells[2]), _allowed(cells[3])) for cells in rows}


def _allowed(cell: str) -> list[str]:
    return ["*"] if cell == "anything" else re.findall(r"`([\w/*]+)`", cell)


def row_of(name: str) -> Row:
    found = table()
    key = name if name in found else next((k for k in found if matches(name, [k])), None)
    assert key is not None, f"aigc_text/{name}.py has no row in docs/architecture.md"
    return found[key]


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_what_the_page_says(name):
    row = row_of(name)
    for target, when in imports(name)[0]:
        allowed = {"top": row.top, "inside": row.top + row.inside, "types": ["*"]}[when]
        how = "at its top" if when == "top" else "inside a function"
        assert matches(target, allowed), f"{name} imports {target} {how}, which docs/architecture.md does not allow"


def test_the_page_names_no_file_that_does_not_exist():
    for key, row in table().items():
        for pattern in [key, *row.top, *row.inside]:
            assert any(matches(name, [pattern]) for name in FILES), f"docs/architecture.md names {pattern}"


@pytest.mark.parametrize("name", ["errors", "options", "results"])
def test_errors_options_and_results_need_the_standard_library_only(name):
    foreign = {target for target, _ in imports(name)[1]} - sys.stdlib_module_names
    assert foreign == set()


def test_nothing_imports_the_command_line():
    for name in FILES:
        if name != "__main__" and not matches(name, ["cli/*"]):
            assert not [i for i in imports(name)[0] if matches(i.target, ["cli/*"])], name


@pytest.mark.parametrize("pattern", ["trainer", "sources", "encoding", "batches", "data", "evaluation", "metrics/*"])
def test_what_serves_all_families_imports_none(pattern):
    for name in FILES:
        if matches(name, [pattern]):  # imports for type checking count here too
            assert not [i for i in imports(name)[0] if matches(i.target, ["backends/*"])], name


def test_no_family_imports_another():
    for name in FILES:
        if matches(name, ["backends/*"]):
            family, others = family_of(name), {i.target for i in imports(name)[0] if i.target.startswith("backends/")}
            assert {family_of(other) for other in others} <= {family} | MAY_IMPORT_FAMILIES.get(family, set()), name


def test_heavy_packages_are_imported_at_the_top_of_few_files():
    for name in FILES:
        heavy = {i.target for i in imports(name)[1] if i.when == "top"} & HEAVY
        assert not heavy or matches(name, MAY_BE_HEAVY), f"{name} imports {heavy} at its top"


def test_importing_the_command_line_or_the_api_imports_no_heavy_file():
    for start in (name for name in FILES if matches(name, LIGHT)):
        waiting, seen = [start], set()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += [i.target for i in imports(name)[0] if i.when == "top"]
        assert not [name for name in seen if {i.target for i in imports(name)[1] if i.when == "top"} & HEAVY], start


@pytest.mark.parametrize(("package", "doors"), ONE_DOOR.items())
def test_some_packages_have_one_door(package, doors):
    users = {name for name in FILES if package in {i.target for i in imports(name)[1] if i.when != "types"}}
    assert users
    assert all(matches(name, [*doors, *(f"{door}/*" for door in doors)]) for name in users), users
