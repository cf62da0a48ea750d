"""Names in a syntax tree, and those that lead out of a program. Read by path in a bare interpreter."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

#: Attributes that lead to frames, code, loops and classes, or that read or change things by computed names.
LEADS_OUT = re.compile(
    r"(gi|cr|ag|tb|f|co|func|im)_\w+|mro|get_stack|print_stack|get_loop|get_coro|get_context|with_traceback|format|"
    r"format_map|register|registry|dispatch|obj|set_name|__\w*__|"
    r"_(?!_|(value|name|missing|generate_next_value)_$)\w*[^_]_"  # of enumerations
)
_TYPE = re.compile(r"[\w\s.,|\[\]'\"-]*")


def only_names(text: str) -> bool:
    """Whether a type that is written as text does nothing but to name and to subscript."""
    return bool(_TYPE.fullmatch(text)) and not any(map(LEADS_OUT.fullmatch, re.findall(r"\w+", text)))


def names_of(node: ast.ClassDef) -> Iterator[str]:
    """The names that the body of a class binds, its nested statements included."""
    for statement in ast.walk(node):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and statement is not node:
            yield statement.name
        elif isinstance(statement, ast.Name) and not isinstance(statement.ctx, ast.Load):
            yield statement.id


def fields_of(node: ast.ClassDef) -> Iterator[str]:
    """The names of variables that the body of a class itself binds."""
    inside: list[ast.AST] = list(node.body)
    while inside:
        statement = inside.pop()
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(statement, ast.Name) and not isinstance(statement.ctx, ast.Load):
            yield statement.id
        inside += ast.iter_child_nodes(statement)


def names_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "type"


def alternatives(node: ast.expr) -> list[ast.expr]:
    """The classes that the second argument of `isinstance` lists."""
    if isinstance(node, ast.Tuple):
        return [n for element in node.elts for n in alternatives(element)]
    return [node]
