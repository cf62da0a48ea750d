"""`TransformersBackend`: what all backends with a transformers model share."""

from __future__ import annotations

import dataclasses
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from . import checkpoint, decoding, healing, hub, lora
from .backend import Backend, Capabilities
from .errors import BackendError, ModelError, OptionError, nearest
from .options import Completion, GenerationOptions, Piece, TrainingOptions

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
    from typing_extensions import Self

    from .encoding import Encoder
    from .engines import Engine, Row
    from .objective import Objective
    from .sources import Example
    from .trainer import Evaluate

FALLBACK_NEW_TOKENS = 128  # where neither the user nor the model says how many
FALLBACK_CONTEXT = 512
DRAWN_SEED_BITS = 31


class TransformersBackend(Backend):
    """A model and a tokenizer of transformers behind the interface. Families subclass it.

    Args:
        model: with `GenerationMixin`.
        tokenizer: any tokenizer of transformers.
    """

    capabilities = Capabilities(streaming=True, training=True, saving=True, likelihood="exact")
    #: The options of its training; a family that needs more subclasses `TrainingOptions`.
    Training: ClassVar[type[TrainingOptions]] = TrainingOptions
    #: The class of transformers that loads its models.
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    #: The hub id used without `model`, if it is cached or can be downloaded.
    hub_id: ClassVar[str] = ""
    #: The folder under `bundled/` that speaks without `model`, or where the hub model cannot be had.
    bundled: ClassVar[str] = ""
    #: Whether training packs texts into full rows where the user does not say.
    packing: ClassVar[bool] = True
    #: Generation options used where neither the user nor the model says anything.
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.source = str(model.name_or_path or "")
        self.precision = str(model.dtype).removeprefix("torch.")
        #: The adapter in the model, of peft, if there is one; see `lora`.
        self.adapter: Any = None
        #: The hash or commit of the model without its adapter.
        self.base_revision = ""
        self.is_from_hub = False

    @classmethod
    def from_pretrained(
        cls,
        model: str | None = None,
        *,
        revision: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
        config: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Self:
        """Loads a model.

        Args:
            model: a hub id or a folder: exactly that or an error. `None` is the backend's hub model if it is in
                the cache or can be downloaded, else the small bundled one, with a notice on standard error.
            revision: of the hub model: a branch, tag or commit.
            dtype: `fp32`, `bf16` or `fp16`; by default fp32 on the CPU and bf16 on an accelerator that has it.
            device: `cpu`, `cuda`, `mps` …; by default the best there is.
            trust_remote_code: run code that comes with the model.
            config: fields of its configuration to set otherwise, such as `{"attn_pdrop": 0.1}`.

        Raises:
            ModelError: not found, not reachable, damaged, or not of this family.
            OptionError: an unknown dtype, device or argument.
        """
        if unknown:
            name = next(iter(unknown))
            known = ("revision", "dtype", "device", "trust_remote_code", "config")
            raise OptionError(f"no loading option {name!r}.{nearest(name, known)}", f"Allowed: {', '.join(known)}")
        place = hub.choose_device(device)
        kind = hub.choose_dtype(dtype, place)
        if model is None:
            return cls._default(revision, kind, place, config)
        loaded = cls._load(hub.locate(model, revision), kind, place, trust_remote_code, config)
        if model.startswith(hub.BUNDLED_PREFIX):
            loaded.source = model
        return loaded

    @classmethod
    def _default(cls, revision: str | None, dtype: Any, device: str, config: Mapping[str, Any] | None) -> Self:
        """The hub model, or the bundled one and a notice that says why."""
        if not cls.hub_id and not cls.bundled:
            raise ModelError(f"{cls.__name__} has no model of its own", "Give one with --model.")
        if not cls.hub_id:
            return cls._stand_in(dtype, device, config)
        try:
            return cls._load(hub.locate(cls.hub_id, revision), dtype, device, False, config)
        except ModelError as error:
            reason = error.message
        print(
            f"Notice: the small bundled model {cls.bundled!r} speaks: {reason}.\n"
            f"For the real one, with a network: hf download {cls.hub_id}",
            file=sys.stderr,
        )
        return cls._stand_in(dtype, device, config)

    @classmethod
    def _stand_in(cls, dtype: Any, device: str, config: Mapping[str, Any] | None) -> Self:
        """The model that ships with the package."""
        name = hub.BUNDLED_PREFIX + cls.bundled
        backend = cls._load(hub.locate(name, None), dtype, device, False, config)
        backend.source = name
        return backend

    @classmethod
    def _load(
        cls,
        where: dict[str, Any],
        dtype: Any,
        device: str,
        trust_remote_code: bool,
        config: Mapping[str, Any] | None = None,
    ) -> Self:
        folder = Path(where["pretrained_model_name_or_path"])
        if (folder / checkpoint.MANIFEST).is_file():
            checkpoint.verify(folder)
        if (folder / hub.ADAPTER_CONFIG).is_file():
            return cls._load_adapter(folder, dtype, device, trust_remote_code, config)
        model, tokenizer = hub.load_model(where, cls.auto_class, dtype, trust_remote_code, config)
        try:
            moved: Any = model
            backend = cls(moved.to(device), tokenizer)
        except RuntimeError as error:
            raise OptionError(f"device {device!r} cannot be used: {error}", "Use --device cpu.") from error
        if folder.is_dir():
            backend.source = str(folder)
            backend.revision = checkpoint.fingerprint(folder)
        else:
            backend.revision = hub.commit_of(str(where["pretrained_model_name_or_path"]), where.get("revision"))
            backend.is_from_hub = True
        backend.base_revision = backend.revision
        return backend

    @classmethod
    def _load_adapter(
        cls, folder: Path, dtype: Any, device: str, trust_remote_code: bool, config: Mapping[str, Any] | None
    ) -> Self:
        """The base that an adapter names, with the adapter in it."""
        backend = cls._load(lora.base_of(folder), dtype, device, trust_remote_code, config)
        lora.load(backend, folder)
        backend.source, backend.revision, backend.is_from_hub = str(folder), checkpoint.fingerprint(folder), False
        return backend

    # What a family may change

    @classmethod
    def from_scratch(cls, tokenizer: PreTrainedTokenizerBase, **config: Any) -> Self:
        """A model with random weights for a tokenizer, to be trained. Text in `config` is read as the field's type.

        Raises:
            OptionError: a field that the model's configuration does not have, or sizes that do not fit each other.
        """
        raise BackendError(f"backend {cls.__name__!r} cannot start from scratch", "Start from a model with --model.")

    def engine(self) -> Engine:
        """What produces the next token."""
        from .engines.transformers import TransformersEngine

        return TransformersEngine(self.model, self.pad())

    def prompt_tokens(self, prompt: str, options: GenerationOptions) -> list[int]:
        """The ids that the model sees for a prompt; for an empty one the token that begins a text."""
        ids = list(self.tokenizer(prompt, verbose=False)["input_ids"]) if prompt else []
        if ids:
            return ids
        starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.pad())
        return [next(i for i in starts if i is not None)]

    def held_back(self, prompt: str, options: GenerationOptions) -> str:
        """White space at the prompt's end that the text must begin with instead; see `healing`."""
        white = healing.end_of(prompt) if self.capabilities.continues else ""
        return white if white and self._token_texts is not None else ""

    @cached_property
    def _token_texts(self) -> list[str] | None:
        return healing.token_texts(self.tokenizer)

    def stop_strings(self, prompt: str, options: GenerationOptions) -> Sequence[str]:
        """Where a prompt's text ends."""
        return options.stop_strings or ()

    def row_inputs(self, prompt: str, options: GenerationOptions, key: int | None) -> dict[str, torch.Tensor]:
        """Further inputs of the model for one completion (a latent, a prefix), without the batch dimension."""
        return {}

    def objective(self, options: TrainingOptions) -> Objective:
        """What training minimises."""
        from .objective import Likelihood

        # Nothing reads a cache in training, and filling it copies all keys and values.
        inputs = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        return Likelihood(inputs, own_loss=self.auto_class != "AutoModelForCausalLM")

    def pair_tokens(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """The ids of a prompt as generation sees it, and of what is to follow it, the end included."""
        from .encoding import following

        options = self.Options()
        white = self.held_back(prompt, options)
        prompt = prompt[: len(prompt) - len(white)]
        before = self.prompt_tokens(prompt, options)
        return before, following(self.tokenizer, before, prompt, white + completion)

    def batches(self, examples: Iterable[Example], options: TrainingOptions) -> Iterable[Any]:
        """Micro-batches for the trainer; with `from_step`, so that a resumed run sees what the unbroken one saw."""
        from .data import batches_of

        return batches_of(self.encoder(options), examples, options, self.packing, self.pad())

    def validator(self, examples: Iterable[Example], options: TrainingOptions) -> Evaluate:
        """The `evaluate(model)` of a training run: mean loss a token in nats and bits per byte of rows of examples."""
        from .data import validation_rows
        from .likelihood import Validation
        from .tokenizer import unknown_token

        encoder = self.encoder(options)
        rows = validation_rows(encoder, examples, options, self.packing)
        return Validation(rows, self.pad(), unknown_token(self.tokenizer), encoder.notes)

    # What is the same for all

    def generate(
        self,
        prompts: Iterable[str],
        options: GenerationOptions | None = None,
        *,
        batch_size: int = 8,
        **overrides: Any,
    ) -> Iterator[Completion]:
        """Yields the completions of each prompt, in the order of the prompts; see `Backend.generate`.

        Args:
            prompts: plain strings.
            options: how.
            batch_size: most rows at once. It never changes the text where `Completion.exact` is true.
        """
        for piece in self.pieces(prompts, options, batch_size=batch_size, **overrides):
            if piece.completion is not None:
                yield piece.completion

    def pieces(
        self,
        prompts: Iterable[str],
        options: GenerationOptions | None = None,
        *,
        batch_size: int = 8,
        **overrides: Any,
    ) -> Iterator[Piece]:
        options = self.resolve(options, overrides)
        n = options.num_return_sequences or 1
        places = ((i, j, prompt) for i, prompt in enumerate(prompts) for j in range(n))
        yield from decoding.in_order(self.decode(places, options, batch_size), n)

    def decode(
        self, places: Iterable[tuple[int, int, str]], options: GenerationOptions, batch_size: int = 8
    ) -> Iterator[Piece]:
        """Yields pieces of completions named by (prompt_index, index, prompt), in whatever order they come.

        A completion's text follows from its place and the seed, so a share of a larger job can be done alone.
        """
        engine = self.engine()
        config = self.generation_config(engine, options)
        drawn = bool(config.do_sample)
        seed = options.seed if options.seed is not None else secrets.randbits(DRAWN_SEED_BITS)
        how = decoding.Decoding(
            config=config,
            seed=seed if drawn else None,
            batch_size=batch_size,
            equal_lengths=self._equal_lengths(config),
            exact=self._exact(),
            continues=engine.prompt_counts() and self.capabilities.continues,
        )
        requests = (self._request(engine, config, options, place, seed if drawn else None) for place in places)
        yield from decoding.decode(engine, self.tokenizer, requests, how)

    def generation_config(self, engine: Engine, options: GenerationOptions) -> GenerationConfig:
        """The effective configuration: the user's options over the model's own over the backend's defaults."""
        from transformers import GenerationConfig

        known = GenerationConfig().to_dict()
        given = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
        given = {k: v for k, v in given.items() if k in known and v is not None and k != "stop_strings"}
        own = getattr(self.model, "generation_config", None) or GenerationConfig()  # masked models have none
        if own.do_sample is None and options.do_sample is None:
            # Sampling options that the user gave ask for sampling; beams ask for none.
            sampling = any(given.get(k) is not None for k in ("temperature", "top_k", "top_p", "min_p"))
            given["do_sample"] = (options.num_beams or 1) == 1 and (sampling or self.defaults.get("do_sample", False))
        for k, v in self.defaults.items():
            if getattr(own, k, None) is None:
                given.setdefault(k, v)
        if getattr(own, "max_new_tokens", None) is None:
            given.setdefault("max_new_tokens", FALLBACK_NEW_TOKENS)
        config = engine.config(**given)
        if (options.num_return_sequences or 1) > 1 and not config.do_sample and (config.num_beams or 1) == 1:
            raise OptionError(
                f"num_return_sequences={options.num_return_sequences} without sampling would repeat one text",
                "Turn sampling on (--do-sample) or use as many beams (--num-beams).",
            )
        if config.pad_token_id is None:
            config.pad_token_id = self.pad()
        return config

    def effective(self, options: GenerationOptions) -> dict[str, Any]:
        config = self.generation_config(self.engine(), options)
        names = [n for n in self.Options.fields() if n != "seed"]
        values = {n: getattr(config, n, None) for n in names}
        own = {n: getattr(options, n) for n in names if not hasattr(config, n) or n == "stop_strings"}
        sampling = ("temperature", "top_k", "top_p", "min_p")
        return {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in {**values, **own}.items()
            if v is not None and (config.do_sample or k not in sampling)
        }

    def encoder(self, options: TrainingOptions) -> Encoder:
        """What makes rows of tokens of examples, as this model reads them."""
        from .encoding import Encoder

        begin = self.prompt_tokens("", self.Options())
        return Encoder(self.tokenizer, self.block_size(options), begin, self.pair_tokens)

    def pad(self) -> int:
        """The id that fills up short rows; masked, so any will do."""
        choices = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.bos_token_id, 0)
        return next(i for i in choices if i is not None)

    def block_size(self, options: TrainingOptions) -> int:
        """Tokens of a training row: what the user says, else the model's context, at most `FALLBACK_CONTEXT`.

        Raises:
            OptionError: more than the model's context.
        """
        context = self.engine().context()
        if context is not None and (options.block_size or 0) > context:
            raise OptionError(f"block_size {options.block_size} is more than the model's context of {context} tokens")
        return options.block_size or min(context or FALLBACK_CONTEXT, FALLBACK_CONTEXT)

    def save_pretrained(self, path: str | Path, *, merge: bool = False) -> None:
        """Writes the model as a folder that `load` reads back.

        Args:
            path: a new folder.
            merge: add a LoRA adapter to the weights first, here and in the folder; else it is saved by itself.

        Raises:
            ModelError: the folder exists.
        """
        path = Path(path)
        if path.exists():
            raise ModelError(f"{path} exists already", "Choose a new folder, or remove this one.")
        if merge:
            lora.merge(self)
        checkpoint.save(path, self.write)

    def write(self, folder: Path) -> None:
        """Writes weights (or the adapter alone), configuration and tokenizer into a folder."""
        hub.quiet(local=True)
        setattr(self.model.config, hub.BACKEND_KEY, self.name)
        if self.adapter is not None:
            lora.save(self, folder)
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

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
            stop_strings=self.stop_strings(prompt, options),
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
        from .engines import Row
        from .sampling import stream_key

        prompt_index, index, prompt = place
        if prompt and not self.capabilities.prompts:
            raise OptionError(
                f"backend {self.name!r} takes no prompts, prompt {prompt_index + 1} is {prompt[:40]!r}",
                "Leave the prompt out for unconditional generation.",
            )
        white = self.held_back(prompt, options)
        tokens = self.prompt_tokens(prompt[: len(prompt) - len(white)], options)
        limit, room = config.max_new_tokens, engine.context()
        if room is not None and engine.prompt_counts():
            if len(tokens) >= room:
                tokens = self._truncated(tokens, room, limit, options, prompt_index)
            limit = min(limit, room - len(tokens))
        # Beams of a prompt are one search, so its completions share a stream.
        key = stream_key(seed, prompt_index, 0 if (config.num_beams or 1) > 1 else index) if seed is not None else None
        allowed = healing.Beginning(self._token_texts or [], white) if white else None
        return Row(tokens, key, limit, self.row_inputs(prompt, options, key), allowed)

    def _truncated(
        self, tokens: list[int], room: int, limit: int, options: GenerationOptions, prompt_index: int
    ) -> list[int]:
        if not options.truncate_prompt:
            raise OptionError(
                f"prompt {prompt_index + 1} has {len(tokens)} tokens, the context is {room} for prompt and text",
                "Shorten it, or cut it on the left with --truncate-prompt.",
            )
        return tokens[-max(room - limit, room // 2, 1) :]

    def _exact(self) -> bool:
        """fp32 on the CPU is tested to be the same in every batch, bf16 there in batches of one length."""
        return self.model.device.type == "cpu" and self.precision in ("float32", "bfloat16")

    def _equal_lengths(self, config: GenerationConfig) -> bool:
        """Padding changes bf16 sums, and processors that look back take it for history."""
        looks_back = (config.no_repeat_ngram_size or 0) > 0 or (config.repetition_penalty or 1.0) != 1.0
        return self.precision != "float32" or looks_back
