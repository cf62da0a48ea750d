"""`TransformersBackend`: a model and a tokenizer of transformers behind the interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text.generation.decoding import Budget
from aigc_text.hub import lora
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Completion, Piece, Score

from . import generating, likelihood, loading, saving, settings, training
from .family import Family

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedTokenizerBase


class TransformersBackend(Family):
    """Loads, saves, generates with, trains and scores any model of transformers. Families subclass it.

    What they may change is in `Family`, what a method does in the module of this folder that it calls.

    Args:
        model: with `GenerationMixin`.
        tokenizer: any tokenizer of transformers.
    """

    # Loading and saving

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
        engine: str | None = None,
        quantize: str | None = None,
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
            engine: what decodes: `torch`, `ctranslate2`, or `auto` (the default), which is `torch`: only engines that
                give the same text for the same seed are chosen by themselves.
            quantize: `int8`, with `ctranslate2`.

        Raises:
            ModelError: not found, not reachable, damaged, or not of this family.
            OptionError: an unknown dtype, device or argument; a revision of what is not on the hub.
        """
        loading.refuse_unknown(unknown)
        how = loading.LoadOptions(dtype, device, trust_remote_code, config, engine, quantize)
        return loading.load_pretrained(cls, model, revision, how)

    @classmethod
    def from_scratch(cls, tokenizer: PreTrainedTokenizerBase, **config: Any) -> Self:
        """A model of `model_class` with random weights, to be trained.

        Args:
            tokenizer: decides the vocabulary and the end of a text.
            config: fields of its configuration; text is read as the field's type.

        Raises:
            BackendError: the backend has no `model_class`.
            OptionError: a field that the model's configuration does not have, or sizes that do not fit each other.
        """
        return cls(loading.from_scratch(cls, tokenizer, config), tokenizer)

    def save_pretrained(self, path: str | Path, *, merge: bool = False) -> None:
        """Writes the model as a folder that `load` reads back.

        Args:
            path: a new folder.
            merge: add a LoRA adapter to the weights first, here and in the folder; else it is saved by itself.

        Raises:
            ModelError: the folder exists.
            BackendError: the model is one for another engine than torch.
        """
        saving.save(self, Path(path), merge)

    def write(self, folder: Path) -> None:
        """Writes weights (or the adapter alone), configuration and tokenizer into a folder."""
        saving.write(self, folder)

    def attach_adapter(self, options: TrainingOptions) -> None:
        """Freezes the model and adds an adapter to be trained; see `lora.attach`."""
        base = lora.Base(self.source, self.revision, self.is_from_hub)
        task = "CAUSAL_LM" if self.auto_class == "AutoModelForCausalLM" else None
        self.adapter = lora.attach(self.model, self.adapter, options, base, task)

    def merge_adapter(self) -> None:
        """Adds the adapter, if there is one, to the weights: the model is a plain one again."""
        if self.adapter is not None:
            self.model, self.adapter = lora.merge(self.adapter), None

    # Generation

    def effective(self, options: GenerationOptions) -> dict[str, Any]:
        return settings.effective_options(self, options)

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
        options = self.resolve(options, overrides)
        return generating.completions(generating.ordered(self, prompts, options, Budget(batch_size, batch_tokens)))

    def pieces(
        self,
        prompts: Iterable[str],
        options: GenerationOptions | None = None,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        **overrides: Any,
    ) -> Iterator[Piece]:
        options = self.resolve(options, overrides)
        return generating.ordered(self, prompts, options, Budget(batch_size, batch_tokens), streamed=True)

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
        places = (place for place in generating.places(prompts, options) if wanted(*place[:2]))
        return generating.completions(self.decode(places, options, Budget(batch_size, batch_tokens)))

    def decode(
        self,
        places: Iterable[generating.Place],
        options: GenerationOptions,
        budget: Budget | None = None,
        streamed: bool = False,
    ) -> Iterator[Piece]:
        """Yields pieces of completions named by (prompt_index, index, prompt), in whatever order they come.

        A completion's text follows from its place and the seed, so a share of a larger job can be done alone. The model
        computes in evaluation mode, and is in the mode that it was in between pieces and afterwards.
        """
        return generating.decode(self, places, options, budget or Budget(), streamed)

    def check_requests(self, prompts: Iterable[str], options: GenerationOptions) -> None:
        """Refuses, before anything is generated, what `generate` would refuse once it came to it.

        Raises:
            OptionError: options that contradict each other, or a prompt that the context has no room for.
            BackendError: a prompt for a model that takes none.
        """
        generating.check(self, prompts, options)

    # Training

    def remember_context(self, options: TrainingOptions) -> None:
        """Notes in the configuration of a model made from scratch how long the rows are that it is trained on."""
        training.remember_context(self, options)

    # Likelihood

    def score(self, texts: Iterable[str], *, batch_size: int = 16, context: int | None = None) -> Iterator[Score]:
        """Yields the exact likelihood of each text, in order, in sliding windows that move by half the context.

        Each text begins with the tokens of the empty prompt, which are not scored; its end is, if the tokenizer has
        one.

        Args:
            texts: plain strings; an empty one has its end only.
            batch_size: most windows at once; it changes the figures by rounding only.
            context: tokens of a window; by default `score_context`.

        Raises:
            BackendError: the family has no likelihood.
            OptionError: a context that the model does not have.
            DataError: a text with half of a character.
        """
        return likelihood.score(self, texts, batch_size, context)
