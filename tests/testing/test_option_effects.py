"""The contract catches a backend that ignores an option it takes: one deliberately deaf backend for each option."""

import dataclasses
import random
import re

import pytest
import tiny
from commands import MARKOV

from aigc_text import Backend, Completion, GenerationOptions
from aigc_text.backends.registry import get_backend
from aigc_text.generation.decoding import StopMatcher
from aigc_text.models.causal_lm import GPT2, Code
from aigc_text.options.base import option
from aigc_text.testing.contract import ContractError, check_backend
from aigc_text.testing.option_effects import _SHARED, check_options
from aigc_text.testing.option_trial import Ignored, Trial
from aigc_text.testing.own_option_effects import check_own

PROMPTS = ["the cat sat on", "once", "and the dog saw the"]


def deaf(cls, name):
    """A backend that accepts every option and drops one before generating."""

    def resolve(self, options, overrides):
        found = cls.resolve(self, options, overrides)
        if name == "truncate_prompt":
            return dataclasses.replace(found, truncate_prompt=True)  # cuts without being asked
        if name == "do_sample" and found.do_sample is False:
            return dataclasses.replace(found, do_sample=True)
        return dataclasses.replace(found, **{name: None})

    return type("Deaf", (cls,), {"resolve": resolve})


@pytest.fixture(scope="module")
def models():
    tokens = tiny.tokenizer()
    return lambda cls: cls(tiny.model("gpt2", tokens), tokens)


OBSERVED = [n for n in _SHARED if n not in ("max_new_tokens", "stop_strings")]


@pytest.mark.parametrize("name", [*OBSERVED, "max_new_tokens", "stop_strings"])
def test_a_model_of_transformers_that_ignores_a_shared_option_is_caught(models, name):
    _SHARED[name](Trial(models(GPT2), PROMPTS))  # an honest one passes
    with pytest.raises(Ignored, match=rf"^{name} is ignored"):
        _SHARED[name](Trial(models(deaf(GPT2, name)), PROMPTS))


@pytest.mark.parametrize("name", ["chat", "suffix", "stop_at_function_end"])
def test_one_that_ignores_an_option_of_its_own_is_caught(models, name):
    check_own(Trial(models(Code), PROMPTS), name)
    with pytest.raises(Ignored, match=rf"^{name} is ignored"):
        check_own(Trial(models(deaf(Code, name)), PROMPTS), name)


def test_the_part_on_options_is_in_the_contract(models):
    with pytest.raises(ContractError, match="breaks the contract: min_p is ignored: with 1.0 the samples"):
        list(check_backend(models(deaf(GPT2, "min_p"))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordOptions(GenerationOptions):
    shout: bool | None = option(None, "In capitals.")
    ending: str | None = option(None, "What each word ends with.", choices=("none", "comma"))
    longest: int | None = option(None, "Most letters of a word.", low=1, high=9)
    skip: float | None = option(None, "Chance of leaving a word out.", low=0, high=1)
    without: tuple[str, ...] | None = option(None, "Words that are not drawn.")


WORDS = ("kale", "a", "bean", "carrot", "lettuce", "pea")


class Words(Backend):
    """Draws words, with an option of each type, and with those of all backends that it can have."""

    Options = WordOptions
    takes = (
        "max_new_tokens", "min_new_tokens", "do_sample", "temperature", "top_k", "num_return_sequences", "stop_strings",
        "seed", "shout", "ending", "longest", "skip", "without",
    )  # fmt: skip

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        options = self.resolve(options, overrides)
        for i, prompt in enumerate(prompts):
            for j in range(options.num_return_sequences or 1):
                yield self.one(prompt, i, j, options)

    def one(self, prompt, i, j, o):
        draw, matcher = random.Random(f"{o.seed}/{i}/{j}"), StopMatcher(o.stop_strings or ())
        words = [w for w in WORDS if w not in (o.without or ()) and len(w) <= (o.longest or 9)] or ["a"]
        words = words[: o.top_k or None] if o.do_sample is not False else words[:1]
        weights = [2.0 ** (-n / (o.temperature or 1)) for n in range(len(words))]
        text, made, finish = "", 0, "length"
        while made < (o.max_new_tokens or 20):
            word = draw.choices(words, weights)[0]
            made += 1
            if draw.random() < (o.skip or 0):
                continue
            word = word.upper() if o.shout else word
            shown, stopped = matcher.push(f" {word}{',' if o.ending == 'comma' else ''}")
            text += shown
            if stopped or (made >= 3 and made >= (o.min_new_tokens or 0)):
                finish = "stop"
                break
        text += matcher.flush()
        return Completion(
            prompt=prompt, prompt_index=i, index=j, text=text, tokens=made, finish_reason=finish, seed=o.seed
        )


def test_a_backend_without_torch_that_heeds_its_options_passes():
    check_options(Words(), PROMPTS)


@pytest.mark.parametrize("name", [n for n in Words.takes if n not in ("num_return_sequences", "seed")])
def test_a_backend_without_torch_that_ignores_one_is_caught(name):
    with pytest.raises(Ignored, match=rf"^{name} is ignored"):
        check_options(deaf(Words, name)(), PROMPTS)


@pytest.mark.parametrize("short", [1, 3, 5])
def test_short_texts_do_not_hide_that_the_length_is_ignored(short):
    """A text of a fixed length, whatever number of tokens it claims."""

    class Short(Words):
        takes = ("max_new_tokens", "num_return_sequences", "stop_strings", "seed")

        def one(self, prompt, i, j, o):
            tokens = min(short, o.max_new_tokens or short)
            cut = "length" if tokens < short else "stop"
            return Completion(prompt=prompt, text=" a b c d e", prompt_index=i, tokens=tokens, finish_reason=cut)

    trial = Trial(Short(), PROMPTS)
    if short == 1:  # nothing shows that it would not be heeded: a text of one token is within every limit
        _SHARED["max_new_tokens"](trial)
    else:
        with pytest.raises(Ignored, match="max_new_tokens is ignored"):
            _SHARED["max_new_tokens"](trial)


def test_an_option_that_fails_within_its_range_is_named():
    class Failing(Words):
        def one(self, prompt, i, j, o):
            return super().one(prompt, i, j, dataclasses.replace(o, skip=1 / o.skip if o.skip is not None else None))

    with pytest.raises(Ignored, match=re.escape("fails with ") + ".*skip=0.0.*ZeroDivisionError"):
        check_options(Failing(), PROMPTS)


def test_a_value_that_is_refused_is_heeded_and_the_example_plugin_passes():
    from aigc_text.errors import OptionError

    class Refusing(Words):
        def one(self, prompt, i, j, o):
            if o.shout is not None:
                raise OptionError("there are no capitals", "Leave shout out.")
            return super().one(prompt, i, j, o)

    check_own(Trial(Refusing(), PROMPTS), "shout")
    markov = get_backend(f"{MARKOV}:Markov")
    check_options(markov.from_pretrained(), PROMPTS)
    with pytest.raises(Ignored, match="^restart is ignored: 0.0, 0.1, 0.5, 1.0 give the texts"):
        check_options(deaf(markov, "restart").from_pretrained(), PROMPTS)
