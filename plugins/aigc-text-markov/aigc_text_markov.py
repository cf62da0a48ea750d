"""A word-level Markov chain (Shannon 1948) as a backend of aigc-text: trains on a text file, and generates."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aigc_text import Backend, Capabilities, Completion, GenerationOptions
from aigc_text.errors import ModelError
from aigc_text.options import option

TALE = "the cat sat on the mat and the dog sat on the log . the cat saw the dog and the dog saw the cat ."
PIECE = re.compile(r"\s*\S+")  # a word with the white space before it, so that joining gives the text back


@dataclass(frozen=True, kw_only=True)
class MarkovOptions(GenerationOptions):
    """Generation options of the chain."""

    restart: float | None = option(None, "Chance of jumping to a random word at each step.", low=0, high=1)


class Markov(Backend):
    """Draws each word from those that followed the last `order` words in a text."""

    Options: ClassVar[type[GenerationOptions]] = MarkovOptions
    takes = ("max_new_tokens", "num_return_sequences", "stop_strings", "seed", "restart")
    capabilities = Capabilities(saving=True)

    def __init__(self, words: list[str], order: int) -> None:
        self.words, self.order = words, order
        self.followers: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for n, word in enumerate(words):
            for k in range(order + 1):  # shorter histories too: they serve where a longer one is new
                if n >= k:
                    self.followers[tuple(w.strip() for w in words[n - k : n])].append(word)

    @classmethod
    def from_pretrained(cls, model: str | None = None, *, order: int = 2) -> Markov:
        """Trains on a text file, reads a saved folder, or (without `model`) learns a nursery rhyme."""
        if model is None:
            return cls(PIECE.findall(TALE), order)
        path = Path(model)
        try:
            if path.is_dir():
                saved = json.loads((path / "chain.json").read_text(encoding="utf-8"))
                return cls(saved["words"], saved["order"])
            words = PIECE.findall(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"no Markov chain can be read from {model}: {error}", "Give a UTF-8 text file.") from None
        if not words:
            raise ModelError(f"{model} holds no words", "Give a text file with some.")
        return cls(words, order)

    def save_pretrained(self, path: str | Path) -> None:
        path = Path(path)
        path.mkdir(parents=True)
        (path / "chain.json").write_text(json.dumps({"words": self.words, "order": self.order}), encoding="utf-8")
        (path / "config.json").write_text(json.dumps({"aigc_text_backend": self.name}), encoding="utf-8")

    def generate(
        self, prompts: Iterable[str], options: GenerationOptions | None = None, **overrides: Any
    ) -> Iterator[Completion]:
        options = self.resolve(options, overrides)
        seed = options.seed if options.seed is not None else random.getrandbits(31)
        for i, prompt in enumerate(prompts):
            for j in range(options.num_return_sequences or 1):
                yield self._one(prompt, i, j, seed, options)

    def _one(self, prompt: str, i: int, j: int, seed: int, options: GenerationOptions) -> Completion:
        draw = random.Random(f"{seed}/{i}/{j}")  # a stream for each completion: the order of work changes nothing
        history = [w.strip() for w in PIECE.findall(prompt)]
        text, made, finish = "", 0, "length"
        while made < (options.max_new_tokens or 50) and finish == "length":
            restart = draw.random() < (getattr(options, "restart", None) or 0.0)
            word = draw.choice(self._candidates([] if restart else history))
            history.append(word.strip())
            text, made = text + word, made + 1
            ends = [text.find(s) for s in options.stop_strings or () if s in text]
            if ends:
                text, finish = text[: min(ends)], "stop"
        return Completion(
            prompt=prompt, text=text, index=j, prompt_index=i, finish_reason=finish, tokens=made, seed=seed
        )

    def _candidates(self, history: list[str]) -> list[str]:
        for k in range(min(self.order, len(history)), 0, -1):
            if found := self.followers.get(tuple(history[-k:])):
                return found
        return self.followers[()]
