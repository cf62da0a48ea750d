"""What the figures of a training run measure: which of them share a unit, and so an axis; and where training failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

Curve = Sequence[tuple[float, float]]  # (update, value)

TOKEN, SENTENCE = "nats per token", "nats per sentence"


class Part(NamedTuple):
    """One axis.

    Attributes:
        title: what it shows.
        unit: of all its figures.
        names: the figures in `metrics.jsonl` that belong on it.
        start: where the axis begins; `None` for wherever the values do.
    """

    title: str
    unit: str
    names: tuple[str, ...]
    start: float | None = None


RATE = "learning_rate"
#: The unit of `loss` alone differs from objective to objective, so it is on each axis that has its unit.
PARTS = (
    Part("Loss", TOKEN, ("loss", "nll", "generator_nll", "eval_loss")),
    Part("Bits per byte", "bits per byte", ("eval_bits_per_byte",)),
    Part("Negative bound", SENTENCE, ("loss", "bound", "eval_bound")),
    Part("Reconstruction", SENTENCE, ("reconstruction", "eval_reconstruction")),
    Part("KL", SENTENCE, ("kl", "eval_kl")),
    Part("Active units", "units", ("eval_active_units",), 0),
    Part("Adversarial losses", "loss", ("generator_loss", "discriminator_loss")),
    Part("Uniqueness", "share of the generated texts", ("eval_uniqueness",), 0),
    Part("BLEU", "BLEU", ("eval_bleu_4", "eval_self_bleu_4"), 0),
    Part("Learning rate", "learning rate", (RATE, f"encoder_{RATE}", f"decoder_{RATE}")),
)
LABELS = {
    "loss": "training loss",
    "generator_loss": "generator",
    "discriminator_loss": "discriminator",
    "eval_bleu_4": "BLEU-4",
    "eval_self_bleu_4": "Self-BLEU-4",
}
#: Figures of a validation that are 1 where training has failed, and what that is called.
FAILURES = {"eval_posterior_collapse": "posterior collapse", "eval_mode_collapse": "mode collapse"}
ROLLED_BACK = "rolled_back_to"


class Mark(NamedTuple):
    """A stretch of a run, from one validation to another or the same one, and what was wrong."""

    label: str
    begin: float
    end: float


def parts(curves: Mapping[str, Curve], loss_unit: str = "") -> dict[Part, dict[str, Curve]]:
    """The axes that a run needs, each with its curves.

    Args:
        curves: the run's figures by name.
        loss_unit: of the figure `loss`, as the run recorded it; empty for runs that did not, whose unit is nats per
            token, or nats per sentence where a `reconstruction` was logged.
    """
    unit = loss_unit or (SENTENCE if "reconstruction" in curves else TOKEN)
    known = {name for part in PARTS for name in part.names}
    others = [n for n in curves if n.endswith(("_loss", RATE)) and n not in known]
    found: dict[Part, dict[str, Curve]] = {}
    for part in PARTS:
        names = [*part.names, *(n for n in others if n.endswith(RATE))] if RATE in part.names else part.names
        drawn = {n: _adversarial(n, curves) for n in names if n in curves and (n != "loss" or part.unit == unit)}
        found[part] = _distinct({n: curve for n, curve in drawn.items() if curve})
        if RATE in names and len(found[part]) == 1:  # that of all groups
            found[part] = dict.fromkeys([RATE], *found[part].values())
    if "loss" in curves and unit not in (TOKEN, SENTENCE):
        found[Part("Loss", unit, ("loss",))] = {"loss": curves["loss"]}
    for name in others:
        if not name.endswith(RATE):  # nobody says in which unit, so each has an axis of its own
            found[Part(words(name).capitalize(), "loss", (name,))] = {name: curves[name]}
    return {part: drawn for part, drawn in found.items() if drawn}


def _adversarial(name: str, curves: Mapping[str, Curve]) -> Curve:
    """A curve; of the generator's loss what is not a likelihood, whose unit is another: it has a name of its own."""
    if name != "generator_loss":
        return curves[name]
    steps = {step for step, _ in curves.get("discriminator_loss", ())}
    return [point for point in curves[name] if point[0] in steps]


def _distinct(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Without curves that equal another one: a loss that is the bound, groups with one learning rate."""
    found: dict[str, Curve] = {}
    for name, curve in reversed(list(curves.items())):
        if not any(list(curve) == list(other) for other in found.values()):
            found[name] = curve
    return dict(reversed(list(found.items())))


def label(name: str) -> str:
    """What a curve is called on an axis whose title says what is measured."""
    if name.endswith(RATE):
        return name.removesuffix(f"_{RATE}") if name != RATE else "learning rate"
    return LABELS.get(name) or ("validation" if name.startswith("eval_") else "training")


def words(name: str) -> str:
    """A figure's name for readers."""
    return ("validation: " if name.startswith("eval_") else "") + name.removeprefix("eval_").replace("_", " ")


def marks(curves: Mapping[str, Curve]) -> list[Mark]:
    """Where training had collapsed, from the first validation that found it to the last; and where it was rolled back.

    Args:
        curves: the run's figures by name.
    """
    found = []
    for name, what in FAILURES.items():
        last = None
        for step, failed in curves.get(name, ()):
            if failed:
                last = Mark(what, step if last is None else last.begin, step)
            elif last is not None:
                found.append(last)
                last = None
        found += [last] if last is not None else []
    return [*found, *(Mark("rolled back", step, step) for step, _ in curves.get(ROLLED_BACK, ()))]


def is_mark(name: str) -> bool:
    """Whether a figure says where to put a mark, and is not drawn itself."""
    return name in FAILURES or name == ROLLED_BACK


def told(logs: Mapping[str, float]) -> str:
    """The figures that curves show as one line of text, in the order of the axes."""
    names = [n for part in PARTS for n in part.names if not n.endswith(RATE)]
    names += [n for n in logs if n not in names and n.endswith("_loss")]
    if logs.get("loss") == logs.get("bound"):
        names = [n for n in names if n != "loss"] if "bound" in logs else names
    shown = {n: logs[n] for n in dict.fromkeys(names) if n in logs}
    shown.update({n: logs[n] for n in logs if is_mark(n) and logs[n]})
    return "  ".join(f"{n} {v:.0f}" if v == int(v) and abs(v) < 1e9 else f"{n} {v:.3f}" for n, v in shown.items())
