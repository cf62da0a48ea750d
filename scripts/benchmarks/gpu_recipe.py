"""The section of `scripts/gpu.py` that trains the recipe for tinyshakespeare."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from devices import Peaks
from gpu_common import Clock, Given, OutOfTime, Skipped, fraction, share, token_flop

from aigc_text import TrainingOptions, from_scratch, train
from aigc_text.scoring.totals import total
from aigc_text.utils import sealed_dir

TARGET, GOAL = 1.4697, 1.44  # nats a character of tinyshakespeare's last tenth
RECIPE = Path(__file__).parents[1] / "recipes" / "transformer_shakespeare.yaml"
FINISH = 20.0  # seconds kept for scoring and saving the model


def shakespeare(given: Given, record: dict[str, Any], clock: Clock) -> None:
    """The recipe for tinyshakespeare, as far as time allows, and its likelihood on the whole last tenth."""
    if given.data is None:
        raise Skipped("--data input.txt is missing: the file of tinyshakespeare")
    text = given.data.read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    if given.tiny:
        recipe.update(config={"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16})
        recipe["config"]["max_position_embeddings"] = recipe["block_size"] = 17
        recipe.update(batch_size=4, max_steps=6, eval_every=3, save_every=3, eval_blocks=4)
    options = TrainingOptions.parse({k: v for k, v in recipe.items() if k in TrainingOptions.fields()})
    backend = from_scratch(recipe["backend"], [text[:cut]], tokenizer=recipe["tokenizer"], **recipe["config"])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, part in (("train.txt", text[:cut]), ("valid.txt", text[cut:])):
            (folder / name).write_text(part, encoding="utf-8")
        updates(given, record, clock, backend, options, folder)
        scored(given, record, backend, text[cut:])
        save(given, backend, folder / "run" / "metrics.jsonl")


def updates(
    given: Given, record: dict[str, Any], clock: Clock, backend: Any, options: TrainingOptions, folder: Path
) -> None:
    """Trains until the end or until time runs out; either way the model is left with the best weights."""
    peaks, start, last, spans = Peaks(given.device), time.monotonic(), 0.0, list[float]()
    kept, best = 0.0 if given.tiny else FINISH, (float("inf"), 0)
    run = train(backend, folder / "train.txt", folder / "run", validation=folder / "valid.txt", options=options)
    with closing(run):  # type: ignore[type-var]
        for progress in run:
            now, validated = time.monotonic(), "eval_loss" in progress.logs
            if last and not validated:
                spans.append(now - last)
            last = 0.0 if validated else now  # a checkpoint follows a validation
            if validated:
                best = min(best, (progress.logs["eval_loss"], progress.step))
            record["steps"], record["cut"] = progress.step, progress.step < progress.total and clock.left() < kept
            if record["cut"]:
                break
    if not spans:
        raise OutOfTime
    if record["cut"]:
        take_best(backend, folder / "run" / "checkpoints" / f"step-{best[1]}" / "model.safetensors")
    peaks.end("run")
    length = (options.block_size or 1) - 1  # tokens that are predicted
    speed = options.batch_size * length / statistics.median(spans)
    memory = peaks.gib()
    record.update(
        training_seconds=time.monotonic() - start,
        of_steps=options.max_steps,
        validation=best[0],
        best_step=best[1],
        tokens_per_second=speed,
        mfu=fraction(speed * token_flop(backend.model, length), given.machine.get("flops")),
        memory=memory and memory["run"],
    )


def take_best(backend: Any, weights: Path) -> None:
    """Loads the weights of the best checkpoint, which a run that ends by itself does."""
    from safetensors.torch import load_file

    if weights.exists():  # else no validation came in time, and the last weights are all there is
        backend.model.load_state_dict(load_file(weights, device=str(backend.model.device)), strict=False)


def scored(given: Given, record: dict[str, Any], backend: Any, text: str) -> None:
    """The exact likelihood of the text in fp32, in the windows of `score`."""
    found = total(backend.score([text[:200] if given.tiny else text]))
    record.update(nats=found.nll / found.tokens, target=TARGET, goal=GOAL)


def save(given: Given, backend: Any, metrics: Path) -> None:
    """The weights in fp16, half the size, and the figures of the run."""
    backend.model.half()
    sealed_dir.save(given.output / "shakespeare", backend.write)
    (given.output / "shakespeare-metrics.jsonl").write_bytes(metrics.read_bytes())


def shakespeare_table(record: Mapping[str, Any]) -> list[str]:
    if "nats" not in record:
        return []
    nats = record["nats"]
    verdict = "goal met" if nats <= GOAL else "target met" if nats <= TARGET else "missed"
    ended = "stopped by the time limit" if record["cut"] else "ended by itself"
    memory = record["memory"]
    return [
        "| nats a character | target, goal | updates | best at | seconds | tokens/s | MFU | GiB |",
        "|---|---|---|---|---|---|---|---|",
        f"| {nats:.4f} | {TARGET}, {GOAL}: {verdict} | {record['steps']} of {record['of_steps']}, {ended} "
        f"| {record['best_step']} | {record['training_seconds']:.0f} | {record['tokens_per_second']:,.0f} "
        f"| {share(record['mfu'])} | {'n/a' if memory is None else format(memory, '.2f')} |",
    ]
