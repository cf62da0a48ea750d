"""Model of `gan`: a generator of sentences, and a discriminator that teaches it.

The generator is an autoregressive language model, so its likelihood is exact and all ways to generate are open to it:

    p(x) = prod over t of softmax(o_t)[x_t],        o_t from x_<t by an LSTM or a relational memory

A draw of a word has no gradient. Gumbel-softmax (Jang et al. 2017; Maddison et al. 2017) draws x_t = argmax(o_t + g_t)
with Gumbel noise g_t, and shows the discriminator

    y_t = softmax(beta (o_t + g_t)),

which becomes the word's one-hot vector as the inverse temperature beta grows. As in RelGAN (Nie et al. 2019) the next
step reads the word x_t itself, so gradients reach the generator through each y_t and its hidden states.

That is what makes training quick here: words are drawn step by step without gradients, y_t kept; then they are read
again all at once by the fused kernels, and the gradient of y_t is found from what was kept (`gumbel_softmax`). Value
and gradient are those of the unrolled loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin
from transformers import initialization as init

from aigc_text.errors import OptionError
from aigc_text.models.common import CachedOutput
from aigc_text.models.rnn.model import RecurrentLayers, RecurrentModel, RecurrentState

from .config import GANConfig
from .discriminator import Discriminator, padded
from .gumbel_softmax import Fakes, Shown, gumbel_noise, placed
from .losses import squared_gradient
from .relational_memory import RelationalMemory


@dataclass
class GANOutput(CachedOutput):
    """What the model gives besides.

    Attributes:
        real: (B, R) the discriminator's scores of the batch.
        fake: (B, R) of generated sentences.
        fakes: those, for the generator's phase.
        squared: (B,) squared norms of the discriminator's gradient, where a penalty asks for them.
        nll: mean negative log-likelihood in nats of the batch's tokens, where it was asked for.
    """

    real: torch.Tensor | None = None
    fake: torch.Tensor | None = None
    fakes: Any = None
    squared: torch.Tensor | None = None
    nll: torch.Tensor | None = None


class GANForCausalLM(RecurrentModel, GenerationMixin):
    """Generator and discriminator. Without a phase it is the generator, a causal language model like any other."""

    config_class = GANConfig
    base_model_prefix = "recurrent"

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        c = config
        self.embedding = nn.Embedding(c.vocab_size, c.embedding_size)
        read = c.embedding_size + c.noise_at_every_step * c.noise_size
        if c.cell == "lstm":
            self.recurrent: nn.Module = RecurrentLayers("lstm", read, [c.hidden_size] * c.num_hidden_layers)
            width, states = c.hidden_size, c.hidden_size * c.num_hidden_layers
        else:
            self.recurrent = RelationalMemory(read, c.memory_slots, c.hidden_size, c.num_attention_heads)
            width = states = c.memory_slots * c.hidden_size
        self.first_state = nn.Linear(c.noise_size, states) if c.noise_size else None
        into = c.embedding_size if c.tie_word_embeddings else width
        self.projection = nn.Linear(width, into, bias=False) if into != width else nn.Identity()
        self.output = nn.Linear(into, c.vocab_size)
        self.discriminator = _discriminator(c)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        cache: RecurrentState | None = None,
        labels: torch.Tensor | None = None,
        phase: str | None = None,
        inverse_temperature: float = 1.0,
        straight_through: bool = False,
        length: int = 64,
        penalty: str | None = None,
        fakes: Fakes | None = None,
        with_real: bool = True,
        with_likelihood: bool = False,
        use_cache: bool | None = None,
        past_key_values: RecurrentState | None = None,
        **_: Any,
    ) -> GANOutput:
        """Reads tokens, or is trained in one of its phases.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), or longer by what was read before; 0 where padding stands.
            noise: (B, D) in the first state; by default zeros, and drawn where the likelihood is trained.
            cache: the state to read on from.
            labels: (B, T), shifted inside; -100 counts for nothing. In every phase they say which tokens are a
                sentence's own.
            phase: `likelihood`, with `loss`; `discriminator`, with `real`, `fake`, `fakes` and, if asked for,
                `squared`; `generator`, with `real`, `fake` and, if asked for, `nll`.
            inverse_temperature: beta of Gumbel-softmax.
            straight_through: show the discriminator the words themselves, with the gradient of y (Jang et al. 2017,
                section 2.2).
            length: most words of a generated sentence.
            penalty: `r1` or `gradient`, see `losses`.
            fakes: those of the discriminator's phase of the same step.
            with_real: whether the generator's phase scores the batch too, as relativistic losses need it.
            with_likelihood: for a likelihood term in the generator's phase.
            use_cache: whether the state is wanted.
            past_key_values: the same as `cache`, as older transformers call it.
        """
        if phase is not None:
            if phase == "likelihood":
                nll = self._nll(input_ids, labels)
                return GANOutput(loss=nll, nll=nll)
            if phase == "discriminator":
                return self._judge(input_ids, labels, inverse_temperature, straight_through, length, penalty)
            assert fakes is not None
            kept = (with_real, with_likelihood)
            return self._teach(input_ids, labels, inverse_temperature, straight_through, fakes, *kept)
        mask = attention_mask[:, -input_ids.shape[1] :] if attention_mask is not None else None  # (B, T)
        wanted = self.config.use_cache if use_cache is None else use_cache
        outputs, after = self.read(input_ids, noise, mask, cache or past_key_values, wanted)
        logits = self.logits(outputs)
        loss = None
        if labels is not None:
            from aigc_text.training.losses import next_token_loss

            loss = next_token_loss(logits, labels)
        return GANOutput(loss=loss, logits=logits, cache=after)

    # Generator

    def read(
        self,
        ids: torch.Tensor,
        noise: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        state: RecurrentState | None = None,
        use_cache: bool = False,
        dropout: float = 0.0,
    ) -> tuple[torch.Tensor, RecurrentState | None]:
        """Outputs (B, T, H) after each of the tokens (B, T), and the state if it is wanted."""
        c = self.config
        x = F.dropout(self.embedding(ids), dropout, self.training)  # (B, T, E)
        if c.noise_size:
            z = x.new_zeros(len(ids), c.noise_size) if noise is None else noise.to(x.dtype)
            if c.noise_at_every_step:
                x = torch.cat([x, z[:, None].expand(-1, x.shape[1], -1)], 2)
            state = self._begin(z) if state is None else state
        found: tuple[torch.Tensor, RecurrentState | None] = self.recurrent(x, state, mask, use_cache)
        return found

    def logits(self, outputs: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
        """Scores (…, V) of the next token from outputs (…, H)."""
        scores: torch.Tensor = self.output(self.projection(F.dropout(outputs, dropout, self.training)))
        return scores

    @torch.no_grad()
    def rollout(self, rows: int, length: int, beta: float = 1.0, temperature: float = 1.0) -> Fakes:
        """Draws sentences of at most `length` words from the generator, through torch's random generator.

        Args:
            rows: B.
            length: most words, the end counted.
            beta: inverse temperature of what is shown.
            temperature: divides the scores of words; training has 1.
        """
        device = self.embedding.weight.device
        ends = torch.tensor(_ids(self.config.eos_token_id), device=device)
        noise = self._draw_noise(rows)
        ids = torch.full((rows, length), self._pad, device=device)
        alive = torch.zeros(rows, length, dtype=torch.bool, device=device)
        tokens, state = torch.full((rows,), self.config.bos_token_id or 0, device=device), None
        live, shown = torch.arange(rows, device=device), []
        # On the CPU a step alone is quicker in fp32 than what packs weights for bf16 anew each time.
        with torch.autocast(device.type, enabled=device.type != "cpu" and torch.is_autocast_enabled(device.type)):
            for t in range(length):
                own = noise[live] if noise is not None else None
                outputs, state = self.read(tokens[:, None], own, state=state, use_cache=True)
                scores = self.logits(outputs[:, 0]).float() / temperature  # (b, V)
                scores += gumbel_noise(scores)
                tokens = scores.argmax(1)
                ids[live, t], alive[live, t] = tokens, True
                shown.append(torch.softmax(scores.mul_(beta), 1))
                if len(ends) and device.type == "cpu":  # elsewhere the host would wait for the device
                    keep = (~torch.isin(tokens, ends)).nonzero()[:, 0]
                    if len(keep) < len(live):
                        live, tokens = live[keep], tokens[keep]
                        state.batch_select_indices(keep)  # type: ignore[union-attr]
                    if not len(live):
                        break
        if len(ends) and device.type != "cpu":
            before = torch.isin(ids, ends).cumsum(1) - torch.isin(ids, ends).long()  # (B, L) ends before a word
            alive = before == 0
            ids = torch.where(alive, ids, self._pad)
            shown = [torch.stack(shown)[alive.t()]]
        used = int(alive.sum(1).max())
        return Fakes(ids[:, :used], alive[:, :used], torch.cat(shown), noise)

    def _nll(self, ids: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        from aigc_text.training.losses import mean_nll

        assert labels is not None
        outputs, _ = self.read(ids[:, :-1], self._draw_noise(len(ids)), dropout=self.config.input_dropout)
        return mean_nll(self.logits(outputs, self.config.output_dropout), labels[:, 1:])

    def _draw_noise(self, rows: int) -> torch.Tensor | None:
        size = self.config.noise_size
        return torch.randn(rows, size, device=self.embedding.weight.device) if size else None

    def _begin(self, noise: torch.Tensor) -> RecurrentState:
        assert self.first_state is not None
        found = self.first_state(noise.to(self.first_state.weight.dtype))  # (B, states)
        if self.config.cell == "memory":
            first = self.recurrent.first(found).flatten(1) + found  # type: ignore[operator]
            return RecurrentState([(first[None],)])
        cells = found[None].chunk(self.config.num_hidden_layers, 2)
        return RecurrentState([(cell.tanh().contiguous(), cell.contiguous()) for cell in cells])

    # Discriminator

    def _judge(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor | None,
        beta: float,
        hard: bool,
        length: int,
        penalty: str | None,
    ) -> GANOutput:
        """The discriminator's phase."""
        judge = self.judge()
        made = self.rollout(len(ids), length, beta)
        real_ids, fake_ids = padded([self._sentences(ids, labels), made.ids], self._pad)
        real, fake = judge.embedding(real_ids), judge.embedding(fake_ids)  # (B, L, R S) both
        if not hard:
            fake = placed(made.shown @ judge.weight, made.alive, fake)
        scores = judge(torch.cat([real, fake]))
        found = GANOutput(real=scores[: len(ids)], fake=scores[len(ids) :], fakes=made)
        if penalty is not None:
            metric = judge.weight.t() @ judge.weight  # (R S, R S)
            if penalty == "r1":
                found.squared = squared_gradient(found.real, real, metric)  # type: ignore[arg-type]
            else:
                share = torch.rand(len(ids), 1, 1, device=ids.device)
                between = share * real + (1 - share) * fake  # the embedding of what lies between one-hot vectors
                found.squared = squared_gradient(judge(between), between, metric)
        return found

    def _teach(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor | None,
        beta: float,
        hard: bool,
        made: Fakes,
        with_real: bool,
        with_likelihood: bool,
    ) -> GANOutput:
        """The generator's phase: the discriminator's weights are constants, so it gets no gradient."""
        judge = self.judge()
        constants = {name: p.detach() for name, p in judge.named_parameters()}
        begin = torch.full_like(made.ids[:, :1], self.config.bos_token_id or 0)
        outputs, _ = self.read(torch.cat([begin, made.ids[:, :-1]], 1), made.noise)
        weight = constants["embedding.weight"]
        real_ids, fake_ids = padded([self._sentences(ids, labels), made.ids], self._pad)
        words = F.embedding(fake_ids, weight)
        read = self.projection(outputs).transpose(0, 1)[made.alive.t()]  # (N, H)
        soft = Shown.apply(read, self.output.weight, self.output.bias, made.shown, weight, beta)
        fake = placed(soft, made.alive, words)
        fake = fake + (words - fake).detach() if hard else fake
        seen = torch.cat([F.embedding(real_ids, weight), fake]) if with_real else fake
        found = functional_call(judge, constants, (seen,))
        real = found[: len(ids)] if with_real else None
        nll = self._nll(ids, labels) if with_likelihood else None
        return GANOutput(real=real, fake=found[-len(ids) :], nll=nll)

    def _sentences(self, ids: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """(B, T - 1) the batch's own words with their end, without what begins and fills up a row."""
        return ids[:, 1:] if labels is None else torch.where(labels[:, 1:] != -100, ids[:, 1:], self._pad)

    def judge(self) -> Discriminator:
        """The discriminator.

        Raises:
            OptionError: the model has none.
        """
        if self.discriminator is None:
            raise OptionError(
                "this model was saved without its discriminator, so it can be trained by likelihood only",
                "Set -o likelihood_steps to --max-steps, or begin with another model.",
            )
        return self.discriminator

    @property
    def _pad(self) -> int:
        return next(i for i in (self.config.pad_token_id, *_ids(self.config.eos_token_id), 0) if i is not None)

    def _init_weights(self, module: nn.Module) -> None:
        """The generator's as those of `rnn`, the discriminator's and the memory's within 1 / √(inputs)."""
        own = self.discriminator is not None and any(module is m for m in self.discriminator.modules())
        if isinstance(module, nn.Embedding) and own:
            init.uniform_(module.weight, -0.5, 0.5)
        elif isinstance(module, nn.Linear) and (own or module not in (self.output, self.projection)):
            bound = module.in_features**-0.5
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)
        elif not isinstance(module, nn.LayerNorm):
            super()._init_weights(module)


def _discriminator(c: GANConfig) -> Discriminator | None:
    if c.discriminator == "none":
        return None
    several = c.discriminator == "representations"
    count = c.representations if several else 1
    width = c.discriminator_size // count
    return Discriminator(c.vocab_size, count, width, c.filters, several, c.discriminator_dropout, c.spectral_norm)


def _ids(given: int | list[int] | None) -> list[int]:
    return [] if given is None else [given] if isinstance(given, int) else list(given)


AutoConfig.register("aigc_text_gan", GANConfig)
AutoModelForCausalLM.register(GANConfig, GANForCausalLM)
