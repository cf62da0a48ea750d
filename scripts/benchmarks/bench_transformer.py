"""Trains the `transformer` recipe for tinyshakespeare beside a plain PyTorch loop of nanoGPT's CPU recipe.

    python scripts/benchmarks/bench_transformer.py --data input.txt --output bench.json

The first nine tenths of the characters are trained on, the last tenth is measured: all of it, in windows of 64. Both
see as many characters: 2,000 updates of 12 rows of 64. Times are CPU seconds, which other programs of the machine
hardly change. The two take turns, some updates each; the ratio is of all the time, its range over the turns.

The plain loop is nanoGPT's model and recipe for a CPU (karpathy/nanoGPT, README and config/train_shakespeare_char.py)
as a reader would write it: 4 layers, 4 heads, width 128, context 64, no dropout, AdamW at 1e-3 with a warm-up of 100
updates and a cosine down to 1e-4, weight decay 0.1, beta2 0.99, gradients clipped at 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import torch.nn.functional as F
import transformers
import yaml
from torch import nn

from aigc_text import TrainingOptions, from_scratch
from aigc_text.training import trainer

RECIPE = Path(__file__).parents[1] / "recipes" / "transformer_shakespeare_cpu.yaml"
LAYERS, HEADS, WIDTH, CONTEXT, BATCH, STEPS = 4, 4, 128, 64, 12, 2000
BAR, GOAL, SLOWEST = 1.65, 1.60, 1.5  # nats, nats, times the plain loop's time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="tinyshakespeare, one file")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--turn", type=int, default=100, help="updates of one before the other takes its turn")
    parser.add_argument("--seeds", type=int, default=1, help="so many runs of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    text = given.data.read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    found = [run(text[:cut], text[cut:], given.steps, given.turn, seed) for seed in range(given.seeds)]
    record = {"command": " ".join(["python", *sys.argv]), "machine": machine(), "runs": found}
    print(table(record))
    if given.output:
        given.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    return f"{platform.machine()}, {torch.get_num_threads()} thread(s), {versions}"


def run(train: str, test: str, steps: int, turn: int, seed: int) -> dict[str, Any]:
    """One run of each, in turns: seconds of each turn, and what came of it."""
    ours, theirs = Ours(train, steps, seed), Plain(train, steps, seed)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for first in range(0, steps, turn):
        count = min(turn, steps - first)
        order = [("ours", ours.updates), ("plain", theirs.updates)]
        for name, updates in order if first // turn % 2 else order[::-1]:
            start = time.process_time()
            for _ in range(count):
                next(updates)
            seconds[name].append(time.process_time() - start)
    return {
        "seed": seed,
        "seconds": seconds,
        "nats": {"ours": ours.measure(test), "plain": theirs.measure(test)},
        "parameters": {"ours": size(ours.model), "plain": size(theirs.model)},
    }


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


class Ours:
    """The recipe through the project's own trainer, without checkpoints and validations."""

    def __init__(self, train: str, steps: int, seed: int) -> None:
        recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
        sizes = recipe.pop("config")
        made = {k: recipe.pop(k) for k in ("backend", "tokenizer")}
        recipe.pop("from_scratch")
        options = TrainingOptions.parse({**recipe, "max_steps": steps, "seed": seed})
        backend = from_scratch(made["backend"], [train], tokenizer=made["tokenizer"], seed=seed, **sizes)
        self.model, self.tokenizer = backend.model.float().train(), backend.tokenizer
        batches = backend.batches([train], options)
        self.updates: Iterator[Any] = trainer.train(self.model, backend.objective(options), batches, options)

    def measure(self, text: str) -> float:
        ids = torch.tensor(self.tokenizer(text, verbose=False)["input_ids"])
        return nats(lambda x: self.model(x, use_cache=False).logits, self.model, ids)


class Plain:
    """nanoGPT's model and loop."""

    def __init__(self, train: str, steps: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.characters = {c: i for i, c in enumerate(sorted(set(train)))}
        self.ids, self.steps = self.encoded(train), steps
        self.model = GPT(len(self.characters))
        groups = [
            {"params": [p for p in self.model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in self.model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        self.updates = self.loop()

    def encoded(self, text: str) -> torch.Tensor:
        return torch.tensor([self.characters[c] for c in text if c in self.characters])

    def loop(self) -> Iterator[None]:
        self.model.train()
        for step in range(self.steps):
            starts = torch.randint(len(self.ids) - CONTEXT, (BATCH,)).tolist()
            x = torch.stack([self.ids[i : i + CONTEXT] for i in starts])
            y = torch.stack([self.ids[i + 1 : i + 1 + CONTEXT] for i in starts])
            rate = (step + 1) / 100
            if step >= 100:
                done = (step - 100) / max(1, self.steps - 100)
                rate = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-3 * rate
            F.cross_entropy(self.model(x).flatten(0, 1), y.flatten()).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield

    def measure(self, text: str) -> float:
        return nats(self.model, self.model, self.encoded(text))


class GPT(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if "project" in name else 0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.project1 = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.wide, self.project2 = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project1(y.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.project2(F.gelu(self.wide(self.norm2(x))))


@torch.no_grad()
def nats(logits: Any, model: nn.Module, ids: torch.Tensor) -> float:
    """Mean negative log-likelihood over windows of 64, one after the other, each from nothing; ids: (N,)."""
    model.eval()
    count = (len(ids) - 1) // CONTEXT
    x, y = (ids[first : first + count * CONTEXT].view(count, CONTEXT) for first in (0, 1))
    total = 0.0
    for a, b in zip(x.split(64), y.split(64), strict=True):
        total += float(F.cross_entropy(logits(a).flatten(0, 1).float(), b.flatten(), reduction="sum"))
    return total / y.numel()


def table(record: dict[str, Any]) -> str:
    lines = [
        f"- command: {record['command']}",
        f"- machine: {record['machine']}",
        "",
        "| seed | ours, nats | plain, nats | ours, CPU s | plain, CPU s | time, ours / plain (range of turns) | bar |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in record["runs"]:
        ours, plain = found["seconds"]["ours"], found["seconds"]["plain"]
        ratios = [a / b for a, b in zip(ours, plain, strict=True)]
        ratio, nll = sum(ours) / sum(plain), found["nats"]
        met = "met" if nll["ours"] <= BAR and ratio <= SLOWEST else "missed"
        lines.append(
            f"| {found['seed']} | {nll['ours']:.4f} | {nll['plain']:.4f} | {sum(ours):.0f} | {sum(plain):.0f} "
            f"| {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | ≤ {BAR}, ≤ {SLOWEST}×: {met} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
