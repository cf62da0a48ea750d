"""Whether a backend heeds each option that it takes: what `testing.check_backend` tries, one function an option.

A shared option is held to what it means: `top_k=1` leaves nothing to draw, `max_new_tokens=1` gives one token. Where
nothing follows from the value alone, two values far apart must give different texts somewhere, as must two values of an
option that a backend adds. A value that the backend refuses counts as heeded.

What cannot be seen from outside is not judged: `min_new_tokens` and `length_penalty` of a backend whose texts never end
by themselves (a model of transformers is made to end them), `truncate_prompt` without a context or with one of more
than `LONGEST` tokens, and an option of the backend's own that is refused with each value tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .backend import Backend
from .errors import OptionError, UserError, described
from .options import GenerationOptions, value_type
from .results import Completion
from .transformers_backend import TransformersBackend

LENGTH = 8  # tokens of a text, where nothing else is said
SAMPLES, SEEDS = 3, 2  # texts of a prompt, seeds; few, for a large model takes seconds for each call
LONGEST = 2048  # tokens of a context that a prompt is made to exceed
CODE = "def add(a, b):\n    return a"  # some options act on code alone
CONTRADICTORY = "contradictory"  # options that cannot be given together
Outcome = list[tuple[str, int, str]] | None  # text, tokens and finish reason of each completion; `None` is refused


class Ignored(Exception):
    """An option that was given has not had the effect that it must have."""


class Trial:
    """A backend with the prompts to try it with.

    Args:
        backend: loaded.
        prompts: three or more.
    """

    def __init__(self, backend: Backend, prompts: Sequence[str]) -> None:
        self.backend, self.prompts = backend, prompts
        self.takes = set(backend.accepted())
        self.sampling: dict[str, Any] = {"do_sample": True} if "do_sample" in self.takes else {}
        self.likeliest = {"do_sample": False} if "do_sample" in self.takes else {}
        #: Whether the samples of a prompt differ even without sampling, as where each has a latent of its own.
        self.varies = backend.Options.greedy_varies or _draws_anyway(backend)

    def made(self, prompts: Sequence[str] | None = None, **options: Any) -> list[Completion]:
        """The completions of the prompts."""
        given = {"max_new_tokens": LENGTH, "seed": 7, **options}
        return list(self.backend.generate(self.prompts if prompts is None else prompts, None, **given))

    def outcome(self, **options: Any) -> Outcome:
        """What there is to see of the completions, or that the options are refused.

        Raises:
            Ignored: the backend fails with another error than a refusal.
        """
        try:
            return [(c.text, c.tokens, c.finish_reason) for c in self.made(**options)]
        except UserError:
            return None
        except Exception as error:
            given = ", ".join(f"{name}={value!r}" for name, value in options.items())
            raise Ignored(f"fails with {given}: {described(error)}") from error

    def samples(self, **options: Any) -> list[list[str]] | None:
        """The texts of `SAMPLES` samples of each prompt, or `None` if the options are refused."""
        outcome = self.outcome(num_return_sequences=SAMPLES, **options)
        if outcome is None:
            return None
        texts = [text for text, *_ in outcome]
        return [texts[n : n + SAMPLES] for n in range(0, len(texts), SAMPLES)]

    def words(self) -> list[str]:
        """Words that the texts hold, for options that act on them; at least one."""
        made = [word for c in self.made(None, **self.sampling) for word in c.text.split()]
        return sorted(set(made), key=made.count)[-2:] or ["dog"]

    def by_seed(self, **options: Any) -> list[Outcome]:
        """The outcomes of `SEEDS` seeds."""
        return [self.outcome(seed=seed, **options) for seed in range(SEEDS)]

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Within it every second token ends the text of a model of transformers; other backends stay as they are."""
        if not isinstance(self.backend, TransformersBackend):
            yield
            return
        config = self.backend.own_config
        ends, config.eos_token_id = config.eos_token_id, list(range(0, len(self.backend.tokenizer), 2))
        try:
            yield
        finally:
            config.eos_token_id = ends


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
            _own(trial, name)


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


def _draws_anyway(backend: Backend) -> bool:
    """Whether a model of transformers draws something, such as noise, where no words are drawn."""
    if not isinstance(backend, TransformersBackend) or "do_sample" not in backend.accepted():
        return False
    options = backend.resolve(None, {"do_sample": False})
    return backend.draws(backend.generation_config(backend.engine(), options), options)


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


# Options of a backend's own


def _own(trial: Trial, name: str) -> None:
    """Two values of an option must give different texts, alone or beside another option of the backend's own."""
    values, others = _values(trial, name), [n for n in trial.backend.accepted() if n not in GenerationOptions.fields()]
    beside = [{}, *({other: value} for other in others if other != name for value in _values(trial, other))]
    # What a model of transformers is asked for is seen at once, and shows what no text of a small model may.
    ways = (_asked, _texts) if isinstance(trial.backend, TransformersBackend) else (_texts,)
    compared = False
    for seen in ways:
        for base in beside:
            made = [_seen(trial, seen, {**base, **given}) for given in ({}, *({name: value} for value in values))]
            possible = [outcome for outcome in made if outcome != CONTRADICTORY]
            if any(outcome != possible[0] for outcome in possible[1:]):
                return
            compared = compared or sum(outcome is not None for outcome in possible) > 1
    if compared:
        tried = ", ".join(map(repr, values))
        raise Ignored(
            f"{name} is ignored: {tried} give the texts that there are without it. "
            "If certain prompts alone show it, check with --prompt"
        )


def _seen(trial: Trial, seen: Callable[[Trial, GenerationOptions], Any], given: dict[str, Any]) -> Any:
    """What comes of options of the backend's own: `None` if it refuses them, or `CONTRADICTORY`."""
    values = {"max_new_tokens": LENGTH, "seed": 7, **trial.sampling, **given}
    try:
        options = trial.backend.resolve(None, values)
    except OptionError:
        return CONTRADICTORY
    return seen(trial, options)


def _texts(trial: Trial, options: GenerationOptions) -> Any:
    given = {name: value for name, value in options.given().items() if name not in ("max_new_tokens", "seed")}
    made = [trial.outcome(prompts=_prompts(trial), **given, seed=seed) for seed in range(SEEDS)]
    return None if None in made else made


def _asked(trial: Trial, options: GenerationOptions) -> Any:
    """What is asked of the engine: tokens, limits, inputs and stop strings of each row, and its configuration."""
    backend: Any = trial.backend
    try:
        options = backend.resolve(options, {})
        engine = backend.engine()
        config = backend.generation_config(engine, options)
        places = [(i, j, prompt) for i, prompt in enumerate(_prompts(trial)) for j in range(2)]
        requests = [backend._request(engine, config, options, place, 7) for place in places]
    except UserError:
        return None
    rows = [
        (
            r.row.tokens,
            r.row.key,
            r.row.limit,
            {k: v.tolist() for k, v in r.row.inputs.items()},
            r.stops.strings,
            r.skip,
        )
        for r in requests
    ]
    return repr((rows, config.to_dict(), backend.draws(config, options), backend.goes_on(options)))


def _prompts(trial: Trial) -> list[str]:
    return [*trial.prompts, CODE] if trial.backend.capabilities.prompts else list(trial.prompts)


def _values(trial: Trial, name: str) -> list[Any]:
    """Values of an option all over its range."""
    field = trial.backend.Options.fields()[name]
    kind, several = value_type(trial.backend.Options, name)
    m = field.metadata
    low, high = (m["low"] if m["low"] is not None else m["above"]), m["high"]
    found: list[Any]
    if kind is bool:
        found = [True, False]
    elif kind is str:
        found = list(m["choices"]) or [trial.prompts[0] or "the cat", *trial.words()]
    elif kind is int:
        begin = -1 if low is None else int(low)
        found = [begin, begin + 1, begin + 4, begin + 50, *([] if high is None else [int(high)])]
    else:
        least = -1.0 if low is None else float(low)
        most = least + 2 if high is None else float(high)
        found = [least, least + (most - least) * 0.1, (least + most) / 2, most, *([most * 10] if high is None else [])]
    inside = [v for v in found if _allowed(m, v)]
    return [(value,) for value in inside] if several else inside


def _allowed(m: Any, value: Any) -> bool:
    if isinstance(value, (str, bool)):
        return True
    above = m["above"] is None or value > m["above"]
    return above and (m["low"] is None or value >= m["low"]) and (m["high"] is None or value <= m["high"])
