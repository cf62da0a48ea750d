"""Generate text and code with whatever model fits: text in, text out.

>>> from aigc_text import generate
>>> generate("Once upon a time", backend="gpt2", max_new_tokens=40, seed=1)  # doctest: +SKIP
[Completion(prompt='Once upon a time', text=…)]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aigc_text._version import __version__ as __version__

if TYPE_CHECKING:
    from aigc_text.api import from_scratch, generate, load
    from aigc_text.backends.base import Backend, Capabilities
    from aigc_text.backends.hf.backend import TransformersBackend
    from aigc_text.backends.registry import list_backends, register_backend
    from aigc_text.errors import UserError
    from aigc_text.evaluation.evaluation_run import evaluate
    from aigc_text.evaluation.options import EvaluationOptions
    from aigc_text.options.generation import GenerationOptions
    from aigc_text.options.training import TrainingOptions
    from aigc_text.outputs import Completion, Piece, Progress, Score, TokenScore
    from aigc_text.runs.seeds import train_seeds
    from aigc_text.runs.training_run import train


_HOME = {
    "Backend": "backends.base",
    "Capabilities": "backends.base",
    "Completion": "outputs",
    "EvaluationOptions": "evaluation.options",
    "GenerationOptions": "options.training",
    "Piece": "outputs",
    "Progress": "outputs",
    "Score": "outputs",
    "TokenScore": "outputs",
    "TrainingOptions": "options.training",
    "TransformersBackend": "backends.hf.backend",
    "UserError": "errors",
    "evaluate": "evaluation.evaluation_run",
    "from_scratch": "api",
    "generate": "api",
    "list_backends": "backends.registry",
    "load": "api",
    "register_backend": "backends.registry",
    "train": "runs.training_run",
    "train_seeds": "runs.seeds",
}

__all__ = [
    "Backend",
    "Capabilities",
    "Completion",
    "EvaluationOptions",
    "GenerationOptions",
    "Piece",
    "Progress",
    "Score",
    "TokenScore",
    "TrainingOptions",
    "TransformersBackend",
    "UserError",
    "evaluate",
    "from_scratch",
    "generate",
    "list_backends",
    "load",
    "register_backend",
    "train",
    "train_seeds",
]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that `import aigc_text` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
