"""What tests show of the names under test: which objects they make, and which names they use as classes.

Read by path in a bare interpreter.
"""

from __future__ import annotations

import ast
import re
import types
from collections import Counter, deque
from collections.abc import Iterator
from enum import Enum

_BUILT_IN = (
    int, float, complex, str, bytes, bytearray, memoryview, list, tuple, dict, set, frozenset, range, slice, Counter,
    deque, types.FunctionType, types.MethodType,
)  # fmt: skip
_LESS_COMMON = (
    property, re.Pattern, re.Match, Enum, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
    BaseException, OSError, StopIteration, SystemExit, ImportError, UnicodeError,
)  # fmt: skip
#: Of dates, numbers, paths, addresses, files, elements and others, whose modules take long to import.
_OF_FURTHER_DATA = """
    KEYWORD_ONLY POSITIONAL_ONLY POSITIONAL_OR_KEYWORD VAR_KEYWORD VAR_POSITIONAL absolute add_done_callback
    address_exclude adjusted anchor annotation as_posix as_tuple as_uri astimezone attrib bind bind_partial
    braceidpattern broadcast_address buffer buffer_info bytes bytes_le byteswap cancel cancelled canonical chmod
    clear_cache clock_seq clock_seq_hi_variant clock_seq_low closed combine compare compare_networks compare_signal
    compare_total compare_total_mag compressed copy_abs copy_negate copy_sign ctime cwd date day days default
    default_factory delimiter detach done drive dst empty encoding errors exception exists exp expanduser exploded
    fields fileno findtext flush fma fold fragment from_callable from_decimal from_file from_float from_uri
    frombytes fromfile fromisocalendar fromisoformat fromlist fromordinal fromtimestamp fromunicode fromutc
    full_match func get_identifiers get_loop getbuffer getroot geturl getvalue glob hardlink_to hash home hostmask
    hostname hosts hour idpattern init int ip ipv4_mapped ipv6_mapped is_absolute is_block_device is_canonical
    is_char_device is_dir is_fifo is_file is_finite is_global is_infinite is_junction is_link_local is_loopback
    is_mount is_multicast is_nan is_normal is_private is_qnan is_relative_to is_reserved is_safe is_signed
    is_site_local is_snan is_socket is_subnormal is_symlink is_unspecified is_valid is_zero isatty isocalendar
    isoformat isoweekday iter iterdir iterfind itertext joinpath key keywords kind kw_only lchmod limit_denominator
    line_buffering link_to ln log10 logb logical_and logical_invert logical_or logical_xor lstat makeelement max
    max_mag max_prefixlen metadata microsecond microseconds min min_mag minute mkdir month move_to_end n_fields
    n_sequence_fields n_unnamed_fields netloc new_child newlines next_minus next_plus next_toward no_cache node
    normalize now num_addresses number_class open overlaps owner packed parameters params parent parents parse
    parser parts password port prefixlen quantize query radix read read1 read_bytes read_text readable readinto
    readinto1 readline readlines readlink reconfigure relative_to remainder_near remove_done_callback rename repr
    resolution resolve result return_annotation reverse_pointer rglob rmdir root running safe_substitute
    same_quantum samefile scaleb scheme scope_id second seconds seek seekable set set_exception set_result
    set_running_or_notify_cancel shift sixtofour sqrt stat stem strftime strptime subnet_of subnets substitute
    suffix suffixes supernet supernet_of symlink_to tag tail tell teredo text time time_hi_version time_low time_mid
    timestamp timetuple timetz tm_gmtoff tm_hour tm_isdst tm_mday tm_min tm_mon tm_sec tm_wday tm_yday tm_year
    tm_zone to_eng_string to_integral to_integral_exact to_integral_value today tofile toordinal total_seconds touch
    tounicode truncate type typecode tzinfo tzname unlink url urn username utc utcfromtimestamp utcnow utcoffset
    utctimetuple variant version walk weekday with_hostmask with_name with_netmask with_prefixlen with_segments
    with_stem with_suffix writable write write_bytes write_c14n write_text write_through writelines year
"""
#: Attributes that data has as well: who asks for one may expect a number, a text or a path.
_OF_BUILT_IN = frozenset(name for kind in _BUILT_IN for name in dir(kind))
_OF_DATA = _OF_BUILT_IN.union(*map(dir, _LESS_COMMON), _OF_FURTHER_DATA.split(), ["name", "value"])
_NEVER_OF_CLASSES = _OF_DATA - {"name", "value"}  # which members of enumerations have, but many a class as well
#: Of names written as PEP 8 wants classes: their tests may ask for attributes that members of enumerations have too.
_CLASS_NAME = re.compile(r"([A-Z]+[a-z0-9]+)+[A-Z]*")
#: Of functions, also of decorated ones.
_OF_FUNCTIONS = frozenset(dir(types.FunctionType)) | frozenset(
    """cache_clear cache_info cache_parameters cache __wrapped__ register dispatch registry calls call_count counter
    calls_count counts history memo log""".split()  # noqa: SIM905
)


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


def made_by(tree: ast.AST, names: set[str], entered: bool = True) -> dict[str, str]:
    """The variables that hold nothing but what a call of one of the names has made, with that name; else "".

    For lists and tuples of such objects there is the variable's name with `[]` at its end. A variable of a `with`
    counts with `entered`: it may hold anything that a context manager gives.
    """
    found: dict[str, str] = {}
    simple: set[int] = set()
    for node in ast.walk(tree):
        for target, maker, elements in _assigned(node, names, found, entered):
            simple.add(id(target))
            for name, made in ((target.id, maker), (target.id + "[]", elements)):
                found[name] = made if found.get(name, made) == made else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            simple.add(id(node.target))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in simple:
            found[node.id] = found[node.id + "[]"] = ""
        elif isinstance(node, ast.arg):
            found[node.arg] = found[node.arg + "[]"] = ""
    return found


def _assigned(
    node: ast.AST, names: set[str], found: dict[str, str], entered: bool
) -> Iterator[tuple[ast.Name, str, str]]:
    """Each variable that a statement sets, with the maker of its value, and that of the value's elements."""
    pairs: list[tuple[ast.expr | None, ast.expr]] = []
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
        pairs.append((target, value))
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts, strict=True))
    elif isinstance(node, ast.withitem) and entered:
        pairs.append((node.optional_vars, node.context_expr))
    for variable, value in pairs:
        if isinstance(variable, ast.Name):
            yield (
                variable,
                "" if isinstance(value, ast.Name) else maker_of(value, names, {}),
                elements_of(value, names, {}),
            )
    if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.target, ast.Name):
        yield node.target, elements_of(node.iter, names, found), ""


def elements_of(node: ast.expr, names: set[str], makers: dict[str, str]) -> str:
    """The name under test whose calls have made each element of a list or tuple."""
    if isinstance(node, ast.Name):
        return makers.get(node.id + "[]", "")
    if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
        return maker_of(node.elt, names, makers)
    if isinstance(node, (ast.List, ast.Tuple)):
        found = {maker_of(element, names, makers) for element in node.elts}
        return found.pop() if len(found) == 1 else ""
    return ""


def classes(tree: ast.Module, names: set[str], given: ast.Module) -> set[str]:
    """The names that the tests themselves treat as classes: no function in their place could pass.

    Where all that tests do with the result of a call is to compare it, a class in place of a function decides nothing.

    Args:
        tree: the tests.
        names: what they take from the program.
        given: what the problem itself defines; its classes' attributes show nothing.
    """
    makers, elsewhere = made_by(tree, names, entered=False), _attributes_of(tree) | _attributes_of(given)
    parameters = {"candidate", *_parameter_of_check(tree)}
    named = _named_as_classes(tree, names, parameters)
    found = {name for node in ast.walk(tree) for name in _shown(node, names, makers, named, elsewhere)} - {""}
    if found & parameters:
        found |= {n.id for call in _calls_of_check(tree) for n in ast.walk(call) if isinstance(n, ast.Name)} & names
    if any(isinstance(a, ast.Name) and a.id in found for call in _calls_of_check(tree) for a in call.args):
        found |= parameters
    return found


def _calls_of_check(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            yield node


def _named_as_classes(tree: ast.AST, names: set[str], parameters: set[str]) -> set[str]:
    """The names under test that are written as those of classes are, and what `check` calls them."""
    found = {name for name in names if _CLASS_NAME.fullmatch(name)}
    checked = {a.id for call in _calls_of_check(tree) for a in call.args if isinstance(a, ast.Name)}
    return found | (parameters if checked and checked <= found else set())


def _attributes_of(tree: ast.AST) -> set[str]:
    """The names of attributes, fields and methods that classes have which a text makes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        inside = list(ast.walk(node)) if isinstance(node, ast.ClassDef) else []
        found |= {n.attr for n in inside if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
        found |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        found |= {n.name for n in inside if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
        if isinstance(node, ast.Call):  # named tuples and namespaces
            found |= {k.arg for k in node.keywords if k.arg and names_in(node.func) & {"SimpleNamespace", "types"}}
            if names_in(node.func) & {"namedtuple", "NamedTuple", "make_dataclass", "collections"}:
                texts = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))
                found |= {word for text in texts for word in text.replace(",", " ").split()}
    return found


def _shown(
    node: ast.AST, names: set[str], makers: dict[str, str], named: set[str], elsewhere: set[str]
) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in names and node.attr not in _OF_FUNCTIONS:
            yield node.value.id
        maker = maker_of(node.value, names, makers)
        of_data = _NEVER_OF_CLASSES if maker in named else _OF_DATA
        if maker and node.attr not in of_data and node.attr not in elsewhere:
            yield maker
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
    if isinstance(node, ast.Subscript):
        return elements_of(node.value, names, makers)
    if isinstance(node, ast.BinOp):
        return maker_of(node.left, names, makers) or maker_of(node.right, names, makers)
    if not isinstance(node, ast.Call):
        return ""
    called: ast.expr = node.func
    if isinstance(called, ast.Name) and called.id == "__called__":
        called = node.args[0]
    elif isinstance(called, ast.Name) and called.id == "__ask__":
        called = node.args[1]
    return called.id if isinstance(called, ast.Name) and called.id in names else ""


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
