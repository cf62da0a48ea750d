"""`gan`: a Gumbel-softmax text GAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .backend import GAN
    from .config import GANConfig
    from .model import GANForCausalLM
    from .objective import GANTraining

__all__ = ["GAN", "GANConfig", "GANForCausalLM", "GANTraining"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "backend": ("GAN",),
        "config": ("GANConfig",),
        "model": ("GANForCausalLM",),
        "objective": ("GANTraining",),
    },
)
