"""A backend of aigc-text: `template`. It draws words from a list; put your own generator in its place."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aigc_text import Backend, Capabilities, Completion, GenerationOptions
from aigc_text.errors import ModelError
from aigc_text.generation import StopMatcher
from aigc_text.options import option

WORDS = ["apple", "bean", "carrot", "egg", "kale", "leek", "lettuce", "mint", "oil", "onion", "pea", "tomato"]


@dataclass(frozen=True, kw_only=True)
class TemplateOptions(GenerationOptions):
    """Generation options: those of all backends and the ones below, which are set with `-o name=value`."""

    separator: str | None = option(None, "What stands before each word. Default: a space.")


class TemplateBackend(Backend):
    """Draws words from a list."""

    Options: ClassVar[type[GenerationOptions]] = TemplateOptions
    # Every option that is named here must have an effect; all others are refused.
    takes = ("max_new_tokens", "num_return_sequences", "stop_strings", "seed", "separator")
    capabilities = Capabilities(saving=True)

    def __init__(self, words: list[str]) -> None:
        self.words = words

    @classmethod
    def from_pretrained(cls, model: str | None = None) -> TemplateBackend:  # type: ignore[override]
        """Loads a word list.

        Args:
            model: a text file, or a folder written by `save_pretrained`; `None` is a list of vegetables.

        Raises:
            ModelError: it cannot be read, or holds no words.
        """
        if model is None:
            return cls(WORDS)
        path = Path(model)
        try:
            words = (path / "words.txt" if path.is_dir() else path).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read a word list from {model}: {error}", "Give a UTF-8 text file.") from None
        if not words:
            raise ModelError(f"{model} holds no words", "Give a text file that does.")
        loaded = cls(words)
        loaded.source = model  # written into JSON records
        return loaded

    def save_pretrained(self, path: str | Path) -> None:
        """Writes a folder that `from_pretrained` reads; its config.json says which backend it belongs to."""
        folder = Path(path)
        folder.mkdir(parents=True)
        (folder / "words.txt").write_text("\n".join(self.words), encoding="utf-8")
        (folder / "config.json").write_text(json.dumps({"aigc_text_backend": self.name}), encoding="utf-8")

    def generate(
        self, prompts: Iterable[str], options: GenerationOptions | None = None, **overrides: Any
    ) -> Iterator[Completion]:
        options = self.resolve(options, overrides)  # checks them, and must come first
        seed = options.seed if options.seed is not None else random.getrandbits(31)
        for i, prompt in enumerate(prompts):
            for j in range(options.num_return_sequences or 1):
                # Each completion draws from a stream of its own, so it does not depend on the others.
                yield self._complete(prompt, i, j, seed, random.Random(f"{seed}/{i}/{j}"), options)

    def _complete(
        self, prompt: str, i: int, j: int, seed: int, draw: random.Random, options: GenerationOptions
    ) -> Completion:
        matcher = StopMatcher(options.stop_strings or ())
        separator = getattr(options, "separator", None) or " "
        text, tokens, finish = "", 0, "length"
        while tokens < (options.max_new_tokens or 10) and finish == "length":
            shown, stopped = matcher.push(separator + draw.choice(self.words))
            text, tokens = text + shown, tokens + 1
            finish = "stop" if stopped else finish
        text += matcher.flush()  # held back because it could have become a stop string
        return Completion(
            prompt=prompt, prompt_index=i, index=j, text=text, tokens=tokens, finish_reason=finish, seed=seed
        )
