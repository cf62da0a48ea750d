"""What a model's `generation_config.json` may ask for, and what becomes of each setting.

Everything in the file is honoured, has no effect in transformers either, or is reported once. Every field of
transformers' `GenerationConfig` is in one of the tables below; a test notices a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Generation options of ours by the same name: what the user says comes first.
OPTIONS = (
    "do_sample", "length_penalty", "max_new_tokens", "min_new_tokens", "min_p", "no_repeat_ngram_size", "num_beams",
    "repetition_penalty", "stop_strings", "temperature", "top_k", "top_p",
)  # fmt: skip
#: Honoured, and not ours to set: lengths with the prompt, logits processors, beams, tokens that begin and end texts.
HONOURED = (
    "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id", "early_stopping",
    "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "eos_token_id", "epsilon_cutoff",
    "eta_cutoff", "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "guidance_scale",
    "max_length", "min_length", "pad_token_id", "remove_invalid_values", "renormalize_logits",
    "sequence_bias", "suppress_tokens", "top_h", "typical_p", "watermarking_config",
)  # fmt: skip
#: Without any effect on a text that goes on from a prompt: what else `generate` returns, how it computes, settings of
#: an assistant model, and notes.
WITHOUT_EFFECT = (
    "_from_model_config", "assistant_confidence_threshold", "assistant_ensemble_weight", "assistant_lookbehind",
    "bos_token_id", "cache_config", "cache_implementation", "compile_config", "continuous_batching_config",
    "disable_compile",
    "is_assistant", "low_memory", "max_cache_len", "max_matching_ngram_size", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "output_attentions", "output_hidden_states", "output_logits",
    "output_scores", "prefill_chunk_size", "return_dict_in_generate",
    "speculation_type", "target_lookbehind", "transformers_version", "use_cache",
)  # fmt: skip
#: Not honoured, and reported where a model asks for them, with the option that does something like it.
NOT_HONOURED = {
    "assistant_early_exit": "",
    "constraints": "",
    "diversity_penalty": "",
    "dola_layers": "",
    "force_words_ids": "",
    "max_time": "--max-new-tokens",
    "num_beam_groups": "--num-beams",
    "num_return_sequences": "-n",
    "penalty_alpha": "",
    "prompt_lookup_num_tokens": "",
    "token_healing": "",
    "use_mtp": "",
}
#: Processors of these look at the tokens before, for which they take the padding of a batch too.
LOOKING_BACK: Mapping[str, tuple[Any, ...]] = {
    "bad_words_ids": (None,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "guidance_scale": (None, 1),
    "min_length": (None, 0),
    "no_repeat_ngram_size": (None, 0),
    "repetition_penalty": (None, 1),
    "sequence_bias": (None,),
    "watermarking_config": (None,),
}


def not_honoured(own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that ask for something which no text follows, with their values.

    Args:
        own: what a model's own config sets, as `GenerationConfig.to_diff_dict` gives it.
    """
    known = {*OPTIONS, *HONOURED, *WITHOUT_EFFECT}
    one = ("num_beam_groups", "num_return_sequences")  # of which one is as good as none
    if own.get("cache_implementation") == "quantized":  # the only memory that changes what a model computes
        known.remove("cache_implementation")
    asked = {n: v for n, v in own.items() if n not in known and not n.startswith("_")}
    return {n: v for n, v in asked.items() if v and not (n in one and v == 1)}


def notice(source: str, settings: Mapping[str, Any]) -> str:
    """What is said of settings that are not honoured."""
    listed = ", ".join(f"{name}={value!r}"[:100] for name, value in settings.items())
    instead = [f"{option} instead of {n}" for n in settings if (option := NOT_HONOURED.get(n))]
    cure = f"\nUse {', '.join(instead)}." if instead else ""
    return f"Notice: not honored from the generation_config.json of {source!r}: {listed}{cure}"


def cleared(config: Any) -> None:
    """Takes out of a generation config what transformers would decode or return otherwise for."""
    kept = ("_from_model_config", "bos_token_id", "num_return_sequences", "transformers_version", "use_cache")
    for name in (*NOT_HONOURED, *WITHOUT_EFFECT):
        if name not in kept and hasattr(config, name):
            setattr(config, name, None)


def looks_back(config: Any) -> bool:
    """Whether a token's score depends on tokens before it by more than the model."""
    return any(getattr(config, name, None) not in off for name, off in LOOKING_BACK.items())
