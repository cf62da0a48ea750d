"""Prompts to what an engine decodes: their ids and limits, how their texts begin, and where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from aigc_text.data.prompt_encoding import Template, plain_ids, prompt_ids, template
from aigc_text.errors import OptionError
from aigc_text.generation import token_healing
from aigc_text.generation.decoding import Request
from aigc_text.generation.engine import Engine, Row, stream_key
from aigc_text.generation.stop_strings import Stops, stops
from aigc_text.options.generation import GenerationOptions

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from .family import Family


class PromptReader:
    """What a tokenizer makes of prompts and stop strings; what does not change is computed once.

    Args:
        tokenizer: any tokenizer of transformers.
        continues: whether texts go on from their prompts (not in an encoder-decoder).
        pad: the id that fills up short rows, with which a text begins if no other does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, continues: bool, pad: int) -> None:
        self.tokenizer, self.continues, self.pad = tokenizer, continues, pad
        self._stops: dict[tuple[str, ...], Stops] = {}

    @cached_property
    def template(self) -> Template:
        """The ids that the tokenizer itself adds to a text, at its beginning and its end."""
        return template(self.tokenizer)

    def ids(self, prompt: str) -> list[int]:
        """The ids of a prompt; of an empty one, what begins a text."""
        if not self.continues:  # an encoder reads the end of its text too
            ids = list(self.tokenizer(prompt, verbose=False)["input_ids"]) if prompt else []
        else:
            ids = prompt_ids(self.tokenizer, prompt, self.template)
        if ids or self.template.before:
            return ids or self.template.before
        starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.pad)
        return [next(i for i in starts if i is not None)]

    def held_back(self, prompt: str) -> str:
        """White space at the prompt's end that its text begins with; see `TransformersBackend.held_back`."""
        white = token_healing.end_of(prompt) if self.continues else ""
        if not white or self.can_begin(white):
            return white
        core = getattr(self.tokenizer, "backend_tokenizer", None)
        ignored = plain_ids(self.tokenizer, prompt) == plain_ids(self.tokenizer, prompt[: len(prompt) - len(white)])
        return white if ignored and core is not None and "ByteLevel" not in repr(core.decoder) else ""

    def can_begin(self, white: str) -> bool:
        """Whether texts can be made to begin with white space."""
        return set(white) <= self._token_characters

    def beginning(self, white: str) -> token_healing.Beginning | None:
        """The constraint that a text begins with white space; `None` where nothing is to be constrained."""
        return token_healing.Beginning(self._token_texts or [], white) if white and self.can_begin(white) else None

    @cached_property
    def _token_texts(self) -> list[str] | None:
        return token_healing.token_texts(self.tokenizer)

    @cached_property
    def _token_characters(self) -> set[str]:
        """The tokens of one character."""
        return {text for text in self._token_texts or () if len(text) == 1}

    def stops(self, strings: tuple[str, ...]) -> Stops:
        """Stop strings as texts are matched with them, prepared once for all prompts that have the same."""
        if strings not in self._stops:
            self._stops[strings] = stops(self.tokenizer, strings)
        return self._stops[strings]


@dataclass(frozen=True)
class RequestBuilder:
    """Builds a request for each completion that is asked for.

    Args:
        backend: its methods say how prompts are read.
        engine: that decodes.
        config: the effective configuration.
        options: the user's.
        seed: `None` where nothing is drawn.
    """

    backend: Family
    engine: Engine
    config: GenerationConfig
    options: GenerationOptions
    seed: int | None

    def build(self, place: tuple[int, int, str]) -> Request:
        """The request for a completion named by (prompt_index, index, prompt).

        Raises:
            OptionError: the prompt leaves no room in the context, or the backend takes none.
        """
        prompt_index, index, prompt = place
        self.backend.check_prompts([prompt], prompt_index)
        white = self.backend.held_back(prompt, self.options)
        tokens = self.backend.prompt_tokens(prompt[: len(prompt) - len(white)], self.options)
        reader = self.backend.reader
        return Request(
            prompt=prompt,
            prompt_index=prompt_index,
            index=index,
            row=self._row(place, tokens, reader.beginning(white)),
            stops=reader.stops(tuple(self.backend.stop_strings(prompt, self.options))),
            skip=len(white),
        )

    def _row(self, place: tuple[int, int, str], tokens: list[int], allowed: token_healing.Beginning | None) -> Row:
        prompt_index, index, prompt = place
        limit, room = self._limit(tokens, prompt_index), self.engine.context()
        if room is not None and self.engine.prompt_counts():
            if len(tokens) >= room:
                tokens = self._truncated(tokens, room, limit, prompt_index)
            limit = min(limit, room - len(tokens))
        # Beams of a prompt are one search, so its completions share a stream.
        stream = 0 if (self.config.num_beams or 1) > 1 else index
        key = stream_key(self.seed, prompt_index, stream) if self.seed is not None else None
        return Row(tokens, key, limit, self.backend.row_inputs(prompt, self.options, key, index), allowed)

    def _limit(self, tokens: Sequence[int], prompt_index: int) -> int:
        """Most tokens to generate after a prompt, the context aside."""
        if self.config.max_new_tokens is not None:
            return self.config.max_new_tokens
        known = len(tokens) if self.engine.prompt_counts() else 1  # a decoder begins with one
        if known >= self.config.max_length:
            raise OptionError(
                f"prompt {prompt_index + 1} has {known} tokens, and the generation_config.json of "
                f"{self.backend.source!r} allows {self.config.max_length} for prompt and text (max_length)",
                "Set --max-new-tokens, which is used instead, or shorten the prompt.",
            )
        return int(self.config.max_length - known)

    def _truncated(self, tokens: list[int], room: int, limit: int, prompt_index: int) -> list[int]:
        if not self.options.truncate_prompt:
            raise OptionError(
                f"prompt {prompt_index + 1} has {len(tokens)} tokens, the context is {room} for prompt and text",
                "Shorten it, or cut it on the left with --truncate-prompt.",
            )
        return self.backend.shortened(tokens, max(room - limit, room // 2, 1), self.options)
