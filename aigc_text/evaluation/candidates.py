"""`System`: whose texts an evaluation measures. Small models are held together, of large ones one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text.data.sources import Source
from aigc_text.errors import OptionError, shell
from aigc_text.outputs import Completion

from .metric_groups import evenly
from .options import NOT_FOR_SAMPLES, PURE, EvaluationOptions, sweep_of
from .sample_cache import SampleCache

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.options.generation import GenerationOptions


TOGETHER = 2 << 30  # bytes of the parameters of models that are held at once


@dataclass(frozen=True, kw_only=True)
class System:
    """Whose texts are measured: a backend as `load` takes it, one that is loaded, or a file of texts.

    Attributes:
        label: its name in the table.
        backend: a backend's name, a model's folder, or a loaded backend.
        model: as in `load`.
        loading: further arguments of `load`.
        samples: instead of a backend, a file of texts from elsewhere.
    """

    label: str
    backend: str | Backend | None = None
    model: str | None = None
    loading: Mapping[str, Any] | None = None
    samples: str | Path | None = None

    def load(self) -> Backend:
        """The loaded backend."""
        from aigc_text import api

        if self.backend is not None and not isinstance(self.backend, str):
            return self.backend
        return api.load(self.backend, self.model, **(self.loading or {}))


@dataclass(frozen=True, kw_only=True)
class Job:
    """The texts of one row, still to be made.

    Attributes:
        label: the system's.
        at: the sweep's option and value, or empty.
        backend: who generates; `None` for texts from elsewhere.
        about: backend, model and effective options, for records.
        total: how many texts there will be.
        notes: what the reader should know.
        samples: gives them one by one.
    """

    label: str
    at: Mapping[str, Any]
    backend: Backend | None
    about: Mapping[str, Any]
    total: int
    samples: Iterator[Completion]
    notes: Sequence[str] = ()


class Systems:
    """The systems of an evaluation, each checked with every point of the sweep before any text is generated.

    Args:
        systems: whose texts.
        prompts: one a text, empty ones for unconditional generation; none where no texts are measured.
        options: how to measure.
        generation: generation options of the user.
        cache: where samples are kept.
        batch_size: most texts at once.

    Raises:
        UserError: a label twice, a model that is not there, an option that a backend does not take, a cache that
            cannot be written, a file of samples that cannot be read.
    """

    def __init__(
        self,
        systems: Sequence[System],
        prompts: Sequence[str],
        options: EvaluationOptions,
        generation: Mapping[str, Any],
        cache: Path,
        batch_size: int,
    ) -> None:
        self.systems, self.prompts, self.options = list(systems), prompts, options
        self.generation, self.cache, self.batch_size = generation, cache, batch_size
        self.sweep = sweep_of(options.sweep)
        self._loaded: dict[str, Backend] = {}
        #: At how many points of the sweep each model generates.
        self.points: dict[str, int] = {}
        self._texts = {s.label: self._read(s.samples) for s in self.systems if s.samples is not None}
        self._check_models()

    @staticmethod
    def check(systems: Sequence[System], options: EvaluationOptions, reserved: Sequence[str] = ()) -> None:
        """Refuses labels and names that cannot be used, before anything is read or loaded that takes time.

        Args:
            systems: whose texts.
            options: how their samples are read.
            reserved: labels that are taken.

        Raises:
            UserError: a label twice, no such backend, model's folder, device or file of samples.
        """
        from aigc_text import api

        _check_labels(systems, reserved)
        for device in {(system.loading or {}).get("device") for system in systems} - {None}:
            api.loading.choose_device(device)
        for system in systems:
            if system.samples is not None:
                _source(system.samples, options).check()
            elif system.backend is None or isinstance(system.backend, str):
                if system.model is None and os.path.isfile(str(system.backend)) and ".py" not in str(system.backend):
                    hint = shell("Texts that are there already: --samples {}", Path(str(system.backend)))
                    raise OptionError(f"{system.backend} is a file, not a backend or a model's folder", hint)
                api.check_names(system.backend, system.model, (system.loading or {}).get("revision"))

    def __iter__(self) -> Iterator[Job]:
        for system in self.systems:
            if system.samples is not None:
                yield self._given(system)
                continue
            for at in self._points(self._load(system)):
                yield self._made(system, at)

    def cost(self) -> str:
        """How many texts are to be generated, in words; empty where there are no models."""
        models, points = len(self.points), sum(self.points.values())
        if not (models and self.prompts):
            return "no text to generate" if models else ""
        by = counted(models, "model") + (f" at {points} points of the sweep in all" if points > models else "")
        count = counted(points * len(self.prompts), "text")
        return f"{count} to generate ({by}), less those that are in the cache"

    def _check_models(self) -> None:
        """Loads each once, so that no option is found to be wrong after an hour of another's sampling."""
        swept = not self.sweep[0]
        for system in self.systems:
            if system.samples is None:
                backend = self._load(system)
                points = self._points(backend)
                self.points[system.label] = len(points)
                swept = swept or points is self.sweep
                for at in points:
                    cache = SampleCache(self.cache, backend, self._options(backend, at), self.prompts)
                    if self.prompts:
                        cache.check()
        if not swept:
            if not self._loaded:
                raise OptionError("a sweep needs a model, and there are texts only", "Leave --sweep out.")
            self._options(next(reversed(self._loaded.values())), self.sweep[0])  # says which options there are

    def _load(self, system: System) -> Backend:
        """Loads each model once, if all are small; of larger ones one at a time is held."""
        if system.label not in self._loaded:
            if sum(map(_memory, self._loaded.values())) > TOGETHER:
                self._loaded.clear()  # before the next is loaded, so that two are never in memory
            self._loaded[system.label] = system.load()
        return self._loaded[system.label]

    def _points(self, backend: Backend) -> list[dict[str, Any]]:
        """The sweep's points; a single one for a backend that does not take the option."""
        return self.sweep if self.sweep[0].keys() <= _known(backend) else [{}]

    def _given(self, system: System) -> Job:
        texts = self._texts[system.label]
        samples = (Completion(prompt="", text=text) for text in texts)
        about = {"samples": str(system.samples)}
        return Job(label=system.label, at={}, backend=None, about=about, total=len(texts), samples=samples)

    def _made(self, system: System, at: Mapping[str, Any]) -> Job:
        backend = self._load(system)
        options = self._options(backend, at)
        about = {
            "backend": backend.name,
            "model": backend.source,
            "revision": backend.revision,
            "precision": backend.precision,
            "options": backend.effective(options),
        }
        cache = SampleCache(self.cache, backend, options, self.prompts)
        samples = cache.samples(backend, self.batch_size) if self.prompts else iter(())
        fixed = [name for name in self.sweep[0] if name not in at]
        return Job(
            label=system.label,
            at=at,
            backend=backend,
            about=about,
            total=len(self.prompts),
            samples=samples,
            notes=[f"backend {backend.name!r} does not take {name}, so it is one point" for name in fixed],
        )

    def _read(self, path: str | Path) -> list[str]:
        """The texts of a file of samples, empty ones too: of as many as are asked for the first, if each belongs to a
        prompt, or else evenly taken ones."""
        options = self.options
        texts = [str(example) for example in _source(path, options)]
        return texts[: len(self.prompts)] if any(self.prompts) else evenly(texts, options.num_samples)

    def _options(self, backend: Backend, at: Mapping[str, Any]) -> GenerationOptions:
        """The options of a row: the sweep's over the user's over the protocol's, as far as the backend takes these."""
        for name in NOT_FOR_SAMPLES:
            if name in self.generation:
                raise OptionError(f"{name} is not an option of a sample", "Number and seed: --num-samples and --seed.")
        given = {**self.generation, **at}
        drawn = given.get("do_sample") is not False and (given.get("num_beams") or 1) == 1
        pure = PURE if drawn and self.options.sampling == "pure" else {}
        own = {**pure, "seed": self.options.seed}
        own = {k: v for k, v in own.items() if k in _known(backend)}
        return backend.resolve(None, {**own, **given})


def _check_labels(systems: Sequence[System], reserved: Sequence[str]) -> None:
    if not systems:
        raise OptionError("there is nothing to evaluate", "Name a backend: --backend gpt2, or --samples FILE")
    seen, cure = set(reserved), "Name each: --compare first=runs/a second=runs/b"
    for system in systems:
        if system.label in seen:
            raise OptionError(f"the label {system.label!r} is used twice", cure)
        if len(system.label.splitlines()) > 1:  # it would break a table
            raise OptionError(f"the label {system.label!r} has more than one line", cure)
        seen.add(system.label)


def _source(samples: str | Path, options: EvaluationOptions) -> Source:
    return Source(str(samples), text_column=options.text_column, sample_by=options.sample_by, blank=True)


def counted(number: int, what: str) -> str:
    """`1 text`, `1,000 texts`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _memory(backend: Backend) -> int:
    """Bytes of a model's parameters; of one that does not say, so many that no other is held beside it."""
    size = backend.memory()
    return TOGETHER + 1 if size is None else size


def _known(backend: Backend) -> set[str]:
    """The names of the options that it takes."""
    return set(backend.accepted())
