"""Decides whether a program may share an interpreter with its tests, and prepares it for that.

Read by path in a bare interpreter. A program may if nothing in its syntax tree can reach the tests, the judge or what
they rely on. What is allowed is listed, everything else is not: kinds of names, modules name by name (`pure_modules`),
attributes that the program itself or a listed type defines. Attributes are only ever set on what the program made; the
tree is rewritten so that this is checked while it runs (`own_classes`).
"""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import string
from collections.abc import Iterable, Iterator

from link import OPERATIONS
from pure_modules import BASES, BUILTINS, CALLED, DECORATORS, ENUMS, MODULES, public


class Apart(Exception):
    """The program may not share an interpreter with its tests; says why."""


#: Attributes that lead to frames, code, loops and classes, or that read or change things by computed names.
LEADS_OUT = re.compile(
    r"(gi|cr|ag|tb|f|co|func|im)_\w+|mro|get_stack|print_stack|get_loop|get_coro|get_context|with_traceback|format|"
    r"format_map|register|registry|dispatch|obj|set_name|__\w*__"
)
READ = frozenset(
    ["__name__", "__doc__", "__qualname__", "__cause__", "__context__", "__suppress_context__", "__class__"]
)
NAMED_TUPLE = frozenset(["_replace", "_asdict", "_fields", "_make", "_field_defaults"])

COMPARISONS = frozenset(["__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"])
ARITHMETIC = frozenset(OPERATIONS)
#: What gives a value of another type for an object.
CONVERSIONS = frozenset(
    """__abs__ __neg__ __pos__ __invert__ __round__ __trunc__ __floor__ __ceil__ __int__ __float__ __complex__
    __index__ __bool__ __len__ __str__ __repr__ __format__""".split()  # noqa: SIM905
)
#: The special methods that a class of the program may define.
METHODS = (
    COMPARISONS | ARITHMETIC | CONVERSIONS | frozenset(
        """__init__ __new__ __post_init__ __call__ __iter__ __next__ __reversed__ __getitem__ __setitem__ __delitem__
    __missing__ __contains__ __enter__ __exit__ __aenter__ __aexit__ __aiter__ __anext__ __hash__ __slots__
    __init_subclass__ __class_getitem__ __get__ __set__ __delete__ __set_name__ __getattr__ __copy__ __deepcopy__
    __bytes__ __length_hint__""".split()  # noqa: SIM905
    )
)  # fmt: skip

_TYPES: tuple[type, ...] = (
    str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, range, slice, memoryview, property,
    type({}.keys()), type({}.items()), type({}.values()), type(_ for _ in [0]), BaseException, OSError, StopIteration,
    UnicodeError, ImportError, KeyError,
)  # fmt: skip
_FURTHER = frozenset(
    """cache_info cache_clear send throw close asend athrow aclose hits misses maxsize currsize update digest hexdigest
    name digest_size block_size setter getter deleter tm_year tm_mon tm_mday tm_hour tm_min tm_sec tm_wday tm_yday n
    sequences line_num writerow writerows writeheader fieldnames args errno strerror filename value msg lineno pos
    doc colno start end reason major minor micro exceptions encoding""".split()  # noqa: SIM905
)


def screen(text: str) -> ast.Module:
    """The tree of a program that may share an interpreter with its tests, with its stores of attributes guarded.

    Args:
        text: the program.

    Raises:
        Apart: it may not; with the reason.
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python.
    """
    tree = ast.parse(text)
    found = _Program(tree)
    for node in ast.walk(tree):
        found.check(node)
    return ast.fix_missing_locations(_Guarded().visit(tree))


def exceptions() -> Iterator[str]:
    """The names of the built-in exceptions."""
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            yield name


class _Program:
    """What a program imports and defines, and whether each of its nodes is allowed."""

    def __init__(self, tree: ast.Module) -> None:
        self.modules: dict[str, str] = {}  # what a name stands for: a module of the table
        self.imported: dict[str, tuple[str, str]] = {}  # (module, name) of what is imported from one
        self.stored: set[str] = set()
        self.attributes: set[str] = set()  # that the program defines
        self.known: set[str] = {n for t in _TYPES for n in dir(t)} | _FURTHER | NAMED_TUPLE
        self.allowed: dict[int, None] = {}  # ids of nodes whose place makes them allowed
        for node in ast.walk(tree):
            self._collect(node)
        self.builtins = BUILTINS | set(exceptions())
        for name in CALLED | {"__name__"}:
            self._require(name not in self.stored, f"it gives {name} another meaning")
        for node in ast.walk(tree):
            self._place(node)

    def _require(self, condition: object, reason: str) -> None:
        if not condition:
            raise Apart(reason)

    # First pass: names

    def _collect(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._import(alias)
        elif isinstance(node, ast.ImportFrom):
            self._import_from(node)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self.stored.add(node.id)
        elif isinstance(node, ast.arg):
            self.stored.add(node.arg)
        elif isinstance(node, ast.keyword) and node.arg:
            self.attributes.add(node.arg)  # as of a SimpleNamespace
        elif (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            or isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar))
            and node.name
        ):
            self.stored.add(str(node.name))
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self.stored.add(node.rest)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            self.attributes.add(node.attr)
        if isinstance(node, ast.ClassDef):
            self.attributes |= set(_names_of(node))
        if isinstance(node, ast.Call):
            self._fields(node)

    def _import(self, alias: ast.alias) -> None:
        self._require(alias.name in MODULES, f"it imports {alias.name}")
        first = alias.name.partition(".")[0]
        self._bind_module(alias.asname or first, alias.name if alias.asname else first)
        self._learn(alias.name)

    def _bind_module(self, name: str, module: str) -> None:
        self._require(name not in self.imported and self.modules.get(name, module) == module, f"it replaces {name}")
        self.modules[name] = module

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        self._require(not node.level and module in MODULES, f"it imports from {module or 'a package'}")
        names = self._learn(module)
        if [alias.name for alias in node.names] == ["*"]:
            node.names = [ast.alias(name) for name in names if f"{module}.{name}" not in MODULES]
        for alias in node.names:
            bound = alias.asname or alias.name
            if f"{module}.{alias.name}" in MODULES:
                self._bind_module(bound, f"{module}.{alias.name}")
                self._learn(self.modules[bound])
                continue
            self._require(alias.name in names, f"it imports {module}.{alias.name}")
            origin = (module, alias.name)
            self._require(bound not in self.modules, f"it replaces {bound}")
            self._require(self.imported.setdefault(bound, origin) == origin, f"it replaces {bound}")

    def _learn(self, module: str) -> tuple[str, ...]:
        """The names that may be taken from a module; the attributes of their types become known."""
        loaded = importlib.import_module(module)
        names = public(module, loaded)
        for name in names:
            value = getattr(loaded, name)
            if isinstance(value, type):
                self.known.update(dir(value))
        return names

    def _fields(self, node: ast.Call) -> None:
        """The names in `namedtuple("P", "x y")` and in lists of them."""
        for value in ast.walk(node):
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and len(value.value) < 1000:
                self.attributes.update(w for w in value.value.replace(",", " ").split() if w.isidentifier())

    # Second pass: nodes that only their places allow

    def _place(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self._place_call(node)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            self._place_decorators(node)
        if isinstance(node, ast.ClassDef):
            named = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
            self._allow(n for n in named if self._origin(n)[1] in BASES)
            self._check_enum(node)
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            self._allow(n for n in ast.walk(annotation or ast.Pass()) if _names_type(n))

    def _allow(self, nodes: Iterable[ast.AST]) -> None:
        self.allowed.update((id(n), None) for n in nodes)

    def _place_call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in CALLED:
            return
        plain = not node.keywords and not any(isinstance(a, ast.Starred) for a in node.args)
        if name == "type":
            self._require(plain and len(node.args) == 1, "it makes classes with type")
        if name in ("getattr", "hasattr"):
            named = len(node.args) > 1 and isinstance(node.args[1], ast.Constant) and node.args[1].value
            self._require(plain and isinstance(named, str) and self._may_read(named), f"it computes {name}")
            self._require(named != "__class__", f"it computes {name}")
        if name in ("isinstance", "issubclass") and plain and len(node.args) == 2:
            self._allow(n for n in _alternatives(node.args[1]) if self._origin(n)[1] in BASES or _names_type(n))
        self._allow([node.func])

    def _place_decorators(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Decorators that change what they are given stand next to what the program defines, or to another such one."""
        for decorator in reversed(node.decorator_list):
            called = decorator if isinstance(decorator, ast.Call) else None
            named = called.func if called else decorator
            name = self._origin(named)[1]
            if name not in DECORATORS:
                return
            given = [type(a).__name__ for a in called.args] if called else []
            options = [k.arg for k in called.keywords] if called else []
            plain = {
                "wraps": called and len(given) == 1 and not options,
                "dataclass": not given and None not in options,
            }
            self._require(plain.get(name, not called) and "Starred" not in given, f"it calls {name}")
            self._allow([named])

    def _origin(self, node: ast.AST) -> tuple[str, str]:
        """(module, name) of an expression that names something imported, or ("", "")."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, ("", ""))
        if isinstance(node, ast.Attribute) and (module := self._module(node.value)):
            return module, node.attr
        return "", ""

    def _module(self, node: ast.AST) -> str:
        """The full name of the module that an expression names, or nothing."""
        if isinstance(node, ast.Name):
            return self.modules.get(node.id, "")
        if isinstance(node, ast.Attribute) and (parent := self._module(node.value)):
            return f"{parent}.{node.attr}" if f"{parent}.{node.attr}" in MODULES else ""
        return ""

    def _check_enum(self, node: ast.ClassDef) -> None:
        """A class of an enumeration that has members cannot be called to make another class."""
        if not any(self._origin(base)[1] in ENUMS for base in node.bases):
            return
        members = [s for s in node.body if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)]
        plain = [
            s
            for s in members
            if not s.targets[0].id.startswith("_") and self._is_member(s.value)  # type: ignore[attr-defined]
        ]
        self._require(plain, "it derives an enumeration without members")

    def _is_member(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Tuple):
            return all(isinstance(v, ast.Constant) for v in value.elts)
        if isinstance(value, ast.Call):
            return self._origin(value.func) == ("enum", "auto") and "auto" not in self.stored
        return isinstance(value, ast.Constant)

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
        self._require(original not in DECORATORS | BASES, f"it calls {original}")
        known = name in self.stored or name in self.imported or name in self.builtins or name == "__name__"
        self._require(known or name in METHODS, f"it uses {name}")

    def _check_Attribute(self, node: ast.Attribute) -> None:
        if module := self._module(node.value):
            self.allowed[id(node.value)] = None
            name = f"{module}.{node.attr}"
            if name in MODULES:
                self._require(id(node) in self.allowed, f"it hands the module {name} around")
                return
            self._require(isinstance(node.ctx, ast.Load), f"it changes the module {module}")
            self._require(node.attr in public(module, importlib.import_module(module)), f"it uses {name}")
            special = node.attr in DECORATORS | BASES and id(node) not in self.allowed
            self._require(not special, f"it calls {name}")
            return
        if _is_super(node.value):
            self._require(node.attr in METHODS or self._may_read(node.attr), f"it uses {node.attr}")
        elif node.attr == "format" and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            self._require(_plain_format(node.value.value), "it formats with attributes")
        else:
            self._require(self._may_read(node.attr), f"it uses the attribute {node.attr}")
            self._require(isinstance(node.ctx, ast.Load) or not node.attr.endswith("__"), f"it sets {node.attr}")

    def _may_read(self, name: str) -> bool:
        if name in READ:
            return True
        if LEADS_OUT.fullmatch(name):
            return False
        return name in self.attributes or (name in self.known and (name in NAMED_TUPLE or not name.startswith("_")))

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
        self._allow(ast.walk(node.cls))
        for name in node.kwd_attrs:
            self._require(self._may_read(name) and not name.startswith("__"), f"it matches {name}")

    def _check_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self._bind(name)

    _check_Nonlocal = _check_Global

    def _check_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        self._require(node.name not in self.modules, f"it replaces {node.name}")
        for name in _names_of(node):
            special = name.startswith("__") and name.endswith("__")
            self._require(not special or name in METHODS, f"it defines {name}")

    def _check_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._require(not node.name.startswith("__") or node.name in METHODS or not node.name.endswith("__"), node.name)
        self._require(node.name not in self.modules, f"it replaces {node.name}")

    _check_AsyncFunctionDef = _check_FunctionDef


def _names_of(node: ast.ClassDef) -> Iterator[str]:
    """The names that the body of a class binds, its nested statements included."""
    for statement in ast.walk(node):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and statement is not node:
            yield statement.name
        elif isinstance(statement, ast.Name) and not isinstance(statement.ctx, ast.Load):
            yield statement.id


def _names_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "type"


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """The classes that the second argument of `isinstance` lists."""
    if isinstance(node, ast.Tuple):
        return [n for element in node.elts for n in _alternatives(element)]
    if isinstance(node, ast.BinOp):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


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
    """Checks while the program runs what the tree does not show: whose attribute is set, whose type is asked for."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            node.value = _call("__own__", node.value)
        elif node.attr == "__class__":
            return _call("__type__", node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "type":
            node.func.id = "__type__"
        elif isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass") and len(node.args) == 2:
            for alternative in filter(_names_type, _alternatives(node.args[1])):
                alternative.id = "__metatype__"  # type: ignore[attr-defined]
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name("object", ast.Load()) if node.id == "type" else node  # in an annotation


def _call(name: str, argument: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), [argument], [])
