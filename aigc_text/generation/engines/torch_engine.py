"""The engine `torch`: our own decoding loop, for every model that transformers can `generate` from."""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Generator, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from aigc_text.errors import GenerationError
from aigc_text.generation.engine import Engine, Event, Row, batch_size, ends_of, merged
from aigc_text.generation.sampling import Sampler
from aigc_text.hub.transformers_compat import takes_cache
from aigc_text.utils.isolation import seeded

from .kv_cache import steps_of
from .packed_linear import packed

DROPPED = 8  # rows are dropped when one of so many has finished: it copies the memory of all the others
#: Processors that hold something for each row of the first batch.
REMEMBERING = (
    "EncoderNoRepeatNGramLogitsProcessor", "EncoderRepetitionPenaltyLogitsProcessor",
    "SynthIDTextWatermarkLogitsProcessor", "UnbatchedClassifierFreeGuidanceLogitsProcessor",
)  # fmt: skip


class TorchEngine(Engine):
    """Steps through a model after transformers' own preparation (cache, mask, positions, processors).

    `generate` takes a generator function as `custom_generate`: it prepares everything, then hands over. So every
    model with `GenerationMixin` works, and sampling is seeded per row. Beams are transformers' own.
    """

    name = "torch"

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
        return merged(self.model.generation_config, options)

    def decode(self, rows: Sequence[Row], config: GenerationConfig) -> Generator[list[Event], list[int] | None, None]:
        _give_back()
        config = _plain(config, max(row.limit for row in rows))
        config.num_return_sequences, config.num_beams = 1, 1
        return self._generate(
            config,
            **self._inputs(rows),
            custom_generate=_loop,
            own=self.model,
            limits=torch.tensor([row.limit for row in rows]),
            allowed={n: row.allowed for n, row in enumerate(rows) if row.allowed is not None},
            keys=torch.tensor([row.key or 0 for row in rows], device=self.model.device) if config.do_sample else None,
        )

    def beams(self, row: Row, config: GenerationConfig) -> list[list[Event]]:
        config = _plain(config, row.limit)
        inputs = self._inputs([row])
        start = inputs["input_ids"].shape[1] if self.prompt_counts() else 1
        # Beam sampling draws through torch's own generator.
        with seeded((row.key or 0) & (2**63 - 1)) if config.do_sample else nullcontext():
            found = self._generate(config, **inputs, prefix_allowed_tokens_fn=_prefix(row, start))
        return [self._events(ids[start:].tolist(), config) for ids in found]

    def _generate(self, config: GenerationConfig, **inputs: Any) -> Any:
        """transformers' `generate` with a config and nothing else.

        It fills what is `None` in a config with the model's own settings. So it is called on a copy of the model (of
        the object, not of its weights) that has the same config: other threads may be using the model.
        """
        if not takes_cache(self.model):
            config.use_cache = False
        view: Any = object.__new__(type(self.model))  # FSDP's classes cannot be copied by `copy`
        view.__dict__.update(self.model.__dict__)
        view.generation_config = config
        return view.generate(generation_config=config, **inputs)

    def _events(self, ids: list[int], config: GenerationConfig) -> list[Event]:
        ends = ends_of(config)
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


def _plain(config: GenerationConfig, limit: int) -> GenerationConfig:
    """A copy for one call, without what is done elsewhere: stop strings, and lengths that count the prompt."""
    config = copy.deepcopy(config)
    config.max_new_tokens, config.max_length, config.stop_strings = limit, None, None
    return config


def _give_back() -> None:
    """Gives the system what earlier batches have freed; glibc would keep it in pieces that fit no other batch.

    Commands, whose process is their own, keep large blocks apart as well; see `cli.main`.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


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


@torch.inference_mode()  # generate's own no_grad has ended by the time that this generator runs
def _loop(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    limits: torch.Tensor,
    allowed: dict[int, Any],
    own: Any,
    keys: torch.Tensor | None = None,
    **state: Any,
) -> Generator[list[Event], list[int] | None, None]:
    """One token a step for all rows that are not finished."""
    room, made, model = int(limits.max()), 0, own  # what is kept of a model from batch to batch is found by itself
    steps, layers = steps_of(model, input_ids, state, room), packed(model)
    ids = torch.cat([input_ids, input_ids.new_zeros(len(input_ids), room)], 1)  # (B, T + room)
    start, ends = input_ids.shape[1], ends_of(generation_config)
    repaired = generation_config.remove_invalid_values
    processors, sampler = Sampler.taken_from(logits_processor)
    droppable = steps.can_drop and not any(type(p).__name__ in REMEMBERING for p in processors)
    rows, left = list(range(len(ids))), limits.tolist()  # of each row still computed: its number, its limit
    over = [False] * len(ids)
    while not all(over):
        known = ids[:, : start + made]  # (B, T)
        # Not for the prompts: oneDNN keeps something for each number of rows, and theirs is seldom the same twice.
        with layers.in_use() if made else nullcontext():
            scores = steps.scores(known)  # (B, V)
        if not made and not repaired and not bool(scores.amax(1).isfinite().all()):
            raise GenerationError(
                "the model gives scores that are not numbers",
                "Try another --dtype, such as fp32, or options less extreme; else its weights are broken.",
            )
        if allowed:
            _rule_out(scores, rows, known[:, start:].tolist(), allowed)
        for process in processors:
            scores = process(known, scores)
        tokens = scores.argmax(1) if keys is None else sampler(scores, keys, made)  # (B,)
        ids[:, start + made] = tokens
        made += 1
        events = [
            Event(row, token, "stop" if token in ends else "length" if made >= left[row] else None)
            for row, token, gone in zip(rows, tokens.tolist(), over, strict=True)
            if not gone
        ]
        closed = set((yield events) or ())
        closed.update(event.row for event in events if event.finish is not None)
        over = [gone or row in closed for row, gone in zip(rows, over, strict=True)]
        kept = _worth_keeping(over)
        if droppable and kept is not None:
            keep = torch.tensor(kept, device=ids.device)
            ids, keys = ids[keep], keys[keep] if keys is not None else None
            steps.keep(keep)
            _keep_in_processors(processors, keep)
            rows, over = [rows[n] for n in kept], [over[n] for n in kept]


def _worth_keeping(over: list[bool]) -> list[int] | None:
    """The places of the rows to go on with, or `None`: with all of them.

    Some that have finished may stay, so that the sizes of batches are few: oneDNN keeps something for each.
    """
    most = batch_size(len(over) - sum(over), up=True)
    if not 0 < most <= len(over) - max(1, len(over) // DROPPED):
        return None
    spare = most - (len(over) - sum(over))
    finished = [n for n, gone in enumerate(over) if gone][:spare]
    return sorted([*finished, *(n for n, gone in enumerate(over) if not gone)])


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


def _keep_in_processors(processors: Any, keep: torch.Tensor) -> None:
    """The repetition penalty remembers a length for each row of the first batch."""
    for p in processors:
        if torch.is_tensor(lengths := getattr(p, "prompt_ignore_length", None)):
            p.prompt_ignore_length = lengths[keep]
