"""Mutants of files, each from a seed: bytes flipped, cut, doubled and spliced; and changes that know the format."""

from __future__ import annotations

import copy
import json
import random
import struct
from typing import Any

HUGE = [-1, 0, 1, 2**31, 2**63, 10**9, -(10**9), 10**30, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 0.5]
ODD = ["", "\0", "\ud800", "a" * 5000, "../../etc/passwd", "/dev/zero", "{{ 7*7 }}", "null", "１２", "\u202e", "🙂"]
OTHER = [None, True, False, [], {}, [[]], [None], {"a": 1}, "text", 3, -3.5]
DTYPES = ["F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F4", "C64", "", 3]
TAGS = ["!!python/object/apply:os.system ['true']", "!!int x", "!!binary aa", "!!set {a, b}", "!!float .nan",
        "!!timestamp 2001-99-99", "!local x", "!!omap [a: 1]", "!!null x", "!!bool 3", "2001-01-01", "1:2:3:4", "0o7",
        "0x" + "f" * 6000, "{2001-01-01: 1}", "[{[1]: 2}]", '"\\ud800"', '"\\0"', "&a [*a]", "*missing",
        "<<: 3"]  # fmt: skip


def mutant(kind: str, original: bytes, seed: int) -> bytes:
    """The file of a kind (`json`, `safetensors`, `jsonl`, `csv`, `yaml`, `parquet`) as the seed changes it."""
    rng, found = random.Random(seed), original
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice((_bytes, FORMATS[kind], FORMATS[kind]))
        found = change(found, rng)
    return found


# What knows no format


def _bytes(raw: bytes, rng: random.Random) -> bytes:
    changes = (_flip, _flip, _cut, _double, _splice, _insert, _reorder)
    return rng.choice(changes)(raw, rng)


def _range(raw: bytes, rng: random.Random) -> tuple[int, int]:
    a = rng.randrange(len(raw) + 1)
    return a, min(len(raw), a + rng.choice((1, 2, 8, 64, 1024)))


def _flip(raw: bytes, rng: random.Random) -> bytes:
    found = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 16))):
        if found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _cut(raw: bytes, rng: random.Random) -> bytes:
    a, b = _range(raw, rng)
    return rng.choice((raw[:a], raw[a:], raw[:a] + raw[b:], b""))


def _double(raw: bytes, rng: random.Random) -> bytes:
    a, b = _range(raw, rng)
    return raw[:b] + raw[a:b] * rng.choice((1, 2, 50)) + raw[b:]


def _splice(raw: bytes, rng: random.Random) -> bytes:
    a, b = _range(raw, rng)
    c, d = _range(raw, rng)
    return raw[:a] + raw[c:d] + raw[b:]


def _insert(raw: bytes, rng: random.Random) -> bytes:
    a = rng.randrange(len(raw) + 1)
    new = rng.choice((b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"[" * 5000, b"9" * 5000, b"\r",
                      b"x" * 60_000,
                      b'"', b"\n", b'{"a":' * 2000, b"-", b"NaN", b"\x1b[2J", b"\xe2\x80\xae"))  # fmt: skip
    return raw[: rng.choice((0, a, a, len(raw)))] + new + raw[a:]


def _reorder(raw: bytes, rng: random.Random) -> bytes:
    rows = raw.splitlines(True)
    rng.shuffle(rows)
    return b"".join(rows)


# JSON: trees


def odd_value(rng: random.Random, old: Any = None) -> Any:
    """Something else than what is there."""
    kind = rng.randrange(6)
    if kind == 0 and isinstance(old, (int, float)) and abs(old) < 2**31:
        return rng.choice((old + 1, old - 1, -old, old * 2, old * 1000, float(old), str(old), [old]))
    if kind == 1 and isinstance(old, str):
        return rng.choice((old[:-1], old + old, old.upper(), old[::-1], [old], {old: old}))
    if kind == 2:
        return rng.choice(ODD)
    if kind == 3:
        return copy.deepcopy(rng.choice(OTHER))
    return rng.choice(HUGE)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    found, waiting = [], [tree]
    while waiting:
        at = waiting.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        found += [(at, k) for k in keys]
        waiting += [at[k] for k in keys]
    return found


def change_tree(tree: Any, rng: random.Random) -> Any:
    """One value of a tree replaced, dropped, added, renamed, moved or nested."""
    tree = copy.deepcopy(tree)
    found = places(tree)
    if not found or rng.random() < 0.02:
        return odd_value(rng, tree)
    # Half the time near the top, where a format's own fields are, and not in a list of ten thousand words.
    top = [(tree, k) for k in (tree if isinstance(tree, dict) else range(len(tree)))] or found
    at, key = rng.choice(rng.choice((found, top)))
    action = rng.randrange(8)
    if action <= 3:
        at[key] = odd_value(rng, at[key])
    elif action == 4:
        del at[key]
    elif action == 5 and isinstance(at, dict):
        at[rng.choice((*ODD, str(key) + "x"))] = at.pop(key)
    elif action == 6:
        other, name = rng.choice(found)
        at[key] = copy.deepcopy(other.get(name) if isinstance(other, dict) else at[key])
    else:
        value = at[key]
        for _ in range(rng.choice((1, 3, 200))):
            value = rng.choice(([value], {"a": value}))
        at[key] = value
    return tree


def dumped(tree: Any, rng: random.Random) -> bytes:
    """JSON text; now and then with a key twice, a number of 5,000 digits, or a mark at the start."""
    text = json.dumps(tree)
    how = rng.randrange(20)
    if how == 0 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + ", " + text[1:]
    if how == 1:
        text = text.replace("1", "1" * 5000, 1)
    if how == 2:
        text = "\ufeff" + text
    return text.encode("utf-8", "surrogatepass")


def _json(raw: bytes, rng: random.Random) -> bytes:
    try:
        return dumped(change_tree(json.loads(raw), rng), rng)
    except (ValueError, RecursionError):
        return _bytes(raw, rng)


def _jsonl(raw: bytes, rng: random.Random) -> bytes:
    rows = raw.split(b"\n")
    n = rng.randrange(len(rows))
    rows[n] = _json(rows[n], rng)
    return b"\n".join(rows)


# safetensors: eight bytes of length, a header in JSON, numbers


def _safetensors(raw: bytes, rng: random.Random) -> bytes:
    try:
        (size,) = struct.unpack("<Q", raw[:8])
        header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    except (struct.error, ValueError, RecursionError):
        return _bytes(raw, rng)
    action = rng.randrange(7)
    names = (
        [n for n in header if n != "__metadata__" and isinstance(header[n], dict)] if isinstance(header, dict) else []
    )
    if action == 0:
        length = rng.choice((0, 1, size - 1, size + 1, len(raw), 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", length) + raw[8:]
    if action == 1 or not names:
        header = change_tree(header, rng)
    else:
        entry = header[rng.choice(names)]
        if action == 2:
            entry["dtype"] = rng.choice(DTYPES)
        elif action == 3:
            entry["shape"] = rng.choice(([], [0], [-1], [2**40, 2**40], [1] * 70, [1.5], "x", [10**30], [4, 4], [None]))
        elif action == 4:
            entry["data_offsets"] = rng.choice(([0, 0], [-1, 4], [4, 0], [0, 2**62], [0, len(data)], [], [0.5, 1], "x"))
        elif action == 5:
            header[rng.choice((*ODD, "stray"))] = header.pop(rng.choice(names))
        else:
            header[rng.choice(names)] = header[rng.choice(names)]
    made = dumped(header, rng)
    return struct.pack("<Q", len(made)) + made + data


# CSV and YAML


def _csv(raw: bytes, rng: random.Random) -> bytes:
    rows = raw.split(b"\n")
    n = rng.randrange(len(rows))
    cells = rows[n].split(b",")
    m = rng.randrange(len(cells))
    cells[m] = rng.choice((b'"', b'"a"b"', b'""""', b"a\rb", b"", b"a\0b", b'"open', b"\t", b"x" * 140_000, b"=1+1",
                           cells[m] * 3, b'"a\nb"', b"\xff", b"text", b'"' + cells[m] + b'"'))  # fmt: skip
    if rng.random() < 0.3:
        cells.insert(m, rng.choice((b"", b"text", b"extra")))
    rows[n] = b",".join(cells)
    return rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r")).join(rows)


def _yaml(raw: bytes, rng: random.Random) -> bytes:
    rows = raw.decode("utf-8", "replace").split("\n")
    n = rng.randrange(len(rows))
    key, colon, value = rows[n].partition(":")
    action = rng.randrange(7)
    if action <= 1:
        rows[n] = f"{key}: {rng.choice(TAGS)}"
    elif action == 2:
        rows[n] = f"{key}: {json.dumps(odd_value(rng, value))}"
    elif action == 3:
        rows[n] = f"{rng.choice((*ODD, *TAGS)).strip() or 'x'}{colon}{value}"
    elif action == 4:
        rows.insert(
            n,
            rng.choice(
                (rows[n], "? [a]\n: b", "---", "...", "%YAML 9.9", "\t- x", "- y", "#", "'", "{", "!!map", "|", ">")
            ),
        )
    elif action == 5:
        width = rng.choice((2, 9))
        bomb = ["x0: &x0 [lol, lol]", *(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * width)}]" for i in range(1, 20))]
        rows = [*bomb, *rows, f"{key or 'data'}: *x19"]
    else:
        rows[n] = f"{key}: {'[' * rng.choice((1, 50, 3000))}"
    return "\n".join(rows).encode("utf-8", "surrogatepass")


FORMATS = {"json": _json, "jsonl": _jsonl, "safetensors": _safetensors, "csv": _csv, "yaml": _yaml, "parquet": _bytes}
