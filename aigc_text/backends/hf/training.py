"""How a model of transformers is trained: its objective, its batches, and what a validation reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aigc_text.data.prompt_encoding import following
from aigc_text.errors import OptionError
from aigc_text.options.training import TrainingOptions

from . import likelihood

if TYPE_CHECKING:
    from aigc_text.data.encoding import Encoder
    from aigc_text.data.sources import Example
    from aigc_text.training.objective import Objective
    from aigc_text.training.trainer import Evaluate

    from .family import Family

FALLBACK_CONTEXT = 512  # tokens of a training row where neither the user nor the model says how many


def objective(backend: Family) -> Objective:
    """The likelihood of the next token, or the model's own loss where it is no causal model."""
    from aigc_text.training.objective import Likelihood

    # Nothing reads a cache in training, and filling it copies all keys and values.
    return Likelihood(likelihood.without_cache(backend.model), own_loss=backend.auto_class != "AutoModelForCausalLM")


def pair_tokens(backend: Family, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """The ids of a prompt and of what follows it; see `TransformersBackend.pair_tokens`."""
    options = backend.Options()
    white = backend.held_back(prompt, options)
    prompt = prompt[: len(prompt) - len(white)]
    before = backend.prompt_tokens(prompt, options)
    return before, following(backend.tokenizer, before, prompt, white + completion, backend.template)


def encoder(backend: Family, options: TrainingOptions) -> Encoder:
    """What makes rows of tokens of examples."""
    from aigc_text.data.encoding import Encoder

    begin = backend.prompt_tokens("", backend.Options())
    return Encoder(backend.tokenizer, backend.block_size(options), begin, backend.pair_tokens)


def block_size(backend: Family, options: TrainingOptions) -> int:
    """Tokens of a training row; see `TransformersBackend.block_size`."""
    context = backend.engine().context()
    if context is not None and (options.block_size or 0) > context:
        raise OptionError(f"block_size {options.block_size} is more than the model's context of {context} tokens")
    return options.block_size or min(context or FALLBACK_CONTEXT, FALLBACK_CONTEXT)


def batches(backend: Family, examples: Iterable[Example], options: TrainingOptions) -> Iterable[Any]:
    """Micro-batches for the trainer."""
    from aigc_text.data.pipeline import batches_of

    encoder = backend.encoder(options)
    return batches_of(encoder, examples, options, backend.packing, backend.pad(), backend.continuous)


def remember_context(backend: Family, options: TrainingOptions) -> None:
    """Notes in the configuration how long the rows of a training from scratch are."""
    known = getattr(backend.model.config, likelihood.TRAINED_KEY, 0)
    if known or backend.origin.get("from_scratch"):
        setattr(backend.model.config, likelihood.TRAINED_KEY, max(known, backend.block_size(options)))


def validator(backend: Family, examples: Iterable[Example], options: TrainingOptions) -> Evaluate:
    """The `evaluate(model)` of a training run; see `TransformersBackend.validator`."""
    from aigc_text.training.validation import Validation
    from aigc_text.training.validation_rows import validation_rows

    encoder, context = backend.encoder(options), backend.score_context()
    rows = validation_rows(encoder, examples, options, backend.packing, context, backend.template.before)
    return Validation(rows, backend.token_nll, backend.tokenizer, backend.pad(), encoder.notes)
