"""The synthetic oracle task (SeqGAN, Yu et al. 2017, section 4): how near a generator comes to a known distribution.

    python scripts/research/oracle.py --output runs/oracle

A fixed random LSTM of 32 units is the world: 10,000 sequences of 20 words out of 5,000 are drawn from it to learn from,
and 10,000 more to measure with. As it is known, what a generator writes can be judged: NLL_oracle is the mean negative
log-likelihood a word of generated sequences under the oracle, NLL_gen that of held-out real sequences under the
generator. Another random oracle is another task, so nothing here compares with figures of papers but the ratio

    (GAN - real) / (MLE - real)        of NLL_oracle, at temperature 1

which is .28 in RelGAN's table (real 5.750, MLE 9.038, RelGAN 6.680). Cooling alone lowers NLL_oracle, so the sweep of
the likelihood model's temperature stands beside it: a GAN that a temperature of MLE beats in both figures has shown
nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aigc_text.models.gan.config import GANConfig
from aigc_text.models.gan.model import GANForCausalLM
from aigc_text.models.gan.objective import Adversarial, GANTraining
from aigc_text.models.rnn.model import RNNConfig, RNNForCausalLM
from aigc_text.training import trainer
from aigc_text.training.losses import token_nll

WORDS, LENGTH, SEQUENCES, BATCH = 5000, 20, 10_000, 64
START = WORDS  # begins every sequence, and is never drawn
TEMPERATURES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)


def oracle_of(seed: int) -> RNNForCausalLM:
    """The world: all weights standard normal, as SeqGAN's code has them."""
    config = RNNConfig(
        vocab_size=WORDS + 1, embedding_size=32, hidden_size=32, num_hidden_layers=1, tie_word_embeddings=False
    )
    model = RNNForCausalLM(config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
        model.output.bias[START] = -1e4
    return model


@torch.no_grad()
def draws(model: Any, count: int, seed: int, temperature: float = 1.0) -> torch.Tensor:
    """(N, LENGTH) words from a recurrent model."""
    draw, found = torch.Generator().manual_seed(seed), []
    for first in range(0, count, 1000):
        rows = min(1000, count - first)
        tokens, state, made = torch.full((rows, 1), START), None, []
        for _ in range(LENGTH):
            out = model(tokens, cache=state, use_cache=True)
            state, logits = out.cache, out.logits[:, -1] / temperature
            uniform = torch.rand(logits.shape, generator=draw).clamp_(1e-30, 1 - 2.0**-24)
            tokens = (logits - (-uniform.log()).log()).argmax(1, keepdim=True)  # Gumbel-max
            made.append(tokens)
        found.append(torch.cat(made, 1))
    return torch.cat(found)


@torch.no_grad()
def nll(model: Any, words: torch.Tensor) -> float:
    """Mean negative log-likelihood a word, in nats, of sequences (N, LENGTH)."""
    total = 0.0
    for part in words.split(500):
        ids = torch.cat([torch.full((len(part), 1), START), part[:, :-1]], 1)
        logits = model(ids, use_cache=False).logits
        total += float(token_nll(logits.flatten(0, 1), part.flatten()).double().sum())
    return total / words.numel()


def uniqueness(words: torch.Tensor) -> float:
    return len(set(map(tuple, words.tolist()))) / len(words)


def generator_of(cell: str, hidden: int, seed: int) -> GANForCausalLM:
    torch.manual_seed(seed)
    config = GANConfig(
        vocab_size=WORDS + 1, cell=cell, embedding_size=32, hidden_size=hidden, tie_word_embeddings=False,
        representations=8, discriminator_size=64, filters=100, bos_token_id=START, pad_token_id=START,
    )  # fmt: skip
    model = GANForCausalLM(config)
    with torch.no_grad():
        model.output.bias[START] = -30.0  # never drawn from the start on
    return model


def batches(words: torch.Tensor, seed: int) -> list[dict[str, torch.Tensor]]:
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(seed))
    ids = torch.cat([torch.full((len(words), 1), START), words], 1)[order]
    return [{"input_ids": part, "labels": part} for part in ids.split(BATCH)]


def run(model: nn.Module, options: GANTraining, train: torch.Tensor, evaluate: Any, folder: Path) -> None:
    """Trains in place, printing every validation; goes on where it was killed."""
    objective = Adversarial(options, {"length": LENGTH})
    started = time.perf_counter()
    steps = trainer.train(
        model.train(), objective, batches(train, options.seed), options, evaluate=evaluate,
        checkpoints=folder, resume=folder.exists(),
    )  # fmt: skip
    for report in steps:
        shown = {k: round(v, 4) for k, v in report.logs.items() if k.startswith(("eval_", "discriminator_acc"))}
        if any(k.startswith("eval_") for k in shown) or report.message:
            print(f"{time.perf_counter() - started:.0f} s, step {report.step}: {shown} {report.message}", flush=True)
    model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cell", choices=("lstm", "memory"), default="lstm")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--likelihood-steps", type=int, default=3000)
    parser.add_argument("--adversarial-steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--option", action="append", default=[], metavar="NAME=VALUE", help="of GANTraining")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    oracle = oracle_of(1)
    train, held_out = draws(oracle, SEQUENCES, 2), draws(oracle, SEQUENCES, 3)
    print(f"real: NLL_oracle {nll(oracle, held_out):.4f}", flush=True)

    def evaluate(model: Any) -> dict[str, float]:
        made = draws(model, 1000, 4)
        return {"loss": nll(model, held_out[:1000]), "nll_oracle": nll(oracle, made), "uniqueness": uniqueness(made)}

    shared: dict[str, Any] = {"weight_decay": 0.0, "max_grad_norm": 5.0, "eval_on_start": True, "seed": given.seed}
    steps = given.likelihood_steps
    warm = GANTraining(
        max_steps=steps, likelihood_steps=steps, learning_rate=5e-3, min_rate=0.02, best="loss", deliver="best",
        eval_every=200, save_every=200, **shared,
    )  # fmt: skip
    mle = generator_of(given.cell, given.hidden, given.seed)
    run(mle, warm, train, evaluate, given.output / f"likelihood-{given.seed}")
    own = dict(option.split("=", 1) for option in given.option)
    options = GANTraining.parse(
        {
            "max_steps": given.adversarial_steps, "likelihood_steps": 0, "learning_rate": 1e-3, "warmup_steps": 0,
            "eval_every": 50, "save_every": 50, "best": "loss", "deliver": "last", **shared, **own,
        }
    )  # fmt: skip
    gan = copy.deepcopy(mle)
    run(gan, options, train, evaluate, given.output / f"adversarial-{given.seed}")
    report(oracle, mle, gan, held_out, given)


def report(oracle: Any, mle: Any, gan: Any, held_out: torch.Tensor, given: argparse.Namespace) -> None:
    real = nll(oracle, held_out)
    rows: list[dict[str, Any]] = [{"what": "real", "nll_oracle": real, "uniqueness": uniqueness(held_out)}]
    for what, model, temperatures in (("MLE", mle, TEMPERATURES), ("GAN", gan, TEMPERATURES[:1])):
        own = nll(model, held_out)
        for temperature in temperatures:
            made = draws(model, SEQUENCES, 5, temperature)
            at = {"temperature": temperature, "nll_oracle": nll(oracle, made), "uniqueness": uniqueness(made)}
            # At another temperature the generator is another distribution: its likelihood is that of scores divided.
            rows.append(
                {"what": what, **at, "nll_gen": own if temperature == 1 else cooled(model, held_out, temperature)}
            )
    first = rows[1]["nll_oracle"] - real
    print("\n| | temperature | NLL_oracle | share of MLE's excess | NLL_gen | uniqueness |\n|---|---|---|---|---|---|")
    for row in rows:
        row["ratio"] = (row["nll_oracle"] - real) / first
        cells = [row["what"], row.get("temperature", ""), f"{row['nll_oracle']:.3f}", f"{row['ratio']:.2f}"]
        cells += [f"{row['nll_gen']:.3f}" if "nll_gen" in row else "", f"{row['uniqueness']:.4f}"]
        print(f"| {' | '.join(map(str, cells))} |")
    result = {"rows": rows, "options": given.option, "cell": given.cell, "hidden": given.hidden}
    (given.output / f"oracle-{given.seed}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def cooled(model: Any, words: torch.Tensor, temperature: float) -> float:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.output.weight /= temperature
        other.output.bias /= temperature
    return nll(other, words)


if __name__ == "__main__":
    main()
