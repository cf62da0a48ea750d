"""What produces the next token. An engine takes rows of token ids and yields events; it knows no text."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig


@dataclass(frozen=True)
class Row:
    """One completion to be made.

    Attributes:
        tokens: the prompt's ids, at least one.
        key: the random stream (`stream_key`), or `None` to take the arg max.
        limit: most tokens to generate.
        allowed: given the ids generated so far, which tokens may follow, (V,) of bool; `None` is all. Once it has
            answered `None` for a row it is not asked again.
        inputs: further inputs of the model for this row, without the batch dimension (a latent, a prefix).
    """

    tokens: Sequence[int]
    key: int | None
    limit: int
    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    allowed: Callable[[Sequence[int]], torch.Tensor | None] | None = None


class Event(NamedTuple):
    """One token of one row. `finish` is `stop` or `length` with the row's last token, else `None`."""

    row: int
    token: int
    finish: str | None


class Engine(ABC):
    """Turns a batch of rows into events."""

    #: What the engine is chosen by.
    name: str = ""
    #: Whether each row draws from the stream that its key names, so that its text does not depend on the batch.
    seeded: bool = True

    @abstractmethod
    def decode(self, rows: Sequence[Row], config: GenerationConfig) -> Generator[list[Event], list[int] | None, None]:
        """Yields the events of each step. `send([row, …])` ends rows early (a stop string was completed)."""

    def for_request(self) -> Engine:
        """The engine that decodes the batches of one request; one with a state of its own gives a new one."""
        return self

    def beams(self, row: Row, config: GenerationConfig) -> list[list[Event]]:
        """The `config.num_return_sequences` best sequences of one row, best first."""
        raise NotImplementedError

    def context(self) -> int | None:
        """Most tokens of prompt and text together, or `None` if there is no limit."""
        return None

    def prompt_counts(self) -> bool:
        """Whether the prompt takes part of the context (not in an encoder-decoder)."""
        return True

    def config(self, **options: Any) -> GenerationConfig:
        """The effective generation config: `options` over the model's own over transformers' defaults."""
        raise NotImplementedError


def batch_size(rows: int, up: bool = False) -> int:
    """The nearest size of a batch, not above `rows` or not below: few sizes, as oneDNN keeps a plan for each."""
    unit = 1 if rows <= 8 else 4 if rows <= 32 else 8
    return -(-rows // unit) * unit if up else rows // unit * unit


def stream_key(seed: int, prompt_index: int, index: int) -> int:
    """The random stream of completion `index` of prompt `prompt_index`: 64 bits, as a signed integer."""
    digest = hashlib.blake2b(f"{seed}/{prompt_index}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def merged(own: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig:
    """Options over a model's own config over transformers' defaults, so that what is reported is what is used."""
    config: Any = copy.deepcopy(own)
    # One by one, not through update(): a part of the options alone need not make sense yet.
    for name, value in options.items():
        if value is not None:
            setattr(config, name, value)
    from aigc_text.hub.transformers_compat import default_settings

    for name, value in default_settings(config).items():
        if getattr(config, name, None) is None:
            setattr(config, name, value)
    config.max_length = None  # where new tokens are not limited, the caller counts the prompt's
    config.use_cache = True  # some are saved with the setting that they were trained with
    made: GenerationConfig = config
    return made


def ends_of(config: GenerationConfig) -> set[int]:
    """The tokens that end a text."""
    ends = config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
