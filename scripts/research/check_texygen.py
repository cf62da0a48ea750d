"""Whether BLEU and Self-BLEU give back what Texygen published: `check_texygen.py --samples DIR --data DIR`.

DIR of the samples has Texygen's `mle.txt`, `seq.txt` and `leakgan.txt` (10,000 COCO captions each), DIR of the data its
`train.txt` and `test.txt`. Prints every row with its greatest difference and the seconds it took, and exits with 1 if a
cell differs by more than .001, at the five decimals shown. With `--nltk N`, N random texts of each row are also scored
by nltk itself against all references (a second or two each), and must agree to 1e-9.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import numpy as np

from aigc_text.metrics.base import TextMetric
from aigc_text.metrics.bleu import Bleu
from aigc_text.metrics.self_bleu import SelfBleu
from aigc_text.metrics.tokenization import all_words

ALLOWED = 0.001
EXACT = 1e-9
ORDERS = (2, 3, 4, 5)

# README.md and docs/evaluation.md of github.com/geek-ai/Texygen: BLEU against the test set, against the training set,
# Self-BLEU; orders 2 to 5. The row of the training set is that of docs/evaluation.md before its columns changed.
PUBLISHED = {
    "train": ((0.740, 0.520, 0.337, 0.218), None, (0.892, 0.747, 0.573, 0.415)),
    "mle": ((0.731, 0.497, 0.305, 0.189), (0.921, 0.768, 0.570, 0.392), (0.916, 0.769, 0.583, 0.408)),
    "seq": ((0.745, 0.498, 0.294, 0.180), (0.917, 0.747, 0.530, 0.348), (0.950, 0.840, 0.670, 0.489)),
    "leakgan": ((0.746, 0.528, 0.355, 0.230), (0.926, 0.816, 0.660, 0.470), (0.966, 0.913, 0.848, 0.780)),
}


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def by_nltk(text: list[str], references: list[list[str]]) -> list[float]:
    """BLEU-2 to BLEU-5 of a tokenized text, by nltk."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    weights = [(1 / n,) * n for n in ORDERS]
    return sentence_bleu(references, text, weights, SmoothingFunction().method1)  # type: ignore[return-value]


def disagreement(scores: dict[str, np.ndarray], texts: list[str], references: list[str] | None, count: int) -> float:
    """The greatest difference from nltk's scores of some texts; without references, against all the other texts."""
    ours = np.stack(list(scores.values()), 1)  # (P, orders)
    tokens, others = all_words(texts), None if references is None else all_words(references)
    worst = 0.0
    for i in random.Random(1).sample(range(len(texts)), count):
        against = others if others is not None else tokens[:i] + tokens[i + 1 :]
        worst = max(worst, float(np.abs(ours[i] - by_nltk(tokens[i], against)).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=Path, required=True, help="folder of mle.txt, seq.txt and leakgan.txt")
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt and test.txt")
    parser.add_argument("--nltk", type=int, default=0, metavar="N", help="also score N texts of each set by nltk")
    given = parser.parse_args()
    train, test = lines(given.data / "train.txt"), lines(given.data / "test.txt")
    worst = apart = 0.0
    print("| texts | figure | " + " | ".join(f"{n}" for n in ORDERS) + " | greatest difference | seconds |")
    print("|---|---|" + "---|" * (len(ORDERS) + 2))
    for name, published in PUBLISHED.items():
        texts = train if name == "train" else lines(given.samples / f"{name}.txt")
        columns: tuple[tuple[str, TextMetric, list[str] | None], ...] = (
            ("BLEU, test set", Bleu(), test),
            ("BLEU, training set", Bleu(), train),
            ("Self-BLEU", SelfBleu(), None),
        )
        for (figure, metric, references), expected in zip(columns, published, strict=True):
            if expected is None:
                continue
            start = time.perf_counter()
            scores = metric.scores(texts) if references is None else metric.scores(texts, references)  # type: ignore
            seconds = time.perf_counter() - start
            means = [float(each.mean()) for each in scores.values()]
            most = round(max(abs(mean - value) for mean, value in zip(means, expected, strict=True)), 5)
            worst = max(worst, most)
            cells = " | ".join(f"{mean:.5f} ({value:.3f})" for mean, value in zip(means, expected, strict=True))
            print(f"| {name} | {figure} | {cells} | {most:.5f} | {seconds:.2f} |", flush=True)
            if given.nltk:
                apart = max(apart, disagreement(scores, texts, references, given.nltk))
    print(f"Greatest difference from a published cell: {worst:.5f} ({ALLOWED} is allowed).")
    if given.nltk:
        print(f"Greatest difference from nltk in {given.nltk} texts of each row: {apart:.1e} ({EXACT} is allowed).")
    sys.exit(int(worst > ALLOWED or apart > EXACT))


if __name__ == "__main__":
    main()
