"""The discriminator of `gan`: sentences to scores, by convolutions only.

Several embeddings of a sentence (RelGAN, Nie et al. 2019, section 2.3), the same convolutions of widths 2 to 5 over
each with their maximum over time, a highway layer (Srivastava et al. 2015), and one score for each embedding. With one
embedding and no highway it is the CNN of Kim 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

WIDTHS = (2, 3, 4, 5)  # tokens that a filter sees
# Elements of the convolutions' outputs looked at together: on the CPU what stays in a core's cache.
CHUNK = {"cpu": 1 << 17}


class Discriminator(nn.Module):
    """Embedded sentences (B, T, representations * size) to scores (B, representations), high for what looks real.

    Args:
        vocabulary: V.
        representations: R embeddings, each scored by itself.
        size: width S of each.
        filters: of each width.
        highway: whether there is a highway layer.
        dropout: before the score.
        spectral: whether all matrices but the embedding are divided by their largest singular value (Miyato et al.
            2018).
    """

    def __init__(
        self,
        vocabulary: int,
        representations: int,
        size: int,
        filters: int,
        highway: bool,
        dropout: float,
        spectral: bool,
    ) -> None:
        super().__init__()
        self.representations, self.size, self.dropout = representations, size, dropout
        self.embedding = nn.Embedding(vocabulary, representations * size)
        self.filters = nn.ModuleList([nn.Linear(width * size, filters) for width in WIDTHS])
        total = filters * len(WIDTHS)
        self.gate = nn.Linear(total, total) if highway else None
        self.change = nn.Linear(total, total) if highway else None
        self.score = nn.Linear(total, 1)
        if spectral:
            for layer in [m for m in self.modules() if isinstance(m, nn.Linear)]:
                spectral_norm(layer)

    @property
    def weight(self) -> torch.Tensor:
        """(V, R * S): what a one-hot token is multiplied by."""
        return self.embedding.weight

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        """Scores (B, R) of sentences (B, T, R * S) that are filled up beyond their end; see `padded`."""
        b, t, _ = embedded.shape
        apart = embedded.view(b, t, self.representations, self.size).transpose(1, 2)  # (B, R, T, S)
        rows = apart.reshape(b * self.representations, t, self.size)
        found = [highest(rows, *_affine(layer)) for layer in self.filters]
        x = F.relu(torch.cat(found, 1))  # (B * R, 4 F); the maximum of relus is the relu of the maximum
        if self.gate is not None and self.change is not None:
            gate = torch.sigmoid(self.gate(x))
            x = gate * F.relu(self.change(x)) + (1 - gate) * x
        x = F.dropout(x, self.dropout, self.training)
        scores: torch.Tensor = self.score(x)
        return scores.view(b, self.representations).float()


def _affine(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.weight, layer.bias


def highest(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The maximum over time of a convolution (N, F), without the outputs that are not it.

    Which window is the highest is found a few rows at a time and without a gradient; then those windows alone are
    multiplied again. The value and all derivatives are those of convolution and maximum, since only the highest window
    has a gradient; but of T outputs a row and filter one is kept, and one goes through the backward pass.

    Args:
        rows: (N, T, S).
        weight: (F, W * S) of filters that see W places.
        bias: (F,).
    """
    n, _, size = rows.shape
    width = weight.shape[1] // size
    windows = rows.unfold(1, width, 1).transpose(2, 3).flatten(2)  # (N, T', W * S)
    with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
        count = max(1, CHUNK.get(rows.device.type, 1 << 26) // (windows.shape[1] * len(weight)))
        turned = weight.detach().float().t().contiguous()  # (W * S, F)
        places = torch.cat([(part.detach().float() @ turned).max(1).indices for part in windows.split(count)])  # (N, F)
        places += torch.arange(n, device=rows.device)[:, None] * windows.shape[1]
    chosen = F.embedding(places, windows.reshape(-1, width * size))  # (N, F, W * S)
    return (chosen * weight).sum(2) + bias


def padded(ids: Sequence[torch.Tensor], pad: int) -> list[torch.Tensor]:
    """Sentences (B, T_i) filled up to one length with room for a window of padding alone behind the longest.

    Then which windows a sentence has does not depend on how far it is filled up, nor does its score.
    """
    length = max(x.shape[1] for x in ids) + max(WIDTHS)
    return [F.pad(x, (0, length - x.shape[1]), value=pad) for x in ids]
