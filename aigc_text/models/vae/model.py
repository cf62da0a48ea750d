"""Configuration and model of `vae`: a sentence to a latent vector and back.

The variational autoencoder of Kingma and Welling 2014, for sentences as Bowman et al. 2016 have it.

An encoder reads a sentence x and gives a normal distribution over a vector z, a decoder writes a sentence from z:

    q(z | x) = N(mu(x), diag sigma(x)²)        p(x | z) = prod over t of p(x_t | x_<t, z)        p(z) = N(0, I)

The loss is the negative evidence lower bound of a sentence, which is at least -log p(x):

    E_q[-log p(x | z)] + KL(q(z | x) || p(z)),        KL = 1/2 sum (mu² + sigma² - log sigma² - 1)

z is drawn as mu + sigma * epsilon with epsilon from N(0, I), so that gradients reach mu and sigma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin

from aigc_text.models.common import CachedOutput, OwnConfig
from aigc_text.models.rnn.model import RecurrentLayers, RecurrentModel, RecurrentState, full_precision

# Configuration


class VAEConfig(OwnConfig):
    """Sizes and dropout of a sequence VAE; `-o name=value` on the command line."""

    model_type = "aigc_text_vae"
    counts = ("vocab_size", "embedding_size", "encoder_size", "hidden_size", "num_hidden_layers", "latent_size")
    shares = ("input_dropout", "output_dropout", "batch_norm_scale")

    vocab_size: int = 10_000
    embedding_size: int = 256
    encoder_size: int = 256  # of each direction
    hidden_size: int = 256  # of each layer of the decoder
    num_hidden_layers: int = 1  # of the decoder
    latent_size: int = 32
    latent_at_start: bool = True  # z makes the decoder's first state
    latent_at_every_step: bool = True  # z is read beside every token
    tie_word_embeddings: bool = True  # the output layer's weights are those of the decoder's embedding
    share_embedding: bool = False  # encoder and decoder have one embedding, for small models
    # BN-VAE (Zhu et al. 2020): batch norm of the posterior means with this fixed scale gamma, .3 to .7; 0 is without.
    batch_norm_scale: float = 0.0
    input_dropout: float = 0.0  # of the decoder's embeddings
    output_dropout: float = 0.0  # of the decoder's outputs

    def __post_init__(self, **more: Any) -> None:
        super().__post_init__(**more)
        if not (self.latent_at_start or self.latent_at_every_step):
            raise ValueError("latent_at_start or latent_at_every_step must be true, or the decoder never sees z")


# Model


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, sigma²) || N(0, 1)) of each unit in nats: (mu² + sigma² - log sigma² - 1) / 2.

    Kingma and Welling 2014, appendix B, where the same stands with the opposite sign.

    Args:
        mean: mu, of any shape.
        log_variance: log sigma², of the same.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


class MeanNorm(nn.Module):
    """Batch norm of posterior means with a fixed scale and a learned shift (BN-VAE, Zhu et al. 2020, section 4).

    Over a batch each unit's mean has variance gamma², so the KL of a sentence is on average at least
    D gamma² / 2 nats (their eq. 7): it cannot vanish. Outside of training, running figures stand for the batch's.

    Args:
        size: D.
        scale: gamma.
    """

    # Added to the variance. With the usual 1e-5 an encoder whose means vary by less than .003 is hardly scaled up, and
    # the KL drives it there in a hundred updates.
    SMALLEST = 1e-10
    running_mean: torch.Tensor
    running_variance: torch.Tensor

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_variance", torch.ones(size))

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        """(B, D) to the same."""
        learning = self.training and len(mean) > 1  # one row has no variance
        weight = torch.full_like(self.shift, self.scale)
        figures = (self.running_mean, self.running_variance)
        return F.batch_norm(mean, *figures, weight, self.shift, learning, eps=self.SMALLEST)


class Encoder(nn.Module):
    """A bidirectional LSTM over a sentence; its last states become mean and log variance of the posterior.

    Args:
        config: sizes.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        c = config
        self.embedding = None if c.share_embedding else nn.Embedding(c.vocab_size, c.embedding_size)
        self.ahead = nn.LSTM(c.embedding_size, c.encoder_size, batch_first=True)
        self.back = nn.LSTM(c.embedding_size, c.encoder_size, batch_first=True)
        self.mean = nn.Linear(2 * c.encoder_size, c.latent_size)
        self.log_variance = nn.Linear(2 * c.encoder_size, c.latent_size)
        self.norm = MeanNorm(c.latent_size, c.batch_norm_scale) if c.batch_norm_scale else nn.Identity()

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None, shared: nn.Embedding
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance, (B, D) both, of sentences (B, T) that are filled up on the right.

        Args:
            ids: (B, T).
            mask: (B, T), 0 where a row is filled up.
            shared: the decoder's embedding, for an encoder without one.
        """
        embedding = self.embedding or shared
        # Two LSTMs over rows that begin at 0 run in fused kernels; a bidirectional one over uneven rows does not.
        last = mask.sum(1) - 1 if mask is not None else ids.new_full((len(ids),), ids.shape[1] - 1)  # (B,)
        turned = (last[:, None] - torch.arange(ids.shape[1], device=ids.device)).clamp(min=0)  # (B, T)
        rows = torch.arange(len(ids), device=ids.device)
        with full_precision(embedding(ids), embedding(ids.gather(1, turned))) as (x, y):
            ahead, back = self.ahead(x)[0][rows, last], self.back(y)[0][rows, last]  # (B, H) both
        with torch.autocast(ids.device.type, enabled=False):  # bf16 has too few digits for a KL
            read = torch.cat([ahead, back], 1).to(self.mean.weight.dtype)
            return self.norm(self.mean(read)), self.log_variance(read)


@dataclass
class VAEOutput(CachedOutput):
    """What the model gives.

    Attributes:
        loss: the negative ELBO of a sentence in nats, the mean over the batch, where there are labels.
        reconstruction: its part -log p(x | z), summed over the tokens of a sentence; the mean over the batch.
        kl: (B, D) the KL of each unit of each sentence.
        logits: (B, T, V) scores of the next token, where there are no labels.
        cache: the decoder's state after the last step, where it was asked for.
    """

    reconstruction: torch.Tensor | None = None
    kl: torch.Tensor | None = None


class VAEForCausalLM(RecurrentModel, GenerationMixin):
    """Encoder, latent vector, and an LSTM decoder that generates like any causal language model."""

    config_class = VAEConfig
    base_model_prefix = "decoder"

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        c = config
        self.embedding = nn.Embedding(c.vocab_size, c.embedding_size)
        self.encoder = Encoder(c)
        layers = [c.hidden_size] * c.num_hidden_layers
        self.decoder = RecurrentLayers("lstm", c.embedding_size + c.latent_at_every_step * c.latent_size, layers)
        self.first_state = nn.Linear(c.latent_size, sum(layers)) if c.latent_at_start else None
        width = c.embedding_size if c.tie_word_embeddings else c.hidden_size
        self.projection = nn.Linear(c.hidden_size, width, bias=False) if width != c.hidden_size else nn.Identity()
        self.output = nn.Linear(width, c.vocab_size)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        latent: torch.Tensor | None = None,
        cache: RecurrentState | None = None,
        labels: torch.Tensor | None = None,
        word_dropout: float = 0.0,
        use_cache: bool | None = None,
        past_key_values: RecurrentState | None = None,
        **_: Any,
    ) -> VAEOutput:
        """With labels the losses of whole sentences, without them the next token's scores.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), or longer by what was read before; 0 where padding stands.
            latent: (B, D) to decode from; by default a draw from the posterior of sentences with labels, which stand
                on the left, and the prior's mean, zeros, for anything else.
            cache: the decoder's state to read on from.
            labels: (B, T), shifted inside; -100 counts for nothing.
            word_dropout: share of the decoder's input tokens that it does not see (Bowman et al. 2016, section 3.1).
            use_cache: whether the state is wanted.
            past_key_values: the same as `cache`, as older transformers call it.
        """
        if labels is None:
            mask = attention_mask[:, -input_ids.shape[1] :] if attention_mask is not None else None  # (B, T)
            wanted = self.config.use_cache if use_cache is None else use_cache
            z = self.embedding.weight.new_zeros(len(input_ids), self.config.latent_size) if latent is None else latent
            logits, after = self.decode(input_ids, z, mask, cache or past_key_values, wanted)
            return VAEOutput(logits=logits, cache=after)
        mean, log_variance = self.encode(input_ids, attention_mask)  # (B, D)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if latent is None else latent
        # Padding is on the right, after all that counts, so the decoder needs no mask.
        logits = self.decode(input_ids[:, :-1], z, word_dropout=word_dropout)[0]
        from aigc_text.training.losses import mean_nll

        targets = labels[:, 1:]
        reconstruction = mean_nll(logits, targets) * (targets != -100).sum() / len(targets)
        kl = kl_divergence(mean, log_variance)  # (B, D)
        return VAEOutput(loss=reconstruction + kl.sum(1).mean(), reconstruction=reconstruction, kl=kl)

    def encode(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance (B, D) of the posterior of sentences (B, T) that are filled up on the right."""
        found: tuple[torch.Tensor, torch.Tensor] = self.encoder(ids, mask, self.embedding)
        return found

    def decode(
        self,
        ids: torch.Tensor,
        z: torch.Tensor,
        mask: torch.Tensor | None = None,
        state: RecurrentState | None = None,
        use_cache: bool = False,
        word_dropout: float = 0.0,
    ) -> tuple[torch.Tensor, RecurrentState | None]:
        """Logits (B, T, V) after each of the tokens (B, T) under z (B, D), and the state if it is wanted."""
        outputs, after = self.read(ids, z, mask, state, use_cache, word_dropout)
        return self.logits(outputs), after

    def read(
        self,
        ids: torch.Tensor,
        z: torch.Tensor,
        mask: torch.Tensor | None = None,
        state: RecurrentState | None = None,
        use_cache: bool = False,
        word_dropout: float = 0.0,
    ) -> tuple[torch.Tensor, RecurrentState | None]:
        """The decoder's outputs (B, T, H), from which `logits` follow; see `decode`."""
        c = self.config
        x = self.embedding(ids)  # (B, T, E)
        if word_dropout:
            # Zeros stand for Bowman's <unk>, which not every vocabulary has.
            x = x * (torch.rand(ids.shape, device=ids.device) >= word_dropout)[..., None]
        x = F.dropout(x, c.input_dropout, self.training)
        if c.latent_at_every_step:
            x = torch.cat([x, z.to(x.dtype)[:, None].expand(-1, x.shape[1], -1)], 2)  # (B, T, E + D)
        found: tuple[torch.Tensor, RecurrentState | None] = self.decoder(x, state or self._begin(z), mask, use_cache)
        return found

    def logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Scores (…, V) of the next token from the decoder's outputs (…, H)."""
        dropped = F.dropout(outputs, self.config.output_dropout, self.training)
        scores: torch.Tensor = self.output(self.projection(dropped))
        return scores

    def _begin(self, z: torch.Tensor) -> RecurrentState | None:
        """The decoder's state before the first token: c linear in z and h = tanh(c), as He et al. 2019 have it."""
        if self.first_state is None:
            return None
        cells = self.first_state(z.to(self.first_state.weight.dtype))[None].chunk(self.config.num_hidden_layers, 2)
        return RecurrentState([(cell.tanh().contiguous(), cell.contiguous()) for cell in cells])


AutoConfig.register("aigc_text_vae", VAEConfig)
AutoModelForCausalLM.register(VAEConfig, VAEForCausalLM)
