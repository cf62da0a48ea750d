"""What training does where nobody says how: values that depend on the family, a line as a row, a GAN that fits."""

import json

import pytest
import torch

from aigc_text import TrainingOptions, from_scratch, load, train
from aigc_text.backends.builtin import built_in
from aigc_text.errors import OptionError
from aigc_text.models.gan.config import GANConfig
from aigc_text.outputs import duration
from aigc_text.runs.run_data import read_data

LINES = [f"the {animal} {verb} the {thing}." for animal in ("cat", "dog", "king") for verb in ("saw", "had", "took")
         for thing in ("hat", "stone", "moon", "boat")]  # fmt: skip
SMALL = {
    "vae": {"hidden_size": 16, "embedding_size": 16, "encoder_size": 16, "latent_size": 4},
    "gan": {"hidden_size": 16, "embedding_size": 16, "representations": 4, "discriminator_size": 8, "filters": 8},
    "rnn": {"hidden_size": 16, "embedding_size": 16, "num_hidden_layers": 1},
    "gpt2": {"n_layer": 1, "n_embd": 16, "n_head": 1, "n_positions": 32},
    "transformer": {"hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 32},
}
QUICK = {"max_steps": 2, "eval_every": 2, "eval_blocks": 4, "precision": "fp32"}


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def recorded(folder):
    return json.loads((folder / "options.json").read_text(encoding="utf-8"))


def trained(name, lines, folder, **options):
    backend = from_scratch(name, LINES, vocab_size=280, **SMALL[name])
    own = {"likelihood_steps": 1, "watch_samples": 2, "eval_every": 1, "block_size": 12} if name == "gan" else {}
    options = {**QUICK, **own, **options}
    chosen = built_in()[name].Training.parse(options)
    reports = list(train(backend, str(lines), folder, options=chosen))
    return backend, reports


@pytest.mark.parametrize("name", SMALL)
def test_a_model_from_scratch_is_trained_with_the_values_of_its_family(name, lines, tmp_path):
    backend, *_ = trained(name, lines, tmp_path / "run")
    found, cls = recorded(tmp_path / "run"), built_in()[name]
    kept = [key for key in cls.scratch if (name, key) != ("gan", "block_size")]  # shorter here
    assert {key: found[key] for key in kept} == {key: cls.scratch[key] for key in kept}
    completed = cls.Training().completed(backend.training_defaults())
    assert {key: getattr(completed, key) for key in cls.scratch} == dict(cls.scratch)
    assert cls.scratch["learning_rate"] > TrainingOptions.STANDARD["learning_rate"]


@pytest.mark.parametrize("name", ["vae", "rnn"])
def test_what_the_user_says_goes_over_it_even_if_it_is_the_standard_value(name, lines, tmp_path):
    wanted = {"learning_rate": 1e-4, "batch_size": 8}
    trained(name, lines, tmp_path / "run", **wanted)
    found = recorded(tmp_path / "run")
    assert {key: found[key] for key in wanted} == wanted


def test_a_model_that_is_there_is_fine_tuned_with_the_standard_values(data, model, tmp_path):
    list(train(load("gpt2", model), str(data), tmp_path / "run", max_steps=1, batch_size=2, block_size=16))
    assert recorded(tmp_path / "run")["learning_rate"] == 1e-4


def test_a_line_of_a_plain_file_is_a_row_of_the_vae_and_the_gan(lines, tmp_path):
    for name in ("vae", "gan"):
        backend = from_scratch(name, LINES, vocab_size=280, **SMALL[name])
        options = built_in()[name].Training()
        examples, held_out, *_ = read_data([lines], None, options, backend.sample_by)
        assert examples + held_out == LINES
        assert read_data([lines], None, built_in()[name].Training(sample_by="document"), "line")[0] != examples
    assert read_data([lines], None, TrainingOptions())[0] != examples
    trained("vae", lines, tmp_path / "run")
    assert recorded(tmp_path / "run").get("sample_by") is None  # nobody asked for it, so records of pairs may follow


def test_a_vae_scores_the_lines_of_a_plain_file(run, lines, tmp_path):
    trained("vae", lines, tmp_path / "run")
    told = run("score", lines, "--model", tmp_path / "run", "--format", "jsonl", "--no-tokens")
    assert told.code == 0 and [record["text"] for record in told.records] == LINES
    told = run("score", lines, "--model", tmp_path / "run", "--format", "jsonl", "--sample-by", "document")
    assert len(told.records) == 1


def test_runs_that_recorded_the_former_defaults_are_resumed(lines, tmp_path, run):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"q": t, "a": t}) + "\n" for t in LINES), encoding="utf-8")
    out = tmp_path / "run"
    words = ["--backend", "rnn", "--from-scratch", "--data", pairs, "--prompt-column", "q", "--completion-column", "a"]
    sizes = [word for key, value in SMALL["rnn"].items() for word in ("-o", f"{key}={value}")]
    told = run("train", *words, *sizes, "--output", out, "--max-steps", 2, "--save-every", 1, "--vocab-size", 280)
    assert told.code == 0, told.err
    record = recorded(out)
    (out / "options.json").write_text(json.dumps({**record, "sample_by": "document"}), encoding="utf-8")
    told = run("train", "--resume", "--output", out)
    assert told.code == 0, told.err


def test_a_gpt2_from_scratch_is_one_that_two_cores_can_train():
    texts = [f"word{n} and another{n}" for n in range(3000)]
    backend = from_scratch("gpt2", texts)
    assert len(backend.tokenizer) > 3000
    assert sum(p.numel() for p in backend.model.parameters()) < 5_000_000
    assert backend.block_size(TrainingOptions()) == backend.model.config.n_positions == 256


@pytest.mark.parametrize(("width", "heads"), [(256, 4), (192, 3), (32, 1), (100, 2), (384, 6), (26, 1)])
def test_heads_follow_from_the_width(width, heads):
    assert from_scratch("gpt2", LINES, vocab_size=280, n_embd=str(width), n_layer=1).model.config.n_head == heads
    config = from_scratch("transformer", LINES, vocab_size=280, hidden_size=width, num_hidden_layers=1).model.config
    assert config.num_attention_heads == heads


@pytest.mark.parametrize("width", ["0", "-3", "many", "7.5"])
def test_a_width_that_is_none_is_refused_as_before(width):
    with pytest.raises(OptionError, match="n_embd|cannot|built"):
        from_scratch("gpt2", LINES, vocab_size=280, n_embd=width)


def test_a_gan_fits_the_machine(monkeypatch):
    small = from_scratch("gan", LINES, vocab_size=280).model.config
    assert (small.representations, small.filters) == (8, 100)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    large = from_scratch("gan", LINES, vocab_size=280).model.config
    assert (large.representations, large.filters) == (GANConfig().representations, GANConfig().filters)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert from_scratch("gan", LINES, vocab_size=280).model.config.representations == 8
    assert from_scratch("gan", LINES, vocab_size=280, representations=4).model.config.representations == 4


def test_a_gan_says_what_it_costs_before_it_starts_and_that_changes_nothing(lines, tmp_path, monkeypatch):
    _, reports = trained("gan", lines, tmp_path / "one", max_steps=4)
    first = reports[0].message
    assert first.startswith("about ") and "1 likelihood updates of" in first and "3 adversarial updates of" in first
    monkeypatch.setattr(built_in()["gan"], "announcement", lambda self, batches, options: "")
    _, silent = trained("gan", lines, tmp_path / "two", max_steps=4)
    assert [r.logs for r in reports] == [r.logs for r in silent] and not silent[0].message


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 second"), (80, "80 seconds"), (100, "1.7 minutes"), (599, "10 minutes"), (5400, "1.5 hours")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
