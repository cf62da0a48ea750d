"""A backend with prompts to try its options with; see `option_effects`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aigc_text.backends.base import Backend
from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.errors import UserError, described
from aigc_text.outputs import Completion

LENGTH = 8  # tokens of a text, where nothing else is said
SAMPLES, SEEDS = 3, 2  # texts of a prompt, seeds; few, for a large model takes seconds for each call
Outcome = list[tuple[str, int, str]] | None  # text, tokens and finish reason of each completion; `None` is refused


class Ignored(Exception):
    """An option that was given has not had the effect that it must have."""


class Trial:
    """A backend with the prompts to try it with.

    Args:
        backend: loaded.
        prompts: three or more.
    """

    def __init__(self, backend: Backend, prompts: Sequence[str]) -> None:
        self.backend, self.prompts = backend, prompts
        self.takes = set(backend.accepted())
        self.sampling: dict[str, Any] = {"do_sample": True} if "do_sample" in self.takes else {}
        self.likeliest = {"do_sample": False} if "do_sample" in self.takes else {}
        #: Whether the samples of a prompt differ even without sampling, as where each has a latent of its own.
        self.varies = backend.Options.greedy_varies or _draws_anyway(backend)

    def made(self, prompts: Sequence[str] | None = None, **options: Any) -> list[Completion]:
        """The completions of the prompts."""
        given = {"max_new_tokens": LENGTH, "seed": 7, **options}
        return list(self.backend.generate(self.prompts if prompts is None else prompts, None, **given))

    def outcome(self, **options: Any) -> Outcome:
        """What there is to see of the completions, or that the options are refused.

        Raises:
            Ignored: the backend fails with another error than a refusal.
        """
        try:
            return [(c.text, c.tokens, c.finish_reason) for c in self.made(**options)]
        except UserError:
            return None
        except Exception as error:
            given = ", ".join(f"{name}={value!r}" for name, value in options.items())
            raise Ignored(f"fails with {given}: {described(error)}") from error

    def samples(self, **options: Any) -> list[list[str]] | None:
        """The texts of `SAMPLES` samples of each prompt, or `None` if the options are refused."""
        outcome = self.outcome(num_return_sequences=SAMPLES, **options)
        if outcome is None:
            return None
        texts = [text for text, *_ in outcome]
        return [texts[n : n + SAMPLES] for n in range(0, len(texts), SAMPLES)]

    def words(self) -> list[str]:
        """Words that the texts hold, for options that act on them; at least one."""
        made = [word for c in self.made(None, **self.sampling) for word in c.text.split()]
        return sorted(set(made), key=made.count)[-2:] or ["dog"]

    def by_seed(self, **options: Any) -> list[Outcome]:
        """The outcomes of `SEEDS` seeds."""
        return [self.outcome(seed=seed, **options) for seed in range(SEEDS)]

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Within it every second token ends the text of a model of transformers; other backends stay as they are."""
        if not isinstance(self.backend, TransformersBackend):
            yield
            return
        config = self.backend.own_config
        ends, config.eos_token_id = config.eos_token_id, list(range(0, len(self.backend.tokenizer), 2))
        try:
            yield
        finally:
            config.eos_token_id = ends


def _draws_anyway(backend: Backend) -> bool:
    """Whether a model of transformers draws something, such as noise, where no words are drawn."""
    if not isinstance(backend, TransformersBackend) or "do_sample" not in backend.accepted():
        return False
    options = backend.resolve(None, {"do_sample": False})
    return backend.draws(backend.generation_config(backend.engine(), options), options)
