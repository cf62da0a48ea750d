"""What the files of a model's folder say of themselves, looked at before anything is made of them.

A config.json decides how much is built, so a few bytes of it can ask for a billion layers. It is held against the
weights: the header of a safetensors file tells every tensor's shape without one being read. What is built is counted
while it is built, whatever the architecture calls its sizes. Needs no torch until something is built.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_text.errors import ModelError, OptionError, UserError, one_line

GENERATION = "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What loading reads, by suffix.
READ = (".json", ".safetensors", ".txt", ".model", ".jinja", ".py", ".bin", ".tiktoken")
LARGEST_JSON = 512 << 20  # bytes; the largest tokenizers have some 30 MB

MANY = 1_000_000  # of anything that is counted: layers, labels, heads
COUNTED = re.compile(r"(^|_)(layers?|labels?|blocks?|experts?|heads?|groups?|stages?|slots?|depths?|beams?)(_|$)")
CHANCE = re.compile(r"dropout$|pdrop$|layerdrop$")
RESTORE = "Restore it from the model's source."
MOST_DIMENSIONS = 64  # of a tensor, as torch has it
MOST_TENSORS = 20_000  # of a model without weights to hold it against; 1,600 layers of GPT-2
SQUARES = 1 << 28  # entries of masks and the like, which are in no file


@dataclass(frozen=True)
class Bounds:
    """How much a model may have: tensors, and entries of all of them together.

    `refusal` makes the error of what is more, from words such as `more tensors`.
    """

    tensors: int
    entries: int
    refusal: Callable[[str], UserError]


def inspect(folder: Path) -> Bounds | None:
    """Looks at a model's folder: links, shards, headers and sizes.

    Returns:
        What its weights allow to be built, or `None` where it has none in safetensors.

    Raises:
        ModelError: naming the file that is broken, or leads out of the folder.
    """
    refuse_links(folder)
    config = read_object(folder / "config.json")
    check_counts(config, str(folder / "config.json"))
    if (folder / GENERATION).is_file():  # transformers would go on without it and not say so
        check_counts(read_object(folder / GENERATION), str(folder / GENERATION))
    paths = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else shards(folder)
    if not paths:
        return None
    headers = [header(path) for path in paths]
    tensors = [shape for found in headers for shape in found.values()]
    entries = sum(math.prod(shape) for shape in tensors)
    if "quantization_config" in config:  # several entries in one number
        entries = max(entries, 8 * sum(path.stat().st_size for path in paths))

    def refusal(what: str) -> ModelError:
        return ModelError(
            f"{folder / 'config.json'} asks for {what} than its weights have ({len(tensors)} tensors, "
            f"{entries} numbers)",
            "The weights do not belong to its config.json; download or save the model again.",
        )

    # Tied tensors are built several times and stored once, and small things may be stored otherwise than built.
    return Bounds(16 * len(tensors) + 1000, 4 * entries + SQUARES, refusal)


def refuse_links(folder: Path) -> None:
    """Refuses symbolic links to what is outside of a model's folder, but for those of the hub's cache to its blobs.

    Raises:
        ModelError: naming the link.
    """
    home = Path(os.path.realpath(folder))
    allowed = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and path.suffix in READ:
            target = Path(os.path.realpath(path))
            if not any(target.is_relative_to(place) for place in allowed):
                raise ModelError(
                    f"{path} is a symbolic link out of the model's folder, to {target}", "Put the file itself there."
                )


def shards(folder: Path) -> list[Path]:
    """The files that the index of a model in several parts names; none where there is no index.

    Raises:
        ModelError: the index is broken, or names something else than files beside it.
    """
    path = folder / INDEX
    if not path.is_file():
        return []
    named = read_object(path).get("weight_map")
    if not (isinstance(named, dict) and named and all(isinstance(n, str) for n in named.values())):
        raise ModelError(f"{path} has no weight_map of tensors to files", RESTORE)
    for name in sorted(set(named.values())):
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ModelError(f"{path} names {name[:100]!r}, which is no safetensors file beside it", RESTORE)
        if not (folder / name).is_file():
            raise ModelError(f"{path} names {name}, which is not there", RESTORE)
    return [folder / name for name in sorted(set(named.values()))]


def header(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors, by name. Nothing but the header is read.

    Raises:
        ModelError: the header is broken, or does not fit the file's length.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as tensors:
            found = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _broken(path, one_line(str(error))[:200]) from None
    if any(len(shape) > MOST_DIMENSIONS for shape in found.values()):
        raise _broken(path, f"a tensor has more than {MOST_DIMENSIONS} dimensions")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ModelError(f"{path} is larger than any such file is", RESTORE)
        return _object(path.read_bytes(), path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", RESTORE) from None


def _object(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {one_line(str(error))[:150]}", RESTORE) from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} is not a JSON object", RESTORE)
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _broken(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is not a whole safetensors file: {why}", RESTORE)


# Sizes


def check_counts(config: Mapping[str, Any], place: str, kind: type[UserError] = ModelError) -> None:
    """Refuses numbers of things that no model has so many of: lists as long are made before any tensor is.

    And chances of dropout that are none, which would be found out only when a text is made.

    Raises:
        ModelError: or another kind, naming the field.
    """
    waiting: list[Any] = [config]
    while waiting:
        at = waiting.pop()
        for name, value in at.items() if isinstance(at, dict) else ():
            most = MANY if COUNTED.search(str(name)) else 1 if CHANCE.search(str(name)) else None
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and most is not None and not 0 <= value <= most:
                shown = f"{value:.3g}" if isinstance(value, float) else str(value)[:30]
                raise kind(f"{place}: {str(name)[:80]} cannot be {shown}", f"Allowed for it: from 0 up to {most}")
        waiting += at.values() if isinstance(at, dict) else at if isinstance(at, list) else ()


def fresh_bounds(cure: str) -> Bounds:
    """How much a model without weights may have: numbers that fit into this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def refusal(what: str) -> OptionError:
        return OptionError(f"these sizes ask for {what} than this machine can hold or this package builds", cure)

    return Bounds(MOST_TENSORS, memory // 4, refusal)


_building = threading.RLock()


@contextmanager
def building() -> Iterator[None]:
    """Lets one thread at a time build models: transformers replaces functions of torch, for all threads, meanwhile."""
    with _building:
        yield


@contextmanager
def bounded(bounds: Bounds | None) -> Iterator[None]:
    """Counts the tensors that this thread makes inside, and stops it when there are too many.

    What other threads build is not counted, and nothing of torch is changed for them.

    Raises:
        UserError: as the bounds have it.
    """
    if bounds is None:
        yield
        return
    with _counting(bounds):
        yield


def _counting(bounds: Bounds) -> Any:
    """A mode of torch, which is one thread's own: hooks of modules would count for all threads."""
    from torch.overrides import TorchFunctionMode

    from aigc_text.utils.torch_compat import tensor_makers

    makes = tensor_makers()

    class Counting(TorchFunctionMode):
        tensors = entries = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if func in makes:
                self.tensors += 1
                self.entries += made.numel()
                if self.tensors > bounds.tensors:
                    raise bounds.refusal("more tensors")
                if self.entries > bounds.entries:
                    raise bounds.refusal("more numbers")
            return made

    return Counting()
