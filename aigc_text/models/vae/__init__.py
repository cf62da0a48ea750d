"""`vae`: a sequence VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .backend import VAE, VAEOptions
    from .model import VAEConfig, VAEForCausalLM
    from .objective import VAETraining

__all__ = ["VAE", "VAEConfig", "VAEForCausalLM", "VAEOptions", "VAETraining"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "backend": ("VAE", "VAEOptions"),
        "model": ("VAEConfig", "VAEForCausalLM"),
        "objective": ("VAETraining",),
    },
)
