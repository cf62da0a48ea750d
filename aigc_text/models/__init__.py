"""The families: read one folder, know one family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .causal_lm import GPT2, Code
    from .gan.backend import GAN
    from .rnn.backend import RNN
    from .transformer import Transformer
    from .vae.backend import VAE

__all__ = ["Code", "GAN", "GPT2", "RNN", "Transformer", "VAE"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "causal_lm": ("Code", "GPT2"),
        "gan.backend": ("GAN",),
        "rnn.backend": ("RNN",),
        "transformer": ("Transformer",),
        "vae.backend": ("VAE",),
    },
)
