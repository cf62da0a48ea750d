"""`GeneratingBackend`: a model of transformers that generates, whatever family it is of."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_text.data.prompt_encoding import Template, cut_left, plain_ids, prompt_ids, template
from aigc_text.errors import ModelError, OptionError, UserError
from aigc_text.generation import decoding, model_settings, token_healing
from aigc_text.generation.stop_strings import Stops, stops
from aigc_text.hub import tokenizer_checks
from aigc_text.options import contradictions
from aigc_text.options.contradictions import BEAM_SEARCH
from aigc_text.options.generation import GenerationOptions, drawn_seed
from aigc_text.outputs import Completion, Piece
from aigc_text.utils import isolation

from .loading import PretrainedBackend

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig

    from aigc_text.generation.engine import Engine, Row

FALLBACK_NEW_TOKENS = 128  # where neither the user nor the model says how many
SAMPLING = ("temperature", "top_k", "top_p", "min_p")  # are of no account where nothing is drawn
NUMBERS = (
    "do_sample", *SAMPLING, "max_new_tokens", "min_new_tokens", "repetition_penalty", "no_repeat_ngram_size",
    "num_beams", "length_penalty", "num_return_sequences",
)  # fmt: skip
WRONG = "Its config.json does not go with its weights; download or save the model again."


class GeneratingBackend(PretrainedBackend):
    """From prompts to completions through an engine; see `TransformersBackend`, which families subclass."""

    #: Generation options used where neither the user nor the model says anything.
    defaults: ClassVar[dict[str, Any]] = {}
    #: Whether it was said what of the model's own generation config is not honoured.
    _told_settings = False

    # What a family may change

    def engine(self) -> Engine:
        """What produces the next token."""
        if self.converted is not None:
            from aigc_text.generation.engines.ctranslate2_engine import CTranslate2Engine

            return CTranslate2Engine(self.converted, self.own_config)
        from aigc_text.generation.engines.torch_engine import TorchEngine

        return TorchEngine(self.model, self.pad())

    def prompt_tokens(self, prompt: str, options: GenerationOptions) -> list[int]:
        """The ids that the model sees for a prompt; for an empty one what begins a text."""
        if not self.capabilities.continues:  # an encoder reads the end of its text too
            ids = list(self.tokenizer(prompt, verbose=False)["input_ids"]) if prompt else []
        else:
            ids = prompt_ids(self.tokenizer, prompt, self.template)
        if ids or self.template.before:
            return ids or self.template.before
        starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.pad())
        return [next(i for i in starts if i is not None)]

    @cached_property
    def template(self) -> Template:
        """The ids that the tokenizer itself adds to a text, at its beginning and its end."""
        return template(self.tokenizer)

    def shortened(self, tokens: list[int], most: int, options: GenerationOptions) -> list[int]:
        """A prompt's ids cut on the left to at most `most`, but for those of the tokenizer's template."""
        return cut_left(tokens, most, self.template.before)

    def held_back(self, prompt: str, options: GenerationOptions) -> str:
        """White space at the prompt's end that the text begins with instead, so that it is not shown twice.

        The text must begin with it where tokens are glued to the white space before them; see `healing`. Where the
        tokenizer passes over it (words do), the text may begin with it.
        """
        white = token_healing.end_of(prompt) if self.capabilities.continues else ""
        if not white or self._can_begin(white):
            return white
        core = getattr(self.tokenizer, "backend_tokenizer", None)
        ignored = plain_ids(self.tokenizer, prompt) == plain_ids(self.tokenizer, prompt[: len(prompt) - len(white)])
        return white if ignored and core is not None and "ByteLevel" not in repr(core.decoder) else ""

    def _can_begin(self, white: str) -> bool:
        """Whether texts can be made to begin with white space."""
        return set(white) <= self._token_characters

    @cached_property
    def _token_texts(self) -> list[str] | None:
        return token_healing.token_texts(self.tokenizer)

    @cached_property
    def _token_characters(self) -> set[str]:
        """The tokens of one character."""
        return {text for text in self._token_texts or () if len(text) == 1}

    def stop_strings(self, prompt: str, options: GenerationOptions) -> Sequence[str]:
        """Where a prompt's text ends."""
        return self._asked_stops(options) or ()

    def _asked_stops(self, options: GenerationOptions) -> tuple[str, ...] | None:
        """The stop strings of the user, else of the model's own generation config."""
        if options.stop_strings is not None:
            return options.stop_strings
        own = getattr(self.own_config, "stop_strings", None)
        return own if own is None else tuple(own) if isinstance(own, (list, tuple)) else (own,)

    def _stops(self, strings: tuple[str, ...]) -> Stops:
        """Stop strings as texts are matched with them, prepared once for all prompts that have the same."""
        if strings not in self._prepared_stops:
            self._prepared_stops[strings] = stops(self.tokenizer, strings)
        return self._prepared_stops[strings]

    @cached_property
    def _prepared_stops(self) -> dict[tuple[str, ...], Stops]:
        return {}

    def draws(self, config: GenerationConfig, options: GenerationOptions) -> bool:
        """Whether anything is drawn, so that a seed decides the texts."""
        return bool(config.do_sample)

    def row_inputs(
        self, prompt: str, options: GenerationOptions, key: int | None, index: int = 0
    ) -> dict[str, torch.Tensor]:
        """Further inputs of the model for one completion (a latent, a prefix), without the batch dimension.

        Args:
            prompt: as the user gave it.
            options: of the request.
            key: the completion's random stream, or `None` where nothing is drawn.
            index: which of the prompt's completions it is.
        """
        return {}

    # What is the same for all

    def generate(
        self,
        prompts: Iterable[str],
        options: GenerationOptions | None = None,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        **overrides: Any,
    ) -> Iterator[Completion]:
        """Yields the completions of each prompt, in the order of the prompts; see `Backend.generate`.

        Args:
            prompts: plain strings.
            options: how.
            batch_size: most rows at once (default 128). It never changes the text where `Completion.exact` is true.
            batch_tokens: most tokens at once, of prompts and of texts at their longest (default 8192). Where memory
                runs out all the same, what was unfinished is done again in batches of half the size.

        Raises:
            GenerationError: there is not enough memory for one text.
        """
        budget = decoding.Budget(batch_size, batch_tokens)
        for piece in self._pieces(prompts, self.resolve(options, overrides), budget, streamed=False):
            if piece.completion is not None:
                yield piece.completion

    def pieces(
        self,
        prompts: Iterable[str],
        options: GenerationOptions | None = None,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        **overrides: Any,
    ) -> Iterator[Piece]:
        budget = decoding.Budget(batch_size, batch_tokens)
        return self._pieces(prompts, self.resolve(options, overrides), budget, streamed=True)

    def _pieces(
        self, prompts: Iterable[str], options: GenerationOptions, budget: decoding.Budget, streamed: bool
    ) -> Iterator[Piece]:
        n = options.num_return_sequences or 1
        places = ((i, j, prompt) for i, prompt in enumerate(prompts) for j in range(n))
        return decoding.in_order(self.decode(places, options, budget, streamed), n)

    def generate_some(
        self,
        prompts: Iterable[str],
        options: GenerationOptions,
        wanted: Callable[[int, int], bool],
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
    ) -> Iterator[Completion]:
        """See `Backend.generate_some`; only what is wanted is made."""
        options = self.resolve(options, {})
        n = options.num_return_sequences or 1
        places = ((i, j, prompt) for i, prompt in enumerate(prompts) for j in range(n) if wanted(i, j))
        for piece in self.decode(places, options, decoding.Budget(batch_size, batch_tokens)):
            if piece.completion is not None:
                yield piece.completion

    def decode(
        self,
        places: Iterable[tuple[int, int, str]],
        options: GenerationOptions,
        budget: decoding.Budget | None = None,
        streamed: bool = False,
    ) -> Iterator[Piece]:
        """Yields pieces of completions named by (prompt_index, index, prompt), in whatever order they come.

        A completion's text follows from its place and the seed, so a share of a larger job can be done alone. The model
        computes in evaluation mode, and is in the mode that it was in between pieces and afterwards.
        """
        pieces = self._decode(places, options, budget or decoding.Budget(), streamed)
        if self.converted is not None:
            return isolation.closed_at_exit(pieces)
        return isolation.in_evaluation(self.model, pieces)

    def _decode(
        self,
        places: Iterable[tuple[int, int, str]],
        options: GenerationOptions,
        budget: decoding.Budget,
        streamed: bool,
    ) -> Generator[Piece, None, None]:
        engine = self.engine()
        config = self.generation_config(engine, options)
        drawn = self.draws(config, options)
        seed = options.seed if options.seed is not None else drawn_seed()
        how = decoding.Decoding(
            config=config,
            seed=seed if drawn else None,
            equal_lengths=engine.seeded and self._equal_lengths(config),
            exact=engine.seeded and self._exact(),
            continues=engine.prompt_counts() and self.capabilities.continues,
            streamed=streamed,
        )
        requests = (self._request(engine, config, options, place, seed if drawn else None) for place in places)
        try:
            yield from decoding.decode(engine, self.tokenizer, requests, how, budget)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            if (cause := self.fault()) is not None:
                raise ModelError(f"the model {self.source!r} fails when it is run: {cause}", WRONG) from error
            if not (asked := self._own_wishes()):
                raise
            what = f"the model {self.source!r} fails with what its generation_config.json asks for ({asked[:100]})"
            raise ModelError(
                f"{what}: {tokenizer_checks.first_sentence(error)}", "Correct it there, or take it out."
            ) from error

    def _own_wishes(self) -> str:
        """What the model's own generation config asks for that is no option here, and so was not looked at."""
        harmless = ("eos_token_id", "max_length", "pad_token_id")
        asked = self.own_config.to_diff_dict()
        return ", ".join(name for name in model_settings.HONOURED if name in asked and name not in harmless)

    def check_requests(self, prompts: Iterable[str], options: GenerationOptions) -> None:
        """Refuses, before anything is generated, what `generate` would refuse once it came to it.

        Raises:
            OptionError: options that contradict each other, or a prompt that the context has no room for.
            BackendError: a prompt for a model that takes none.
        """
        engine = self.engine()
        config = self.generation_config(engine, options)
        for n, prompt in enumerate(prompts):
            self._row(engine, config, options, (n, 0, prompt), None)

    def generation_config(self, engine: Engine, options: GenerationOptions) -> GenerationConfig:
        """The effective configuration: the user's options over the model's own over the backend's defaults."""
        from transformers import GenerationConfig

        known = GenerationConfig().to_dict()
        given = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
        given = {k: v for k, v in given.items() if k in known and v is not None and k != "stop_strings"}
        own = self.own_config
        # Sampling options that the user gave ask for sampling; beams ask for none.
        sampling = any(given.get(k) is not None for k in SAMPLING)
        if options.do_sample is None and (own.do_sample is None or (sampling and not own.do_sample)):
            given["do_sample"] = (options.num_beams or 1) == 1 and (sampling or self.defaults.get("do_sample", False))
        for k, v in self.defaults.items():
            if getattr(own, k, None) is None:
                given.setdefault(k, v)
        if getattr(own, "max_new_tokens", None) is None and getattr(own, "max_length", None) is None:
            given.setdefault("max_new_tokens", FALLBACK_NEW_TOKENS)
        config = engine.config(**given)
        if config.max_new_tokens is None:
            config.max_length = own.max_length
        if options.length_penalty is not None and (config.num_beams or 1) == 1:
            contradictions.refuse(BEAM_SEARCH, {"length_penalty": options.length_penalty})
        one_text = not config.do_sample and (config.num_beams or 1) == 1 and not options.greedy_varies
        if (options.num_return_sequences or 1) > 1 and one_text:
            raise OptionError(
                f"num_return_sequences={options.num_return_sequences} without sampling would repeat one text",
                "Turn sampling on (--do-sample) or use as many beams (--num-beams).",
            )
        if config.pad_token_id is None:
            config.pad_token_id = self.pad()
        self._check_own(config)
        model_settings.cleared(config)
        self._tell_settings()
        return config

    def _tell_settings(self) -> None:
        """Says once what of the model's own generation config its texts will not follow."""
        if not self._told_settings:
            self._told_settings = True
            if found := model_settings.not_honoured(self.own_config.to_diff_dict()):
                print(model_settings.notice(self.source or self.name, found), file=sys.stderr)

    def _check_own(self, config: GenerationConfig) -> None:
        """Refuses what the model's own generation config holds where the user's options were looked at before."""
        most = config.max_length if config.max_new_tokens is None else 1
        if type(most) is not int or most < 1:
            what = f"generation_config.json of {self.source!r}: max_length cannot be {repr(most)[:60]}"
            raise ModelError(what, "Correct it there, or set --max-new-tokens.")
        stops = self._asked_stops(GenerationOptions())
        if not all(isinstance(s, str) and s for s in stops or ()):
            what = f"generation_config.json of {self.source!r}: stop_strings cannot be {stops!r}"
            raise ModelError(what[:200], "Correct it there: text, or a list of texts that are not empty.")
        for name in NUMBERS:
            value = getattr(config, name, None)
            if value is None or (name in SAMPLING and not config.do_sample):
                continue
            try:
                GenerationOptions.check(name, value)
            except OptionError as error:
                what = f"generation_config.json of {self.source!r}: {error.message[:200]}"
                raise ModelError(what, f"{error.cure}. Correct it there, or set it yourself.") from None

    def effective(self, options: GenerationOptions) -> dict[str, Any]:
        config = self.generation_config(self.engine(), options)
        names = [n for n in self.Options.fields() if n != "seed"]
        values = {n: getattr(config, n, None) for n in names}
        own = {n: getattr(options, n) for n in names if not hasattr(config, n)}
        total = {"max_length": config.max_length} if config.max_new_tokens is None else {}
        stops = {"stop_strings": self._asked_stops(options)}
        return {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in {**values, **own, **total, **stops}.items()
            if v is not None and (config.do_sample or k not in SAMPLING)
        }

    def pad(self) -> int:
        """The id that fills up short rows; masked, so any will do."""
        choices = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.bos_token_id, 0)
        return next(i for i in choices if i is not None)

    def _request(
        self,
        engine: Engine,
        config: GenerationConfig,
        options: GenerationOptions,
        place: tuple[int, int, str],
        seed: int | None,
    ) -> decoding.Request:
        prompt_index, index, prompt = place
        return decoding.Request(
            prompt=prompt,
            prompt_index=prompt_index,
            index=index,
            row=self._row(engine, config, options, place, seed),
            stops=self._stops(tuple(self.stop_strings(prompt, options))),
            skip=len(self.held_back(prompt, options)),
        )

    def _row(
        self,
        engine: Engine,
        config: GenerationConfig,
        options: GenerationOptions,
        place: tuple[int, int, str],
        seed: int | None,
    ) -> Row:
        from aigc_text.generation.engine import Row, stream_key

        prompt_index, index, prompt = place
        self.check_prompts([prompt], prompt_index)
        white = self.held_back(prompt, options)
        tokens = self.prompt_tokens(prompt[: len(prompt) - len(white)], options)
        limit, room = self._limit(engine, config, tokens, prompt_index), engine.context()
        if room is not None and engine.prompt_counts():
            if len(tokens) >= room:
                tokens = self._truncated(tokens, room, limit, options, prompt_index)
            limit = min(limit, room - len(tokens))
        # Beams of a prompt are one search, so its completions share a stream.
        key = stream_key(seed, prompt_index, 0 if (config.num_beams or 1) > 1 else index) if seed is not None else None
        allowed = token_healing.Beginning(self._token_texts or [], white) if white and self._can_begin(white) else None
        return Row(tokens, key, limit, self.row_inputs(prompt, options, key, index), allowed)

    def _limit(self, engine: Engine, config: GenerationConfig, tokens: Sequence[int], prompt_index: int) -> int:
        """Most tokens to generate after a prompt, the context aside."""
        if config.max_new_tokens is not None:
            return config.max_new_tokens
        known = len(tokens) if engine.prompt_counts() else 1  # a decoder begins with one
        if known >= config.max_length:
            raise OptionError(
                f"prompt {prompt_index + 1} has {known} tokens, and the generation_config.json of {self.source!r} "
                f"allows {config.max_length} for prompt and text (max_length)",
                "Set --max-new-tokens, which is used instead, or shorten the prompt.",
            )
        return int(config.max_length - known)

    def _truncated(
        self, tokens: list[int], room: int, limit: int, options: GenerationOptions, prompt_index: int
    ) -> list[int]:
        if not options.truncate_prompt:
            raise OptionError(
                f"prompt {prompt_index + 1} has {len(tokens)} tokens, the context is {room} for prompt and text",
                "Shorten it, or cut it on the left with --truncate-prompt.",
            )
        return self.shortened(tokens, max(room - limit, room // 2, 1), options)

    def _exact(self) -> bool:
        """fp32 on the CPU is tested to be the same in every batch, bf16 there in batches of one length."""
        return self.model.device.type == "cpu" and self.precision in ("float32", "bfloat16")

    def _equal_lengths(self, config: GenerationConfig) -> bool:
        """Padding changes bf16 sums, and processors that look back take it for history."""
        return self.precision != "float32" or model_settings.looks_back(config)
