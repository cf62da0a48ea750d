"""Packs a finished run as a model that ships with the package: fp16 weights, a card with measured figures, a manifest.

    python scripts/tools/bundle.py runs/shakespeare --name transformer-shakespeare --held-out valid.txt \\
        --recipe scripts/recipes/transformer_shakespeare_cpu.yaml \\
        --about "Characters of Shakespeare's plays" --data "tinyshakespeare, its first nine tenths; public domain" \\
        --prompt "ROMEO:" --option temperature=0.8 --option max_new_tokens=200

The figures are those of the weights that ship: rounded to fp16, computed in fp32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aigc_text import load
from aigc_text.cli.parameters import key_values
from aigc_text.data.sources import Source
from aigc_text.scoring.totals import total
from aigc_text.utils import sealed_dir

BUNDLED = Path(__file__).parents[2] / "aigc_text" / "bundled"
LIMIT = 3_000_000  # bytes of a folder

CARD = """# {name}

{about}: a small model that ships with aigc-text, of backend `{backend}`, with {parameters:,} parameters and {entries:,}
tokens ({tokenizer}). It serves for first steps, teaching and tests. It knows little and invents freely.

    aigc-text generate --backend {backend}

Trained from scratch by the project's own trainer in {steps:,} updates of {batch} rows of at most {block} tokens.
Every option stands in `{recipe}`. Data: {data}. Weights: Apache-2.0. Seed {seed}.

| held-out text | texts | tokens | bytes | bits per byte | perplexity a token |
|---|---|---|---|---|---|
| `{held_out}` | {texts:,} | {tokens:,} | {bytes:,} | {bits:.4f} | {perplexity:.2f} |

Exact likelihood of each text alone, its end counted, measured with the fp16 weights computed in fp32. Made by
`python scripts/tools/bundle.py`. Generation defaults: {sampling}.
{drawn}
## Five samples, not picked (seeds 0 to 4)

{samples}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--name", required=True, help="of the folder under aigc_text/bundled")
    parser.add_argument("--held-out", type=Path, required=True, help="text to measure it on")
    parser.add_argument("--about", required=True, help="what it writes")
    parser.add_argument("--data", required=True, help="what it was trained on, with its licence")
    parser.add_argument("--recipe", required=True, help="the file of its options, as the card is to name it")
    parser.add_argument("--prompt", default="", help="of the samples")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="a generation default")
    parser.add_argument("--folder", type=Path, default=BUNDLED, help="where the new folder goes")
    given = parser.parse_args()
    backend: Any = load(str(given.run))
    sampling = backend.Options.parse({"do_sample": True, **key_values(given.option)}).given()
    pack(backend, given.folder / given.name, sampling, lambda: card(given, backend, sampling))
    size = sum(f.stat().st_size for f in (given.folder / given.name).iterdir())
    print(f"{given.folder / given.name}: {size:,} bytes{'' if size <= LIMIT else f', more than {LIMIT:,}'}")


def pack(backend: Any, folder: Path, sampling: Mapping[str, Any], card: Callable[[], str]) -> None:
    """Makes the folder of a model that ships: fp16 weights, generation defaults, tokenizer, card and manifest.

    Args:
        backend: the trained model.
        folder: what appears when it is complete.
        sampling: generation defaults.
        card: writes the card when the backend holds what ships, weights that went through fp16.
    """
    for name, value in sampling.items():
        setattr(backend.model.generation_config, name, value)

    def write(scratch: Path) -> None:
        backend.model.config.aigc_text_backend = backend.name
        backend.model.half().save_pretrained(scratch)
        backend.tokenizer.save_pretrained(scratch)
        path = scratch / "tokenizer.json"  # without its indentation it is half as large
        held = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(held, ensure_ascii=False, separators=(",", ":")), "utf-8")
        backend.model.float()
        (scratch / "README.md").write_text(card(), encoding="utf-8")

    sealed_dir.save(folder, write)


def card(given: argparse.Namespace, backend: Any, sampling: dict[str, Any]) -> str:
    options = json.loads((given.run / "options.json").read_text("utf-8"))
    found = total(backend.score(Source(given.held_out, sample_by=options["sample_by"])))
    made = [next(iter(backend.generate([given.prompt], seed=seed))) for seed in range(5)]
    return CARD.format(
        name=given.name,
        about=given.about,
        backend=backend.name,
        parameters=sum(p.numel() for p in backend.model.parameters()),
        entries=len(backend.tokenizer),
        tokenizer=options["tokenizer"],
        steps=options["max_steps"],
        batch=options["batch_size"],
        block=options["block_size"],
        recipe=given.recipe,
        data=given.data,
        seed=options["seed"],
        held_out=given.held_out.name,
        texts=found.texts,
        tokens=found.tokens,
        bytes=found.utf8_bytes,
        bits=found.bits_per_byte,
        perplexity=found.perplexity,
        sampling=", ".join(f"{k} {v}" for k, v in sampling.items()),
        drawn=drawn(given.run, options),
        samples="\n\n".join(f"seed {s.seed}:\n\n```\n{s.prompt}{s.text}\n```" for s in made),
    )


DRAWN = ("uniqueness", "distinct_2", "self_bleu_4", "bleu_4", "bleu_4_back", "bleu_ha")


def drawn(run: Path, options: dict[str, Any]) -> str:
    """What the last validation measured of drawn sentences, where it drew any; see docs/gan.md."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    last = next((line for line in reversed(lines) if "eval_bleu_ha" in line), None)
    if last is None:
        return ""
    cells = [f"{last['eval_' + name]:.3f}" for name in DRAWN]
    names = " | ".join(name.replace("_", "-") for name in DRAWN)
    about = f"{options['config']['watch_samples']} sentences drawn at temperature 1 after update {last['step']:,}"
    return f"\n| {about} | {names} |\n|{'---|' * (len(DRAWN) + 1)}\n| | {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
