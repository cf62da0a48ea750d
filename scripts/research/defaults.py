"""Compares the default learning rate of each family with others, from scratch and on the teaching data.

Of `rnn`, `transformer`, `vae` and `gpt2` it measures bits per byte of held-out texts; of `gan`, with half and twice the
default, BLEU against held-out captions and Self-BLEU of 1,000 drawn ones.

    python scripts/research/defaults.py --output runs/defaults
    python scripts/research/defaults.py --output runs/defaults --part 1/2 &      # two processes share the work
    python scripts/research/defaults.py --output runs/defaults --part 2/2
    python scripts/research/defaults.py --output runs/defaults --family gan
    python scripts/research/defaults.py --output runs/defaults --table

Each run trains the family's default model with its default batches and schedule. A run's result is a file of its own,
so an interrupted command continues where it stopped. The table says how far the default is from the best learning rate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from aigc_text import from_scratch, train
from aigc_text.backends.builtin import built_in
from aigc_text.data.sources import Source, texts
from aigc_text.metrics.bleu import Bleu
from aigc_text.metrics.self_bleu import SelfBleu
from aigc_text.utils.atomic import whole

FAMILIES = ("rnn", "transformer", "vae", "gpt2")
DATA = {"captions": "line", "shakespeare": None, "songci-small": None}  # what a text is where the family does not say
RATES = (3e-3, 1e-3, 1e-2, 3e-4, 1e-4)  # the likeliest first
GAN_FACTORS = (1.0, 0.5, 2.0)  # of its default learning rate
SAMPLES = 1000  # of a gan
NEAR = 1.05  # the default may have this many times the bits per byte of the best


class Run(NamedTuple):
    family: str
    data: str
    rate: float

    def path(self, folder: Path) -> Path:
        return folder / f"{self.family}-{self.data}-{self.rate:g}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder of results")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--family", choices=(*FAMILIES, "gan"), action="append", help="only this one; may be repeated")
    parser.add_argument("--data", choices=DATA, action="append", help="only this one; may be repeated")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="the I-th of N shares of the runs")
    parser.add_argument("--table", action="store_true", help="print the table of what there is, and train nothing")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, given.part.split("/"))
    runs = [*planned(given.family or FAMILIES, given.data or list(DATA))]
    for run in [] if given.table else runs[part - 1 :: parts]:
        if not run.path(given.output).exists():
            measured = measure(run, given.steps)
            with whole(run.path(given.output)) as temporary:
                temporary.write_text(json.dumps(measured) + "\n", encoding="utf-8")
            print(json.dumps(measured), file=sys.stderr, flush=True)
    print("\n".join([*table(given.output, given.steps), "", *gan_table(given.output, given.steps)]))


def planned(families: list[str] | tuple[str, ...], data: list[str]) -> Iterator[Run]:
    """All rates of the families; the default is among them."""
    for rate in RATES:
        yield from (Run(family, name, rate) for name in data for family in families if family != "gan")
    if "gan" in families:
        yield from (Run("gan", "captions", rate) for rate in gan_rates())


def gan_rates() -> list[float]:
    """The default learning rate of a GAN, half and twice of it."""
    return [factor * built_in()["gan"].scratch["learning_rate"] for factor in GAN_FACTORS]


def measure(run: Run, steps: int) -> dict[str, Any]:
    """Trains a model and measures it."""
    cls = built_in()[run.family]
    source, sample_by = f"teaching:{run.data}", DATA[run.data]
    chosen = {"sample_by": sample_by} if sample_by else {}
    backend = from_scratch(run.family, texts(Source(source, sample_by=sample_by or cls.sample_by)))
    began, logs = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        every = steps // 4 if run.family == "gan" else steps
        how: dict[str, Any] = {"max_steps": steps, "eval_every": every, "save_every": every, "precision": "fp32"}
        for progress in train(backend, source, Path(folder) / "run", learning_rate=run.rate, **how, **chosen):
            logs = {**logs, **progress.logs}
    return {
        **run._asdict(),
        "steps": steps,
        "default": cls.scratch["learning_rate"],
        "batch_size": cls.scratch["batch_size"],
        "parameters": sum(p.numel() for p in backend.model.parameters()),
        **(drawn(backend) if run.family == "gan" else {"bits_per_byte": logs["eval_bits_per_byte"]}),
        "seconds": round(time.monotonic() - began),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
    }


def drawn(backend: Any) -> dict[str, float]:
    """Figures of sentences that a GAN draws at temperature 1, beside as many held-out captions."""
    how = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 63, "batch_size": 128}
    texts = [c.text for c in backend.generate([""], num_return_sequences=SAMPLES, do_sample=True, seed=0, **how)]
    references = list(Source("teaching:captions@test", sample_by="line"))[:SAMPLES]
    figures = {**Bleu().compute(predictions=texts, references=references), **SelfBleu().compute(predictions=texts)}
    return {name: figures[name] for name in ("bleu-4", "self-bleu-4")}


def gan_table(folder: Path, steps: int) -> Iterator[str]:
    yield "| gan, captions: learning rate | BLEU-4 | Self-BLEU-4 |"
    yield "|---|---|---|"
    default = gan_rates()[0]
    for rate in sorted(gan_rates()):
        path = Run("gan", "captions", rate).path(folder)
        if path.exists() and (result := json.loads(path.read_text(encoding="utf-8")))["steps"] == steps:
            name = f"{rate:g}" + (", the default" if rate == default else "")
            yield f"| {name} | {result['bleu-4']:.3f} | {result['self-bleu-4']:.3f} |"


def table(folder: Path, steps: int) -> Iterator[str]:
    """A row for each family and data set, a column for each rate."""
    rates = sorted(RATES)
    yield f"| family | data | {' | '.join(f'{rate:g}' for rate in rates)} | default | above the best |"
    yield "|---" * (4 + len(rates)) + "|"
    for family in FAMILIES:
        default = built_in()[family].scratch["learning_rate"]
        for data in DATA:
            found = dict(results(folder, family, data, steps))
            if not found:
                continue
            best = min(found.values())
            cells = [f"{found[rate]:.3f}" if rate in found else "–" for rate in rates]
            apart = found[default] / best - 1 if set(rates) <= set(found) else None
            verdict = (
                "not all measured" if apart is None else f"{apart:.1%}" + ("" if 1 + apart <= NEAR else ", missed")
            )
            yield f"| {family} | {data} | {' | '.join(cells)} | {default:g} | {verdict} |"


def results(folder: Path, family: str, data: str, steps: int) -> Iterator[tuple[float, float]]:
    for rate in RATES:
        path = Run(family, data, rate).path(folder)
        if path.exists() and (result := json.loads(path.read_text(encoding="utf-8")))["steps"] == steps:
            yield rate, result["bits_per_byte"]


if __name__ == "__main__":
    main()
