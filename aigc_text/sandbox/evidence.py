"""What tests show of the names under test: which objects they make, and which names they use as classes.

Read by path in a bare interpreter.
"""

from __future__ import annotations

import ast
import types
from collections import Counter, deque
from collections.abc import Iterator

#: Attributes that data has as well: who asks for one may expect a number or a text.
_OF_DATA = frozenset(
    name
    for kind in (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, Counter, deque)
    for name in dir(kind)
) | frozenset(
    """year month day hour minute second microsecond weekday isoweekday isoformat strftime date time timestamp days
    seconds microseconds total_seconds quantize normalize sqrt as_tuple group groups span hex int bytes urn
    variant stem suffix suffixes parents joinpath with_name with_suffix is_absolute
    relative_to as_posix exists is_file is_dir read_text write_text stat iterdir glob expandtabs
    utcoffset tzname dst tzinfo astimezone toordinal timetuple utctimetuple isocalendar ctime fold is_nan is_zero
    is_infinite is_finite is_signed to_integral_value compare copy_abs limit_denominator throw
    done cancel cancelled exception add_done_callback""".split()  # noqa: SIM905
)
_OF_FUNCTIONS = frozenset([*dir(types.FunctionType), "cache_clear", "cache_info", "cache_parameters"])


def with_parameters(tree: ast.Module, names: set[str]) -> set[str]:
    """The names under test, with those by which functions of the tests know what they are called with."""
    found = {*names, "candidate", *_parameter_of_check(tree)}
    functions = {n.name: n.args.args for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for _ in range(3):  # a function hands it to another
        for call in calls:
            for given, parameter in zip(call.args, functions.get(call.func.id, ()), strict=False):  # type: ignore[attr-defined]
                if isinstance(given, ast.Name) and given.id in found:
                    found.add(parameter.arg)
    return found


def _parameter_of_check(tree: ast.Module) -> set[str]:
    checks = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "check")
    return {node.args.args[0].arg for node in checks if node.args.args}


def made_by(tree: ast.AST, names: set[str]) -> dict[str, str]:
    """The variables that hold nothing but what a call of one of the names has made, with that name; else ""."""
    found: dict[str, str] = {}
    simple: set[int] = set()
    for node in ast.walk(tree):
        for target, value in _assigned(node):
            simple.add(id(target))
            maker = "" if isinstance(value, ast.Name) else maker_of(value, names, {})
            found[target.id] = maker if found.get(target.id, maker) == maker else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            simple.add(id(node.target))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in simple:
            found[node.id] = ""
        elif isinstance(node, ast.arg):
            found[node.arg] = ""
    return found


def _assigned(node: ast.AST) -> Iterator[tuple[ast.Name, ast.expr]]:
    """Each variable that an assignment sets, with the value."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name):
            yield target, value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            yield from ((t, v) for t, v in zip(target.elts, value.elts, strict=True) if isinstance(t, ast.Name))


def classes(tree: ast.Module, names: set[str], makers: dict[str, str]) -> set[str]:
    """The names that the tests themselves treat as classes: no function in their place could pass.

    Where all that tests do with the result of a call is to compare it, a class in place of a function decides nothing.
    """
    found = {name for node in ast.walk(tree) for name in _shown(node, names, makers)} - {""}
    parameters = {"candidate", *_parameter_of_check(tree)}
    if found & parameters:
        found |= {n.id for call in _calls_of_check(tree) for n in ast.walk(call) if isinstance(n, ast.Name)} & names
    if any(isinstance(a, ast.Name) and a.id in found for call in _calls_of_check(tree) for a in call.args):
        found |= parameters
    return found


def _calls_of_check(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            yield node


def _shown(node: ast.AST, names: set[str], makers: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in names and node.attr not in _OF_FUNCTIONS:
            yield node.value.id
        if node.attr not in _OF_DATA and (maker := maker_of(node.value, names, makers)):
            yield maker
    elif isinstance(node, ast.withitem):
        yield maker_of(node.context_expr, names, makers)
    elif (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass")
    ):
        yield from (n for a in node.args[1:] for n in names_in(a) if n in names)
    elif isinstance(node, ast.ClassDef):
        yield from (n for base in node.bases for n in names_in(base) if n in names)
    elif isinstance(node, ast.ExceptHandler) and node.type is not None:
        yield from names_in(node.type) & names
    elif isinstance(node, ast.Compare) and any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
        yield from (c.id for c in node.comparators if isinstance(c, ast.Name) and c.id in names)


def maker_of(node: ast.expr, names: set[str], makers: dict[str, str]) -> str:
    """The name under test whose call has made a value, or an operand of it; prepared calls are known as well."""
    if isinstance(node, ast.Name):
        return makers.get(node.id, "")
    if isinstance(node, ast.BinOp):
        return maker_of(node.left, names, makers) or maker_of(node.right, names, makers)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return ""
    called: ast.expr = node.func
    if node.func.id == "__called__":
        called = node.args[0]
    elif node.func.id == "__ask__":
        called = node.args[1]
    return called.id if isinstance(called, ast.Name) and called.id in names else ""


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
