"""What keeps a text GAN from collapse: generators, losses and stabilisers side by side, short runs from one warm-up.

    python scripts/research/gan_captions.py --data coco_captions --output runs/captions     # makes the sentences
    python scripts/research/gan_ablation.py --data runs/captions --output runs/ablation

{LSTM, relational memory} × {non-saturating, relativistic, hinge} × {none, R1, likelihood term}: each from the warm-up
of its generator with `recipes/gan_coco_adversarial.yaml` and `BASE`, five minutes at most. A row says whether the run
told of a collapse, its best BLEU-HA in the adversarial phase and where, and its last figures. What is done is not done
again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parents[1] / "recipes"
LOSSES = ("non_saturating", "relativistic", "hinge")
STABILISERS = {
    "none": {},
    "R1": {"r1": "1"},
    "likelihood term": {"likelihood_weight": "0.3"},
}
# RelGAN's schedule of the temperature, rates high enough for a collapse within a few minutes, and nothing against it.
BASE = {
    "inverse_temperature": "100", "inverse_temperature_schedule": "exponential", "generator_rate": "0.1",
    "discriminator_rate": "0.5", "likelihood_weight": "0", "generator_average": "0",
}  # fmt: skip
MINUTES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of gan_captions.py")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200, help="of the adversarial phase")
    parser.add_argument("--cell", action="append", choices=("lstm", "memory"), help="these only; may be repeated")
    parser.add_argument("-o", "--option", action="append", default=[], metavar="NAME=VALUE", help="of every run")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for cell in given.cell or ("lstm", "memory"):
        warm = warmed(given.data, given.output, cell)
        for loss in LOSSES:
            for name, options in STABILISERS.items():
                run = given.output / f"{cell}-{loss}-{name.replace(' ', '-').lower()}"
                own = dict(option.split("=", 1) for option in given.option)
                words = {**BASE, "adversarial_loss": loss, **options, **own}
                trained(given, warm, run, [f"{k}={v}" for k, v in words.items()])
                rows.append({"cell": cell, "loss": loss, "stabiliser": name, **outcome(run / "metrics.jsonl")})
                (given.output / "table.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))


def warmed(data: Path, output: Path, cell: str) -> Path:
    """The warm-up of a generator: for the LSTM that of the comparison."""
    if cell == "lstm" and (data / "warm" / "config.json").exists():
        return data / "warm"
    run = output / f"warm-{cell}"
    if not (run / "config.json").exists():
        more = ["--best", "loss", "-o", "watch_samples=0", "-o", "likelihood_steps=1000", "-o", f"cell={cell}"]
        call("--config", RECIPES / "gan_coco.yaml", *files(data, run), *more)
    return run


def files(data: Path, run: Path) -> list[Any]:
    resume = ["--resume"] if (run / "options.json").exists() else []
    return ["--data", data / "fit.txt", "--validation", data / "held-out.txt", "--output", run, *resume]


def trained(given: argparse.Namespace, warm: Path, run: Path, options: list[str]) -> None:
    if (run / "config.json").exists() or (run / "too-long").exists():
        return
    words = ["--config", RECIPES / "gan_coco_adversarial.yaml", "--model", warm, *files(given.data, run)]
    words += ["--max-steps", given.steps, "--eval-every", max(1, given.steps // 4)]
    try:
        call(*words, *(w for o in options for w in ("-o", o)), seconds=60 * MINUTES)
    except subprocess.TimeoutExpired:
        (run / "too-long").touch()


def call(*words: Any, seconds: float | None = None) -> None:
    print("aigc-text train", *words, flush=True)
    command = [sys.executable, "-m", "aigc_text", "train", *map(str, words)]
    subprocess.run(command, check=True, timeout=seconds, stderr=subprocess.DEVNULL)


def outcome(metrics: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    seen = [line for line in lines if "eval_bleu_ha" in line]
    start, later = seen[0], seen[1:] or seen[:1]  # a run that took too long may have got no further
    best = max(later, key=lambda line: line["eval_bleu_ha"])
    told = [line["message"].split(":")[0] for line in lines if "mode collapse" in line.get("message", "")]
    return {
        "collapse": "yes" if told else "no",
        "start": start["eval_bleu_ha"],
        "best": best["eval_bleu_ha"],
        "at": best["step"],
        "steps": lines[-1]["step"],
        "nll": later[-1]["eval_loss"],
        **{name: later[-1][f"eval_{name}"] for name in ("distinct_2", "self_bleu_4", "bleu_4")},
    }


def table(rows: list[dict[str, Any]]) -> str:
    names = ["collapse", "best BLEU-HA (step)", "last: NLL held out", "distinct-2", "Self-BLEU-4", "BLEU-4", "steps"]
    lines = ["| generator | loss | stabiliser | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for r in rows:
        cells = [
            r["cell"],
            r["loss"],
            r["stabiliser"],
            r["collapse"],
            f"{r['best']:.3f} ({r['at']})",
            f"{r['nll']:.3f}",
        ]
        cells += [f"{r[n]:.3f}" for n in ("distinct_2", "self_bleu_4", "bleu_4")] + [str(r["steps"])]
        lines.append("| " + " | ".join(cells) + " |")
    starts = {r["cell"]: r["start"] for r in rows}
    lines.append("")
    lines.append("BLEU-HA of the warm-ups: " + ", ".join(f"{cell} {value:.3f}" for cell, value in starts.items()))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
