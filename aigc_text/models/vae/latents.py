"""Latent vectors outside of the model: the way between two, and files that hold a difference."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from aigc_text.errors import DataError, OptionError


def between(a: torch.Tensor, b: torch.Tensor, share: float, path: str) -> torch.Tensor:
    """The vector (D,) at a share of the way from a to b, (D,) both.

    `linear`: (1 - t) a + t b. `spherical`: along the great circle (Shoemake 1985), which keeps to the lengths that
    draws from the prior have; the length goes from that of a to that of b in a line. Of vectors that point the same
    or opposite ways, or of zeros, there is no one great circle, and the way is linear.
    """
    lengths = a.norm(), b.norm()
    if path == "linear" or not (lengths[0] and lengths[1]):
        return a + share * (b - a)
    one, other = a / lengths[0], b / lengths[1]
    angle = math.acos(float((one @ other).clamp(-1, 1)))
    if math.sin(angle) < 1e-4:
        return a + share * (b - a)
    direction = (math.sin((1 - share) * angle) * one + math.sin(share * angle) * other) / math.sin(angle)
    return direction * (lengths[0] + share * (lengths[1] - lengths[0]))


@dataclass(frozen=True)
class Difference:
    """A direction in the latent space of one model: the mean of one group of sentences less that of another.

    Attributes:
        model: fingerprint of the model that the latents are of.
        plus: the group whose mean counts, and how many sentences it has.
        minus: the group whose mean is taken off, and how many it has.
        vector: (D,).
    """

    model: str
    plus: tuple[str, int]
    minus: tuple[str, int]
    vector: tuple[float, ...]

    def write(self, path: Path) -> None:
        """Writes a JSON file that `read` takes."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path, model: str, size: int) -> Difference:
        """Reads the file for a model.

        Args:
            path: as `write` wrote it.
            model: the fingerprint of the model that it is for.
            size: D of that model.

        Raises:
            DataError: the file cannot be read or holds no difference.
            OptionError: it is of another model.
        """
        cure = "Make one: aigc-text latents FILE --model … --group-column … --difference one,other --output d.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            vector = tuple(float(v) for v in found["vector"])
            made = cls(str(found["model"]), tuple(found["plus"]), tuple(found["minus"]), vector)
        except OSError as error:
            raise DataError(f"z_add: {path} cannot be read: {error.strerror}", cure) from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise DataError(f"z_add: {path} holds no difference of latents", cure) from None
        if made.model != model or len(vector) != size or not all(map(math.isfinite, vector)):
            raise OptionError(f"z_add: {path} is of another model ({len(vector)} units, {made.model[:12]})", cure)
        return made
