"""The vae family: the model, its loss, the remedies against collapse, its data, and what a user does with z."""

import itertools

import pytest
import tiny
import torch
from torch import distributions
from transformers import AutoModelForCausalLM

from aigc_text import TrainingOptions
from aigc_text.data.tokenizer_training import train_word
from aigc_text.errors import DataError, OptionError
from aigc_text.models.vae.backend import VAE, VAETraining
from aigc_text.models.vae.model import MeanNorm, kl_divergence
from aigc_text.models.vae.objective import ELBO, charged_kl, kl_weight
from aigc_text.testing.contract import check_backend
from aigc_text.training import trainer

SIZES = {"embedding_size": 24, "hidden_size": 32, "encoder_size": 16, "latent_size": 8}
TEXTS = ["the cat sat on the mat", "a dog", "the dog sat on a log by the sea", "two cats and a dog sat", "a mat", "log"]
PROMPTS = ["the cat sat", "a", "and the dog on the log saw", "once"]


def made(**config):
    """A random model, its weights large enough that its texts are not one token over and over."""
    torch.manual_seed(0)
    backend = VAE.from_scratch(tiny.tokenizer(), **{**SIZES, **config})
    with torch.no_grad():
        for parameter in backend.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    backend.name = "vae"
    return backend


@pytest.fixture(scope="module")
def backend():
    return made()


def texts(backend, prompts, **options):
    return [c.text for c in backend.generate(prompts, max_new_tokens=12, **options)]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"share_embedding": True, "batch_norm_scale": 0.5, "num_hidden_layers": 2, "tie_word_embeddings": False},
        {"latent_at_start": False},
    ],
)
def test_it_keeps_the_contract(config):
    kept = list(check_backend(made(**config)))
    assert any(part.startswith("Batch size") for part in kept) and any(part.startswith("Trains") for part in kept)


# Model


def test_the_kl_is_that_of_normal_distributions():
    mean, log_variance = torch.randn(5, 8), torch.randn(5, 8)
    q = distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0))
    assert torch.allclose(kl_divergence(mean, log_variance), expected, atol=1e-6)


def test_the_encoder_is_a_bidirectional_lstm_whatever_fills_up_a_row(backend):
    encoder, table = backend.model.encoder, backend.model.encoder.embedding
    whole = torch.nn.LSTM(24, 16, batch_first=True, bidirectional=True)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        getattr(whole, name).data.copy_(getattr(encoder.ahead, name))
        getattr(whole, name + "_reverse").data.copy_(getattr(encoder.back, name))
    rows = [torch.randint(0, 300, (n,)) for n in (7, 2, 5)]
    ids, mask = torch.randint(0, 300, (3, 7)), torch.zeros(3, 7, dtype=torch.long)
    for n, row in enumerate(rows):
        ids[n, : len(row)], mask[n, : len(row)] = row, 1
    mean, log_variance = backend.model.encode(ids, mask)
    for n, row in enumerate(rows):
        last = whole(table(row[None]))[1][0].flatten()  # the last states ahead and back
        assert torch.allclose(encoder.mean(last), mean[n], atol=1e-5)
        assert torch.allclose(encoder.log_variance(last), log_variance[n], atol=1e-5)


def test_the_loss_is_the_negative_elbo_summed_over_a_sentence(backend):
    options = VAETraining(batch_size=6, block_size=32)
    batch = next(iter(backend.batches(TEXTS, options)))
    z = torch.randn(6, 8)
    out = backend.model(**batch, latent=z)
    total = 0.0
    for n in range(6):
        length = int((batch["labels"][n] != -100).sum()) + 1
        row = batch["input_ids"][n : n + 1, :length]
        mean, log_variance = backend.model.encode(row)
        logits = backend.model(row[:, :-1], latent=z[n : n + 1]).logits
        nll = torch.nn.functional.cross_entropy(logits[0], row[0, 1:], reduction="sum")
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum()
        assert row[0, -1] == backend.tokenizer.eos_token_id  # the end is learned
        total += (nll + kl).item()
        assert out.kl[n].sum().item() == pytest.approx(kl.item(), rel=1e-4)
    assert out.loss.item() == pytest.approx(total / 6, rel=1e-5)


def test_z_is_drawn_anew_with_its_noise(backend):
    batch = next(iter(backend.batches(TEXTS, VAETraining(batch_size=6, block_size=32))))
    torch.manual_seed(0)
    one, other = backend.model(**batch), backend.model(**batch)
    assert one.reconstruction != other.reconstruction and one.kl.equal(other.kl)
    torch.manual_seed(0)
    mean, log_variance = backend.model.encode(batch["input_ids"], batch.get("attention_mask"))
    z = mean + (0.5 * log_variance).exp() * torch.randn(6, 8)
    assert backend.model(**batch, latent=z).reconstruction.item() == pytest.approx(one.reconstruction.item())


@pytest.mark.parametrize("off", ["latent_at_start", "latent_at_every_step"])
def test_z_reaches_the_decoder_by_either_way(off):
    model = made(**{off: False}).model
    ids = torch.randint(0, 300, (1, 4))
    one, other = (model(ids, latent=torch.full((1, 8), v)).logits for v in (0.0, 1.0))
    assert not torch.allclose(one[:, 0], other[:, 0]) and not torch.allclose(one[:, -1], other[:, -1])
    with pytest.raises(OptionError, match="the decoder never sees z"):
        made(latent_at_start=False, latent_at_every_step=False)


def test_reading_step_by_step_is_reading_at_once(backend):
    ids, z = torch.randint(0, 300, (3, 9)), torch.randn(3, 8)
    with torch.no_grad():
        whole, state, logits = backend.model(ids, latent=z), None, []
        for part in ids.split([4, 1, 4], dim=1):
            out = backend.model(part, latent=z, cache=state)
            state, _ = out.cache, logits.append(out.logits)
    assert torch.allclose(torch.cat(logits, 1), whole.logits, atol=1e-5)


def test_batch_norm_keeps_the_kl_up():
    """Zhu et al. 2020, equation 7: at least D gamma² / 2, whatever the encoder says."""
    torch.manual_seed(0)
    norm = MeanNorm(8, 0.6)
    mean = norm(1e-4 * torch.randn(64, 8) + 0.3)  # an encoder that has nearly collapsed
    assert mean.mean(0).abs().max() < 1e-3 and mean.var(0, unbiased=False).sqrt().tolist() == pytest.approx(
        [0.6] * 8, abs=0.05
    )
    assert kl_divergence(mean, torch.zeros(64, 8)).sum(1).mean().item() == pytest.approx(8 * 0.36 / 2, rel=0.1)
    for _ in range(200):
        norm(2 * torch.randn(64, 8) + 3)
    one = torch.randn(1, 8)
    norm.eval()
    expected = (one - norm.running_mean) / norm.running_variance.sqrt() * 0.6
    assert torch.allclose(norm(one), expected, atol=1e-5)
    assert norm.running_mean.tolist() == pytest.approx([3.0] * 8, abs=0.5)
    norm.train()
    assert torch.allclose(norm(one), expected, atol=1e-5)  # one row has no variance


def test_word_dropout_hides_words_from_the_decoder_alone(backend):
    batch = next(iter(backend.batches(TEXTS, VAETraining(batch_size=6, block_size=32))))
    z = torch.randn(6, 8)
    none, all_of_them = (backend.model(**batch, latent=z, word_dropout=rate) for rate in (0.0, 1.0))
    assert none.kl.equal(all_of_them.kl)
    with torch.no_grad():
        ids = batch["input_ids"][:, :-1]
        blind = backend.model.decode(ids, z, word_dropout=1.0)[0]
        assert torch.allclose(blind, backend.model.decode(torch.zeros_like(ids), z, word_dropout=1.0)[0])
        assert not torch.allclose(blind, backend.model.decode(ids, z)[0])


def test_a_folder_loads_as_a_model_of_transformers(tmp_path):
    backend = made(batch_norm_scale=0.4, share_embedding=True)
    backend.model.encoder.norm.running_mean.fill_(0.7)
    backend.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    for name, tensor in backend.model.state_dict().items():
        assert tensor.equal(again.state_dict()[name]), name
    assert again.output.weight is again.embedding.weight


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"laten_size": 4}, "VAEConfig has no field 'laten_size'. Did you mean 'latent_size'?"),
        ({"latent_size": "0"}, "latent_size cannot be 0"),
        ({"input_dropout": "1.5"}, "input_dropout cannot be 1.5"),
        ({"batch_norm_scale": "-1"}, "batch_norm_scale cannot be -1"),
    ],
)
def test_a_configuration_that_cannot_be(config, says):
    with pytest.raises(OptionError) as refused:
        made(**config)
    assert says in refused.value.message


# Objective


def test_annealing_is_a_function_of_the_step():
    monotonic = VAETraining(
        max_steps=100, annealing="monotonic", annealing_steps=20, annealing_start=0.1, kl_weight=2.0
    )
    assert [kl_weight(n, monotonic) for n in (0, 10, 20, 99)] == pytest.approx([0.2, 1.1, 2.0, 2.0])
    cyclical = VAETraining(max_steps=100, annealing="cyclical", cycles=4, cycle_rise=0.5)
    weights = [kl_weight(n, cyclical) for n in range(100)]
    assert weights[:25] == pytest.approx([min(1, n / 12.5) for n in range(25)])  # Fu et al. 2019, equation 6
    assert weights[:25] * 4 == weights
    late = VAETraining(max_steps=100, pretrain_steps=40, eval_every=20, annealing="monotonic", annealing_steps=10)
    assert [kl_weight(n, late) for n in (0, 39, 40, 45, 50)] == pytest.approx([0, 0, 0, 0.5, 1])
    assert kl_weight(0, VAETraining(kl_weight=0.25)) == 0.25


def test_free_bits():
    kl = torch.tensor([[0.1, 0.5], [0.3, 0.7]], requires_grad=True)
    assert charged_kl(kl, 0.0, "dimension").item() == pytest.approx(0.8)
    assert charged_kl(kl, 0.8, "dimension").item() == pytest.approx((0.4 + 0.5 + 0.4 + 0.7) / 2)
    assert charged_kl(kl, 0.8, "batch").item() == pytest.approx(0.4 + 0.6)
    assert charged_kl(kl, 0.8, "sentence").item() == pytest.approx((0.8 + 1.0) / 2)
    charged_kl(kl, 0.8, "dimension").backward()
    assert kl.grad.tolist() == [[0, 0.5], [0, 0.5]]  # what is free has no gradient


OPTIONS = {"batch_size": 3, "block_size": 16, "precision": "fp32", "learning_rate": 0.01, "warmup_steps": 0}


def run(backend, folder=None, resume=False, **options):
    chosen = VAETraining(**{**OPTIONS, **options})
    evaluate = backend.validator(TEXTS, chosen)
    objective = backend.objective(chosen)
    batches = backend.batches(TEXTS, chosen)
    steps = trainer.train(
        backend.model.train(), objective, batches, chosen, evaluate=evaluate, checkpoints=folder, resume=resume
    )
    return objective, steps


def test_named_losses_are_logged():
    backend = made()
    _, steps = run(backend, max_steps=2, kl_weight=0.5, eval_every=1, block_size=32)
    for report in steps:
        logs = report.logs
        assert logs["loss"] == pytest.approx(logs["reconstruction"] + 0.5 * logs["kl"], rel=1e-5)
        assert logs["kl_weight"] == 0.5 and logs["eval_loss"] > 0
        tokens = sum(len(s.ids) - 1 for s in backend.sentences(TEXTS)) / len(TEXTS)
        assert logs["eval_loss"] == pytest.approx((logs["eval_reconstruction"] + logs["eval_kl"]) / tokens, rel=1e-5)


def test_after_pre_training_the_decoder_begins_anew_and_the_encoder_goes_on():
    backend = made()
    objective, steps = run(backend, max_steps=6, pretrain_steps=4, eval_every=2, learning_rate=1e-8)
    start = {n: p.detach().clone() for n, p in backend.model.named_parameters()}
    said = [(report.step, report.message) for report in steps if report.message]
    assert said[0] == (4, "decoder reset; the end of pre-training") and objective.was_reset
    moved = {n for n, p in backend.model.named_parameters() if not torch.allclose(p, start[n], atol=1e-3)}
    assert moved and not any(n.startswith("encoder.") for n in moved)
    assert {"decoder.layers.0.weight_hh_l0", "embedding.weight", "first_state.weight"} <= moved


def test_pre_training_counts_no_kl_and_ends_at_a_validation():
    backend = made()
    _, steps = run(backend, max_steps=4, pretrain_steps=2, eval_every=2)
    weights = [report.logs["kl_weight"] for report in steps]
    assert weights == [0, 0, 1, 1]
    with pytest.raises(OptionError, match="pretrain_steps 30 does not end at a validation"):
        VAETraining(pretrain_steps=30, eval_every=20)
    with pytest.raises(OptionError, match="pretrain_steps 40 leaves nothing of max_steps 40"):
        VAETraining(pretrain_steps=40, max_steps=40, eval_every=20)
    assert VAETraining(pretrain_steps=2000, epochs=9.0).pretrain_steps == 2000  # how many steps it has comes later


def test_a_resumed_run_is_the_unbroken_one(tmp_path):
    options = {
        "max_steps": 8, "pretrain_steps": 4, "eval_every": 2, "save_every": 1, "annealing": "cyclical",
        "word_dropout": 0.3, "encoder_steps": 2,
    }  # fmt: skip
    whole = made(batch_norm_scale=0.5)
    list(run(whole, **options)[1])
    for stop in (3, 4, 5, 6):
        folder = tmp_path / str(stop)
        broken = made(batch_norm_scale=0.5)
        list(itertools.islice(run(broken, folder, **options)[1], stop))
        again = made(batch_norm_scale=0.5)
        list(run(again, folder, resume=True, **options)[1])
        for name, tensor in whole.model.state_dict().items():
            assert tensor.equal(again.model.state_dict()[name]), (stop, name)


def test_an_aggressive_encoder_takes_several_steps_for_one_of_the_decoder():
    backend = made()
    objective, steps = run(backend, max_steps=6, encoder_steps=3, eval_every=100)
    moved = []
    parts = [backend.model.encoder.mean.weight, backend.model.output.weight]
    before = [p.detach().clone() for p in parts]
    for _ in itertools.islice(steps, 5):
        moved.append([not p.equal(b) for p, b in zip(parts, before, strict=True)])
        before = [p.detach().clone() for p in parts]
    assert moved == [[True, False], [True, False], [True, True], [True, False], [True, False]]
    assert objective.aggressive
    for information, on in ((0.5, True), (0.9, True), (0.8, False), (2.0, False)):
        note = objective.after_eval({"eval_mutual_information": information}).note
        assert objective.aggressive is on and ("no longer rises" in note) is (information == 0.8)


def test_a_collapse_is_told_at_the_second_validation_and_once():
    objective = ELBO(VAETraining())
    objective.step = 10
    said, flags = [], []
    for kl, units in ((0.5, 9), (4.0, 2), (4.0, 1), (4.0, 9), (4.0, 3), (0.9, 3), (0.9, 3)):
        verdict = objective.after_eval({"eval_kl": kl, "eval_active_units": units})
        said.append(verdict.note)
        flags.append(verdict.logs["posterior_collapse"])
    assert flags == [0, 1, 1, 0, 0, 0, 1]  # logged at every validation, for curves
    assert [bool(text) for text in said] == [False, True, False, False, False, False, True]
    assert "the posterior has collapsed: KL 4.00 nats, 2 active units" in said[1] and "free_bits=8" in said[1]


def test_encoder_and_decoder_share_no_parameter():
    for config in ({}, {"share_embedding": True}, {"tie_word_embeddings": False}):
        model = made(**config).model
        groups = ELBO(VAETraining()).groups(model)
        ids = [id(p) for group in groups.values() for p in group]
        assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in model.parameters()}


# Data


def test_long_sentences_are_cut_or_dropped_and_told(backend):
    end = backend.tokenizer.eos_token_id
    data = ["the cat sat on the mat and the dog", "", "  ", "the cat"]
    rows = {}
    for how in ("cut", "drop"):
        encoder = backend.encoder(VAETraining(block_size=8, long_sentences=how))
        rows[how] = [row.ids for row in encoder.rows(data)]
        assert "1 of 4 sentences are longer than 8 tokens" in encoder.notes[0]
        assert ("left out" in encoder.notes[0].split(":")[1]) is (how == "drop") or how == "cut"
        assert encoder.notes[1] == "2 of 4 sentences are empty: left out"
    assert len(rows["cut"][0]) == 8 and rows["cut"][0][-1] != end  # a cut sentence does not end
    assert rows["cut"][1:] == rows["drop"] and rows["drop"][0][0] == rows["drop"][0][-1] == end


def test_sizes_of_rows_are_the_bytes_that_are_learned(backend):
    encoder = backend.encoder(VAETraining(block_size=64))
    sizes = [row.size for row in encoder.rows(["the cat", " naïve "], sized=True)]
    assert sizes == [7, 6]


def test_a_vocabulary_that_covers_too_little_is_told():
    words = VAE.from_scratch(train_word(["the cat sat on the mat"]), **SIZES)
    encoder = words.encoder(VAETraining())
    list(encoder.rows(["the cat sat", "a dog sat"]))
    assert encoder.notes == [
        "warning: 33.3% of the words are not in the vocabulary; use a larger --vocab-size, or --tokenizer bpe, "
        "which has none unknown"
    ]
    assert words.validator(["a dog sat"], VAETraining())(words.model)["unknown"] == pytest.approx(2 / 4)


def test_what_is_no_sentence_is_refused(backend):
    from aigc_text.data.sources import Pair

    with pytest.raises(DataError, match="this backend learns sentences, and the data is pairs"):
        list(backend.encoder(VAETraining()).rows([Pair("a", "b")]))
    with pytest.raises(OptionError, match="packing joins sentences"):
        VAETraining(packing=True)
    assert backend.objective(TrainingOptions(learning_rate=0.5)).options.learning_rate == 0.5


def test_advice_against_a_collapse_leaves_out_what_is_in_force():
    from aigc_text.models.gan.objective import GANTraining
    from aigc_text.models.gan.objective import remedies as of_gan
    from aigc_text.models.vae.objective import VAETraining, remedies

    everything = remedies(VAETraining(), batch_norm=False)
    for option in ("free_bits=8", "annealing=cyclical", "batch_norm_scale", "pretrain_steps=1000", "word_dropout"):
        assert option in everything
    bits = remedies(VAETraining(free_bits=8), batch_norm=True)
    assert "free_bits" not in bits and "batch_norm" not in bits and "annealing=cyclical" in bits
    every = VAETraining(free_bits=2, annealing="monotonic", pretrain_steps=200, word_dropout=0.1)
    assert remedies(every, batch_norm=True) == "Try a lower weight of the KL (-o kl_weight=0.5)"
    assert "r1=1" in of_gan(GANTraining()) and "r1=1" not in of_gan(GANTraining(r1=0.5))
    assert "roll_back" not in of_gan(GANTraining(on_collapse="roll_back"))
