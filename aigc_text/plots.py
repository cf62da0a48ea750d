"""Pictures of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def curves(metrics: Path, picture: Path) -> None:
    """Draws the losses of a `metrics.jsonl` over the updates, validation as points, the learning rate below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    series = _series(metrics)
    losses = {k: v for k, v in series.items() if k.endswith(("loss", "bits_per_byte"))}
    rates = {k: v for k, v in series.items() if k == "learning_rate"}
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, height_ratios=(4, 1), layout="constrained")
    for name, (steps, values) in losses.items():
        marker = "o-" if name.startswith("eval_") else "-"
        top.plot(steps, values, marker, label=name, markersize=3, linewidth=1, alpha=0.6 if marker == "-" else 1)
    for steps, values in rates.values():
        bottom.plot(steps, values, color="gray", linewidth=1)
    top.set_ylabel("nats a token, bits a byte")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("update")
    if losses:
        top.legend(frameon=False)
    top.grid(alpha=0.3)
    _save(figure, picture)


def seeds(metrics: Sequence[Path], picture: Path) -> None:
    """Draws the validation loss of runs that differ in their seed: each run, their mean, one standard deviation."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    runs = [series["eval_loss"] for m in metrics if "eval_loss" in (series := _series(m))]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for steps, values in runs:
        axes.plot(steps, values, color="tab:blue", linewidth=0.7, alpha=0.5)
    common = sorted(set.intersection(*(set(steps) for steps, _ in runs))) if runs else []
    if len(runs) > 1 and common:
        table = np.array([[values[steps.index(s)] for s in common] for steps, values in runs])  # (runs, validations)
        mean, sd = table.mean(0), table.std(0, ddof=1)
        axes.plot(common, mean, "o-", color="tab:blue", markersize=3, label=f"mean of {len(runs)} seeds")
        axes.fill_between(common, mean - sd, mean + sd, alpha=0.25, linewidth=0, label="± standard deviation")
        axes.legend(frameon=False)
    axes.set_xlabel("update")
    axes.set_ylabel("validation loss, nats a token")
    axes.grid(alpha=0.3)
    _save(figure, picture)


def _save(figure: Any, picture: Path) -> None:
    from matplotlib import pyplot as plt

    temporary = picture.with_name(f".{picture.name}.tmp")
    figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)
    temporary.replace(picture)


def _series(metrics: Path) -> dict[str, tuple[list[int], list[float]]]:
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for name, value in record.items():
            if name != "step" and isinstance(value, (int, float)):
                steps, values = found.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    return found
