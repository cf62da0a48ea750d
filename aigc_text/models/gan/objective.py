"""What a GAN minimises, phase by phase, and what it does when training collapses.

First the likelihood (`likelihood_steps` updates of the generator), then in turn: the discriminator learns to tell real
samples from generated ones, the generator to be taken for real. `Adversarial` trains any model that is called as
`GANForCausalLM` is; `scripts/research/toy2d.py` has one of points in the plane.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from aigc_text.errors import OptionError
from aigc_text.options.base import option
from aigc_text.options.training import TrainingOptions
from aigc_text.training.objective import Objective, Step, Verdict

from .losses import LOSSES, discriminator_loss, generator_loss, gradient_penalty, needs_real, r1_penalty


@dataclass(frozen=True, kw_only=True)
class GANTraining(TrainingOptions):
    """Training options of the GAN: its phases, losses and stabilisers, and what a collapse leads to."""

    # Phases
    likelihood_steps: int | None = option(
        None, "Updates by maximum likelihood before the adversarial phase; by default half of the run.", low=0
    )
    discriminator_steps: int = option(
        1, "Updates of the discriminator for each of the generator, which joins in every so many steps.", low=1
    )

    # Losses
    adversarial_loss: str = option("relativistic", "What both sides minimise; see docs/gan.md.", choices=LOSSES)
    likelihood_weight: float = option(
        0.0, "Weight of the likelihood that the generator goes on to learn in the adversarial phase.", low=0
    )
    r1: float = option(0.0, "Weight gamma of the R1 penalty on real samples (Mescheder et al. 2018).", low=0)
    gradient_penalty: float = option(
        10.0, "Weight lambda of the penalty that goes with the Wasserstein loss (Gulrajani et al. 2017).", low=0
    )

    # Gumbel-softmax
    gumbel: str = option(
        "soft", "What the discriminator sees: y itself, or the word with y's gradient (Jang et al. 2017).",
        choices=("soft", "straight_through"),
    )  # fmt: skip
    inverse_temperature: float = option(100.0, "The last inverse temperature of Gumbel-softmax, beta.", low=1)
    inverse_temperature_schedule: str = option(
        "exponential",
        "How beta gets there from 1: beta^(i / N) as in RelGAN, in a line, or at once.",
        choices=("exponential", "linear", "fixed"),
    )
    inverse_temperature_steps: int | None = option(
        None, "N of that schedule; by default the steps of the adversarial phase.", low=1
    )

    # Rates and averages
    generator_rate: float = option(
        0.05, "The generator's learning rate in the adversarial phase, as a share of the learning rate.", above=0
    )
    discriminator_rate: float = option(0.1, "The discriminator's, likewise.", above=0)
    generator_average: float = option(
        0.0, "Decay of a moving average of the generator in the adversarial phase, .999 say, which is then what is "
        "validated and delivered (Yazici et al. 2019); 0 is none.", low=0, high=0.99999,
    )  # fmt: skip

    # Collapse
    watch_samples: int = option(500, "Sentences that a validation draws and measures; 0 is none.", low=0)
    on_collapse: str = option(
        "tell", "What follows a collapse besides a message: nothing, the best checkpoint at half the rate, the end.",
        choices=("tell", "roll_back", "stop"),
    )  # fmt: skip

    # Other defaults than those of all backends
    long_sentences: str = option("cut", "What becomes of sentences longer than block_size.", choices=("cut", "drop"))
    schedule: str = option(
        "constant",
        "The learning rate after the warm-up. With constant it falls to min_rate within the likelihood steps.",
        choices=("cosine", "linear", "constant", "plateau"),
    )
    eval_on_start: bool = option(True, "Validate before the first update too.")
    best: str = option(
        "max:bleu_ha",
        "The validation's figure that tells the best checkpoint, which is kept: its lowest, or with max: before its "
        "name its highest.",
    )
    deliver: str = option("best", "Whose weights the run ends with.", choices=("last", "best"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing:
            raise OptionError("packing joins sentences, and a GAN tells them apart", "Leave --packing out.")
        if (self.likelihood_steps or 0) > self.max_steps:
            raise OptionError(
                f"likelihood_steps {self.likelihood_steps} is more than max_steps {self.max_steps}",
                "Raise --max-steps: it counts both phases.",
            )
        if self.likelihood_steps and self.likelihood_steps < self.max_steps and self.likelihood_steps % self.eval_every:
            raise OptionError(
                f"likelihood_steps {self.likelihood_steps} does not end at a validation, with which what follows is "
                "compared",
                f"Choose a multiple of eval_every, which is {self.eval_every}.",
            )

    @property
    def warm(self) -> int:
        """Updates by maximum likelihood."""
        if self.likelihood_steps is not None:
            return self.likelihood_steps
        return self.max_steps // 2 // self.eval_every * self.eval_every


def inverse_temperature(step: int, options: GANTraining) -> float:
    """Beta in the adversarial step `step` (from 0): Nie et al. 2019, section 2.4, with their beta_max and N."""
    most = options.inverse_temperature
    done = min(1.0, step / (options.inverse_temperature_steps or max(1, options.max_steps - options.warm)))
    kind = options.inverse_temperature_schedule
    return most if kind == "fixed" else most**done if kind == "exponential" else 1 + (most - 1) * done


RAMP = 20  # adversarial steps over which the rates rise, while the optimizers learn the size of new gradients
LEAST_DISTINCT, MOST_ALIKE, SURE = 0.5, 1.3, 0.99
ROLL_BACKS = 3  # at most
MODES = ("distinct", "alike")  # of what can be wrong, what is a collapse of modes


def remedies(options: GANTraining) -> str:
    """What can be tried against a collapse besides what the options already have."""
    tried = {
        "a likelihood term (-o likelihood_weight=0.1)": options.likelihood_weight > 0,
        "a penalty (-o r1=1)": options.r1 > 0,
        f"a lower rate (-o generator_rate={options.generator_rate / 5:g})": False,
        "going back (-o on_collapse=roll_back)": options.on_collapse == "roll_back",
    }
    *others, last = [text for text, is_tried in tried.items() if not is_tried]
    return f"try {', '.join(others)} or {last}; see docs/gan.md" if others else f"try {last}; see docs/gan.md"


class Adversarial(Objective):
    """Likelihood, then two losses in turn, with the stabilisers that the options ask for.

    The parameters of the model's part `discriminator` are one group, all others are the `generator`.

    Args:
        options: `GANTraining`; of other training options the defaults of it.
        inputs: what the model is called with besides each batch and its phase.
    """

    unit = ""  # of each group's loss, which is a likelihood's or an adversarial one's by turns

    def __init__(self, options: TrainingOptions, inputs: Mapping[str, Any] | None = None) -> None:
        plain = {name: getattr(options, name) for name in TrainingOptions.fields()}
        known = isinstance(options, GANTraining)
        self.options: GANTraining = options if known else GANTraining(**plain)  # type: ignore[assignment]
        self.inputs = inputs or {}
        self.step = -1  # the last one; set by `steps`, for `after_eval`
        self.warmed: dict[str, float] = {}  # the figures with which the adversarial phase began
        self.sure = 0  # validations in a row
        self.told: list[str] = []
        self.rolled_back = 0
        self.generator: list[nn.Parameter] = []
        self.average: list[torch.Tensor] = []
        self.averaged = -1  # the step of the last update of the average

    def groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        judge: Any = model.discriminator
        own = list(judge.parameters()) if judge is not None else []
        taken = {id(p) for p in own}
        self.generator = [p for p in model.parameters() if id(p) not in taken and p.requires_grad]
        return {"generator": self.generator, **({"discriminator": own} if own else {})}

    def weight(self, batch: Any) -> float:
        """Tokens while the likelihood is trained, then rows."""
        if isinstance(batch, Mapping) and "labels" in batch and self.step + 1 < self.options.warm:
            return float((batch["labels"][:, 1:] != -100).sum())
        return super().weight(batch)

    def steps(self, model: nn.Module, batch: Mapping[str, torch.Tensor], step: int) -> Iterator[Step]:
        self.step = step
        if step < self.options.warm:
            out = model(**batch, **self.inputs, phase="likelihood")
            yield Step("generator", out.loss, {"nll": out.loss}, self._falling(step))
            return
        o, n = self.options, step - self.options.warm
        beta, ramp = inverse_temperature(n, o), min(1.0, (n + 1) / RAMP)
        how = {**self.inputs, "inverse_temperature": beta, "straight_through": o.gumbel == "straight_through"}
        penalty = "gradient" if o.adversarial_loss == "wasserstein" and o.gradient_penalty else "r1" if o.r1 else None
        out = model(**batch, **how, phase="discriminator", penalty=penalty)
        fakes = out.fakes
        loss, logs = self._discriminator_loss(out.real, out.fake, out.squared, penalty)
        yield Step("discriminator", loss, logs, o.discriminator_rate * ramp)
        if (n + 1) % o.discriminator_steps:
            return
        needed = {"with_real": needs_real(o.adversarial_loss), "with_likelihood": o.likelihood_weight > 0}
        out = model(**batch, **how, phase="generator", fakes=fakes, **needed)
        loss = generator_loss(o.adversarial_loss, out.real, out.fake)
        logs = {"inverse_temperature": beta}
        if out.nll is not None:
            logs = {**logs, "adversarial": loss, "nll": out.nll}
            loss = loss + o.likelihood_weight * out.nll
        yield Step("generator", loss, logs, o.generator_rate * ramp)
        self._move_average(n)

    def _falling(self, step: int) -> float:
        """The likelihood's rate: along a cosine to `min_rate` where the schedule itself is constant."""
        if self.options.schedule != "constant":
            return 1.0
        done = step / max(1, self.options.warm)
        return self.options.min_rate + (1 - self.options.min_rate) * 0.5 * (1 + math.cos(math.pi * done))

    def _discriminator_loss(
        self, real: torch.Tensor, fake: torch.Tensor, squared: torch.Tensor | None, penalty: str | None
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        o = self.options
        loss = discriminator_loss(o.adversarial_loss, real, fake)
        # How often a real sample scores over a generated one: 1/2 where nothing tells them apart.
        logs: dict[str, Any] = {"accuracy": (real.detach() > fake.detach()).float().mean()}
        if squared is not None:
            weight, term = (o.r1, r1_penalty) if penalty == "r1" else (o.gradient_penalty, gradient_penalty)
            charged = weight * term(squared)
            return loss + charged, {**logs, "adversarial": loss, "penalty": charged}
        return loss, logs

    @torch.no_grad()
    def _move_average(self, n: int) -> None:
        decay = self.options.generator_average
        if not decay or self.averaged == self.step:  # once a step, however many micro-batches there are
            return
        self.averaged = self.step
        if not self.average:
            self.average = [p.detach().clone() for p in self.generator]
            return
        decay = min(decay, (1 + n) / (10 + n))  # short at first, so that the start is soon forgotten
        for mean, p in zip(self.average, self.generator, strict=True):
            mean.lerp_(p.detach().to(mean), 1 - decay)

    def averages(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(self.generator, self.average, strict=True)) if self.average else []

    # Collapse

    def after_eval(self, logs: Mapping[str, float]) -> Verdict:
        """Compares the figures of drawn sentences with those at the end of the likelihood steps."""
        names = ("eval_distinct_2", "eval_self_bleu_4")
        if self.step + 1 <= self.options.warm:
            self.warmed = {name: logs[name] for name in names if name in logs}
            return Verdict()
        found = self._found(logs)
        flag = {"mode_collapse": float(not found.keys().isdisjoint(MODES))} if self.warmed else {}
        new = [text for name, text in found.items() if name not in self.told]
        self.told = list(found)
        if not new:
            return Verdict(logs=flag)
        note = f"{'; '.join(new)}: {remedies(self.options)}"
        if self.options.on_collapse == "stop":
            return Verdict(stop=note, logs=flag)
        if self.options.on_collapse == "roll_back" and self.rolled_back < ROLL_BACKS:
            self.rolled_back += 1
            return Verdict(roll_back=True, scale_rate=0.5, note=note, logs=flag)
        return Verdict(note=note, logs=flag)

    def _found(self, logs: Mapping[str, float]) -> dict[str, str]:
        """What is wrong, by name and in words."""
        found = {}
        distinct, alike = (logs.get(f"eval_{n}") for n in ("distinct_2", "self_bleu_4"))
        was_distinct, was_alike = (self.warmed.get(f"eval_{n}") for n in ("distinct_2", "self_bleu_4"))
        if distinct is not None and was_distinct is not None and distinct < LEAST_DISTINCT * was_distinct:
            found["distinct"] = f"mode collapse: distinct-2 is {distinct:.3f}, {was_distinct:.3f} after the likelihood"
        if alike is not None and was_alike is not None and alike > MOST_ALIKE * was_alike:
            found["alike"] = f"mode collapse: Self-BLEU-4 is {alike:.3f}, {was_alike:.3f} after the likelihood"
        accuracy = logs.get("discriminator_accuracy")
        self.sure = self.sure + 1 if accuracy is not None and accuracy > SURE else 0
        if self.sure >= 2:
            found["sure"] = f"the discriminator wins outright: it is right {accuracy:.1%} of the time"
        return found

    # What a resumed run needs

    def state_dict(self) -> dict[str, Any]:
        names = ("step", "warmed", "sure", "told", "rolled_back", "average", "averaged")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # A roll back must not make itself forgotten.
        rolled_back = max(self.rolled_back, state["rolled_back"])
        for name, value in {**state, "rolled_back": rolled_back}.items():
            setattr(self, name, value)
        self.average = [mean.to(p.device) for mean, p in zip(self.average, self.generator, strict=False)]
