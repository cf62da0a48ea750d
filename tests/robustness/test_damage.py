"""One changed byte, anywhere: refused by the file's name and both SHA-256 sums, or passed over for an older checkpoint.

AIGC_TEXT_CASES says how many cases; a failing one is named by its seed.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from pathlib import Path

import pytest
import tiny

from aigc_text.hub import locate, model_files
from aigc_text.training import checkpoint_folders
from aigc_text.utils import sealed_dir

CASES = int(os.environ.get("AIGC_TEXT_CASES", "0"))
GENERATE = ("--prompt", "", "--max-new-tokens", "2", "--seed", "1", "--output", "out.txt")
TRAIN = ("--max-steps", "3", "--batch-size", "2", "--block-size", "16", "--save-every", "1", "--device", "cpu")
BUNDLED = sorted(p.name for p in locate.BUNDLED.iterdir() if (p / sealed_dir.MANIFEST).is_file())
SUM = "[0-9a-f]{64}"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a model, the data, and two runs that began from it: whole weights, and LoRA."""
    folder = tmp_path_factory.mktemp("damage")
    tiny.save("gpt2", folder / "model")
    (folder / "data.txt").write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    return folder


@pytest.fixture
def place(base, monkeypatch, run):
    monkeypatch.chdir(base)
    for name, more in (("full", ()), ("lora", ("--lora-rank", "2"))):
        if not Path(name).exists():
            result = run("train", "--model", "model", "--data", "data.txt", "--output", name, *TRAIN, *more)
            assert result.code == 0, result.err
    return base


def flip(path: Path, rng: random.Random) -> tuple[str, str]:
    """Changes one bit of a file, whatever it is a link to stays; the sums before and after."""
    raw = bytearray(path.read_bytes())
    before = sealed_dir.sha256(path)
    # Half the time near the start, where headers and first keys are.
    at = rng.randrange(min(len(raw), 200) if rng.random() < 0.5 else len(raw))
    raw[at] ^= 1 << rng.randrange(8)
    path.unlink()
    path.write_bytes(raw)
    return before, sealed_dir.sha256(path)


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


def delivered(place, run, name, rng, seed):
    """A model's folder: refused whatever file was changed."""
    source = locate.BUNDLED / name if name in BUNDLED else place / name
    folder = place / "changed"
    folder.mkdir()
    sealed = [f.name for f in source.iterdir() if f.is_file() and f.suffix in model_files.READ and f.name not in OTHER]
    for f in [*sealed, "README.md"]:
        shutil.copy(source / f, folder / f)
    chosen = rng.choice(sealed)
    before, after = flip(folder / chosen, rng)
    result = run("generate", "--model", "changed", *GENERATE)
    recipe = f"seed {seed}: {name}/{chosen}: {result}"
    assert result.code == 2 and len(result.err.splitlines()) <= 3 and result.err.startswith("Error: "), recipe
    assert not Path("out.txt").exists() and not Path("out.txt.partial").exists(), recipe
    if chosen == sealed_dir.MANIFEST:  # it is no file of its own list; what it says of others is held against them
        assert re.search(f"manifest.json|{SUM}.*{SUM}", result.err), recipe
    else:
        assert chosen in result.err and before in result.err and after in result.err, recipe
    shutil.rmtree(folder)


OTHER = ("options.json", "seeds.json")  # of a run's folder, and not of its model


def stopped(place, run, name, rng, seed):
    """A run with a damaged last checkpoint: the one before it is used, and that is said."""
    folder = copied(place / name, place / "stopped")
    for f in ("config.json", "adapter_config.json", "model.safetensors", sealed_dir.MANIFEST):
        (folder / f).unlink(missing_ok=True)
    *_, earlier, last = checkpoint_folders.steps(folder / "checkpoints")
    chosen = rng.choice(sorted(f.name for f in last.iterdir()))
    before, after = flip(last / chosen, rng)
    more = ("--lora-rank", "2") if name == "lora" else ()
    result = run("train", "--model", "model", "--data", "data.txt", "--output", "stopped", "--resume", *TRAIN, *more)
    recipe = f"seed {seed}: {name}/{last.name}/{chosen}: {result}"
    assert result.code == 0, recipe
    assert f"resumed from step {earlier.name.removeprefix('step-')}" in result.err, recipe
    assert "trying the checkpoint before it" in result.err, recipe
    if chosen != sealed_dir.MANIFEST:
        assert chosen in result.err and before in result.err and after in result.err, recipe
    shutil.rmtree(folder)


def case(place, run, seed):
    rng = random.Random(seed)
    kind = rng.choice(("model", "model", "bundled", "bundled", "checkpoint"))
    if kind == "checkpoint":
        stopped(place, run, rng.choice(("full", "lora")), rng, seed)
    else:
        delivered(place, run, rng.choice(("full", "lora")) if kind == "model" else rng.choice(BUNDLED), rng, seed)


def test_a_changed_byte_is_refused_or_passed_over(place, run):
    for seed in range(24):
        case(place, run, seed)


@pytest.mark.slow
def test_many_changed_bytes_are_refused_or_passed_over(place, run):
    cases = CASES or 1000
    for seed in range(cases):
        case(place, run, 10_000 + seed)
    print(f"{cases} changed bytes, 0 failed")


@pytest.mark.parametrize("name", BUNDLED)
def test_every_file_of_the_bundled_models_is_sealed(name):
    sealed_dir.verify(locate.BUNDLED / name)
    listed = model_files.read_object(locate.BUNDLED / name / sealed_dir.MANIFEST)
    found = {f.name for f in (locate.BUNDLED / name).iterdir()} - {sealed_dir.MANIFEST, *sealed_dir.UNSEALED}
    assert found == set(listed)


def test_an_edited_card_is_no_damage(place, run):
    folder = copied(place / "full", place / "edited")
    (folder / "README.md").write_text("mine")
    assert run("generate", "--model", "edited", *GENERATE, "--overwrite").code == 0
    shutil.rmtree(folder)
    Path("out.txt").unlink()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_refused_for_a_new_model_and_by_every_engine(place, run, refused, name):
    folder = copied(place / "full", place / "broken")
    before, after = flip(folder / name, random.Random(1))
    words = ("train", "--from-scratch", "--tokenizer", "broken", "--data", "data.txt", "--output", "new", *TRAIN)
    refused(*words, says=[name, before, after])
    refused("generate", "--model", "broken", "--engine", "ctranslate2", *GENERATE, says=[name, before, after])
    shutil.rmtree(folder)
    assert not Path("new").exists()


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_record_of_a_runs_options_is_named(place, run, refused, text):
    folder = copied(place / "full", place / "record")
    (folder / "options.json").write_bytes(text)
    words = ("train", "--model", "model", "--data", "data.txt", "--output", "record", "--resume", *TRAIN)
    refused(*words, says=["options.json cannot be read"])
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "line", [b"\xff\xfe\n", b"[1]\n", b"{\n", b'{"step": 1, "loss": [[]]}\n', b"[" * 100_000 + b"\n"]
)
def test_a_damaged_line_of_figures_does_not_stop_a_run(place, run, line):
    folder = copied(place / "full", place / "figures")
    last = checkpoint_folders.steps(folder / "checkpoints")[-1]
    shutil.rmtree(last)
    rows = (folder / "metrics.jsonl").read_bytes().splitlines(True)
    (folder / "metrics.jsonl").write_bytes(rows[0] + line + b"".join(rows[2:]))
    words = ("train", "--model", "model", "--data", "data.txt", "--output", "figures", "--resume", *TRAIN)
    result = run(*words)
    assert result.code == 0, result.err
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["../model/config.json", "/dev/zero", "", "a\0b", "/etc/passwd"])
def test_a_manifest_names_nothing_outside(place, refused, name):
    folder = copied(place / "full", place / "outside")
    import json

    (folder / sealed_dir.MANIFEST).write_text(json.dumps({name: "0" * 64}))
    refused("generate", "--model", "outside", *GENERATE, says=["manifest.json names", "not in its folder"])
    shutil.rmtree(folder)
