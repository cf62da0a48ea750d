"""Times generation beside what a user would take instead: transformers' `generate` and `pipeline`, CTranslate2 by hand.

    python scripts/benchmarks/bench_generate.py                      # everything: about an hour and a half on two cores
    python scripts/benchmarks/bench_generate.py --part steps --pairs 3
    python scripts/benchmarks/bench_generate.py --part file --prompts 128 --pairs 3
    python scripts/benchmarks/bench_generate.py --part bits --text prose.txt

The model is made here with random weights (speed does not depend on them), in the geometry of GPT-2. All that is
compared takes turns, so that a busy machine slows all; a ratio is the median over the turns, with its range. In `steps`
and `curve` a text is 16 tokens of prompt and 64 new ones, sampled among the 50 likeliest. In `file` the prompts have 8
to 200 tokens, and a text ends by itself after 4 to 128: the end's score is set so that it comes once in 60 tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers
from devices import processor
from random_gpt2 import NEW, TOP, WORDS, by_engine, by_generate, make, prompts_of_ids

from aigc_text import load

PARTS = ("steps", "curve", "file", "memory", "start", "bits")
SIZES = {"gpt2": {}, "small": {"n_layer": 4, "n_embd": 256, "n_head": 4}}
LONGEST, SHORTEST = 128, 4  # tokens of a text of a file
BUNDLED = "bundled:gpt2-tales"


class Field:
    """All who take part, loaded once."""

    def __init__(self, folder: Path) -> None:
        import ctranslate2

        engines = {
            "torch fp32": {"engine": "torch"},
            "torch bf16": {"engine": "torch", "dtype": "bf16"},
            "ctranslate2 fp32": {"engine": "ctranslate2"},
            "ctranslate2 int8": {"engine": "ctranslate2", "quantize": "int8"},
        }
        self.own: dict[str, Any] = {name: load("gpt2", str(folder), **how) for name, how in engines.items()}
        self.hand = {
            kind: ctranslate2.Generator(str(self.own[f"ctranslate2 {kind}"].converted.folder), compute_type=name)
            for kind, name in (("fp32", "float32"), ("int8", "int8"))
        }

    def steps(self, batch: int) -> dict[str, Callable[[], None]]:
        """By name, what makes `batch` texts of equal length."""
        ids = prompts_of_ids(batch)
        found: dict[str, Callable[[], None]] = {}
        for name, backend in self.own.items():
            loaded = self.hand.get(backend.precision.replace("float32", "fp32"))
            found[name] = lambda b=backend, g=loaded: by_engine(b, ids, generator=g)
        for kind in ("fp32", "bf16"):
            found[f"generate {kind}"] = lambda m=self.own[f"torch {kind}"].model: by_generate(m, ids)
        for kind, generator in self.hand.items():
            found[f"by hand {kind}"] = lambda g=generator: self._by_hand(g, ids)
        return found

    def _by_hand(self, generator: Any, ids: torch.Tensor) -> None:
        generator.generate_batch(
            [[str(i) for i in row] for row in ids.tolist()], max_length=NEW, min_length=NEW, sampling_topk=TOP,
            include_prompt_in_result=False,
        )  # fmt: skip

    def file(self, prompts: list[str]) -> dict[str, Callable[[], None]]:
        """By name, what makes a text of each prompt."""
        how = {"do_sample": True, "top_k": TOP, "max_new_tokens": LONGEST, "min_new_tokens": SHORTEST}
        found: dict[str, Callable[[], None]] = {}
        for name in ("torch fp32", "torch bf16", "ctranslate2 int8"):
            found[name] = lambda b=self.own[name]: _all(b.generate(prompts, seed=1, top_p=1.0, **how))
        pipe = transformers.pipeline(
            "text-generation", model=self.own["torch fp32"].model, tokenizer=self.own["torch fp32"].tokenizer
        )
        pipe.tokenizer.padding_side = "left"
        found["pipeline fp32"] = lambda: _all(pipe(list(prompts), batch_size=16, return_full_text=False, **how))
        rows = [[w[1:] for w in prompt.split()] for prompt in prompts]

        def by_hand() -> None:
            for first in range(0, len(rows), 16):
                self.hand["int8"].generate_batch(
                    rows[first : first + 16], max_length=LONGEST, min_length=SHORTEST, sampling_topk=TOP,
                    include_prompt_in_result=False,
                )  # fmt: skip

        return {**found, "by hand int8": by_hand}


def _all(results: Any) -> None:
    for _ in results:
        pass


def prompts_of(count: int) -> list[str]:
    draw = random.Random(1)
    return [" ".join(f"w{draw.randrange(2, WORDS)}" for _ in range(draw.randint(8, 200))) for _ in range(count)]


def turns(works: dict[str, Callable[[], None]], pairs: int) -> dict[str, list[float]]:
    """Seconds of each by name, in turns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for n, (name, work) in itertools.product(range(pairs), works.items()):
        started = time.perf_counter()
        work()
        found[name].append(time.perf_counter() - started)
        print(f"\rturn {n + 1} of {pairs}: {name:24}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def against(seconds: dict[str, list[float]], name: str, other: str) -> tuple[float, str]:
    """How many times faster: the median of the turns, and it with its range."""
    ratios = [b / a for a, b in zip(seconds[name], seconds[other], strict=True)]
    middle = statistics.median(ratios)
    return middle, f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def row(work: str, against_whom: str, found: tuple[float, str], bar: float, most: bool = False) -> None:
    met = found[0] <= bar * 1.03 if most else found[0] >= bar * 0.97
    print(
        f"| {work} | {against_whom} | {found[1]} | {'≤' if most else '≥'} {bar}: {'met' if met else 'missed'} |",
        flush=True,
    )


STEPS = [
    ("torch fp32", "generate fp32", {1: 1.4, 8: 1.2, 32: 1.9}),
    ("torch fp32", "by hand fp32", {1: 1.0, 8: 1.0, 32: 1.0}),
    ("torch bf16", "generate bf16", {8: 1.5, 32: 2.2}),
    ("ctranslate2 int8", "generate fp32", {1: 4.5, 8: 6.0, 32: 4.5}),
    ("ctranslate2 int8", "by hand int8", {1: 0.97, 8: 0.97, 32: 0.97}),
    ("ctranslate2 fp32", "generate fp32", {1: 1.3, 8: 1.6, 32: 1.7}),
]


def steps(field: Field, given: argparse.Namespace) -> None:
    for batch in (1, 8, 32):
        works = field.steps(batch)
        turns(works, 1)
        seconds = turns(works, given.pairs)
        speeds = {name: batch * NEW / statistics.median(s) for name, s in seconds.items()}
        print(f"| batch {batch}, tokens/s | {', '.join(f'{n} {v:.0f}' for n, v in speeds.items())} | | |")
        for name, other, bars in STEPS:
            if batch in bars:
                row(f"{name}, batch {batch}", other, against(seconds, name, other), bars[batch])


def curve(field: Field, given: argparse.Namespace) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = [2**n for n in range(given.largest.bit_length())]
    found: dict[str, list[float]] = {}
    for batch in sizes:
        for name, seconds in turns(field.steps(batch), 1).items():
            found.setdefault(name, []).append(batch * NEW / seconds[0])
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    for name, speeds in found.items():
        axes.plot(sizes, speeds, marker="o", markersize=3, linestyle="-" if name in field.own else ":", label=name)
    axes.set(xscale="log", yscale="log", xlabel="texts at once", ylabel="tokens a second")
    axes.set_xticks(sizes, map(str, sizes))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(given.picture, dpi=120, bbox_inches="tight")
    print(f"| curve | {json.dumps({n: [round(v) for v in s] for n, s in found.items()})} | {given.picture} | |")


def file(field: Field, given: argparse.Namespace) -> None:
    seconds = turns(field.file(prompts_of(given.prompts)), given.pairs)
    shown = ", ".join(f"{n} {given.prompts / statistics.median(s):.2f}" for n, s in seconds.items())
    print(f"| file of {given.prompts}, texts/s | {shown} | | |")
    for name, other, bar in (
        ("torch fp32", "pipeline fp32", 3.0),
        ("ctranslate2 int8", "pipeline fp32", 10.0),
        ("ctranslate2 int8", "by hand int8", 1.3),
    ):
        row(f"{name}, file", other, against(seconds, name, other), bar)


def memory(folder: Path, given: argparse.Namespace) -> None:
    script = (
        "import resource, sys; from aigc_text.cli import main; import atexit;"
        "atexit.register(lambda: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)); main()"
    )
    peaks = []
    for count in (100, 10_000):
        source = folder / f"prompts-{count}.txt"
        source.write_text("\n".join(prompts_of(count)), encoding="utf-8")
        words = ["generate", "--backend", "gpt2", "--model", str(folder), "--prompts", str(source), "--seed", "1"]
        words += ["--max-new-tokens", "8", "--format", "jsonl", "--output", str(folder / f"out-{count}.jsonl")]
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split("peak")[1]) / 1024)
    row("memory, 10,000 prompts", "100", (peaks[1] / peaks[0], f"{peaks[1]:.0f} against {peaks[0]:.0f} MiB"), 1.1, True)


def start(given: argparse.Namespace) -> None:
    def run(*words: str) -> Callable[[], None]:
        return lambda: subprocess.run(words, capture_output=True, check=True) and None

    command = [sys.executable, "-m", "aigc_text", "generate", "--backend", "gpt2", "--model", BUNDLED]
    command += ["--prompt", "Once", "--seed", "1", "--max-new-tokens", "1"]
    works = {
        "torch": run(*command),
        "ctranslate2": run(*command, "--engine", "ctranslate2"),
        "import torch, transformers": run(sys.executable, "-c", "import torch, transformers"),
        "from transformers import GPT2LMHeadModel": run(
            sys.executable, "-c", "from transformers import GPT2LMHeadModel, AutoTokenizer"
        ),
    }
    turns(works, 1)
    seconds = turns(works, given.pairs)
    for name, other, bar in (
        ("torch", "import torch, transformers", 1.3),
        ("ctranslate2", "import torch, transformers", 0.6),
        ("torch", "from transformers import GPT2LMHeadModel", 1.3),
    ):
        back = {name: seconds[other], other: seconds[name]}
        row(f"{name}, command to first token", other, against(back, name, other), bar, True)


def bits(given: argparse.Namespace) -> None:
    """Bits per byte of the bundled prose model in int8 and in fp32, by CTranslate2's own scores, in windows."""
    if given.text is None:
        print("| bits per byte | give --text FILE | | |")
        return
    text = given.text.read_text(encoding="utf-8")[: given.characters]
    import ctranslate2

    found = {}
    for quantize in (None, "int8"):
        backend: Any = load("gpt2", BUNDLED, engine="ctranslate2", quantize=quantize)
        ids = backend.tokenizer(text)["input_ids"]
        rows = [["0", *map(str, part)] for part in _parts(ids, backend.converted.context - 1)]
        generator = ctranslate2.Generator(str(backend.converted.folder), compute_type=backend.converted.compute_type)
        scores = generator.score_batch(rows, max_batch_size=32, max_input_length=0)
        found[quantize] = -sum(sum(s.log_probs) for s in scores) / math.log(2) / len(text.encode())
    worse = found["int8"] / found[None]
    row("bits per byte, int8", "fp32", (worse, f"{found['int8']:.4f} against {found[None]:.4f}"), 1.005, True)


def _parts(ids: list[int], size: int) -> Iterator[list[int]]:
    return (ids[n : n + size] for n in range(0, len(ids), size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    parser.add_argument("--size", choices=SIZES, default="gpt2")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--largest", type=int, default=128, help="batch of the curve")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--picture", type=Path, default=Path("generation-speed.png"))
    parser.add_argument("--text", type=Path)
    parser.add_argument("--characters", type=int, default=200_000)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    parts = given.part or PARTS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIGC_TEXT_CACHE"] = str(Path(folder, "cache"))
        versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
        print(f"{processor()}, {given.threads} threads, {versions}, CTranslate2 {version('ctranslate2')}")
        print(f"model: {given.size}\n")
        print("| work | against | times | bar |\n|---|---|---|---|", flush=True)
        model = Path(folder, "model")
        make(model, SIZES[given.size])
        field = Field(model) if {"steps", "curve", "file"} & set(parts) else None
        if field:
            for part, work in (("steps", steps), ("curve", curve), ("file", file)):
                if part in parts:
                    work(field, given)
        if "memory" in parts:
            small = Path(folder, "small")
            make(small, SIZES["small"])
            memory(small, given)
        if "start" in parts:
            start(given)
        if "bits" in parts:
            bits(given)


if __name__ == "__main__":
    main()
