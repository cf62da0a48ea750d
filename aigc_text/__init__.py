"""Generate text and code with whatever model fits: text in, text out.

>>> from aigc_text import generate
>>> generate("Once upon a time", backend="gpt2", max_new_tokens=40, seed=1)  # doctest: +SKIP
[Completion(prompt='Once upon a time', text=…)]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import from_scratch, generate, load
    from .backend import Backend, Capabilities
    from .errors import UserError
    from .evaluation import evaluate
    from .evaluation_options import EvaluationOptions
    from .options import GenerationOptions, TrainingOptions
    from .registry import list_backends, register_backend
    from .results import Completion, Piece, Progress, Score, TokenScore
    from .run import train
    from .seeds import train_seeds
    from .transformers_backend import TransformersBackend

__version__ = "0.1.0"

_HOME = {
    "Backend": "backend",
    "Capabilities": "backend",
    "Completion": "results",
    "EvaluationOptions": "evaluation_options",
    "GenerationOptions": "options",
    "Piece": "results",
    "Progress": "results",
    "Score": "results",
    "TokenScore": "results",
    "TrainingOptions": "options",
    "TransformersBackend": "transformers_backend",
    "UserError": "errors",
    "evaluate": "evaluation",
    "from_scratch": "api",
    "generate": "api",
    "list_backends": "registry",
    "load": "api",
    "register_backend": "registry",
    "train": "run",
    "train_seeds": "seeds",
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
