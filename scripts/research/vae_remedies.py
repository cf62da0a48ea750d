"""The remedies against posterior collapse side by side, at equal budget: trains, measures, writes a table.

    python scripts/research/vae_remedies.py --data coco_captions --output runs/vae

Every run is `scripts/recipes/vae_coco.yaml` with the options of one remedy. What is done is not done again, so the
script can be stopped and started. It trains on `train.txt` less its last 1,000 lines, and measures on those and on
`test.txt`, whose topics are others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
from vae_estimates import measured, some

RECIPE = Path(__file__).parents[1] / "recipes" / "vae_coco.yaml"
HELD_OUT = 1000  # last lines of train.txt
REMEDIES = {
    "none": [],
    "monotonic annealing": ["annealing=monotonic"],
    "cyclical annealing": ["annealing=cyclical"],
    "free bits": ["free_bits=8"],
    "batch norm (BN-VAE)": ["batch_norm_scale=0.6"],
    "autoencoder pre-training + free bits": [
        "pretrain_steps=400",
        "free_bits=8",
        "annealing=monotonic",
        "annealing_steps=300",
    ],
    "word dropout": ["word_dropout=0.4"],
    "aggressive encoder": ["encoder_steps=4"],
}
COLUMNS = {
    "IW perplexity a word": ("perplexity", ".1f"),
    "bound": ("bound_perplexity", ".1f"),
    "KL": ("kl", ".2f"),
    "MI": ("mutual_information", ".2f"),
    "AU": ("active_units", "d"),
    "reconstruction BLEU-4": ("reconstruction_bleu_4", ".3f"),
}


@click.command()
@click.option("--data", required=True, help="Folder with train.txt and test.txt.")
@click.option("--output", required=True, help="Folder for runs, results.json and table.md.")
@click.option("--samples", default=500, show_default=True, help="Draws of z for each sentence.")
@click.option("--test-sentences", default=1000, show_default=True, help="Of test.txt, evenly spread.")
@click.option("--steps", type=click.IntRange(1), help="Training steps of each run, instead of the recipe's.")
@click.option("--only", multiple=True, type=click.Choice(list(REMEDIES)), help="These remedies; may be repeated.")
def main(data: str, output: str, samples: int, test_sentences: int, steps: int | None, only: tuple[str, ...]) -> None:
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    lines = (Path(data) / "train.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    train, held_out = folder / "train.txt", folder / "held-out.txt"
    train.write_text("".join(lines[:-HELD_OUT]), encoding="utf-8")
    held_out.write_text("".join(lines[-HELD_OUT:]), encoding="utf-8")
    sets = {"held-out": some(str(held_out), HELD_OUT), "test": some(f"{data}/test.txt", test_sentences)}
    chosen = only or tuple(REMEDIES)
    for name in chosen:
        trained(name, folder, steps)
    for split, texts in sets.items():
        for name in chosen:
            measure(name, split, texts, folder, samples)


def run_of(name: str, folder: Path) -> Path:
    return folder / "".join(c if c.isalnum() else "-" for c in name)


def trained(name: str, folder: Path, steps: int | None) -> None:
    """Trains with one remedy, or goes on where that was stopped."""
    run = run_of(name, folder)
    if (run / "config.json").exists():
        return
    files = ["--data", str(folder / "train.txt"), "--validation", str(folder / "held-out.txt"), "--output", str(run)]
    extra = [word for option in REMEDIES[name] for word in ("-o", option)]
    resume = ["--resume"] if (run / "options.json").exists() else []
    length = ["--max-steps", str(steps)] if steps else []
    command = ["train", "--config", str(RECIPE), *files, *length, *extra, *resume]
    print("aigc-text", *command, flush=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "aigc_text", *command], check=True)
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


def measure(name: str, split: str, texts: list[str], folder: Path, samples: int) -> None:
    """Adds the figures of one run on one set to `results.json`, and writes the table anew."""
    from aigc_text import load

    file = folder / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if name not in results.setdefault(split, {}):
        results[split][name] = measured(load(str(run_of(name, folder))), texts, samples)
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(results), encoding="utf-8")


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    written = []
    for split, rows in results.items():
        first = next(iter(rows.values()), {})
        written.append(f"{split}: {first.get('sentences')} sentences, {first.get('samples')} samples each\n")
        written.append("| remedy | " + " | ".join(COLUMNS) + " |")
        written.append("|---" * (1 + len(COLUMNS)) + "|")
        for name, found in ((name, rows[name]) for name in REMEDIES if name in rows):
            cells = [format(found[key], form) for key, form in COLUMNS.values()]
            written.append(f"| {name} | " + " | ".join(cells) + " |")
        written.append("")
    return "\n".join(written)


if __name__ == "__main__":
    main()
