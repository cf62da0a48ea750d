"""What the loop runs on: devices, precision and processes, all through Accelerate, which is imported here only."""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from aigc_text import distributed
from aigc_text.errors import OptionError, TrainingError, out_of_memory
from aigc_text.options.training import TrainingOptions
from aigc_text.utils import torch_compat

from . import checkpoint_state

PATIENCE = timedelta(minutes=30)  # how long the others wait while the main process writes
LONG_PATIENCE = timedelta(days=30)  # how long one waits for another that makes texts, where nothing else passes


def connect() -> None:
    """Brings the processes together to exchange small things over the network, whatever they compute on.

    Raises:
        TrainingError: the processes were started in a way that is not known here.
    """
    _all_seen(PartialState(cpu=True, timeout=LONG_PATIENCE).num_processes)


def accelerator(options: TrainingOptions, groups: int) -> Accelerator:
    """Brings the processes together, and decides on the device and the precision of each.

    Args:
        groups: how many parameter groups there are.

    Raises:
        OptionError: fewer rows in a batch than processes.
        TrainingError: the processes were started in a way that is not known here.
    """
    _refuse_other_ways()
    if options.batch_size < distributed.world():
        raise OptionError(
            f"batch_size={options.batch_size} has no row for each of the {distributed.world()} processes",
            f"Set --batch-size to {distributed.world()} or more (it counts the rows of all of them), or start fewer.",
        )
    plugin = _fsdp(_bf16(options.precision)) if distributed.divide_model() else None
    # The state is shared by all Accelerators of a process, and would keep the first one's precision.
    AcceleratorState._reset_state()
    made = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else several processes would not find each other there
        mixed_precision="no",  # see autocast
        # The loop counts micro-batches itself; else a number in Accelerate's configuration would divide the loss.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        fsdp_plugin=plugin,
        kwargs_handlers=[
            # With several groups each phase leaves the others' parameters unused; with one that would be a mistake.
            DistributedDataParallelKwargs(find_unused_parameters=groups > 1),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )
    _all_seen(made.num_processes)
    if plugin is not None and made.distributed_type == DistributedType.MULTI_CPU:
        # torch divides models on the CPU too; Accelerate 1.15 passes over the wish where there is no accelerator.
        AcceleratorState._shared_state.update(distributed_type=DistributedType.FSDP, fsdp_plugin=plugin)
    return made


def _all_seen(count: int) -> None:
    if count != distributed.world():
        raise TrainingError(
            f"{distributed.world()} processes were started, and Accelerate sees {count}",
            "Start them with accelerate launch or torchrun, as docs/scale.md says.",
        )


@contextmanager
def autocast(device: torch.device, options: TrainingOptions) -> Iterator[None]:
    """Within it the model computes in the precision of the options.

    In place of Accelerate's own, which turns all that the model returns to fp32, the table of logits included.
    """
    bf16 = _bf16(options.precision)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16), _own_kernels(bf16 and device.type == "cpu"):
        yield


@contextmanager
def _own_kernels(bf16_on_cpu: bool) -> Iterator[None]:
    """Computes without oneDNN where it fails: it has no bf16 LSTM for a CPU without AVX-512, torch itself has one."""
    onednn: Any = torch.backends.mkldnn
    if not bf16_on_cpu or not onednn.enabled or torch_compat.has_bf16_kernels():
        yield
        return
    onednn.enabled = False
    try:
        yield
    finally:
        onednn.enabled = True


def _refuse_other_ways() -> None:
    for variable, name in (("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM")):
        if os.environ.get(variable, "").lower() == "true":
            raise TrainingError(f"Accelerate is configured for {name}, which is not known here", "Use FSDP 2 instead.")
    if not distributed.divide_model():
        return
    if os.environ.get("FSDP_VERSION") != "2":
        raise TrainingError("Accelerate is configured for FSDP 1, only FSDP 2 is known here", "Set --fsdp_version 2.")
    if os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() == "true" and not torch.accelerator.is_available():
        raise TrainingError("FSDP cannot offload parameters from the CPU", "Set fsdp_offload_params: false.")


def _fsdp(bf16: bool) -> FullyShardedDataParallelPlugin:
    """What Accelerate's configuration says about FSDP, but sums of gradients and losses stay in fp32."""
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.float32) if bf16 else None
    return FullyShardedDataParallelPlugin(mixed_precision_policy=policy)


def _bf16(precision: str) -> bool:
    """Whether to compute in bf16; `auto` wants hardware with bf16 matrix units, where it is faster."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def outline(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters have no data: what it was like before FSDP divided it."""
    holes: dict[int, torch.Tensor] = {}
    for p in model.parameters():
        holes[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
    return copy.deepcopy(model, holes)


def reunite(model: nn.Module, before: nn.Module) -> None:
    """Makes a model that FSDP divided the plain module it was, with its weights in the main process's memory.

    In the other processes its parameters have no data from here on.

    Args:
        model: as FSDP left it.
        before: its `outline`.
    """
    checkpoint_state.divide(model)
    named = {checkpoint_state.plain_name(n): p for n, p in model.named_parameters(remove_duplicate=False)}
    buffers = {checkpoint_state.plain_name(n): b for n, b in model.named_buffers(remove_duplicate=False)}
    filled: dict[int, nn.Parameter] = {}  # tied parameters stay tied
    for name, hole in [*before.named_parameters(remove_duplicate=False)]:
        if id(hole) not in filled:
            tensor = checkpoint_state.whole(named[name])
            filled[id(hole)] = hole if tensor is None else nn.Parameter(tensor, requires_grad=hole.requires_grad)
        owner, _, leaf = name.rpartition(".")
        before.get_submodule(owner)._parameters[leaf] = filled[id(hole)]
    for name, _ in [*before.named_buffers(remove_duplicate=False)]:
        owner, _, leaf = name.rpartition(".")
        before.get_submodule(owner)._buffers[leaf] = buffers[name].cpu()
    model.__class__, model.__dict__ = before.__class__, before.__dict__


@contextmanager
def memory(where: str, cure: Callable[[], str]) -> Iterator[None]:
    """Turns a lack of memory into the user's error.

    Args:
        where: goes on after "out of memory".
        cure: says what helps, once it is known what did not fit.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(f"out of memory {where}", cure()) from error


def free(device: torch.device) -> None:
    """Gives back memory that is held for nothing."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def scalar(value: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    """In fp32 on the device, without waiting for it."""
    if torch.is_tensor(value):
        return value.detach().to(device, torch.float32)
    return torch.full((), value, device=device, dtype=torch.float32)


def to(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device."""
    return distributed.mapped(batch, lambda x: x.to(device, non_blocking=True) if torch.is_tensor(x) else x)
