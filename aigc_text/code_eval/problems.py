"""Programming problems with tests, in the forms of HumanEval and of MBPP."""

from __future__ import annotations

import ast
import builtins
import keyword
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from aigc_text.code_eval.sandbox.cases import Case
from aigc_text.code_eval.sandbox.screening.pure_modules import MODULES
from aigc_text.data.readers import read_records
from aigc_text.data.tables import text_of
from aigc_text.errors import DataError, nearest

CURE = (
    "Fields of HumanEval: task_id, prompt, entry_point, test. Of MBPP: task_id, text or prompt, test_list. "
    "canonical_solution or code may be there too."
)
#: Where a completion ends that is a whole program rather than the rest of a function (as for MBPP in common harnesses).
PROGRAM_END = ("\nclass Test", "\nassert", '\n"""', "\nprint", "\nif __name__", "\n```")
NO_PYTHON = (SyntaxError, ValueError, MemoryError, RecursionError)  # what the parser says of what it cannot take
LONG = 20_000  # characters; nested as deep as more of them allow, a program ends the parser of Python 3.10
PARSE = "import ast, sys; ast.parse(sys.stdin.buffer.read().decode('utf-8', 'surrogatepass'))"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem.

    Attributes:
        task_id: its name.
        prompt: what a completion goes on from; the program is both together.
        tests: what is run to decide, outside of the program.
        given: what the tests need of the problem itself: its imports, and helpers that its prompt defines.
        names: what the tests take from the program.
        solution: a completion that passes, if the file has one.
        whole: whether a completion is a whole program; else it is the rest of a function.
    """

    task_id: str
    prompt: str
    tests: str
    given: str = ""
    names: tuple[str, ...] = ()
    solution: str | None = None
    whole: bool = False

    def case(self, completion: str) -> Case:
        """A completion as the sandbox takes it."""
        return Case(self.prompt + completion, self.tests, self.given, self.names)


def read_problems(path: str | Path) -> list[Problem]:
    """The problems of a JSONL or JSON file.

    Raises:
        DataError: it cannot be read, holds none, or a problem lacks a field, has tests that do not parse, or has the
            name of another, with the place (`file:line`).
    """
    path = Path(path)
    found: dict[str, Problem] = {}
    for place, record in read_records(path):
        problem = _problem(place, record)
        if problem.task_id in found:
            raise DataError(f"{place} has the task_id {problem.task_id!r} of an earlier problem", "Name it anew.")
        found[problem.task_id] = problem
    if not found:
        raise DataError(f"{path} holds no problem", CURE)
    return list(found.values())


def _problem(place: str, record: Mapping[str, Any]) -> Problem:
    if "test_list" in record:
        return _mbpp(place, record)
    return _humaneval(place, record)


def _humaneval(place: str, record: Mapping[str, Any]) -> Problem:
    """A function's head with its docstring, and `check(candidate)` (Chen et al. 2021)."""
    prompt, entry, test = (_text(place, record, name) for name in ("prompt", "entry_point", "test"))
    if not entry.isidentifier() or keyword.iskeyword(entry):
        raise DataError(f"{place}: entry_point {entry!r} is no name of a function", CURE)
    tree = _parsed(place, "test", test)
    if not any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body):
        raise DataError(f"{place}: test defines no function 'check'", "Write: def check(candidate): assert …")
    return Problem(
        task_id=task_of(place, record),
        prompt=prompt,
        tests=f"{test}\ncheck({entry})\n",
        given=_without(prompt, entry),
        names=(entry,),
        solution=_optional(place, record, "canonical_solution"),
    )


def _mbpp(place: str, record: Mapping[str, Any]) -> Problem:
    """A task in words, and assertions that show what to call (Austin et al. 2021)."""
    task = _text(place, record, "text" if "text" in record or "prompt" not in record else "prompt")
    lines = _lines(place, record, "test_list")
    if not lines:
        raise DataError(f"{place}: test_list is empty", CURE)
    imports = record.get("test_imports")
    setup = "\n".join(_lines(place, record, "test_imports")) if imports else _optional(
        place, record, "test_setup_code"
    ) or ""  # fmt: skip
    given = _parsed(place, "test_imports" if imports else "test_setup_code", setup)
    tests = _parsed(place, "test_list", "\n".join(lines))
    shown = "\n".join(lines)
    solution = _optional(place, record, "code")
    used = (_loaded(tests) | _loaded(given)) - _stored(tests) - _stored(given)
    names = used - set(dir(builtins))
    names |= used & _defined(solution)  # one of MBPP's is called sum
    if not names and len(used) == 1:
        names = used
    modules = {name for name in names & set(MODULES) - _defined(solution) if _is_module(name, tests, given)}
    names -= modules
    library = "".join(f"import {name}\n" for name in sorted(modules))
    late = bool(_loaded(given) & names)  # setup that makes objects of the program's classes
    return Problem(
        task_id=task_of(place, record),
        prompt=_docstring(f"\n{task.strip()}\n{shown}\n"),
        tests=f"{setup}\n{shown}" if late else shown,
        given=library + ("" if late else setup),
        names=tuple(sorted(names)),
        solution=solution,
        whole=True,
    )


def _docstring(text: str) -> str:
    """Python that consists of a text alone."""
    for character, escaped in (("\\", "\\\\"), ('"""', '\\"\\"\\"'), ("\r", "\\r"), ("\0", "\\x00")):
        text = text.replace(character, escaped)
    return f'"""{text}"""\n'


def _is_module(name: str, *trees: ast.AST) -> bool:
    """Whether all that is done with a name is to take attributes of the standard module of that name."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    taken = [
        n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == name
    ]
    if len(taken) < sum(isinstance(n, ast.Name) and n.id == name for n in nodes):
        return False
    return all(hasattr(import_module(name), attribute) for attribute in taken)


def _text(place: str, record: Mapping[str, Any], name: str) -> str:
    if name not in record:
        raise DataError(f"{place} has no field {name!r}.{nearest(name, record)}", CURE)
    return text_of(place, record, name)


def _optional(place: str, record: Mapping[str, Any], name: str) -> str | None:
    return None if record.get(name) is None else text_of(place, record, name)


def _lines(place: str, record: Mapping[str, Any], name: str) -> list[str]:
    if not isinstance(record[name], list):
        raise DataError(f"{place}: {name!r} is {record[name]!r}"[:150] + ", but must be a list of texts", CURE)
    return [text_of(place, {f"{name}[{n}]": line}, f"{name}[{n}]") for n, line in enumerate(record[name])]


def task_of(place: str, record: Mapping[str, Any]) -> str:
    """The name of the problem that a record belongs to; MBPP numbers its problems.

    Raises:
        DataError: the record has no `task_id`, or one that is neither text nor a whole number.
    """
    if type(record.get("task_id")) is int:
        return str(record["task_id"])
    return _text(place, record, "task_id")


def _parsed(place: str, name: str, code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except NO_PYTHON as error:
        where = f" at its line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise DataError(f"{place}: {name} is no Python{where}: {_reason(error)}", "Mend the problem.") from None


def _reason(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else type(error).__name__


def parses(code: str) -> bool:
    """Whether a program is Python, of the version that runs this; nothing of it is executed."""
    if len(code) > LONG:
        words = [sys.executable, "-I", "-S", "-X", "utf8", "-W", "ignore", "-c", PARSE]
        given = code.encode("utf-8", "surrogatepass")
        return subprocess.run(words, input=given, stderr=subprocess.DEVNULL, check=False).returncode == 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the escapes in it, which are a model's
            ast.parse(code)
    except NO_PYTHON:
        return False
    return True


def _without(prompt: str, entry: str) -> str:
    """What a prompt defines besides the function that is asked for, so that the tests need not take it from a model."""
    for text in (prompt, f"{prompt}\n    pass\n"):  # a head without a body is no Python yet
        try:
            body = ast.parse(text).body
            others = [node for node in body if not (isinstance(node, ast.FunctionDef) and node.name == entry)]
            return ast.unparse(ast.Module(others, []))
        except NO_PYTHON:
            continue
    return ""


def _defined(code: str | None) -> set[str]:
    """The functions, classes and variables of a program."""
    try:
        body = ast.parse(code or "").body
    except NO_PYTHON:
        return set()
    made = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    assigned = (t for node in body if isinstance(node, ast.Assign) for t in node.targets)
    return made | {name for target in assigned for name, loads in _names(target) if not loads}


def _names(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, isinstance(node.ctx, ast.Load)
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0], False
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, False
        elif isinstance(node, ast.arg):
            yield node.arg, False


def _loaded(tree: ast.AST) -> set[str]:
    return {name for name, loads in _names(tree) if loads}


def _stored(tree: ast.AST) -> set[str]:
    return {name for name, loads in _names(tree) if not loads}
