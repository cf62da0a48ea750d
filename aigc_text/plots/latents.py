"""A picture of a latent space: where the texts are against the prior, and where their reconstructions come to lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .figures import blank, save

POINTS = 1000  # texts in a picture, at most
PAIRS = 120  # of them with their reconstructions
GROUPS = 8  # that have a colour each; the rarer ones share one


def principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal components (Pearson 1901).

    Args:
        x: (N, D).

    Returns:
        The mean (D,), the two directions of the largest variance (2, D), and each one's share of the variance (2,).
    """
    mean = x.mean(0)
    _, lengths, directions = np.linalg.svd(x - mean, full_matrices=False)
    shares = lengths**2 / max(float((lengths**2).sum()), 1e-12)
    rows = np.zeros((2, x.shape[1]))
    rows[: min(2, len(directions))] = directions[:2]
    return mean, rows, np.pad(shares[:2], (0, max(0, 2 - len(shares))))


def draw(means: np.ndarray, again: np.ndarray, prior: np.ndarray, groups: Sequence[str] | None, picture: Path) -> None:
    """Draws both panels as PNG or SVG, in the plane of the means' two principal components.

    Args:
        means: (N, D) posterior means of texts.
        again: (N, D) those of their reconstructions.
        prior: (M, D) draws from the prior.
        groups: the group of each text, for its colour.
        picture: file to write.
    """
    centre, directions, shares = principal(means)
    flat = [(x - centre) @ directions.T for x in (means, again, prior)]  # (·, 2) each
    figure = blank(10, 5.4)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    left.scatter(*flat[2].T, s=6, color="0.8", label="draws from the prior", linewidths=0)
    for name, color, place in _colours(groups, len(means)):
        left.scatter(*flat[0][place].T, s=7, color=color, alpha=0.75, label=name, linewidths=0)
    left.set_title("Posterior means of texts against the prior", fontsize=10)
    _pairs(right, flat[0], flat[1], groups)
    for axes, wide in ((left, 2.5), (right, 1.5)):
        axes.set_aspect("equal")
        legend = axes.legend(
            frameon=False, fontsize=8, markerscale=wide, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3
        )
        for label in legend.get_texts():
            label.set_parse_math(False)  # a group may be called "$5 to $9"
        axes.set_xlabel(f"component 1 ({shares[0]:.0%} of the means' variance)", fontsize=9)
        axes.set_ylabel(f"component 2 ({shares[1]:.0%})", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    save(figure, picture)


def _pairs(axes: Any, means: np.ndarray, again: np.ndarray, groups: Sequence[str] | None) -> None:
    """Original and reconstructed points, joined."""
    chosen = np.unique(np.linspace(0, len(means) - 1, min(PAIRS, len(means))).astype(int))
    for n in chosen:
        axes.plot(*np.stack([means[n], again[n]]).T, color="0.75", linewidth=0.6, zorder=1)
    axes.scatter(*means[chosen].T, s=14, color="tab:blue", label="original", linewidths=0, zorder=2)
    axes.scatter(*again[chosen].T, s=16, color="tab:orange", marker="x", linewidths=1, label="reconstructed", zorder=3)
    axes.set_title(f"{len(chosen)} texts and their greedy reconstructions, read again", fontsize=10)


def _colours(groups: Sequence[str] | None, count: int) -> list[tuple[str, str, np.ndarray]]:
    """(label, colour, places) of each group, the largest first."""
    if groups is None:
        return [("texts", "tab:blue", np.arange(count))]
    names = [name for name, _ in Counter(groups).most_common()]
    found = [(name, f"C{n}", np.flatnonzero([g == name for g in groups])) for n, name in enumerate(names[:GROUPS])]
    if rest := names[GROUPS:]:
        found.append((f"{len(rest)} others", "0.4", np.flatnonzero([g in rest for g in groups])))
    return found
