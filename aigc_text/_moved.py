"""Modules under the names that the documentation of version 0.1 gave them: they import, with a DeprecationWarning.

To be removed in version 0.3.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "aigc_text.backends.causal_lm": "aigc_text.models.causal_lm",
    "aigc_text.backends.gan": "aigc_text.models.gan.backend",
    "aigc_text.backends.rnn": "aigc_text.models.rnn.backend",
    "aigc_text.backends.transformer": "aigc_text.models.transformer",
    "aigc_text.backends.vae": "aigc_text.models.vae.backend",
    "aigc_text.copies": "aigc_text.memorization.copies",
    "aigc_text.decoding": "aigc_text.generation",
    "aigc_text.metrics.likelihood": "aigc_text.evaluation.model_metrics.likelihood",
    "aigc_text.metrics.mauve": "aigc_text.evaluation.model_metrics.mauve",
    "aigc_text.metrics.pass_at_k": "aigc_text.code_eval.pass_at_k",
    "aigc_text.metrics.reference_perplexity": "aigc_text.evaluation.model_metrics.reference_perplexity",
    "aigc_text.page": "aigc_text.html_report.page",
    "aigc_text.processes": "aigc_text.distributed",
    "aigc_text.sandbox": "aigc_text.code_eval.sandbox",
    "aigc_text.sources": "aigc_text.data.sources",
    "aigc_text.trainer": "aigc_text.training.trainer",
    "aigc_text.without_copies": "aigc_text.memorization.regenerate",
}


class _Finder(MetaPathFinder):
    """Finds the modules that have moved, where nothing else did."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, _Loader(MOVED[name])) if name in MOVED else None


class _Loader(Loader):
    """Fills a module with the names of another, which it loads.

    Args:
        new: the other's name.
    """

    def __init__(self, new: str) -> None:
        self.new = new

    def exec_module(self, module: ModuleType) -> None:
        warnings.warn(f"{module.__name__} is now {self.new}", DeprecationWarning, stacklevel=2)
        loaded = importlib.import_module(self.new)
        vars(module).update({name: value for name, value in vars(loaded).items() if not name.startswith("__")})
        vars(module)["__getattr__"] = lambda name: getattr(loaded, name)


def install() -> None:
    """Makes the old names import, in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
