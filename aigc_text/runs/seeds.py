"""The same training over several seeds: a run of its own for each, then mean and standard deviation."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Progress
from aigc_text.utils import atomic

from .run_data import RunData
from .run_dir import SeedsFolder, delivered_figures
from .training_run import train

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend


def train_seeds(
    make: Callable[[int], Backend],
    data: str | Path | Sequence[str | Path] | RunData,
    output: str | Path | SeedsFolder,
    seeds: int,
    *,
    options: TrainingOptions | None = None,
    resume: bool = False,
    **more: Any,
) -> Iterator[Progress]:
    """Trains the same thing once a seed, into `output/seed-N`, and writes mean and standard deviation.

    `output/seeds.json` holds each figure's values by seed, their mean and their sample standard deviation (n - 1);
    `output/curves.png` shows the validations of all runs.

    Args:
        make: a fresh backend for a seed.
        output: the folder of all runs, or a `SeedsFolder` that holds it already.
        seeds: how many, counted from the seed of the options.
        options: as for `train`, as is `more`.
        resume: finished runs are taken as they are, an unfinished one goes on.

    Yields:
        The reports of all runs; their steps are counted through.

    Raises:
        TrainingError: another run is writing to the folder, or it is that of a single run.
    """
    folder = output if isinstance(output, SeedsFolder) else SeedsFolder(output)
    try:
        yield from _trained(make, data, folder.path, seeds, options or TrainingOptions(), resume, more)
    finally:
        folder.close()


def _trained(
    make: Callable[[int], Backend],
    data: str | Path | Sequence[str | Path] | RunData,
    output: Path,
    seeds: int,
    base: TrainingOptions,
    resume: bool,
    more: dict[str, Any],
) -> Iterator[Progress]:
    from aigc_text.plots import training_curves

    first, done, folders = int(more.pop("seed", base.seed)), 0, []
    begun = [seed for seed in range(first, first + seeds) if (output / f"seed-{seed}").exists()]
    for seed in range(first, first + seeds):
        folder = output / f"seed-{seed}"
        total, old = 0, resume and (seed in begun or not begun)  # that the later ones are new goes without saying
        for progress in train(make(seed), data, folder, options=base, resume=old, seed=seed, **more):
            total = progress.total
            message = f"seed {seed}: {progress.message}" if progress.message else ""
            yield dataclasses.replace(progress, step=done + progress.step, total=seeds * total, message=message)
        folders.append(folder)
        done += total
    if not distributed.is_main():
        return
    summary = summarise(folders)
    atomic.write_text(output / "seeds.json", json.dumps(summary, indent=1) + "\n")
    training_curves.seeds([f / "metrics.jsonl" for f in folders], output / "curves.png")
    words = "; ".join(f"{k} {v['mean']:.4f} ± {v['sd']:.4f}" for k, v in summary.items() if k.startswith("eval_"))
    yield Progress(step=done, total=done, message=f"{seeds} seeds, mean ± standard deviation: {words}")


def summarise(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation (n - 1) over runs of each figure that goes with the delivered weights."""
    runs = [delivered_figures(f / "metrics.jsonl", _options(f)) for f in folders]
    found = {}
    for name in runs[0]:
        if name in ("step", "learning_rate"):
            continue
        values = [run[name] for run in runs if name in run]
        if len(values) == len(runs):
            sd = statistics.stdev(values) if len(values) > 1 else 0.0
            found[name] = {"mean": statistics.fmean(values), "sd": sd, "values": values}
    return found


def _options(folder: Path) -> TrainingOptions:
    """The options of a run that all backends share."""
    given = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    found: TrainingOptions = TrainingOptions.parse({k: v for k, v in given.items() if k in TrainingOptions.fields()})
    return found
