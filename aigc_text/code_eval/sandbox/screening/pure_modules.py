"""What a program may import where it shares an interpreter with its tests, name by name.

Read by path in a bare interpreter. A name is here only if nothing reached through it gives access to a frame, a
module, the interpreter or state that the tests depend on: no `decimal.getcontext` (it changes the tests' arithmetic),
no `typing.get_type_hints` (it evaluates strings), no `operator.attrgetter` (it reads attributes by computed names).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

ALL = "*"  # every name in the module's `__all__` that `EXCEPT` does not list

#: Module to the names that a program may take from it.
MODULES: Mapping[str, str] = {
    "__future__": "annotations division print_function absolute_import unicode_literals generators with_statement",
    "abc": "ABC abstractmethod",
    "array": "array",
    "asyncio": """run sleep gather wait_for create_task ensure_future wait as_completed Queue PriorityQueue LifoQueue
        Lock Event Semaphore BoundedSemaphore Condition TimeoutError CancelledError QueueEmpty QueueFull TaskGroup
        iscoroutine iscoroutinefunction shield timeout""",
    "base64": ALL,
    "binascii": "hexlify unhexlify b2a_hex a2b_hex b2a_base64 a2b_base64 crc32",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "calendar": "isleap leapdays monthrange weekday monthcalendar timegm month_name month_abbr day_name day_abbr "
    "Calendar TextCalendar MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY SUNDAY",
    "cmath": """acos acosh asin asinh atan atanh cos cosh e exp inf infj isclose isfinite isinf isnan log log10 nan nanj
        phase pi polar rect sin sinh sqrt tan tanh tau""",
    "collections": "namedtuple deque Counter OrderedDict defaultdict ChainMap UserDict UserList UserString abc",
    "collections.abc": """Awaitable Coroutine AsyncIterable AsyncIterator AsyncGenerator Hashable Iterable Iterator
        Generator Reversible Sized Container Callable Collection Set MutableSet Mapping MutableMapping MappingView
        KeysView ItemsView ValuesView Sequence MutableSequence ByteString""",
    "colorsys": "rgb_to_hls hls_to_rgb rgb_to_hsv hsv_to_rgb rgb_to_yiq yiq_to_rgb",
    "concurrent": "",
    "concurrent.futures": "ThreadPoolExecutor as_completed wait Future TimeoutError CancelledError "
    "FIRST_COMPLETED FIRST_EXCEPTION ALL_COMPLETED",
    "contextlib": """contextmanager asynccontextmanager closing suppress nullcontext ExitStack AsyncExitStack
        redirect_stdout AbstractContextManager ContextDecorator""",
    "copy": "copy deepcopy",
    "csv": "reader writer DictReader DictWriter QUOTE_ALL QUOTE_MINIMAL QUOTE_NONE QUOTE_NONNUMERIC Error",
    "dataclasses": "dataclass field fields asdict astuple replace is_dataclass FrozenInstanceError InitVar KW_ONLY",
    "datetime": "date time datetime timedelta timezone MINYEAR MAXYEAR UTC",
    "decimal": """Decimal ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP
        ROUND_05UP InvalidOperation DivisionByZero Inexact Overflow Underflow Rounded DecimalException""",
    "difflib": "SequenceMatcher get_close_matches ndiff unified_diff context_diff Differ",
    "enum": "Enum IntEnum Flag IntFlag StrEnum auto unique",
    "errno": "E2BIG EACCES EAGAIN EBADF EBUSY ECHILD EDOM EEXIST EFAULT EINTR EINVAL EIO EISDIR ENOENT ENOMEM ENOSPC "
    "ENOTDIR ENOTEMPTY EPERM EPIPE ERANGE EROFS ETIMEDOUT ECONNREFUSED",
    "fractions": "Fraction",
    "functools": """reduce partial partialmethod lru_cache cache cached_property wraps total_ordering cmp_to_key
        singledispatch singledispatchmethod""",
    "graphlib": "TopologicalSorter CycleError",
    "hashlib": "md5 sha1 sha224 sha256 sha384 sha512 blake2b blake2s sha3_256 sha3_512 new",
    "heapq": "heappush heappop heapify heapreplace heappushpop nlargest nsmallest merge",
    "hmac": "new compare_digest digest",
    "html": "escape unescape",
    "io": "StringIO BytesIO",
    "ipaddress": "ip_address ip_network ip_interface IPv4Address IPv6Address IPv4Network IPv6Network AddressValueError",
    "itertools": """accumulate batched chain combinations combinations_with_replacement compress count cycle dropwhile
        filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest""",
    "json": "dumps loads JSONDecodeError JSONEncoder JSONDecoder dump load",
    "keyword": "iskeyword issoftkeyword",
    "logging": "getLogger DEBUG INFO WARNING ERROR CRITICAL debug info warning error critical exception log",
    "math": """acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2
        expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp
        lgamma log log10 log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt sumprod tan
        tanh tau trunc ulp fma""",
    "numbers": "Number Complex Real Rational Integral",
    "operator": """abs add and_ concat contains countOf delitem eq floordiv ge getitem gt iadd iand iconcat ifloordiv
        ilshift imatmul imod imul index indexOf inv invert ior ipow irshift is_ is_not isub itemgetter itruediv ixor
        le length_hint lshift lt matmul mod mul ne neg not_ or_ pos pow rshift setitem sub truediv truth xor""",
    "pathlib": "PurePath PurePosixPath PureWindowsPath",
    "pprint": "pformat pprint",
    "queue": "Queue LifoQueue PriorityQueue SimpleQueue Empty Full",
    "random": """random randint randrange choice choices shuffle sample uniform gauss Random triangular
        betavariate expovariate normalvariate getrandbits""",
    "re": ALL,
    "secrets": "token_hex token_bytes token_urlsafe choice randbelow randbits compare_digest",
    "statistics": ALL,
    "string": """ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits printable
        punctuation whitespace Template""",
    "struct": "pack unpack pack_into unpack_from iter_unpack calcsize Struct error",
    "sys": "maxsize float_info byteorder version_info maxunicode int_info hash_info",
    "textwrap": "wrap fill dedent indent shorten TextWrapper",
    "threading": """Thread Lock RLock Event Condition Semaphore BoundedSemaphore Barrier BrokenBarrierError local
        Timer get_ident""",
    "time": """time sleep perf_counter monotonic process_time time_ns perf_counter_ns monotonic_ns strftime gmtime
        localtime mktime strptime ctime asctime""",
    "types": "SimpleNamespace MappingProxyType GeneratorType FunctionType LambdaType NoneType",
    "typing": """Any Callable ClassVar Final Literal Optional Union Tuple List Dict Set FrozenSet Type Iterable Iterator
        Generator Sequence Mapping MutableMapping MutableSequence MutableSet Deque DefaultDict OrderedDict Counter
        ChainMap Hashable Sized Container Collection Reversible Awaitable Coroutine AsyncIterable AsyncIterator
        AsyncGenerator ContextManager Pattern Match NamedTuple TypedDict Protocol Generic TypeVar ParamSpec
        Concatenate Self TypeAlias NewType Annotated NoReturn Never Text IO TextIO BinaryIO AnyStr SupportsInt
        SupportsFloat SupportsIndex SupportsAbs cast overload final runtime_checkable AbstractSet ByteString
        KeysView ItemsView ValuesView MappingView Required NotRequired Unpack LiteralString TypeGuard override
        TYPE_CHECKING""",
    "unicodedata": "category name normalize lookup numeric digit decimal combining bidirectional east_asian_width",
    "urllib": "",
    "urllib.parse": "urlparse urlsplit urljoin urlencode parse_qs parse_qsl quote quote_plus unquote unquote_plus "
    "urlunparse urlunsplit",
    "uuid": "UUID uuid1 uuid3 uuid4 uuid5 NAMESPACE_DNS NAMESPACE_URL",
    "warnings": "warn",
    "weakref": "ref WeakValueDictionary WeakKeyDictionary WeakSet",
    "zlib": "compress decompress crc32 adler32",
    "zoneinfo": "ZoneInfo",
}  # fmt: skip
EXCEPT = {"re": {"template", "Scanner"}, "base64": {"main", "test"}}

#: May only decorate a class or a function of the program: called on anything else, they change it, and that might be a
#: class of the library that the tests use.
DECORATORS = frozenset(["dataclass", "total_ordering", "runtime_checkable", "final", "unique", "wraps", "override"])
REDIRECTS = frozenset(["redirect_stdout"])  # may only stand in a `with` statement
ENUMS = frozenset(["Enum", "IntEnum", "Flag", "IntFlag", "StrEnum"])
#: May only be bases of classes, or be asked for with `isinstance`: called, they build classes from computed names.
BASES = ENUMS | {"NamedTuple", "TypedDict", "Protocol", "Generic", "ABC", "FunctionType", "LambdaType"}

#: Built-in functions that a program may name anywhere.
BUILTINS = frozenset(
    """abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate filter float
    format frozenset hash hex id int iter len list map max memoryview min next object oct ord pow print property
    range repr reversed round set slice sorted staticmethod str sum tuple zip NotImplemented Ellipsis aiter
    anext""".split()  # noqa: SIM905
)
#: Those that a program may only call, in the forms that `screen` allows.
CALLED = frozenset(["type", "getattr", "hasattr", "super", "isinstance", "issubclass"])


def public(module: str, loaded: ModuleType) -> tuple[str, ...]:
    """The names that a program may take from a module of the table.

    Args:
        module: its full name.
        loaded: the module itself.
    """
    listed = MODULES[module]
    if listed != ALL:
        return tuple(n for n in listed.split() if hasattr(loaded, n))
    return tuple(n for n in loaded.__all__ if n not in EXCEPT.get(module, ()))


#: The attributes of objects that a program gets from a module without naming their class.
METHODS_OF: Mapping[str, str] = {
    "collections": "data maps",
    "logging": "debug info warning error critical exception log setLevel isEnabledFor getChild",
}
#: Attributes of the library's objects that lead to streams, functions and tables of others.
KEPT = frozenset(
    """stream handlers formatter buffer raw detach fileno gen func args keywords manager root parent
    function kwargs target""".split()  # noqa: SIM905
)
