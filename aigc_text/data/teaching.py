"""Small data sets that ship with the package, for guides, lessons and tests. Standard library only.

`teaching:NAME` stands for the training split of one wherever data is read, `teaching:NAME@test` for its held-out split.
`scripts/tools/teaching_data.py` builds them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
from dataclasses import dataclass
from pathlib import Path

from aigc_text.errors import DataError, nearest
from aigc_text.hub import locate
from aigc_text.utils import atomic

PREFIX = "teaching:"
FOLDER = Path(__file__).with_name("teaching_data")
SPLITS = ("train", "test")
REINSTALL = "Install the package again: pip install --force-reinstall --no-deps aigc-text"


@dataclass(frozen=True)
class Split:
    """One file of a data set.

    Attributes:
        texts: how many it holds.
        size: in bytes, unpacked.
        sha256: of its content.
    """

    name: str
    split: str
    suffix: str
    texts: int
    size: int
    sha256: str

    @property
    def title(self) -> str:
        """`captions`, or `captions@test`."""
        return self.name if self.split == "train" else f"{self.name}@{self.split}"

    def read(self) -> bytes:
        """Its content.

        Raises:
            DataError: the file in the package is missing or damaged.
        """
        packed = FOLDER / f"{self.name}.{self.split}.xz"
        try:
            content = lzma.decompress(packed.read_bytes())
        except OSError as error:
            raise DataError(f"{packed} cannot be read: {error.strerror}", REINSTALL) from None
        except (lzma.LZMAError, EOFError):
            raise DataError(f"{packed} is damaged: it cannot be decompressed", REINSTALL) from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError(f"{packed} is damaged: its SHA-256 is not the one in catalog.json", REINSTALL)
        return content


@dataclass(frozen=True)
class DataSet:
    """What the catalog says of a data set.

    Attributes:
        about: its content, in a line.
        format: `txt:line` (a text a line), `txt:document` (one text) or `jsonl`.
        license: its SPDX identifier, or `public domain`.
        source: where it is from, with its copyright.
        splits: `train` and `test`.
    """

    name: str
    about: str
    format: str
    license: str
    source: str
    splits: dict[str, Split]


@functools.cache
def catalog() -> dict[str, DataSet]:
    """All data sets by name.

    Raises:
        DataError: the catalog is missing or damaged.
    """
    path = FOLDER / "catalog.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {name: _data_set(name, entry) for name, entry in entries.items()}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", REINSTALL) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged", REINSTALL) from None


def _data_set(name: str, entry: dict) -> DataSet:
    suffix = "." + entry["format"].partition(":")[0]
    splits = {
        split: Split(name, split, suffix, about["texts"], about["bytes"], about["sha256"])
        for split, about in entry["splits"].items()
    }
    return DataSet(name, entry["about"], entry["format"], entry["license"], entry["source"], splits)


def find(title: str) -> Split:
    """The split that `NAME` or `NAME@SPLIT` stands for.

    Raises:
        DataError: no such data set or split, with the nearest one.
    """
    name, _, split = title.removeprefix(PREFIX).partition("@")
    known = catalog()
    if name not in known:
        raise DataError(f"no teaching data {name!r}.{nearest(name, known)}", f"Allowed: {', '.join(known)}")
    split = split or "train"
    if split not in known[name].splits:
        raise DataError(
            f"teaching data {name!r} has no split {split!r}.{nearest(split, SPLITS)}", f"Allowed: {', '.join(SPLITS)}"
        )
    return known[name].splits[split]


def is_teaching(what: str | Path) -> bool:
    """Whether data is named as `teaching:NAME`."""
    return isinstance(what, str) and what.startswith(PREFIX)


def local(what: str | Path) -> str | Path:
    """The file that `teaching:NAME` stands for, unpacked in the cache; anything else as it is.

    Raises:
        DataError: no such data set, a damaged package, or a cache that cannot be written.
    """
    if not is_teaching(what):
        return what
    found = find(str(what))
    path = locate.cache_folder() / "teaching" / found.sha256[:12] / f"{found.title}{found.suffix}"
    if not _is_whole(path, found):
        content = found.read()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.whole(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            hint = "Set AIGC_TEXT_CACHE to a folder that you may write to."
            raise DataError(f"{path} cannot be written: {error.strerror}", hint) from None
    return path


def _is_whole(path: Path, found: Split) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == found.sha256
    except OSError:
        return False
