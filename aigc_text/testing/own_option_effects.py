"""Whether a backend heeds an option that it adds to those of all backends; see `option_effects`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.backends.hf.prompt_requests import RequestBuilder
from aigc_text.errors import OptionError, UserError
from aigc_text.options.base import value_type
from aigc_text.options.generation import GenerationOptions

from .option_trial import LENGTH, SEEDS, Ignored, Trial

CODE = "def add(a, b):\n    return a"  # some options act on code alone
CONTRADICTORY = "contradictory"  # options that cannot be given together


def check_own(trial: Trial, name: str) -> None:
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
        requests = [RequestBuilder(backend, engine, config, options, 7).build(place) for place in places]
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
