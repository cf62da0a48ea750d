"""Prepares tests so that a failed assertion decides, whoever catches its error, and shows which objects they ask.

Read by path in a bare interpreter.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Checks:
    """What the tests of a program have found.

    Attributes:
        failed: whether an assertion has failed, or was passed over.
        why: of the last.
    """

    def __init__(self, is_programs: Callable[[Any], bool], asked: Callable[[Any, Any], Any]) -> None:
        self.failed, self.why = False, "a test failed"
        self._is_programs, self._asked = is_programs, asked
        self._open: dict[int, bool] = {}

    def namespace(self) -> dict[str, Any]:
        """What prepared tests call, and functions that an error of the program does not end as if all were done."""
        return {
            "__fail__": self._fail, "__manage__": self._manage, "__reach__": self._reach, "__leave__": self._leave,
            "__ask__": self._asked, "__map__": _map, "__filter__": _filter,
        }  # fmt: skip

    def _fail(self) -> None:
        self.failed = True

    def _manage(self, place: int, manager: Any) -> Any:
        if self._is_programs(manager):
            self._open[place] = True
        return manager

    def _reach(self, place: int) -> None:
        self._open.pop(place, None)

    def _leave(self, place: int) -> None:
        if self._open.pop(place, False):
            self.failed, self.why = True, "a context manager of the program swallowed an error before the tests ended"


def _map(function: Any, *values: Iterable[Any]) -> Iterator[Any]:
    """As `map`; but a StopIteration of the function is an error, as it is in a loop, and not the end."""
    for each in zip(*values):  # noqa: B905
        yield function(*each)


def _filter(function: Any, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if value if function is None else function(value):
            yield value


def prepare(text: str, names: Collection[str]) -> ast.Module:
    """The tree of tests, prepared.

    Args:
        text: the tests.
        names: what they take from the program; `candidate` is what HumanEval calls it.
    """
    tree = ast.parse(text)
    return ast.fix_missing_locations(_Prepared(tree, {*names, "candidate"}).visit(tree))


class _Prepared(ast.NodeTransformer):
    def __init__(self, tree: ast.Module, names: set[str]) -> None:
        self.names, self.places = names, 0
        self.made_by = _made_by(tree, names)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.generic_visit(node)
        failing = [ast.Expr(_call("__fail__")), ast.Assert(ast.Constant(False), node.msg)]
        return ast.copy_location(ast.If(ast.UnaryOp(ast.Not(), node.test), failing, []), node)

    def visit_Try(self, node: ast.Try) -> ast.AST:
        """An assertion that the tests themselves expect to fail is left alone."""
        expected = any("AssertionError" in _names(h.type) for h in node.handlers if h.type is not None)
        if not expected:
            return self.generic_visit(node)
        node.handlers = [self.visit(h) for h in node.handlers]
        for field in ("orelse", "finalbody"):
            setattr(node, field, [s for old in getattr(node, field) for s in _listed(self.visit(old))])
        return node

    def visit_With(self, node: ast.With | ast.AsyncWith) -> Any:
        last = max((n for n, s in enumerate(node.body) if _has_assert(s)), default=None)
        self.generic_visit(node)
        if last is None:
            return node
        self.places += 1
        place = ast.Constant(self.places)
        for item in node.items:
            item.context_expr = _call("__manage__", place, item.context_expr)
        # Each statement may have become two; what follows the last assertion needs no mark.
        after = len(node.body) - 1 if last is None else _end_of(node.body, last)
        node.body.insert(after, ast.Expr(_call("__reach__", place)))
        return [node, ast.copy_location(ast.Expr(_call("__leave__", place)), node)]

    visit_AsyncWith = visit_With

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("map", "filter") and node.func.id not in self.made_by:
            node.func.id = f"__{node.func.id}__"
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            node.comparators = [self._asking(c) for c in node.comparators]
        else:
            node.left = self._asking(node.left)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        node.left, node.right = self._asking(node.left), self._asking(node.right)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name) and self.made_by.get(node.target.id):
            asked = self._asking(ast.Name(node.target.id, ast.Load()))
            return [ast.copy_location(ast.Expr(asked), node), node]
        return node

    def _asking(self, node: ast.expr) -> ast.expr:
        """An operand that the tests have made by calling a class under test, marked as such."""
        if isinstance(node, ast.Name) and self.made_by.get(node.id):
            return _call("__ask__", node, ast.Name(self.made_by[node.id], ast.Load()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.names:
            return _call("__ask__", node, ast.Name(node.func.id, ast.Load()))
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Call) and "__ask__" in _names(node.left.func):
            return _call("__ask__", node, node.left.args[1])
        return node


def _made_by(tree: ast.Module, names: set[str]) -> dict[str, str]:
    """The variables that hold nothing but what a call of one of the names has made, with that name; else ""."""
    found: dict[str, str] = {}
    simple: set[int] = set()
    for node in ast.walk(tree):
        for target, value in _assigned(node):
            simple.add(id(target))
            called = value.func if isinstance(value, ast.Call) else None
            maker = called.id if isinstance(called, ast.Name) and called.id in names else ""
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


def _end_of(body: list[ast.stmt], last: int) -> int:
    """Where a mark goes in a prepared body: after the statement that was at `last`, and its own check."""
    place = -1
    for n, statement in enumerate(body):
        if not (isinstance(statement, ast.Expr) and "__leave__" in _names(statement)):
            place += 1
        if place > last:
            return n
    return len(body)


def _has_assert(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Assert) for n in ast.walk(node))


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
