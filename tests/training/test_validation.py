"""A validation's figures are those that `score` gives for the same texts, in every family and every way of reading."""

import math

import pytest
import tiny
import torch

from aigc_text import from_scratch, load, train
from aigc_text.data.sources import Pair
from aigc_text.models.causal_lm import GPT2, Code
from aigc_text.scoring.totals import total

SIZES = {
    "gpt2": {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64},
    "code": {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64},
    "rnn": {"hidden_size": 16, "embedding_size": 16, "num_hidden_layers": 1},
    "transformer": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "vae": {"hidden_size": 16, "embedding_size": 8, "latent_size": 4},
    "gan": {"hidden_size": 16, "embedding_size": 8},
}
SENTENCES = ("vae", "gan")
LINES = [f"the {a} {b} sat on the {c} , and the naïve {c} sat still ." for a in ["big", "old"] for b in
         ("cat", "dog", "owl") for c in ("mat", "log", "moss")]  # fmt: skip
DOCUMENT = "\n".join(LINES)


def made(family, tokenizer="word", **sizes):
    """A random model, its weights large enough that it matters where a row begins."""
    backend = from_scratch(family, LINES, tokenizer=tokenizer, seed=1, **{**SIZES[family], **sizes})
    with torch.no_grad():
        for parameter in backend.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return backend


def validated(backend, examples, **options):
    """A validation by itself: loss in nats per token, and bits per byte."""
    without_samples = {"watch_samples": 0} if backend.name == "gan" else {}
    found = backend.validator(examples, backend.Training(**options, **without_samples))(backend.model)
    return found["loss"], found["bits_per_byte"]


def scored(backend, texts):
    found = total(backend.score(texts))
    return found.nll / found.tokens, found.bits_per_byte


@pytest.mark.parametrize("packing", [None, False])
@pytest.mark.parametrize("texts", [LINES, [DOCUMENT]], ids=["lines", "document"])
@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
@pytest.mark.parametrize("family", SIZES)
def test_a_validation_gives_the_figures_of_the_score(family, tokenizer, texts, packing):
    backend = made(family, tokenizer)
    found = validated(backend, texts, block_size=16, packing=packing, eval_blocks=100)
    assert found == pytest.approx(scored(backend, texts), rel=1e-5)


@pytest.mark.parametrize(
    ("family", "sizes"), [("gan", {"noise_size": 4}), ("gan", {"cell": "memory"}), ("rnn", {"cell": "gru"})]
)
def test_so_it_is_with_noise_and_with_other_cells(family, sizes):
    backend = made(family, "char", **sizes)
    assert validated(backend, LINES, block_size=16) == pytest.approx(scored(backend, LINES), rel=1e-5)


@pytest.mark.parametrize("family", SIZES)
def test_the_last_validation_is_the_score_of_the_saved_model(family, tmp_path):
    data = tmp_path / "data.txt"
    data.write_text(DOCUMENT + "\n", encoding="utf-8")
    options = {"max_steps": 3, "eval_every": 3, "batch_size": 4, "block_size": 16, "sample_by": "line"}
    options |= {"learning_rate": 1e-2, "warmup_steps": 0, "precision": "fp32"}
    options |= {"watch_samples": 0, "deliver": "last", "best": "loss"} if family == "gan" else {}
    *_, last = train(made(family), data, tmp_path / "run", validation=data, **options)
    found = last.logs["eval_loss"], last.logs["eval_bits_per_byte"]
    assert found == pytest.approx(scored(load(str(tmp_path / "run")), LINES), rel=1e-5)


def test_a_model_made_here_is_scored_in_rows_as_long_as_it_was_trained_on(tmp_path):
    data = tmp_path / "data.txt"
    data.write_text(DOCUMENT * 3, encoding="utf-8")
    options = {"max_steps": 2, "eval_every": 2, "batch_size": 4, "precision": "fp32", "validation": data}
    *_, last = train(made("gpt2"), data, tmp_path / "run", block_size=16, **options)
    backend, text = load(str(tmp_path / "run")), data.read_text(encoding="utf-8")
    assert backend.score_context() == 16 < backend.engine().context()
    (plain,), (short,) = backend.score([text]), backend.score([text], context=16)
    assert plain.nll == short.nll == pytest.approx(last.logs["eval_loss"] * plain.tokens, rel=1e-5)
    list(train(backend, data, tmp_path / "more", block_size=32, **options))
    assert load(str(tmp_path / "more")).score_context() == 32


@pytest.fixture(scope="module")
def pretrained():
    tokens = tiny.tokenizer()
    return GPT2(tiny.model("gpt2", tokens), tokens)


def test_a_pretrained_model_is_validated_in_its_own_context(pretrained):
    text = " ".join(tiny.SENTENCES * 3)  # more than its context of 64 tokens
    assert pretrained.score_context() == 64
    assert validated(pretrained, [text], block_size=16) == pytest.approx(scored(pretrained, [text]), rel=1e-5)


@pytest.mark.parametrize("family", SIZES)
def test_of_more_data_the_texts_that_are_read_have_their_score(family):
    backend = made(family)
    # A line has 17 tokens with its beginning and end: two of them are in three blocks of 16.
    read = [LINES[0], LINES[8], LINES[17]] if family in SENTENCES else [LINES[0], LINES[17]]
    found = validated(backend, LINES, block_size=16, eval_blocks=3)
    assert found == pytest.approx(scored(backend, read), rel=1e-5)


def test_windows_over_a_long_text_score_what_their_place_in_it_scores(pretrained):
    text = "".join(f"{n} cats sat on {n * 7} mats. " for n in range(60))  # no two windows are alike
    validator = pretrained.validator([text], pretrained.Training(block_size=16, eval_blocks=12))
    (score,) = pretrained.score([text])
    (begin,), tokenizer = pretrained.prompt_tokens("", pretrained.Options()), pretrained.tokenizer
    ids = [begin, *tokenizer(text, verbose=False)["input_ids"], tokenizer.eos_token_id]
    nll, size = [], 0
    for row in validator.rows:
        read = list(row.ids)
        first = next(n for n in range(len(ids)) if ids[n : n + len(read)] == read)
        tokens = score.per_token[first + row.masked - 1 : first + len(read) - 1]
        nll += [t.nll for t in tokens]
        size += sum(len(text[t.start : t.end].encode()) for t in tokens)
    assert len(validator.rows) > 1 and sum(len(row.ids) for row in validator.rows) <= 12 * 16
    assert validator.utf8_bytes == size
    figures = validator(pretrained.model)
    assert figures["loss"] == pytest.approx(sum(nll) / len(nll), rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(sum(nll) / math.log(2) / size, rel=1e-5)


def test_of_long_texts_that_are_read_in_one_pass_the_beginnings_are_read():
    backend = made("rnn")
    texts = [" ".join(LINES[n:] * 4) for n in range(2)]
    scores = list(backend.score(texts))
    found = validated(backend, texts, block_size=16, eval_blocks=6)  # 96 tokens, of two texts of a thousand
    begun = [score.per_token[:47] for score in scores]  # 48 tokens with the one that begins a text
    assert found[0] == pytest.approx(sum(t.nll for tokens in begun for t in tokens) / 94, rel=1e-5)


@pytest.mark.parametrize("cls", [GPT2, Code])
def test_of_pairs_the_completions_are_read_after_their_prompts(cls):
    tokens = tiny.tokenizer()
    backend = cls(tiny.model("gpt2", tokens), tokens)
    pairs = [Pair("the cat", " sat on the mat."), Pair("once upon", " a time there was a king")]
    rows = [backend.pair_tokens(*pair) for pair in pairs]
    with torch.no_grad():
        nll = [backend.token_nll(torch.tensor([[*before, *after]]))[0, len(before) - 1 :] for before, after in rows]
    total_nll, count = sum(float(n.sum()) for n in nll), sum(len(n) for n in nll)
    size = sum(len(pair.completion.encode()) for pair in pairs)
    expected = (total_nll / count, total_nll / math.log(2) / size)
    assert validated(backend, pairs, block_size=64) == pytest.approx(expected, rel=1e-5)


def test_a_stream_of_lines_is_validated_from_their_beginnings(tmp_path):
    """A state is carried from line to line in training, which never saw one begin amid a line."""
    data = tmp_path / "lines.txt"
    data.write_text("\n".join(LINES * 30), encoding="utf-8")
    backend = from_scratch("rnn", LINES, tokenizer="word", seed=1, **SIZES["rnn"])
    options = {"max_steps": 40, "eval_every": 20, "sample_by": "line", "batch_size": 4, "block_size": 16}
    options |= {"learning_rate": 1e-2, "precision": "fp32"}
    reports = list(train(backend, data, tmp_path / "run", validation=data, **options))
    first, last = (r.logs["eval_loss"] for r in reports if "eval_loss" in r.logs)
    streamed = backend.stream_score(LINES)
    assert last < first and last == pytest.approx(streamed.nll / streamed.tokens, rel=0.1)
