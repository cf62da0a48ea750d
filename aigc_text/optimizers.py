"""Optimizers and learning rates by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from .options import TrainingOptions


def build(model: nn.Module, parameters: list[nn.Parameter], options: TrainingOptions) -> list[torch.optim.Optimizer]:
    """The optimizers of one parameter group.

    AdamW (Loshchilov and Hutter 2019) decays matrices only. Muon (Jordan et al. 2024) takes the hidden matrices,
    scaled to AdamW's update size (Moonshot, arXiv 2502.16982, eq. 4) so that one learning rate serves both, and
    leaves embeddings, the output layer, gains and biases to AdamW.
    """
    lookup = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    output = getattr(model, "get_output_embeddings", lambda: None)()
    lookup |= {id(p) for p in output.parameters()} if output is not None else set()
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in lookup]
    matrices = [p for p in parameters if p.ndim >= 2 and id(p) in lookup or p.ndim > 2]
    vectors = [p for p in parameters if p.ndim < 2]
    muon = options.optimizer == "muon" and bool(hidden)
    decayed = matrices if muon else matrices + hidden
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    built: list[torch.optim.Optimizer] = []
    if decayed or vectors:
        built.append(
            torch.optim.AdamW(
                [g for g in groups if g["params"]],
                lr=options.learning_rate,
                betas=(0.9, options.adam_beta2),
            )
        )
    if muon:
        built.append(
            torch.optim.Muon(
                hidden,
                lr=options.learning_rate,
                weight_decay=options.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return built


def rate(step: int, options: TrainingOptions) -> float:
    """The share of the learning rate that step `step` (from 0) uses: linear warm-up, then the schedule.

    A function of the step alone, so a resumed run needs no scheduler state.
    """
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.max_steps - options.warmup_steps)
    shape = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
    }[options.schedule]
    return options.min_rate + (1 - options.min_rate) * shape
