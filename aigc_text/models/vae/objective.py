"""What a VAE minimises, and the remedies against posterior collapse.

Collapse: a strong decoder learns to ignore z, the posterior becomes the prior, and the KL is 0 (Bowman et al. 2016).
Every remedy here is an option; `docs/vae.md` says when to use which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from aigc_text.errors import OptionError
from aigc_text.hub.transformers_compat import draw_again
from aigc_text.options.base import option
from aigc_text.options.training import TrainingOptions
from aigc_text.training.objective import Objective, Step, Verdict


@dataclass(frozen=True, kw_only=True)
class VAETraining(TrainingOptions):
    """Training options of the VAE: the weight of the KL, and remedies against posterior collapse."""

    kl_weight: float = option(1.0, "Weight of the KL, beta; 1 is the ELBO (beta-VAE, Higgins et al. 2017).", low=0)
    annealing: str = option(
        "none",
        "How the KL's weight gets there: at once, over annealing_steps (Bowman et al. 2016), or again and again in "
        "cycles (Fu et al. 2019).",
        choices=("none", "monotonic", "cyclical"),
    )
    annealing_steps: int | None = option(
        None, "Monotonic: updates until the weight is full; by default half of the run.", low=1
    )
    annealing_start: float = option(0.0, "The share of the weight that annealing begins with.", low=0, high=1)
    cycles: int = option(4, "Cyclical: how often the weight rises.", low=1)
    cycle_rise: float = option(0.5, "Cyclical: share of a cycle in which it rises.", above=0, high=1)
    free_bits: float = option(0.0, "Nats of KL a sentence that cost nothing (Kingma et al. 2016).", low=0)
    free_bits_of: str = option(
        "dimension",
        "What has its share of them: each unit of each sentence (Li et al. 2019), each unit's mean over the batch "
        "(Kingma et al. 2016), or the sentence.",
        choices=("dimension", "batch", "sentence"),
    )
    word_dropout: float = option(
        0.0, "Share of the decoder's input tokens hidden from it (Bowman et al. 2016).", low=0, high=1
    )
    pretrain_steps: int = option(
        0, "Updates as an autoencoder, without KL; then the decoder begins anew (Li et al. 2019).", low=0
    )
    encoder_steps: int = option(
        1, "Updates of the encoder for each of the decoder, until z holds no more (He et al. 2019).", low=1
    )
    long_sentences: str = option("cut", "What becomes of sentences longer than block_size.", choices=("cut", "drop"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrain_steps % self.eval_every:
            raise OptionError(
                f"pretrain_steps {self.pretrain_steps} does not end at a validation, where the decoder begins anew",
                f"Choose a multiple of eval_every, which is {self.eval_every}.",
            )
        if self.epochs is None and self.pretrain_steps >= self.max_steps:
            raise OptionError(
                f"pretrain_steps {self.pretrain_steps} leaves nothing of max_steps {self.max_steps}, and the decoder "
                "begins anew after it",
                "Raise --max-steps: it counts both.",
            )
        if self.packing:
            raise OptionError("packing joins sentences, and a VAE reads each by itself", "Leave --packing out.")


def kl_weight(step: int, options: VAETraining) -> float:
    """The KL's weight in update `step` (from 0): a function of the step alone, so a resumed run needs no state.

    Monotonic annealing rises in a line (Bowman et al. 2016 mention a sigmoid too). Cyclical annealing rises in a line
    over the first `cycle_rise` of each of `cycles` equal parts of the run and is full for the rest of it: Fu et al.
    2019, equations 6 and 7, with their R and M. Both begin where pre-training ends.
    """
    step, length = step - options.pretrain_steps, options.max_steps - options.pretrain_steps
    if step < 0:
        return 0.0
    if options.annealing == "none":
        return options.kl_weight
    if options.annealing == "monotonic":
        done = step / (options.annealing_steps or max(1, length // 2))
    else:
        part = length / options.cycles
        done = step % part / part / options.cycle_rise
    return options.kl_weight * (options.annealing_start + (1 - options.annealing_start) * min(1.0, done))


def charged_kl(kl: torch.Tensor, free: float, of: str) -> torch.Tensor:
    """The KL that the loss counts: what lies under its share of the free bits is counted as that, without a gradient.

    `dimension`: sum over d of max(free / D, KL_d), for each sentence (Li et al. 2019, equation 4). `batch`: the same
    of each unit's mean over the batch (Kingma et al. 2016, equation 15). `sentence`: max(free, sum of KL_d).

    Args:
        kl: (B, D) in nats.
        free: nats a sentence.
        of: see above.

    Returns:
        Scalar, the mean over sentences.
    """
    if of == "sentence":
        return kl.sum(1).clamp(min=free).mean()
    share = free / kl.shape[1]
    return (kl.mean(0) if of == "batch" else kl).clamp(min=share).sum(-1).mean()


COLLAPSED_KL = 1.0  # nats
COLLAPSED_UNITS = 2
TWICE = 2  # validations in a row make a collapse: one alone may be passing


def remedies(options: VAETraining, batch_norm: bool) -> str:
    """What can be tried against a collapse besides what the options already have."""
    tried = {
        "free bits (-o free_bits=8)": options.free_bits > 0,
        "annealing (-o annealing=cyclical)": options.annealing != "none",
        "batch norm (-o batch_norm_scale=0.5)": batch_norm,
        f"pre-training (-o pretrain_steps={5 * options.eval_every})": options.pretrain_steps > 0,
        "word dropout (-o word_dropout=0.4)": options.word_dropout > 0,
        f"a lower weight of the KL (-o kl_weight={options.kl_weight / 2:g})": False,
    }
    *others, last = [text for text, is_tried in tried.items() if not is_tried]
    return f"Try {', '.join(others)} or {last}" if others else f"Try {last}"


class ELBO(Objective):
    """The negative evidence lower bound of a sentence, with the remedies that the options ask for.

    Encoder and decoder are two parameter groups that one step updates together. While the encoder is trained
    aggressively (He et al. 2019, algorithm 1), the decoder joins in every `encoder_steps`-th step only. Where they go
    on with the encoder until the bound no longer rises, the number here is fixed; as with them this ends for good
    when the mutual information of z and x in a validation no longer rises.

    Args:
        options: `VAETraining`; of other training options the defaults of it.
    """

    unit = "nats per sentence"

    def __init__(self, options: TrainingOptions) -> None:
        plain = {name: getattr(options, name) for name in TrainingOptions.fields()}
        self.options = options if isinstance(options, VAETraining) else VAETraining(**plain)
        self.step = -1  # the last one; set by `steps`, for `after_eval`
        self.aggressive = self.options.encoder_steps > 1
        self.most_information = 0.0
        self.was_reset = False
        self.collapsed = 0  # validations in a row
        self.batch_norm = False  # of the model's latents; seen by `steps`

    def groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """An embedding that both share is the encoder's, so that a reset of the decoder leaves it as it is."""
        bare: Any = model
        shared = getattr(getattr(model, "config", None), "share_embedding", False)
        encoder = [*bare.encoder.parameters(), *(bare.embedding.parameters() if shared else ())]
        taken = {id(p) for p in encoder}
        return {"encoder": encoder, "decoder": [p for p in model.parameters() if id(p) not in taken]}

    def steps(self, model: nn.Module, batch: Mapping[str, torch.Tensor], step: int) -> Iterator[Step]:
        self.step = step
        self.batch_norm = bool(getattr(getattr(model, "config", None), "batch_norm_scale", 0))
        out = model(**batch, word_dropout=self.options.word_dropout)
        weight = kl_weight(step, self.options)
        loss = out.reconstruction + weight * charged_kl(out.kl, self.options.free_bits, self.options.free_bits_of)
        waits = self.aggressive and (step + 1) % self.options.encoder_steps and step >= self.options.pretrain_steps
        kl = out.kl.sum(1).mean()
        logs = {"bound": out.reconstruction + kl, "reconstruction": out.reconstruction, "kl": kl, "kl_weight": weight}
        yield Step("encoder" if waits else ("encoder", "decoder"), loss, logs)

    def after_eval(self, logs: Mapping[str, float]) -> Verdict:
        if self.step + 1 < self.options.pretrain_steps:
            return Verdict()
        if self.options.pretrain_steps and not self.was_reset:
            self.was_reset = True
            return Verdict(reset=("decoder",), note="the end of pre-training")
        notes = [self._aggression(logs), self._collapse(logs)]
        flag = {"posterior_collapse": float(self.collapsed >= TWICE)} if "eval_kl" in logs else {}
        return Verdict(note="; ".join(filter(None, notes)), logs=flag)

    def _aggression(self, logs: Mapping[str, float]) -> str:
        information = logs.get("eval_mutual_information")
        if not self.aggressive or information is None or self.step < 0:
            return ""
        if information > self.most_information:
            self.most_information = information
            return ""
        self.aggressive = False
        return f"mutual information no longer rises ({information:.2f} nats): the decoder joins in every step"

    def _collapse(self, logs: Mapping[str, float]) -> str:
        kl, units = logs.get("eval_kl"), logs.get("eval_active_units")
        if kl is None or units is None or self.step < 0:
            return ""
        self.collapsed = self.collapsed + 1 if kl < COLLAPSED_KL or units <= COLLAPSED_UNITS else 0
        if self.collapsed != TWICE:  # told once
            return ""
        return (
            f"the posterior has collapsed: KL {kl:.2f} nats, {units:.0f} active units in two validations in a row, so "
            f"texts do not depend on z. {remedies(self.options, self.batch_norm)}; see docs/vae.md"
        )

    def reset(self, model: nn.Module, group: str) -> None:
        """Draws the parameters of a group anew."""
        wanted = self.groups(model)[group]
        ids = {id(p) for p in wanted}
        owned = ((module, list(module.parameters(recurse=False))) for module in model.modules())
        draw_again(model, [module for module, own in owned if own and all(id(p) in ids for p in own)], wanted)

    def state_dict(self) -> dict[str, Any]:
        names = ("step", "aggressive", "most_information", "was_reset", "collapsed")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
