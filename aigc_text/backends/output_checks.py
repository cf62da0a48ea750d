"""What a plugin yields, held to the class it must have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from aigc_text.errors import BackendError, ask_author
from aigc_text.outputs import Completion, Piece

T = TypeVar("T", Completion, Piece)
#: What a completion's other fields may hold: records are written of them.
_FIELDS: dict[str, tuple[type, ...]] = {
    "prompt": (str,),
    "finish_reason": (str,),
    "tokens": (int,),
    "seed": (int, type(None)),
    "exact": (bool,),
    "seconds": (float, int),
}


def sound(made: Iterable[T], kind: type[T], name: str) -> Iterator[T]:
    """The same items, each held to its class: what a plugin makes may be anything.

    Args:
        made: what a backend's `generate` or `pieces` has given.
        kind: `Completion` or `Piece`.
        name: the backend's.

    Raises:
        BackendError: it is not iterable, or an item is not of that class or holds what it may not.
    """
    cure = ask_author(name)
    if not isinstance(made, Iterable):
        raise BackendError(f"backend {name!r} gives {made!r}"[:150] + f" where {kind.__name__}s belong", cure)
    for item in made:
        if wrong := _wrong(item, kind):
            raise BackendError(f"backend {name!r} gives {wrong}", cure)
        yield item


def _wrong(item: Any, kind: type) -> str:
    if not isinstance(item, kind):
        return f"{item!r}"[:100] + f" where a {kind.__name__} belongs"
    for name in ("prompt_index", "index"):
        place = getattr(item, name)
        if not isinstance(place, int) or place < 0:
            return f"a {kind.__name__} with {name} {place!r}"[:150]
    text: Any = getattr(item, "text")  # noqa: B009
    if not isinstance(text, str):
        return f"a {kind.__name__} with a text that is {text!r}"[:150]
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"a {kind.__name__} whose text is no Unicode: {error}"[:150]
    if isinstance(item, Piece):
        return "" if item.completion is None else _wrong(item.completion, Completion)
    for name, allowed in _FIELDS.items():
        if not isinstance(value := getattr(item, name), allowed):
            return f"a {kind.__name__} with {name} {value!r}"[:150]
    return ""
