"""Times generation of recurrent models: a token costs the same after 1,000 tokens as after none.

    python scripts/benchmarks/bench_rnn.py
    python scripts/benchmarks/bench_rnn.py --cell gru --hidden-size 1024

Random weights, one text, arg max. Short and long texts take turns; `ratio` is of the medians of CPU seconds a token,
which other programs of the machine hardly change.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from transformers.utils import logging

from aigc_text import from_scratch

LENGTHS = (128, 1024)
LETTERS = "abcdefghijklmnopqrstuvwxyz .,"
BAR = 1.1  # of a long text's seconds a token over a short one's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=("lstm", "gru"), action="append", help="only this one")
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs=2, default=LENGTHS, metavar=("SHORT", "LONG"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.set_verbosity_error()  # it warns of each option that the arg max does not heed
    short, long = given.lengths
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    sizes = f"{given.layers} layers of {given.hidden_size}"
    print(f"{platform.machine()}, {given.threads} thread(s), {versions}; {sizes}\n")
    print(f"| cell | {short} tokens, CPU ms a token | {long} tokens, CPU ms a token | ratio (range of turns) | bar |")
    print("|---|---|---|---|---|", flush=True)
    for cell in given.cell or ("lstm", "gru"):
        torch.manual_seed(0)
        model = from_scratch(
            "rnn", [LETTERS], tokenizer="char", cell=cell, hidden_size=given.hidden_size, num_hidden_layers=given.layers
        )
        seconds(model, 8)
        turns = [[seconds(model, n) / n for n in (short, long)] for _ in range(given.turns)]
        a, b = (statistics.median(t) for t in zip(*turns, strict=True))
        ratios = [turn[1] / turn[0] for turn in turns]
        met = "met" if b / a <= BAR else "missed"
        spread = f"{b / a:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {cell} | {1e3 * a:.2f} | {1e3 * b:.2f} | {spread} | ≤ {BAR}: {met} |", flush=True)


def seconds(model: Any, tokens: int) -> float:
    start = time.process_time()
    (made,) = model.generate(["a"], max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    assert made.tokens == tokens
    return time.process_time() - start


if __name__ == "__main__":
    main()
