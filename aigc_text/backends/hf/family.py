"""What a family of models may change of how it is loaded, generates, is trained and is scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_text.backends.base import Backend, Capabilities
from aigc_text.data.prompt_encoding import Template, cut_left
from aigc_text.hub.ctranslate2 import Converted
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions

from . import likelihood, settings, training
from .prompt_requests import PromptReader

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from aigc_text.data.encoding import Encoder
    from aigc_text.data.sources import Example
    from aigc_text.generation.engine import Engine
    from aigc_text.training.objective import Objective
    from aigc_text.training.trainer import Evaluate


class Family(Backend):
    """A model and a tokenizer, and the methods in which families differ, as a causal language model has them.

    `TransformersBackend` derives from it and does the work; a family overrides what is different in its models.

    Args:
        model: with `GenerationMixin`.
        tokenizer: any tokenizer of transformers.
    """

    capabilities = Capabilities(streaming=True, training=True, saving=True, likelihood="exact")
    #: The class of transformers that loads its models.
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    #: The class of its models where the backend brings its own; it is used directly and need not be registered.
    model_class: ClassVar[type[PreTrainedModel] | None] = None
    #: The `model_type` of a family that is written here, which loads no other; empty where any of transformers will do.
    model_type: ClassVar[str] = ""
    #: The hub id used without `model`, if it is cached or can be downloaded.
    hub_id: ClassVar[str] = ""
    #: The folder under `bundled/` that is used without `model`, or where the hub model cannot be had.
    bundled: ClassVar[str] = ""
    #: The engines that can decode its models; the first is the default.
    engines: ClassVar[tuple[str, ...]] = ("torch",)
    #: Generation options used where neither the user nor the model says anything.
    defaults: ClassVar[dict[str, Any]] = {}
    #: The options of its training; a family that needs more subclasses `TrainingOptions`.
    Training: ClassVar[type[TrainingOptions]] = TrainingOptions
    #: Whether training packs texts into full rows where the user does not say.
    packing: ClassVar[bool] = True
    #: Training options of a model from scratch, where they differ from those of fine-tuning; see docs/finetuning.md.
    scratch: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3}
    #: Whether the model carries a state along, and so reads packed texts as one, from batch to batch.
    continuous: ClassVar[bool] = False

    _told_settings = False
    _model: PreTrainedModel | None = None
    _engine: Engine | None = None

    def __init__(self, model: PreTrainedModel | Converted, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        #: The model for CTranslate2, where that engine was asked for; then `model` is loaded when something needs it.
        self.converted: Converted | None = None
        self.load_torch_model: Callable[[], PreTrainedModel] | None = None
        self.decodes_by = self.engines[0]
        if isinstance(model, Converted):
            self.decodes_by = "ctranslate2"
            self.converted, self.precision = model, model.compute_type
            less = dataclasses.replace(self.capabilities, likelihood="", training=False, saving=False)
            self.capabilities = less  # type: ignore[misc]
        else:
            self.model = model.eval()
            self.source = str(getattr(model, "name_or_path", "") or "")  # `model_checks` refuses what has none
            self.precision = str(getattr(model, "dtype", "")).removeprefix("torch.")
        #: The adapter in the model, of peft, if there is one; see `lora`.
        self.adapter: Any = None
        #: The hash or commit of the model without its adapter.
        self.base_revision = ""
        self.is_from_hub = False

    @property
    def model(self) -> Any:
        """The model of transformers; with another engine it is loaded when it is first asked for."""
        if self._model is None:
            assert self.load_torch_model is not None
            self._model = self.load_torch_model().eval()
        return self._model

    @model.setter
    def model(self, model: Any) -> None:
        self._model, self._engine = model, None

    def memory(self) -> int | None:
        if self._model is None:
            return None
        return sum(p.numel() * p.element_size() for p in self._model.parameters())

    @cached_property
    def own_config(self) -> GenerationConfig:
        """The generation config that came with the model."""
        from transformers import GenerationConfig

        if self.converted is not None:
            return GenerationConfig.from_pretrained(str(self.converted.folder))
        return getattr(self.model, "generation_config", None) or GenerationConfig()  # masked models have none

    @cached_property
    def reader(self) -> PromptReader:
        """What the tokenizer makes of prompts."""
        return PromptReader(self.tokenizer, self.capabilities.continues, self.pad())

    @property
    def template(self) -> Template:
        """The ids that the tokenizer itself adds to a text, at its beginning and its end."""
        return self.reader.template

    def pad(self) -> int:
        """The id that fills up short rows; masked, so any will do."""
        choices = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.bos_token_id, 0)
        return next(i for i in choices if i is not None)

    def engine(self) -> Engine:
        """What produces the next token; made by `make_engine` when it is first needed, once for each model."""
        if self._engine is None:
            self._engine = self.make_engine()
        return self._engine

    # Generation

    def make_engine(self) -> Engine:
        """An engine for the present model; a family with a loop of its own makes another."""
        if self.converted is not None:
            from aigc_text.generation.engines.ctranslate2_engine import CTranslate2Engine

            return CTranslate2Engine(self.converted, self.own_config)
        from aigc_text.generation.engines.torch_engine import TorchEngine

        return TorchEngine(self.model, self.pad())

    def prompt_tokens(self, prompt: str, options: GenerationOptions) -> list[int]:
        """The ids that the model sees for a prompt; for an empty one what begins a text."""
        return self.reader.ids(prompt)

    def shortened(self, tokens: list[int], most: int, options: GenerationOptions) -> list[int]:
        """A prompt's ids cut on the left to at most `most`, but for those of the tokenizer's template."""
        return cut_left(tokens, most, self.template.before)

    def held_back(self, prompt: str, options: GenerationOptions) -> str:
        """White space at the prompt's end that the text begins with instead, so that it is not shown twice.

        The text must begin with it where tokens are glued to the white space before them; see `token_healing`. Where
        the tokenizer passes over it (words do), the text may begin with it.
        """
        return self.reader.held_back(prompt)

    def stop_strings(self, prompt: str, options: GenerationOptions) -> Sequence[str]:
        """Where a prompt's text ends."""
        return settings.stop_strings(self, options) or ()

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

    def generation_config(self, engine: Engine, options: GenerationOptions) -> GenerationConfig:
        """The effective configuration: the user's options over the model's own over the backend's defaults."""
        config = settings.effective_config(self, engine, options)
        if not self._told_settings:
            self._told_settings = True
            settings.tell_unhonoured(self)
        return config

    # Training

    def objective(self, options: TrainingOptions) -> Objective:
        """What training minimises."""
        return training.objective(self)

    def training_defaults(self) -> dict[str, Any]:
        """The family's values of training options, for those that the user does not set."""
        return {**(self.scratch if self.origin.get("from_scratch") else {}), "sample_by": self.sample_by}

    def encoder(self, options: TrainingOptions) -> Encoder:
        """What makes rows of tokens of examples, as this model reads them."""
        return training.encoder(self, options)

    def block_size(self, options: TrainingOptions) -> int:
        """Tokens of a training row: what the user says, else the model's context, at most 512.

        Raises:
            OptionError: more than the model's context.
        """
        return training.block_size(self, options)

    def pair_tokens(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """The ids of a prompt as generation sees it, and of what is to follow it, the end included."""
        return training.pair_tokens(self, prompt, completion)

    def batches(self, examples: Iterable[Example], options: TrainingOptions) -> Iterable[Any]:
        """Micro-batches for the trainer; with `from_step`, so that a resumed run sees what the unbroken one saw."""
        return training.batches(self, examples, options)

    def announcement(self, batches: Iterable[Any], options: TrainingOptions) -> str:
        """What a training run says before its first update, of its cost for example; empty if there is nothing."""
        return ""

    def validator(self, examples: Iterable[Example], options: TrainingOptions) -> Evaluate:
        """The `evaluate(model)` of a training run: nats per token and bits per byte, as `score` finds them.

        Texts are read in the windows of `score`, of pairs the completions after their prompts. With more data than
        `eval_blocks` asks for, only some windows or pairs are read, evenly spread.
        """
        return training.validator(self, examples, options)

    # Likelihood

    def score_context(self) -> int:
        """Tokens of the windows that `score` and a validation read: the model's context, at most `windows.CONTEXT`.

        Of a model trained here from scratch no more than the rows it was trained on, for what it says of later
        positions is untrained.
        """
        return likelihood.context(self)

    def token_nll(self, ids: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihoods in nats of all tokens but the first of each row, given those before it.

        Args:
            ids: (B, T); short rows are filled up at their end, where it changes nothing before it.

        Returns:
            (B, T - 1).
        """
        return likelihood.token_nll(self.model, ids)
