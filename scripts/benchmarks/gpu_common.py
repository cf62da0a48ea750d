"""What the sections of `scripts/gpu.py` share.

How figures are defined:

bandwidth   bytes read plus bytes written a second by `tensor.copy_` of a large tensor
FLOP/s      2 n³ over the seconds of a product of two n × n matrices in bf16
decoding    a step must read all weights once, and the keys and values of the tokens before it. With P parameters in
            bf16, L layers of width d, a batch of B rows and S tokens in a row on average:

                bytes of a step = 2 P + B · S · 2 · L · d · 2        fraction = bytes of a step · steps/s / bandwidth

training    6 N FLOP a token for N parameters that are multiplied by it (embeddings of positions are not), and the
            attention's 12 L d T for rows of T tokens (PaLM, Chowdhery et al. 2022, appendix B), which counts forward
            and backward passes, and nothing that is computed twice:

                MFU = (6 N + 12 L d T) · tokens/s / measured FLOP/s
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from devices import Peaks, seconds


class OutOfTime(Exception):
    """A section's time is used up."""


class Failed(Exception):
    """What was measured is not as it must be; the message says why."""


class Skipped(Exception):
    """A section cannot be measured with what was given."""


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()

    def check(self) -> None:
        if self.left() <= 0:
            raise OutOfTime


@dataclass
class Given:
    """What the sections are measured with.

    Attributes:
        machine: what the section of that name has found, or nothing.
    """

    device: str
    tiny: bool
    data: Path | None
    output: Path
    machine: Mapping[str, float] = field(default_factory=dict)


def alternate(
    works: Mapping[str, Callable[[], object]], turns: int, device: str, clock: Clock, peaks: Peaks
) -> dict[str, list[float]]:
    """Seconds by name of pieces of work that take turns; each has one turn before that, which is not counted.

    Who goes first alternates. When time runs out, the turns made so far are the result.

    Raises:
        OutOfTime: before the first turn that counts was complete.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        if clock.left() <= 0:
            if turn > 1:
                break
            raise OutOfTime
        for name in list(works)[:: -1 if turn % 2 else 1]:
            peaks.begin()
            span = seconds(works[name], device)
            peaks.end(name)
            if turn:
                found[name].append(span)
    return found


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """How many times as fast, from speeds: the median of the turns with the range."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def free() -> None:
    """Gives back what a section has left on the device."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


# Figures and cells of tables


def fraction(rate: float, most: float | None) -> float | None:
    return rate / most if most else None


def token_flop(model: Any, length: int) -> float:
    """FLOP that a token costs in training, in rows of `length` tokens; see above."""
    c = model.config
    places = sum(p.numel() for name, p in model.named_parameters() if name.endswith("wpe.weight"))
    return 6 * (sum(p.numel() for p in model.parameters()) - places) + 12 * c.num_hidden_layers * c.hidden_size * length


def ratio_cell(r: Mapping[str, float]) -> str:
    return f"{r['ratio']:.2f} ({r['lowest']:.2f} to {r['highest']:.2f})"


def share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def memory_cells(found: Mapping[str, float] | None, names: tuple[str, ...] = ("ours", "theirs")) -> str:
    return " | ".join("n/a" if found is None else f"{found[name]:.2f}" for name in names)
