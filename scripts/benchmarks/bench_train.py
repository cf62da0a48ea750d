"""Measures our training loop against transformers' Trainer: the same model, optimizer and precision, step beside step.

    python scripts/benchmarks/bench_train.py                      # a made-up text of mixed lengths, fp32 and bf16
    python scripts/benchmarks/bench_train.py --data made-up captions.txt --output bench.json --picture bench.png
    python scripts/benchmarks/bench_train.py --size 124m --device cuda --precision bf16

Three comparisons, by real tokens a second (padding counts for nothing, and every update sees about as many of them):

packed   both get the same packed rows; their losses must agree, or the work is not the same and the script fails
padded   the Trainer pads lines to the longest of their batch, ours packs them
grouped  the same with the Trainer's batches of lines of similar length

Both train in one process and take turns, so that a busy machine slows both. A pair is STEPS updates of each; the ratio
is the median of the pairs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import accelerate
import torch
import transformers
from devices import Peaks, name_of, synchronize
from transformers import DataCollatorForLanguageModeling, GPT2Config, GPT2LMHeadModel, TrainerCallback

import aigc_text
from aigc_text import TrainingOptions
from aigc_text.data.tokenizer_training import train_bpe
from aigc_text.models.causal_lm import GPT2
from aigc_text.training import trainer

SIZES = {  # GPT-2 architectures, and the rows and tokens of a batch
    "tiny": ({"n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 512}, 4, 32),
    "small": ({"n_layer": 4, "n_embd": 256, "n_head": 4, "n_positions": 256, "vocab_size": 4096}, 8, 256),
    "124m": ({}, 8, 512),
    "124m-large": ({}, 32, 1024),  # for a GPU, which smaller batches leave idle
}
BARS = {"packed": 1.0, "padded": 1.5}  # what is promised
AGREEMENT = {"fp32": 1e-4, "bf16": 2e-3}  # largest relative difference of the mean losses on the same rows
RATE = 1e-3
MADE_UP = "made-up"


@dataclass
class Result:
    """Tokens a second of each pair, and the mean loss of all updates."""

    text: str
    precision: str
    name: str
    ours: list[float]
    theirs: list[float]
    our_loss: float
    their_loss: float
    lines: int  # in a batch of the Trainer
    memory: dict[str, float] | None = None  # peak in GiB of "ours" and "theirs", on a GPU

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[MADE_UP], help=f"files, a line a text; or {MADE_UP}")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--precision", nargs="+", choices=AGREEMENT, default=list(AGREEMENT))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=10, help="updates of each in a pair")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="dataloader_num_workers of the Trainer")
    parser.add_argument("--only", nargs="*", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--picture", type=Path, help="draw the ratios here")
    given = parser.parse_args()
    setups = [Setup(given, data, precision) for data in given.data for precision in given.precision]
    results = [COMPARISONS[name](setup) for setup in setups for name in given.only]
    about = describe(setups)
    print(report(results, about))
    if given.output:
        rows = [{**asdict(r), "ratios": r.ratios} for r in results]
        given.output.write_text(json.dumps({**about, "results": rows}, indent=1) + "\n", encoding="utf-8")
    if given.picture:
        draw(results, given.picture)
    sys.exit(disagreement(results))


class Setup:
    """What the comparisons on a text in a precision share: tokenizer, model, batch."""

    def __init__(self, given: argparse.Namespace, data: str, precision: str) -> None:
        self.given, self.text, self.precision = given, Path(data).name, precision
        config, self.rows, self.block = SIZES[given.size]
        lines = made_up() if data == MADE_UP else Path(data).read_text(encoding="utf-8").splitlines()
        self.lines = [line for line in lines if line.strip()]
        self.tokenizer = train_bpe(self.lines, config.get("vocab_size", 8192), context=self.block)
        end = self.tokenizer.eos_token_id
        texts = self.tokenizer(self.lines, add_special_tokens=False, verbose=False)["input_ids"]
        self.ids = [[*ids, end][: self.block] for ids in texts]
        torch.manual_seed(0)
        ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
        no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # each would draw its own
        self.config = GPT2Config(**config, **ids, **no_dropout, activation_function="gelu_pytorch_tanh")
        self.weights = GPT2LMHeadModel(self.config).state_dict()
        self.options = TrainingOptions(
            max_steps=(given.pairs + 1) * given.steps + 1,
            batch_size=self.rows,
            block_size=self.block,
            packing=True,
            precision=precision,
            learning_rate=RATE,
            schedule="constant",
            warmup_steps=0,
        )

    def model(self) -> GPT2LMHeadModel:
        made = GPT2LMHeadModel(self.config)
        made.load_state_dict(self.weights)
        made.loss_type = "ForCausalLM"  # not deduced from this class's name; without it the Trainer's mean is off
        return made.to(self.given.device).train()

    def batches(self) -> Any:
        return GPT2(self.model(), self.tokenizer).batches(self.lines, self.options)

    def ours(self) -> Iterator[Any]:
        backend = GPT2(self.model(), self.tokenizer)
        batches = backend.batches(self.lines, self.options)
        return trainer.train(backend.model.train(), backend.objective(self.options), batches, self.options)


def made_up() -> list[str]:
    """Lines whose lengths are log-normal (median 30 words, sigma 0.8), of words by Zipf's law."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 7))) for _ in range(3000)]
    weights = [1 / (n + 1) for n in range(len(words))]
    lengths = [max(1, round(30 * draw.lognormvariate(0, 0.8))) for _ in range(3000)]
    return [" ".join(draw.choices(words, weights, k=n)) for n in lengths]


# The comparisons


def packed(setup: Setup) -> Result:
    batches = itertools.islice(iter(setup.batches()), setup.options.max_steps)
    rows = [{"input_ids": row, "labels": row} for batch in batches for row in batch["input_ids"]]
    return compare("packed", setup, rows, setup.rows, "sequential", transformers.default_data_collator)


def padded(setup: Setup, name: str = "padded", order: str = "random") -> Result:
    rows = [{"input_ids": ids} for ids in setup.ids]
    tokens = sum(map(len, setup.ids)) / len(setup.ids)
    size = max(1, min(round(setup.rows * setup.block / tokens), len(rows)))
    return compare(name, setup, rows, size, order, DataCollatorForLanguageModeling(setup.tokenizer, mlm=False))


def grouped(setup: Setup) -> Result:
    return padded(setup, "grouped", "group_by_length")


COMPARISONS = {"packed": packed, "padded": padded, "grouped": grouped}


def compare(name: str, setup: Setup, rows: list[Any], size: int, order: str, collator: Any) -> Result:
    given, options = setup.given, setup.options
    turns = Turns(setup.ours(), given.steps, given.device)
    arguments = transformers.TrainingArguments(
        output_dir=tempfile.gettempdir(),  # nothing is written
        max_steps=options.max_steps,
        per_device_train_batch_size=size,
        dataloader_drop_last=True,
        dataloader_num_workers=given.workers,
        train_sampling_strategy=order,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=options.weight_decay,
        adam_beta2=options.adam_beta2,
        max_grad_norm=options.max_grad_norm,
        bf16=setup.precision == "bf16",
        use_cpu=given.device == "cpu",
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    theirs = Counting(
        model=setup.model(),
        args=arguments,
        train_dataset=rows,
        data_collator=collator,
        processing_class=setup.tokenizer,
        callbacks=[turns],
    )
    theirs.remove_callback(transformers.PrinterCallback)
    their_loss = theirs.train().training_loss
    starts = [1 + n * given.steps for n in range(1, given.pairs + 1)]  # the first steps warm up
    counts = [sum(int(n) for n in theirs.tokens[a : a + given.steps]) for a in starts]
    own = given.steps * setup.rows * setup.block
    return Result(
        text=setup.text,
        precision=setup.precision,
        name=name,
        ours=[own / t for t in turns.ours[1:]],
        theirs=[n / t for n, t in zip(counts, turns.theirs[1:], strict=True)],
        our_loss=statistics.mean(turns.losses),
        their_loss=their_loss,
        lines=size,
        memory=turns.peaks.gib(),
    )


class Counting(transformers.Trainer):
    """Notes the real tokens of each batch, without waiting for the device."""

    tokens: list[Any]

    def training_step(self, model: Any, inputs: Any, *rest: Any) -> torch.Tensor:
        mask = inputs.get("attention_mask")
        self.tokens = [*getattr(self, "tokens", []), inputs["input_ids"].numel() if mask is None else mask.sum()]
        return super().training_step(model, inputs, *rest)


class Turns(TrainerCallback):
    """Lets the other loop run whenever the Trainer has made its updates: one each on the CPU; on a GPU, where
    the clock must wait for the device, as many as a pair has."""

    def __init__(self, other: Iterator[Any], steps: int, device: str) -> None:
        self.other, self.steps, self.device, self.peaks = other, steps, device, Peaks(device)
        self.turn = 1 if device == "cpu" else steps
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.losses: list[float] = []

    def clock(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done = state.global_step - 1  # the first update, which sets things up, is not counted
        if done % self.turn:
            return
        before = self.clock()
        self.peaks.end("theirs")
        count = 1 if not done else self.turn
        self.losses += [report.logs["loss"] for report in itertools.islice(self.other, count)]
        after = self.clock()
        self.peaks.end("ours")
        if done:
            if (done - self.turn) % self.steps == 0:
                self.ours.append(0.0)
                self.theirs.append(0.0)
            self.theirs[-1] += before - self.since
            self.ours[-1] += after - before
        self.since = self.clock()


# What is shown


def disagreement(results: list[Result]) -> str | None:
    """Says so if the same rows did not give both the same losses."""
    for r in results:
        if r.name == "packed" and abs(r.our_loss - r.their_loss) > AGREEMENT[r.precision] * r.their_loss:
            return f"the losses differ: {r.our_loss:.6f} and {r.their_loss:.6f}; this is not the same work"
    return None


def describe(setups: list[Setup]) -> dict[str, Any]:
    given, setup = setups[0].given, setups[0]
    cuda = given.device.startswith("cuda")
    versions = [f"Python {platform.python_version()}", f"aigc-text {aigc_text.__version__}"]
    versions += [f"{m.__name__} {m.__version__}" for m in (torch, transformers, accelerate)]
    return {
        "command": shlex.join(["python", f"scripts/benchmarks/{Path(__file__).name}", *sys.argv[1:]]),
        "machine": name_of(given.device) + ("" if cuda else f", threads: {torch.get_num_threads()}"),
        "versions": ", ".join(versions),
        "model": f"{given.size}, {sum(w.numel() for w in setup.model().parameters()):,} parameters",
        "batch": f"{setup.rows} rows of {setup.block} tokens",
        "lines": "; ".join(dict.fromkeys(spread(s) for s in setups)),
        "pairs": f"{given.pairs} of {given.steps} updates",
    }


def spread(setup: Setup) -> str:
    lengths = sorted(map(len, setup.ids))
    return f"{setup.text} {lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}"


def report(results: list[Result], about: dict[str, Any]) -> str:
    head = "\n".join(f"- {k}: {v}" for k, v in about.items())
    rows = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for r in results:
        low, middle, high = min(r.ratios), statistics.median(r.ratios), max(r.ratios)
        bar = f"≥ {BARS[r.name]}: {'met' if middle >= 0.97 * BARS[r.name] else 'missed'}" if r.name in BARS else "–"
        speeds = [f"{statistics.median(x):,.0f}" for x in (r.ours, r.theirs)]
        ratio, losses = f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{r.our_loss:.4f}, {r.their_loss:.4f}"
        cells = [r.text, r.precision, r.name, *speeds, ratio, bar, losses, str(r.lines)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, "", *rows])


COLUMNS = (
    "text",
    "precision",
    "comparison",
    "aigc-text, tokens/s",
    "Trainer, tokens/s",
    "ratio (range)",
    "bar",
    "mean losses",
    "Trainer's rows",
)


def draw(results: list[Result], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    middles = [statistics.median(r.ratios) for r in results]
    spans = [[m - min(r.ratios), max(r.ratios) - m] for m, r in zip(middles, results, strict=True)]
    figure, axes = plt.subplots(figsize=(6, 1 + 0.35 * len(results)), layout="constrained")
    labels = [f"{r.name}, {r.text}, {r.precision}" for r in results]
    axes.barh(labels, middles, xerr=list(zip(*spans, strict=True)), capsize=3, color="tab:blue")
    axes.invert_yaxis()
    axes.axvline(1, color="gray", linewidth=1)
    axes.set_xlabel("real tokens a second, aigc-text / Trainer")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
