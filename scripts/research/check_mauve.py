"""Our MAUVE beside that of the package mauve-text: `check_mauve.py REFERENCES SAMPLES …`.

Each file holds a text a line. Both implementations get the same features, of the bundled prose model, and cluster them
anew: ours five times, theirs for each of ten seeds. The references are also compared with their own other half, and
with noise. Fails if histograms give other figures, or if the means differ by more than their errors explain.

Needs the package, which is no dependency: pip install mauve-text
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import time
from pathlib import Path

import numpy as np

from aigc_text.evaluation.model_metrics.mauve import RUNS, compare, features, of_counts
from aigc_text.evaluation.model_metrics.reference_model import loaded

SEEDS = 10
FEATURE_MODEL = "bundled:gpt2-tales"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("samples", type=Path, nargs="*")
    parser.add_argument("--texts", type=int, default=2000, help="of each side")
    asked = parser.parse_args()
    try:
        package = importlib.import_module("mauve.compute_mauve")
    except ImportError as error:
        print(f"the package is missing ({error}): pip install mauve-text", file=sys.stderr)
        return 2
    worst = max(difference_of_histograms(package, seed) for seed in range(20))
    print(f"the same 20 pairs of histograms: figures differ by {worst:.1e} at most\n")
    print("| samples | ours | mauve-text | ours, smoothed | mauve-text | frontier integral | mauve-text | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    agree = worst < 1e-9
    for name, p, q in sets(asked.references, asked.samples, asked.texts):
        agree &= row(package, name, p, q)
    print("\nthey agree" if agree else "\nthey DO NOT agree")
    return 0 if agree else 1


def sets(references: Path, samples: list[Path], n: int):
    """(name, features of the samples, features of the references)."""
    model = loaded(FEATURE_MODEL)
    lines = references.read_text("utf-8").splitlines()
    first, second = lines[: 2 * n : 2], lines[1 : 2 * n : 2]
    q = features(first, model)
    yield f"{references.name}, its other half", features(second, model), q
    for path in samples:
        yield path.name, features(path.read_text("utf-8").splitlines()[:n], model), q
    rng = np.random.default_rng(0)
    noise = ["".join(map(chr, rng.integers(33, 127, len(text)))) for text in first]
    yield "characters at random", features(noise, model), q


def row(package, name: str, p: np.ndarray, q: np.ndarray) -> bool:
    """Prints a row and says whether both agree."""
    began = time.perf_counter()
    ours = compare(p, q)
    between = time.perf_counter()
    found = [package.compute_mauve(p, q, seed=seed) for seed in range(SEEDS)]
    seconds = f"{between - began:.1f}, {time.perf_counter() - between:.1f}"
    cells, agree = [], True
    for figure in ("mauve", "mauve_star", "frontier_integral"):
        theirs = np.array([getattr(f, figure) for f in found])
        mean, sd = theirs.mean(), theirs.std(ddof=1)
        cells += [f"{ours[figure]:.4f} ± {ours[figure + '_sd']:.4f}", f"{mean:.4f} ± {sd:.4f}"]
        error = math.hypot(ours[figure + "_sd"] / math.sqrt(RUNS), sd / math.sqrt(SEEDS))
        agree &= abs(ours[figure] - mean) <= max(0.01, 4 * error)
    print(f"| {name} | {' | '.join(cells)} | {seconds} |{'' if agree else ' DIFFERENT'}", flush=True)
    return agree


def difference_of_histograms(package, seed: int) -> float:
    """The largest difference of the three figures on two histograms at random, some clusters empty."""
    rng = np.random.default_rng(seed)
    p, q = (rng.poisson(rng.gamma(0.5, 4, 200)) for _ in range(2))
    ours = of_counts(p, q)
    theirs = [area(package, a / a.sum(), b / b.sum()) for a, b in ((p, q), (p + 0.5, q + 0.5))]
    integral = package.get_fronter_integral(p / p.sum(), q / q.sum())
    return max(abs(a - b) for a, b in zip(ours, [*theirs, integral], strict=True))


def area(package, p: np.ndarray, q: np.ndarray) -> float:
    """Under the package's divergence curve, with its own integration."""
    weights = np.linspace(1e-6, 1 - 1e-6, 25)
    x, y = package.get_divergence_curve_for_multinomials(p, q, weights, 5).T
    under = package.compute_area_under_curve
    i, j = np.argsort(x), np.argsort(y)
    return (under(x[i], y[i]) + under(y[j], x[j])) / 2


if __name__ == "__main__":
    sys.exit(main())
