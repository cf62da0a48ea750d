"""Seeded noise: the right distribution, and a stream for each completion."""

import math

import pytest
import torch
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from aigc_text.generation.engine import stream_key
from aigc_text.generation.sampling import Sampler, draw, gumbel, normal, uniform


def keys(*values):
    return torch.tensor(values, dtype=torch.int64)


def test_a_stream_is_named_by_seed_prompt_and_index():
    found = {stream_key(s, i, j) for s in range(20) for i in range(20) for j in range(20)}
    assert len(found) == 8000
    assert stream_key(1, 2, 3) == stream_key(1, 2, 3)
    assert stream_key(1, 23, 4) != stream_key(12, 3, 4)
    assert all(-(2**63) <= k < 2**63 for k in found)


def test_streams_use_all_bits_of_the_seed():
    assert stream_key(2**40, 0, 0) != stream_key(0, 0, 0)


def noise(streams, step, size):
    return gumbel(streams, step, torch.arange(size))


def test_noise_depends_on_stream_step_and_token_only():
    together = noise(keys(5, -9, 2**62), 3, 1000)
    assert together[1].equal(noise(keys(-9), 3, 1000)[0])
    assert together[1, 7:10].equal(gumbel(keys(-9), 3, torch.tensor([7, 8, 9]))[0])
    assert not together[1].equal(noise(keys(-9), 4, 1000)[0])


def test_noise_is_standard_gumbel():
    found = noise(keys(*range(100)), 0, 10_000).double()
    assert found.isfinite().all()
    assert found.mean().item() == pytest.approx(0.5772157, abs=0.005)
    assert found.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.005)
    below = [(found < x).double().mean().item() for x in (-1.0, 0.0, 1.0, 4.0)]
    assert below == pytest.approx([math.exp(-math.exp(-x)) for x in (-1.0, 0.0, 1.0, 4.0)], abs=0.002)


def test_streams_and_steps_are_uncorrelated():
    rows = torch.stack([noise(keys(k), s, 20_000)[0] for k in (1, 2, 3) for s in (0, 1)]).double()
    off = torch.corrcoef(rows) - torch.eye(6)
    assert off.abs().max() < 0.03
    many = torch.stack([uniform(keys(*range(20_000)), s) for s in range(3)] + [noise(keys(*range(20_000)), 0, 1)[:, 0]])
    assert (torch.corrcoef(many) - torch.eye(4)).abs().max() < 0.03


def test_normal_noise_is_that_and_independent_of_the_tokens():
    found = normal(keys(*range(100)), 5000)
    assert found.isfinite().all() and found[7].equal(normal(keys(7), 5000)[0])
    assert found.mean().item() == pytest.approx(0, abs=0.005) and found.std().item() == pytest.approx(1, abs=0.005)
    below = [(found < x).double().mean().item() for x in (-2.0, 0.0, 1.0)]
    assert below == pytest.approx([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in (-2.0, 0.0, 1.0)], abs=0.002)
    rows = torch.stack([found[1], found[2], *(noise(keys(1), step, 5000)[0] for step in (0, 1))])
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 0.06


def test_uniform_numbers_are_that():
    found = uniform(keys(*range(100_000)), 3)
    assert found.min() >= 0 and found.max() < 1
    assert torch.histc(found, 10, 0, 1).double().div(100_000).sub(0.1).abs().max() < 0.005


# Drawing


@pytest.mark.parametrize("size", [4, 256, 257, 5000])
def test_the_inverse_draws_from_the_distribution(size):
    scores = torch.randn(1, size, generator=torch.Generator().manual_seed(size)) * 2
    scores[0, 1] = -math.inf
    drawn = torch.cat([draw(scores.expand(2000, -1), uniform(part, 7)) for part in torch.arange(60_000).split(2000)])
    shares = torch.bincount(drawn, minlength=size) / len(drawn)
    assert_shares(shares, scores[0].softmax(0), len(drawn))
    assert shares[1] == 0 and len(shares) == size


def assert_shares(shares, expected, draws):
    """The 20 likeliest of `expected` (V,) came up as often as `draws` of a binomial would have it, to 4 sigma."""
    top = expected.topk(min(len(expected), 20)).indices
    sigma = (expected[top] * (1 - expected[top]) / draws).sqrt()
    assert ((shares[top] - expected[top]).abs() < 4 * sigma + 1e-6).all()


@pytest.mark.parametrize("size", [5, 300, 1000])
def test_the_inverse_never_takes_what_is_ruled_out(size):
    scores = torch.full((4, size), -math.inf)
    scores[:, size // 2] = -3.0
    ends = torch.tensor([0.0, 2.0**-60, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert draw(scores, ends).eq(size // 2).all()
    scores[:, size - 3] = 30.0  # the other has a chance of e^-33
    assert draw(scores, ends)[2:].eq(size - 3).all()


def reference(scores, processors):
    """What transformers leaves of the distribution (V,)."""
    return processors(torch.zeros(1, 1, dtype=torch.long), scores)[0].softmax(0)


@pytest.mark.parametrize(
    "warpers",
    [
        [],
        [TemperatureLogitsWarper(0.7)],
        [TopKLogitsWarper(5)],
        [TopPLogitsWarper(0.8)],
        [MinPLogitsWarper(0.1)],
        [TemperatureLogitsWarper(1.5), TopKLogitsWarper(40), TopPLogitsWarper(0.9), MinPLogitsWarper(0.02)],
        [TemperatureLogitsWarper(3.0), TopPLogitsWarper(0.95)],
    ],
)
def test_the_sampler_draws_what_the_warpers_of_transformers_leave(warpers):
    scores = torch.randn(1, 2000, generator=torch.Generator().manual_seed(1)) * 2
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.3), *warpers])
    rest, sampler = Sampler.taken_from(processors)
    assert len(rest) == 1 and len(processors) == 1 + len(warpers)
    expected = reference(scores, LogitsProcessorList(warpers))
    drawn = torch.cat([sampler(scores.expand(2000, -1), part, 2) for part in torch.arange(20_000).split(2000)])
    shares = torch.bincount(drawn, minlength=2000) / len(drawn)
    assert not shares[expected == 0].any()
    assert_shares(shares, expected, len(drawn))
    assert shares[expected > 0.01].all()


def test_a_warper_out_of_order_stays_with_transformers():
    rest, sampler = Sampler.taken_from([TopPLogitsWarper(0.9), TopKLogitsWarper(3)])
    assert sampler == Sampler(top_k=3) and len(rest) == 1


@pytest.mark.parametrize("how", [Sampler(), Sampler(top_k=9), Sampler(top_p=0.9), Sampler(min_p=0.01)])
def test_a_draw_does_not_depend_on_the_rows_beside_it(how):
    scores = torch.randn(40, 3000, generator=torch.Generator().manual_seed(2)) * 3
    together = how(scores, keys(*range(40)), 5)
    assert together.tolist() == [int(how(scores[n : n + 1], keys(n), 5)) for n in range(40)]
    noisy = scores + torch.randn(40, 3000, generator=torch.Generator().manual_seed(3)) * 1e-6
    assert how(noisy, keys(*range(40)), 5).equal(together)


@pytest.mark.parametrize("how", [{}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}], ids=str)
@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-20])
def test_the_coldest_sample_is_the_likeliest_token(temperature, how):
    scores = torch.randn(50, 2000, generator=torch.Generator().manual_seed(0)) * 30
    drawn = Sampler(temperature=temperature, **how)(scores, keys(*range(50)), 0)
    assert drawn.equal(scores.argmax(1))
