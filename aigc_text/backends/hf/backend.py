"""`TransformersBackend`: what all backends with a transformers model share. Here is how they are trained and scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_text.backends.base import Capabilities, no_likelihood
from aigc_text.data.prompt_encoding import following
from aigc_text.errors import BackendError, OptionError
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Score
from aigc_text.utils.isolation import in_evaluation

from .generating import GeneratingBackend
from .loading import fresh

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Self

    from aigc_text.data.encoding import Encoder
    from aigc_text.data.sources import Example
    from aigc_text.training.objective import Objective
    from aigc_text.training.trainer import Evaluate

FALLBACK_CONTEXT = 512  # tokens of a training row where neither the user nor the model says how many
TRAINED_KEY = "aigc_text_trained_context"  # in config.json: tokens of the longest rows of its training from scratch


class TransformersBackend(GeneratingBackend):
    """A model and a tokenizer of transformers behind the interface. Families subclass it.

    `PretrainedBackend` loads and saves them, `GeneratingBackend` generates with them.

    Args:
        model: with `GenerationMixin`.
        tokenizer: any tokenizer of transformers.
    """

    capabilities = Capabilities(streaming=True, training=True, saving=True, likelihood="exact")
    #: The options of its training; a family that needs more subclasses `TrainingOptions`.
    Training: ClassVar[type[TrainingOptions]] = TrainingOptions
    #: Whether training packs texts into full rows where the user does not say.
    packing: ClassVar[bool] = True
    #: Training options of a model from scratch, where they differ from those of fine-tuning; see docs/finetuning.md.
    scratch: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3}
    #: Whether the model carries a state along, and so reads packed texts as one, from batch to batch.
    continuous: ClassVar[bool] = False

    # What a family may change

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
        if cls.model_class is None:
            raise BackendError(
                f"backend {cls.__name__!r} cannot start from scratch", "Start from a model with --model."
            )
        kind: Any = cls.model_class.config_class
        model = fresh(cls.model_class, tokenizer, config, f"-o sets the fields of {kind.__name__}.")
        if context := getattr(model.config, "max_position_embeddings", None):
            tokenizer.model_max_length = context
        return cls(model, tokenizer)

    def objective(self, options: TrainingOptions) -> Objective:
        """What training minimises."""
        from aigc_text.training.objective import Likelihood

        # Nothing reads a cache in training, and filling it copies all keys and values.
        inputs = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        return Likelihood(inputs, own_loss=self.auto_class != "AutoModelForCausalLM")

    def pair_tokens(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """The ids of a prompt as generation sees it, and of what is to follow it, the end included."""
        options = self.Options()
        white = self.held_back(prompt, options)
        prompt = prompt[: len(prompt) - len(white)]
        before = self.prompt_tokens(prompt, options)
        return before, following(self.tokenizer, before, prompt, white + completion, self.template)

    def batches(self, examples: Iterable[Example], options: TrainingOptions) -> Iterable[Any]:
        """Micro-batches for the trainer; with `from_step`, so that a resumed run sees what the unbroken one saw."""
        from aigc_text.data.pipeline import batches_of

        return batches_of(self.encoder(options), examples, options, self.packing, self.pad(), self.continuous)

    def announcement(self, batches: Iterable[Any], options: TrainingOptions) -> str:
        """What a training run says before its first update, of its cost for example; empty if there is nothing."""
        return ""

    def validator(self, examples: Iterable[Example], options: TrainingOptions) -> Evaluate:
        """The `evaluate(model)` of a training run: nats per token and bits per byte, as `score` finds them.

        Texts are read in the windows of `score`, of pairs the completions after their prompts. With more data than
        `eval_blocks` asks for, only some windows or pairs are read, evenly spread.
        """
        from aigc_text.scoring.windows import kept_in_front
        from aigc_text.training.validation import Validation
        from aigc_text.training.validation_rows import validation_rows

        encoder = self.encoder(options)
        context = self.score_context()
        kept = kept_in_front(self, context)
        rows = validation_rows(encoder, examples, options, self.packing, context, kept)
        return Validation(rows, self, encoder.notes)

    def score_context(self) -> int:
        """Tokens of the windows that `score` and a validation read: the model's context, at most `scoring.CONTEXT`.

        Of a model trained here from scratch no more than the rows it was trained on, for what it says of later
        positions is untrained.
        """
        from aigc_text.scoring.windows import CONTEXT

        trained = getattr(self.model.config, TRAINED_KEY, None)
        return min(self.engine().context() or CONTEXT, trained or CONTEXT, CONTEXT)

    def token_nll(self, ids: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihoods in nats of all tokens but the first of each row, given those before it.

        Args:
            ids: (B, T); short rows are filled up at their end, where it changes nothing before it.

        Returns:
            (B, T - 1).
        """
        from aigc_text.training.validation import row_nll

        cache = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        return row_nll(self.model, ids, input_ids=ids, attention_mask=ids.new_ones(ids.shape), **cache)

    # What is the same for all

    def encoder(self, options: TrainingOptions) -> Encoder:
        """What makes rows of tokens of examples, as this model reads them."""
        from aigc_text.data.encoding import Encoder

        begin = self.prompt_tokens("", self.Options())
        return Encoder(self.tokenizer, self.block_size(options), begin, self.pair_tokens)

    def block_size(self, options: TrainingOptions) -> int:
        """Tokens of a training row: what the user says, else the model's context, at most `FALLBACK_CONTEXT`.

        Raises:
            OptionError: more than the model's context.
        """
        context = self.engine().context()
        if context is not None and (options.block_size or 0) > context:
            raise OptionError(f"block_size {options.block_size} is more than the model's context of {context} tokens")
        return options.block_size or min(context or FALLBACK_CONTEXT, FALLBACK_CONTEXT)

    def training_defaults(self) -> dict[str, Any]:
        """The family's values of training options, for those that the user does not set."""
        return {**(self.scratch if self.origin.get("from_scratch") else {}), "sample_by": self.sample_by}

    def remember_context(self, options: TrainingOptions) -> None:
        """Notes in the configuration of a model made from scratch how long the rows are that it is trained on."""
        known = getattr(self.model.config, TRAINED_KEY, 0)
        if known or self.origin.get("from_scratch"):
            setattr(self.model.config, TRAINED_KEY, max(known, self.block_size(options)))

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
        if self.converted is not None:
            raise BackendError("the engine ctranslate2 does not score texts", "Load the model with engine='torch'.")
        if not self.capabilities.likelihood:
            raise no_likelihood(self.name)
        from aigc_text.scoring.windows import scores

        return in_evaluation(self.model, scores(self, texts, batch_size=batch_size, context=context))
