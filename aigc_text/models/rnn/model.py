"""Configuration and model of `rnn`: embedding, layers of LSTM or GRU cells, output layer.

A recurrent network reads a text token by token and keeps what it has read in a state of fixed size:

    h_t = f(h_{t-1}, x_t)        p(token t + 1 | tokens up to t) = softmax(W h_t + b)

So a token costs the same wherever it stands, in training and in generation, and there is no limit of context.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin
from transformers import initialization as init

from aigc_text.models.common import CachedOutput, OwnConfig, OwnModel

# Configuration


class RNNConfig(OwnConfig):
    """Sizes and dropout of a recurrent language model; `-o name=value` on the command line."""

    model_type = "aigc_text_rnn"
    counts = ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers")
    shares = ("embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_dropout")

    vocab_size: int = 10_000
    cell: str = "lstm"  # or gru
    embedding_size: int = 400
    hidden_size: int = 400  # of each layer
    last_hidden_size: int | None = None  # of the last layer, if another: in AWD-LSTM that of the embedding
    num_hidden_layers: int = 2
    # The output layer's weights are those of the embedding (Press and Wolf 2017; Inan et al. 2017). Where their width
    # is not that of the last layer, a matrix without bias stands between.
    tie_word_embeddings: bool = True
    embedding_dropout: float = 0.0  # of whole words: all places of a word in the batch
    input_dropout: float = 0.0  # locked, as are the next two: one mask for all steps of a row
    hidden_dropout: float = 0.0  # between layers
    output_dropout: float = 0.0  # after the last layer
    weight_dropout: float = 0.0  # of the hidden-to-hidden weights

    def __post_init__(self, **more: Any) -> None:
        super().__post_init__(**more)
        if self.cell not in CELLS:
            raise ValueError(f"cell cannot be {self.cell!r}, allowed are {' and '.join(CELLS)}")

    @property
    def sizes(self) -> list[int]:
        """Width of each layer."""
        return [self.hidden_size] * (self.num_hidden_layers - 1) + [self.last_hidden_size or self.hidden_size]


# Model


CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass
class RecurrentState:
    """What the layers know of the tokens so far; it stands where attention has its cache.

    Attributes:
        layers: for each layer (h, c) of an LSTM or (h,) of a GRU, each of shape (1, B, H).
        seen: tokens read so far.
    """

    layers: list[tuple[torch.Tensor, ...]]
    seen: int = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.seen

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps these rows, in this order."""
        self.layers = [tuple(s[:, indices.to(s.device)] for s in layer) for layer in self.layers]

    reorder_cache = batch_select_indices  # beam search goes on from copies of the best rows

    def detached(self, keep: torch.Tensor | None = None) -> RecurrentState:
        """The same without its history of gradients; where `keep` (B,) is false, a row begins anew with zeros."""
        if keep is None:
            return RecurrentState([tuple(s.detach() for s in layer) for layer in self.layers], self.seen)
        layers = [tuple(s.detach().to(keep.device) * keep[:, None] for s in layer) for layer in self.layers]
        return RecurrentState(layers, self.seen)


def locked_dropout(x: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """Dropout of (B, T, H) with one mask for all steps of a row (Gal and Ghahramani 2016, section 4)."""
    if not training or not rate:
        return x
    return x * F.dropout(torch.ones_like(x[:, :1]), rate)  # (B, 1, H)


def embedding_dropout(embedding: nn.Embedding, ids: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """Embeddings (B, T, E) of ids (B, T), those of a share of the vocabulary all zero (Gal and Ghahramani 2016)."""
    if not training or not rate:
        return embedding(ids)
    kept = F.dropout(embedding.weight.new_ones(embedding.num_embeddings), rate)  # (V,)
    return embedding(ids) * kept[ids][..., None]


@contextmanager
def full_precision(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Under autocast on CUDA gives the tensors in fp32, and within it there is no autocast; elsewhere changes nothing.

    Under autocast to bf16, torch calls cuDNN's recurrent kernels in fp16 (`aten/src/ATen/cudnn/AutocastRNN.cpp` knows
    no other type), where small gradients become zero. In fp32 they use TF32, which has more digits than bf16.
    """
    if tensors[0].device.type != "cuda" or not torch.is_autocast_enabled("cuda"):
        yield tensors
        return
    with torch.autocast("cuda", enabled=False):
        yield tuple(x.float() for x in tensors)


MOST_STEPS = 1 << 16  # that one call of a kernel is given: oneDNN's refuse a few hundred thousand


class RecurrentLayers(nn.Module):
    """Layers of LSTM or GRU cells, each one fused kernel over all steps.

    Args:
        cell: `lstm` or `gru`.
        input_size: width of what the first layer reads.
        sizes: width of each layer.
        dropout: locked, between the layers.
        weight_dropout: of hidden-to-hidden weights, the same for all steps (DropConnect; Merity et al. 2017, 4.1).
    """

    def __init__(
        self, cell: str, input_size: int, sizes: Sequence[int], dropout: float = 0.0, weight_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout, self.weight_dropout = dropout, weight_dropout
        widths = zip([input_size, *sizes], sizes, strict=False)
        self.layers = nn.ModuleList([CELLS[cell](width, size, batch_first=True) for width, size in widths])

    def forward(
        self,
        x: torch.Tensor,
        state: RecurrentState | None = None,
        mask: torch.Tensor | None = None,
        use_cache: bool = True,
    ) -> tuple[torch.Tensor, RecurrentState | None]:
        """Reads on from a state.

        Args:
            x: (B, T, input_size).
            state: what was read before; by default nothing, which is zeros.
            mask: (B, T), 0 where a step is to leave the state as it is; then its output means nothing.
            use_cache: whether the state is wanted.

        Returns:
            The last layer's outputs (B, T, H), and the state after them if it is wanted.
        """
        if mask is not None and bool(mask.all()):
            mask = None
        if mask is None and x.shape[1] > MOST_STEPS and not torch.is_grad_enabled():
            return self._in_parts(x, state, use_cache)
        if mask is not None:
            # Each row's steps that count come first, in their order, as the kernels want it.
            order = mask.argsort(dim=1, descending=True, stable=True)  # (B, T)
            x = _in_order(x, order)
        lengths = mask.sum(1).cpu() if mask is not None and use_cache else None  # without a state the end is no matter
        after = []
        for n, layer in enumerate(self.layers):
            if n:
                x = locked_dropout(x, self.dropout, self.training)
            x, found = self._read(layer, x, state.layers[n] if state is not None else None, lengths)
            after.append(found)
        if mask is not None:
            x = _in_order(x, order.argsort(dim=1))
        seen = x.shape[1] + (state.seen if state is not None else 0)
        return x, RecurrentState(after, seen) if use_cache else None

    def _in_parts(
        self, x: torch.Tensor, state: RecurrentState | None, use_cache: bool
    ) -> tuple[torch.Tensor, RecurrentState | None]:
        """The same for (B, T, input_size) of more steps than a kernel takes, one part after the other."""
        outputs = []
        for part in x.split(MOST_STEPS, dim=1):
            out, state = self(part, state)
            outputs.append(out)
        return torch.cat(outputs, dim=1), state if use_cache else None

    def _read(
        self, layer: nn.Module, x: torch.Tensor, before: tuple[torch.Tensor, ...] | None, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """One layer's outputs (B, T, H) and its state after them."""
        if (
            isinstance(layer, nn.LSTM)
            and before is not None
            and _single(x)
            and not (self.training and self.weight_dropout)
        ):
            h, c = torch.lstm_cell(x[:, 0], [before[0][0], before[1][0]], *layer.all_weights[0])
            return h[:, None], (h[None], c[None])
        weights = {}
        if self.training and self.weight_dropout:
            weights = {"weight_hh_l0": F.dropout(layer.get_parameter("weight_hh_l0"), self.weight_dropout)}
        with full_precision(x, *(before or ())) as (read, *states):
            at_first: Any = None if before is None else tuple(states) if len(states) == 2 else states[0]
            inputs: Any = read
            if lengths is not None:
                inputs = pack_padded_sequence(read, lengths, batch_first=True, enforce_sorted=False)
            out, found = functional_call(layer, weights, (inputs, at_first)) if weights else layer(inputs, at_first)
        if lengths is not None:
            out, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        return out, found if isinstance(found, tuple) else (found,)


def _single(x: torch.Tensor) -> bool:
    """Whether (B, T, E) is one step on the CPU, without gradients; the fused kernel would pack the weights anew."""
    alone = x.shape[1] == 1 and x.device.type == "cpu"
    return alone and not torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()


def _in_order(x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """(B, T, H) with the steps of each row in the order (B, T)."""
    return x.gather(1, order[..., None].expand_as(x))


@dataclass
class RNNOutput(CachedOutput):
    """What the model gives besides.

    Attributes:
        outputs: (B, T, H) of the last layer.
        dropped: the same after dropout, as the output layer reads it.
    """

    outputs: torch.Tensor | None = None
    dropped: torch.Tensor | None = None


class RecurrentModel(OwnModel):
    """What models with an embedding, recurrent layers and an output layer share, beside their `forward`."""

    carries_state = True  # from step to step, in what `forward` gives as its cache

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `forward` makes the state itself

    def _init_weights(self, module: nn.Module) -> None:
        """As Merity et al. 2017, section 5; and an open forget gate (Jozefowicz et al. 2015)."""
        if isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -0.1, 0.1)
        elif isinstance(module, nn.Linear):
            init.uniform_(module.weight, -0.1, 0.1)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (nn.LSTM, nn.GRU)):
            bound = 1 / math.sqrt(module.hidden_size)
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)
            if isinstance(module, nn.LSTM):
                gates = torch.zeros(4, module.hidden_size)  # in, forget, cell, out
                gates[1] = 1
                init.copy_(module.get_parameter("bias_ih_l0"), gates.flatten())


class RNNForCausalLM(RecurrentModel, GenerationMixin):
    """Embedding, recurrent layers, and the output layer."""

    config_class = RNNConfig
    base_model_prefix = "recurrent"

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        c = config
        self.embedding = nn.Embedding(c.vocab_size, c.embedding_size)
        self.recurrent = RecurrentLayers(c.cell, c.embedding_size, c.sizes, c.hidden_dropout, c.weight_dropout)
        width = c.embedding_size if c.tie_word_embeddings else c.sizes[-1]
        self.projection = nn.Linear(c.sizes[-1], width, bias=False) if width != c.sizes[-1] else nn.Identity()
        self.output = nn.Linear(width, c.vocab_size)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cache: RecurrentState | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        past_key_values: RecurrentState | None = None,
        **_: Any,
    ) -> RNNOutput:
        """Reads tokens.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), or longer by what was read before; 0 where padding stands.
            cache: the state to read on from.
            labels: (B, T), shifted inside; -100 counts for nothing.
            use_cache: whether the state is wanted.
            logits_to_keep: of how many last steps; 0 is all.
            past_key_values: the same as `cache`, as older transformers call it.
        """
        c = self.config
        mask = attention_mask[:, -input_ids.shape[1] :] if attention_mask is not None else None  # (B, T)
        x = embedding_dropout(self.embedding, input_ids, c.embedding_dropout, self.training)  # (B, T, E)
        x = locked_dropout(x, c.input_dropout, self.training)
        wanted = c.use_cache if use_cache is None else use_cache
        outputs, state = self.recurrent(x, cache or past_key_values, mask, wanted)  # (B, T, H)
        dropped = locked_dropout(outputs, c.output_dropout, self.training)
        logits = self.output(self.projection(dropped[:, -logits_to_keep:]))  # (B, T, V)
        loss = None
        if labels is not None:
            from aigc_text.training.losses import next_token_loss

            loss = next_token_loss(logits, labels)
        return RNNOutput(loss=loss, logits=logits, cache=state, outputs=outputs, dropped=dropped)


AutoConfig.register("aigc_text_rnn", RNNConfig)
AutoModelForCausalLM.register(RNNConfig, RNNForCausalLM)
