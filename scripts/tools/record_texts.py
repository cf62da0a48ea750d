"""Records what every backend, engine and option generates for given seeds, and compares a later version with it.

    python scripts/tools/record_texts.py --output texts.jsonl       # before a change
    python scripts/tools/record_texts.py --compare texts.jsonl      # after it, on the same machine

Some 200 records in all: the bundled models, on each engine, with each option by itself. Another machine may round
differently, so compare files of the same machine and the same torch only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from aigc_text import load

PROMPTS = {
    "gpt2": ("Once upon a time", "The wolf said ", "从前"),
    "code": ("def add(a, b):", "import os\n\n\ndef "),
    "rnn": ("a man", ""),
    "transformer": ("ROMEO:", "My lord, "),
    "vae": ("a cat", "two men on a street"),
    "gan": ("a dog", ""),
}
ENGINES: dict[str, tuple[dict[str, Any], ...]] = {
    "gpt2": ({}, {"engine": "ctranslate2"}, {"engine": "ctranslate2", "quantize": "int8"}),
    "code": ({}, {"engine": "ctranslate2"}),
}
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"do_sample": False},
    {"temperature": 0.7},
    {"top_k": 10},
    {"top_p": 0.5},
    {"repetition_penalty": 1.3},
    {"num_return_sequences": 2},
    {"stop_strings": ("e ",)},
    {"do_sample": False, "num_beams": 3, "length_penalty": 0.5},
    {"temperature": 1.3, "top_k": 0, "top_p": 1.0},
)
TORCH_ONLY: tuple[dict[str, Any], ...] = (
    {"min_p": 0.1},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 12},
)
OWN_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "code": ({"suffix": "\n    return result\n"}, {"stop_at_function_end": True, "max_new_tokens": 60}),
    "vae": (
        {"mode": "reconstruct"},
        {"mode": "reconstruct", "z_temperature": 1.5, "posterior": "sample"},
        {"interpolate_to": "a man riding a horse", "steps": 3},
        {"z_temperature": 0.5},
    ),
}


def records() -> Iterator[dict[str, Any]]:
    for backend, prompts in PROMPTS.items():
        for how in ENGINES.get(backend, ({},)):
            model = load(backend=backend, **how)
            for options in (*OPTIONS, *(() if how else (*TORCH_ONLY, *OWN_OPTIONS.get(backend, ())))):
                yield from _texts(model, {"backend": backend, **how}, prompts, options)


def _texts(
    model: Any, which: dict[str, Any], prompts: tuple[str, ...], options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """A record for each text; where options are refused, one record of the error."""
    try:
        for text in model.generate(list(prompts), **{"max_new_tokens": 24, "seed": 5, **options}):
            yield {**which, "options": options, "prompt": text.prompt, "text": text.text}
    except Exception as error:
        yield {**which, "options": options, "error": f"{type(error).__name__}: {error}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--output", type=Path, help="write the records here")
    action.add_argument("--compare", type=Path, help="compare with the records of this file")
    given = parser.parse_args()
    lines = [json.dumps(record, ensure_ascii=False) for record in records()]
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{len(lines)} records", file=sys.stderr)
        return 0
    before = given.compare.read_text(encoding="utf-8").splitlines()
    different = [(old, new) for old, new in zip(before, lines, strict=False) if old != new]
    for old, new in different:
        print(f"before: {old}\nnow:    {new}")
    print(f"{len(lines)} records, {len(before)} before, {len(different)} different", file=sys.stderr)
    return 1 if different or len(lines) != len(before) else 0


if __name__ == "__main__":
    sys.exit(main())
