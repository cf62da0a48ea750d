"""Prepares tests, so that a program's errors and objects decide nothing that the tests do not ask them.

Read by path in a bare interpreter. `checks` has what prepared tests call.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection

from evidence import classes, made_by, maker_of, names_in, with_parameters
from managers import Managers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOOP = ""  # among the marks: a loop, which `break` and `continue` leave
_ASKS = frozenset(dir(builtins)) - {"map", "filter", "iter"}  # built-in functions that call nothing for an iterator
_ENDING = ("starmap", "filterfalse", "takewhile", "dropwhile", "accumulate", "groupby")
_UNASKED = ("map", "map_async", "apply_async", "starmap_async")  # of pools: as statements, their errors are lost
_LOOKS = frozenset(["inspect", "typing", "types", "dis", "ast", "check"])


def prepare(text: str, names: Collection[str], given: str = "") -> ast.Module:
    """The tree of tests, prepared.

    Args:
        text: the tests.
        names: what they take from the program; `candidate` is what HumanEval calls it.
        given: what the problem itself defines.
    """
    tree = ast.parse(text)
    return ast.fix_missing_locations(_Prepared(tree, with_parameters(tree, set(names)), ast.parse(given)).visit(tree))


class _Prepared(ast.NodeTransformer):
    def __init__(self, tree: ast.Module, names: set[str], given: ast.Module) -> None:
        self.names = names
        self.made_by = made_by(tree, names)
        self.classes = classes(tree, names, given)
        self.managers = Managers(tree, names, self.made_by)
        self.mentioned = names_in(tree) | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        self.defined = {
            n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }
        self.count = 0
        self.errors_expected = any(map(_expects_errors, ast.walk(tree)))
        self.inside: list[str] = []  # the marks of the `with` statements around, and loops, within one function
        self.expected = 0  # statements around that expect an AssertionError
        self.doubted = 0  # handlers around, and conditions that depend on the program

    # Assertions

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.generic_visit(node)
        if self.expected:
            return node
        failing = [ast.Expr(_call("__fail__")), ast.Assert(ast.Constant(False), node.msg)]
        return ast.copy_location(ast.If(ast.UnaryOp(ast.Not(), node.test), failing, []), node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        self.generic_visit(node)
        if isinstance(raised, ast.Name) and raised.id == "AssertionError":
            return node if self.expected else [ast.copy_location(ast.Expr(_call("__fail__")), node), node]
        marks = self._marks()
        if node.exc is None or not marks or self.doubted:
            return node
        kept = _set("__raised__", node.exc, node)
        node.exc = ast.Name("__raised__", ast.Load())
        return [kept, *_all(marks, True, node), node]

    def visit_Try(self, node: Any) -> ast.AST:
        """An assertion that the tests themselves expect to fail is left alone."""
        expected = any("AssertionError" in names_in(h.type) for h in node.handlers if h.type is not None)
        self.expected += expected
        node.body = self._block(node.body)
        self.expected -= expected
        self.doubted += 1
        for handler in node.handlers:
            handler.body = [*_all(self._marks(), False, handler), *self._block(handler.body)]
        self.doubted -= 1
        node.orelse, node.finalbody = self._block(node.orelse), self._block(node.finalbody)
        return node

    visit_TryStar = visit_Try

    def visit_If(self, node: ast.If) -> ast.AST:
        doubtful = self.managers.may_be_programs(node.test)
        self.doubted += doubtful
        self.generic_visit(node)
        self.doubted -= doubtful
        return node

    # Context managers, which may swallow an error: whether the body was left otherwise is marked in a variable

    def visit_With(self, node: Any) -> Any:
        first, *others = node.items
        if others and not all(self.managers.is_tests(item.context_expr) for item in node.items):
            node.items, node.body = [first], [ast.copy_location(type(node)(others, node.body), node)]
        around = self._marks()
        if all(self.managers.is_tests(item.context_expr) for item in node.items):
            return [self._own_with(node), *_all(around, False, node)]
        self.count += 1
        mark = f"__reached_{self.count}__"
        node.items = [self.visit(item) for item in node.items]
        self.inside.append(mark)
        node.body = [*self._block(node.body), _set(mark, ast.Constant(True), node)]
        self.inside.pop()
        passed_over = ast.If(ast.UnaryOp(ast.Not(), ast.Name(mark, ast.Load())), [ast.Expr(_call("__swallowed__"))], [])
        before = _set(mark, ast.Constant(False), node)
        return [before, node, ast.copy_location(passed_over, node), *_all(around, False, node)]

    visit_AsyncWith = visit_With

    def _own_with(self, node: Any) -> ast.AST:
        expected = any("AssertionError" in names_in(item.context_expr) for item in node.items)
        node.items = [self.visit(item) for item in node.items]
        self.expected += expected
        node.body = self._block(node.body)
        self.expected -= expected
        return node

    def visit_Return(self, node: ast.Return) -> Any:
        self.generic_visit(node)
        marks = self._marks()
        if not marks:
            return node
        kept = _set("__returned__", node.value or ast.Constant(None), node)
        node.value = ast.Name("__returned__", ast.Load())
        return [kept, *_all(marks, True, node), node]

    def visit_Break(self, node: ast.stmt) -> Any:
        left = self.inside[len(self.inside) - self.inside[::-1].index(LOOP) :] if LOOP in self.inside else []
        return [*_all(left, True, node), node]

    visit_Continue = visit_Break

    def visit_Match(self, node: Any) -> ast.AST:
        doubtful = self.managers.may_be_programs(node.subject)
        self.doubted += doubtful
        self.generic_visit(node)
        self.doubted -= doubtful
        return node

    def visit_For(self, node: Any) -> ast.AST:
        doubtful = self.managers.may_be_programs(getattr(node, "test", None) or node.iter)
        self.doubted += doubtful
        for field in ("target", "iter", "test"):
            if hasattr(node, field):
                setattr(node, field, self.visit(getattr(node, field)))
        self.inside.append(LOOP)
        node.body = self._block(node.body)
        self.inside.pop()
        node.orelse = self._block(node.orelse)
        self.doubted -= doubtful
        return node

    visit_AsyncFor = visit_While = visit_For

    def visit_FunctionDef(self, node: Any) -> ast.AST:
        kept, self.inside, self.doubted = (self.inside, self.doubted), [], 0
        watched = not self.errors_expected and _only_asserts(node)
        self.generic_visit(node)
        self.inside, self.doubted = kept
        if watched:
            noted: list[ast.stmt] = [ast.Expr(_call("__left__", ast.Name("__error__", ast.Load()))), ast.Raise()]
            handler = ast.ExceptHandler(ast.Name("BaseException", ast.Load()), "__error__", noted)
            node.body = [ast.copy_location(ast.Try(node.body, [handler], [], []), node)]
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef

    def visit_Expr(self, node: Any) -> Any:
        """The error of a statement that has nothing to do with the program may be swallowed: tests provoke it."""
        own = self.managers.fails_by_itself(node)
        self.generic_visit(node)
        call = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(call, ast.Call) and _last(call.func) in _UNASKED and call.args:
            call.args[0] = _call("__task__", call.args[0])
        marks = self._marks() if own else []
        return [*_all(marks, True, node), node, *_all(marks, False, node)]

    visit_Assign = visit_Delete = visit_Expr

    def _marks(self) -> list[str]:
        return [mark for mark in self.inside if mark != LOOP]

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        found = (self.visit(s) for s in statements)
        return [s for each in found for s in (each if isinstance(each, list) else [each])]

    # Calls

    def visit_Call(self, node: ast.Call) -> ast.AST:
        programs = self._calls_program(node)
        self.generic_visit(node)
        called = node.func
        if isinstance(called, ast.Name) and called.id in ("map", "filter") and called.id not in self.made_by:
            called.id = f"__{called.id}__"
        evaluates = isinstance(called, ast.Name) and called.id in ("eval", "exec") and called.id not in self.defined
        if evaluates and node.args and not isinstance(node.args[0], ast.Constant):
            node.args[0] = _call("__text__", node.args[0])
        if isinstance(called, ast.Attribute) and called.attr == "loads" and names_in(called) == {"pickle"}:
            node.func = ast.copy_location(ast.Name("__unpickled__", ast.Load()), called)
        if _last(called) in _ENDING and not self.mentioned & {"StopIteration"}:
            node.args = [a if isinstance(a, ast.Starred) else _call("__ending__", a) for a in node.args]
        if _last(called) == "submit" and node.args and not self.mentioned & {"result", "exception"}:
            node.args[0] = _call("__task__", node.args[0])
        if self.mentioned & {"StopIteration", "StopAsyncIteration"}:
            return node
        if programs:
            node.args.insert(0, called)
            node.func = ast.copy_location(ast.Name("__called__", ast.Load()), called)
        elif not (names_in(called) & _LOOKS or isinstance(called, ast.Name) and called.id in _ASKS | self.defined):
            node.args = [self._guarded(a) for a in node.args]
            for keyword in node.keywords:
                keyword.value = self._guarded(keyword.value)
        return node

    def _calls_program(self, node: ast.Call) -> bool:
        root = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        known = isinstance(root, ast.Name) and (root.id in self.names or bool(self.made_by.get(root.id)))
        return known and not _last(node.func).startswith("__")

    def _guarded(self, node: ast.expr) -> ast.expr:
        return _call("__guard__", node) if isinstance(node, ast.Name) and node.id in self.names else node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        if not self.mentioned & {"CancelledError", "cancel"}:
            node.value = _call("__awaited__", node.value)
        return node

    # Objects that the tests ask

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            return node
        if any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            node.comparators = [self._asking(c) for c in node.comparators]
        else:
            node.left = self._asking(node.left)
        if any(_is_ask(operand) for operand in (node.left, *node.comparators)):
            return _call("__settled__", node)  # an operation that did not look at the mark leaves none for the next
        node.left = self._settled(node.left)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        node.left, node.right = self._asking(node.left), self._asking(node.right)
        if not (_is_ask(node.left) or _is_ask(node.right)):
            node.left = self._settled(node.left)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name) and self.made_by.get(node.target.id) in self.classes:
            asked = self._asking(ast.Name(node.target.id, ast.Load()))
            settled = ast.Expr(_call("__settled__", ast.Constant(None)))
            return [ast.copy_location(ast.Expr(asked), node), node, ast.copy_location(settled, node)]
        return node

    def _settled(self, node: ast.expr) -> ast.expr:
        """An operand whose answer does not count, whatever was marked before."""
        return _call("__settled__", node) if self.classes else node

    def _asking(self, node: ast.expr) -> ast.expr:
        """An operand that the tests have made by calling a class under test, marked as such."""
        operand = node.left if isinstance(node, ast.BinOp) and _last(getattr(node.left, "func", node)) else node
        if isinstance(node, ast.BinOp) and not _is_ask(operand):
            return node
        maker = maker_of(operand, self.names, self.made_by)
        return _call("__ask__", node, ast.Name(maker, ast.Load())) if maker in self.classes else node


def _expects_errors(node: ast.AST) -> bool:
    """Whether tests expect errors of what they call."""
    if isinstance(node, ast.Call):
        return "raises" in _last(node.func).lower() or _last(node.func) in ("suppress", "gather", "warns")
    return isinstance(node, ast.Try) or type(node).__name__ == "TryStar"


def _only_asserts(node: ast.AST) -> bool:
    """Whether a function of the tests has assertions, and nothing by which an error or a generator leaves it."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    inside = list(ast.walk(node))
    asserts = any(
        isinstance(n, ast.Assert) or isinstance(n, ast.Call) and _last(n.func).startswith("assert") for n in inside
    )
    return asserts and not any(isinstance(n, (ast.Raise, ast.Yield, ast.YieldFrom)) for n in inside)


def _is_ask(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _last(node.func) == "__ask__"


def _last(node: ast.AST) -> str:
    """The last part of a dotted name."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _set(name: str, value: ast.expr, place: ast.AST) -> ast.stmt:
    return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), place)


def _all(marks: list[str], value: bool, place: ast.AST) -> list[ast.stmt]:
    return [_set(mark, ast.Constant(value), place) for mark in marks]


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
