"""Datasets of the package `datasets`: from a saved folder, the local cache, or the hub if it answers within seconds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_text.errors import DataError, UserError, nearest, one_line, shell
from aigc_text.hub import locate

from . import file_access, tables

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Split:
    """One split of a dataset. Its rows stay on the disk, mapped into memory."""

    name: str
    rows: datasets.Dataset

    def read(self, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str | None]]]:
        """Yields (`name: row n`, record) with the given columns, a few rows at a time.

        Raises:
            DataError: a column is missing or holds no text, or the data is broken.
        """
        tables.check_columns(self.name, columns, self.rows.column_names)
        tables.check_types(self.name, columns, self.rows.features.arrow_schema)
        wanted, number = self.rows.with_format(None).select_columns(list(columns)), 0
        try:
            for batch in wanted.iter(tables.ROWS):
                for values in zip(*(batch[c] for c in columns), strict=True):
                    number += 1
                    yield f"{self.name}: row {number}", dict(zip(columns, values, strict=True))
        except Exception as error:  # pyarrow raises many kinds for broken data
            raise DataError(
                f"dataset {self.name} breaks after row {number}: {_short(error)}", "Get it again."
            ) from error


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote the folder."""

    def has(name: str) -> bool:
        return os.path.isfile(folder / name)

    return has("dataset_dict.json") or (has("state.json") and has("dataset_info.json"))


def saved(folder: Path, split: str | None = None) -> Split:
    """The dataset that `save_to_disk` wrote into a folder.

    Args:
        folder: of one dataset or of one with splits.
        split: by default `train`, or the only one.

    Raises:
        DataError: nothing was saved there, it is damaged, or has no such split.
    """
    if not is_saved(folder):
        raise DataError(
            f"{folder} is a folder of files and has no split {split!r}", shell("Give the folder: {}", folder)
        )
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # datasets and pyarrow raise many kinds for a damaged folder
        raise DataError(f"{folder} is not a whole saved dataset: {_short(error)}", "Save or copy it again.") from error
    if not isinstance(loaded, datasets.Dataset):
        return _choose(str(folder), loaded, split)
    if split is not None:
        raise DataError(f"{folder} is a dataset without splits", shell("Give the folder: {}", folder))
    return Split(str(folder), loaded)


def find(name: str, config: str | None = None, split: str | None = None) -> Split:
    """A dataset by its name: from the cache, or downloaded if the hub answers. Code that comes with one never runs.

    Args:
        name: `owner/name` or `name`.
        config: its configuration; by default its own default one.
        split: by default `train`, or the only one.

    Raises:
        DataError: it is not in the cache and the hub cannot be reached; or what is wrong with it, in one line.
    """
    whole = f"{name}:{config}" if config else name
    try:
        loaded = _load(name, config)
    except UserError:
        raise
    except Exception as error:  # datasets and its helpers raise many kinds for a bad dataset
        raise DataError(f"dataset {whole!r} cannot be loaded: {_short(error)}", _cure(error, name)) from error
    return _choose(whole, loaded, split)


def _load(name: str, config: str | None) -> Mapping[str, datasets.Dataset]:
    """All splits. What is cached needs no network; which configuration is the default, the hub knows best."""
    cached = _cached(name)
    if (config or "default") in cached:
        return _from_cache(name, config or "default")
    if locate.is_reachable():
        return _from_hub(name, config)
    if config is None and len(cached) == 1:
        return _from_cache(name, None)
    raise _out_of_reach(name, config, cached)


def _cached(name: str) -> list[str]:
    """The configurations of a dataset that lie prepared in the cache; `datasets` takes seconds to import for that."""

    def bare(name: str) -> str:  # `owner/TinyTales` lies in `owner___tiny_tales`
        return name.replace("/", "").replace("_", "").lower()

    found = (path for path in locate.datasets_cache().glob("*/*/*/*/dataset_info.json"))
    return sorted({path.parts[-4] for path in found if bare(path.parts[-5]) == bare(name)})


def _from_cache(name: str, config: str | None) -> Mapping[str, datasets.Dataset]:
    """What `load_dataset` gives when it is offline, without asking the network first."""
    from datasets.packaged_modules.cache.cache import Cache
    from datasets.utils import logging

    last, verbosity = name.split("/")[-1], logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of every use of its cache
    try:
        return Cache(dataset_name=last, repo_id=name, config_name=config, version="auto", hash="auto").as_dataset()
    finally:
        logging.set_verbosity(verbosity)


def _from_hub(name: str, config: str | None) -> Mapping[str, datasets.Dataset]:
    import datasets
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if name in _PACKAGED_DATASETS_MODULES:  # json, text, …: these would read whatever lies in the working folder
        raise DataError(f"{name!r} is neither a file nor a dataset of the hub", file_access.siblings(Path(name)))
    return datasets.load_dataset(name, config)


def _choose(name: str, splits: Mapping[str, datasets.Dataset], split: str | None) -> Split:
    split = split or (next(iter(splits)) if len(splits) == 1 else "train")
    if split not in splits:
        raise DataError(
            f"dataset {name} has no split {split!r}.{nearest(split, splits)}",
            f"Splits found: {', '.join(splits)}. " + shell("Choose one: {}", f"{name}@{next(iter(splits), 'train')}"),
        )
    return Split(f"{name}@{split}", splits[split])


def _out_of_reach(name: str, config: str | None, cached: Sequence[str]) -> DataError:
    if cached:
        return DataError(
            f"the hub cannot be reached for {f'configuration {config!r}' if config else 'the default configuration'} "
            f"of dataset {name!r}.{nearest(config or '', cached)}",
            f"In the cache: {', '.join(f'{name}:{c}' for c in cached)}",
        )
    arguments = ", ".join(json.dumps(a) for a in (name, config) if a)
    return DataError(
        f"{name!r} is neither a file nor a dataset in the cache, and the hub cannot be reached."
        f"{file_access.near(Path(name))}",
        shell("With a network: python -c {}", f"import datasets; datasets.load_dataset({arguments})"),
    )


def _cure(error: Exception, name: str) -> str:
    text = str(error)
    if "cripts are no longer supported" in text:
        return "A dataset's own code is never run here; take one that is made of data files."
    if "onfig" in text:
        return shell("Choose a configuration: {}", f"{name}:CONFIGURATION")
    near = file_access.near(Path(name))
    return f"Give a file, a folder, a glob, or OWNER/NAME of a dataset; a private one needs HF_TOKEN.{near}"


def _short(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__)[:200]
