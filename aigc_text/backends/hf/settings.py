"""How a model generates: the user's options over its own generation config over the backend's defaults."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from aigc_text.errors import ModelError, OptionError
from aigc_text.generation import model_settings
from aigc_text.options import contradictions
from aigc_text.options.contradictions import BEAM_SEARCH, SAMPLING
from aigc_text.options.generation import GenerationOptions

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from aigc_text.generation.engine import Engine

    from .family import Family

FALLBACK_NEW_TOKENS = 128  # where neither the user nor the model says how many
NUMBERS = (
    "do_sample", *SAMPLING, "max_new_tokens", "min_new_tokens", "repetition_penalty", "no_repeat_ngram_size",
    "num_beams", "length_penalty", "num_return_sequences",
)  # fmt: skip


def effective_config(backend: Family, engine: Engine, options: GenerationOptions) -> GenerationConfig:
    """The configuration that an engine decodes with.

    Raises:
        OptionError: options that contradict each other.
        ModelError: the model's own configuration holds what no option may be.
    """
    own = backend.own_config
    config = engine.config(**_given(backend, options))
    if config.max_new_tokens is None:
        config.max_length = own.max_length
    if options.length_penalty is not None and (config.num_beams or 1) == 1:
        contradictions.refuse(BEAM_SEARCH, {"length_penalty": options.length_penalty})
    one_text = not config.do_sample and (config.num_beams or 1) == 1 and not options.greedy_varies
    if (options.num_return_sequences or 1) > 1 and one_text:
        raise OptionError(
            f"num_return_sequences={options.num_return_sequences} without sampling would repeat one text",
            "Turn sampling on (--do-sample) or use as many beams (--num-beams).",
        )
    if config.pad_token_id is None:
        config.pad_token_id = backend.pad()
    _check_own(backend, config)
    model_settings.cleared(config)
    return config


def _given(backend: Family, options: GenerationOptions) -> dict[str, Any]:
    """What goes over the model's own configuration: the user's options, and defaults where that says nothing."""
    from transformers import GenerationConfig

    known, own = GenerationConfig().to_dict(), backend.own_config
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    given = {k: v for k, v in given.items() if k in known and v is not None and k != "stop_strings"}
    # Sampling options that the user gave ask for sampling; beams ask for none.
    sampling = any(given.get(k) is not None for k in SAMPLING)
    if options.do_sample is None and (own.do_sample is None or (sampling and not own.do_sample)):
        given["do_sample"] = (options.num_beams or 1) == 1 and (sampling or backend.defaults.get("do_sample", False))
    for k, v in backend.defaults.items():
        if getattr(own, k, None) is None:
            given.setdefault(k, v)
    if getattr(own, "max_new_tokens", None) is None and getattr(own, "max_length", None) is None:
        given.setdefault("max_new_tokens", FALLBACK_NEW_TOKENS)
    return given


def _check_own(backend: Family, config: GenerationConfig) -> None:
    """Refuses what the model's own generation config holds where the user's options were looked at before."""
    where = f"generation_config.json of {backend.source!r}"
    most = config.max_length if config.max_new_tokens is None else 1
    if type(most) is not int or most < 1:
        what = f"{where}: max_length cannot be {repr(most)[:60]}"
        raise ModelError(what, "Correct it there, or set --max-new-tokens.")
    stops = stop_strings(backend, GenerationOptions())
    if not all(isinstance(s, str) and s for s in stops or ()):
        what = f"{where}: stop_strings cannot be {stops!r}"
        raise ModelError(what[:200], "Correct it there: text, or a list of texts that are not empty.")
    for name in NUMBERS:
        value = getattr(config, name, None)
        if value is None or (name in SAMPLING and not config.do_sample):
            continue
        try:
            GenerationOptions.check(name, value)
        except OptionError as error:
            what = f"{where}: {error.message[:200]}"
            raise ModelError(what, f"{error.cure}. Correct it there, or set it yourself.") from None


def stop_strings(backend: Family, options: GenerationOptions) -> tuple[str, ...] | None:
    """The stop strings of the user, else of the model's own generation config."""
    if options.stop_strings is not None:
        return options.stop_strings
    own = getattr(backend.own_config, "stop_strings", None)
    return own if own is None else tuple(own) if isinstance(own, (list, tuple)) else (own,)


def tell_unhonoured(backend: Family) -> None:
    """Says on standard error what of the model's own generation config its texts will not follow."""
    if found := model_settings.not_honoured(backend.own_config.to_diff_dict()):
        print(model_settings.notice(backend.source or backend.name, found), file=sys.stderr)


def own_wishes(backend: Family) -> str:
    """What the model's own generation config asks for that is no option here, and so was not looked at."""
    harmless = ("eos_token_id", "max_length", "pad_token_id")
    asked = backend.own_config.to_diff_dict()
    return ", ".join(name for name in model_settings.HONOURED if name in asked and name not in harmless)


def effective_options(backend: Family, options: GenerationOptions) -> dict[str, Any]:
    """The options that a record reports: those that had an effect, by name."""
    config = backend.generation_config(backend.engine(), options)
    names = [n for n in backend.Options.fields() if n != "seed"]
    values = {n: getattr(config, n, None) for n in names}
    own = {n: getattr(options, n) for n in names if not hasattr(config, n)}
    total = {"max_length": config.max_length} if config.max_new_tokens is None else {}
    stops = {"stop_strings": stop_strings(backend, options)}
    return {
        k: list(v) if isinstance(v, tuple) else v
        for k, v in {**values, **own, **total, **stops}.items()
        if v is not None and (config.do_sample or k not in SAMPLING)
    }
