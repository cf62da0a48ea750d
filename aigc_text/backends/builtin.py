"""The built-in backends: where each is, and what it can do, known without importing it."""

from __future__ import annotations

import threading
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Backend


GROUP = "aigc_text.backends"
# Capabilities, and options besides those of all: held equal to the classes' own by test, so that a table and an error
# can be printed without importing torch.
_CAUSAL = ("prompts", "continues", "streaming", "training", "saving", "likelihood (exact)")
BUILT_IN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "gpt2": ("aigc_text.models.causal_lm:GPT2", _CAUSAL, ("chat",)),
    "code": (
        "aigc_text.models.causal_lm:Code",
        (*_CAUSAL[:5], "infilling", _CAUSAL[5]),
        ("chat", "suffix", "stop_at_function_end"),
    ),
    "rnn": ("aigc_text.models.rnn.backend:RNN", _CAUSAL, ()),
    "transformer": ("aigc_text.models.transformer:Transformer", _CAUSAL, ()),
    "vae": (
        "aigc_text.models.vae.backend:VAE",
        (*_CAUSAL[:5], "latents", "sentences", "likelihood (bound)"),
        ("mode", "z_temperature", "posterior", "z_of", "interpolate_to", "steps", "path", "z_add", "z_scale"),
    ),
    "gan": ("aigc_text.models.gan.backend:GAN", (*_CAUSAL[:5], "sentences", _CAUSAL[5]), ()),
}
import_lock = threading.RLock()  # imports of torch and transformers by several threads at once fail in the middle


def built_in() -> dict[str, type[Backend]]:
    """The built-in backends' classes. Imports their files, and so torch."""
    return {name: EntryPoint(name, value, GROUP).load() for name, (value, *_) in BUILT_IN.items()}


def takers(option: str) -> list[str]:
    """The built-in backends that have an option of their own by this name. Imports none of them."""
    return [name for name, (_, _, own) in BUILT_IN.items() if option in own]
