"""What a VAE's figures are, on cases whose answers are known."""

import math

import pytest
import tiny
import torch
from torch import distributions

from aigc_text import Score
from aigc_text.models.vae import estimates as estimates
from aigc_text.models.vae.backend import VAE
from aigc_text.models.vae.estimates import Posteriors, Sentence
from aigc_text.scoring.totals import total


@pytest.fixture(scope="module")
def linear():
    """x = W z + noise with z from N(0, I): all normal, so the likelihood and the true posterior are known."""
    torch.manual_seed(0)
    weight, variance = torch.randn(3, 2).double(), 0.5
    x = distributions.MultivariateNormal(torch.zeros(3).double(), weight @ weight.T + variance * torch.eye(3)).sample(
        (40,)
    )
    exact = distributions.MultivariateNormal(torch.zeros(3).double(), weight @ weight.T + variance * torch.eye(3))
    covariance = torch.linalg.inv(torch.eye(2) + weight.T @ weight / variance)
    mean = x @ weight @ covariance / variance  # of the true posterior

    def likelihood(z):  # (N, K, 2) to (N, K)
        return distributions.Normal(z @ weight.T, math.sqrt(variance)).log_prob(x[:, None]).sum(-1)

    # A diagonal posterior that is not the true one, as an encoder's is.
    return likelihood, Posteriors(mean + 0.1, covariance.diagonal().log().expand(40, 2)), -exact.log_prob(x)


def test_importance_weighting_finds_the_likelihood_of_a_linear_gaussian_model(linear):
    likelihood, posteriors, exact = linear
    z = posteriors.draw(torch.arange(40), 20_000)
    found = estimates.importance_weighted(likelihood(z), z, posteriors)
    assert torch.allclose(found, exact, atol=0.05)
    assert (found - exact).mean().abs() < 0.005
    few = torch.stack([estimates.importance_weighted(likelihood(some), some, posteriors) for some in z.split(5, 1)])
    bound = estimates.negative_bound(likelihood(z), posteriors)
    assert exact.mean() < few.mean() < bound.mean()  # Burda et al. 2016, theorem 1
    assert (bound > exact - 0.05).all()


def test_with_the_true_posterior_one_draw_is_enough():
    """p(x, z) / q(z | x) is then p(x), whatever z is."""
    x, posteriors = (
        torch.tensor([[1.5], [-0.3]]),
        Posteriors(torch.tensor([[0.75], [-0.15]]), torch.full((2, 1), math.log(0.5))),
    )
    z = posteriors.draw(torch.arange(2), 1)
    likelihood = distributions.Normal(z, 1.0).log_prob(x[:, None]).sum(-1)
    found = estimates.importance_weighted(likelihood, z, posteriors)
    expected = -distributions.Normal(0.0, math.sqrt(2)).log_prob(x[:, 0])
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_log_normal_is_that_of_torch():
    z, mean, log_variance = torch.randn(3, 4, 5)
    q = distributions.Normal(mean, (0.5 * log_variance).exp())
    assert torch.allclose(estimates.log_normal(z, mean, log_variance), q.log_prob(z).sum(-1), atol=1e-4)


def test_mutual_information_is_what_its_definition_says():
    """KL to the prior on average, less the KL of the aggregated posterior, each by its own integral."""
    mean, log_variance = torch.linspace(-2, 2, 60)[:, None].double(), torch.full((60, 1), math.log(0.2)).double()
    posteriors = Posteriors(mean, log_variance)
    grid = torch.linspace(-8, 8, 20_001).double()[:, None]
    each = estimates.log_normal(grid[:, None], mean, log_variance).exp()  # (G, 60)
    aggregated = each.mean(1)
    assert torch.allclose(estimates.aggregated(posteriors, grid).exp(), aggregated, atol=1e-9)
    prior = distributions.Normal(0.0, 1.0).log_prob(grid[:, 0])
    step = 16 / 20_000
    kl_of_aggregated = float((aggregated * (aggregated.clamp(min=1e-300).log() - prior)).sum() * step)
    kl = distributions.kl_divergence(
        distributions.Normal(mean, (0.5 * log_variance).exp()), distributions.Normal(0.0, 1.0)
    ).sum(1)
    expected = float(kl.mean()) - kl_of_aggregated
    draws = posteriors.draw(torch.arange(60), 2000)  # (60, 2000, 1)
    found = [float(estimates.mutual_information(posteriors, draws[:, n])) for n in range(2000)]
    assert sum(found) / len(found) == pytest.approx(expected, abs=0.01)
    assert 0 < expected < math.log(60)


def test_mutual_information_ends():
    """Posteriors that are one hold nothing of x; those that are far apart hold which x it was."""
    z = torch.randn(50, 4)
    assert float(estimates.mutual_information(Posteriors(torch.zeros(50, 4), torch.zeros(50, 4)), z)) == pytest.approx(
        0, abs=1e-5
    )
    apart = Posteriors(100 * torch.arange(50.0)[:, None].expand(50, 4), torch.zeros(50, 4))
    assert float(estimates.mutual_information(apart, apart.mean)) == pytest.approx(math.log(50), abs=1e-4)


def test_active_units_have_means_that_vary():
    mean = torch.zeros(100, 4)
    mean[:50, 0], mean[:50, 1], mean[:, 2] = 0.21, 0.19, 5.0  # variances .011, .009 and 0
    assert estimates.active_units(Posteriors(mean, torch.zeros(100, 4))) == 1


@pytest.fixture(scope="module")
def backend():
    torch.manual_seed(0)
    made = VAE.from_scratch(tiny.tokenizer(), embedding_size=8, hidden_size=12, encoder_size=8, latent_size=3)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    return made


def test_likelihoods_of_a_model_do_not_depend_on_how_many_fit(backend, monkeypatch):
    (sentence,) = backend.sentences(["the cat sat on"])
    z = torch.randn(7, 3)
    whole = estimates.log_likelihoods(backend.model, sentence, z)
    monkeypatch.setattr(estimates, "STATES", 2 * len(sentence.ids) * backend.model.config.hidden_size)
    monkeypatch.setitem(estimates.LOGITS, "cpu", 3 * backend.model.config.vocab_size)
    assert torch.allclose(estimates.log_likelihoods(backend.model, sentence, z), whole, atol=1e-4)
    ids = torch.tensor(sentence.ids)
    for n in range(7):
        logits = backend.model(ids[None, :-1], latent=z[n : n + 1]).logits[0]
        expected = -torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")
        assert whole[n].item() == pytest.approx(expected.item(), rel=1e-4)


def test_posteriors_come_in_the_order_of_the_sentences(backend):
    texts = ["the cat sat on the mat", "a", "the dog"]
    together = backend.posteriors(texts)
    for n, text in enumerate(texts):
        alone = backend.posteriors([text])
        assert torch.allclose(together.mean[n], alone.mean[0], atol=1e-5)
        assert torch.allclose(together.log_variance[n], alone.log_variance[0], atol=1e-5)


def test_estimates_of_a_data_set(backend):
    texts = ["the cat sat on the mat", "a dog", "the dog sat"]
    words = sum(len(t.split()) + 1 for t in texts)
    done = []
    found = estimates.estimate(backend.model, backend.sentences(texts), words, samples=300, watch=done.append)
    assert done == [1, 2, 3] and found.words == 14 and found.samples == 300
    assert found.bound == pytest.approx(found.reconstruction + found.kl)
    assert found.importance_weighted < found.bound and found.perplexity < found.bound_perplexity
    assert found.perplexity == pytest.approx(math.exp(3 * found.importance_weighted / 14))
    scores = [s.nll for s in backend.score(texts, samples=300)]
    assert sum(scores) / 3 == pytest.approx(found.importance_weighted, rel=1e-6)
    again = estimates.estimate(backend.model, [Sentence(*s) for s in backend.sentences(texts)], words, samples=300)
    assert again == found


@pytest.mark.parametrize("samples", [None, 300])
def test_the_standard_error_is_the_spread_of_other_draws(samples):
    backend = VAE.from_scratch(tiny.tokenizer(), hidden_size=16, embedding_size=8, latent_size=4)
    with torch.no_grad():
        for parameter in backend.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    text = "the cat sat on the mat"
    drawn = [next(backend.score([text], samples=samples, seed=seed)) for seed in range(150)]
    spread = torch.tensor([score.nll for score in drawn]).std()
    errors = torch.tensor([score.nll_se for score in drawn])
    assert errors.square().mean().sqrt() == pytest.approx(float(spread), rel=0.25)


def test_sums_of_estimates_have_the_error_of_their_draws():
    found = total(Score(text="ab", nll=8.0, tokens=3, kind="estimate", nll_se=error) for error in (0.3, 0.4))
    assert found.nll_se == pytest.approx(0.5)
    assert total([Score(text="ab", nll=8.0, tokens=3)]).nll_se is None
