"""The engine for every model that transformers can `generate` from."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from ..caches import CACHE
from ..sampling import gumbel
from . import Engine, Event, Row


class TransformersEngine(Engine):
    """Steps through transformers' own preparation (cache, mask, positions, processors) with a loop of ours.

    `generate` takes a generator function as `custom_generate`: it prepares everything, then hands over. So every
    model with `GenerationMixin` works, and sampling is seeded per row.
    """

    supports_beams = True

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self.model, self.pad = model, pad

    def context(self) -> int | None:
        text = self.model.config.get_text_config(decoder=True)
        if getattr(text, "is_encoder_decoder", False):
            return None  # T5's positions are relative; generation is bounded by max_new_tokens
        return getattr(text, "max_position_embeddings", None)

    def prompt_counts(self) -> bool:
        return not self.model.config.is_encoder_decoder

    def config(self, **options: Any) -> GenerationConfig:
        """Merged here, not inside `generate`, so that what is reported is what is used."""
        merged = copy.deepcopy(self.model.generation_config)
        # One by one, not through update(): a part of the options alone need not make sense yet.
        for name, value in options.items():
            if value is not None:
                setattr(merged, name, value)
        for name, value in merged._get_default_generation_params().items():
            if getattr(merged, name, None) is None:
                setattr(merged, name, value)
        merged.max_length = None  # lengths are counted in new tokens, row by row
        merged.use_cache = True  # some are saved with the setting that they were trained with
        return merged

    def decode(self, rows: Sequence[Row], config: GenerationConfig) -> Generator[list[Event], list[int] | None, None]:
        config = copy.deepcopy(config)
        config.num_return_sequences, config.num_beams, config.stop_strings = 1, 1, None
        config.max_new_tokens = max(row.limit for row in rows)
        generate: Any = self.model.generate
        return generate(
            **self._inputs(rows),
            generation_config=config,
            custom_generate=_steps,
            limits=torch.tensor([row.limit for row in rows]),
            allowed={n: row.allowed for n, row in enumerate(rows) if row.allowed is not None},
            keys=torch.tensor([row.key or 0 for row in rows], device=self.model.device) if config.do_sample else None,
        )

    def beams(self, row: Row, config: GenerationConfig) -> list[list[Event]]:
        config = copy.deepcopy(config)
        config.max_new_tokens, config.stop_strings = row.limit, None
        inputs = self._inputs([row])
        start = inputs["input_ids"].shape[1] if self.prompt_counts() else 1
        generate: Any = self.model.generate
        with torch.random.fork_rng():
            torch.manual_seed((row.key or 0) & (2**63 - 1))  # beam sampling draws through torch's own generator
            found = generate(**inputs, generation_config=config, prefix_allowed_tokens_fn=_prefix(row, start))
        return [self._events(ids[start:].tolist(), config) for ids in found]

    def _events(self, ids: list[int], config: GenerationConfig) -> list[Event]:
        ends = _ends(config)
        kept = []
        for token in ids:
            finish = "stop" if token in ends else None
            kept.append(Event(0, token, finish))
            if finish:
                return kept
        if kept:
            kept[-1] = kept[-1]._replace(finish="length")
        return kept

    def _inputs(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        width = max(len(row.tokens) for row in rows)
        left = self.prompt_counts()
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros_like(ids)
        for n, row in enumerate(rows):
            place = slice(width - len(row.tokens), width) if left else slice(0, len(row.tokens))
            ids[n, place] = torch.tensor(row.tokens)
            mask[n, place] = 1
        more = {k: torch.stack([row.inputs[k] for row in rows]).to(self.model.device) for k in rows[0].inputs}
        return {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device), **more}


def _prefix(row: Row, start: int) -> Any:
    """What `row.allowed` says in the form that beam search asks for."""
    if row.allowed is None:
        return None
    allowed, every = row.allowed, None

    def ids(_: int, made: torch.Tensor) -> list[int]:
        nonlocal every
        mask = allowed(made[start:].tolist())
        if mask is not None:
            every = every or list(range(len(mask)))
            return mask.nonzero()[:, 0].tolist()
        return every or []

    return ids


def _ends(config: GenerationConfig) -> set[int]:
    ends = config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)


@torch.inference_mode()  # generate's own no_grad has ended by the time that this generator runs
def _steps(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    limits: torch.Tensor,
    allowed: dict[int, Any],
    keys: torch.Tensor | None = None,
    **state: Any,
) -> Generator[list[Event], list[int] | None, None]:
    """One token a step for all rows that are not finished; finished rows are dropped where the cache can."""
    rows, start = torch.arange(len(input_ids)), input_ids.shape[1]
    ends, both = _ends(generation_config), model.config.is_encoder_decoder
    over = torch.zeros(len(rows), dtype=torch.bool)  # only used where rows cannot be dropped
    while len(rows) and not over.all():
        first, cached = input_ids.shape[1] == start, state.get("use_cache")
        inputs = model.prepare_inputs_for_generation(
            input_ids, next_sequence_length=1 if cached and not first else None, is_first_iteration=first, **state
        )
        out = model(**inputs, return_dict=True)
        state = model._update_model_kwargs_for_generation(out, state, is_encoder_decoder=both)
        logits = out.logits[:, -1].float()  # (B, V)
        if allowed:
            _rule_out(logits, rows.tolist(), input_ids[:, start:].tolist(), allowed)
        scores = logits_processor(input_ids, logits)  # (B, V)
        made = input_ids.shape[1] - start
        if keys is not None:
            scores = scores + gumbel(keys[rows.to(keys.device)], made, scores.shape[1])
        tokens = scores.argmax(-1)  # (B,)
        input_ids = torch.cat([input_ids, tokens[:, None]], -1)
        chosen = tokens.tolist()
        full = (made + 1 >= limits[rows]).tolist()
        finish = ["stop" if t in ends else "length" if f else None for t, f in zip(chosen, full, strict=True)]
        live = [n for n in range(len(rows)) if not over[n]]
        closed = yield [Event(int(rows[n]), chosen[n], finish[n]) for n in live]
        over |= torch.tensor([f is not None for f in finish])
        if closed:
            over |= torch.isin(rows, torch.tensor(closed))
        if over.any() and not over.all() and _droppable(state):
            keep = (~over).nonzero()[:, 0]
            rows, input_ids, state = _drop(rows, input_ids, state, keep.to(input_ids.device))
            _drop_processors(logits_processor, keep)
            over = torch.zeros(len(rows), dtype=torch.bool)


def _rule_out(logits: torch.Tensor, rows: list[int], made: list[list[int]], allowed: dict[int, Any]) -> None:
    """Sets the scores of tokens that may not follow to minus infinity; forgets rows that are free from here on."""
    for n, row in enumerate(rows):
        if row in allowed:
            mask = allowed[row](made[n])
            if mask is None:
                del allowed[row]
            else:
                # A model may have more scores than its tokenizer has tokens.
                logits[n, : len(mask)].masked_fill_(~mask.to(logits.device), -torch.inf)
                logits[n, len(mask) :] = -torch.inf


def _droppable(state: dict[str, Any]) -> bool:
    cache = state.get(CACHE)
    return hasattr(cache, "batch_select_indices") and not hasattr(cache, "cross_attention_cache")


def _drop(
    rows: torch.Tensor, input_ids: torch.Tensor, state: dict[str, Any], keep: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    before = len(rows)
    state[CACHE].batch_select_indices(keep)
    fits = {k: v[keep] if torch.is_tensor(v) and v.dim() and len(v) == before else v for k, v in state.items()}
    return rows[keep.to(rows.device)], input_ids[keep], fits


def _drop_processors(processors: Any, keep: torch.Tensor) -> None:
    """The repetition penalty remembers a length for each row of the first batch."""
    for p in processors:
        if torch.is_tensor(lengths := getattr(p, "prompt_ignore_length", None)):
            p.prompt_ignore_length = lengths[keep]
