"""What the models written here share: configurations and their ranges, outputs, and where the embeddings are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from aigc_text.hub.transformers_compat import CACHE


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


class OwnConfig(PreTrainedConfig):
    """Fields that all have, and the check of those that a family names.

    Raises:
        ValueError: naming a field that is out of its range, and the range.
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache", CACHE]
    #: Fields that are whole numbers from 1.
    counts: ClassVar[tuple[str, ...]] = ()
    #: Fields that are numbers from 0 and below 1.
    shares: ClassVar[tuple[str, ...]] = ()

    tie_word_embeddings: bool = True  # the output layer's weights are those of the embedding
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **more: Any) -> None:
        super().__post_init__(**more)
        for name in self.counts:
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}, allowed are whole numbers from 1")
        for name in self.shares:
            if not isinstance(getattr(self, name), (int, float)) or not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}, allowed are numbers from 0 and below 1")


class OwnModel(PreTrainedModel):
    """A model whose first layer is `embedding` and whose last is `output`, as transformers asks for them."""

    main_input_name = "input_ids"
    _tied_weights_keys = {"output.weight": "embedding.weight"}
    embedding: nn.Embedding
    output: nn.Linear

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.add_module("embedding", value)

    def get_output_embeddings(self) -> nn.Module:
        return self.output

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.add_module("output", value)
