"""Private names of torch that are used here, each in one place, so that a new version is tried on few lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Linear = Callable[[torch.Tensor], torch.Tensor]


def has_bf16_kernels() -> bool:
    """Whether oneDNN computes bf16 on this CPU."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packed_linear(weight: torch.Tensor, bias: torch.Tensor | None, rows: int) -> Linear:
    """A linear layer of oneDNN whose weight is arranged once.

    Args:
        weight: (out, in), of a type that oneDNN computes.
        bias: (out,), or none.
        rows: of the inputs that the weight is arranged for; it computes others as well.

    Returns:
        (…, in) to (…, out).
    """
    arranged, multiply = torch.ops.mkldnn._reorder_linear_weight(weight, rows), torch.ops.mkldnn._linear_pointwise

    def forward(x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = multiply(x, arranged, bias, "none", [], "")
        return made

    return forward


def keeps_graph() -> bool:
    """Within a backward pass, whether another one over the same graph may follow."""
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())


def tensor_makers() -> set[Any]:
    """The functions that make a tensor of given sizes: empty, zeros, randn, …"""
    from torch.utils._device import _device_constructors

    return set(_device_constructors())


def forget_compiled(module: nn.Module) -> None:
    """Takes back what `nn.Module.compile` has set."""
    module._compiled_call_impl = None
