"""One step of training: the gradients of its micro-batches, added up, and each group's update."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from aigc_text import distributed
from aigc_text.errors import TrainingError, out_of_memory
from aigc_text.options.training import TrainingOptions

from . import hardware, interrupts, optimizers
from .objective import Objective, Step

HALVINGS = 5  # of a batch that does not fit into memory, at most


@dataclass
class Rates:
    """What an update must know of the run."""

    step: int = 0
    scale: float = 1.0  # multiplies every learning rate
    halvings: int = 0  # how often a batch is divided in two to fit into memory


class Updates:
    """Makes updates, with what does not change during a run.

    Attributes:
        stopping: whether a process was asked to stop; all know it after an update.
        notes: what the user should know.
        rows: the most rows that were computed at once in the newest update.
    """

    def __init__(
        self,
        accelerator: Any,
        model: nn.Module,
        objective: Objective,
        options: TrainingOptions,
        of_group: Mapping[str, TrainingOptions],
        by_group: Mapping[str, list[Any]],
    ) -> None:
        self.accelerator, self.model, self.objective, self.options = accelerator, model, objective, options
        self.of_group, self.optimizers = of_group, by_group
        self.parameters = {g: [p for o in by_group[g] for h in o.param_groups for p in h["params"]] for g in by_group}
        self.applied, self.stopping, self.notes = False, False, list[str]()
        self.rows = options.batch_size

    def make(self, given: list[tuple[Any, bool]], state: Rates, place: Callable[[int], str]) -> dict[str, float]:
        """All groups' updates of one step, each from `gradient_accumulation_steps` micro-batches.

        Args:
            given: the micro-batches, this process's rows of each and whether they count.
            state: of the run; `halvings` in it grows where memory runs out.
            place: says where in the data a micro-batch comes from, counted over the run.

        Returns:
            Named figures of the step.

        Raises:
            TrainingError: a loss or gradient that is not finite, or nothing to learn; nothing was updated.
            MemoryError, RuntimeError: there is no memory for less either, or not for a step that is half made.
        """
        self.state, self.place = state, place
        while True:
            parts = self._divided(given)
            self.rows = max(distributed.rows(part) or 1 for part, _ in parts)
            try:
                return self._attempt(parts)
            except (MemoryError, RuntimeError) as error:
                if not (out_of_memory(error) and self._can_halve(given)):
                    raise
            self.model.zero_grad(set_to_none=True)
            hardware.free(self.accelerator.device)  # what the attempt held has gone with its error
            self.state.halvings += 1
            self.notes.append(
                f"out of memory: batches are computed in {2**self.state.halvings} parts from here on, "
                "with the same result"
            )

    def _steadier(self) -> str:
        """What helps against a loss that is not finite, besides what the options already have."""
        precise = "" if self.options.precision == "fp32" else ", or with --precision fp32"
        return (
            f"Look at the data, or train into another --output with a lower --learning-rate than "
            f"{self.options.learning_rate:g}{precise}."
        )

    def smaller(self) -> str:
        """What helps where the newest update did not fit into memory."""
        if self.rows == 1:
            less = "Not even one row fits: lower --block-size, or train a smaller model or an adapter (--lora-rank)"
        else:
            twice = 2 * self.options.gradient_accumulation_steps
            less = f"Halve --batch-size and set --gradient-accumulation-steps {twice} for the same result, "
            less += "or lower --block-size"
        return f"{less}; with another --output."

    def _divided(self, given: list[tuple[Any, bool]]) -> list[tuple[Any, bool]]:
        """The micro-batches in as many parts as memory asks for."""
        return [(part, counts) for rows, counts in given for part in distributed.parts(rows, 2**self.state.halvings)]

    def _can_halve(self, given: list[tuple[Any, bool]]) -> bool:
        """Whether the step can be done again in smaller parts: not after an update of one of its groups."""
        divisible = all(self.objective.divisible(part) for part, _ in given)
        alone = distributed.world() == 1  # of several the others have gone on
        return self.rows > 1 and divisible and alone and not self.applied and self.state.halvings < HALVINGS

    def _attempt(self, micro: list[tuple[Any, bool]]) -> dict[str, float]:
        step, device = self.state.step, self.accelerator.device
        self.applied, self.losses = False, list[list[torch.Tensor]]()
        seed(self.options, step, distributed.rank(), device)
        weights = [self.objective.weight(rows) if counts else 0.0 for rows, counts in micro]
        total = distributed.total([sum(weights)], device)[0]
        if total == 0:
            raise TrainingError(
                f"step {step + 1}: nothing in the batch is to be learned, all of its targets are masked",
                "Raise --block-size if completions are cut off, or look at the data.",
            )
        # Averaging over processes divides by their number; multiplied back here so that targets weigh the same.
        shares = [w * distributed.world() / total for w in weights]
        runs = [self.objective.steps(self.model, hardware.to(rows, device), step) for rows, _ in micro]
        factor = self.state.scale * optimizers.rate(step, self.options)
        logs = {self._prefix(g) + "learning_rate": o.learning_rate * factor for g, o in self.of_group.items()}
        while True:
            sums: dict[str, torch.Tensor] = {}
            # The micro-batches advance in lockstep: a group is updated from all of them before any goes on.
            self.losses.append([])
            found = [self._backward(run, n, shares, sums) for n, run in enumerate(runs)]
            taken = next((s for s in found if s is not None), None)
            if taken is None:
                return logs
            groups = (taken.group,) if isinstance(taken.group, str) else taken.group
            figures = self._apply(groups, factor * taken.rate, sums)
            logs.update(
                {
                    self._prefix(g) + "learning_rate": self.of_group[g].learning_rate * factor * taken.rate
                    for g in groups
                }
            )
            prefix = self._prefix(groups[0]) if len(groups) == 1 else ""
            logs.update({prefix + name: value for name, value in figures.items()})

    def _backward(self, run: Iterator[Step], n: int, shares: list[float], sums: dict[str, torch.Tensor]) -> Step | None:
        """The next loss of a micro-batch: its gradients are added to the parameters', its figures to `sums`."""
        last = n == len(shares) - 1
        with self.accelerator.no_sync(self.model) if not last else nullcontext():
            with hardware.autocast(self.accelerator.device, self.options):
                found = next(run, None)
            if found is None:
                return None
            self.losses[-1].append(found.loss.detach())
            self.accelerator.backward(found.loss * shares[n])
        for name, value in {"loss": found.loss, **found.logs}.items():
            part = hardware.scalar(value, self.accelerator.device) * shares[n]
            # A mean over no targets is no number, and counts for nothing.
            sums[name] = sums.get(name, 0.0) + (part if shares[n] else torch.zeros_like(part))
        return found

    def _apply(self, groups: tuple[str, ...], factor: float, sums: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Updates groups from their gradients; gives the figures of all processes."""
        limit = self.of_group[groups[0]].max_grad_norm or math.inf
        norm = self.accelerator.clip_grad_norm_([p for g in groups for p in self.parameters[g]], limit)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm  # FSDP leaves it divided
        asked_to_stop = next(iter(sums.values())).new_tensor(float(interrupts.asked() != 0))
        means = self.accelerator.reduce(torch.stack([*sums.values(), asked_to_stop]), "mean")
        # All at once, for here the host waits for the device, and nowhere else in a step.
        *found, asked, grad_norm = torch.cat([means, norm.reshape(1).to(means)]).tolist()
        self.stopping = self.stopping or asked > 0  # as all processes know now, since one of them was told
        figures = {**dict(zip(sums, found, strict=True)), "grad_norm": grad_norm}
        if not (math.isfinite(figures["grad_norm"]) and math.isfinite(figures["loss"])):
            raise TrainingError(
                f"step {self.state.step + 1}: loss {figures['loss']:g} with gradient norm {figures['grad_norm']:g} of "
                f"group {' and '.join(groups)!r} is not finite; the weights were not updated. {self._blamed()}",
                self._steadier(),
            )
        self.applied = True
        for o in (o for g in groups for o in self.optimizers[g]):
            for h in o.param_groups:
                h["lr"] = h["initial_lr"] * factor
            o.step()
        self.model.zero_grad(set_to_none=True)  # of all groups: one group's loss reaches another's parameters
        return figures

    def _blamed(self) -> str:
        """Which batches a loss that is not finite comes from; all of the step where each loss by itself is finite."""
        count = self.options.gradient_accumulation_steps
        bad = [n for n, loss in enumerate(self.losses[-1]) if not bool(loss.isfinite().all())]
        parts = max(1, len(self.losses[-1]) // count)
        blamed = sorted({n // parts for n in bad} or range(count))
        return "Its data: " + "; ".join(self.place(self.state.step * count + n) for n in blamed[:3])

    def _prefix(self, group: str) -> str:
        return f"{group}_" if len(self.of_group) > 1 else ""


def seed(options: TrainingOptions, step: int, process: int, device: torch.device) -> None:
    """Seeds all that is drawn in a step, as a function of (seed, step, process): nothing of it needs saving."""
    key = f"{options.seed}/{step}/{process}".encode()
    found = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
    # The generators that are drawn from, and no others: for devices that are not there `torch.manual_seed` takes a
    # stack trace each time.
    if device.type in ("cpu", "cuda"):
        torch.default_generator.manual_seed(found)
        if device.type == "cuda":
            torch.cuda.manual_seed_all(found)
    else:
        torch.manual_seed(found)
    random.seed(found)
