"""Local files to texts, texts to packed rows of tokens, rows to batches whose order is a function of the seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError, nearest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def read_texts(path: str | Path, text_column: str = "text", sample_by: str = "document") -> Iterator[str]:
    """Yields the texts of a local file.

    Args:
        path: `.jsonl` (one object a line) or any other name (plain UTF-8 text).
        text_column: the field of a JSONL record that holds its text.
        sample_by: what one text of a plain file is: the whole `document`, a `paragraph` or a `line`.

    Raises:
        DataError: the file is missing, empty, not UTF-8, has a broken line (`file:line`) or no such column.
    """
    path = Path(path)
    found = False
    rows = _jsonl_texts(path, text_column) if path.suffix in (".jsonl", ".ndjson") else _plain_texts(path, sample_by)
    for text in rows:
        if text.strip():
            found = True
            yield text
    if not found:
        raise DataError(f"{path} holds no text", "Give a file with at least one line that is not empty.")


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, record) of a JSONL file; blank lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object (`file:line`).
    """
    for number, line in _lines(Path(path)):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if r"\u" in line:  # an escape can name half a character, which no tokenizer and no file takes
                json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}:{number} is not valid JSON: {error}", "Each line must be one JSON object."
            ) from None
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number} is not a JSON object: {line.strip()[:60]}", 'Write {"text": "…"}.')
        yield number, record


def _jsonl_texts(path: Path, column: str) -> Iterator[str]:
    for number, record in read_jsonl(path):
        if column not in record:
            raise DataError(
                f"{path}:{number} has no column {column!r}.{nearest(column, record)}",
                f"Columns found: {', '.join(record)}. Choose one with --text-column.",
            )
        if not isinstance(record[column], str):
            raise DataError(f"{path}:{number}: column {column!r} is not text but {type(record[column]).__name__}")
        yield record[column]


def _plain_texts(path: Path, sample_by: str) -> Iterator[str]:
    if sample_by == "line":
        yield from (line.rstrip("\r\n") for _, line in _lines(path))
        return
    whole = "".join(line for _, line in _lines(path))
    yield from whole.split("\n\n") if sample_by == "paragraph" else [whole]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, broken at line feeds only, read strictly as UTF-8 (a mark at the start is dropped)."""
    try:
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                try:
                    yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").replace("\r\n", "\n")
                except UnicodeDecodeError as error:
                    wrong = error.object[error.start]  # its own copy of the line, for it counts without the mark
                    raise DataError(
                        f"{path}:{number} is not UTF-8: byte {wrong:#04x} at column {error.start + 1}",
                        f"Convert it: iconv -f GB18030 -t UTF-8 {path.name} > new.txt (or from what it really is).",
                    ) from None
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", _siblings(path)) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "Give a file that you may read.") from None


def check_files(paths: Iterable[str | Path]) -> None:
    """Opens each file, so that a wrong name is told before a model is loaded.

    Raises:
        DataError: a file that is missing or cannot be read.
    """
    for path in paths:
        next(_lines(Path(path)), None)


def _siblings(path: Path) -> str:
    names = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
    return nearest(path.name, names).strip() or f"Looked in {path.parent.resolve()}."


def encode(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], end: int | None) -> np.ndarray:
    """All texts' tokens in one row, each text followed by `end` if there is one. Shape (N,), uint16 or uint32."""
    kind = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    parts = []
    for chunk in _chunks(texts, 64):
        for ids in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            parts.append(np.array(ids if end is None else [*ids, end], dtype=kind))
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class PackedBatches:
    """Rows of `block_size` tokens cut from one long row of tokens, with nothing padded.

    Each pass over the data cuts it at another offset and shuffles the rows; both follow from (seed, pass), so the
    n-th batch is a function of (seed, n). Rows left over at the end of a pass come in a smaller batch only if the
    data has fewer rows than `batch_size`.

    Args:
        tokens: shape (N,).
        batch_size: rows B of a batch.
        block_size: tokens T of a row.
        seed: decides offsets and order.

    Raises:
        DataError: fewer tokens than one row.
    """

    def __init__(self, tokens: np.ndarray, batch_size: int, block_size: int, seed: int) -> None:
        if len(tokens) < block_size:
            raise DataError(
                f"the training data has {len(tokens)} tokens, fewer than one block of {block_size}",
                "Give more data or a smaller --block-size.",
            )
        self.tokens, self.seed, self.block_size = tokens, seed, block_size
        # One row is kept back where there are two, so that every offset leaves the same number of rows.
        self.rows = max(1, len(tokens) // block_size - 1)
        self.batch_size = min(batch_size, self.rows)

    def __len__(self) -> int:
        return self.rows // self.batch_size

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return self.from_step(0)

    def from_step(self, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of `input_ids` and `labels`, (B, T) both, from the `step`-th on, without end."""
        while True:
            epoch, first = divmod(step, len(self))
            offset, order = self._order(epoch)
            for n in range(first, len(self)):
                yield self._batch(offset, order[n * self.batch_size : (n + 1) * self.batch_size])
            step += len(self) - first

    def _order(self, epoch: int) -> tuple[int, np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        room = len(self.tokens) - self.rows * self.block_size
        return int(random.integers(min(room + 1, self.block_size))), random.permutation(self.rows)

    def _batch(self, offset: int, rows: np.ndarray) -> dict[str, torch.Tensor]:
        import torch

        starts = offset + rows[:, None] * self.block_size  # (B, 1)
        ids = torch.from_numpy(self.tokens[starts + np.arange(self.block_size)].astype(np.int64))  # (B, T)
        return {"input_ids": ids, "labels": ids}


def blocks(tokens: np.ndarray, block_size: int, most: int) -> np.ndarray:
    """At most `most` rows of a validation text, spread evenly over it. Shape (n, T)."""
    count = len(tokens) // block_size
    chosen: Sequence[int] = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist() if count else []
    return np.stack([tokens[i * block_size : (i + 1) * block_size] for i in chosen]) if count else tokens[None, :]
