"""Where data comes from: files, folders, globs and datasets to one stream of examples that can be read again."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from aigc_text.errors import DataError, OptionError, shell
from aigc_text.hub import locate
from aigc_text.options.contradictions import flag
from aigc_text.options.training import TrainingOptions

from . import file_access, hub_datasets, readers, tables, teaching
from .hub_datasets import Split

SAMPLES = ("document", "paragraph", "line")
PLAIN = (".txt", ".text", ".md", ".rst", ".tex", ".html", ".xml", ".log", ".py", ".c", ".h", ".cpp", ".java", ".js")
HUB_NAME = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[^:@*?\[\]]+))?(?:@(?P<split>[\w.-]+))?")


class Pair(NamedTuple):
    """A prompt and what is to follow it; the loss counts the completion only."""

    prompt: str
    completion: str


Example = str | Pair


class Source:
    """The examples of files, folders, globs and datasets. Each `iter` reads them anew, a few at a time.

    What a folder or a glob holds is looked up once, so every pass reads the same files. A blank text is passed over,
    and so is a pair with a blank completion: there is nothing in it to learn.

    Args:
        what: one or several of: a file (by its suffix JSONL, JSON, CSV, TSV or Parquet, else plain UTF-8 text); a
            folder: all files below it that are not hidden, in the order of their names; a glob (`data/**/*.py`); a
            folder written by `save_to_disk` of `datasets`; the name of a dataset of the hub (`owner/name`), or of one
            that ships with the package (`teaching:name`, see `teaching`). `name:config` chooses a dataset's
            configuration, `name@split` its split (by default `train`).
        text_column: the column that holds the text.
        prompt_column: with `completion_column`, gives pairs instead of texts.
        completion_column: see `prompt_column`.
        sample_by: what one text of a plain file is: the whole `document`, a `paragraph` or a `line`.
        blank: give blank texts too: among generated ones they count.

    Raises:
        OptionError: one of the columns of a pair without the other, or an unknown `sample_by`.
    """

    def __init__(
        self,
        what: str | Path | Sequence[str | Path],
        *,
        text_column: str = "text",
        prompt_column: str | None = None,
        completion_column: str | None = None,
        sample_by: str = "document",
        blank: bool = False,
    ) -> None:
        if (prompt_column is None) != (completion_column is None):
            raise OptionError(
                "prompt_column and completion_column go together",
                "Give both: --prompt-column question --completion-column answer",
            )
        if sample_by not in SAMPLES:
            raise OptionError(f"sample_by cannot be {sample_by!r}", f"Allowed for sample_by: {', '.join(SAMPLES)}")
        self.what = [what] if isinstance(what, (str, Path)) else list(what)
        self.columns = [text_column]
        if prompt_column is not None and completion_column is not None:
            self.columns = [prompt_column, completion_column]
        self.sample_by, self.blank = sample_by, blank

    @classmethod
    def of(
        cls, what: str | Path | Sequence[str | Path], options: TrainingOptions, sample_by: str = "document"
    ) -> Source:
        """The source with the columns of training options, and their `sample_by` or, without one, that given here."""
        return cls(
            what,
            text_column=options.text_column,
            prompt_column=options.prompt_column,
            completion_column=options.completion_column,
            sample_by=options.sample_by or sample_by,
        )

    def __iter__(self) -> Iterator[Example]:
        """Yields the examples in the order given.

        Raises:
            DataError: a file that is missing, broken, not UTF-8 or without text, a column that is missing or not
                text (`file:line`), a dataset that cannot be had.
        """
        for name, parts in self._found:
            empty = True
            for part in parts:
                for example in self._examples(part, self.sample_by):
                    empty = False
                    yield example
            if empty:
                raise _no_text(name)

    def check(self) -> None:
        """Reads the first example of each file and dataset, so that a mistake is told before a model is loaded.

        Raises:
            DataError: as `iter`, as far as the first examples show it.
        """
        for name, parts in self._found:
            first = [next(self._examples(part, "line"), None) for part in parts]  # of a plain file a line is enough
            if not any(first):
                raise _no_text(name)

    @cached_property
    def _found(self) -> list[tuple[str, Sequence[Path | Split]]]:
        """What each name stands for."""
        if not self.what:
            raise DataError("no data is given", "Give a file, a folder, a glob or a dataset's name.")
        return [(str(w), _find(w)) for w in self.what]

    def _examples(self, part: Path | Split, sample_by: str) -> Iterator[Example]:
        if isinstance(part, Path) and _is_plain(part):
            if len(self.columns) > 1:
                raise DataError(
                    f"{part} is plain text and has no columns {' and '.join(self.columns)}",
                    "Pairs come from JSONL, JSON, CSV, TSV, Parquet and datasets; choose a folder's files by a glob.",
                )
            yield from (text for text in readers.read_plain(part, sample_by) if self.blank or text.strip())
            return
        records = part.read(self.columns) if isinstance(part, Split) else readers.read_records(part, self.columns)
        for place, record in records:
            values = [tables.text_of(place, record, column) for column in self.columns]
            if self.blank or values[-1].strip():
                yield Pair(*values) if len(values) > 1 else values[0]


def refuse_unused(sources: Iterable[Source], asked: Mapping[str, Any]) -> None:
    """Refuses what says how to read a kind of data that none of the sources is.

    Args:
        sources: all that a command reads.
        asked: options that were asked for, by name; `text_column` and `sample_by` count.

    Raises:
        OptionError: a column where all is plain text, or a division of plain text where none is.
        DataError: a source that is missing.
    """
    found = [(name, part) for source in sources for name, parts in source._found for part in parts]
    if not found:
        return
    plain = [_is_plain(part) for _, part in found]
    name = found[0][0]
    if "text_column" in asked and all(plain):
        raise OptionError(
            f"{flag('text_column', asked['text_column'])}: {name} is plain text and has no columns",
            f"Leave {flag('text_column')} out, or give JSONL, JSON, CSV, TSV, Parquet or a dataset.",
        )
    if "sample_by" in asked and not any(plain):
        raise OptionError(
            f"{flag('sample_by', asked['sample_by'])}: {name} is no plain text, so each of its rows is a text",
            f"Leave {flag('sample_by')} out.",
        )


def _is_plain(part: Path | Split) -> bool:
    return isinstance(part, Path) and part.suffix.lower() not in readers.TABULAR


def texts(examples: Iterable[Example]) -> Iterator[str]:
    """All texts of examples, of a pair both: what a tokenizer is trained on."""
    for example in examples:
        yield from (example,) if isinstance(example, str) else example


class _Share:
    """Every k-th example of a source, or all others."""

    def __init__(self, source: Iterable[Example], every: int, held_out: bool) -> None:
        self.source, self.every, self.held_out = source, every, held_out

    def __iter__(self) -> Iterator[Example]:
        # From the second on, so that of two examples each side has one.
        return (e for n, e in enumerate(self.source) if (n % self.every == 1) is self.held_out)


def split(source: Iterable[Example], share: float) -> tuple[Iterable[Example], Iterable[Example]]:
    """Holds out every k-th example, k = round(1 / share), without keeping any: both sides read the source anew.

    Args:
        source: can be iterated again and again.
        share: of the examples, from 0 (nothing is held out) to 0.5.

    Returns:
        What is left to train on, and what is held out; of a single example nothing is.

    Raises:
        OptionError: a share out of its range.
    """
    if not 0 <= share <= 0.5:
        raise OptionError(f"share cannot be {share!r}", "Allowed for share: a number from 0 and up to 0.5")
    if not share:
        return source, ()
    every = round(1 / share)
    return _Share(source, every, False), _Share(source, every, True)


def _no_text(name: str) -> DataError:
    cure = shell("Write some into it: echo 'Once upon a time.' >> {}", Path(name))
    plain = os.path.isfile(name) and not name.lower().endswith(readers.TABULAR)
    return DataError(f"{name} holds no text", cure if plain else "Give data with text in it.")


# What a name stands for


def _find(what: str | Path) -> Sequence[Path | Split]:
    if teaching.is_teaching(what):
        return [Path(teaching.local(what))]
    name = str(what)
    if not name or "\0" in name:
        fault = "has a NUL character in it" if name else "is empty"
        raise DataError(f"the data's name {fault}", "Give a file, a folder, a glob or a dataset's name.")
    path = Path(os.path.expanduser(what))
    if os.path.isdir(path):
        return [hub_datasets.saved(path)] if hub_datasets.is_saved(path) else _below(path)
    if os.path.isfile(path):
        return [path]
    if os.path.exists(path):
        raise DataError(f"{path} is neither a file nor a folder", "A pipe can be read only once: save it to a file.")
    folder, _, wanted = str(path).rpartition("@")
    if folder and os.path.isdir(folder):
        return [hub_datasets.saved(Path(folder), wanted)]
    found = HUB_NAME.fullmatch(name)
    if found and isinstance(what, str) and not _is_path(name):
        return [hub_datasets.find(found["name"], found["config"], found["split"])]
    if any(c in name for c in "*?["):
        return _matches(path)
    raise DataError(f"{path} does not exist", file_access.siblings(path))


def _is_path(name: str) -> bool:
    """Whether a name that does not exist is meant as a file's."""
    return locate.is_folder(name) or name.lower().endswith((*readers.TABULAR, *PLAIN))


def _matches(pattern: Path) -> list[Path]:
    files = (Path(p) for p in glob.glob(str(pattern), recursive=True) if os.path.isfile(p))
    # What a link leads back into is read once, by its shortest way; a file with two names of its own, by both.
    longest_first = sorted(files, key=lambda f: len(f.parts), reverse=True)
    by_place = {os.path.join(os.path.realpath(f.parent), f.name): f for f in longest_first}
    found = sorted(by_place.values())
    if not found:
        raise DataError(
            f"no file matches {pattern}", f"Looked from {Path.cwd()}; * is part of one name, ** any folders."
        )
    return found


def _below(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden; a folder that a link leads back into is read once."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}", "Give a folder that you may read.")

    found, seen = [], set()
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(here, f) for f in files if not f.startswith(".") and os.path.isfile(os.path.join(here, f))]
    if not found:
        raise DataError(f"{folder} holds no file", "Give a folder with at least one file that is not hidden.")
    return sorted(found)
