"""Measures the training of `vae` beside a plain PyTorch loop of the same VAE, and how its cost grows.

    python scripts/benchmarks/bench_vae.py --data train.txt --output bench.json

The plain loop is what a reader would write: sentences in random order, each batch padded to its longest one, a
bidirectional `nn.LSTM` over packed rows, fp32, AdamW. Both train the model of `scripts/recipes/vae_coco.yaml` on
batches of 64 sentences and take turns, some updates each, so that what else the machine does slows both alike. A ratio
is of real tokens a second (padding counts for nothing), the median of the turns, with its range.

Then ours alone: seconds a token for a quarter, a half and all of the data, and for rows of 16 to 128 tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import torch.nn.functional as F
import yaml
from devices import seconds
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from aigc_text import from_scratch
from aigc_text.models.vae.objective import VAETraining
from aigc_text.training import trainer

RECIPE = Path(__file__).parents[1] / "recipes" / "vae_coco.yaml"
BATCH, BAR = 64, 1.5
LENGTHS = (16, 32, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=15, help="updates of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lines = given.data.read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {given.threads} thread(s), torch {torch.__version__}",
        "beside the plain loop": {p: beside(lines, p, given.turns, given.steps) for p in ("fp32", "bf16")},
        "seconds a token by sentences of data": {
            n: alone(lines[:n], given.turns, given.steps) for n in (len(lines) // 4, len(lines) // 2, len(lines))
        },
        "seconds a token by tokens of a row": {n: alone(rows(lines, n), given.turns, given.steps) for n in LENGTHS},
    }
    print(table(found))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(found: dict[str, Any]) -> str:
    lines = [f"machine: {found['machine']}", "", "| precision | ratio | range | bar |", "|---|---|---|---|"]
    for precision, ratios in found["beside the plain loop"].items():
        middle = statistics.median(ratios)
        bar = "met" if middle >= 0.97 * BAR else "missed"
        lines.append(f"| {precision} | {middle:.2f} | {min(ratios):.2f} to {max(ratios):.2f} | {BAR}: {bar} |")
    for what in ("seconds a token by sentences of data", "seconds a token by tokens of a row"):
        spans = found[what]
        first = statistics.median(next(iter(spans.values())))
        shown = ", ".join(f"{n}: {statistics.median(s) / first:.2f}" for n, s in spans.items())
        lines += ["", f"{what}, the first as 1: {shown}"]
    return "\n".join(lines)


def made(lines: list[str], precision: str, steps: int, **sizes: int) -> tuple[Any, Any, VAETraining]:
    """Our backend with random weights, its batches, and the recipe's options.

    Args:
        sizes: fields of the model's configuration that are not to be the recipe's.
    """
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    config = {"vocab_size": recipe["vocab_size"], **recipe["config"], **sizes}
    backend = from_scratch("vae", lines, tokenizer=recipe["tokenizer"], **config)
    values = {k: v for k, v in recipe.items() if k in VAETraining.fields()}
    values |= {"precision": precision, "max_steps": steps, "batch_size": BATCH, "block_size": 256}
    options = VAETraining.parse(values)
    return backend, backend.batches(lines, options), options


class Counted:
    """Batches, with the real tokens of each that is taken."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.tokens = batches, 0

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            self.tokens += int((batch["labels"][:, 1:] != -100).sum())
            yield batch


def ours(lines: list[str], precision: str, steps: int, **sizes: int) -> Iterator[int]:
    """Yields the real tokens trained on so far after each update."""
    backend, batches, options = made(lines, precision, steps, **sizes)
    counted = Counted(batches)
    for _ in trainer.train(backend.model.train(), backend.objective(options), counted, options):
        yield counted.tokens


def rows(lines: list[str], length: int) -> list[str]:
    """As many sentences of about so many tokens, made of the data's words."""
    words = " ".join(lines[:2000]).split()
    draw = random.Random(0)
    return [" ".join(draw.choices(words, k=int(length * 0.8))) for _ in range(1000)]


def timed(work: Iterator[int], steps: int, before: int, device: str = "cpu") -> tuple[float, int]:
    """Seconds of so many updates, and the tokens trained on so far."""
    tokens = [before]
    return seconds(lambda: tokens.extend(itertools.islice(work, steps)), device), tokens[-1]


def beside(lines: list[str], precision: str, turns: int, steps: int) -> list[float]:
    """Ratios of real tokens a second, ours to the plain loop's, a turn each; a first turn of both warms up."""
    works = [ours(lines, precision, (turns + 1) * steps), plain(lines)]
    done, ratios = [0, 0], []
    for _ in range(turns + 1):
        speeds = []
        for n, work in enumerate(works):
            span, tokens = timed(work, steps, done[n])
            speeds.append((tokens - done[n]) / span)
            done[n] = tokens
        ratios.append(speeds[0] / speeds[1])
    return ratios[1:]


def alone(lines: list[str], turns: int, steps: int) -> list[float]:
    """Seconds a real token of our loop in fp32, a turn each."""
    work, done, found = ours(lines, "fp32", (turns + 1) * steps), 0, []
    for _ in range(turns + 1):
        span, tokens = timed(work, steps, done)
        found.append(span / (tokens - done))
        done = tokens
    return found[1:]


# The plain loop


class PlainVAE(nn.Module):
    """The recipe's VAE as a reader would write it: one bidirectional LSTM that reads, one LSTM that writes."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, latent: int, dropout: float) -> None:
        super().__init__()
        self.read, self.embedding = nn.Embedding(vocabulary, embedding), nn.Embedding(vocabulary, embedding)
        self.encoder = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.mean, self.log_variance = nn.Linear(2 * hidden, latent), nn.Linear(2 * hidden, latent)
        self.first = nn.Linear(latent, hidden)
        self.decoder = nn.LSTM(embedding + latent, hidden, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)
        self.output.weight = self.embedding.weight
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The negative ELBO of sentences (B, T) of these lengths (B,), on the CPU; the mean over them."""
        packed = pack_padded_sequence(self.read(ids), lengths, batch_first=True, enforce_sorted=False)
        last = self.encoder(packed)[1][0].transpose(0, 1).flatten(1)  # (B, 2 H)
        mean, log_variance = self.mean(last), self.log_variance(last)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        cell = self.first(z)[None]
        x = self.dropout(self.embedding(ids[:, :-1]))
        x = torch.cat([x, z[:, None].expand(-1, x.shape[1], -1)], 2)
        out, _ = self.decoder(x, (cell.tanh(), cell))
        logits = self.output(self.dropout(out))  # (B, T - 1, V)
        places = torch.arange(1, ids.shape[1], device=ids.device)
        targets = ids[:, 1:].masked_fill(places >= lengths.to(ids.device)[:, None], -100)
        nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / len(ids)
        return nll + 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()


def plain(lines: list[str], device: str = "cpu", **sizes: int) -> Iterator[int]:
    """Yields the real tokens trained on so far after each update of the plain loop."""
    backend, _, options = made(lines, "fp32", 1, **sizes)
    c, end = backend.model.config, backend.tokenizer.eos_token_id
    torch.manual_seed(0)
    model = PlainVAE(c.vocab_size, c.embedding_size, c.hidden_size, c.latent_size, c.output_dropout).to(device)
    texts = backend.tokenizer(lines, add_special_tokens=False)["input_ids"]
    sentences = [torch.tensor([end, *ids, end]) for ids in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    tokens, draw = 0, random.Random(0)
    while True:
        order = draw.sample(range(len(sentences)), len(sentences))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            batch = [sentences[n] for n in order[first : first + BATCH]]
            lengths = torch.tensor([len(s) for s in batch])
            ids = nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=end).to(device)
            loss = model(ids, lengths)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm)
            optimizer.step()
            tokens += int(lengths.sum()) - BATCH
            yield tokens


if __name__ == "__main__":
    main()
