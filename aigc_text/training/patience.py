"""Early stopping and the plateau schedule, which all objectives share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aigc_text.errors import OptionError, nearest
from aigc_text.options.training import TrainingOptions

from .objective import Verdict
from .step import Rates


@dataclass
class Patience(Rates):
    """What must be remembered of the validations so far; plain values, saved as JSON."""

    best: float = math.inf
    best_step: int = -1
    stopped: str = ""  # why the run ended before its last step
    bad: int = 0  # validations since the best one
    waited: int = 0  # since the best one or the last time that a plateau lowered the rate


def criterion(options: TrainingOptions, logs: Mapping[str, float]) -> float:
    """What the best validation has the lowest of.

    Raises:
        OptionError: `options.best` is no figure of the validation.
    """
    name, sign = options.criterion()
    if name not in logs:
        known = [k.removeprefix("eval_") for k in logs if k.startswith("eval_")]
        cure = f"Allowed for best: {', '.join(known)}, and max: before one of them"
        raise OptionError(f"best {options.best!r} is no figure of this validation.{nearest(name[5:], known)}", cure)
    return sign * logs[name]


def verdict(options: TrainingOptions, state: Patience, best: bool) -> Verdict:
    """What follows from a validation, whose figures are the best so far or not; `state` remembers it."""
    state.bad, state.waited = (0, 0) if best else (state.bad + 1, state.waited + 1)
    if options.early_stopping and state.bad >= options.early_stopping:
        return Verdict(stop=f"{options.criterion()[0]} has not improved since step {state.best_step}")
    if options.schedule == "plateau" and state.waited >= options.plateau_patience:
        state.waited = 0
        return Verdict(scale_rate=max(options.plateau_factor, options.min_rate / state.scale))
    return Verdict()
