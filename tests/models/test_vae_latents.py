"""What a user does with a VAE's z: reconstructions, walks, differences, scores."""

import json
import math

import pytest
import tiny
import torch
from tokenizers.processors import TemplateProcessing

from aigc_text.errors import DataError, OptionError
from aigc_text.models.vae.backend import VAE, VAEOptions
from aigc_text.models.vae.latents import Difference, between
from tests.models.test_vae import PROMPTS, SIZES, TEXTS, made, texts
from tests.runs.test_training_run import command


@pytest.fixture(scope="module")
def backend():
    return made()


def test_z_from_the_prior_is_a_completions_own(backend):
    options = backend.Options()
    keys = range(4000)
    z = torch.stack([backend.latent("", options, key) for key in keys])
    assert z.mean().abs() < 0.02 and z.std().item() == pytest.approx(1, abs=0.02)
    assert len(set(texts(backend, [""], num_return_sequences=5, do_sample=False, seed=1))) > 1
    cold = texts(backend, [""], num_return_sequences=5, do_sample=False, z_temperature=0, seed=1)
    assert len(set(cold)) == 1
    half = backend.latent("", VAEOptions(z_temperature=0.5), 7)
    assert half.tolist() == pytest.approx((0.5 * backend.latent("", options, 7)).tolist())
    apart = texts(backend, [""], num_return_sequences=5, do_sample=True, temperature=3.0, z_temperature=0, seed=1)
    assert len(set(apart)) > 1


def test_a_reconstruction_is_decoded_from_the_posterior(backend):
    (mean, log_variance) = backend.posteriors([PROMPTS[2]])
    options = VAEOptions(mode="reconstruct")
    assert backend.latent(PROMPTS[2], options, None).equal(mean[0])
    draws = VAEOptions(mode="reconstruct", posterior="sample")
    z = torch.stack([backend.latent(PROMPTS[2], draws, key) for key in range(600)])
    assert torch.allclose(z.mean(0), mean[0], atol=0.5)
    assert torch.allclose(z.std(0), (0.5 * log_variance[0]).exp(), rtol=0.15)
    assert texts(backend, PROMPTS, mode="reconstruct") == [texts(backend, [p], mode="reconstruct")[0] for p in PROMPTS]
    begin = backend.prompt_tokens("", options)
    assert backend.prompt_tokens("a cat", options) == begin != backend.prompt_tokens("a cat", VAEOptions())


def test_a_tokenizer_that_begins_a_text_itself_begins_it_once():
    tokens = tiny.tokenizer()
    tokens.add_special_tokens({"bos_token": "<s>"})
    begin = tokens.bos_token_id
    tokens.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    backend = VAE.from_scratch(tokens, **SIZES)
    assert backend.prompt_tokens("a cat", VAEOptions()) == [begin, *tokens("a cat", add_special_tokens=False).input_ids]


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_walk_begins_and_ends_with_the_reconstructions(backend, path):
    made = list(backend.generate([PROMPTS[0]], interpolate_to=PROMPTS[2], steps=5, path=path, max_new_tokens=12))
    assert [c.index for c in made] == [0, 1, 2, 3, 4]
    ends = texts(backend, [PROMPTS[0], PROMPTS[2]], mode="reconstruct")
    assert [made[0].text, made[-1].text] == ends
    assert made[0].seed is None  # nothing was drawn
    assert len(list(backend.generate(["a"], interpolate_to="b", max_new_tokens=1))) == 7


def test_ways_between_vectors():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    assert between(a, b, 0.5, "linear").tolist() == [1, 2]
    middle = between(a, b, 0.5, "spherical")
    assert middle.tolist() == pytest.approx([3 / math.sqrt(2)] * 2, rel=1e-5)
    for path in ("linear", "spherical"):
        assert torch.allclose(between(a, b, 0.0, path), a) and torch.allclose(between(a, b, 1.0, path), b, atol=1e-6)
    assert between(a, -a, 0.25, "spherical").tolist() == [1, 0]  # no one great circle
    assert between(a, a, 0.25, "spherical").equal(a)


def test_a_prompt_goes_on_under_the_z_of_another_sentence(backend):
    z = backend.latent("a", VAEOptions(z_of=PROMPTS[2]), None)
    assert z.equal(backend.posteriors([PROMPTS[2]]).mean[0])
    (one,) = texts(backend, ["a"], z_of=PROMPTS[2], do_sample=False)
    (other,) = texts(backend, ["a"], z_of="the sea", do_sample=False)
    assert one != other


def test_a_difference_is_added_to_z_and_another_models_is_refused(backend, tmp_path):
    file = tmp_path / "d.json"
    Difference(backend.revision, ("one", 3), ("other", 4), tuple(range(8))).write(file)
    moved = backend.latent(PROMPTS[0], VAEOptions(mode="reconstruct", z_add=str(file), z_scale=-2.0), None)
    plain = backend.latent(PROMPTS[0], VAEOptions(mode="reconstruct"), None)
    assert torch.allclose(moved - plain, -2.0 * torch.arange(8.0), atol=1e-5)
    Difference("abc", ("one", 3), ("other", 4), tuple(range(8))).write(file)
    with pytest.raises(OptionError, match="is of another model"):
        texts(backend, ["a"], z_add=str(file))
    huge = json.dumps({"model": backend.revision, "plus": ["a", 1], "minus": ["b", 1], "vector": [10**400] * 8})
    for content in ("{}", "[", "[" * 100_000, huge):
        file.write_text(content)
        with pytest.raises(DataError, match="holds no difference"):
            texts(backend, ["a"], z_add=str(file))
    with pytest.raises(DataError, match="cannot be read"):
        texts(backend, ["a"], z_add=str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interpolate_to": "a", "mode": "reconstruct"}, "interpolate_to and mode=reconstruct do not go together"),
        ({"interpolate_to": "a", "z_of": "b"}, "interpolate_to and z_of do not go together"),
        ({"interpolate_to": "a", "posterior": "sample"}, "interpolate_to and posterior=sample do not go"),
        ({"mode": "reconstruct", "z_of": "b"}, "mode=reconstruct and z_of do not go together"),
        ({"steps": 5}, "steps belongs to interpolate_to"),
        ({"path": "linear"}, "path belongs to interpolate_to"),
        ({"z_scale": 2.0}, "z_scale belongs to z_add"),
        ({"posterior": "mean"}, "posterior belongs to mode=reconstruct, z_of or interpolate_to"),
        ({"interpolate_to": "a", "num_beams": 3}, "interpolate_to and num_beams do not go together"),
        ({"interpolate_to": "a", "num_return_sequences": 2}, "num_return_sequences=2 with interpolate_to"),
    ],
)
def test_options_that_contradict_each_other(backend, options, says):
    with pytest.raises(OptionError, match=says):
        texts(backend, ["the cat"], **options)


def test_a_z_that_is_not_finite_is_refused(backend):
    with pytest.raises(OptionError, match="z is beyond the numbers that there are"):
        texts(backend, [""], z_temperature=1e300, seed=1)


@pytest.mark.parametrize("option", [{"interpolate_to": "a cat"}, {"mode": "reconstruct"}])
def test_there_must_be_a_sentence_to_read(backend, option):
    with pytest.raises(OptionError, match="without a prompt"):
        texts(backend, [""], **option)


def test_the_command_line_prints_a_walk_without_the_prompt(backend, tmp_path, capsys):
    backend.save_pretrained(tmp_path / "vae")
    words = ["generate", "--model", tmp_path / "vae", "--max-new-tokens", 6]
    assert (
        command(*words, "--prompt", "the cat", "-o", "interpolate_to=the sea", "-o", "steps=3", "--format", "jsonl")
        == 0
    )
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["index"] for r in records] == [0, 1, 2] and {r["prompt"] for r in records} == {"the cat"}
    assert records[0]["options"]["interpolate_to"] == "the sea"
    assert command(*words, "--prompt", "XYZ", "-o", "mode=reconstruct") == 0
    assert "XYZ" not in capsys.readouterr().out
    assert command(*words, "--prompt", "the cat", "-o", "interpolate_to=the sea", "-o", "steps=4") == 0
    printed = capsys.readouterr().out
    assert "===" not in printed and printed.count("\n") >= 4  # a list, a text a line
    assert command(*words, "--prompt", "", "-n", 3, "--no-do-sample") == 0  # each has a z of its own
    capsys.readouterr()
    assert command(*words, "--prompt", "", "-o", "interpolate_to=the sea") == 2
    refused = capsys.readouterr().err
    assert "interpolate_to without a prompt" in refused and "Traceback" not in refused


def test_scores_are_named_bounds_or_estimates(backend):
    bound = list(backend.score(TEXTS))
    weighted = list(backend.score(TEXTS, samples=400))
    assert {s.kind for s in bound} == {"bound, estimated from 10 samples"}
    assert weighted[0].kind == "importance-weighted, 400 samples"
    assert sum(s.nll for s in weighted) < sum(s.nll for s in bound)  # the more draws, the nearer to the likelihood
    assert [s.tokens for s in bound] == [len(s.ids) - 1 for s in backend.sentences(TEXTS)]
    assert bound == list(backend.score(TEXTS))
    assert all(s.nll_se > 0 for s in [*bound, *weighted]) and next(backend.score(TEXTS, samples=1)).nll_se is None
    with pytest.raises(DataError, match="holds half of a character at position 2"):
        list(backend.score(["a \ud800"]))
    for given in ({"context": 32}, {"samples": 0}):
        with pytest.raises(OptionError, match=next(iter(given))):
            backend.score(TEXTS, **given)
