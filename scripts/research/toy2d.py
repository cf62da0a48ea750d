"""A VAE and a GAN of points in the plane, trained by the very objectives and the trainer that sentences are trained by.

    python scripts/research/toy2d.py --output pictures

writes toy-vae.png (points against their reconstructions and against draws from the prior) and toy-gan.png (real against
generated points over the discriminator's decision surface: a plain GAN that loses modes, and cures). A few minutes on
one core; start here to see what the terms of the losses do.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from aigc_text.models.gan.losses import squared_gradient
from aigc_text.models.gan.objective import Adversarial, GANTraining
from aigc_text.models.vae.model import kl_divergence
from aigc_text.models.vae.objective import ELBO, VAETraining
from aigc_text.training import trainer

MODES, NOISE, SPREAD, LIMIT = 8, 8, 0.05, 1.6
CENTRES = torch.tensor([[math.cos(a), math.sin(a)] for a in torch.arange(MODES) * 2 * math.pi / MODES])
SHARED: dict[str, Any] = {"learning_rate": 1e-3, "weight_decay": 0.0, "precision": "fp32"}
CURES: dict[str, dict[str, Any]] = {  # the title of a picture: options
    "minimax": {"adversarial_loss": "minimax"},
    "non-saturating": {"adversarial_loss": "non_saturating"},
    "non-saturating, R1": {"adversarial_loss": "non_saturating", "r1": 0.3},
    "relativistic, R1": {"adversarial_loss": "relativistic", "r1": 0.3},
    "Wasserstein, gradient penalty": {
        "adversarial_loss": "wasserstein",
        "gradient_penalty": 1.0,
        "discriminator_steps": 5,
    },
}


def ring(count: int, seed: int) -> torch.Tensor:
    """(N, 2): eight Gaussians on a circle."""
    draw = torch.Generator().manual_seed(seed)
    which = torch.randint(MODES, (count,), generator=draw)
    return CENTRES[which] + SPREAD * torch.randn(count, 2, generator=draw)


def moons(count: int, seed: int) -> torch.Tensor:
    """(N, 2): two half circles, one in the other's arms."""
    draw = torch.Generator().manual_seed(seed)
    angle, upper = math.pi * torch.rand(count, generator=draw), torch.rand(count, generator=draw) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos()) - 0.5
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin()) - 0.25
    return torch.stack([x, y], 1) + SPREAD * torch.randn(count, 2, generator=draw)


def layers(inputs: int, outputs: int, width: int = 128) -> nn.Sequential:
    """Three layers."""
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class PlaneVAE(nn.Module):
    """Gives what `ELBO` asks for: `reconstruction` and `kl`."""

    def __init__(self, latent: int = 2, noise: float = 0.1) -> None:
        super().__init__()
        self.encoder, self.decoder, self.noise = layers(2, 2 * latent), layers(latent, 2), noise

    def forward(self, points: torch.Tensor, **_: Any) -> SimpleNamespace:
        mean, log_variance = self.encoder(points).chunk(2, 1)  # (B, D) both
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        # -log p(x | z) of a normal distribution around the decoder's point, without its constant.
        squares = (points - self.decoder(z)).square().sum(1) / (2 * self.noise**2)
        return SimpleNamespace(reconstruction=squares.mean(), kl=kl_divergence(mean, log_variance))


class PlaneGAN(nn.Module):
    """Gives what `Adversarial` asks for: `real` and `fake`, and `fakes`, `squared` or `nll` where they are needed."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = layers(NOISE, 2), layers(2, 1)

    def forward(
        self, points: torch.Tensor, phase: str, fakes: Any = None, penalty: str | None = None, **_: Any
    ) -> SimpleNamespace:
        noise = torch.randn(len(points), NOISE) if fakes is None else fakes
        if phase == "generator":
            constants = {name: p.detach() for name, p in self.discriminator.named_parameters()}
            judge = lambda x: torch.func.functional_call(self.discriminator, constants, (x,))  # noqa: E731
            return SimpleNamespace(real=judge(points), fake=judge(self.generator(noise)), nll=None)
        made, squared = self.generator(noise).detach(), None
        real, fake = points.clone().requires_grad_(), made
        scores = self.discriminator(real)
        if penalty == "r1":
            squared = squared_gradient(scores, real)
        elif penalty == "gradient":
            share = torch.rand(len(real), 1)
            between = (share * points + (1 - share) * fake).requires_grad_()
            squared = squared_gradient(self.discriminator(between), between)
        return SimpleNamespace(real=scores, fake=self.discriminator(fake), fakes=noise, squared=squared)

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> torch.Tensor:
        found: torch.Tensor = self.generator(torch.randn(count, NOISE, generator=torch.Generator().manual_seed(seed)))
        return found


def gan_options(**given: Any) -> GANTraining:
    rates = {"generator_rate": 1.0, "discriminator_rate": 1.0, "warmup_steps": 0}
    return GANTraining(**{**SHARED, **rates, "likelihood_steps": 0, "deliver": "last", **given})


def batches(points: torch.Tensor, options: Any, size: int = 256) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(options.seed)
    return [{"points": part} for part in points[torch.randperm(len(points), generator=draw)].split(size)]


def covered(points: torch.Tensor) -> tuple[int, float]:
    """How many modes of the ring have at least a quarter of their share, and the share of points near any."""
    distance, which = torch.cdist(points, CENTRES).min(1)
    near = distance < 4 * SPREAD
    counts = torch.bincount(which[near], minlength=MODES)
    return int((counts > len(points) / MODES / 4).sum()), float(near.float().mean())


def trained(model: Any, objective: type, options: Any, points: torch.Tensor, name: str) -> Any:
    torch.manual_seed(options.seed)
    made = model()
    for progress in trainer.train(made.train(), objective(options), batches(points, options), options):
        if progress.step % max(1, options.max_steps // 5) == 0:
            print(f"{name}: step {progress.step} of {options.max_steps}", file=sys.stderr, flush=True)
    return made


def scatter(axes: Any, title: str, *sets: tuple[torch.Tensor, str, str]) -> None:
    for points, color, label in sets:
        axes.scatter(*points.T, s=3, color=color, label=label, alpha=0.5, linewidths=0)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=9)


@torch.no_grad()
def picture_vae(data: dict[str, torch.Tensor], steps: int, seed: int, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(len(data), 2, figsize=(7, 3.6 * len(data)), layout="constrained")
    for (name, points), (left, right) in zip(data.items(), rows, strict=True):
        options = VAETraining(max_steps=steps, seed=seed, annealing="monotonic", **SHARED)
        with torch.enable_grad():
            model = trained(PlaneVAE, ELBO, options, points, f"VAE, {name}")
        rebuilt = model.decoder(model.encoder(points)[:, :2])
        drawn = model.decoder(torch.randn(len(points), 2, generator=torch.Generator().manual_seed(1)))
        scatter(left, f"{name}: original, reconstructed", (points, "#0072B2", "original"), (rebuilt, "#D55E00", "new"))
        scatter(right, f"{name}: original, from the prior", (points, "#0072B2", "original"), (drawn, "#009E73", "new"))
    figure.savefig(path, dpi=110)


@torch.no_grad()
def picture_gan(points: torch.Tensor, steps: int, seed: int, path: Path) -> list[str]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
    line = torch.linspace(-LIMIT, LIMIT, 120)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2)  # (120, 120, 2)
    said = []
    scatter(axes.flat[0], "the data", (points, "#0072B2", "original"))
    for (name, given), where in zip(CURES.items(), axes.flat[1:], strict=True):
        with torch.enable_grad():
            model = trained(
                PlaneGAN, Adversarial, gan_options(max_steps=steps, seed=seed, **given), points, f"GAN, {name}"
            )
        made = model.sample(2000, 1)
        modes, near = covered(made)
        said.append(f"| {name} | {modes} of {MODES} | {near:.0%} |")
        surface = model.discriminator(grid.view(-1, 2)).view(120, 120)
        where.contourf(line, line, surface - surface.mean(), levels=20, cmap="RdBu", alpha=0.5)
        scatter(where, f"{name}: {modes} of {MODES} modes", (points, "#0072B2", "original"), (made, "#D55E00", "new"))
    about = "blue points: data, orange points: generated; the surface: the discriminator's score, blue is high"
    figure.suptitle(about, fontsize=9)
    figure.savefig(path, dpi=110)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="a folder for the pictures")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    points = ring(2048, 0)
    picture_vae({"ring": points, "moons": moons(2048, 0)}, given.steps, given.seed, given.output / "toy-vae.png")
    rows = picture_gan(points, given.steps, given.seed, given.output / "toy-gan.png")
    print("\n".join(["| loss | modes found | points near a mode |", "|---|---|---|", *rows]))


if __name__ == "__main__":
    main()
