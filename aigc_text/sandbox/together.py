"""Runs a program and its tests in one interpreter, where the program's syntax tree shows that it cannot reach them.

Read by path in a bare interpreter that has locked itself in.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import sys
import types
from collections.abc import Mapping

from checks import Checks, prepare
from own_classes import MODULE, OwnClasses
from pure_modules import BUILTINS, CALLED, MODULES
from screen import Apart, exceptions, screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def verdict(program: str, tests: str, given: str, names: list[str]) -> list[str] | None:
    """[outcome, why] as `Judge.verdict` gives it; `None` where program and tests must be kept apart.

    An outcome `again` says the same after the program has begun, so that this interpreter is of no more use.
    """
    try:
        tree = screen(program)
        shared = _shared(ast.parse(program), ast.parse(given))
    except (Apart, SyntaxError, ValueError, RecursionError, MemoryError, ImportError):
        return None
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    classes = OwnClasses(module.__dict__, shared)
    outcome = _run(classes, tree, tests, given, names)
    if classes.refused:
        return ["again", classes.refused]
    if outcome[0] == "failed" and classes.limits:
        outcome[1] += f" ({next(iter(classes.limits))})"
    return outcome


def _run(classes: OwnClasses, tree: ast.Module, tests: str, given: str, names: list[str]) -> list[str]:
    space = classes.namespace
    space["__builtins__"] = _builtins(classes)
    checks = Checks(lambda manager: _is_programs(classes, manager), classes.asked)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__.update(checks.namespace())
    try:
        exec(compile(prepare(given, ()), "<problem>", "exec", dont_inherit=True), main.__dict__)
        try:
            exec(compile(tree, "<program>", "exec", dont_inherit=True), space)
        except BaseException as error:
            return ["error", said(error, False)]
        main.__dict__.update({name: _named(space, name) for name in [*names, *classes.trusted]})
        prepared = prepare(tests, names)
        provide_modules(main.__dict__, prepared, ast.walk(tree))
        exec(compile(prepared, "<tests>", "exec", dont_inherit=True), main.__dict__)
    except BaseException as error:
        return ["failed", said(error, True)]
    return ["failed", checks.why] if checks.failed else ["passed", ""]


def _named(space: Mapping[str, Any], name: str) -> Any:
    if name not in space:
        raise NameError(f"the program defines no {name!r}")
    return space[name]


def _builtins(classes: OwnClasses) -> dict[str, Any]:
    """What a program finds in place of the built-in names."""
    names = BUILTINS | CALLED - {"type"} | set(exceptions())
    return {
        **{name: getattr(builtins, name) for name in names if hasattr(builtins, name)},
        "__build_class__": classes.build_class, "__import__": lambda *given: _import(classes, *given),
        "__own__": classes.target, "type": classes.type_of, "__type__": classes.type_of, "__metatype__": type,
        "__debug__": True,
    }  # fmt: skip


def _import(classes: OwnClasses, name: str, _: Any = None, __: Any = None, names: Any = (), level: int = 0) -> Any:
    if level or name not in MODULES:
        raise classes.refuse(f"it imports {name}")
    return importlib.__import__(name, None, None, names or ())


def _is_programs(classes: OwnClasses, manager: Any) -> bool:
    """Whether leaving a `with` of the tests runs code of the program."""
    if classes.is_own(manager):
        return True
    made_from = getattr(manager, "gen", None) if isinstance(manager, contextlib.AbstractContextManager) else None
    code = getattr(made_from, "gi_code", None)
    return code is not None and code.co_filename == "<program>"


def _shared(program: ast.Module, given: ast.Module) -> frozenset[str]:
    """The classes of the problem that are the same for the program and for its tests.

    The program stands for both where it repeats a class as it is, and nothing that the class needs is given another
    meaning there.
    """
    definitions = {ast.dump(node): node for node in given.body}
    repeated = [node for node in program.body if ast.dump(node) in definitions]
    others = ast.Module([node for node in program.body if node not in repeated], [])
    bound = {n.id for n in ast.walk(others) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.name for n in ast.walk(others) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    bound |= {(a.asname or a.name).partition(".")[0] for n in ast.walk(others) if _imports(n) for a in n.names}  # type: ignore[attr-defined]
    found = set()
    for node in repeated:
        name = _class_name(node)
        needed = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if name and name not in bound and not needed & bound and not any(_imports(n, "*") for n in others.body):
            found.add(name)
    return frozenset(found)


def _imports(node: ast.AST, name: str = "") -> bool:
    if not isinstance(node, (ast.Import, ast.ImportFrom)):
        return False
    return not name or any(alias.name == name for alias in node.names)


def _class_name(node: ast.AST) -> str:
    """The name of a class that a statement makes, or nothing."""
    if isinstance(node, ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
        called = node.value.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        return node.targets[0].id if name == "namedtuple" else ""
    return ""


def provide_modules(space: dict[str, Any], tests: ast.AST, program: Any) -> None:
    """Gives tests the modules that nobody but the program imports: the real ones, whatever the program calls so.

    Args:
        space: the tests' names.
        tests: their tree.
        program: the nodes of the program's.
    """
    wanted = {n.id for n in ast.walk(tests) if isinstance(n, ast.Name)} - set(space) - set(dir(builtins))
    for node in program:
        if not isinstance(node, (ast.Import, ast.ImportFrom)) or isinstance(node, ast.ImportFrom) and node.level:
            continue
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            module = str(node.module) if isinstance(node, ast.ImportFrom) else alias.name
            if name not in wanted or module.partition(".")[0] not in sys.stdlib_module_names:
                continue
            with contextlib.suppress(ImportError, AttributeError):
                loaded = importlib.import_module(module)
                if isinstance(node, ast.ImportFrom):
                    space[name] = getattr(loaded, alias.name)
                else:
                    space[name] = loaded if alias.asname else sys.modules[name]


def said(error: BaseException, tested: bool) -> str:
    """An error on one line.

    Args:
        error: what was raised.
        tested: by a test, where a failed assertion is no error.
    """
    try:
        text = str.__str__(f"{error}")
    except BaseException:
        text = ""
    if tested and isinstance(error, AssertionError):
        return f"a test failed{': ' + text if text else ''}"[:500]
    return f"{type(error).__name__}{': ' if text else ''}{text}"[:500]
