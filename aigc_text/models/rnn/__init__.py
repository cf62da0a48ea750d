"""`rnn`: recurrent language models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .backend import RNN
    from .model import RNNConfig, RNNForCausalLM
    from .objective import RNNTraining

__all__ = ["RNN", "RNNConfig", "RNNForCausalLM", "RNNTraining"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "backend": ("RNN",),
        "model": ("RNNConfig", "RNNForCausalLM"),
        "objective": ("RNNTraining",),
    },
)
