"""Times one adversarial step of `gan` beside a plain implementation of the same step, and measures the memory of both.

    python scripts/benchmarks/bench_gan.py --output bench.json

A step is one update of the discriminator and one of the generator: batch 64, length 37, a vocabulary of 4,682. The
plain one is what a reader of the paper would write: a Python loop over time with an LSTM cell, the Gumbel-softmax
inside it with gradients all along, words as one-hot matrices in full, convolutions and maxima over all outputs, the
discriminator run on real and on generated sentences apart, sentences drawn anew for each of both. Weights, losses and
optimizers are the same; no sentence ends early. Both take turns, so that what else the machine does slows both alike;
peak memory is that of a process of its own. `--full` is RelGAN's discriminator (64 representations, 300 filters) and
takes a while.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from devices import seconds
from torch import nn

from aigc_text.models.gan.config import GANConfig
from aigc_text.models.gan.discriminator import WIDTHS, Discriminator
from aigc_text.models.gan.losses import discriminator_loss, generator_loss
from aigc_text.models.gan.model import GANForCausalLM
from aigc_text.models.gan.objective import Adversarial, GANTraining
from aigc_text.training import trainer


@dataclass(frozen=True)
class Shape:
    """What a step is about: rows, words of a sentence, words there are, and the model's sizes."""

    representations: int
    filters: int
    batch: int = 64
    length: int = 37
    vocabulary: int = 4682
    embedding: int = 128
    hidden: int = 512
    discriminator: int = 64


SMALL, FULL = Shape(representations=8, filters=100), Shape(representations=64, filters=300)
BAR, BETA, RATE = 2.0, 2.0, 1e-4


def model_of(shape: Shape, device: str) -> GANForCausalLM:
    torch.manual_seed(0)
    config = GANConfig(
        vocab_size=shape.vocabulary, embedding_size=shape.embedding, hidden_size=shape.hidden,
        representations=shape.representations, filters=shape.filters, discriminator_size=shape.discriminator,
        discriminator_dropout=0.0, bos_token_id=0, pad_token_id=0,
    )  # fmt: skip  # without an end no sentence is shorter than another
    return GANForCausalLM(config).to(device).train()


def real_batch(shape: Shape, seed: int = 1) -> torch.Tensor:
    size = (shape.batch, shape.length + 1)
    return torch.randint(1, shape.vocabulary, size, generator=torch.Generator().manual_seed(seed))


def ours(shape: Shape, device: str, precision: str) -> Iterator[dict[str, float]]:
    """Yields the logs after each step."""
    model, ids = model_of(shape, device), real_batch(shape)
    options = GANTraining(
        max_steps=10_000, likelihood_steps=0, learning_rate=RATE, generator_rate=1.0, discriminator_rate=1.0,
        inverse_temperature=BETA, inverse_temperature_schedule="fixed", weight_decay=0.0, deliver="last",
        precision=precision, max_grad_norm=5.0,
    )  # fmt: skip
    objective = Adversarial(options, {"length": shape.length})
    for report in trainer.train(model, objective, [{"input_ids": ids, "labels": ids}], options):
        yield report.logs


# The plain implementation


class PlainGAN(nn.Module):
    """The same model, written as the papers have it; it takes over the weights of ours."""

    def __init__(self, model: GANForCausalLM) -> None:
        super().__init__()
        layer: Any = model.recurrent.layers[0]
        self.embedding, self.projection, self.output = model.embedding, model.projection, model.output
        self.cell = nn.LSTMCell(layer.input_size, layer.hidden_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(self.cell, name, getattr(layer, name + "_l0"))
        self.judge: Any = model.discriminator

    def draw(self, rows: int, length: int) -> torch.Tensor:
        """(B, L, V) soft words, with gradients through the whole loop."""
        weight = self.embedding.weight
        tokens = torch.zeros(rows, dtype=torch.long, device=weight.device)
        h = c = torch.zeros(rows, self.cell.hidden_size, device=weight.device)
        shown = []
        for _ in range(length):
            h, c = self.cell(self.embedding(tokens), (h, c))
            logits = self.output(self.projection(h))
            noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-20, 1 - 1e-7)))
            shown.append(torch.softmax(BETA * (logits + noise), 1))
            tokens = (logits + noise).argmax(1)
        return torch.stack(shown, 1)

    def score(self, words: torch.Tensor) -> torch.Tensor:
        """(B, R) of one-hot or soft words (B, L, V)."""
        return plain_scores(self.judge, words)


def plain_scores(judge: Discriminator, words: torch.Tensor) -> torch.Tensor:
    """The discriminator by convolutions and maxima over all of their outputs."""
    r, size = judge.representations, judge.size
    x = (words @ judge.weight)[:, None]  # (B, 1, L, R S)
    found = []
    for width, layer in zip(WIDTHS, judge.filters, strict=True):
        kernel = layer.weight.view(-1, 1, width, size)
        out = F.relu(F.conv2d(x, kernel, layer.bias, stride=(1, size)))  # (B, F, L', R)
        found.append(F.max_pool2d(out, (out.shape[2], 1)).squeeze(2))  # (B, F, R)
    x = torch.cat(found, 1).transpose(1, 2).reshape(len(words) * r, -1)
    if judge.gate is not None and judge.change is not None:
        gate = torch.sigmoid(judge.gate(x))
        x = gate * F.relu(judge.change(x)) + (1 - gate) * x
    return judge.score(x).view(len(words), r)


def plain(shape: Shape, device: str) -> Iterator[dict[str, float]]:
    """Yields the losses after each step."""
    model = model_of(shape, device)
    gan = PlainGAN(model)
    groups = Adversarial(GANTraining()).groups(model)
    optimizers = {name: torch.optim.Adam(parameters, RATE) for name, parameters in groups.items()}
    ids = real_batch(shape).to(device)[:, 1:]

    def update(group: str, loss: torch.Tensor) -> None:
        for o in optimizers.values():
            o.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(groups[group], 5.0)
        optimizers[group].step()

    while True:
        hot = F.pad(F.one_hot(ids, shape.vocabulary).float(), (0, 0, 0, max(WIDTHS)))
        with torch.no_grad():
            fake = F.pad(gan.draw(shape.batch, shape.length), (0, 0, 0, max(WIDTHS)))
        judged = discriminator_loss("relativistic", gan.score(hot), gan.score(fake))
        update("discriminator", judged)
        fake = F.pad(gan.draw(shape.batch, shape.length), (0, 0, 0, max(WIDTHS)))
        taught = generator_loss("relativistic", gan.score(hot), gan.score(fake))
        update("generator", taught)
        yield {"discriminator_loss": float(judged.detach()), "generator_loss": float(taught.detach())}


# Measuring


def timed(work: Iterator[Any], steps: int, device: str) -> float:
    return seconds(lambda: deque(itertools.islice(work, steps), maxlen=0), device) / steps


def peak(which: str, given: argparse.Namespace) -> float:
    """Peak memory in GiB of two steps in a process of its own."""
    words = ["--only", which, "--device", given.device, "--precision", given.precision]
    words += ["--threads", str(given.threads)] + ["--full"] * given.full
    done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def alone(which: str, given: argparse.Namespace) -> float:
    shape = FULL if given.full else SMALL
    work = ours(shape, given.device, given.precision) if which == "ours" else plain(shape, given.device)
    timed(work, 2, given.device)
    if given.device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps of a turn")
    parser.add_argument("--full", action="store_true", help="RelGAN's discriminator")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of ours; the plain one has fp32")
    parser.add_argument("--only", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.device == "cpu":
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    if given.only:
        print(alone(given.only, given))
        return
    memory = {which: peak(which, given) for which in ("ours", "plain")}
    shape = FULL if given.full else SMALL
    works = (ours(shape, given.device, given.precision), plain(shape, given.device))
    spans = [[timed(work, given.steps, given.device) for work in works] for _ in range(given.pairs + 1)][1:]
    ratios = [theirs / own for own, theirs in spans]
    machine = f"{platform.machine()}, {given.threads} thread(s), torch {torch.__version__}"
    found = {"machine": machine, **vars(given), "seconds": spans, "memory_gib": memory, "output": None}
    own, theirs = (statistics.median(column) for column in zip(*spans, strict=True))
    middle = statistics.median(ratios)
    bar = "met" if middle >= 0.97 * BAR else "missed"
    size = "64 representations, 300 filters" if given.full else "8 representations, 100 filters"
    print(
        f"machine: {machine}\n\n| discriminator | ours, s | plain, s | ratio (range) | bar | ours, GiB | plain, GiB |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {size} | {own:.2f} | {theirs:.2f} | {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
        f"≥ {BAR:g}: {bar} | {memory['ours']:.2f} | {memory['plain']:.2f} |"
    )
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
