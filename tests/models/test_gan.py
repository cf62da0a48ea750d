"""The gan family: generator, discriminator, losses, phases, what follows a collapse, and what a user does with it."""

import math

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM

from aigc_text.errors import DataError, OptionError
from aigc_text.models.gan.backend import GAN
from aigc_text.models.gan.discriminator import WIDTHS, Discriminator, highest, padded
from aigc_text.models.gan.losses import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
    squared_gradient,
)
from aigc_text.models.gan.objective import GANTraining
from aigc_text.models.gan.relational_memory import RelationalMemory
from aigc_text.models.rnn.model import RecurrentState
from aigc_text.options.training import TrainingOptions
from aigc_text.testing.contract import check_backend
from aigc_text.training import hardware

SIZES = {
    "embedding_size": 16, "hidden_size": 24, "representations": 4, "discriminator_size": 8, "filters": 6,
    "discriminator_dropout": 0.0,
}  # fmt: skip
TEXTS = ["the cat sat on the mat", "a dog", "the dog sat on a log by the sea", "two cats and a dog sat", "a mat", "log"]


def made(**config):
    """A random model, its weights large enough that its texts are not one token over and over."""
    torch.manual_seed(0)
    backend = GAN.from_scratch(tiny.tokenizer(), **{**SIZES, **config})
    with torch.no_grad():
        for name, parameter in backend.model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("discriminator"):
                parameter.normal_(0, 0.3)
    backend.name = "gan"
    return backend


@pytest.fixture(scope="module")
def backend():
    return made()


def batch_of(backend, size=6):
    return next(iter(backend.batches(TEXTS, GANTraining(batch_size=size, block_size=16))))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"cell": "memory", "memory_slots": 2, "tie_word_embeddings": False},
        {"noise_size": 5, "noise_at_every_step": True, "num_hidden_layers": 2},
        {"discriminator": "cnn", "spectral_norm": True, "cell": "memory", "noise_size": 3},
        {"discriminator": "none"},
    ],
)
def test_it_keeps_the_contract(config):
    kept = list(check_backend(made(**config)))
    assert any(part.startswith("Batch size") for part in kept)
    assert any(part.startswith("Trains") for part in kept)


# Discriminator


@pytest.mark.parametrize(("width", "size"), [(2, 1), (3, 4), (5, 2)])
def test_the_highest_windows_are_convolution_and_maximum(width, size):
    torch.manual_seed(0)
    rows = torch.randn(5, 9, size, dtype=torch.double, requires_grad=True)
    weight = torch.randn(7, width * size, dtype=torch.double, requires_grad=True)
    bias = torch.randn(7, dtype=torch.double, requires_grad=True)

    def plain():
        kernel = weight.view(7, width, size).transpose(1, 2)  # (F, S, W)
        return F.conv1d(rows.transpose(1, 2), kernel, bias).amax(2)

    for of in (lambda x: x.sin().sum(), lambda x: x.square().mean()):
        found, expected = highest(rows, weight, bias), plain()
        assert torch.allclose(found, expected)
        first = [torch.autograd.grad(of(out), (rows, weight, bias), create_graph=True) for out in (found, expected)]
        for ours, theirs in zip(*first, strict=True):
            assert torch.allclose(ours, theirs)
        # The penalties differentiate a gradient.
        second = [torch.autograd.grad(grads[0].square().sum(), weight) for grads in first]
        assert torch.allclose(second[0][0], second[1][0]) and second[0][0].abs().sum() > 0


@pytest.mark.parametrize("several", [True, False])
def test_a_score_does_not_depend_on_what_fills_up_a_sentence(several):
    torch.manual_seed(0)
    judge = Discriminator(20, 4 if several else 1, 2, 5, several, 0.0, False)
    ids = torch.randint(1, 20, (3, 6))
    short = padded([ids], 0)[0]
    long = padded([ids, torch.zeros(3, 11, dtype=torch.long)], 0)[0]
    assert short.shape[1] == 6 + max(WIDTHS) < long.shape[1]
    scores = judge(judge.embedding(short))
    assert scores.shape == (3, 4 if several else 1)
    assert torch.allclose(scores, judge(judge.embedding(long)), atol=1e-6)
    assert not torch.allclose(scores, judge(judge.embedding(padded([ids.flip(1)], 0)[0])))


def test_spectral_norm_bounds_every_matrix_and_survives_a_folder(tmp_path):
    backend = made(spectral_norm=True)
    judge = backend.model.discriminator.train()
    with torch.no_grad():
        for layer in [m for m in judge.modules() if isinstance(m, nn.Linear)]:
            layer.parametrizations.weight.original.mul_(30)
        for _ in range(60):  # power iterations
            judge(judge.embedding(torch.zeros(2, 8, dtype=torch.long)))
    for layer in [m for m in judge.eval().modules() if isinstance(m, nn.Linear)]:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.05)
    backend.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    ids = torch.randint(0, 300, (2, 9))
    assert torch.allclose(judge(judge.embedding(ids)), again.discriminator(again.discriminator.embedding(ids)))


# Losses


def test_losses_are_those_of_the_papers():
    torch.manual_seed(0)
    r, f = torch.randn(64, dtype=torch.double), torch.randn(64, dtype=torch.double)
    d = torch.sigmoid  # the textbooks' D
    expected = {
        "minimax": (-(d(r).log() + (1 - d(f)).log()), (1 - d(f)).log()),
        "non_saturating": (-(d(r).log() + (1 - d(f)).log()), -d(f).log()),
        "relativistic": (-d(r - f).log(), -d(f - r).log()),
        "hinge": ((1 - r).clamp(min=0) + (1 + f).clamp(min=0), -f),
        "wasserstein": (f - r, -f),
    }
    assert set(expected) == set(LOSSES)
    for kind, (of_discriminator, of_generator) in expected.items():
        assert discriminator_loss(kind, r, f).item() == pytest.approx(of_discriminator.mean().item())
        assert generator_loss(kind, r, f).item() == pytest.approx(of_generator.mean().item())
    # Not -log(D(r) + D(f)), which some articles print: that is lowest where both are called real.
    assert discriminator_loss("minimax", r, f - 5) < discriminator_loss("minimax", r, f + 5)


def test_the_gradient_is_that_of_one_hot_words(backend):
    """|∇_x D| over the vocabulary, without a gradient of the vocabulary's width."""
    judge = backend.model.discriminator
    hot = F.one_hot(torch.randint(0, 300, (3, 12)), len(judge.weight)).float().requires_grad_()
    embedded = hot @ judge.weight
    scores = judge(embedded)
    (gradient,) = torch.autograd.grad(scores.mean(1).sum(), hot, retain_graph=True)
    found = squared_gradient(scores, embedded, judge.weight.t() @ judge.weight)
    assert torch.allclose(found, gradient.square().flatten(1).sum(1), rtol=1e-4) and found.min() > 0
    assert r1_penalty(torch.tensor([2.0, 4.0])).item() == 1.5
    assert gradient_penalty(torch.tensor([4.0, 9.0])).item() == pytest.approx((1 + 4) / 2)


# Generator


def test_the_memory_reads_step_by_step_as_at_once_and_skips_padding():
    torch.manual_seed(0)
    memory = RelationalMemory(6, 2, 8, 2)
    x = torch.randn(3, 7, 6)
    whole, after = memory(x)
    parts, state = [], None
    for part in x.split([3, 1, 3], dim=1):
        out, state = memory(part, state)
        parts.append(out)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)
    assert torch.allclose(state.layers[0][0], after.layers[0][0]) and state.seen == 7
    mask = torch.ones(3, 9)
    mask[:, :2] = 0
    filled = torch.cat([torch.randn(3, 2, 6), x], 1)
    assert torch.allclose(memory(filled, mask=mask)[0][:, 2:], whole, atol=1e-6)
    loss = whole.square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in memory.parameters())


def test_the_memory_is_that_of_the_paper():
    """Santoro et al. 2018, one step written out: attention over memory and input, two norms, gates by unit."""
    torch.manual_seed(0)
    layer, x = RelationalMemory(4, 3, 6, 2), torch.randn(2, 1, 4)
    memory = torch.randn(2, 3, 6)
    out, _ = layer(x, RecurrentState([(memory.flatten(1)[None],)]))
    read = layer.input(x[:, 0])[:, None]
    both = torch.cat([memory, read], 1)
    w, b = layer.attention.weight, layer.attention.bias
    q, k, v = (both @ w[n : n + 6].T + b[n : n + 6] for n in (0, 6, 12))
    heads = []
    for h in (slice(0, 3), slice(3, 6)):
        share = torch.softmax(q[:, :3, h] @ k[..., h].transpose(1, 2) / math.sqrt(3), 2)
        heads.append(share @ v[..., h])
    a = F.layer_norm(memory + torch.cat(heads, 2), (6,))
    a = F.layer_norm(a + layer.mlp(a), (6,))
    gates = layer.input_gates(read) + layer.memory_gates(memory.tanh())
    expected = torch.sigmoid(gates[..., :6] + 1) * memory + torch.sigmoid(gates[..., 6:]) * a.tanh()
    assert torch.allclose(out[:, 0].view(2, 3, 6), expected, atol=1e-5)


def test_sentences_are_drawn_from_the_model(backend):
    """Frequencies of the first word against the model's probabilities; each word is the arg max of what is shown."""
    model = backend.model
    torch.manual_seed(0)
    fakes = model.rollout(4000, 2)
    assert fakes.ids.shape == (4000, 2) and fakes.shown.argmax(1).equal(fakes.ids.t()[fakes.alive.t()])
    assert torch.allclose(fakes.shown.sum(1), torch.ones(len(fakes.shown)))
    begin = torch.tensor([backend.prompt_tokens("", backend.Options())])
    chances = torch.softmax(model(begin).logits[0, -1], 0)
    counts = torch.bincount(fakes.ids[:, 0], minlength=len(chances)) / 4000
    top = chances.topk(5).indices
    assert torch.allclose(counts[top], chances[top], atol=0.03)


def test_what_is_drawn_begins_with_the_token_that_begins_a_text():
    tokens = tiny.tokenizer()
    tokens.add_special_tokens({"bos_token": "<s>"})
    backend = GAN.from_scratch(tokens, **SIZES)
    assert [backend.model.config.bos_token_id] == backend.prompt_tokens("", backend.Options())
    assert backend.model.config.eos_token_id == tokens.eos_token_id != tokens.bos_token_id


def test_after_its_end_a_sentence_is_filled_up(backend):
    torch.manual_seed(0)
    end = backend.tokenizer.eos_token_id
    with torch.no_grad():
        before = backend.model.output.bias.clone()
        backend.model.output.bias[end] = 3.0
        fakes = backend.model.rollout(50, 12)
        backend.model.output.bias.copy_(before)
    for row, alive in zip(fakes.ids.tolist(), fakes.alive.tolist(), strict=True):
        ends = row.index(end) if end in row else len(row)
        assert alive == [n <= ends for n in range(len(row))] and set(row[ends + 1 :]) <= {end}
    assert 1 < fakes.alive.sum(1).float().mean() < 12


@pytest.mark.parametrize("config", [{}, {"cell": "memory"}, {"noise_size": 4, "noise_at_every_step": True}])
@pytest.mark.parametrize("hard", [False, True])
def test_the_generators_gradient_is_that_of_the_unrolled_loop(config, hard):
    """Drawing without gradients and reading again at once gives the gradient of a loop that does both."""
    model = made(**config).model.train()
    torch.manual_seed(3)
    ids, beta = torch.randint(1, 300, (5, 8)), 2.5
    fakes = model.rollout(5, 6, beta)
    kept = torch.zeros(*fakes.ids.shape, 300)
    kept[tuple(fakes.alive.t().nonzero().flip(1).t())] = fakes.shown
    out = model(ids, phase="generator", fakes=fakes, inverse_temperature=beta, straight_through=hard)
    loss = generator_loss("relativistic", out.real.detach(), out.fake)
    found = torch.autograd.grad(loss, [p for n, p in model.named_parameters() if not n.startswith("disc")])

    tokens, state, shown = torch.full((5,), model.config.bos_token_id), None, []
    for t in range(fakes.ids.shape[1]):
        outputs, state = model.read(tokens[:, None], fakes.noise, state=state, use_cache=True)
        logits = model.logits(outputs[:, 0])
        # y tells beta (o + g) but for a constant, of which softmax knows nothing.
        noise = (kept[:, t].clamp(min=1e-30).log() / beta - logits).detach()
        y = torch.softmax(beta * (logits + noise), 1)
        hot = F.one_hot(fakes.ids[:, t], y.shape[1]).float()
        y = hot + y - y.detach() if hard else y
        shown.append(torch.where(fakes.alive[:, t, None], y, hot))
        tokens = fakes.ids[:, t]
    judge = model.discriminator
    weight = judge.weight.detach()
    rest = F.one_hot(torch.full((5, 20), model._pad), len(weight)).float()
    score = judge(torch.cat([torch.stack(shown, 1), rest], 1) @ weight)
    real = judge(judge.embedding(F.pad(ids[:, 1:], (0, 20), value=model._pad)))
    assert torch.allclose(out.fake, score, atol=1e-5) and torch.allclose(out.real, real, atol=1e-5)
    other = generator_loss("relativistic", real.detach(), score)
    expected = torch.autograd.grad(other, [p for n, p in model.named_parameters() if not n.startswith("disc")])
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6, rtol=1e-3)
    assert sum(g.abs().sum() for g in found) > 0
    how = {"inverse_temperature": beta, "straight_through": hard, "fakes": fakes}
    alone = model(ids, phase="generator", with_real=False, **how)
    assert alone.real is None and torch.allclose(alone.fake, out.fake, atol=1e-6)


def test_each_phase_has_gradients_for_its_own_group_alone(backend):
    model, batch = backend.model, batch_of(backend)
    judge = {id(p) for p in model.discriminator.parameters()}
    for phase, other in (("discriminator", False), ("generator", True), ("likelihood", True)):
        model.zero_grad()
        fakes = model.rollout(6, 8) if phase == "generator" else None
        penalty = "r1" if phase == "discriminator" else None
        out = model(**batch, phase=phase, length=8, penalty=penalty, fakes=fakes)
        loss = out.loss if phase == "likelihood" else discriminator_loss("hinge", out.real, out.fake)
        if out.squared is not None:
            loss = loss + out.squared.mean()
        loss.backward()
        touched = {id(p) for p in model.parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert touched and not (touched & judge if other else touched - judge), phase
    model.zero_grad()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("penalty", ["r1", "gradient", None])
def test_gumbel_softmax_stays_finite_at_every_temperature(precision, penalty):
    backend = made()
    with torch.no_grad():
        backend.model.output.bias.normal_(0, 30)  # scores as far apart as a long training may drive them
    batch = batch_of(backend)
    for beta in (1.0, 10.0, 100.0, 1000.0, 1e6):
        with hardware.autocast(torch.device("cpu"), TrainingOptions(precision=precision)):
            out = backend.model(**batch, phase="discriminator", inverse_temperature=beta, length=8, penalty=penalty)
            loss = discriminator_loss("relativistic", out.real, out.fake)
            loss = loss if penalty is None else loss + out.squared.mean()
            loss.backward()
            taught = backend.model(**batch, phase="generator", inverse_temperature=beta, fakes=out.fakes)
            generator_loss("relativistic", taught.real, taught.fake).backward()
        assert all(p.grad.isfinite().all() for p in backend.model.parameters() if p.grad is not None), beta
        backend.model.zero_grad()


def test_scores_are_exact_and_with_noise_an_estimate():
    backend = made()
    (score,) = backend.score(["the cat sat"])
    ids = torch.tensor(
        [[*backend.prompt_tokens("", backend.Options()), *backend.tokenizer("the cat sat")["input_ids"]]]
    )
    ids = torch.cat([ids, torch.tensor([[backend.tokenizer.eos_token_id]])], 1)
    with torch.no_grad():
        logs = torch.log_softmax(backend.model(ids).logits[0, :-1], 1)
    assert score.kind == "exact" and score.tokens == ids.shape[1] - 1
    assert score.nll == pytest.approx(-logs.gather(1, ids[0, 1:, None]).sum().item(), rel=1e-5)
    noisy = made(noise_size=4)
    (first, again) = (next(iter(noisy.score(["the cat sat"]))) for _ in range(2))
    assert first == again and first.kind == "importance-weighted, 10 samples"
    with torch.no_grad():  # noise that reaches nothing leaves the likelihood as it is
        for parameter in noisy.model.first_state.parameters():
            parameter.zero_()
        logs = torch.log_softmax(noisy.model(ids).logits[0, :-1], 1)
    exact = -logs.gather(1, ids[0, 1:, None]).sum().item()
    assert next(iter(noisy.score(["the cat sat"]))).nll == pytest.approx(exact, rel=1e-5)
    with pytest.raises(OptionError, match="context 8"):
        noisy.score(["a"], context=8)
    with pytest.raises(DataError, match="holds half of a character at position 2"):
        list(noisy.score(["a \ud800"]))


def test_noise_alone_makes_texts_differ():
    backend = made(noise_size=4)
    with torch.no_grad():
        backend.model.first_state.weight.normal_(0, 5)
    greedy = {next(backend.generate([""], do_sample=False, seed=n, max_new_tokens=8)).text for n in range(6)}
    assert len(greedy) > 1
    assert len({next(made().generate([""], do_sample=False, seed=n, max_new_tokens=8)).text for n in range(6)}) == 1
