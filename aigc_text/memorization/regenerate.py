"""Texts that copy too much are drawn anew: a backend around another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

from aigc_text.backends.base import Backend
from aigc_text.options.generation import GenerationOptions
from aigc_text.outputs import Completion, ordered

from .copies import Source

TRIES = 8  # texts that are drawn anew in place of one that copies too much
WINDOW = 4096  # prompts after which texts that copied too much are drawn anew
TOGETHER = 32  # texts that are looked up at once

OF_A_BACKEND = (
    "Options", "takes", "capabilities", "name", "source", "revision", "precision", "decodes_by", "origin",
)  # fmt: skip


class WithoutCopies(Backend):
    """A backend whose texts copy at most some words of a source: those that copy more are drawn anew.

    Each further try draws from a random stream of its own, so a text still follows from seed and place. After `TRIES`
    the text that copied least is given, with what it copied, and `gave_up` counts it.

    Args:
        backend: who generates.
        source: what must not be copied.
        most: words of the longest copy allowed.
    """

    def __init__(self, backend: Backend, source: Source, most: int) -> None:
        self.backend, self.source_of_copies, self.most = backend, source, most
        self.gave_up = self.drawn_anew = 0
        for name in OF_A_BACKEND:
            setattr(self, name, getattr(backend, name))

    @classmethod
    def from_pretrained(cls, model: str | None = None, **kwargs: Any) -> WithoutCopies:
        raise NotImplementedError("it is made of a backend that is loaded")

    def resolve(self, options: GenerationOptions | None, overrides: dict[str, Any]) -> GenerationOptions:
        return self.backend.resolve(options, overrides)

    def goes_on(self, options: GenerationOptions) -> bool:
        return self.backend.goes_on(options)

    def effective(self, options: GenerationOptions) -> dict[str, Any]:
        """The options of the backend, and what must not be copied."""
        own = {"max_copy": self.most, "copy_source": str(self.source_of_copies.path)}
        return {**self.backend.effective(options), **own}

    def generate(
        self,
        prompts: Iterable[str],
        options: GenerationOptions | None = None,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        **overrides: Any,
    ) -> Iterator[Completion]:
        options = self.resolve(options, overrides)
        n = options.num_return_sequences or 1
        found = self.generate_some(prompts, options, lambda *_: True, batch_size=batch_size, batch_tokens=batch_tokens)
        return ordered((c.prompt_index * n + c.index, c) for c in found)

    def generate_some(
        self,
        prompts: Iterable[str],
        options: GenerationOptions,
        wanted: Callable[[int, int], bool],
        **sizes: int | None,
    ) -> Iterator[Completion]:
        """See `Backend.generate_some`."""
        whole = type(self.backend).generate_some is Backend.generate_some  # it makes all before those that are wanted
        prompts, first = iter(prompts), 0
        while window := list(islice(prompts, None if whole else WINDOW)):
            yield from self._settled(first, window, options, wanted, sizes)
            first += len(window)

    def _settled(
        self,
        first: int,
        window: list[str],
        options: GenerationOptions,
        wanted: Callable[[int, int], bool],
        sizes: dict[str, int | None],
    ) -> Iterator[Completion]:
        """The texts of some prompts in a row, each as soon as it copies little enough."""
        n = options.num_return_sequences or 1
        held: dict[tuple[int, int], Completion] = {}  # of those that copy too much the best so far
        for tries in range(TRIES + 1):
            if tries:
                options = self.resolve(options, {"num_return_sequences": n * (TRIES + 1)})

            def due(i: int, j: int, tries: int = tries) -> bool:
                return i >= first and (wanted(i, j) if tries == 0 else (i, j - tries * n) in held)

            made = self.backend.generate_some(chain(repeat("", first), window), options, due, **sizes)
            for c in self._measured(made):
                c = replace(c, index=c.index - tries * n, tries=tries + 1)
                place = (c.prompt_index, c.index)
                if (c.copied or 0) <= self.most:
                    held.pop(place, None)
                    self.drawn_anew += tries > 0
                    yield c
                elif place not in held or (c.copied or 0) < (held[place].copied or 0):
                    held[place] = c
            drawn = all(c.seed is not None for c in held.values()) and (options.num_beams or 1) == 1
            if not held or not drawn:  # what is not drawn would come out the same again
                break
        self.gave_up += len(held)
        yield from (replace(c, tries=tries + 1) for c in held.values())

    def _measured(self, made: Iterable[Completion]) -> Iterator[Completion]:
        made = iter(made)
        while some := list(islice(made, TOGETHER)):
            for c, copy in zip(some, self.source_of_copies.longest([c.text for c in some]), strict=True):
                yield replace(c, copied=copy.length)
