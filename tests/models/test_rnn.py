"""The rnn family: the state in generation, in training and in a checkpoint, and what the layers compute."""

import itertools
import json

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from aigc_text import TrainingOptions, load, train
from aigc_text.errors import OptionError
from aigc_text.models.rnn import model as rnn_model
from aigc_text.models.rnn import objective as rnn_objective
from aigc_text.models.rnn.backend import RNN
from aigc_text.models.rnn.model import RecurrentLayers, RecurrentState
from aigc_text.models.rnn.objective import RNNTraining
from aigc_text.testing.contract import check_backend
from tests.runs.test_training_run import command

SIZES = {"embedding_size": 24, "hidden_size": 32}
PROMPTS = ["the cat sat", "once", "and the dog on the log saw", "a"]


def made(**config):
    """A random model, its weights large enough that its texts are not one token over and over."""
    torch.manual_seed(0)
    backend = RNN.from_scratch(tiny.tokenizer(), **{**SIZES, **config})
    with torch.no_grad():
        for parameter in backend.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    backend.name = "rnn"
    return backend


@pytest.fixture(scope="module", params=["lstm", "gru"])
def backend(request):
    return made(cell=request.param)


@pytest.mark.parametrize("config", [{"cell": "lstm"}, {"cell": "gru", "tie_word_embeddings": False}])
def test_it_keeps_the_contract(config):
    assert len(list(check_backend(made(**config)))) == 12


# What the layers compute


def lstm_by_hand(layer, x, h, c):
    """Hochreiter and Schmidhuber 1997 with forget gates (Gers et al. 2000), a step at a time."""
    outputs = []
    for step in x:
        gates = layer.weight_ih_l0 @ step + layer.bias_ih_l0 + layer.weight_hh_l0 @ h + layer.bias_hh_l0
        i, f, g, o = gates.chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs), h, c


def test_an_lstm_is_what_its_equations_say():
    torch.manual_seed(0)
    layers = RecurrentLayers("lstm", 6, [8, 5])
    x = torch.randn(1, 7, 6)
    out, state = layers(x)
    expected, zeros = x[0], torch.zeros
    for layer, size, (h, c) in zip(layers.layers, (8, 5), state.layers, strict=True):
        expected, last_h, last_c = lstm_by_hand(layer, expected, zeros(size), zeros(size))
        assert torch.allclose(h[0, 0], last_h, atol=1e-6) and torch.allclose(c[0, 0], last_c, atol=1e-6)
    assert torch.allclose(out[0], expected, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_padding_on_either_side_leaves_outputs_and_state_as_they_are(cell):
    torch.manual_seed(0)
    layers = RecurrentLayers(cell, 6, [8, 8])
    rows = [torch.randn(n, 6) for n in (5, 2, 3)]
    before = layers(torch.randn(3, 4, 6))[1]
    for left in (True, False):
        x, mask = torch.randn(3, 5, 6), torch.zeros(3, 5, dtype=torch.long)
        places = [slice(5 - len(r), 5) if left else slice(0, len(r)) for r in rows]
        for n, (row, place) in enumerate(zip(rows, places, strict=True)):
            x[n, place], mask[n, place] = row, 1
        out, state = layers(x, before, mask)
        plain, none = layers(x, before, mask, use_cache=False)
        assert none is None
        for n, (row, place) in enumerate(zip(rows, places, strict=True)):
            alone = RecurrentState([tuple(s[:, n : n + 1] for s in layer) for layer in before.layers])
            expected, after = layers(row[None], alone)
            assert torch.allclose(out[n, place], expected[0], atol=1e-6)
            assert torch.allclose(plain[n, place], expected[0], atol=1e-6)
            for a, b in zip(itertools.chain(*state.layers), itertools.chain(*after.layers), strict=True):
                assert torch.allclose(a[:, n : n + 1], b, atol=1e-6)


def test_a_locked_mask_is_one_for_all_steps_and_another_for_each_row():
    torch.manual_seed(0)
    x = rnn_model.locked_dropout(torch.ones(4, 9, 200), 0.4, True)
    assert (x == x[:, :1]).all()
    assert len({tuple(row) for row in x[:, 0].tolist()}) == 4
    assert x.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (x == 0).float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert rnn_model.locked_dropout(x, 0.4, False) is x


def test_embedding_dropout_drops_whole_words():
    torch.manual_seed(0)
    table = torch.nn.Embedding(500, 3)
    ids = torch.arange(500).repeat(2, 1)
    found = rnn_model.embedding_dropout(table, ids, 0.3, True)
    gone = (found == 0).all(-1)
    assert gone[0].equal(gone[1]) and gone.float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert torch.allclose(found[~gone], table(ids)[~gone] / 0.7)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weight_dropout_is_of_hidden_weights_and_in_training_only(cell):
    torch.manual_seed(0)
    layers = RecurrentLayers(cell, 4, [16], weight_dropout=0.5)
    x = torch.randn(2, 6, 4)
    first, again = layers(x)[0], layers(x)[0]
    assert torch.allclose(first[:, 0], again[:, 0])  # the first step reads no hidden state
    assert not torch.allclose(first[:, 1:], again[:, 1:])
    layers(x)[0].sum().backward()
    dropped = (layers.layers[0].weight_hh_l0.grad == 0).float().mean().item()
    assert 0.4 < dropped < 0.6 and (layers.layers[0].weight_ih_l0.grad != 0).all()
    layers.eval()
    assert layers(x)[0].equal(layers(x)[0])


def test_tying_and_sizes():
    tied, untied = made(), made(tie_word_embeddings=False)
    assert tied.model.output.weight is tied.model.embedding.weight
    assert tied.model.projection.weight.shape == (24, 32)
    assert untied.model.output.weight.shape == (len(untied.tokenizer), 32)
    assert isinstance(untied.model.projection, torch.nn.Identity)
    awd = made(last_hidden_size=24, num_hidden_layers=3)
    assert [layer.hidden_size for layer in awd.model.recurrent.layers] == [32, 32, 24]
    assert isinstance(awd.model.projection, torch.nn.Identity)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"cel": "gru"}, "RNNConfig has no field 'cel'. Did you mean 'cell'?"),
        ({"cell": "rnn"}, "allowed are lstm and gru"),
        ({"hidden_size": "0"}, "hidden_size cannot be 0"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers cannot be 'many'"),
        ({"weight_dropout": "1"}, "weight_dropout cannot be 1"),
    ],
)
def test_a_configuration_that_cannot_be(config, says):
    with pytest.raises(OptionError) as refused:
        RNN.from_scratch(tiny.tokenizer(), **config)
    assert says in refused.value.message and "-o hidden_size=512" in refused.value.cure


# Generation carries the state


def test_reading_step_by_step_is_reading_at_once(backend):
    ids = torch.randint(0, 300, (3, 9))
    with torch.no_grad():
        whole = backend.model(ids)
        state, logits = None, []
        for part in ids.split([4, 1, 1, 3], dim=1):
            out = backend.model(part, cache=state)
            state, _ = out.cache, logits.append(out.logits)
    assert torch.allclose(torch.cat(logits, 1), whole.logits, atol=1e-5)
    assert state.get_seq_length() == whole.cache.get_seq_length() == 9


def test_n_tokens_cost_n_steps(backend, monkeypatch):
    widths = []
    forward = rnn_model.RNNForCausalLM.forward

    def counted(self, input_ids, **more):
        widths.append(input_ids.shape[1])
        return forward(self, input_ids, **more)

    monkeypatch.setattr(rnn_model.RNNForCausalLM, "forward", counted)
    (text,) = backend.generate(["the cat sat on"], max_new_tokens=20, min_new_tokens=20, seed=1)
    assert text.tokens == 20 and widths[1:] == [1] * 19


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}])
def test_beams_take_their_own_states(backend, options):
    together = [c.text for c in backend.generate(PROMPTS, max_new_tokens=8, seed=0, **options)]
    alone = [c.text for p in PROMPTS for c in backend.generate([p], max_new_tokens=8, seed=0, **options)]
    assert together == alone


def test_beams_with_the_state_are_those_without(backend):
    """Without it every step reads the whole text again, so nothing can be out of order."""
    ids = torch.tensor([backend.tokenizer("the cat sat")["input_ids"]])
    options = {"num_beams": 5, "num_return_sequences": 5, "max_new_tokens": 10, "do_sample": False}
    found = [backend.model.generate(ids, use_cache=cached, **options) for cached in (True, False)]
    assert found[0].equal(found[1]) and len({tuple(row) for row in found[0].tolist()}) == 5


def test_rows_that_are_over_are_dropped(backend):
    texts = list(backend.generate(PROMPTS * 2, max_new_tokens=12, seed=3, do_sample=True, batch_size=8))
    stops = (texts[0].text[2:4],)
    cut = list(backend.generate(PROMPTS * 2, max_new_tokens=12, seed=3, do_sample=True, stop_strings=stops))
    assert [c.text for c in cut] == [c.text.split(stops[0])[0] for c in texts]


def test_a_folder_loads_as_a_model_of_transformers(backend, tmp_path):
    backend.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    for name, tensor in backend.model.state_dict().items():
        assert tensor.equal(again.state_dict()[name]), name
    assert again.output.weight is again.embedding.weight
    ids = torch.randint(0, 300, (2, 6))
    assert again(ids, labels=ids).loss.item() == pytest.approx(backend.model(ids, labels=ids).loss.item())


# Training carries the state


OPTIONS = {"batch_size": 3, "block_size": 8, "precision": "fp32", "learning_rate": 0.01, "warmup_steps": 0}
TEXTS = [" ".join(tiny.SENTENCES)] * 6


def objective(backend, **options):
    chosen = RNNTraining(**{**OPTIONS, **options})
    return backend.objective(chosen), backend.batches(TEXTS, chosen), chosen


def test_a_stream_of_batches_is_read_as_one_text(backend):
    """The losses of batch after batch are those of the rows read at once; a pass begins from zeros."""
    carried, batches, _ = objective(backend)
    first = list(itertools.islice(batches, 2 * len(batches)))
    losses = [next(carried.steps(backend.model, batch, n)).loss.item() for n, batch in enumerate(first)]
    for part, found in ((first[: len(batches)], losses), (first[len(batches) :], losses[len(batches) :])):
        rows = torch.cat([part[0]["input_ids"], *[b["input_ids"][:, 1:] for b in part[1:]]], 1)
        nll = rnn_objective.stream_nll(backend.model, rows)  # (3, 7 a batch)
        expected = [piece.mean().item() for piece in nll.split(7, dim=1)]
        assert found[: len(part)] == pytest.approx(expected, abs=1e-5)


def test_the_state_has_no_history(backend):
    carried, batches, _ = objective(backend)
    for batch in itertools.islice(batches, 2):
        next(carried.steps(backend.model, batch, 0)).loss.backward()  # a second time through the first graph would fail
    assert not any(s.requires_grad for layer in carried.state.layers for s in layer)


def test_each_text_starts_from_zeros_without_packing(backend):
    own, batches, _ = objective(backend, packing=False)
    assert not own.per_process
    batch = next(iter(batches))
    loss = next(own.steps(backend.model, batch, 0)).loss
    rows = [row[: int(n)] for row, n in zip(batch["input_ids"], (batch["labels"] != -100).sum(1) + 1, strict=True)]
    each = [rnn_objective.stream_nll(backend.model, row[None]).flatten() for row in rows]
    assert loss.item() == pytest.approx(torch.cat(each).mean().item(), abs=1e-5)
    assert own.state is None


def test_penalties_are_those_of_awd_lstm():
    backend = made(output_dropout=0.5)
    own, batches, _ = objective(backend, activation_penalty=2.0, slowness_penalty=1.0)
    batch = next(iter(batches))
    backend.model.train()
    torch.manual_seed(5)
    step = next(own.steps(backend.model, batch, 0))
    torch.manual_seed(5)
    out = backend.model(batch["input_ids"][:, :-1])
    dropped, outputs = out.dropped.detach(), out.outputs.detach()
    assert (dropped == 0).float().mean() > 0.3
    expected = 2 * dropped.pow(2).mean() + (outputs[:, 1:] - outputs[:, :-1]).pow(2).mean()
    assert (step.loss - step.logs["nll"]).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_ends_with_the_same_bytes(precision, accumulate, tmp_path, data):
    dropout = dict.fromkeys(("embedding_dropout", "input_dropout", "hidden_dropout", "weight_dropout"), 0.2)
    options = {**OPTIONS, "max_steps": 6, "save_every": 2, "eval_every": 3, "precision": precision}
    options |= {"gradient_accumulation_steps": accumulate, "slowness_penalty": 1.0}
    list(train(made(**dropout), data, tmp_path / "whole", **options))
    broken = train(made(**dropout), data, tmp_path / "broken", **options)
    list(itertools.islice(broken, 5))
    broken.close()
    reports = list(train(made(**dropout), data, tmp_path / "broken", resume=True, **options))
    assert "resumed from step 5" in reports[0].message  # closing it saves it
    whole, again = (tmp_path / n / "model.safetensors" for n in ("whole", "broken"))
    assert whole.read_bytes() == again.read_bytes()


def test_a_stream_is_scored_as_one_text(backend):
    ids = torch.tensor([[0, *[i for text in TEXTS for i in [*backend.tokenizer(text)["input_ids"], 0]]]])
    score = backend.stream_score(TEXTS)
    assert score.tokens == ids.shape[1] - 1
    assert score.nll == pytest.approx(rnn_objective.stream_nll(backend.model, ids).sum().item(), abs=1e-3)


def test_a_text_is_scored_in_one_pass_however_long(backend, monkeypatch):
    text = " ".join(TEXTS * 5)
    ids = torch.tensor([[0, *backend.tokenizer(text)["input_ids"], 0]])
    assert ids.shape[1] > 2048
    with torch.no_grad():
        logits = backend.model(ids[:, :-1]).logits[0]
    expected = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    score, short = backend.score([text, "the cat"])
    assert [t.nll for t in score.per_token] == pytest.approx(expected.tolist(), abs=1e-4)
    assert score.kind == "exact" and short.tokens == len(backend.tokenizer("the cat")["input_ids"]) + 1
    (windows,) = backend.score([text], context=64)
    assert abs(windows.nll - score.nll) > 1e-3  # each window begins from zeros


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_the_command_line_trains_and_generates(kind, tmp_path, data, capsys):
    words = ["train", "--backend", "rnn", "--from-scratch", "--tokenizer", kind, "-o", "hidden_size=16"]
    words += ["-o", "embedding_size=8", "-o", "slowness_penalty=1", "--data", data, "--output", tmp_path / "out"]
    words += ["--max-steps", 3, "--batch-size", 4, "--block-size", 12, "--eval-every", 3, "--precision", "fp32"]
    words += ["--learning-rate", 0.01, "--warmup-steps", 0]
    assert command(*words) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["eval_loss"] < lines[0]["loss"] and lines[0]["nll"] < lines[0]["loss"]
    capsys.readouterr()
    assert command("generate", "--model", tmp_path / "out", "--prompt", "the", "--max-new-tokens", 4) == 0
    assert capsys.readouterr().out.startswith("the")
    assert load(str(tmp_path / "out")).name == "rnn"


def test_plain_training_options_do(backend):
    assert backend.objective(TrainingOptions()).beta == 0.0


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_more_steps_than_a_kernel_takes_are_read_in_parts(monkeypatch, cell):
    from aigc_text.models.rnn import model as rnn_model

    layers = rnn_model.RecurrentLayers(cell, 3, [4, 4]).eval()
    x = torch.randn(2, 11, 3)
    with torch.no_grad():
        whole, after = layers(x)
        monkeypatch.setattr(rnn_model, "MOST_STEPS", 4)
        parts, end = layers(x)
    assert torch.allclose(whole, parts, atol=1e-6) and end.seen == after.seen == 11
    for one, other in zip(after.layers, end.layers, strict=True):
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one, other, strict=True))
