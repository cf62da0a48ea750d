"""Optimizers and learning rates by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from aigc_text.options.training import TrainingOptions


def build(model: nn.Module, parameters: list[nn.Parameter], options: TrainingOptions) -> list[torch.optim.Optimizer]:
    """The optimizers of one parameter group; all of them decay matrices only.

    `adamw`: Loshchilov and Hutter 2019. `muon`: Jordan et al. 2024, for the hidden matrices, scaled to AdamW's update
    size (Moonshot, arXiv 2502.16982, eq. 4) so that one learning rate serves both; embeddings, the output layer, gains
    and biases go to AdamW. `sgd`: with `momentum` if asked for. `asgd`: Polyak and Juditsky 1992 with a rate that does
    not decay by itself; what it averages is used wherever the model is looked at, see `averages`.
    """
    lookup = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    output = getattr(model, "get_output_embeddings", lambda: None)()
    lookup |= {id(p) for p in output.parameters()} if output is not None else set()
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in lookup]
    if options.optimizer == "muon" and hidden:
        taken = {id(p) for p in hidden}
        rest = [p for p in parameters if id(p) not in taken]
        return [*_build("adamw", rest, options), _muon(hidden, options)]
    return _build("adamw" if options.optimizer == "muon" else options.optimizer, parameters, options)


def _build(kind: str, parameters: list[nn.Parameter], options: TrainingOptions) -> list[torch.optim.Optimizer]:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if not groups:
        return []
    lr = options.learning_rate
    if kind == "sgd":
        return [torch.optim.SGD(groups, lr=lr, momentum=options.momentum or 0.0)]
    if kind == "asgd":
        # torch's average lags: with t0 = n it begins with the iterate of step n + 2.
        return [torch.optim.ASGD(groups, lr=lr, lambd=0.0, t0=options.average_from - 2)]
    return [torch.optim.AdamW(groups, lr=lr, betas=(0.9, options.adam_beta2), fused=True)]


def _muon(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    return torch.optim.Muon(
        parameters,
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        momentum=0.95 if options.momentum is None else options.momentum,
        adjust_lr_fn="match_rms_adamw",
    )


Averages = Iterable[tuple[torch.Tensor, torch.Tensor]]


@contextmanager
def averaged(averages: Averages) -> Iterator[None]:
    """Within it the parameters are their averages; after it they are as before."""
    averages = list(averages)
    own = [(p, p.detach().clone()) for p, _ in averages]
    settle(averages)
    try:
        yield
    finally:
        for p, before in own:
            p.data.copy_(before)


def settle(averages: Averages) -> None:
    """Makes averages the parameters for good, at the end of a run."""
    for p, average in averages:
        p.data.copy_(average)


def averages(optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What ASGD keeps, where it keeps any."""
    for o in optimizers:
        o = getattr(o, "optimizer", o)  # Accelerate wraps it
        if isinstance(o, torch.optim.ASGD):
            # Before its first step, and after a reset, there is no average.
            yield from ((p, state["ax"]) for p, state in o.state.items() if "ax" in state)


def rate(step: int, options: TrainingOptions) -> float:
    """The share of the learning rate that step `step` (from 0) uses: linear warm-up, then the schedule.

    A function of the step alone, so a resumed run needs no scheduler state; what a plateau takes off it is the loop's.
    """
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.max_steps - options.warmup_steps)
    shape = {
        "constant": 1.0,
        "plateau": 1.0,  # the validations lower it
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
    }[options.schedule]
    return options.min_rate + (1 - options.min_rate) * shape
