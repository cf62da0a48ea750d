"""What discriminator and generator minimise, and penalties on the discriminator's gradient.

Everything here takes scores: real numbers, one for each sample or several, high for what looks real. They are logits of
"this is real": D(x) of the textbooks is the sigmoid of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LOSSES = ("minimax", "non_saturating", "relativistic", "hinge", "wasserstein")


def discriminator_loss(kind: str, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """What the discriminator minimises, the mean over all scores.

    With r a real and f a generated sample's score:

    `minimax`, `non_saturating`: -log D(r) - log(1 - D(f)) (Goodfellow et al. 2014, equation 1 and algorithm 1).
    `relativistic`: -log sigmoid(r - f), of pairs (RSGAN, Jolicoeur-Martineau 2018, equation 3).
    `hinge`: max(0, 1 - r) + max(0, 1 + f) (Lim and Ye 2017; Miyato et al. 2018, equation 16).
    `wasserstein`: f - r (Arjovsky et al. 2017, equation 2), which needs a penalty on the gradient.

    Args:
        kind: see above.
        real: scores of real samples, of any shape.
        fake: scores of generated samples, of the same shape.
    """
    if kind in ("minimax", "non_saturating"):
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "relativistic":
        return F.softplus(fake - real).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: str, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
    """What the generator minimises, the mean over all scores; see `discriminator_loss`.

    `minimax`: log(1 - D(f)), whose gradient vanishes where the discriminator is sure (Goodfellow et al. 2014, section
    3). `non_saturating`: -log D(f), their remedy. `relativistic`: -log sigmoid(f - r). `hinge` and `wasserstein`: -f.
    """
    if kind == "minimax":
        return -F.softplus(fake).mean()
    if kind == "non_saturating":
        return F.softplus(-fake).mean()
    if kind == "relativistic":
        assert real is not None
        return F.softplus(real - fake).mean()
    return -fake.mean()


def needs_real(kind: str) -> bool:
    """Whether the generator's loss looks at real samples too."""
    return kind == "relativistic"


def squared_gradient(scores: torch.Tensor, inputs: torch.Tensor, metric: torch.Tensor | None = None) -> torch.Tensor:
    """Squared norm (B,) of the gradient of each sample's mean score with respect to what was scored.

    It can be differentiated itself, which the penalties need.

    Args:
        scores: (B, …), a sample's scores depend on its own input alone.
        inputs: (B, …, C) from which they were computed, with a gradient.
        metric: (C, C) G, where the inputs are the image x W of something and the norm is to be that of the gradient
            with respect to x: then G = Wᵀ W, for |g Wᵀ|² = g Wᵀ W gᵀ. So no gradient of the width of a vocabulary is
            ever made.
    """
    total = scores.flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(total, inputs, create_graph=True)  # (B, …, C)
    turned = gradient if metric is None else gradient @ metric
    return (gradient * turned).flatten(1).sum(1)


def r1_penalty(squared: torch.Tensor) -> torch.Tensor:
    """½ E |∇D|² at real samples (Mescheder et al. 2018, equation 9), to be multiplied by gamma.

    Args:
        squared: (B,) of `squared_gradient`.
    """
    return 0.5 * squared.mean()


def gradient_penalty(squared: torch.Tensor) -> torch.Tensor:
    """E (|∇D| - 1)² between real and generated samples (WGAN-GP, Gulrajani et al. 2017, equation 3), times lambda.

    Args:
        squared: (B,) of `squared_gradient`.
    """
    return ((squared + 1e-12).sqrt() - 1).square().mean()  # at 0 the root has no gradient
