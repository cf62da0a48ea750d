"""What a checkpoint of the trainer holds, and how it gets there from one process or several.

model.safetensors   the weights that training can change, and buffers: with LoRA the adapter alone
optimizers.pt       the optimizers' `state_dict`s
objective.pt        a list of the objective's `state_dict`s: one, or one a process (`Objective.per_process`)
trainer.json        the loop's own figures

All of it is whole: what FSDP divides among processes is put together for the file and divided again by who reads it.
So a checkpoint does not depend on how many processes made it. Only the main process touches files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from aigc_text import distributed
from aigc_text.errors import TrainingError, one_line

from .objective import Objective

T = TypeVar("T")


def write(
    folder: Path | None,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    objective: Objective,
    loop: Mapping[str, Any],
) -> None:
    """Saves the state of a run; all processes call it together, the main one with a folder, the others with `None`.

    One tensor at a time is put together on the device, so FSDP needs no room for the whole model there.
    """
    from safetensors.torch import save_file

    divide(model)
    weights = {name: whole(tensor) for name, tensor in changeable(model, optimizers).items()}
    if folder is not None:
        _refuse_non_finite(weights, loop)
        save_file({name: w.contiguous() for name, w in weights.items() if w is not None}, folder / "model.safetensors")
    del weights
    states = [_mapped(o.state_dict(), whole) for o in optimizers]
    own = _mapped(objective.state_dict(), lambda tensor: tensor.detach().cpu())
    owns = distributed.gathered(own) if objective.per_process else [own]
    if folder is not None:
        torch.save(states, folder / "optimizers.pt")
        torch.save(owns, folder / "objective.pt")
        (folder / "trainer.json").write_text(json.dumps(dict(loop)) + "\n", encoding="utf-8")


def _refuse_non_finite(weights: Mapping[str, torch.Tensor | None], loop: Mapping[str, Any]) -> None:
    """A loss is looked at before its update, so what an update itself has spoilt would be seen a step too late."""
    for name, tensor in weights.items():
        if tensor is not None and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise TrainingError(
                f"step {loop.get('step')}: {name} is not finite after its update; nothing was saved",
                "Train into another --output with a lower --learning-rate; the last save is as it was.",
            )


def size(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Bytes that `write` will take, as far as tensors go."""
    found = sum(t.numel() * t.element_size() for t in changeable(model, optimizers).values())
    for o in optimizers:
        states = [value for state in o.state.values() for value in state.values() if torch.is_tensor(value)]
        found += sum(t.numel() * t.element_size() for t in states)
    return found


def read(
    folder: Path | None,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    objective: Objective,
    loop: Callable[..., T],
) -> T:
    """Takes back what `write` saved; all processes call it together, as `write`.

    Args:
        loop: makes the loop's figures of their names and values.

    Raises:
        TrainingError: the checkpoint is of another model, of another number of processes and cannot be divided, or
            not in the form that `write` gives it.
    """
    divide(model)
    _read_weights(folder, changeable(model, optimizers))
    _read_optimizers(folder, optimizers)
    owns = distributed.from_main(_load(folder / "objective.pt") if folder else [])
    if objective.per_process and len(owns) != distributed.world():
        raise TrainingError(
            f"{type(objective).__name__} has a state of its own in each process, and {len(owns)} saved one, "
            f"not {distributed.world()}",
            f"Resume in {len(owns)} processes.",
        )
    objective.load_state_dict(owns[distributed.rank() if objective.per_process else 0])
    place, text = (folder or Path()) / "trainer.json", ""
    with _whole_file(place):
        text = place.read_text(encoding="utf-8") if folder else ""
    text = distributed.from_main(text)
    with _whole_file(place):
        return loop(**json.loads(text))


@contextmanager
def _whole_file(path: Path, kinds: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """Turns what a library says of a file that it cannot read, or will not, into the user's error.

    Such a file has the sum of its manifest, so it was not damaged but made so; nothing in it is run.
    """
    try:
        yield
    except TrainingError:
        raise
    except kinds as error:  # pickle, zip, safetensors and JSON raise many
        cause = one_line(str(error)).split(". ")[0][:120]
        raise TrainingError(
            f"{path} is not what this package saved: {type(error).__name__}: {cause}",
            "Train again into another folder with --output.",
        ) from error


def divide(model: nn.Module) -> None:
    """Has FSDP let go of the whole tensors that a forward pass without a backward one leaves behind.

    They would hide the parameters' own parts, and be used again after those have changed.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def changeable(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """By name what training can change: parameters that take a gradient or are in an optimizer, and saved buffers."""
    held = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    found = {n: p for n, p in model.named_parameters() if p.requires_grad or id(p) in held}
    saved = model.state_dict().keys()
    buffers = {n: b for n, b in model.named_buffers() if n in saved}
    return {plain_name(n): t for n, t in {**found, **buffers}.items()}


def plain_name(name: str) -> str:
    """A tensor's name without what activation checkpointing puts into it."""
    return name.replace("_checkpoint_wrapped_module.", "")


def whole(tensor: torch.Tensor) -> torch.Tensor | None:
    """The tensor as it is where it is not divided; else put together in the main process's memory, `None` elsewhere.

    All processes call it together.
    """
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return tensor
    divided: Any = tensor.to(tensor.device_mesh.device_type)
    together: torch.Tensor = divided.full_tensor()
    return together.cpu() if distributed.is_main() else None


def _mapped(tree: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """The same mappings and sequences with every tensor changed.

    Equal texts are one object afterwards: pickle writes an object once, so that its file would else tell a state that
    was loaded from one that grew here.
    """
    if torch.is_tensor(tree):
        return change(tree)
    if isinstance(tree, str):
        return sys.intern(tree)
    if isinstance(tree, Mapping):
        return {_mapped(k, change): _mapped(v, change) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_mapped(v, change) for v in tree)
    return tree


def _read_weights(folder: Path | None, into: dict[str, torch.Tensor]) -> None:
    from safetensors import safe_open

    stream = None
    if folder:
        with _whole_file(folder / "model.safetensors"):
            stream = safe_open(folder / "model.safetensors", framework="pt")
    shapes = {name: list(stream.get_slice(name).get_shape()) for name in list(stream.keys())} if stream else {}
    saved = distributed.from_main(shapes)
    needed = {n: list(tensor.shape) for n, tensor in into.items()}
    for name in sorted({*saved, *needed}):
        if saved.get(name) != needed.get(name):
            raise _foreign(f"{name} of shape {saved.get(name)}", str(needed.get(name)))
    with torch.no_grad():
        for name, tensor in into.items():
            found = stream.get_tensor(name) if stream else torch.empty(tensor.shape, device="meta")
            tensor.copy_(_spread(found.to(tensor.dtype), tensor))


def _read_optimizers(folder: Path | None, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    path = (folder or Path()) / "optimizers.pt"
    states = _load(path) if folder else []
    outlines = distributed.from_main(_mapped(states, lambda tensor: tensor.to("meta")))
    states = states or outlines
    with _whole_file(path, (TypeError, LookupError, ValueError, AttributeError)):
        if len(states) != len(optimizers):
            raise _foreign(f"the state of {len(states)} optimizers", str(len(optimizers)))
        for o, state in zip(optimizers, states, strict=True):
            parameters = [p for group in o.param_groups for p in group["params"]]
            for n, values in state["state"].items():
                state["state"][n] = _mapped(values, partial(_spread, like=parameters[n]))
            o.load_state_dict(state)


def _load(path: Path) -> Any:
    with _whole_file(path):
        return torch.load(path, weights_only=True, map_location="cpu")


def _spread(saved: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What the main process read, in all of them: divided as `like` is if it has its shape, else whole.

    Elsewhere `saved` is a tensor without data.
    """
    if not distributed.connected():
        return saved
    mesh = like.device_mesh if isinstance(like, DTensor) else None
    device = mesh.device_type if mesh is not None else like.device
    here = torch.empty_like(saved, device=device) if saved.is_meta else saved.to(device)
    if isinstance(like, DTensor) and saved.shape == like.shape:
        return distribute_tensor(here, mesh, like.placements).to(like.device)
    torch.distributed.broadcast(here, src=0)
    return here if here.ndim else here.cpu()  # optimizers count their steps on the CPU


def _foreign(held: str, needed: str) -> TrainingError:
    return TrainingError(
        f"the checkpoint holds {held}, what is trained has {needed}", "Resume with what the run was started with."
    )
