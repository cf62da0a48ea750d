"""Generate text and code with whatever model fits: text in, text out.

>>> from aigc_text import generate
>>> generate("Once upon a time", backend="gpt2", max_new_tokens=40, seed=1)  # doctest: +SKIP
[Completion(prompt='Once upon a time', text=…)]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text import _moved
from aigc_text._version import __version__ as __version__
from aigc_text.utils.lazy import exports

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

__getattr__, __dir__ = exports(
    __name__,
    {
        "api": ("from_scratch", "generate", "load"),
        "backends.base": ("Backend", "Capabilities"),
        "backends.hf.backend": ("TransformersBackend",),
        "backends.registry": ("list_backends", "register_backend"),
        "errors": ("UserError",),
        "evaluation.evaluation_run": ("evaluate",),
        "evaluation.options": ("EvaluationOptions",),
        "options.generation": ("GenerationOptions",),
        "options.training": ("TrainingOptions",),
        "outputs": ("Completion", "Piece", "Progress", "Score", "TokenScore"),
        "runs.seeds": ("train_seeds",),
        "runs.training_run": ("train",),
    },
)
_moved.install()
