"""Makes small saved runs with the version that is installed, so that later versions can be tested on them.

    python scripts/tools/save_runs.py tests/data/runs_0_1           # with the wheel of the version to keep working
    python scripts/tools/save_runs.py --finish tests/data/runs_0_1 RESULT

A run of each family, an adapter, and a run that was left at half of its updates; `texts.json` has what each generates.
`--finish` resumes the half-finished run in a copy and prints the hashes of its weights, so that two versions can be
compared on one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from aigc_text import from_scratch, load, train

TEXT = "\n".join(
    f"{who} {what} {where}."
    for who in ("a cat", "a dog", "the wolf", "two men", "a girl")
    for what in ("sits", "sleeps", "runs", "is waiting")
    for where in ("on the grass", "by a red bus", "near the sea", "at home")
)
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64},
    "code": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64},
    "rnn": {"embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 1},
    "transformer": {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "max_position_embeddings": 64},
    "vae": {"embedding_size": 16, "encoder_size": 16, "hidden_size": 16, "latent_size": 4},
    "gan": {
        "embedding_size": 16,
        "hidden_size": 16,
        "representations": 4,
        "discriminator_size": 8,
        "filters": 8,
    },  # fmt: skip
}
LINES = {"vae": {"sample_by": "line"}, "gan": {"sample_by": "line", "likelihood_steps": 10, "eval_every": 10}}
WAYS: tuple[dict[str, Any], ...] = ({"do_sample": False}, {"seed": 1}, {"seed": 2, "temperature": 0.7, "top_k": 5})
LEFT_AT, STEPS = 10, 20
HALF: dict[str, Any] = {
    "max_steps": STEPS, "batch_size": 4, "block_size": 32, "save_every": LEFT_AT, "precision": "fp32",
    "learning_rate": 3e-3,
}  # fmt: skip


def make(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chdir(folder)  # a run notes its data's path, which is the same wherever the folder is copied to
    Path("texts.txt").write_text(TEXT + "\n", encoding="utf-8")
    for family in SIZES:
        _trained(family, family, **LINES.get(family, {}))
    _adapter()
    _half("half")
    texts = {name: texts_of(name) for name in (*SIZES, "lora")}
    Path("texts.json").write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def fresh(family: str) -> Any:
    return from_scratch(family, TEXT.splitlines(), tokenizer="char", **SIZES[family])


def _trained(family: str, output: str, **options: Any) -> None:
    how = {"max_steps": 60, "batch_size": 8, "block_size": 32, "learning_rate": 1e-2, "precision": "fp32", **options}
    for _ in train(fresh(family), "texts.txt", output, **how):
        pass
    shutil.rmtree(Path(output, "checkpoints"))
    Path(output, "curves.png").unlink(missing_ok=True)


def _adapter() -> None:
    """Of a model that every machine has; two of its layers, so that the file is small."""
    how: dict[str, Any] = {"lora_rank": 1, "lora_targets": ("c_attn",), "max_steps": 3, "batch_size": 2}
    for _ in train("bundled:gpt2-tales", "texts.txt", "lora", block_size=32, learning_rate=5e-3, **how):
        pass
    shutil.rmtree("lora/checkpoints")
    Path("lora/curves.png").unlink(missing_ok=True)


def _half(output: str) -> None:
    run = train(fresh("transformer"), "texts.txt", output, **HALF)
    for progress in run:
        if progress.step == LEFT_AT:
            break
    run.close()  # type: ignore[attr-defined]


def texts_of(name: str) -> list[list[str]]:
    model = load(f"./{name}")  # a name alone may be that of a backend
    prompts = ["a cat", "the wolf "]
    return [[c.text for c in model.generate(prompts, max_new_tokens=16, **way)] for way in WAYS]


def finish(folder: Path, result: Path) -> None:
    shutil.copytree(folder, result)
    os.chdir(result)
    for _ in train(fresh("transformer"), "texts.txt", "half", resume=True, **HALF):
        pass
    sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(Path("half").glob("*.safetensors"))}
    print(json.dumps({**sums, "texts": texts_of("half")}, ensure_ascii=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--finish", action="store_true", help="resume the half-finished run in a copy, RESULT")
    given = parser.parse_args()
    if given.finish:
        finish(given.folder.resolve(), given.result.resolve())
    else:
        make(given.folder.resolve())


if __name__ == "__main__":
    sys.exit(main())
