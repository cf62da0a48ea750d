"""How a model goes from step to step: through a memory of ours where we know its kind, else as transformers does."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import DynamicLayer

from aigc_text.hub.transformers_compat import CACHE, advanced

FIRST_ROOM = 64  # tokens that a memory has room for beyond the prompt at first
GROWTH = 1.5  # by which it grows when it is full


def steps_of(model: Any, ids: torch.Tensor, state: dict[str, Any], room: int) -> Steps:
    """The way to step through a model.

    Args:
        model: with `GenerationMixin`.
        ids: (B, T) the prompts, padded on their left.
        state: what `generate` prepared for the model.
        room: most tokens to come.
    """
    if _usual(model) and (_grows(state.get(CACHE)) or getattr(model, "carries_state", False)):
        return Direct(model, ids, state, room)
    return Prepared(model, state)


class Steps(ABC):
    """A model on its way through a batch."""

    @property
    @abstractmethod
    def can_drop(self) -> bool:
        """Whether rows can be left out from here on."""

    @abstractmethod
    def scores(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, V) float32 scores of the token after ids (B, T), of which all but the last were given before."""

    @abstractmethod
    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with these rows of the batch only."""


class Direct(Steps):
    """Calls the model with what a step needs and nothing else, and writes keys and values into room made before."""

    can_drop = True

    def __init__(self, model: Any, ids: torch.Tensor, state: dict[str, Any], room: int) -> None:
        takes = inspect.signature(model.forward).parameters
        mask = state.pop("attention_mask", None)  # (B, T)
        self.model, self.first, self.cache = model, True, state.pop(CACHE, None)
        if isinstance(self.cache, DynamicCache):
            self.cache.layers = [RoomyLayer(ids.shape[1] + min(room, FIRST_ROOM)) for _ in self.cache.layers]
        if mask is None or bool(mask.all()):
            # Nothing is padded: the model counts for itself, and need not look at the mask, for which a GPU is waited.
            self.mask, counted = None, True
        else:
            self.mask = torch.cat([mask, mask.new_ones(len(mask), room)], 1)  # (B, T + room), with all that is to come
            counted = "position_ids" not in takes
        self.places = None if counted or mask is None else (mask.cumsum(1) - 1).clamp_(min=0)  # (B, T), then (B, 1)
        self.last = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self.inputs = {k: v for k, v in state.items() if k != "position_ids" and (k in takes or torch.is_tensor(v))}
        self.inputs.update({"return_dict": True, "use_cache": True})
        if "logits_to_keep" in takes:
            self.inputs["logits_to_keep"] = 1

    def scores(self, ids: torch.Tensor) -> torch.Tensor:
        inputs = dict(self.inputs)
        if self.mask is not None:
            inputs["attention_mask"] = self.mask[:, : ids.shape[1]]
        if self.places is not None:
            if not self.first:
                # A row that has finished beside others may be at the end of the context.
                self.places = (self.places[:, -1:] + 1).clamp_(max=self.last - 1 if self.last else None)
            inputs["position_ids"] = self.places
        out = self.model(input_ids=ids if self.first else ids[:, -1:], **{CACHE: self.cache}, **inputs)
        self.cache, self.first = out[CACHE], False
        return out.logits[:, -1].float()

    def keep(self, rows: torch.Tensor) -> None:
        if self.mask is not None:
            self.mask = self.mask[rows]
        if self.places is not None:
            self.places = self.places[rows]
        self.cache.batch_select_indices(rows)
        self.inputs = {k: v[rows] if torch.is_tensor(v) and v.dim() else v for k, v in self.inputs.items()}


class Prepared(Steps):
    """Prepares each step as transformers' own `generate` does: right for every model, with more to do."""

    def __init__(self, model: Any, state: dict[str, Any]) -> None:
        self.model, self.state, self.first = model, state, True

    @property
    def can_drop(self) -> bool:
        cache = self.state.get(CACHE)
        return hasattr(cache, "batch_select_indices") and not hasattr(cache, "cross_attention_cache")

    def scores(self, ids: torch.Tensor) -> torch.Tensor:
        one = 1 if self.state.get("use_cache") and not self.first else None
        inputs = self.model.prepare_inputs_for_generation(
            ids, next_sequence_length=one, is_first_iteration=self.first, **self.state
        )
        out = self.model(**inputs, return_dict=True)
        self.state = advanced(self.model, out, self.state)
        self.first, self.rows = False, len(ids)
        return out.logits[:, -1].float()

    def keep(self, rows: torch.Tensor) -> None:
        self.state[CACHE].batch_select_indices(rows)
        for name, value in self.state.items():
            if torch.is_tensor(value) and value.dim() and len(value) == self.rows:
                self.state[name] = value[rows]


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer at the front of tensors with room for more: a step writes one token, copies none.

    Args:
        room: tokens that there is room for; when they are used up, it grows.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.seen = room, 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes keys and values (B, H, T, D) of new tokens, gives those of all tokens (B, H, S, D)."""
        end = self.seen + key_states.shape[2]
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.whole = [self._empty(states, max(self.room, end)) for states in (key_states, value_states)]
        elif end > self.whole[0].shape[2]:
            self.whole = [self._longer(states, end) for states in self.whole]
        for states, new in zip(self.whole, (key_states, value_states), strict=True):
            states[:, :, self.seen : end] = new
        self.seen = end
        self.keys, self.values = (states[:, :, :end] for states in self.whole)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps these rows."""
        self.whole = [states[indices] for states in self.whole]
        self.keys, self.values = (states[:, :, : self.seen] for states in self.whole)

    def get_seq_length(self) -> int:
        """Tokens seen."""
        return self.seen

    @staticmethod
    def _empty(like: torch.Tensor, length: int) -> torch.Tensor:
        return like.new_empty(*like.shape[:2], length, like.shape[3])

    def _longer(self, states: torch.Tensor, end: int) -> torch.Tensor:
        longer = self._empty(states, max(end, int(states.shape[2] * GROWTH)))
        longer[:, :, : self.seen] = states[:, :, : self.seen]
        return longer


def _usual(model: Any) -> bool:
    """Whether the model's inputs are the usual ones."""
    own = type(model).prepare_inputs_for_generation
    return own is GenerationMixin.prepare_inputs_for_generation and not model.config.is_encoder_decoder


def _grows(cache: Any) -> bool:
    """Whether a cache keeps keys and values of all tokens in all layers, and those are made already."""
    if type(cache) is not DynamicCache or not cache.layers:
        return False
    return all(type(layer) is DynamicLayer and not layer.is_initialized for layer in cache.layers)
