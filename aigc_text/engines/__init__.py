"""What produces the next token. An engine takes rows of token ids and yields events; it knows no text."""

from __future__ import annotations

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
        key: the random stream (`sampling.stream_key`), or `None` to take the arg max.
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

    #: Several completions of one row by beam search: yields complete sequences instead of steps.
    supports_beams: bool = False

    @abstractmethod
    def decode(self, rows: Sequence[Row], config: GenerationConfig) -> Generator[list[Event], list[int] | None, None]:
        """Yields the events of each step. `send([row, …])` ends rows early (a stop string was completed)."""

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
