"""What several test files share: nothing reaches the network, and one tiny model on disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import generate, plain, refused, run  # noqa: F401
from team import team  # noqa: F401

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads cost more than they bring to tiny models
os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports huggingface_hub, and for the processes that tests start

from aigc_text.plots import training_curves  # noqa: E402

DRAW = training_curves.curves

SENTENCES = [
    "Once upon a time there was a cat who sat on a mat.",
    "The dog saw the cat, and the cat saw the dog.",
    "def add(a, b):\n    return a + b\n",
]


@pytest.fixture(scope="session", autouse=True)
def undrawn() -> Iterator[None]:
    """Training leaves an empty picture of its curves, since drawing takes longer than the tests' runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_curves, "curves", lambda metrics, picture: picture.touch())
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curves are drawn."""
    monkeypatch.setattr(training_curves, "curves", DRAW)


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random GPT-2 of two layers and a context of 64, as transformers saves it."""
    torch = pytest.importorskip("torch")
    from transformers import GPT2Config, GPT2LMHeadModel

    from aigc_text.data.tokenizer_training import train_bpe

    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    tokenizer = train_bpe(SENTENCES, 300, context=64)
    end = tokenizer.eos_token_id
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config = GPT2Config(vocab_size=len(tokenizer), n_layer=2, n_embd=32, n_head=2, n_positions=64, **ends)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A text file to train on."""
    pytest.importorskip("torch")
    import tiny

    path = tmp_path / "data.txt"
    path.write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder with a random GPT-2 of a test's own, which it may change."""
    pytest.importorskip("torch")
    import tiny

    return str(tiny.save("gpt2", tmp_path / "model"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A tiny random model of each causal architecture, saved."""
    pytest.importorskip("torch")
    import tiny  # and torch, after the environment above

    base = tmp_path_factory.mktemp("causal")
    return {kind: tiny.save(kind, base / kind) for kind in tiny.CAUSAL}
