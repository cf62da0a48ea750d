"""Every public call leaves the caller's process as it was, however the call ends."""

import gc
import itertools
import locale
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings

import matplotlib
import numpy as np
import pytest
import torch

from aigc_text import evaluate, from_scratch, generate, load, train
from aigc_text.errors import TrainingError
from aigc_text.utils import isolation

pytestmark = pytest.mark.usefixtures("drawn")
LINES = ["the cat sat on the mat .", "the dog saw the cat .", "a king had a daughter ."] * 8
TRAINING = {
    "max_steps": 6, "eval_every": 3, "save_every": 3, "batch_size": 2, "block_size": 8, "precision": "fp32",
    "learning_rate": 1e-2, "warmup_steps": 0, "sample_by": "line",
}  # fmt: skip
SETTINGS = (
    "is_grad_enabled", "is_inference_mode_enabled", "get_default_dtype", "get_num_threads", "get_num_interop_threads",
    "are_deterministic_algorithms_enabled", "get_float32_matmul_precision", "is_autocast_enabled", "initial_seed",
)  # fmt: skip
METRICS = ("distinct", "likelihood", "bleu")
LOGGERS = ("", "transformers", "datasets", "accelerate", "torch", "huggingface_hub", "peft", "matplotlib")


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the listing itself
    return found


def surroundings(model=None):
    """All that a caller may rely on, by name."""
    gc.collect()
    from transformers.utils import logging as bars

    state = np.random.get_state()
    found = {
        "random": random.getstate(),
        "numpy": (state[0], state[1].tobytes(), *state[2:]),
        "torch": torch.get_rng_state().numpy().tobytes(),
        **{name: getattr(torch, name)() for name in SETTINGS},
        "mkldnn": torch.backends.mkldnn.enabled,
        "matplotlib": (matplotlib.get_backend(), dict(matplotlib.rcParams)),
        "pyplot": "matplotlib.pyplot" in sys.modules,
        "signals": [signal.getsignal(n) for n in sorted(signal.valid_signals())],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "descriptors": descriptors(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook, sys.gettrace()),
        "warnings": list(warnings.filters),
        "logging": [(logging.getLogger(n).level, *logging.getLogger(n).handlers) for n in LOGGERS],
        "progress bars": bars.is_progress_bar_enabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(),
        "path": list(sys.path),
        "threads": {t.name for t in threading.enumerate()},
        "nice": os.nice(0),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "cuda": [g.get_state().numpy().tobytes() for g in torch.cuda.default_generators],
    }
    umask = os.umask(0)
    os.umask(umask)
    found["umask"] = umask
    if model is not None:
        found["modes"] = {name: module.training for name, module in model.named_modules()}
        found["gradients"] = {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()}
    return found


def changes(before, after):
    return [name for name in before if before[name] != after[name]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "lines.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def small(family="rnn", **more):
    sizes = {
        "rnn": {"hidden_size": 8, "embedding_size": 8, "output_dropout": 0.5},
        "transformer": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "dropout": 0.4},
        "vae": {"hidden_size": 8, "embedding_size": 8, "latent_size": 2},
        "gan": {"hidden_size": 8, "embedding_size": 8},
    }[family]
    return from_scratch(family, LINES, tokenizer="word", **{**sizes, **more})


def finished(backend, data, folder):
    list(train(backend, data, folder, **TRAINING))


def left(backend, data, folder):
    for report in train(backend, data, folder, **TRAINING):
        if report.step >= 2:
            break


def forgotten(backend, data, folder):
    list(itertools.islice(train(backend, data, folder, **TRAINING), 2))


def failed(backend, data, folder):
    parameter = next(backend.model.parameters())
    handle = parameter.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        list(train(backend, data, folder, **TRAINING))
    handle.remove()


def interrupted(backend, data, folder):
    module, calls = next(m for m in backend.model.modules() if isinstance(m, torch.nn.Embedding)), []

    def stop(*_):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    handle = module.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        list(train(backend, data, folder, **TRAINING))
    handle.remove()


def thrown(backend, data, folder):
    with pytest.raises(ZeroDivisionError):
        for report in train(backend, data, folder, **TRAINING):
            if report.step == 3:
                raise ZeroDivisionError


@pytest.fixture(scope="module", autouse=True)
def warm(data, tmp_path_factory):
    """Libraries change things once, as they are imported; that is not measured here."""
    folder = tmp_path_factory.mktemp("warm")
    backend = small()
    finished(backend, data, folder / "run")
    list(backend.generate(["the"], max_new_tokens=2, seed=1))
    list(backend.score(["the cat"]))
    evaluate(backend, LINES, num_samples=20, cache=folder, metrics=METRICS)


@pytest.mark.parametrize("how", [finished, left, forgotten, failed, interrupted, thrown])
def test_training_leaves_everything_as_it_was(how, data, tmp_path):
    backend = small()
    before = surroundings(backend.model)
    how(backend, data, tmp_path / "run")
    assert changes(before, surroundings(backend.model)) == []
    assert not any(before["modes"].values())


@pytest.mark.parametrize("family", ["rnn", "transformer", "vae", "gan"])
def test_asking_a_model_leaves_everything_as_it_was(family, tmp_path):
    backend = small(family)
    folder = tmp_path / "model"
    backend.save_pretrained(folder)
    before = surroundings()
    backend = load(str(folder))
    assert changes(before, surroundings()) == []
    before = surroundings(backend.model)
    list(backend.generate(["the", ""], max_new_tokens=3, num_return_sequences=2))
    list(backend.generate([""], max_new_tokens=3, num_beams=2, do_sample=False))
    next(backend.pieces(["the"], max_new_tokens=3, seed=1))  # left early
    list(backend.score(LINES[:3]))
    next(backend.score(LINES[:3]))
    evaluate(backend, LINES, num_samples=20, cache=tmp_path / "cache", output=tmp_path / "report", metrics=METRICS)
    generate("the", model=str(folder), max_new_tokens=2)
    assert changes(before, surroundings(backend.model)) == []


@pytest.mark.parametrize("family", ["rnn", "transformer", "vae", "gan"])
def test_nothing_is_asked_of_a_model_in_training_mode(family):
    backend = small(family, output_dropout=0.5) if family in ("rnn", "gan") else small(family)
    if family == "vae":
        backend.model.config.word_dropout = 0.5

    def answers():
        texts = [c.text for c in backend.generate(["the"] * 4, seed=1, max_new_tokens=8)]
        return texts, [round(s.nll, 4) for s in backend.score(LINES[:3])]

    expected = answers()
    backend.model.train()
    before = surroundings(backend.model)
    assert answers() == expected
    pieces = backend.pieces(["the"], seed=1, max_new_tokens=4)
    next(pieces)
    assert changes(before, surroundings(backend.model)) == []  # between two pieces
    pieces.close()
    only = next(backend.model.children())
    backend.model.eval()
    only.training = True  # a part of it alone
    assert answers() == expected and only.training


def test_training_and_its_caller_do_not_disturb_each_other(data, tmp_path):
    """The caller draws, generates and changes modes between reports; the weights are those of an undisturbed run."""
    plain, disturbed = small("transformer"), small("transformer")
    finished(plain, data, tmp_path / "plain")
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    drawn = [(random.random(), np.random.rand(), float(torch.rand(()))) for _ in range(7)]
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    seen = [(random.random(), np.random.rand(), float(torch.rand(())))]
    for _ in train(disturbed, data, tmp_path / "disturbed", **TRAINING):
        assert not any(module.training for module in disturbed.model.modules())
        seen.append((random.random(), np.random.rand(), float(torch.rand(()))))
        list(disturbed.generate(["the"], max_new_tokens=2))
        disturbed.model.train()
    assert seen == drawn
    one, other = (tmp_path / n / "model.safetensors" for n in ("plain", "disturbed"))
    assert one.read_bytes() == other.read_bytes()


def test_a_run_left_early_generates_and_is_resumed(data, tmp_path):
    backend = small("transformer")
    run = train(backend, data, tmp_path / "run", **TRAINING)
    list(itertools.islice(run, 2))
    texts = [[c.text for c in backend.generate(["the"] * 3, seed=1, max_new_tokens=8)] for _ in range(2)]
    assert texts[0] == texts[1]  # while it is still open
    run.close()
    whole = small("transformer")
    finished(whole, data, tmp_path / "whole")
    list(train(small("transformer"), data, tmp_path / "run", resume=True, **TRAINING))
    one, other = (tmp_path / n / "model.safetensors" for n in ("whole", "run"))
    assert one.read_bytes() == other.read_bytes()


OPEN = """
import sys
from aigc_text import from_scratch, train
lines = ["the cat sat on the mat"] * 20
backend = from_scratch("rnn", lines, tokenizer="word", hidden_size=8, embedding_size=8)
pieces = backend.pieces(["the"], max_new_tokens=4, seed=1)
next(pieces)
scores = backend.score(lines)
next(scores)
run = train(backend, sys.argv[1], sys.argv[2], max_steps=9, batch_size=2, block_size=8, sample_by="line")
next(run)
next(run)
"""


def test_what_is_open_when_python_exits_says_nothing_and_is_saved(data, tmp_path):
    command = [sys.executable, "-c", OPEN, str(data), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "default"})
    said = [line for line in done.stderr.splitlines() if "Exception ignored" in line or "Error" in line]
    assert (done.returncode, done.stdout, said) == (0, "", [])
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-2"]


def test_what_cannot_be_saved_at_the_exit_is_told(capsys):
    def run():
        try:
            yield 1
        finally:
            raise TrainingError("no room", "")

    opened = isolation.closed_at_exit(run())
    next(opened)
    isolation._close_all()
    assert capsys.readouterr().err == "Error: no room\n"


DRAWING = """
import sys
from pathlib import Path
import matplotlib
matplotlib.use("svg")
from aigc_text.plots import latents, surprisal, training_curves
from aigc_text.scoring.surprisal import Block, Piece
import numpy as np
folder = Path(sys.argv[1])
(folder / "m.jsonl").write_text('{"step": 1, "loss": 2.0, "learning_rate": 1.0, "eval_loss": 2.0}\\n')
training_curves.curves(folder / "m.jsonl", folder / "c.png")
training_curves.seeds([folder / "m.jsonl"], folder / "s.png")
x = np.random.default_rng(0).normal(size=(20, 3))
latents.draw(x, x, x, None, folder / "l.png")
surprisal.draw([Block("one", [Piece("the", 3.0)])], "caption", folder / "t.svg")
assert matplotlib.get_backend() == "svg" and "matplotlib.pyplot" not in sys.modules
assert all((folder / name).stat().st_size > 1000 for name in ("c.png", "s.png", "l.png", "t.svg"))
"""


def test_pictures_are_drawn_without_pyplot(tmp_path):
    subprocess.run([sys.executable, "-c", DRAWING, str(tmp_path)], check=True)
