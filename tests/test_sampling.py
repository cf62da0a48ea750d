"""Seeded noise: the right distribution, and a stream for each completion."""

import math

import pytest
import torch

from aigc_text.sampling import gumbel, normal, stream_key


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


def test_noise_depends_on_stream_and_step_only():
    together = gumbel(keys(5, -9, 2**62), 3, 1000)
    assert together[1].equal(gumbel(keys(-9), 3, 1000)[0])
    assert together[1, :10].equal(gumbel(keys(-9), 3, 10)[0])
    assert not together[1].equal(gumbel(keys(-9), 4, 1000)[0])


def test_noise_is_standard_gumbel():
    noise = gumbel(keys(*range(100)), 0, 10_000).double()
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772157, abs=0.005)
    assert noise.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.005)
    below = [(noise < x).double().mean().item() for x in (-1.0, 0.0, 1.0, 4.0)]
    assert below == pytest.approx([math.exp(-math.exp(-x)) for x in (-1.0, 0.0, 1.0, 4.0)], abs=0.002)


def test_streams_and_steps_are_uncorrelated():
    rows = torch.stack([gumbel(keys(k), s, 20_000)[0] for k in (1, 2, 3) for s in (0, 1)]).double()
    off = torch.corrcoef(rows) - torch.eye(6)
    assert off.abs().max() < 0.03


def test_normal_noise_is_that_and_independent_of_the_tokens():
    noise = normal(keys(*range(100)), 5000)
    assert noise.isfinite().all() and noise[7].equal(normal(keys(7), 5000)[0])
    assert noise.mean().item() == pytest.approx(0, abs=0.005) and noise.std().item() == pytest.approx(1, abs=0.005)
    below = [(noise < x).double().mean().item() for x in (-2.0, 0.0, 1.0)]
    assert below == pytest.approx([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in (-2.0, 0.0, 1.0)], abs=0.002)
    rows = torch.stack([noise[1], noise[2], *(gumbel(keys(1), step, 5000)[0] for step in (0, 1))])
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 0.06


def test_the_arg_max_draws_from_the_distribution():
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])
    drawn = (probabilities.log() + gumbel(keys(*range(40_000)), 7, 4)).argmax(-1)
    shares = torch.bincount(drawn, minlength=4) / 40_000
    assert torch.allclose(shares, probabilities, atol=0.01)


def test_ruled_out_tokens_stay_ruled_out():
    scores = torch.tensor([-math.inf, 0.0, -math.inf])
    assert (scores + gumbel(keys(*range(1000)), 0, 3)).argmax(-1).eq(1).all()
