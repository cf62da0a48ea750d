"""Options refuse nonsense at construction, read text, and say what is allowed."""

import math
from dataclasses import FrozenInstanceError, dataclass

import pytest

from aigc_text.errors import OptionError
from aigc_text.options.base import Options, describe_range, option, value_type
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("min_new_tokens", -1),
        ("temperature", 0),
        ("temperature", -0.5),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("repetition_penalty", 0),
        ("num_beams", 0),
        ("num_return_sequences", 0),
        ("seed", -1),
        ("length_penalty", 1e300),
    ],
)
def test_a_value_out_of_range_is_refused_with_field_value_and_range(name, value):
    with pytest.raises(OptionError) as refused:
        GenerationOptions(**{name: value})
    assert refused.value.message == f"{name} cannot be {value!r}"
    assert refused.value.cure.startswith(f"Allowed for {name}: a")


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_new_tokens", 1), ("temperature", 1e-9), ("top_k", 0), ("top_p", 1), ("min_p", 0), ("min_p", 1), ("seed", 0)],
)
def test_the_ends_of_a_range_are_allowed(name, value):
    assert getattr(GenerationOptions(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["max_new_tokens", "top_k", "seed", "num_return_sequences"])
def test_a_whole_number_beyond_any_register_is_refused(name):
    assert getattr(GenerationOptions(**{name: 2**63 - 1}), name) == 2**63 - 1
    with pytest.raises(OptionError, match=f"{name} cannot be") as refused:
        GenerationOptions(**{name: 2**63})
    assert refused.value.cure.endswith(", below 2^63")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["temperature", "top_p", "length_penalty"])
def test_not_a_number_and_infinity_are_refused(name, value):
    with pytest.raises(OptionError, match=f"{name} cannot be"):
        GenerationOptions(**{name: value})
    with pytest.raises(OptionError, match=f"{name} cannot be"):
        GenerationOptions.parse({name: str(value)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 1.5),
        ("max_new_tokens", True),
        ("temperature", True),
        ("temperature", (0.5,)),
        ("do_sample", 1),
        ("seed", [1]),
        ("stop_strings", 5),
        ("stop_strings", ("ok", 5)),
        ("stop_strings", ("",)),
    ],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(OptionError, match=f"{name} cannot be"):
        GenerationOptions(**{name: value})


@pytest.mark.parametrize("value", ["a\udcff", ("ok", "\ud800")])
def test_text_with_half_of_a_character_is_refused(value):
    with pytest.raises(OptionError, match="stop_strings is not UTF-8"):
        GenerationOptions(stop_strings=value)


def test_a_whole_number_serves_as_a_number():
    assert GenerationOptions(temperature=1).temperature == 1


def test_none_is_refused_where_a_field_has_no_model_default():
    with pytest.raises(OptionError, match="max_steps cannot be None"):
        TrainingOptions(max_steps=None)
    assert TrainingOptions(block_size=None).block_size is None


def test_choices_are_named():
    with pytest.raises(OptionError) as refused:
        TrainingOptions(optimizer="sdg")
    assert "adamw, muon" in refused.value.cure


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(OptionError) as refused:
        GenerationOptions.parse({"temprature": 1})
    assert refused.value.message == "unknown option 'temprature'. Did you mean 'temperature'?"
    assert "top_p" in refused.value.cure


def test_text_is_read_as_the_type_of_the_field():
    texts = {"max_new_tokens": "40", "temperature": "0.7", "do_sample": "Yes", "stop_strings": "\n\n"}
    read = GenerationOptions.parse(texts)
    assert read == GenerationOptions(max_new_tokens=40, temperature=0.7, do_sample=True, stop_strings=("\n\n",))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("ON", True), ("1", True), ("no", False), ("0", False)])
def test_yes_and_no_are_read_from_several_words(text, value):
    assert GenerationOptions.parse({"do_sample": text}).do_sample is value


@pytest.mark.parametrize(("name", "text"), [("max_new_tokens", "many"), ("top_p", "high"), ("do_sample", "maybe")])
def test_text_that_cannot_be_read_is_refused_with_what_is_allowed(name, text):
    with pytest.raises(OptionError) as refused:
        GenerationOptions.parse({name: text})
    assert text in refused.value.message
    assert name in refused.value.cure


def test_several_texts_without_sampling_are_refused():
    with pytest.raises(OptionError, match="num_return_sequences=3 without sampling"):
        GenerationOptions(num_return_sequences=3, do_sample=False)
    with pytest.raises(OptionError, match="more than num_beams=2"):
        GenerationOptions(num_return_sequences=3, num_beams=2)
    assert GenerationOptions(num_return_sequences=3, do_sample=False, num_beams=3).num_beams == 3
    assert GenerationOptions(num_return_sequences=3).do_sample is None  # the model's own default decides later


def test_fewest_tokens_above_most_tokens_are_refused():
    with pytest.raises(OptionError, match="min_new_tokens=9 is more than max_new_tokens=8"):
        GenerationOptions(min_new_tokens=9, max_new_tokens=8)
    assert GenerationOptions(min_new_tokens=8, max_new_tokens=8).min_new_tokens == 8


def test_lists_become_tuples():
    options = GenerationOptions(stop_strings=["a", "b"])
    assert options.stop_strings == ("a", "b")
    assert hash(options) == hash(GenerationOptions(stop_strings=("a", "b")))


def test_one_stop_string_is_one_and_not_its_letters():
    assert GenerationOptions(stop_strings="END").stop_strings == ("END",)


def test_given_holds_what_differs_from_the_defaults_as_plain_values():
    assert GenerationOptions().given() == {}
    assert GenerationOptions(seed=0, stop_strings=("x",)).given() == {"seed": 0, "stop_strings": ["x"]}
    assert TrainingOptions(max_steps=1000, seed=1).given() == {"seed": 1}


def test_given_makes_the_same_options_again():
    options = GenerationOptions(temperature=0.5, stop_strings=("x", "y"), do_sample=True)
    assert GenerationOptions.parse(options.given()) == options


def test_options_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        GenerationOptions().seed = 1


def test_every_option_has_help():
    for cls in (GenerationOptions, TrainingOptions):
        assert all(f.metadata["help"].endswith(".") for f in cls.fields().values())


def test_generation_and_training_share_no_name_but_the_seed():
    assert set(GenerationOptions.fields()) & set(TrainingOptions.fields()) == {"seed"}


@dataclass(frozen=True, kw_only=True)
class Own(Options):
    share: float | None = option(None, "A share.", above=0, high=1)
    words: tuple[str, ...] | None = option(None, "Words.")
    kind: str = option("a", "A kind.", choices=("a", "b"))


def test_a_backend_adds_options_by_subclassing():
    assert value_type(Own, "share") == (float, False)
    assert value_type(Own, "words") == (str, True)
    assert describe_range(Own.fields()["share"], float) == "a number above 0 and up to 1"
    assert describe_range(Own.fields()["kind"], str) == "a, b"
    assert Own.parse({"share": "0.5", "kind": "b"}) == Own(share=0.5, kind="b")
