"""Private and changing names of transformers that are used here, each in one place. Imports no torch.

The memory of a model that has read some tokens is called `cache`, until 5.23 `past_key_values`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import transformers
from packaging.version import Version

if TYPE_CHECKING:
    from transformers import GenerationConfig

#: Its name among the inputs and outputs of the models of the installed transformers.
CACHE = "cache" if Version(transformers.__version__).release >= (5, 24) else "past_key_values"


def takes_cache(model: Any) -> bool:
    """Whether a model can go on from a cache; one of a plugin that names none reads the whole text at each step."""
    known = type(model).__module__.startswith(("transformers", "aigc_text."))  # some take it among their `**kwargs`
    return known or CACHE in inspect.signature(model.forward).parameters


def default_settings(config: GenerationConfig) -> dict[str, Any]:
    """What `generate` takes for the settings that a generation config leaves open."""
    found: dict[str, Any] = config._get_default_generation_params()
    return found


def advanced(model: Any, outputs: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a model's next step (cache, mask, positions), after its outputs of the last one."""
    both = model.config.is_encoder_decoder
    found: dict[str, Any] = model._update_model_kwargs_for_generation(outputs, state, is_encoder_decoder=both)
    return found


def registered_model(auto_class: str, config: type) -> type | None:
    """The class that an auto class of transformers loads for a configuration; `None` where it knows none."""
    mapping = getattr(transformers, auto_class)._model_mapping
    found: type | None = mapping[config] if config in mapping else None  # noqa: SIM401 - it loads classes
    return found


def draw_again(model: Any, modules: Iterable[Any], parameters: Iterable[Any]) -> None:
    """Draws parameters of some modules anew, as the model's class does when it is made."""
    for parameter in parameters:
        parameter._is_hf_initialized = False  # else a loaded model's stay as they are
    for module in modules:
        model._init_weights(module)
