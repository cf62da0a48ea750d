"""Samples of a model, made once: kept on disk by model, options and seed, and gone on with after a kill.

CACHE/KEY/about.json      what the key was made of
CACHE/KEY/samples.jsonl   one sample a line, in the order of the prompts
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text.errors import OptionError, TrainingError, shell
from aigc_text.hub import locate
from aigc_text.outputs import Completion, ordered
from aigc_text.utils import isolation, lock, sealed_dir

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.options.generation import GenerationOptions


def default_folder() -> Path:
    """Where samples are kept if nothing else is said."""
    return locate.cache_folder() / "samples"


class SampleCache:
    """The samples of one model, its options and a seed, for any number of prompts in their order.

    Only what determines a text is in the key: the number of samples and the batch size are not, so asking for more
    of them adds to those that are there. A model that cannot be told from another (made in Python and never saved)
    is not kept.

    Args:
        folder: where all samples are kept.
        backend: who generates.
        options: how, with a seed.
        prompts: one a sample.
    """

    def __init__(self, folder: Path, backend: Backend, options: GenerationOptions, prompts: Sequence[str]) -> None:
        self.options, self.prompts = options, prompts
        self.about = _about(backend, options, prompts)
        self.folder: Path | None = None
        if self.about is not None:
            digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
            self.folder = folder / digest[:20]

    def check(self) -> None:
        """Finds out before any work whether the samples can be kept.

        Raises:
            OptionError: the folder cannot be written.
        """
        if self.folder is None:
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.folder.parent, error) from None
        if not os.access(self.folder.parent, os.W_OK):
            raise _unwritable(self.folder.parent, PermissionError(13, "Permission denied"))

    def samples(self, backend: Backend, batch_size: int) -> Iterator[Completion]:
        """Yields one sample a prompt: first those that are there, then new ones, each on disk before it is given.

        Raises:
            OptionError: another process is making the same samples, or the folder cannot be written.
        """
        return isolation.closed_at_exit(self._samples(backend, batch_size))

    def _samples(self, backend: Backend, batch_size: int) -> Generator[Completion, None, None]:
        if self.folder is None:
            yield from self._made(backend, 0, batch_size)
            return
        with contextlib.closing(_Store(self.folder, self.about)) as store:
            kept = store.read(self.prompts)
            yield from kept
            if len(kept) == len(self.prompts):
                return
            for sample in self._made(backend, len(kept), batch_size):
                store.add(sample)
                yield sample

    def _made(self, backend: Backend, first: int, batch_size: int) -> Iterator[Completion]:
        found = backend.generate_some(self.prompts, self.options, lambda i, _: i >= first, batch_size=batch_size)
        return ordered(((c.prompt_index, c) for c in found), first)


class _Store:
    """The folder of one key, held by one process."""

    def __init__(self, folder: Path, about: Any) -> None:
        self.file = folder / "samples.jsonl"
        try:
            self.lock = lock.FolderLock(folder)
            (folder / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", "utf-8")
        except TrainingError:
            raise OptionError(
                f"the samples in {folder} are being made by another process, or the folder cannot be written",
                "Wait for it, or keep samples elsewhere with --cache.",
            ) from None
        except OSError as error:
            raise _unwritable(folder, error) from None
        self.stream: Any = None

    def read(self, prompts: Sequence[str]) -> list[Completion]:
        """The samples that are there, at most one a prompt; a line cut off by a kill is removed."""
        whole = b""
        if self.file.exists():
            data = self.file.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                self.file.write_bytes(whole)
        try:
            return [_read(line, prompt) for line, prompt in zip(whole.split(b"\n")[:-1], prompts, strict=False)]
        except (ValueError, TypeError, RecursionError):
            raise OptionError(f"{self.file} is damaged", shell("Remove it: rm -r {}", self.file.parent)) from None

    def add(self, sample: Completion) -> None:
        if self.stream is None:
            self.stream = self.file.open("a", encoding="utf-8")
        self.stream.write(line_of(sample))
        self.stream.flush()

    def close(self) -> None:
        if self.stream is not None:
            os.fsync(self.stream.fileno())
            self.stream.close()
        self.lock.__exit__()


def line_of(sample: Completion) -> str:
    """A sample as a line of JSONL."""
    return json.dumps(sample.to_record(), ensure_ascii=False) + "\n"


def _read(line: bytes, prompt: str) -> Completion:
    """Raises ValueError, TypeError, RecursionError: it is not what `line_of` wrote."""
    sample = Completion(**{**json.loads(line), "prompt": prompt})
    if not isinstance(sample.text, str):
        raise TypeError(sample.text)
    return sample


def _about(backend: Backend, options: GenerationOptions, prompts: Sequence[str]) -> dict[str, Any] | None:
    """What determines the texts; nothing if the model cannot be named for sure."""
    model = _identity(backend)
    if model is None:
        return None
    kinds = itertools.groupby(prompts)
    same = len(list(itertools.islice(kinds, 2))) < 2  # one prompt over and over: their number does not matter
    asked = prompts[:1] if same else prompts
    return {
        "backend": backend.name,
        "model": model,
        "precision": backend.precision,
        "device": getattr(getattr(getattr(backend, "model", None), "device", None), "type", ""),
        "options": backend.effective(options),
        "seed": options.seed,
        "prompts": hashlib.sha256(json.dumps(list(asked)).encode()).hexdigest(),
        "version": _version(backend),
    }


def _identity(backend: Backend) -> str | None:
    """Tells the model from any other: its hash or commit, or the bytes of the file or folder it was loaded from."""
    if backend.revision:
        return f"{backend.source if backend.origin.get('model') is None else ''}{backend.revision}"
    if not backend.origin or backend.origin.get("from_scratch"):
        return None
    model = backend.origin.get("model")
    rest = json.dumps({k: v for k, v in backend.origin.items() if k != "model"}, sort_keys=True, default=str)
    if model is None:
        return f"the backend's own {rest}"
    path = Path(model)
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else None
    if files is None:
        return None
    sums = [(f.relative_to(path).as_posix(), sealed_dir.sha256(f)) for f in files]
    return hashlib.sha256(json.dumps([sums, rest]).encode()).hexdigest()


def _version(backend: Backend) -> str:
    """Of the package, or of the file, that the backend's code comes from."""
    import inspect

    from aigc_text._version import __version__
    from aigc_text.backends.registry import list_backends

    origin = list_backends().get(backend.name)
    if origin is not None and origin.version:
        return f"aigc-text {__version__}, {origin.distribution} {origin.version}"
    try:
        code = Path(inspect.getfile(type(backend)))
        return f"aigc-text {__version__}, {sealed_dir.sha256(code)[:12]}"
    except (TypeError, OSError):
        return f"aigc-text {__version__}"


def _unwritable(folder: Path, error: OSError) -> OptionError:
    return OptionError(f"{folder} cannot be written: {error.strerror}", "Keep samples elsewhere with --cache.")
