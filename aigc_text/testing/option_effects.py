"""Whether a backend heeds each option that it takes: what `testing.check_backend` tries, one function an option.

A shared option is held to what it means: `top_k=1` leaves nothing to draw, `max_new_tokens=1` gives one token. Where
nothing follows from the value alone, two values far apart must give different texts somewhere, as must two values of an
option that a backend adds. A value that the backend refuses counts as heeded.

Effects that cannot be observed from outside are not checked: `min_new_tokens` and `length_penalty` of a backend whose
texts never end by themselves (a model of transformers is made to end them), `truncate_prompt` without a context or with
one of more than `LONGEST` tokens, and an option of the backend's own that is refused with each value tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aigc_text.backends.base import Backend
from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.errors import OptionError
from aigc_text.options.generation import GenerationOptions

from .option_trial import LENGTH, Ignored, Trial
from .own_option_effects import check_own

LONGEST = 2048  # tokens of a context that a prompt is made to exceed


def check_options(backend: Backend, prompts: Sequence[str]) -> None:
    """Tries all options that a backend takes.

    Raises:
        Ignored: naming the first that has no effect.
    """
    trial = Trial(backend, prompts)
    for name in backend.accepted():
        if name in _SHARED:
            _SHARED[name](trial)
        elif name not in GenerationOptions.fields():
            check_own(trial, name)


# Options of all backends


def _max_new_tokens(trial: Trial) -> None:
    short, two, long = (trial.made(max_new_tokens=n) for n in (1, 2, 2 * LENGTH))
    for most, made in ((1, short), (2, two), (2 * LENGTH, long)):
        if any(c.tokens > most for c in made):
            raise Ignored(f"max_new_tokens is ignored: with {most} a text has {max(c.tokens for c in made)} tokens")
    pairs = list(zip(short, long, strict=True))
    cut = any(a.finish_reason == "length" for a in short)
    if cut and all(a.text == b.text and (a.tokens != b.tokens or b.finish_reason == "length") for a, b in pairs):
        raise Ignored(f"max_new_tokens is ignored: 1 and {2 * LENGTH} give the same texts")


def _min_new_tokens(trial: Trial) -> None:
    with trial.ending():
        outcome = trial.outcome(min_new_tokens=LENGTH // 2, **trial.sampling)
    if outcome is not None and (fewest := min(tokens for _, tokens, _ in outcome)) < LENGTH // 2:
        raise Ignored(f"min_new_tokens is ignored: with {LENGTH // 2} a text has {fewest} tokens")


def _do_sample(trial: Trial) -> None:
    likeliest = trial.by_seed(do_sample=False)
    if trial.varies and likeliest == trial.by_seed(do_sample=True):
        raise Ignored("do_sample is ignored: true and false give the same texts")
    if not trial.varies and any(outcome != likeliest[0] for outcome in likeliest[1:]):
        raise Ignored("do_sample is ignored: without sampling the seed changes the text")


def _leaves_one(name: str, value: float) -> Callable[[Trial], None]:
    """Of an option with a value that leaves only the likeliest token to draw."""

    def check(trial: Trial) -> None:
        given = {name: value, **trial.sampling}
        if trial.varies:  # each text by what else is drawn for it
            alike = [a == b for a, b in zip(trial.by_seed(**given), trial.by_seed(**trial.likeliest), strict=True)]
        else:
            alike = [len(set(texts)) == 1 for texts in trial.samples(**given) or ()]
        exact = getattr(trial.backend, "precision", "") in ("", "float32")  # in half precision scores can be equal
        if alike and not (all(alike) if exact else any(alike)):
            raise Ignored(f"{name} is ignored: with {value} the samples of a prompt still differ")

    return check


def _temperature(trial: Trial) -> None:
    if isinstance(trial.backend, TransformersBackend):
        _leaves_one("temperature", 1e-8)(trial)
    else:  # tokens that are equally likely stay so
        _differs(trial, "temperature", [0.01, 100.0], trial.sampling)


def _min_p(trial: Trial) -> None:
    if isinstance(trial.backend, TransformersBackend):
        _leaves_one("min_p", 1.0)(trial)
    else:
        _differs(trial, "min_p", [0.0, 1.0], trial.sampling)


def _repetition_penalty(trial: Trial) -> None:
    _differs(trial, "repetition_penalty", [0.05, 20.0], trial.likeliest, trial.sampling)


def _no_repeat_ngram_size(trial: Trial) -> None:
    long = {"max_new_tokens": 3 * LENGTH}
    bases = ({**long, **trial.likeliest}, {**long, **trial.sampling}, trial.likeliest)
    _differs(trial, "no_repeat_ngram_size", [0, 2, 1], *bases)


def _num_beams(trial: Trial) -> None:
    """A model that is sure of itself takes the same tokens with beams, but not where all are made about as likely."""
    sure = {**trial.likeliest, "max_new_tokens": 2 * LENGTH}
    unsure = {**trial.sampling, "temperature": 100.0} if "temperature" in trial.takes else sure
    _differs(trial, "num_beams", [1, 4, 2], sure, unsure)


def _length_penalty(trial: Trial) -> None:
    beams = {"num_beams": 4, **trial.likeliest} if "num_beams" in trial.takes else trial.likeliest
    with trial.ending():
        made = trial.outcome(**beams)
        if made is not None and any(finish == "stop" for *_, finish in made):
            _differs(trial, "length_penalty", [-20.0, 20.0], beams)


def _stop_strings(trial: Trial) -> None:
    """The first of several is tried by the contract's own part; here one that stands after another."""
    text = max((c.text for c in trial.made()), key=len)
    stop = text[len(text) // 2 :][:3]
    before = [text.partition(stop)[0]] if stop else []
    cut = [c.text for c in trial.made(stop_strings=("\0never\0", stop))] if stop else []
    if not set(before) <= set(cut):
        raise Ignored(f"stop_strings is ignored after the first: {stop!r} does not end a text")


def _truncate_prompt(trial: Trial) -> None:
    if not isinstance(trial.backend, TransformersBackend):
        return
    room = trial.backend.engine().context()
    if room is None or room > LONGEST or not trial.backend.capabilities.continues:
        return
    long = ["the cat sat on the mat " * room]
    for cut in (False, True):
        try:
            trial.made(long, max_new_tokens=1, truncate_prompt=cut)
            refused = False
        except OptionError:
            refused = True
        if refused is cut and trial.backend.capabilities.prompts:
            raise Ignored(f"truncate_prompt is ignored: with {cut} a prompt beyond the context is {_done(refused)}")


def _done(refused: bool) -> str:
    return "refused" if refused else "taken"


def _differs(trial: Trial, name: str, values: Sequence[Any], *bases: dict[str, Any]) -> None:
    """Two of the values must give different texts with one of the other options.

    Raises:
        Ignored: none do.
    """
    for base in bases:
        first = trial.outcome(**base, **{name: values[0]})
        if first is None or any(trial.outcome(**base, **{name: value}) != first for value in values[1:]):
            return
    raise Ignored(f"{name} is ignored: {', '.join(map(str, values))} give the same texts")


#: `num_return_sequences` and `seed` have parts of the contract of their own.
_SHARED: dict[str, Callable[[Trial], None]] = {
    "max_new_tokens": _max_new_tokens,
    "min_new_tokens": _min_new_tokens,
    "do_sample": _do_sample,
    "temperature": _temperature,
    "top_k": _leaves_one("top_k", 1),
    "top_p": _leaves_one("top_p", 1e-6),
    "min_p": _min_p,
    "repetition_penalty": _repetition_penalty,
    "no_repeat_ngram_size": _no_repeat_ngram_size,
    "num_beams": _num_beams,
    "length_penalty": _length_penalty,
    "stop_strings": _stop_strings,
    "truncate_prompt": _truncate_prompt,
}
