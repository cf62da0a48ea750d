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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from checks import Checks, prepare
from own_classes import MODULE, OwnClasses
from program_names import Apart, exceptions
from pure_modules import BUILTINS, CALLED, MODULES
from reach import Metatype, bound_by, compare_views_by_content, named_in
from screen import screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def verdict(program: str, tests: str, given: str, names: list[str]) -> list[str]:
    """[outcome, why] as `Judge.verdict` gives it; or `apart`, where program and tests must be kept so, and why.

    An outcome `again` says the same after the program has begun, so that this interpreter is of no more use.
    """
    try:
        shared = _shared(ast.parse(program), ast.parse(given))
        tree = screen(program)
    except Apart as reason:
        return ["apart", f"{reason}"]
    except (SyntaxError, ValueError, RecursionError, MemoryError, ImportError):
        return ["apart", ""]
    tree.body = [statement for number, statement in enumerate(tree.body) if number not in shared]
    compare_views_by_content()
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    classes = OwnClasses(module.__dict__)
    outcome = _run(classes, tree, tests, given, names, list(shared.values()))
    if classes.refused:
        return ["again", classes.refused]
    if outcome[0] == "failed" and classes.limits:
        outcome[1] += f" ({next(iter(classes.limits))})"
    return outcome


def _run(
    classes: OwnClasses, tree: ast.Module, tests: str, given: str, names: list[str], shared: list[str]
) -> list[str]:
    space = classes.namespace
    space["__builtins__"] = _builtins(classes)
    checks = Checks(classes.asked)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__.update(checks.namespace())
    try:
        exec(compile(prepare(given, ()), "<problem>", "exec", dont_inherit=True), main.__dict__)
        space.update({name: main.__dict__[name] for name in shared})
        try:
            exec(compile(tree, "<program>", "exec", dont_inherit=True), space)
        except BaseException as error:
            return ["error", said(error, False)]
        main.__dict__.update({name: _named(space, name) for name in names})
        prepared = prepare(tests, names, given)
        provide_modules(main.__dict__, prepared, ast.walk(tree))
        exec(compile(prepared, "<tests>", "exec", dont_inherit=True), main.__dict__)
    except BaseException as error:
        return ["failed", said(error, True)]
    return ["failed", checks.why] if checks.failed else ["passed", ""]


def _named(space: Mapping[str, Any], name: str) -> Any:
    if name not in space:
        raise NameError(f"the program defines no {name!r}")
    return checked_name(name, space[name])


def checked_name(name: str, value: Any) -> Any:
    """What the tests take from a program by name.

    Raises:
        TypeError: an error class that would catch the tests' own failures where they expect the program's error.
    """
    if any(value is kind for kind in (BaseException, Exception, AssertionError)):
        raise TypeError(f"the program's {name} is {value.__name__} itself")
    return value


def _builtins(classes: OwnClasses) -> dict[str, Any]:
    """What a program finds in place of the built-in names."""
    names = BUILTINS | CALLED - {"type"} | set(exceptions())
    return {
        **{name: getattr(builtins, name) for name in names if hasattr(builtins, name)},
        "__build_class__": classes.build_class, "__import__": lambda *given: _import(classes, *given),
        "__own__": classes.target, "__read__": classes.owner, "type": classes.type_of, "__type__": classes.type_of,
        "__type_name__": classes.type_name, "__metatype__": Metatype, "__debug__": True, "__kind__": type,
        "__plain__": classes.plain,
    }  # fmt: skip


def _import(classes: OwnClasses, name: str, _: Any = None, __: Any = None, names: Any = (), level: int = 0) -> Any:
    if level or name not in MODULES:
        raise classes.refuse(f"it imports {name}")
    return importlib.__import__(name, None, None, names or ())


def _shared(program: ast.Module, given: ast.Module) -> dict[int, str]:
    """The classes of the problem that the program repeats as they are: the place of each there, and its name.

    In place of its own the program then has those that the tests use, as it has nothing to change in them.

    Raises:
        Apart: one of them has something that the program could change.
    """
    definitions = {ast.dump(node) for node in given.body}
    bound = Counter(named_in(program))
    found = {}
    for number, node in enumerate(program.body):
        name = _class_name(node) if ast.dump(node) in definitions else ""
        if not name or bound[name] > 1:
            continue
        if isinstance(node, ast.ClassDef) and not all(map(_is_constant, node.body)):
            raise Apart(f"the class {name} of the problem may be changed")
        found[number] = name
    return found


def _is_constant(node: ast.stmt) -> bool:
    """Whether a statement in the body of a class gives its objects nothing in common that can be changed."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
        plain = {"property", "staticmethod", "classmethod", "abstractmethod"}
        decorated = all(isinstance(d, ast.Name) and d.id in plain for d in node.decorator_list)
        return decorated and all(isinstance(d, (ast.Constant, ast.UnaryOp)) for d in defaults)
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)):
        value = node.value
        made = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("field", "auto")
        return value is None or made or isinstance(value, (ast.Constant, ast.UnaryOp))
    return isinstance(node, ast.Pass)


def _class_name(node: ast.AST) -> str:
    """The name of a class that a statement makes, or nothing."""
    if isinstance(node, ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
        called = node.value.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        return node.targets[0].id if name == "namedtuple" else ""
    return ""


def provide_modules(space: dict[str, Any], tests: ast.AST, program: Iterable[ast.AST]) -> None:
    """Gives tests what nobody but the program imports, under the name that it has in its module.

    Args:
        space: the tests' names.
        tests: their tree.
        program: the nodes of the program's.
    """
    wanted = {n.id for n in ast.walk(tests) if isinstance(n, ast.Name)} - set(space) - set(dir(builtins))
    nodes = list(program)
    bound = Counter(name for node in nodes for name in bound_by(node))
    origins: dict[str, list[tuple[str, str]]] = {}
    for node in nodes:
        for name, origin in _imports(node):
            origins.setdefault(name, []).append(origin)
    for name in wanted & set(origins):
        module, attribute = origins[name][0]
        if len(set(origins[name])) > 1 or bound[name] != len(origins[name]) or attribute not in ("", name):
            continue
        if module.partition(".")[0] in sys.stdlib_module_names:
            with contextlib.suppress(ImportError, AttributeError):
                loaded = importlib.import_module(module)
                space[name] = getattr(loaded, attribute) if attribute else loaded


def _imports(node: ast.AST) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each name that a statement imports, with (module, name in it); a module itself has no name in one."""
    if isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            yield alias.asname or alias.name, (str(node.module), alias.name)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            first = alias.name.partition(".")[0]
            yield alias.asname or first, (alias.name if alias.asname else first, "")


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
