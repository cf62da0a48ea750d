"""A GAN against maximum likelihood on COCO captions: quality and diversity at every temperature, three seeds.

    python scripts/research/gan_captions.py --data coco_captions --output runs/captions

`--data` has train.txt and test.txt of Texygen. Words are divided as for BLEU. A generator is warmed up by likelihood
once (`recipes/gan_coco.yaml`); from that checkpoint the adversarial phase runs with each seed
(`recipes/gan_coco_adversarial.yaml`), and the likelihood model itself is sampled with as many seeds. Of each, 10,000
sentences a temperature are held against the 10,000 of test.txt. What is done is not done again.

results.json, table.md and frontier.png are written. The GAN wins at a BLEU-5 where its Self-BLEU-5 is lower by .01 and
by more than one standard deviation of either.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parents[1] / "recipes"
HELD_OUT = 1000  # last lines of train.txt
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
LEVELS = (0.20, 0.23, 0.26)  # of BLEU-5
MARGIN = 0.01
ORDERS = (2, 3, 4, 5)
LENGTH = 39  # most words of a sentence, its end counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--likelihood-steps", type=int, default=1000, help="of the warm-up")
    parser.add_argument("--adversarial-steps", type=int, help="instead of the recipe's")
    parser.add_argument(
        "-o", "--option", action="append", default=[], metavar="NAME=VALUE", help="of the GAN's training"
    )
    given = parser.parse_args()
    folder: Path = given.output
    folder.mkdir(parents=True, exist_ok=True)
    prepare(given.data, folder)
    warm = folder / "warm"
    more = ["--best", "loss", "-o", "watch_samples=0", "-o", f"likelihood_steps={given.likelihood_steps}"]
    more += ["--max-steps", str(given.likelihood_steps)]
    trained(folder, warm, ["--config", str(RECIPES / "gan_coco.yaml"), *more])
    recipe, own = str(RECIPES / "gan_coco_adversarial.yaml"), [w for o in given.option for w in ("-o", o)]
    if given.adversarial_steps is not None:
        own += ["--max-steps", str(given.adversarial_steps)]
    for seed in range(given.seeds):
        words = ["--config", recipe, "--model", str(warm), "--seed", str(seed), *own]
        trained(folder, folder / f"gan-{seed}", words)
    results = Results(folder, given.samples)
    results.real()
    for seed in range(given.seeds):
        results.measure("MLE", warm, seed)
        results.measure("GAN", folder / f"gan-{seed}", seed)
    text = written(results.found, given.seeds)
    (folder / "table.md").write_text(text, encoding="utf-8")
    picture(results.found, folder / "frontier.png")
    print(text)


def prepare(data: Path, folder: Path) -> None:
    """fit.txt, held-out.txt and test.txt: a sentence a line, its words apart."""
    from aigc_text.metrics.tokenization import all_words

    if (folder / "test.txt").exists():
        return
    lines = {
        name: [" ".join(words) for words in all_words((data / f"{name}.txt").read_text("utf-8").splitlines(), "words")]
        for name in ("train", "test")
    }
    parts = {"fit": lines["train"][:-HELD_OUT], "held-out": lines["train"][-HELD_OUT:], "test": lines["test"]}
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")


def trained(folder: Path, run: Path, words: Sequence[str]) -> None:
    """Trains, or goes on where that was stopped."""
    if (run / "config.json").exists():
        return
    files = ["--data", str(folder / "fit.txt"), "--validation", str(folder / "held-out.txt"), "--output", str(run)]
    command = ["train", *words, *files, *(["--resume"] if (run / "options.json").exists() else [])]
    print("aigc-text", *command, flush=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "aigc_text", *command], check=True)
    print(f"{run.name}: {time.perf_counter() - started:.0f} s", flush=True)


class Results:
    """Figures in results.json, each measured once."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.folder, self.samples, self.file = folder, samples, folder / "results.json"
        self.found: list[dict[str, Any]] = json.loads(self.file.read_text("utf-8")) if self.file.exists() else []
        self.test = (folder / "test.txt").read_text("utf-8").splitlines()
        self.fit = (folder / "fit.txt").read_text("utf-8").splitlines()

    def real(self) -> None:
        """The training sentences themselves, as many as are drawn of the models."""
        if not self._has(what="real"):
            self._add({"what": "real", **self.figures(self.fit[: self.samples], against_fit=False)})

    def measure(self, what: str, run: Path, seed: int) -> None:
        from aigc_text import load

        wanted = [t for t in TEMPERATURES if not self._has(what=what, seed=seed, temperature=t)]
        if not wanted:
            return
        backend: Any = load(str(run))
        nll = {name: nats(backend, (self.folder / f"{name}.txt").read_text("utf-8").splitlines()) for name in SETS}
        for temperature in wanted:
            made = drawn(backend, self.samples, seed, temperature)
            own = {"nll": nll} if temperature == 1 else {}
            row = {"what": what, "seed": seed, "temperature": temperature, **self.figures(made), **own}
            self._add(row)
            shown = {k: round(v, 4) for k, v in row.items() if k in ("bleu-5", "self-bleu-5", "temperature")}
            print(what, seed, shown, flush=True)

    def figures(self, texts: Sequence[str], against_fit: bool = True) -> dict[str, float]:
        from aigc_text.metrics.bleu import Bleu
        from aigc_text.metrics.self_bleu import SelfBleu

        how = {"max_order": 5, "tokenize": "split"}
        known = set(self.fit)
        return {
            **Bleu().compute(predictions=texts, references=self.test, **how),
            **SelfBleu().compute(predictions=texts, **how),
            "uniqueness": len(set(texts)) / len(texts),
            **({"novelty": sum(t not in known for t in texts) / len(texts)} if against_fit else {}),
        }

    def _has(self, **what: Any) -> bool:
        return any(all(row.get(k) == v for k, v in what.items()) for row in self.found)

    def _add(self, row: dict[str, Any]) -> None:
        self.found.append(row)
        self.file.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")


SETS = ("test", "held-out")


def nats(backend: Any, texts: Iterable[str]) -> float:
    """Mean negative log-likelihood a token, the end counted, `<unk>` as any other word."""
    from aigc_text.scoring.totals import total

    found = total(backend.score(texts, batch_size=64))
    return found.nll / found.tokens


def drawn(backend: Any, count: int, seed: int, temperature: float) -> list[str]:
    """Sentences through the model's own rollout, which is quicker than `generate` with its seed for each text."""
    import torch

    torch.manual_seed(seed)
    found: list[str] = []
    with torch.inference_mode():
        while len(found) < count:
            made = backend.model.rollout(min(500, count - len(found)), LENGTH, temperature=temperature)
            rows = [ids[alive].tolist() for ids, alive in zip(made.ids, made.alive, strict=True)]
            found += backend.tokenizer.batch_decode(rows, skip_special_tokens=True)
    return found


# What is shown


def rows_of(found: Sequence[dict[str, Any]], what: str, seed: int) -> list[dict[str, Any]]:
    return sorted(
        (r for r in found if r["what"] == what and r.get("seed") == seed), key=lambda r: float(r["temperature"])
    )


def diversity_at(rows: Sequence[dict[str, Any]], level: float) -> float:
    """Self-BLEU-5 at a BLEU-5, in a line between the two temperatures around it; not a number outside of them."""
    points = [(r["bleu-5"], r["self-bleu-5"]) for r in rows]
    for (x, y), (other_x, other_y) in zip(points, points[1:], strict=False):
        if min(x, other_x) <= level <= max(x, other_x) and x != other_x:
            return float(y + (other_y - y) * (level - x) / (other_x - x))
    return math.nan


def spread(values: Sequence[float], digits: int = 3) -> str:
    if any(math.isnan(v) for v in values):
        return "not reached"
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {sd:.{digits}f}"


def written(found: Sequence[dict[str, Any]], seeds: int) -> str:
    names = [*(f"bleu-{n}" for n in ORDERS), *(f"self-bleu-{n}" for n in ORDERS), "uniqueness", "novelty"]
    lines = ["| | " + " | ".join(names) + " | NLL test | NLL held out |", "|---" * (len(names) + 3) + "|"]
    real = next(r for r in found if r["what"] == "real")
    lines.append("| real | " + " | ".join(f"{real[n]:.3f}" if n in real else "" for n in names) + " | | |")
    for what in ("MLE", "GAN"):
        rows = [r for s in range(seeds) for r in rows_of(found, what, s) if r["temperature"] == 1]
        cells = [spread([r[n] for r in rows]) for n in names] + [spread([r["nll"][s] for r in rows]) for s in SETS]
        lines.append(f"| {what}, temperature 1 | " + " | ".join(cells) + " |")
    lines += ["", "| BLEU-5 | Self-BLEU-5, MLE | Self-BLEU-5, GAN | |", "|---|---|---|---|"]
    for level in LEVELS:
        both = [[diversity_at(rows_of(found, what, s), level) for s in range(seeds)] for what in ("MLE", "GAN")]
        lines.append(f"| {level:.2f} | {spread(both[0])} | {spread(both[1])} | {verdict(*both)} |")
    return "\n".join(lines) + "\n"


def verdict(mle: Sequence[float], gan: Sequence[float]) -> str:
    """Who wins by `MARGIN` and by one standard deviation of either; lower is better."""
    if any(math.isnan(v) for v in (*mle, *gan)):
        return "not comparable"
    less = statistics.fmean(mle) - statistics.fmean(gan)
    sd = max(statistics.stdev(v) if len(v) > 1 else 0.0 for v in (mle, gan))
    if abs(less) < MARGIN or abs(less) <= sd:
        return "no difference"
    return "GAN wins" if less > 0 else "MLE wins"


def picture(found: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for what, color in (("MLE", "#0072B2"), ("GAN", "#D55E00")):
        for seed in sorted({r["seed"] for r in found if r["what"] == what}):
            rows = rows_of(found, what, seed)
            label = what if seed == 0 else None
            xs, ys = [r["self-bleu-5"] for r in rows], [r["bleu-5"] for r in rows]
            axes.plot(xs, ys, "o-", color=color, label=label, markersize=3, linewidth=1, alpha=0.8)
            if seed == 0:
                for r in rows:
                    place = (r["self-bleu-5"], r["bleu-5"])
                    offset = (4, -9) if what == "MLE" else (-14, 5)
                    axes.annotate(
                        f"{r['temperature']:g}",
                        place,
                        xytext=offset,
                        textcoords="offset points",
                        fontsize=7,
                        color=color,
                    )
    real = next(r for r in found if r["what"] == "real")
    axes.plot(real["self-bleu-5"], real["bleu-5"], "*", color="black", markersize=13, label="training sentences")
    axes.set_xlabel("Self-BLEU-5 (lower is more diverse)")
    axes.set_ylabel("BLEU-5 against the test set (higher is better)")
    axes.invert_xaxis()
    axes.set_title("better is up and to the right; numbers are temperatures", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
