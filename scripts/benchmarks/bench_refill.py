"""What it could bring to put new rows in the place of finished ones while a file of texts is made.

    python scripts/benchmarks/bench_refill.py

Measures what a step and a prompt cost for batches of 1 to 128 rows (GPT-2's geometry, random weights), then adds up the
costs of two ways through the same file of prompts, 8 to 200 tokens, whose texts end after 4 to 128 tokens, once in 60:
ours, which drops rows when an eighth has finished, and one that fills their places when an eighth is free. The second
is charged for nothing but its steps and prompts: not for copying keys and values, not for longer rows. So the gain is
an upper bound.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_gpt2 import TOP, WORDS, make

from aigc_text import load
from aigc_text.generation.engine import Row

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
PROMPT, STEPS, LONGEST, SHORTEST, END = 100, 12, 128, 4, 60


def costs(engine: Any, rows: int) -> tuple[float, float]:
    """Seconds of a step and of the prompts."""
    config = engine.config(do_sample=True, top_k=TOP, max_new_tokens=STEPS, min_new_tokens=STEPS)
    draw = torch.Generator().manual_seed(rows)
    batch = [Row(torch.randint(1, WORDS, (PROMPT,), generator=draw).tolist(), n, STEPS) for n in range(rows)]
    seconds, last = [], time.perf_counter()
    for _ in engine.decode(batch, config):
        seconds.append(time.perf_counter() - last)
        last = time.perf_counter()
    return float(np.median(seconds[2:])), seconds[0]


class Costs:
    """Seconds by the number of rows, between the measured ones on a line."""

    def __init__(self, engine: Any) -> None:
        costs(engine, 4)  # the first call packs the weights
        found = [tuple(map(min, zip(*(costs(engine, rows) for _ in range(2)), strict=True))) for rows in ROWS]
        self.steps, self.prompts = ([each[n] for each in found] for n in range(2))
        for rows, (step, prompt) in zip(ROWS, found, strict=True):
            print(
                f"| {rows} rows | a step {step * 1e3:.0f} ms | prompts of {PROMPT} tokens {prompt:.2f} s |", flush=True
            )

    def step(self, rows: int) -> float:
        return float(np.interp(rows, ROWS, self.steps))

    def prompt(self, tokens: int) -> float:
        return float(np.interp(tokens / PROMPT, ROWS, self.prompts))


def file(count: int) -> list[tuple[int, int]]:
    """(tokens of the prompt, tokens of the text), sorted by the prompts' lengths as we do within a window."""
    draw = random.Random(0)
    texts = [min(LONGEST, SHORTEST + int(draw.expovariate(1 / END))) for _ in range(count)]
    return sorted((draw.randint(8, 200), n) for n in texts)


def dropping(requests: list[tuple[int, int]], tokens: int, cost: Costs) -> float:
    total, first = 0.0, 0
    while first < len(requests):
        rows = 1
        while first + rows < len(requests) and _fits(rows + 1, requests[first + rows][0], tokens):
            rows += 1
        batch = requests[first : first + rows]
        total += cost.prompt(sum(prompt for prompt, _ in batch))
        computed = rows
        for made in range(max(n for _, n in batch)):
            alive = sum(n > made for _, n in batch)
            if (computed - alive) * 8 >= computed:
                computed = alive
            total += cost.step(computed)
        first += rows
    return total


def refilling(requests: list[tuple[int, int]], tokens: int, cost: Costs) -> float:
    total, first, left = 0.0, 0, []
    while first < len(requests) or left:
        more: list[tuple[int, int]] = []
        most = next(n for n in range(128, 0, -1) if _fits(n, requests[min(first, len(requests) - 1)][0], tokens))
        if len(left) * 8 <= most * 7:
            more = requests[first : first + most - len(left)]
        first += len(more)
        total += cost.prompt(sum(prompt for prompt, _ in more)) if more else 0.0
        left += [n for _, n in more]
        total += cost.step(len(left))
        left = [n - 1 for n in left if n > 1]
    return total


def _fits(rows: int, prompt: int, tokens: int) -> bool:
    return rows == 1 or (rows <= 128 and rows * (prompt + LONGEST) <= tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), {})
        backend: Any = load("gpt2", folder)
        cost = Costs(backend.engine())
    requests = file(given.prompts)
    base = dropping(requests, 8192, cost)
    for tokens in (8192, 16384):
        for name, way in (("dropping", dropping), ("refilling", refilling)):
            print(f"| {tokens} tokens at once | {name} | {base / way(requests, tokens, cost):.2f} of the first |")


if __name__ == "__main__":
    main()
