"""`transformer`: a small GPT, written to be read (Vaswani et al. 2017; Radford et al. 2019).

A text of T tokens becomes T vectors. Each block lets every vector look at those before it (attention), then thinks
about each one alone (feed-forward), and adds what it found to the vector. After the last block a vector predicts the
token that follows:

    ids (B, T) → embedding → x (B, T, C) → block → … → block → norm → output layer → scores (B, T, V)

B texts, T tokens, C width, h heads of size d = C / h, V entries of the vocabulary, S tokens that can be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, GenerationMixin
from transformers import initialization as init

from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.backends.hf.loading import fresh, width_and_heads

from .common import CachedOutput, OwnConfig, OwnModel

if TYPE_CHECKING:
    from typing import Self

    from transformers import Cache, PreTrainedTokenizerBase


# Configuration


class TransformerConfig(OwnConfig):
    """Sizes of a GPT; `-o name=value` on the command line."""

    model_type = "aigc_text_transformer"
    counts = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads")
    shares = ("dropout",)

    vocab_size: int = 4096
    max_position_embeddings: int = 256  # most tokens of prompt and text together
    hidden_size: int = 256  # C
    num_hidden_layers: int = 6
    num_attention_heads: int = 4  # h
    dropout: float = 0.0  # of embeddings, attention weights, and what each half of a block adds

    def __post_init__(self, **more: Any) -> None:
        super().__post_init__(**more)
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of twice the {self.num_attention_heads} attention heads"
            )


# Model


class LastLayer(nn.Linear):
    """Of what a block adds to x. It begins with zeros, so that the first updates go through all blocks alike."""


class Attention(nn.Module):
    """Causal self-attention: each token takes a mean of the values of the tokens up to itself.

    A token's query says what it looks for, a token's key what it offers; how well they fit decides how much of its
    value is taken: softmax(q kᵀ / √d) v (Vaswani et al. 2017, equation 1). Each head does so in d dimensions of its
    own.
    """

    def __init__(self, config: TransformerConfig, number: int) -> None:
        super().__init__()
        self.heads, self.dropout, self.number = config.num_attention_heads, config.dropout, number
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)  # three in one
        self.output = LastLayer(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, x: torch.Tensor, turn: torch.Tensor, allowed: torch.Tensor | None, cache: Cache | None
    ) -> torch.Tensor:
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, T, h, d) each
        q, k = rotated(q, turn), rotated(k, turn)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))  # (B, h, T, d)
        if cache is not None:
            k, v = cache.update(k, v, self.number)  # (B, h, S, d): those of all tokens so far
        dropout = self.dropout if self.training else 0.0
        # Without a mask a token sees itself and all before it. With one it is said: (B, 1, T, S).
        y = F.scaled_dot_product_attention(q, k, v, allowed, dropout, is_causal=allowed is None and q.shape[2] > 1)
        return self.output(y.transpose(1, 2).flatten(2))  # (B, h, T, d) → (B, T, C)


def rotated(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Turns each pair of dimensions of (B, T, h, d), taken for a complex number, by `turn` (T, 1, d / 2).

    The angle grows with the token's place, so what is left of it between a query and a key is how far apart they
    stand (RoPE, Su et al. 2021, section 3.2).
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))  # (B, T, h, d / 2)
    return torch.view_as_real(pairs * turn).flatten(-2).type_as(x)


class FeedForward(nn.Module):
    """Two layers with a bend between them, for each token alone."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.wide = nn.Linear(config.hidden_size, 4 * config.hidden_size, bias=False)
        self.output = LastLayer(4 * config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(F.relu(self.wide(x)))


class Block(nn.Module):
    """Attention, then feed-forward; each reads a normed x and adds to x itself (pre-norm, Radford et al. 2019)."""

    def __init__(self, config: TransformerConfig, number: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(config.hidden_size, bias=False), Attention(config, number)
        self.feed_forward_norm, self.feed_forward = nn.LayerNorm(config.hidden_size, bias=False), FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, turn: torch.Tensor, allowed: torch.Tensor | None, cache: Cache | None
    ) -> torch.Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), turn, allowed, cache))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class TransformerForCausalLM(OwnModel, GenerationMixin):
    """Embedding, blocks, and an output layer that shares the embedding's weights."""

    config_class = TransformerConfig
    base_model_prefix = "blocks"
    _supports_sdpa = True

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config, n) for n in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, bias=False)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        past_key_values: Cache | None = None,
        **_: Any,
    ) -> CachedOutput:
        """Reads tokens.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S) with the tokens read before; 0 where padding stands.
            cache: keys and values of the tokens read before, which need not be read again.
            labels: (B, T), shifted inside; -100 counts for nothing.
            use_cache: whether keys and values are wanted.
            logits_to_keep: of how many last tokens; 0 is all.
            past_key_values: the same as `cache`, as older transformers call it.
        """
        cache = past_key_values if cache is None else cache
        if cache is None and (self.config.use_cache if use_cache is None else use_cache):
            cache = DynamicCache(config=self.config)
        before = cache.get_seq_length() if cache is not None else 0
        places = torch.arange(before, before + input_ids.shape[1], device=input_ids.device)  # (T,)
        turn, allowed = self.turn(places), visible(attention_mask, places, before)
        x = self.dropout(self.embedding(input_ids))  # (B, T, C)
        for block in self.blocks:
            x = block(x, turn, allowed, cache)
        logits = self.output(self.norm(x[:, -logits_to_keep:]))  # (B, T, V)
        loss = None
        if labels is not None:
            from aigc_text.training.losses import next_token_loss

            loss = next_token_loss(logits, labels)
        return CachedOutput(loss=loss, logits=logits, cache=cache)

    def turn(self, places: torch.Tensor) -> torch.Tensor:
        """What each pair of dimensions turns by at each place (T,): unit complex numbers (T, 1, d / 2).

        From a radian a token in the first pair to hardly anything in the last.
        """
        pairs = self.config.hidden_size // self.config.num_attention_heads // 2
        speed = 10_000.0 ** -(torch.arange(pairs, dtype=torch.float32, device=places.device) / pairs)  # (d / 2,)
        angles = places[:, None, None] * speed
        return torch.polar(torch.ones_like(angles), angles)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.02)
        elif isinstance(module, LastLayer):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)


def visible(mask: torch.Tensor | None, places: torch.Tensor, before: int) -> torch.Tensor | None:
    """Which tokens (B, 1, T, S) each token may look at: itself and those before it, but no padding.

    Args:
        mask: (B, S), 0 where padding stands.
        places: (T,), where in the text the tokens stand.
        before: the first of them, on the host: to look at it on a GPU would mean to wait for it.

    Returns:
        `None` where nothing is padded and the tokens are the first ones, or a single one: then no mask is needed.
    """
    if mask is not None and bool(mask.all()):
        mask = None
    if mask is None and (len(places) == 1 or before == 0):
        return None
    others = torch.arange(before + len(places), device=places.device)  # (S,)
    own = places[:, None]  # (T, 1)
    if mask is None:
        return (others <= own)[None, None]
    # Padding looks at itself, for a mean over nothing is no number.
    return (((others <= own) & mask[:, None, :].bool()) | (others == own))[:, None]


AutoConfig.register("aigc_text_transformer", TransformerConfig)
AutoModelForCausalLM.register(TransformerConfig, TransformerForCausalLM)


# Backend


class Transformer(TransformersBackend):
    """A small GPT, trained here. Its objective is that of all causal models, the next token's likelihood."""

    model_type = "aigc_text_transformer"
    bundled = "transformer-shakespeare"
    defaults: ClassVar[dict[str, Any]] = {"do_sample": True, "top_p": 0.95}
    scratch: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "batch_size": 4}

    @classmethod
    def from_scratch(cls, tokenizer: PreTrainedTokenizerBase, **config: Any) -> Self:
        """A model with random weights, of a size that two CPU cores can train.

        Args:
            tokenizer: decides the vocabulary and the end of a text.
            config: fields of `TransformerConfig` (`num_hidden_layers`, `hidden_size`, …). By default 4 layers of width
                192 and a context of 256 tokens; `num_attention_heads` follows from the width.

        Raises:
            OptionError: a field that `TransformerConfig` does not have, or sizes that do not fit each other.
        """
        cure = "See the fields of TransformerConfig, e.g. -o num_hidden_layers=4 -o hidden_size=128"
        width, heads = width_and_heads(config.get("hidden_size"), 192)
        defaults = {"num_hidden_layers": 4, "hidden_size": width, "num_attention_heads": heads}
        model = fresh(TransformerForCausalLM, tokenizer, config, cure, **defaults)
        tokenizer.model_max_length = model.config.max_position_embeddings
        return cls(model, tokenizer)
