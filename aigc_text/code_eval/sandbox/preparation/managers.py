"""Which context managers of tests are their own, and which may be the program's.

Read by path in a bare interpreter.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from evidence import names_in

#: Managers of libraries that swallow nothing, or what the tests name, whatever of the program is given to them.
_KNOWN = frozenset(
    """closing aclosing nullcontext suppress raises warns deprecated_call assertRaises assertRaisesRegex assertWarns
    assertWarnsRegex assertLogs assertNoLogs subTest redirect_stdout redirect_stderr patch object dict multiple
    catch_warnings ThreadPoolExecutor TaskGroup timeout timeout_at open""".split()  # noqa: SIM905
)
_OF_TEST_CASES = frozenset(name for name in _KNOWN if name.startswith(("assert", "subTest")))
_ENTER = ("enter_context", "enter_async_context", "push", "push_async_exit")


class Managers:
    """What the tree of tests shows.

    Args:
        tree: the tests.
        names: what they take from the program.
        made_by: see `evidence`.
    """

    def __init__(self, tree: ast.Module, names: set[str], made_by: dict[str, str]) -> None:
        self.programs = names | {variable for variable, maker in made_by.items() if maker}
        self.variables = set(made_by)
        self.functions, self.raisers = set(), set()
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if not any("contextmanager" in _words(d) for d in node.decorator_list):
                    self.functions.add(node.name)
                if self._only_raises(node):
                    self.raisers.add(node.name)
        entered = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _is_method(n, _ENTER)]
        self.own_stacks = all(self.is_tests(a, stacks=False) for n in entered for a in n.args)
        for node in ast.walk(tree):
            if isinstance(node, ast.withitem) and node.optional_vars and not self.is_tests(node.context_expr):
                self.programs |= names_in(node.optional_vars)
        for _ in range(3):  # what is assigned from what the program has made, and so on
            for targets, value in _flows(tree):
                if self.is_programs(value):
                    self.programs |= targets
        arguments = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        self.tainted = self.programs | arguments | self.functions - self.raisers
        for _ in range(3):  # what a call may have changed as well
            for targets, value in _flows(tree, calls=True):
                if names_in(value) & self.tainted:
                    self.tainted |= targets - set(dir(builtins))

    def is_programs(self, node: ast.AST) -> bool:
        """Whether an expression mentions what the program has made."""
        return bool(names_in(node) & self.programs)

    def may_be_programs(self, node: ast.AST) -> bool:
        """Whether an expression mentions what the program may have changed."""
        return bool(names_in(node) & self.tainted)

    def is_tests(self, manager: ast.expr, stacks: bool = True) -> bool:
        """Whether a manager is evidently the tests' own: made by a class or function of theirs or of a library.

        Args:
            manager: the expression after `with`.
            stacks: whether an ExitStack may be.
        """
        call = manager.value if isinstance(manager, ast.Await) else manager
        if not isinstance(call, ast.Call):
            return False
        last = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        if last.endswith("ExitStack"):
            return stacks and self.own_stacks
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == "self" and last in _OF_TEST_CASES:
            return True  # whatever `setUp` puts into the test case
        root: ast.AST = call.func
        while isinstance(root, (ast.Attribute, ast.Call)):
            root = root.value if isinstance(root, ast.Attribute) else root.func
        if not isinstance(root, ast.Name) or root.id in self.programs or root.id in self.functions:
            return False
        if root.id in self.variables:
            return root.id == "self" and last in _KNOWN
        return last in _KNOWN or not self.is_programs(call)

    def fails_by_itself(self, statement: ast.stmt) -> bool:
        """Whether a statement has nothing to do with the program, so that an error in it is the tests' own."""
        loaded = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        return not loaded & self.tainted and not isinstance(getattr(statement, "value", None), ast.Constant)

    def _only_raises(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        inside = list(ast.walk(node))
        raises = any(isinstance(n, ast.Raise) for n in inside)
        return raises and not any(isinstance(n, ast.Assert) for n in inside) and not self.is_programs(node)


def _flows(tree: ast.AST, calls: bool = False) -> Iterator[tuple[set[str], ast.AST]]:
    """The names that something sets, with what it sets them to; with `calls`, those that a call may change, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield {name for target in node.targets for name in names_in(target)}, node.value
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            yield names_in(node.target), node.value
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            yield names_in(node.target), node.iter
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield names_in(node.optional_vars), node.context_expr
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield {node.name}, ast.Module(node.body, [])
        elif isinstance(node, ast.ClassDef) and node.bases:
            yield {node.name}, ast.Tuple(node.bases, ast.Load())
        elif calls and isinstance(node, ast.Call):
            yield names_in(node), node


def _words(node: ast.AST) -> set[str]:
    """The names in a decorator."""
    found = names_in(node) | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return {word.removeprefix("async") for word in found}


def _is_method(node: ast.Call, names: tuple[str, ...]) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in names
