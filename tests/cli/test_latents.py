"""`aigc-text latents`: its files, what generation takes of them, and what it refuses."""

import json

import numpy as np
import pyarrow.parquet
import pytest
import tiny
import torch

from aigc_text import load
from aigc_text.models.vae.backend import VAE
from aigc_text.plots import latents as latent_plots

TEXTS = ["the cat sat on the mat", "a dog, a cat", "the dog sat", "two cats sat on a log", "a king"]
GROUPS = ["cat", "dog", "dog", "cat", "king"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    made = VAE.from_scratch(tiny.tokenizer(), embedding_size=8, hidden_size=12, encoder_size=8, latent_size=3)
    made.name = "vae"
    folder = tmp_path_factory.mktemp("vae") / "model"
    made.save_pretrained(folder)
    return folder


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "texts.csv"
    rows = (f'"{text}",{group}' for text, group in zip(TEXTS, GROUPS, strict=True))
    path.write_text("text,topic\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_latents_of_a_file_are_the_posterior_means(run, model, tmp_path):
    plain = tmp_path / "texts.txt"
    plain.write_text("\n".join(TEXTS), encoding="utf-8")
    files = [tmp_path / "l.npy", tmp_path / "l.parquet"]
    result = run("latents", plain, "--model", model, "--log-variance", "--output", files[0], "--output", files[1])
    assert (result.code, result.out) == (0, ""), result.err
    expected = load(str(model)).posteriors(TEXTS)
    assert np.allclose(np.load(files[0]), expected.mean.numpy(), atol=1e-5)
    found = pyarrow.parquet.read_table(files[1])
    assert found.column_names == ["text", "mean", "log_variance"] and found["text"].to_pylist() == TEXTS
    assert np.allclose(found["log_variance"].to_pylist(), expected.log_variance.numpy(), atol=1e-5)
    assert found.schema.metadata[b"revision"].decode() == load(str(model)).revision


def test_a_difference_of_groups_is_added_in_generation(run, refused, model, table, tmp_path):
    file = tmp_path / "d.json"
    words = ["latents", table, "--model", model, "--group-column", "topic", "--difference", "cat, dog"]
    assert run(*words, "--output", file).code == 0
    found = json.loads(file.read_text())
    mean = load(str(model)).posteriors(TEXTS).mean
    assert found["vector"] == pytest.approx(((mean[0] + mean[3] - mean[1] - mean[2]) / 2).tolist(), abs=1e-5)
    assert (found["plus"], found["minus"]) == (["cat", 2], ["dog", 2])
    generate = ["generate", "--prompt", "a dog", "-o", "mode=reconstruct", "--max-new-tokens", 3, "-o", f"z_add={file}"]
    assert run(*generate, "--model", model).code == 0
    file.write_text(json.dumps({**found, "model": "other"}))
    refused(*generate, "--model", model, says=["is of another model"])


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture(run, model, table, tmp_path, kind):
    file = tmp_path / f"l.{kind}"
    assert run("latents", table, "--model", model, "--group-column", "topic", "--output", file).code == 0
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<?xml") and len(content) > 5000
    assert {p.name for p in tmp_path.iterdir()} == {"texts.csv", file.name}


def test_a_group_may_have_any_name(run, model, table, tmp_path):
    table.write_text(table.read_text("utf-8").replace(",cat", r",$\frac$ _^").replace(",dog", ",_dog"), "utf-8")
    done = run("latents", table, "--model", model, "--group-column", "topic", "--output", tmp_path / "l.svg")
    assert done.code == 0, done.err


def test_principal_components_are_those_of_the_covariance():
    x = np.random.default_rng(0).standard_normal((200, 4)) * [1, 5, 0.5, 3] + 7
    mean, directions, shares = latent_plots.principal(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    assert np.allclose(mean, x.mean(0)) and np.allclose(shares, values[::-1][:2] / values.sum())
    assert np.allclose(np.abs(directions @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-8)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--output", "l.txt"], ["l.txt is of no known kind", ".parquet"]),
        (["--output", "d.json"], ["is a difference of two groups", "--difference"]),
        (["--output", "d.json", "--group-column", "topic", "--difference", "cat"], ["does not name two groups"]),
        (["--output", "d.json", "--group-column", "topic", "--difference", "cat,dot"], ["'dot'", "Did you mean 'dog'"]),
        (["--output", "l.parquet", "--group-column", "subject"], ["subject", "topic"]),
        (["--output", "l.npy", "--backend", "gpt2"], ["gpt2", "vae"]),
        (["--output", "none/l.npy"], ["there is no folder none"]),
        (["--output", "l.png", "--seed", "-1"], ["--seed", "-1"]),
    ],
)
def test_what_is_refused(refused, model, table, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    refused("latents", table, *(() if "gpt2" in words else ("--model", model)), *words, says=says)


def test_a_file_that_is_there_is_kept(run, refused, model, table, tmp_path):
    file = tmp_path / "l.npy"
    file.write_text("mine")
    refused("latents", table, "--model", model, "--output", file, says=["l.npy exists already"])
    assert file.read_text() == "mine"
    assert run("latents", table, "--model", model, "--output", file, "--overwrite").code == 0
    assert np.load(file).shape == (5, 3)


@pytest.mark.parametrize("kind", ["npy", "parquet", "png"])
def test_a_file_that_cannot_be_finished_is_not_begun(refused, model, table, tmp_path, monkeypatch, kind):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aigc_text.utils.atomic.flush", full)
    before = set(tmp_path.iterdir())
    file = tmp_path / f"l.{kind}"
    says = f"{file} cannot be written: No space left"
    refused("latents", table, "--model", model, "--output", file, says=says)
    assert set(tmp_path.iterdir()) == before
