"""The sections of `scripts/gpu.py`: what each measures, and the Markdown that shows it."""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_gan
import bench_train
import bench_vae
import check_gpu
from devices import Peaks, bandwidth, matmul_rate
from gpu_common import (
    Clock,
    Failed,
    Given,
    alternate,
    fraction,
    free,
    memory_cells,
    ratio,
    ratio_cell,
    share,
    token_flop,
)  # fmt: skip
from gpu_recipe import shakespeare, shakespeare_table
from random_gpt2 import PROMPT, WORDS, by_engine, by_generate, make, prompts_of_ids

from aigc_text import load

# The machine


def machine(given: Given, record: dict[str, Any], clock: Clock) -> None:
    """What its memory and its matrix units reach."""
    record["bandwidth"] = bandwidth(given.device, 1 << 22 if given.tiny else 1 << 31)
    record["flops"] = matmul_rate(given.device, 64 if given.tiny else 8192)


def machine_table(record: Mapping[str, Any]) -> list[str]:
    if "flops" not in record:
        return []
    rates = f"| {record['bandwidth'] / 1e12:.3g} | {record['flops'] / 1e12:.3g} |"
    return ["| bandwidth, TB/s | bf16 matrix product, TFLOP/s |", "|---|---|", rates]


# Every backend


def check(given: Given, record: dict[str, Any], clock: Clock) -> None:
    """The table of `check_gpu`."""
    record["rows"], record["reasons"] = [], []
    with check_gpu.comparable(given.device):
        for name in check_gpu.trainable():
            clock.check()
            cells, reasons = check_gpu.checked(name, given.device, given.tiny)
            record["rows"].append([name, *cells])
            record["reasons"] += reasons
    if record["reasons"]:
        raise Failed(f"{len(record['reasons'])} cells failed")


def check_table(record: Mapping[str, Any]) -> list[str]:
    rows = [f"| {' | '.join(row)} |" for row in record.get("rows", ())]
    reasons = [f"- {reason}" for reason in record.get("reasons", ())]
    return [*check_gpu.HEAD, *rows, *([""] if reasons else []), *reasons]


# Generation


def generate(given: Given, record: dict[str, Any], clock: Clock) -> None:
    """Tokens a second of our engine and of transformers' `generate`, the same model, in bf16; no text ends early."""
    sizes, words = ({"n_layer": 1, "n_embd": 32, "n_head": 2}, 200) if given.tiny else ({}, WORDS)
    batches, new, turns = ((1, 2), 4, 1) if given.tiny else ((1, 8, 64), 128, 5)
    record.update(rows=[], new_tokens=new)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), sizes, words)
        backend: Any = load("gpt2", folder, device=given.device, dtype="bf16")
    c = backend.model.config
    weights = sum(p.numel() * p.element_size() for p in backend.model.parameters())  # tied ones once
    for batch in batches:
        ids, peaks = prompts_of_ids(batch, words), Peaks(given.device)
        works = {
            "ours": lambda ids=ids: by_engine(backend, ids, new),
            "theirs": lambda ids=ids: by_generate(backend.model, ids, new),
        }
        spans = alternate(works, turns, given.device, clock, peaks)
        speeds = {name: [batch * new / s for s in found] for name, found in spans.items()}
        cached = batch * (PROMPT + new / 2) * 2 * c.n_layer * c.n_embd * 2
        steps = new / statistics.median(spans["ours"])
        memory = peaks.gib()
        record["rows"].append(
            {
                "batch": batch,
                **{name: statistics.median(found) for name, found in speeds.items()},
                **ratio(speeds["ours"], speeds["theirs"]),
                "bandwidth": fraction((weights + cached) * steps, given.machine.get("bandwidth")),
                "memory": memory and {name: weights / 2**30 + found for name, found in memory.items()},
            }
        )


def generate_table(record: Mapping[str, Any]) -> list[str]:
    head = "| batch | aigc-text, tokens/s | generate, tokens/s | ratio (range) | of bandwidth "
    head += "| aigc-text, GiB | generate, GiB |"
    rows = [
        f"| {r['batch']} | {r['ours']:,.0f} | {r['theirs']:,.0f} | {ratio_cell(r)} | {share(r['bandwidth'])} "
        f"| {memory_cells(r['memory'])} |"
        for r in record.get("rows", ())
    ]
    return [head, "|---" * 7 + "|", *rows]


# Training


def training(given: Given, record: dict[str, Any], clock: Clock) -> None:
    """Tokens a second of our loop and of the `Trainer`: same model, same rows, bf16."""
    record["rows"], differ = [], []
    for size in ("tiny",) if given.tiny else ("124m", "124m-large"):
        clock.check()
        steps, pairs = (2, 1) if given.tiny else (10, 5)
        how = Namespace(size=size, device=given.device, steps=steps, pairs=pairs, workers=0)
        setup = bench_train.Setup(how, bench_train.MADE_UP, "bf16")
        flop = token_flop(setup.model(), setup.block)
        r = bench_train.packed(setup)
        record["rows"].append(
            {
                "batch": f"{setup.rows} × {setup.block}",
                "ours": statistics.median(r.ours),
                "theirs": statistics.median(r.theirs),
                **ratio(r.ours, r.theirs),
                "mfu": fraction(statistics.median(r.ours) * flop, given.machine.get("flops")),
                "losses": [r.our_loss, r.their_loss],
                "memory": r.memory,
            }
        )
        differ += [found] if (found := bench_train.disagreement([r])) else []
        del setup
        free()
    if differ:
        raise Failed("; ".join(differ))


def training_table(record: Mapping[str, Any]) -> list[str]:
    head = "| batch | aigc-text, tokens/s | Trainer, tokens/s | ratio (range) | MFU | mean losses "
    head += "| aigc-text, GiB | Trainer, GiB |"
    rows = [
        f"| {r['batch']} | {r['ours']:,.0f} | {r['theirs']:,.0f} | {ratio_cell(r)} | {share(r['mfu'])} "
        f"| {r['losses'][0]:.4f}, {r['losses'][1]:.4f} | {memory_cells(r['memory'])} |"
        for r in record.get("rows", ())
    ]
    return [head, "|---" * 8 + "|", *rows]


# Families of their own


def adversarial(given: Given, record: dict[str, Any], clock: Clock) -> None:
    """Seconds of a step of `gan` with RelGAN's discriminator, ours and a plain one of the same weights and losses."""
    tiny = bench_gan.Shape(
        representations=2, filters=4, batch=4, length=6, vocabulary=50, embedding=8, hidden=8, discriminator=8
    )
    shape, steps, turns = (tiny, 1, 1) if given.tiny else (bench_gan.FULL, 3, 5)
    how = {"ours, fp32": "fp32", "ours, bf16": "bf16"}
    loops: dict[str, Any] = {name: bench_gan.ours(shape, given.device, kind) for name, kind in how.items()}
    loops["plain, fp32"] = bench_gan.plain(shape, given.device)
    works = {name: Advance(loop, steps) for name, loop in loops.items()}
    beside_plain(given, record, clock, works, turns, lambda name: [1.0 * steps] * turns)


def vae(given: Given, record: dict[str, Any], clock: Clock) -> None:
    """Real tokens a second of an update of `vae`, ours and a plain loop of the same model."""
    draw = random.Random(0)
    lines = [" ".join(line.split()[: draw.randint(8, 20)]) for line in bench_train.made_up()]
    tiny = {"vocab_size": 300, "hidden_size": 16, "encoder_size": 16, "embedding_size": 16, "latent_size": 4}
    sizes, steps, turns = (tiny, 1, 1) if given.tiny else ({}, 15, 5)
    lines, most = lines[:256] if given.tiny else lines, (turns + 1) * steps
    loops: dict[str, Any] = {f"ours, {p}": bench_vae.ours(lines, p, most, **sizes) for p in ("fp32", "bf16")}
    loops["plain, fp32"] = bench_vae.plain(lines, given.device, **sizes)
    works = {name: Advance(loop, steps) for name, loop in loops.items()}
    beside_plain(given, record, clock, works, turns, lambda name: works[name].gains()[1:])


class Advance:
    """A training loop that goes on by `steps` updates each time; `yielded` has the last thing of each turn."""

    def __init__(self, loop: Any, steps: int) -> None:
        self.loop, self.steps, self.yielded = loop, steps, list[Any]()

    def __call__(self) -> None:
        self.yielded += deque(itertools.islice(self.loop, self.steps), maxlen=1)

    def gains(self) -> list[float]:
        """What a running total grew by in each turn."""
        return [b - a for a, b in itertools.pairwise([0, *self.yielded])]


def beside_plain(
    given: Given,
    record: dict[str, Any],
    clock: Clock,
    works: Mapping[str, Advance],
    turns: int,
    amounts: Callable[[str], list[float]],
) -> None:
    """Speeds of loops, and their ratios to that of the plain one; `amounts` says how much a loop did in each turn."""
    peaks = Peaks(given.device)
    try:
        spans = alternate(works, turns, given.device, clock, peaks)
    finally:
        for work in works.values():
            work.loop.close()
    speeds = {name: [a / s for a, s in zip(amounts(name), spans[name], strict=False)] for name in works}
    memory = peaks.gib()
    record["rows"] = [
        {
            "loop": name,
            "speed": statistics.median(found),
            **ratio(found, speeds["plain, fp32"]),
            "memory": None if memory is None else memory[name],
        }
        for name, found in speeds.items()
    ]


def beside_plain_table(unit: str) -> Callable[[Mapping[str, Any]], list[str]]:
    def table(record: Mapping[str, Any]) -> list[str]:
        rows = [
            f"| {r['loop']} | {r['speed']:,.4g} | {ratio_cell(r)} | "
            f"{'n/a' if r['memory'] is None else format(r['memory'], '.2f')} |"
            for r in record.get("rows", ())
        ]
        return [f"| loop | {unit} | times the plain loop (range) | GiB |", "|---|---|---|---|", *rows]

    return table


@dataclass(frozen=True)
class Section:
    """What is measured in one go.

    Attributes:
        title: of its table.
        measure: fills a record.
        table: shows one in Markdown, as far as it is filled.
        seconds: that it may take.
        least: seconds without which it is not begun.
    """

    title: str
    measure: Callable[[Given, dict[str, Any], Clock], None]
    table: Callable[[Mapping[str, Any]], list[str]]
    seconds: float
    least: float


SECTIONS = {  # the first ones matter most
    "machine": Section("What the machine reaches", machine, machine_table, 30, 5),
    "check": Section("What works", check, check_table, 150, 30),
    "generate": Section("Generation beside `generate`", generate, generate_table, 75, 30),
    "train": Section("Training beside the `Trainer`", training, training_table, 75, 30),
    "gan": Section(
        "A step of `gan` with RelGAN's discriminator", adversarial, beside_plain_table("steps/s"), 40, 20
    ),
    "vae": Section("An update of `vae`", vae, beside_plain_table("real tokens/s"), 40, 20),
    "shakespeare": Section("The recipe for tinyshakespeare", shakespeare, shakespeare_table, 180, 60),
}  # fmt: skip
