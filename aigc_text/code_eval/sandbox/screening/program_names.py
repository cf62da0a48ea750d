"""What a program imports and defines, read from its syntax tree; and the names that it may use at all.

Read by path in a bare interpreter.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from collections import Counter
from collections.abc import Iterable, Iterator

from code_names import LEADS_OUT, alternatives, names_of, names_type, only_names
from pure_modules import BASES, BUILTINS, CALLED, DECORATORS, ENUMS, KEPT, METHODS_OF, MODULES, REDIRECTS, public
from reach import attributes, named_in
from stand_in import OPERATIONS


class Apart(Exception):
    """The program may not share an interpreter with its tests; says why."""


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
    sequences line_num writerow writerows writeheader fieldnames errno strerror filename value msg lineno pos
    doc colno start end reason major minor micro exceptions encoding""".split()  # noqa: SIM905
)


def exceptions() -> Iterator[str]:
    """The names of the built-in exceptions."""
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            yield name


class Program:
    """What a program imports and defines, and whether each of its nodes is allowed."""

    def __init__(self, tree: ast.Module) -> None:
        self.modules: dict[str, str] = {}  # what a name stands for: a module of the table
        self.imported: dict[str, tuple[str, str]] = {}  # (module, name) of what is imported from one
        self.stored: set[str] = set()
        self.attributes: set[str] = set()  # that the program defines
        self.made: dict[str, list[ast.AST]] = {}  # the statements that make a class or a named tuple of a name
        self.known: set[str] = ({n for t in _TYPES for n in dir(t)} | _FURTHER | NAMED_TUPLE) - KEPT
        self.allowed: dict[int, None] = {}  # ids of nodes whose place makes them allowed
        self.bound = Counter(named_in(tree))
        for node in ast.walk(tree):
            self._collect(node)
        self.builtins = BUILTINS | set(exceptions())
        for name in CALLED | {"__name__"}:
            self._require(name not in self.stored, f"it gives {name} another meaning")
        suspending = (ast.Yield, ast.YieldFrom, ast.Await)
        self.suspends = any(isinstance(node, suspending) for node in ast.walk(tree))
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
        elif type(node).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):
            self.stored.add(node.name)  # type: ignore[attr-defined]
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self.stored.add(node.rest)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            self.attributes.add(node.attr)
        if isinstance(node, ast.ClassDef):
            self.attributes |= set(names_of(node))
            self.made.setdefault(node.name, []).append(node)
        if isinstance(node, ast.Call):
            self._fields(node)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            self.made.setdefault(node.targets[0].id, []).append(node)

    def _import(self, alias: ast.alias) -> None:
        self._require(alias.name in MODULES, f"it imports {alias.name}")
        first = alias.name.partition(".")[0]
        self._bind_module(alias.asname or first, alias.name if alias.asname else first)
        self._learn(alias.name)

    def _bind_module(self, name: str, module: str) -> None:
        self._require(name not in BUILTINS | CALLED | set(exceptions()), f"it gives {name} another meaning")
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
            builtin = bound in CALLED or (bound != alias.name and bound in BUILTINS | set(exceptions()))
            self._require(not builtin, f"it gives {bound} another meaning")
            self._require(bound not in self.modules, f"it replaces {bound}")
            self._require(self.imported.setdefault(bound, origin) == origin, f"it replaces {bound}")

    def _learn(self, module: str) -> tuple[str, ...]:
        """The names that may be taken from a module; the attributes of their types become known."""
        loaded = importlib.import_module(module)
        names = public(module, loaded)
        self.known.update(METHODS_OF.get(module, "").split())
        for name in names:
            value = getattr(loaded, name)
            if isinstance(value, type):
                self.known.update(attributes(value))
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
        if isinstance(node, ast.With):
            self._place_redirection(node)
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            self._allow(n for n in ast.walk(annotation or ast.Pass()) if names_type(n))
            self._check_types(annotation)
        if isinstance(node, ast.Subscript) and self._names_types(node.value):
            self._check_types(node.slice)
        if isinstance(node, ast.Call) and self._origin(node.func)[0] == "typing":
            self._check_types(node)

    def _names_types(self, node: ast.AST) -> bool:
        return (
            self._origin(node)[0] in ("typing", "collections.abc")
            or isinstance(node, ast.Name)
            and (node.id in ("list", "dict", "tuple", "set", "frozenset", "type"))
        )

    def _check_types(self, node: ast.AST | None) -> None:
        """Texts in types are expressions that tests may evaluate: there, they may only name and subscript."""
        for text in ast.walk(node or ast.Pass()):
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                self._require(only_names(text.value), "it has a type in text that does more than to name one")

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
            self._require(plain and isinstance(named, str) and self.may_read(named), f"it computes {name}")
            self._require(named != "__class__", f"it computes {name}")
        if name in ("isinstance", "issubclass") and plain and len(node.args) == 2:
            self._allow(n for n in alternatives(node.args[1]) if self._origin(n)[1] in BASES or names_type(n))
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
            if called and name == "wraps":  # else it would copy what an object keeps for itself
                called.keywords.append(ast.keyword("updated", ast.Tuple([], ast.Load())))
            self._allow([named])

    def _place_redirection(self, node: ast.With) -> None:
        """The program's own output may be redirected, but not while anything else runs."""
        called = [item.context_expr.func for item in node.items if isinstance(item.context_expr, ast.Call)]
        if redirects := [f for f in called if self._origin(f)[1] in REDIRECTS]:
            loaded = {module.partition(".")[0] for module, _ in self.imported.values()} | set(self.modules.values())
            alone = not self.suspends and not loaded & {"threading", "asyncio", "concurrent", "concurrent.futures"}
            self._require(alone, "it redirects output while others run")
            self._allow(redirects)

    def is_class(self, name: str) -> bool:
        """Whether a name stands for nothing but classes or named tuples of the program that are no protocols."""
        made = self.made.get(name, [])
        return len(made) == self.bound[name] > 0 and all(self._makes_class(node) for node in made)

    def _makes_class(self, node: ast.AST) -> bool:
        if isinstance(node, ast.ClassDef):
            bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
            return all(self._origin(base)[1] != "Protocol" for base in bases)
        value = node.value if isinstance(node, ast.Assign) else None
        return isinstance(value, ast.Call) and self._origin(value.func) == ("collections", "namedtuple")

    def _origin(self, node: ast.AST) -> tuple[str, str]:
        """(module, name) of an expression that names something imported, or ("", "")."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, ("", ""))
        if isinstance(node, ast.Attribute) and (module := self.names_module(node.value)):
            return module, node.attr
        return "", ""

    def names_module(self, node: ast.AST) -> str:
        """The full name of the module that an expression names, or nothing."""
        if isinstance(node, ast.Name):
            return self.modules.get(node.id, "")
        if isinstance(node, ast.Attribute) and (parent := self.names_module(node.value)):
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

    def may_read(self, name: str) -> bool:
        """Whether an attribute of that name may be read, if need be after a look at the object (`is_guarded`)."""
        if name in READ:
            return True
        if LEADS_OUT.fullmatch(name):
            return False
        return name in self.attributes or not self.is_guarded(name)

    def is_guarded(self, name: str) -> bool:
        """Whether it depends on the object: no class of the library that the program can name defines the name."""
        return name not in READ and (name not in self.known or name.startswith("_") and name not in NAMED_TUPLE)
