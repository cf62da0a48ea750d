"""Decides whether a program may share an interpreter with its tests, and prepares it for that.

Read by path in a bare interpreter. A program may if nothing in its syntax tree can reach the tests, the judge or what
they rely on. What is allowed is listed, everything else is not: kinds of names, modules name by name (`pure_modules`),
attributes that the program itself or a listed type defines. Attributes are only ever set on what the program made, and
names that only the program defines are only read from what it may know; the tree is rewritten so that this is checked
while it runs (`own_classes`, `reach`).
"""

from __future__ import annotations

import ast
import importlib
import string

from code_names import LEADS_OUT, alternatives, fields_of, names_of, names_type  # fmt: skip
from program_names import METHODS, Apart, Program
from pure_modules import BASES, DECORATORS, MODULES, REDIRECTS, public

__all__ = ["LEADS_OUT", "Apart", "screen"]
_PLACED = DECORATORS | BASES | REDIRECTS  # allowed only where `Program` has found them


def screen(text: str) -> ast.Module:
    """The tree of a program that may share an interpreter with its tests, with its stores of attributes guarded.

    Args:
        text: the program.

    Raises:
        Apart: it may not; with the reason.
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python.
    """
    tree = ast.parse(text)
    found = _Checked(tree)
    for node in ast.walk(tree):
        found.check(node)
    return ast.fix_missing_locations(_Guarded(found).visit(tree))


class _Checked(Program):
    """A program, and whether each of its nodes is allowed."""

    # Third pass: each node

    def check(self, node: ast.AST) -> None:
        """Raises `Apart` for a node that is not allowed."""
        check = getattr(self, f"_check_{type(node).__name__}", None)
        if check is not None:
            check(node)

    def _check_Name(self, node: ast.Name) -> None:
        name = node.id
        self._require(not name.startswith("__") or name in METHODS | {"__name__"}, f"it uses {name}")
        self._require(name not in self.modules or not isinstance(node.ctx, ast.Store), f"it replaces {name}")
        if not isinstance(node.ctx, ast.Load) or id(node) in self.allowed:
            return
        self._require(name not in self.modules, f"it hands the module {name} around")
        _, original = self.imported.get(name, ("", ""))
        self._require(original not in _PLACED, f"it calls {original}")
        known = name in self.stored or name in self.imported or name in self.builtins or name == "__name__"
        self._require(known or name in METHODS, f"it uses {name}")

    def _check_Attribute(self, node: ast.Attribute) -> None:
        if module := self.names_module(node.value):
            self.allowed[id(node.value)] = None
            name = f"{module}.{node.attr}"
            if name in MODULES:
                self._require(id(node) in self.allowed, f"it hands the module {name} around")
                return
            self._require(isinstance(node.ctx, ast.Load), f"it changes the module {module}")
            self._require(node.attr in public(module, importlib.import_module(module)), f"it uses {name}")
            special = node.attr in _PLACED and id(node) not in self.allowed
            self._require(not special, f"it calls {name}")
            return
        if _is_super(node.value):
            self._require(node.attr in METHODS or self.may_read(node.attr), f"it uses {node.attr}")
        elif node.attr == "format" and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            self._require(_plain_format(node.value.value), "it formats with attributes")
        else:
            self._require(self.may_read(node.attr), f"it uses the attribute {node.attr}")
            self._require(isinstance(node.ctx, ast.Load) or not node.attr.endswith("__"), f"it sets {node.attr}")

    def _check_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name)

    def _check_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name)

    def _bind(self, name: str) -> None:
        self._require(not name.startswith("__"), f"it defines {name}")

    def _check_arg(self, node: ast.arg) -> None:
        self._bind(node.arg)
        self._require(node.arg not in self.modules, f"it replaces {node.arg}")

    def _check_keyword(self, node: ast.keyword) -> None:
        if node.arg:
            self._bind(node.arg)
            self._require(node.arg != "metaclass", "it has a metaclass of its own")

    def _check_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bind(node.name or "")

    _check_MatchAs = _check_MatchStar = _check_ExceptHandler

    def _check_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._bind(node.rest or "")

    def _check_MatchClass(self, node: ast.MatchClass) -> None:
        """Attributes are read by the pattern itself, so its class has to say that they are the program's."""
        self._require(not any(map(names_type, ast.walk(node.cls))), "it matches type")
        self._allow(ast.walk(node.cls))
        name = node.cls.id if isinstance(node.cls, ast.Name) else ""
        own = self.is_class(name)
        builtin = name in self.builtins and name not in self.stored and name not in self.imported
        self._require(own or builtin or not node.patterns, f"it matches the content of {name}")
        for attribute in node.kwd_attrs:
            known = self.may_read(attribute) and (own or not self.is_guarded(attribute))
            self._require(known and not attribute.startswith("_"), f"it matches {attribute}")

    def _check_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self._bind(name)

    _check_Nonlocal = _check_Global

    def _check_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        self._require(node.name not in self.modules, f"it replaces {node.name}")
        self._require(all(k.arg for k in node.keywords), "it computes the keywords of a class")
        for name in fields_of(node):
            self._require(not LEADS_OUT.fullmatch(name) or name in METHODS, f"it defines {name}")
        for name in names_of(node):
            special = name.startswith("__") and name.endswith("__")
            self._require(not special or name in METHODS, f"it defines {name}")

    def _check_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._require(not node.name.startswith("__") or node.name in METHODS or not node.name.endswith("__"), node.name)
        self._require(node.name not in self.modules, f"it replaces {node.name}")

    _check_AsyncFunctionDef = _check_FunctionDef

    def _check_TypeVar(self, node: ast.AST) -> None:
        self._bind(node.name)  # type: ignore[attr-defined]

    _check_ParamSpec = _check_TypeVarTuple = _check_TypeVar


def _is_super(node: ast.AST) -> bool:
    return _calls(node) == "super"


def _plain_format(text: str) -> bool:
    """Whether a format string reads no attributes and no items of its arguments."""
    try:
        fields = list(string.Formatter().parse(text))
    except ValueError:
        return False
    return all(
        not field or not set(".[") & set(field) and _plain_format(spec or "") for _, field, spec, _ in fields
    )  # fmt: skip


class _Guarded(ast.NodeTransformer):
    """Checks while the program runs what the tree does not show: whose attribute is read or set, whose type it asks."""

    def __init__(self, program: Program) -> None:
        self.program, self.within = program, ""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        before, self.within = self.within, node.name.lstrip("_")
        self.generic_visit(node)
        self.within = before
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        plain = not self.program.names_module(node.value) and not (_is_super(node.value) and node.attr in METHODS)
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            node.value = self._with_name("__own__", node.value, node.attr)
        elif node.attr == "__class__":
            return _call("__type__", node.value)
        elif node.attr == "__name__" and _calls(node.value) == "__type__":
            return _call("__type_name__", node.value.args[0])  # type: ignore[attr-defined]
        elif plain and self.program.is_guarded(node.attr):
            node.value = self._with_name("__read__", node.value, node.attr)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = _calls(node)
        if name == "type":
            node.func.id = "__type__"  # type: ignore[attr-defined]
        elif name in ("isinstance", "issubclass") and len(node.args) == 2:
            for alternative in filter(names_type, alternatives(node.args[1])):
                alternative.id = "__metatype__"
        self.generic_visit(node)
        if name in ("getattr", "hasattr") and self.program.is_guarded(node.args[1].value):  # type: ignore[attr-defined]
            node.args[0] = _call("__read__", node.args[0], node.args[1])
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name("object", ast.Load()) if node.id == "type" else node  # in an annotation

    def _with_name(self, function: str, value: ast.expr, name: str) -> ast.expr:
        """The call of a check with an object and the name of the attribute, as the class that it stands in has it.

        An object in a variable is not checked if its class has nothing to hide: innermost loops set attributes.
        """
        private = self.within and name.startswith("__") and not name.endswith("__")
        checked = _call(function, value, ast.Constant(f"_{self.within}{name}" if private else name))
        if not isinstance(value, ast.Name):
            return checked
        is_plain = ast.Compare(_call("__kind__", value), [ast.In()], [ast.Name("__plain__", ast.Load())])
        return ast.IfExp(is_plain, value, checked)


def _calls(node: ast.AST) -> str:
    """The name that an expression calls, or nothing."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
