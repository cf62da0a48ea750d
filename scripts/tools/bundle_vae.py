"""Packs a trained VAE for `aigc_text/bundled`: weights in fp16, generation defaults, and a card with measured figures.

python scripts/tools/bundle_vae.py runs/vae-bundled aigc_text/bundled/vae-captions --held-out held-out.txt
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from bundle import pack

sys.path.append(str(Path(__file__).parents[1] / "research"))
from vae_estimates import measured, some  # noqa: E402

SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 48}
WALK = ("a large airplane flying through the air.", "a bathroom with a white toilet and sink.")


@click.command()
@click.argument("run")
@click.argument("folder")
@click.option("--held-out", required=True, help="Sentences that the run did not see.")
@click.option("--samples", default=500, show_default=True, help="Draws of z for each sentence.")
@click.option("--sentences", default=1000, show_default=True, help="At most so many of them, evenly spread.")
def main(run: str, folder: str, held_out: str, samples: int, sentences: int) -> None:
    from aigc_text import load

    backend: Any = load(run)
    options = json.loads((Path(run) / "options.json").read_text("utf-8"))

    def written() -> str:
        return card(backend, measured(backend, some(held_out, sentences), samples), options)

    pack(backend, Path(folder), SAMPLING, written)


def card(backend: Any, found: dict[str, Any], options: dict[str, Any]) -> str:
    drawn = backend.generate([""], num_return_sequences=8, seed=0)
    walked = backend.generate([WALK[0]], interpolate_to=WALK[1])
    rebuilt = backend.generate(WALK, mode="reconstruct")
    return CARD.format(
        parameters=sum(p.numel() for p in backend.model.parameters()),
        units=backend.model.config.latent_size,
        vocabulary=len(backend.tokenizer),
        steps=options["max_steps"],
        batch=options["batch_size"],
        sampling=", ".join(f"{k} {v}" for k, v in SAMPLING.items()),
        drawn="\n".join(f"- {c.text}" for c in drawn),
        walked="\n".join(f"{n}. {c.text}" for n, c in enumerate(walked, 1)),
        rebuilt="\n".join(f"- {c.prompt} → {c.text}" for c in rebuilt),
        first=WALK[0],
        last=WALK[1],
        **found,
    )


CARD = """# vae-captions

A small sequence VAE for captions of pictures that ships with aigc-text: LSTM encoder and decoder, {parameters:,}
parameters, {units} latent units, byte-level BPE of {vocabulary:,} entries. It serves for teaching and tests; it knows
sentences such as "a man riding a wave on a surfboard." and nothing else.

    aigc-text generate --backend vae
    aigc-text generate --backend vae --prompt "{first}" -o interpolate_to="{last}"

Trained from scratch by the project's own trainer, with `scripts/recipes/vae_bundled.yaml`, on 18,000 captions of
MS-COCO (Lin et al. 2014) in the split of Texygen (Zhu et al. 2018): `train.txt` and `test.txt`, each less its last
1,000 lines. {steps:,} updates of {batch} sentences, bf16, one CPU core, 2026-11-22. Seed 0.
The captions: © the COCO Consortium, CC BY 4.0 (https://cocodataset.org/#termsofuse); lower-cased, otherwise as they
are. Weights: Apache-2.0.

| on {sentences:,} held-out sentences | |
|---|---|
| perplexity a word, estimated bound with {samples} samples | {bound_perplexity:.1f} |
| perplexity a word, importance-weighted with {samples} samples | {perplexity:.1f} |
| KL | {kl:.2f} nats |
| mutual information | {mutual_information:.2f} nats |
| active units | {active_units} of {units} |
| reconstruction BLEU-4, mean over sentences | {reconstruction_bleu_4:.3f} |

Words of the corpus, the end of each sentence counted as one; docs/vae.md says what the figures are. Measured with the
fp16 weights, the decoder computing in bf16. Made by `python scripts/tools/bundle_vae.py`.
Generation defaults: {sampling}.

## Eight samples from the prior, not picked (seed 0)

{drawn}

## Reconstructions from the posterior mean

{rebuilt}

## A walk between these two

{walked}
"""

if __name__ == "__main__":
    main()
