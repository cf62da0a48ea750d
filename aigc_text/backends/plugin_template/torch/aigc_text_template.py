"""A backend of aigc-text with a torch architecture of its own: `template`.

As generated, it is a neural n-gram model (Bengio et al. 2003): the last `window` tokens predict the next one. Put your
own architecture in its place.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from aigc_text import TransformersBackend


class TemplateConfig(PreTrainedConfig):
    """Sizes of the model. Each field needs a default, and is set with `-o name=value`."""

    model_type = "template"

    vocab_size: int = 4096  # set to the tokenizer's size
    window: int = 16  # tokens that the model looks back
    embedding_size: int = 32
    hidden_size: int = 256


class TemplateModel(PreTrainedModel, GenerationMixin):
    """Embeddings of the last `window` tokens, one hidden layer, and a score for each token of the vocabulary."""

    config_class = TemplateConfig

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.hidden = nn.Linear(config.window * config.embedding_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> CausalLMOutput:
        """Scores of the token after each one.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), 0 where padding stands: before a text in generation, after it in training.

        Returns:
            `logits` of shape (B, T, V). Those at place t may depend on tokens up to t only.
        """
        x = self.embedding(input_ids)  # (B, T, E)
        if attention_mask is not None:
            x = x * attention_mask[..., None]  # padding reads like nothing, as before the first token
        window = self.config.window
        x = F.pad(x, (0, 0, window - 1, 0)).unfold(1, window, 1)  # (B, T, E, window)
        return CausalLMOutput(logits=self.output(torch.tanh(self.hidden(x.flatten(2)))))

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)


class TemplateBackend(TransformersBackend):
    """A neural n-gram model."""

    model_class = TemplateModel
    defaults: ClassVar[dict[str, Any]] = {"do_sample": True, "top_p": 0.95}
