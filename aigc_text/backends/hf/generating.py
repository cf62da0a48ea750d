"""Prompts to pieces of text: requests are built window by window, and an engine decodes each window."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from aigc_text.errors import ModelError, UserError, one_line, out_of_memory
from aigc_text.generation import decoding, model_settings
from aigc_text.generation.decoding import Budget
from aigc_text.hub import tokenizer_checks
from aigc_text.options.generation import GenerationOptions, drawn_seed
from aigc_text.outputs import Completion, Piece
from aigc_text.utils import isolation

from . import settings
from .prompt_requests import RequestBuilder

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from .backend import TransformersBackend

WRONG = "Its config.json does not go with its weights; download or save the model again."

#: A completion's place and its prompt: (prompt_index, index, prompt).
Place = tuple[int, int, str]


def places(prompts: Iterable[str], options: GenerationOptions) -> Iterator[Place]:
    """The places of all completions that are asked for, in order."""
    count = options.num_return_sequences or 1
    return ((i, j, prompt) for i, prompt in enumerate(prompts) for j in range(count))


def ordered(
    backend: TransformersBackend,
    prompts: Iterable[str],
    options: GenerationOptions,
    budget: Budget,
    streamed: bool = False,
) -> Iterator[Piece]:
    """The pieces of all completions, one text after the other."""
    pieces = backend.decode(places(prompts, options), options, budget, streamed)
    return decoding.in_order(pieces, options.num_return_sequences or 1)


def completions(pieces: Iterable[Piece]) -> Iterator[Completion]:
    """What is finished among pieces."""
    return (piece.completion for piece in pieces if piece.completion is not None)


def check(backend: TransformersBackend, prompts: Iterable[str], options: GenerationOptions) -> None:
    """Builds a request for each prompt, which refuses what cannot be generated; see `check_requests`."""
    engine = backend.engine()
    builder = RequestBuilder(backend, engine, backend.generation_config(engine, options), options, None)
    for n, prompt in enumerate(prompts):
        builder.build((n, 0, prompt))


def decode(
    backend: TransformersBackend, places: Iterable[Place], options: GenerationOptions, budget: Budget, streamed: bool
) -> Iterator[Piece]:
    """The pieces of completions, in whatever order they come; see `TransformersBackend.decode`."""
    pieces = _decode(backend, places, options, budget, streamed)
    if backend.converted is not None:
        return isolation.closed_at_exit(pieces)
    return isolation.in_evaluation(backend.model, pieces)


def _decode(
    backend: TransformersBackend, places: Iterable[Place], options: GenerationOptions, budget: Budget, streamed: bool
) -> Generator[Piece, None, None]:
    engine = backend.engine().for_request()
    config = backend.generation_config(engine, options)
    seed = options.seed if options.seed is not None else drawn_seed()
    how = decoding.Decoding(
        config=config,
        seed=seed if backend.draws(config, options) else None,
        equal_lengths=engine.seeded and _needs_equal_lengths(backend, config),
        exact=engine.seeded and _is_exact(backend),
        continues=engine.prompt_counts() and backend.capabilities.continues,
        streamed=streamed,
    )
    builder = RequestBuilder(backend, engine, config, options, how.seed)
    places = iter(places)
    while requests := [builder.build(place) for place in islice(places, decoding.WINDOW)]:
        try:
            yield from decoding.decode(engine, backend.tokenizer, requests, how, budget)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            if (failed := _explained(backend, error)) is None:
                raise
            raise failed from error


def _explained(backend: TransformersBackend, error: Exception) -> ModelError | None:
    """The error of a model that cannot be run at all, or not with what its own generation config asks for."""
    if (cause := _fault(backend)) is not None:
        return ModelError(f"the model {backend.source!r} fails when it is run: {cause}", WRONG)
    if not (asked := settings.own_wishes(backend)):
        return None
    what = f"the model {backend.source!r} fails with what its generation_config.json asks for ({asked[:100]})"
    return ModelError(f"{what}: {tokenizer_checks.first_sentence(error)}", "Correct it there, or take it out.")


def _fault(backend: TransformersBackend) -> str | None:
    """The error with which a causal model of transformers answers to a single token, if it does."""
    import torch

    if backend.converted is not None:
        return None
    own = type(backend.model).__module__.startswith("aigc_text.")  # ours take latents and states besides
    if own or backend.auto_class != "AutoModelForCausalLM":
        return None
    try:
        with torch.no_grad():
            backend.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=backend.model.device))
    except Exception as error:
        return None if out_of_memory(error) else f"{type(error).__name__}: {one_line(str(error))[:150]}"
    return None


def _is_exact(backend: TransformersBackend) -> bool:
    """fp32 on the CPU is tested to be the same in every batch, bf16 there in batches of one length."""
    return backend.model.device.type == "cpu" and backend.precision in ("float32", "bfloat16")


def _needs_equal_lengths(backend: TransformersBackend, config: GenerationConfig) -> bool:
    """Padding changes bf16 sums, and processors that look back take it for history."""
    return backend.precision != "float32" or model_settings.looks_back(config)
