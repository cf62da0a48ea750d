"""What transformers calls the memory of a model that has read some tokens: `cache`, until 5.23 `past_key_values`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput

#: Its name among the inputs and outputs of the models of the installed transformers.
CACHE = "cache" if "cache" in {f.name for f in fields(CausalLMOutputWithPast)} else "past_key_values"


@dataclass
class CachedOutput(ModelOutput):
    """What a causal language model of ours gives; `generate` of any transformers finds the cache in it.

    Attributes:
        loss: mean negative log-likelihood in nats of the labels, where there are any.
        logits: (B, T, V) scores of the next token.
        cache: what the model knows after the last step, where it was asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    cache: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if CACHE not in self and self.cache is not None:
            self[CACHE] = self.cache


def takes_cache(model: Any) -> bool:
    """Whether a model can go on from a cache; one of a plugin that names none reads the whole text at each step."""
    known = type(model).__module__.startswith(("transformers", "aigc_text."))  # some take it among their `**kwargs`
    return known or CACHE in inspect.signature(model.forward).parameters
