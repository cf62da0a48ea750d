"""What texts have copied: the longest run of words of each that stands in a file, and where.

Words are runs of letters and digits with the marks that combine with them (accents, vowel signs), marks of punctuation
(a row of the same one counts once), and single Chinese or Japanese characters; white space is passed over, and case
counts. A run ends where a text of the file ends.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aigc_text.data import teaching
from aigc_text.data.file_access import lines
from aigc_text.data.readers import TABULAR, read_records
from aigc_text.data.tables import text_of
from aigc_text.errors import DataError

from .suffix_array import Ints, Match, SuffixArray

_EACH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = "".join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c)[0] == "M")  # to Python no \w
_LETTERS = rf"[^\W{_EACH}]"
WORD = re.compile(rf"[{_EACH}]|{_LETTERS}+(?:[{_MARKS}]+{_LETTERS}*)*|([^\w\s])\1*")  # a drawn line is one word
SHOWN = 50  # of the texts that copied most, in a report


@dataclass(frozen=True)
class Copy:
    """The longest run of words of one text that stands in the source.

    Attributes:
        length: in words; 0 where not even one of them does.
        start, end: where it is in the text, in characters.
        place: where in the source, `file:line`; empty where there is none.
    """

    length: int
    start: int = 0
    end: int = 0
    place: str = ""


class Source:
    """A file that texts may have copied from.

    Args:
        path: plain text, JSONL, JSON, CSV, TSV or Parquet.
        text_column: of records the field with the text.
        sample_by: what one text of a plain file is: `document`, `paragraph` or `line`. A copy does not go beyond it.

    Raises:
        DataError: it cannot be read, or holds no word.
    """

    def __init__(self, path: str | Path, text_column: str = "text", sample_by: str = "document") -> None:
        self.path = Path(teaching.local(path))
        self._known: defaultdict[str, int] = defaultdict()
        self._known.default_factory = lambda: len(self._known) + 1  # 0 is a border between texts
        parts: list[Ints] = []
        self._begins: list[int] = []  # of each piece: its first word,
        self._places: list[str] = []  # and where it stands
        total = 0
        for place, text, new in pieces(self.path, text_column, sample_by):
            if new and total:
                parts.append(np.zeros(1, np.int32))
                total += 1
            found = words(text)
            if found:
                self._begins.append(total)
                self._places.append(place)
                parts.append(np.fromiter(map(self._known.__getitem__, found), np.int32, len(found)))
                total += len(found)
        if not self._known:
            raise DataError(f"{self.path} holds no word to copy", "Give the file that the model was trained on.")
        self.words = total
        self._index = SuffixArray(np.concatenate(parts))

    def longest(self, texts: Sequence[str]) -> list[Copy]:
        """The longest copy of each text, the first of several."""
        spans = [[m.span() for m in WORD.finditer(text)] for text in texts]
        ids = [
            np.fromiter((self._known.get(text[a:b], 0) for a, b in s), np.int32, len(s))
            for text, s in zip(texts, spans, strict=True)
        ]
        return [self._copy(m, s) for m, s in zip(self._index.longest(ids), spans, strict=True)]

    def _copy(self, match: Match, spans: Sequence[tuple[int, int]]) -> Copy:
        if not match.length:
            return Copy(0)
        place = self._places[bisect_right(self._begins, match.place) - 1]
        return Copy(match.length, spans[match.start][0], spans[match.start + match.length - 1][1], place)


def words(text: str) -> list[str]:
    """The words of a text, as they are counted here."""
    return [m[0] for m in WORD.finditer(text)]


def pieces(path: Path, text_column: str, sample_by: str) -> Iterator[tuple[str, str, bool]]:
    """Yields (place, piece of text, whether another text begins with it) of a file, a line or a record at a time."""
    if path.suffix.lower() in TABULAR:
        for place, record in read_records(path, [text_column]):
            yield place, text_of(place, record, text_column), True
        return
    new = True
    for number, line in lines(path):
        if not line.strip():
            new = new or sample_by == "paragraph"
            continue
        yield f"{path}:{number}", line, new
        new = sample_by == "line"


# How much was copied


@dataclass(frozen=True)
class Lengths:
    """The longest copies of some texts, in words.

    Attributes:
        texts: how many.
        mean, median, p95, max: of the copies' lengths.
        share_over: of the texts whose copy is longer than the threshold.
        histogram: (length, texts) in order.
    """

    texts: int
    mean: float
    median: float
    p95: float
    max: int
    share_over: float
    histogram: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, copies: Sequence[Copy], threshold: int) -> Lengths:
        """Of these copies."""
        found = np.array([c.length for c in copies])
        return cls(
            texts=len(found),
            mean=float(found.mean()),
            median=float(np.median(found)),
            p95=float(np.quantile(found, 0.95)),
            max=int(found.max()),
            share_over=float((found > threshold).mean()),
            histogram=tuple(sorted(Counter(found.tolist()).items())),
        )


def alike(texts: Sequence[str], held_out: Iterable[str]) -> list[str]:
    """Pieces of held-out texts, for each text one of as many words: longer texts share more by chance.

    Each word of the held-out texts is in one piece at most, so there are fewer pieces where they do not suffice.
    """
    sizes = sorted((len(words(text)) for text in texts), reverse=True)
    others = [(text, [m.span() for m in WORD.finditer(text)]) for text in held_out]
    others.sort(key=lambda other: -len(other[1]))
    found: list[str] = []
    at = first = 0  # the text that is cut, and its first word that is left
    for size in filter(None, sizes):
        if at + 1 < len(others) and len(others[at][1]) - first < size <= len(others[at + 1][1]):
            at, first = at + 1, 0
        if at < len(others) and len(others[at][1]) - first >= size:
            text, spans = others[at]
            found.append(text[spans[first][0] : spans[first + size - 1][1]])
            first += size
    return found


def report(
    texts: Sequence[str],
    source: Source,
    *,
    prompts: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    threshold: int = 20,
    label: str = "",
) -> dict[str, Any]:
    """What texts have copied, beside what texts that cannot have copied share with the source by chance.

    Args:
        texts: what a model wrote.
        source: what it was trained on.
        prompts: of each text; kept for the reader.
        held_out: texts of the same kind that are not in the source.
        threshold: words; longer copies are counted.
        label: whose texts they are.
    """
    copies = source.longest(texts)
    most = sorted(range(len(texts)), key=lambda n: -copies[n].length)[:SHOWN]
    pieces_ = alike(texts, held_out) if held_out is not None else []
    return {
        "kind": "copies",
        "label": label,
        "source": str(source.path),
        "source_words": source.words,
        "threshold": threshold,
        "unit": "words",
        "outputs": asdict(Lengths.of(copies, threshold)),
        "held_out": asdict(Lengths.of(source.longest(pieces_), threshold)) if pieces_ else None,
        "texts": [
            {"label": label, "prompt": prompts[n] if prompts else "", "text": texts[n], **asdict(copies[n])}
            for n in most
        ],
    }
