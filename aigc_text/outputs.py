"""What comes back: texts, pieces of them, scores, and reports of a training run. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One generated text.

    Attributes:
        prompt: the prompt as the user gave it.
        text: what follows it (for models that continue; others give the whole text).
        index: which of the prompt's completions this is, from 0.
        prompt_index: the prompt's place in the user's input, from 0.
        finish_reason: `stop` (end of text or a stop string), `length` (max_new_tokens or the context's end).
        tokens: tokens generated.
        seed: the seed behind it, or `None` where nothing was drawn.
        exact: whether the same seed gives this text at every batch size and order.
        seconds: from the start of its batch to its end.
        copied: words of the longest copy from a source, where copies were looked for.
        tries: how many texts were drawn for it, the others having copied too much.
    """

    prompt: str
    text: str
    index: int = 0
    prompt_index: int = 0
    finish_reason: str = "stop"
    tokens: int = 0
    seed: int | None = None
    exact: bool = True
    seconds: float = 0.0
    copied: int | None = None
    tries: int = 1

    def to_record(self, model: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The text as it is written down, in files of records, samples and caches alike.

        Args:
            model: what is to be said of the model and the options, such as `Backend.to_record`.
        """
        return {
            "prompt": self.prompt,
            "text": self.text,
            "prompt_index": self.prompt_index,
            "index": self.index,
            "finish_reason": self.finish_reason,
            "seed": self.seed,
            "exact": self.exact,
            **(model or {}),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            **({} if self.copied is None else {"copied": self.copied, "tries": self.tries}),
        }


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Growth of one completion; the pieces of a completion joined are its text.

    Attributes:
        prompt_index: the prompt's place in the user's input, from 0.
        index: which of the prompt's completions this is, from 0.
        text: what was added.
        completion: with the last piece, the whole result.
    """

    prompt_index: int
    index: int
    text: str
    completion: Completion | None = None


@dataclass(frozen=True, kw_only=True)
class TokenScore:
    """How well a model predicted one token of a text.

    Attributes:
        start: where in the text the token begins, in characters.
        end: where it ends; `start` again for the end of the text, and for a token that only begins a character.
        nll: negative log-likelihood in nats, given what is before it.
    """

    start: int
    end: int
    nll: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a model predicts one text.

    Attributes:
        text: what was scored.
        nll: negative log-likelihood in nats of the whole text, its end included.
        tokens: predicted tokens, the end included.
        kind: `exact`; `bound` (the true value is at most this); or an estimate named with its samples, which may lie
            below the true value: `bound, estimated from 10 samples` or `importance-weighted, 10 samples`.
        nll_se: standard error of an estimated `nll`, from the spread of its samples; `None` where nothing is drawn.
        per_token: in order; empty where the backend has no figure for single tokens.
    """

    text: str
    nll: float
    tokens: int
    kind: str = "exact"
    nll_se: float | None = None
    per_token: tuple[TokenScore, ...] = ()

    @property
    def utf8_bytes(self) -> int:
        """Bytes of the text in UTF-8; its end is none."""
        return len(self.text.encode())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of a training run.

    Attributes:
        step: updates made so far.
        total: updates that the run will make.
        logs: named figures: `loss`, `learning_rate`, `grad_norm`, and `eval_…` after a validation.
        message: something the user should read, or empty.
        tokens: tokens of the update's batches, of all processes together and without padding; 0 where there are none.
    """

    step: int
    total: int
    logs: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    tokens: int = 0


def duration(seconds: float) -> str:
    """A time in words, to two digits: `40 seconds`, `4 minutes`, `2.5 hours`."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            count = seconds / size
            return f"{count:.0f} {unit}" if count >= 9.95 else f"{float(f'{count:.1f}'):g} {unit}"
    count = max(1, round(seconds))
    return f"{count} second" if count == 1 else f"{count} seconds"


def ordered(numbered: Iterable[tuple[int, T]], first: int = 0) -> Iterator[T]:
    """Yields items by their numbers, from `first` on without gaps, whatever order they come in."""
    waiting: dict[int, T] = {}
    turn = first
    for number, item in numbered:
        waiting[number] = item
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1
