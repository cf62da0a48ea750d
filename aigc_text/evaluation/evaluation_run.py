"""`evaluate`: several models, one protocol, one table, with the real data on top."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from aigc_text.data.sources import Pair
from aigc_text.errors import BackendError, DataError, MetricError, OptionError, shell
from aigc_text.outputs import Completion
from aigc_text.utils import atomic

from . import frontier, metric_groups
from .candidates import Job, System, Systems, counted
from .comparability import is_comparable, sample_notes, unknown_note
from .metric_groups import Texts, Yardstick, evenly
from .options import EvaluationOptions
from .output_dir import SAMPLES, claim, make_samples
from .results import Report, Row, file_name
from .sample_cache import default_folder, line_of
from .text_data import Data, called, read_examples, texts_of

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend


REAL = "real data"
#: One model or several by their labels.
Models = Union[str, "Backend", Sequence[System], Mapping[str, Union[str, "Backend"]]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One report of an evaluation under way.

    Attributes:
        doing: what is being done.
        done: how much of it.
        total: of how much.
        row: with the last report of a row, its figures.
        report: with the very last report, the whole.
    """

    doing: str
    done: int = 0
    total: int = 0
    row: Row | None = None
    report: Report | None = None


def evaluate(
    systems: Models,
    data: Data,
    *,
    train: Data | None = None,
    generation: Mapping[str, Any] | None = None,
    options: EvaluationOptions | None = None,
    output: str | Path | None = None,
    cache: str | Path | None = None,
    batch_size: int = 64,
    overwrite: bool = False,
    **overrides: Any,
) -> Report:
    """Measures models against real texts and against each other.

    Args:
        systems: a loaded backend or the name of one; several by their labels; or `System`s.
        data: the real texts: a file, folder, glob or dataset, or a list of texts.
        train: what the models were trained on, likewise. Some of it makes the row of real data then.
        generation: options of generation, such as `{"max_new_tokens": 40}`.
        options: how to measure; `overrides` name single fields of `EvaluationOptions`.
        output: a folder for the report, its picture and the samples.
        cache: where samples are kept; by default `$AIGC_TEXT_CACHE` or the user's cache folder.
        batch_size: most texts to generate at once; changes nothing where `Completion.exact` is true.
        overwrite: replace a finished report in the folder.

    Returns:
        The table, with the reasons for what is not in it.

    Raises:
        UserError: anything that can be known before the first text is generated.
    """
    values = {} if options is None else options.given()
    chosen: EvaluationOptions = EvaluationOptions.parse({**values, **overrides})
    with Evaluation(
        _systems(systems), data, train, dict(generation or {}), chosen, output, cache, batch_size, overwrite
    ) as evaluation:
        for stage in evaluation.stages():
            if stage.report is not None:
                return stage.report
    raise AssertionError("an evaluation ends with its report")


def _systems(given: Models) -> list[System]:
    if isinstance(given, str):
        return [System(label=given, backend=given)]
    if isinstance(given, Mapping):
        return [System(label=label, backend=backend) for label, backend in given.items()]
    if isinstance(given, Sequence):
        return [*given]
    return [System(label=given.name or "model", backend=given)]


class Evaluation:
    """One evaluation: checks everything that can be checked when it is made, and then works in `stages`.

    The arguments are those of `evaluate`. The report's folder is claimed until `close`, or the end of a `with` block.
    """

    def __init__(
        self,
        systems: Sequence[System],
        data: Data,
        train: Data | None,
        generation: dict[str, Any],
        options: EvaluationOptions,
        output: str | Path | None = None,
        cache: str | Path | None = None,
        batch_size: int = 64,
        overwrite: bool = False,
    ) -> None:
        self.options, self.wanted = options, options.groups()
        self.generation, self.data = dict(generation), data
        self.output, self._lock = claim(output, overwrite)
        try:
            Systems.check(systems, options, reserved=[REAL])
            self._prepare(systems, data, train, cache, batch_size)
        except BaseException:
            self.close()
            raise

    def _prepare(
        self,
        systems: Sequence[System],
        data: Data,
        train: Data | None,
        cache: str | Path | None,
        batch_size: int,
    ) -> None:
        prompts, self.yardstick = self._read(data, train)
        #: Whether anything that is asked for is measured on generated texts.
        self.of_texts = any(metric_groups.GROUPS[name].of_texts(self.yardstick) for name in self.wanted)
        if not self.of_texts:
            prompts = []
            self._check_unswept()
        self._check_measures()
        folder = Path(os.path.expanduser(cache)).absolute() if cache is not None else default_folder()
        self.systems = Systems(systems, prompts, self.options, self.generation, folder, batch_size)
        if self.output is not None:
            make_samples(self.output, [system.label for system in systems])
        self._likelihoods: dict[str, Mapping[str, float | str] | str] = {}
        self._unknown: dict[str, list[str]] = {}

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the claim on the folder up; nothing stays of one in which nothing came to be."""
        if self._lock is not None and self.output is not None:
            with contextlib.suppress(OSError):  # there is something in it
                (self.output / SAMPLES).rmdir()
            self._lock.__exit__()
            self._lock = None

    def _read(self, data: Data, train: Data | None) -> tuple[list[str], Yardstick]:
        """The prompts of the texts to generate, and what they are measured against."""
        examples = list(read_examples(data, self.options))
        if not examples:
            raise DataError("the data hold no text", "Give at least one text.")
        pairs = [e for e in examples if isinstance(e, Pair)]
        yardstick = Yardstick(
            references=texts_of(examples),
            train=None if train is None else texts_of(read_examples(train, self.options)),
            completions=[p.completion for p in pairs] or None,
            tokenize=self.options.tokenize,
            reference_model=self.options.reference_model,
            feature_model=self.options.feature_model,
        )
        return [p.prompt for p in pairs][: self.options.num_samples] or [""] * self.options.num_samples, yardstick

    def _check_measures(self) -> None:
        """Loads what measures, so that nothing is found to be missing after an hour of sampling."""
        if "reference-ppl" in self.wanted:
            backend = self.yardstick.model(self.options.reference_model)
            if not backend.capabilities.likelihood:
                cause = f"reference_model {self.options.reference_model!r}: backend {backend.name!r} has no likelihood"
                raise OptionError(cause, "See: aigc-text backends")
        if "mauve" in self.wanted:
            self.yardstick.model(self.options.feature_model)
        if "sacrebleu" in self.wanted and self.options.metrics is not None:  # else the cell says what is missing
            from aigc_text.metrics.sacrebleu import SacreBleu

            SacreBleu().compute(predictions=["text"], references=["text"])  # its package is optional

    def _check_unswept(self) -> None:
        if self.options.sweep is not None:
            sweep, metrics = self.options.sweep, ",".join(self.wanted)
            what = shell("--sweep {} varies generated texts, and --metrics {} needs none", sweep, metrics)
            raise OptionError(what, "Leave --sweep out, or ask for metrics of texts too, such as --metrics bleu")

    def plan(self) -> str:
        """What the evaluation is going to cost, in words."""
        models = counted(len(self.systems.points), "model")
        parts = [self.systems.cost()]
        if self.systems.points and "likelihood" in self.wanted and self.yardstick.completions is None:
            parts.append(f"{counted(len(self.yardstick.references), 'real text')} to score by {models}")
        if "reference-ppl" in self.wanted:
            parts.append(f"every text to score by {self.options.reference_model}")
        return "; ".join(filter(None, parts)) or "given texts to measure"

    def stages(self) -> Iterator[Stage]:
        """Does the work: reports while texts are generated, a row when its figures are found, at the end the whole."""
        rows = [self._real()]
        yield Stage(doing=REAL, row=rows[0])
        for job in self.systems:
            name = Row(label=job.label, at=job.at).name
            samples: list[Completion] = []
            for sample in job.samples:
                samples.append(sample)
                if job.backend is not None:
                    yield Stage(doing=f"sampling {name}", done=len(samples), total=job.total)
            if self.of_texts:
                self._keep(name, samples)
            yield Stage(doing=f"measuring {name}")
            rows.append(self._row(job, samples))
            self._write(self._report(rows, complete=False))
            yield Stage(doing=name, row=rows[-1])
        report = self._report(rows)
        self._write(report)
        self._draw(rows)
        yield Stage(doing="report", report=report)

    def _real(self) -> Row:
        source = self.yardstick.references if self.yardstick.train is None else self.yardstick.train
        places = evenly(range(len(source)), self.options.num_samples)
        own = places if self.yardstick.train is None else None
        texts = Texts([source[n] for n in places], own, real=True, likelihood="the data have no model")
        found, missing = metric_groups.measure(self.yardstick, texts, self.wanted)
        notes = list(found.notes)
        if len(texts.texts) < self.options.num_samples:
            notes.append(f"there are {len(texts.texts)} real texts; figures over other numbers of texts differ by that")
        return Row(
            label=REAL, samples=len(places), values=found.values, errors=found.errors, missing=missing, notes=notes
        )

    def _row(self, job: Job, samples: Sequence[Completion]) -> Row:
        likelihood = self._likelihood(job) if "likelihood" in self.wanted else ""
        texts = Texts([s.text for s in samples], likelihood=likelihood)
        found, missing = metric_groups.measure(self.yardstick, texts, self.wanted)
        return Row(
            label=job.label,
            at=job.at,
            samples=len(samples),
            values=found.values,
            errors=found.errors,
            missing=missing,
            notes=[
                *job.notes,
                *found.notes,
                *(sample_notes(samples, self.yardstick, self.options.num_samples) if self.of_texts else []),
                *self._unknown.get(job.label, []),
            ],
            about=job.about,
            comparable=is_comparable(samples, self.yardstick),
        )

    def _likelihood(self, job: Job) -> Mapping[str, float | str] | str:
        """The model's likelihood of the data, which no sampling option changes; or why there is none."""
        if job.label not in self._likelihoods:
            found = self._likelihoods[job.label] = self._find_likelihood(job.backend)
            self._unknown[job.label] = (
                [] if isinstance(found, str) else unknown_note(job.backend, self.yardstick.references)
            )
        return self._likelihoods[job.label]

    def _find_likelihood(self, backend: Backend | None) -> Mapping[str, float | str] | str:
        from aigc_text.evaluation.model_metrics.likelihood import Likelihood

        if backend is None:
            return "these texts come without a model"
        if not backend.capabilities.likelihood:
            return f"backend {backend.name!r} has no likelihood"
        if self.yardstick.completions is not None:
            return "likelihood of completions after their prompts is not measured"
        try:
            found: Mapping[str, float | str] = Likelihood().compute(
                predictions=self.yardstick.references, model=backend
            )
        except (MetricError, BackendError) as error:
            return error.message
        return found

    # What is kept

    def _keep(self, name: str, samples: Sequence[Completion]) -> None:
        if self.output is not None:
            with atomic.whole(self.output / SAMPLES / f"{file_name(name)}.jsonl") as temporary:
                temporary.write_text("".join(line_of(s) for s in samples), encoding="utf-8")

    def _report(self, rows: Sequence[Row], complete: bool = True) -> Report:
        from aigc_text._version import __version__

        options = self.options
        protocol = {
            "data": called(self.data),
            "references": len(self.yardstick.references),
            "train": None if self.yardstick.train is None else len(self.yardstick.train),
            "samples": len(self.systems.prompts),
            "seed": options.seed,
            "tokenize": options.tokenize,
            "sampling": options.sampling,
            "generation": self.generation,
            "metrics": self.wanted,
            "quality": options.quality,
            "diversity": options.diversity,
            "feature_model": options.feature_model if "mauve" in self.wanted else "",
            "reference_model": options.reference_model if "reference-ppl" in self.wanted else "",
            "version": __version__,
            "date": datetime.date.today().isoformat(),
            "complete": complete,
        }
        return Report(
            protocol=protocol, rows=rows, findings=frontier.findings(rows, options.quality, options.diversity)
        )

    def _write(self, report: Report) -> None:
        if self.output is not None:
            report.write(self.output)

    def _draw(self, rows: Sequence[Row]) -> None:
        if self.output is not None and any(
            {self.options.quality, self.options.diversity} <= set(row.values) for row in rows[1:]
        ):
            from . import frontier_plot

            frontier_plot.frontier(rows, self.options.quality, self.options.diversity, self.output / "frontier.png")
