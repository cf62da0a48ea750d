"""Any number of threads load and generate, with the texts that each gets alone; nothing of the process is changed."""

import os
import subprocess
import sys
import threading
import warnings
from itertools import cycle, islice

import pytest
import torch
from torch.nn.modules import module as modules

from aigc_text import load
from aigc_text.api import from_scratch

THREADS = 8
BUNDLED = {
    "rnn": {},
    "transformer": {},
    "gan": {},
    "vae": {},
    "gpt2": {"model": "bundled:gpt2-tales"},
}
PROMPTS = ["a man", ""]
OPTIONS = {"max_new_tokens": 8, "num_return_sequences": 2, "seed": 3}


def texts(backend, **options):
    return [c.text for c in backend.generate(PROMPTS, **{**OPTIONS, **options})]


def together(*work):
    """Runs functions in threads that begin at the same moment; gives what they return, or raises what they raise."""
    start, found = threading.Barrier(len(work)), [None] * len(work)

    def run(n):
        try:
            start.wait(30)
            found[n] = work[n]()
        except BaseException as error:
            found[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found


def process():
    """What threads share."""
    return {
        "descriptors": [(os.fstat(n).st_dev, os.fstat(n).st_ino) for n in range(3)],
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "filters": list(warnings.filters),
        "hooks": (*modules._global_parameter_registration_hooks, *modules._global_buffer_registration_hooks),
        "initialisers": (torch.nn.init.normal_, torch.linspace),
        "numbers": torch.get_default_dtype(),
        "random": torch.get_rng_state().tolist(),
    }


@pytest.fixture(scope="module")
def alone():
    return {name: texts(load(name, **more)) for name, more in BUNDLED.items()}


@pytest.mark.parametrize("rounds", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_threads_load_and_generate_from_different_models_and_from_one(alone, rounds):
    shared, before = load("gpt2", **BUNDLED["gpt2"]), process()

    def of_its_own(name):
        return name, texts(load(name, **BUNDLED[name]))

    def of_the_same():
        return "gpt2", texts(shared)

    names = list(islice(cycle(BUNDLED), THREADS // 2))
    for _ in range(rounds):
        found = together(*[lambda name=name: of_its_own(name) for name in names], *[of_the_same] * (THREADS // 2))
        assert [made for _, made in found] == [alone[name] for name, _ in found]
    assert process() == before


@pytest.mark.parametrize("name", ["gpt2", "transformer", "vae"])
def test_generating_does_not_notice_models_of_other_numbers_being_loaded(alone, name):
    """transformers sets torch's default type of numbers, for all threads, while it builds a model."""
    backend, done = load(name, **BUNDLED[name]), threading.Event()

    def generating():
        try:
            return [texts(backend) for _ in range(3)]
        finally:
            done.set()

    def loading():
        while not done.is_set():
            load("transformer", dtype="bf16")

    found, _ = together(generating, loading)
    assert found == [alone[name]] * 3


def test_texts_and_scores_are_the_same_whatever_the_default_type_of_numbers(alone):
    backends = {name: load(name, dtype="fp32", **more) for name, more in BUNDLED.items()}

    def scores():
        return {name: [score.nll for score in backend.score(["a man rides"])] for name, backend in backends.items()}

    expected = scores()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert {name: texts(backend) for name, backend in backends.items()} == alone
        assert scores() == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_beams_that_are_drawn_do_not_share_their_draws():
    backend = load("gpt2", **BUNDLED["gpt2"])
    seeds = range(4)
    drawn = {seed: texts(backend, num_beams=2, do_sample=True, seed=seed) for seed in seeds}
    assert len({str(made) for made in drawn.values()}) > 1
    before = process()
    work = [lambda seed=seed: texts(backend, num_beams=2, do_sample=True, seed=seed) for seed in seeds]
    assert together(*work) == list(drawn.values())
    assert process() == before


def test_what_ctranslate2_draws_belongs_to_its_seed(tmp_path, monkeypatch):
    pytest.importorskip("ctranslate2")
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path))
    backend = load("gpt2", **BUNDLED["gpt2"], engine="ctranslate2")
    seeds = range(4)
    drawn = [texts(backend, seed=seed) for seed in seeds]
    assert len({str(made) for made in drawn}) > 1
    for _ in range(3):
        assert together(*[lambda seed=seed: texts(backend, seed=seed) for seed in seeds]) == drawn


def test_new_models_have_the_weights_of_their_seeds():
    sizes = {"embedding_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "tokenizer": "char"}

    def weights(seed):
        made = from_scratch("rnn", ["abc"], seed=seed, **sizes)
        return {name: tensor.tolist() for name, tensor in made.model.state_dict().items()}

    expected = [weights(seed) for seed in range(4)]
    before = process()
    assert together(*[lambda seed=seed: weights(seed) for seed in range(4)]) == expected
    assert process() == before


COLD = """
import sys, threading
from aigc_text import load
failed = []
def go(name):
    try:
        [made] = load(name).generate(["a"], max_new_tokens=2, seed=1)
    except BaseException as error:
        failed.append(f"{name}: {type(error).__name__}: {error}")
threads = [threading.Thread(target=go, args=(name,)) for name in ["rnn", "transformer", "gan", "vae"] * 2]
[t.start() for t in threads]; [t.join() for t in threads]
print(failed)
"""


def test_the_first_imports_may_be_made_by_many_threads_at_once():
    done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


PLUGIN = """
import pathlib, time
with pathlib.Path(__file__).with_name("executed").open("a") as stream:
    stream.write("once ")
time.sleep(0.1)
from aigc_text import Backend
class Plugin(Backend):
    @classmethod
    def from_pretrained(cls, model=None):
        return cls()
    def generate(self, prompts, options=None, **overrides):
        yield from ()
"""


def test_a_file_is_executed_once_by_all_threads(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    found = together(*[lambda: type(load(f"{tmp_path}/plugin.py:Plugin"))] * THREADS)
    assert len(set(found)) == 1
    assert (tmp_path / "executed").read_text() == "once "
