"""Configuration of `gan`."""

from __future__ import annotations

from typing import Any

from aigc_text.models.common import OwnConfig

CELLS, DISCRIMINATORS = ("lstm", "memory"), ("representations", "cnn", "none")


class GANConfig(OwnConfig):
    """Sizes of a text GAN; `-o name=value` on the command line."""

    model_type = "aigc_text_gan"
    counts = (
        "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "memory_slots", "filters",
        "num_attention_heads", "representations", "discriminator_size",
    )  # fmt: skip
    shares = ("input_dropout", "output_dropout", "discriminator_dropout")

    vocab_size: int = 10_000
    cell: str = "lstm"  # of the generator, or memory: relational memory, as in RelGAN
    embedding_size: int = 128
    hidden_size: int = 512  # of a layer, or of a slot of the memory
    num_hidden_layers: int = 1  # of LSTMs
    memory_slots: int = 1
    num_attention_heads: int = 2  # of the memory
    # Noise in the first state. Its likelihood is then an estimate only; a draw of words is random without it.
    noise_size: int = 0
    noise_at_every_step: bool = False  # the same noise is read beside every word
    input_dropout: float = 0.0  # of embeddings and outputs, where the likelihood is trained
    output_dropout: float = 0.0
    discriminator: str = "representations"  # as in RelGAN; cnn: one embedding, no highway; none: left behind
    representations: int = 64
    discriminator_size: int = 64  # of a word in all representations together
    filters: int = 300  # of each width
    discriminator_dropout: float = 0.25
    spectral_norm: bool = False

    def __post_init__(self, **more: Any) -> None:
        super().__post_init__(**more)
        for name, allowed in (("cell", CELLS), ("discriminator", DISCRIMINATORS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}, allowed are {', '.join(allowed)}")
        if not isinstance(self.noise_size, int) or self.noise_size < 0:
            raise ValueError(f"noise_size cannot be {self.noise_size!r}, allowed are whole numbers from 0")
        if self.noise_at_every_step and not self.noise_size:
            raise ValueError("noise_at_every_step needs a noise_size above 0")
        if self.discriminator == "representations" and self.discriminator_size % self.representations:
            raise ValueError(
                f"discriminator_size {self.discriminator_size} cannot be divided among {self.representations} "
                "representations"
            )
        if self.cell == "memory" and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be divided among {self.num_attention_heads} attention heads"
            )
