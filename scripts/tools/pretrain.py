"""Trains the models that ship with the package, from scratch, and makes their folders under aigc_text/bundled.

    python scripts/tools/pretrain.py prose --data DATA --output runs/prose   # about 100 minutes on one core with AMX
    python scripts/tools/pretrain.py prose --data DATA --output runs/prose --bundle aigc_text/bundled/gpt2-tales
    python scripts/tools/pretrain.py code --data DATA --humaneval HumanEval.jsonl --output runs/code
    python scripts/tools/pretrain.py code --data DATA --output runs/code --bundle aigc_text/bundled/gpt2-python

DATA holds `fairytales`, `novels` and `python_code`, a folder each with `train.jsonl` and `valid.jsonl`: one JSON
object a book or file, its text in `text`. With --bundle the finished run is measured and packed, not trained.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import lzma
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from bundle import pack

from aigc_text import TrainingOptions, from_scratch, load, train
from aigc_text.data.readers import read_jsonl
from aigc_text.data.sources import Source
from aigc_text.scoring.totals import total

SHARED_TOKENS = 13  # a function with a run of this many tokens in common with HumanEval is dropped (GPT-3, app. C)


@dataclass(frozen=True)
class Recipe:
    """What one model is trained on, and how."""

    backend: str
    data: tuple[str, ...]  # a name given twice counts twice
    context: int
    options: TrainingOptions
    sampling: dict
    prompt: str
    licence: str


COMMON = {
    "learning_rate": 5e-3,
    "optimizer": "muon",
    "schedule": "linear",
    "warmup_steps": 60,
    "adam_beta2": 0.97,
    "precision": "bf16",
    "compile": True,
    "eval_every": 100,
    "save_every": 50,
}
SIZES = {"n_layer": 6, "n_embd": 256, "n_head": 4, "activation_function": "gelu_pytorch_tanh"}
VOCABULARY = 4096
RECIPES = {
    "prose": Recipe(
        backend="gpt2",
        data=("fairytales", "fairytales", "novels"),
        context=256,
        options=TrainingOptions(max_steps=1750, batch_size=32, block_size=256, **COMMON),
        sampling={
            "do_sample": True,
            "temperature": 0.8,
            "top_p": 0.95,
            "no_repeat_ngram_size": 4,
            "max_new_tokens": 128,
        },
        prompt="Once upon a time",
        licence="Public-domain books (in the US)",
    ),
    "code": Recipe(
        backend="code",
        data=("python_code",),
        context=512,
        options=TrainingOptions(max_steps=1250, batch_size=16, block_size=512, **COMMON),
        sampling={"do_sample": True, "temperature": 0.5, "top_p": 0.95, "max_new_tokens": 128},
        prompt='def read_lines(path):\n    """Return the lines of a file."""\n',
        licence="CPython standard library (PSF-2.0); TheAlgorithms/Python, keon/algorithms, geekcomputers/Python (MIT)",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--humaneval", type=Path, help="drop functions that share tokens with these problems")
    parser.add_argument("--bundle", type=Path, help="pack the finished run into this folder")
    parser.add_argument("--words", type=Path, help="with --bundle: write the words of the training text here, gzipped")
    given = parser.parse_args()
    recipe = RECIPES[given.recipe]
    files = [given.data / name / "train.jsonl" for name in recipe.data]
    valid = given.data / recipe.data[0] / "valid.jsonl"
    if given.bundle:
        bundle(recipe, given.output, given.bundle, files, valid, given.words)
        return
    if given.humaneval:
        files = [decontaminated(files[0], given.humaneval, given.output.with_suffix(".train.jsonl"))]
    run(recipe, files, valid, given.output)


def run(recipe: Recipe, files: list[Path], valid: Path, output: Path) -> None:
    texts = list(Source(list(dict.fromkeys(files))))
    backend = from_scratch(recipe.backend, texts, vocab_size=VOCABULARY, n_positions=recipe.context, **SIZES)
    backend.model.set_attn_implementation("eager")  # compiled, it is faster on the CPU than the fused kernel
    for progress in train(backend, files, output, validation=valid, options=recipe.options, resume=output.exists()):
        if progress.message or progress.step % 10 == 0:
            figures = " ".join(f"{k} {v:.4f}" for k, v in progress.logs.items())
            print(f"{progress.step} of {progress.total} {figures} {progress.message}", file=sys.stderr, flush=True)


# No function of the benchmark may be in the training text


def tokens_of(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def runs_of(text: str) -> set[tuple[str, ...]]:
    found = tokens_of(text)
    return {tuple(found[i : i + SHARED_TOKENS]) for i in range(len(found) - SHARED_TOKENS + 1)}


def decontaminated(data: Path, humaneval: Path, output: Path) -> Path:
    """Writes `data` without the functions that share a run of tokens with the benchmark, and says how many."""
    problems: set[tuple[str, ...]] = set()
    for _, record in read_jsonl(humaneval):
        problems |= runs_of(record["prompt"] + record["canonical_solution"] + record["test"])
    dropped = seen = 0
    with output.open("w", encoding="utf-8") as stream:
        for _, record in read_jsonl(data):
            text, out, all_ = without_shared(record["text"], problems)
            dropped, seen = dropped + out, seen + all_
            if text.strip():
                stream.write(json.dumps({**record, "text": text}) + "\n")
    print(f"dropped {dropped} of {seen} functions", file=sys.stderr)
    return output


def without_shared(text: str, problems: set[tuple[str, ...]]) -> tuple[str, int, int]:
    """The text without such functions, how many were dropped, and how many there are."""
    lines, doomed, dropped, seen = text.split("\n"), set(), 0, 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            seen += 1
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            if runs_of("\n".join(lines[first : node.end_lineno])) & problems:
                dropped += 1
                doomed.update(range(first, node.end_lineno))
    kept = "\n".join(line for n, line in enumerate(lines) if n not in doomed)
    try:
        ast.parse(kept)
    except SyntaxError:  # a class or branch was left without a body: the whole file goes
        kept = ""
    return kept, dropped, seen


# Packing


def bundle(recipe: Recipe, output: Path, folder: Path, files: list[Path], valid: Path, words: Path | None) -> None:
    """Weights in fp16, a generation_config that samples, a card with measured figures, and a manifest."""
    import torch

    backend = load(str(output))
    torch.manual_seed(0)
    pack(backend, folder, recipe.sampling, lambda: card(recipe, backend, output, files, valid))
    if words is not None:
        found = sorted({w for t in Source(files) for w in re.findall(r"[a-z]+(?:'[a-z]+)?", t.lower())})
        words.parent.mkdir(parents=True, exist_ok=True)
        words.write_bytes(gzip.compress("\n".join(found).encode(), mtime=0))


def card(recipe: Recipe, backend, output: Path, files: list[Path], valid: Path) -> str:
    held_out = list(Source(valid))
    rows = [
        figures(recipe, backend, f, f"{primed_xz(files, held_out):.3f}" if f == valid else "–")
        for f in dict.fromkeys([valid, *(valid.parent.parent / name / "valid.jsonl" for name in recipe.data)])
    ]
    options = json.loads((output / "options.json").read_text("utf-8"))
    seen = options["max_steps"] * options["batch_size"] * options["block_size"]
    samples = [next(iter(backend.generate([recipe.prompt], seed=s))) for s in range(5)]
    shown = "\n\n".join(f"seed {s.seed}:\n\n```\n{s.prompt}{s.text}\n```" for s in samples)
    note = (output / "NOTE.md").read_text("utf-8") if (output / "NOTE.md").exists() else ""
    return CARD.format(
        name={"gpt2": "gpt2-tales", "code": "gpt2-python"}[recipe.backend],
        kind={"gpt2": "English prose", "code": "Python"}[recipe.backend],
        parameters=sum(p.numel() for p in backend.model.parameters()),
        context=recipe.context,
        vocabulary=VOCABULARY,
        data=", ".join(f"{n}× {d}" if n > 1 else d for d in dict.fromkeys(recipe.data) for n in [recipe.data.count(d)]),
        licence=recipe.licence,
        seen=f"{seen:,}",
        steps=options["max_steps"],
        rows="\n".join(rows),
        note=note,
        samples=shown,
        backend=recipe.backend,
        sampling=", ".join(f"{k} {v}" for k, v in recipe.sampling.items()),
    )


def figures(recipe: Recipe, backend, valid: Path, xz: str) -> str:
    """A row of the card's table."""
    found = total(backend.score(Source(valid)))
    name = f"{valid.parent.name}/{valid.name}"
    counts = f"{found.tokens:,} | {found.utf8_bytes:,}"
    return f"| `{name}` | {counts} | {found.bits_per_byte:.4f} | {found.perplexity:.2f} | {xz} |"


def primed_xz(files: list[Path], held_out: list[str]) -> float:
    """Bits per byte that xz adds for the held-out text when it has just read the training text."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 27}]

    def size(raw: bytes) -> int:
        return len(lzma.compress(raw, lzma.FORMAT_RAW, filters=filters))

    before = "\n".join(Source(list(dict.fromkeys(files)))).encode()
    new = "\n".join(held_out).encode()
    return 8 * (size(before + new) - size(before)) / len(new)


CARD = """# {name}

A small language model for {kind} that ships with aigc-text: GPT-2 architecture, {parameters:,} parameters, context
{context} tokens, byte-level BPE of {vocabulary:,} entries. It speaks when no larger model can be had, and serves for
teaching and tests. It knows little and invents freely.

    aigc-text generate --backend {backend}

Trained from scratch by the project's own trainer, with the recipe of `scripts/tools/pretrain.py`, on: {data}.
Licences of the text: {licence}. Weights: Apache-2.0.
Tokens seen: {seen} in {steps:,} updates (Muon and AdamW, bf16). Seed 0.

{note}
| held-out text | tokens | bytes | bits per byte | perplexity | xz primed with the training text, bits per byte |
|---|---|---|---|---|---|
{rows}

Exact likelihood, end of text counted, in windows of {context} tokens that move by half; measured with the fp16 weights
computed in fp32. Made by `python scripts/tools/pretrain.py … --bundle`. Generation defaults: {sampling}.

## Five samples, not picked (seeds 0 to 4)

{samples}
"""

if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
