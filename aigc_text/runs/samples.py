"""Texts that a run generates at each validation."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.errors import GenerationError, OptionError
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions

from .run_dir import RunFolder

if TYPE_CHECKING:
    from aigc_text.backends.hf.backend import TransformersBackend


def _sampled(backend: TransformersBackend, options: TrainingOptions, step: int, folder: RunFolder) -> str:
    """Adds samples to the run's; says why there are none, since a training outlives that."""
    try:
        sample(backend, options, step, folder.samples if distributed.is_main() else Path(os.devnull))
    except GenerationError as error:
        if distributed.world() > 1:  # the others may be within the model, and wait
            raise
        return f"no samples: {error.message}"
    return ""


def _check_samples(backend: TransformersBackend, options: TrainingOptions) -> None:
    """Refuses before the training what could not be sampled in it."""
    try:
        backend.check_requests(*_requests(backend, options))
    except OptionError as error:  # its cure is an option of generation
        cure = "Shorten it, or leave it out: --sample-prompts takes other ones, --samples 0 makes none."
        raise OptionError(f"--sample-prompts: {error.message}", cure) from None


def _requests(backend: TransformersBackend, options: TrainingOptions) -> tuple[Sequence[str], GenerationOptions]:
    """What samples are generated from, and how: with the same seed each time, so that they compare."""
    values: dict[str, Any] = {"num_return_sequences": options.samples, "seed": options.seed, "do_sample": True}
    if options.prompt_column and "chat" in backend.Options.fields() and backend.tokenizer.chat_template:
        values["chat"] = True  # as it was trained
    generation: GenerationOptions = backend.Options.parse(values)
    return ("",) if options.sample_prompts is None else options.sample_prompts, generation


def sample(backend: TransformersBackend, options: TrainingOptions, step: int, path: Path) -> None:
    """Adds texts of the model as it is at this step to a JSONL file.

    All processes call it: each may hold a part of the model only.
    """
    found = list(backend.generate(*_requests(backend, options)))
    with path.open("a", encoding="utf-8") as stream:
        for c in found:
            stream.write(json.dumps({"step": step, **c.to_record()}, ensure_ascii=False) + "\n")
