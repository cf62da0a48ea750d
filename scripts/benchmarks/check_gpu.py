"""Tries every built-in backend that can be trained on a GPU, and prints a table; takes a few minutes.

    python scripts/benchmarks/check_gpu.py
    python scripts/benchmarks/check_gpu.py --device cpu --tiny      # the same checks without a GPU, in seconds

Each backend trains a small model from scratch in bf16, is stopped half-way and resumed, and generates. What fails is
told in a line below the table, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # with it the resumed run can be compared to the digit
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from devices import name_of

from aigc_text import TrainingOptions, UserError, from_scratch, load, train
from aigc_text.backends.builtin import built_in

# Fields of the configuration, by backend; a family that is not here is made as its own defaults have it.
GPT2 = {"n_layer": 8, "n_embd": 512, "n_head": 8, "n_positions": 512}
SIZES: dict[str, dict[str, Any]] = {"gpt2": GPT2, "code": GPT2}
TINY_GPT2 = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32}
TINY_WIDTH = {"hidden_size": 16, "num_hidden_layers": 1}
TINY: dict[str, dict[str, Any]] = {
    "gpt2": TINY_GPT2,
    "code": TINY_GPT2,
    "rnn": {**TINY_WIDTH, "embedding_size": 16},
    "transformer": {**TINY_WIDTH, "num_attention_heads": 2, "max_position_embeddings": 32},
    "vae": {"hidden_size": 16, "embedding_size": 16},
    "gan": {"hidden_size": 16, "embedding_size": 16, "representations": 4, "discriminator_size": 8, "filters": 8},
}

TEXT = """The cat sat on the mat and the dog sat on the log, and neither of them said a word to the other.
Once upon a time there was a king who had a daughter, and she could count the stars without a pause.
def add(first, second):
    return first + second
Rain fell on the roof all night; in the morning the river stood as high as the garden wall.
"""
PROMPTS = ["The cat", "Once upon a time there", "def add(", "Rain", "the king", "", "and she could count", "the river"]
SLACK = 1e-3  # relative difference of the resumed run's losses on a GPU, where some sums have no fixed order

COLUMNS = (
    "training step, bf16",
    "resumed step",
    "generation",
    "greedy text, fp32, against the CPU",
    "same text at other batch sizes",
    "peak memory",
    "tokens a second",
)


HEAD = (f"| backend | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|")


class Failure(Exception):
    """A cell's check failed; the message says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="models and batches of a size for tests")
    parser.add_argument("--backend", action="append", help="only this one; may be repeated")
    given = parser.parse_args()
    require(given.device)
    print(about(given.device), "", *HEAD, sep="\n")
    reasons: list[str] = []
    with comparable(given.device):
        for name in given.backend or trainable():
            cells, wrong = checked(name, given.device, given.tiny)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
            reasons += wrong
    print(*["", *reasons] if reasons else [], sep="\n", end="\n" if reasons else "")
    sys.exit(1 if reasons else 0)


def require(device: str) -> None:
    """Ends the program where the machine does not have the device, and keeps the training loop to the CPU if asked."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        sys.exit(f"no device {device!r} here: {str(error).splitlines()[0]}")
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # the loop would take a GPU that is there


def trainable() -> list[str]:
    """The built-in backends that can be trained."""
    return [name for name, backend in built_in().items() if backend.capabilities.training]


@contextmanager
def comparable(device: str) -> Iterator[None]:
    """Within it a GPU repeats its results, and fp32 is fp32: cuDNN's recurrent layers use TF32 otherwise."""
    if device == "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    tf32 = torch.backends.cudnn.allow_tf32
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.allow_tf32 = tf32


def checked(name: str, device: str, tiny: bool) -> tuple[list[str], list[str]]:
    """The cells of a backend's row, and a line for each that failed."""
    with tempfile.TemporaryDirectory() as folder:
        return Check(name, device, tiny, Path(folder)).row()


def about(device: str) -> str:
    what = name_of(device)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{device}: {what}. {versions}."


def loss(logs: dict[str, float]) -> float:
    """That of the model, or where there are several, that of the generator."""
    return logs["loss"] if "loss" in logs else logs["generator_loss"]


class Check:
    """One backend's row. A cell that fails leaves the later ones to be tried all the same."""

    def __init__(self, name: str, device: str, tiny: bool, folder: Path) -> None:
        self.name, self.device, self.folder = name, device, folder
        self.sizes = (TINY if tiny else SIZES).get(name, {})
        self.data = folder / "text.txt"
        self.data.write_text(TEXT * (20 if tiny else 2000), encoding="utf-8")
        self.new_tokens = 8 if tiny else 48
        self.options = TrainingOptions(
            max_steps=4 if tiny else 20,
            batch_size=4 if tiny else 16,
            block_size=16 if tiny else 256,
            sample_by="line",
            precision="bf16",
            learning_rate=1e-3,
            warmup_steps=1,
            save_every=2 if tiny else 10,
            validation_split=0.0,
        )
        self.losses: list[float] = []
        self.speeds: list[str] = []
        self.memory = "n/a"

    def row(self) -> tuple[list[str], list[str]]:
        """The cells, and a line for each that failed."""
        checks = (self.trains, self.resumes, self.generates, self.greedy, self.batch_sizes)
        cells, reasons = [], []
        for column, check in zip(COLUMNS, checks, strict=False):
            cells.append(self.cell(check, column, reasons))
        return [*cells, self.memory, "; ".join(self.speeds) or "–"], reasons

    def cell(self, check: Callable[[], str], column: str, reasons: list[str]) -> str:
        try:
            return check()
        except Failure as failure:
            reason = str(failure)
        except UserError as error:
            reason = error.message
        except Exception as error:  # whatever it is, the other cells are tried
            reason = f"{type(error).__name__}: {error}"
        reasons.append(f"{self.name}, {column}: {' '.join(reason.split())[:300]}")
        return "failed"

    def fresh(self) -> Any:
        return from_scratch(self.name, [TEXT], vocab_size=300, **self.sizes)

    def trains(self) -> str:
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)
        times = []
        for report in train(self.fresh(), self.data, self.folder / "whole", options=self.options):
            if report.logs:
                times.append(time.perf_counter())
                self.losses.append(loss(report.logs))
        if self.device.startswith("cuda"):
            self.memory = f"{torch.cuda.max_memory_allocated(self.device) / 2**20:,.0f} MiB"
        # Without the first update, which sets things up, nor what follows a checkpoint.
        spans = sorted(b - a for a, b in itertools.pairwise(times))
        packed = built_in()[self.name].packing
        if packed:
            tokens = self.options.batch_size * (self.options.block_size or 0)
            self.speeds.append(f"{tokens / spans[len(spans) // 2]:,.0f} trained")
        # Sentences are of other lengths in each batch, and adversaries need not fall.
        if not all(map(math.isfinite, self.losses)) or (packed and self.losses[-1] >= self.losses[0]):
            raise Failure(f"the losses do not fall: {self.losses}")
        return f"loss {self.losses[0]:.2f} to {self.losses[-1]:.2f}"

    def resumes(self) -> str:
        """A run that is stopped after its first checkpoint goes on with the losses of the unbroken one."""
        folder, half = self.folder / "broken", self.options.save_every
        first = train(self.fresh(), self.data, folder, options=self.options)
        for _ in itertools.islice(first, half):
            pass
        first.close()
        reports = list(train(self.fresh(), self.data, folder, options=self.options, resume=True))
        found = {r.step: loss(r.logs) for r in reports if r.logs}
        expected = dict(enumerate(self.losses[half:], half + 1))
        if list(found) != list(expected):
            raise Failure(f"updates {list(found)} were made, not {list(expected)}")
        apart = max(abs(found[n] - expected[n]) / expected[n] for n in expected)
        if apart > (0 if self.device == "cpu" else SLACK):
            raise Failure(f"losses {list(found.values())}, unbroken {list(expected.values())}")
        return "same loss" if not apart else f"same loss to {apart:.0e}"

    def generates(self) -> str:
        backend = self.trained(None)
        self.texts(backend, seed=0)  # warms up
        start = time.perf_counter()
        made = list(backend.generate(PROMPTS, max_new_tokens=self.new_tokens, do_sample=True, seed=1, batch_size=8))
        tokens = sum(c.tokens for c in made)
        self.speeds.append(f"{tokens / (time.perf_counter() - start):,.0f} generated")
        if not tokens or not any(c.text for c in made):
            raise Failure("all texts are empty")
        return f"{tokens} tokens, {backend.precision}"

    def greedy(self) -> str:
        here = self.texts(self.trained("fp32"), do_sample=False, seed=3)
        there = self.texts(load(str(self.folder / "whole"), device="cpu", dtype="fp32"), do_sample=False, seed=3)
        for prompt, a, b in zip(PROMPTS, here, there, strict=True):
            if a != b:
                raise Failure(f"prompt {prompt!r} gives {a!r}, on the CPU {b!r}")
        return "equal"

    def batch_sizes(self) -> str:
        """In the model's own precision; it fails only where a text was promised to be the same and is not."""
        backend = self.trained(None)
        whole, alone = (
            list(backend.generate(PROMPTS, max_new_tokens=self.new_tokens, do_sample=True, seed=2, batch_size=n))
            for n in (len(PROMPTS), 1)
        )
        other = [a.text for a, b in zip(whole, alone, strict=True) if a.text != b.text]
        if other and whole[0].exact:
            raise Failure(f"{len(other)} of {len(PROMPTS)} texts differ, which Completion.exact denies")
        return f"no: {len(other)} of {len(PROMPTS)} differ" if other else "yes"

    def trained(self, dtype: str | None) -> Any:
        return load(str(self.folder / "whole"), device=self.device, **({"dtype": dtype} if dtype else {}))

    def texts(self, backend: Any, **options: Any) -> list[str]:
        made = backend.generate(PROMPTS, max_new_tokens=self.new_tokens, batch_size=8, **options)
        return [completion.text for completion in made]


if __name__ == "__main__":
    main()
