"""Linear layers on the CPU with their weights packed once for oneDNN, where a step would arrange them anew.

A step of decoding multiplies a few rows by every weight of the model. torch does it through a general matrix product,
which is two to four times slower for so few rows than oneDNN with weights in the order that its kernels read. The
packed product has another merit: a row's result hardly depends on how many rows are beside it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

ROWS = 32  # that the weights are arranged for; right for one and for a thousand as well

_known: weakref.WeakKeyDictionary[nn.Module, Packed] = weakref.WeakKeyDictionary()


def packed(model: nn.Module) -> Packed:
    """The model's packed layers; packed anew where its weights have changed since."""
    found = _known.get(model)
    if found is None or found.stamp != _stamp(model):
        found = _known[model] = Packed(model)
    return found


class Packed:
    """The packed layers of a model; `with layers.in_use(): model(...)` computes with them.

    Nothing of the model is changed outside of that. Without oneDNN, on other devices, and for other types of numbers
    there are none, and the model computes as it always does.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stamp = _stamp(model)
        self.forwards: list[tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]] = []
        for module in model.modules():
            if type(module) in (nn.Linear, Conv1D) and _can(module):
                self.forwards.append((module, _forward(module)))
            elif type(module) is NewGELUActivation:
                self.forwards.append((module, _gelu))  # eight kernels in one

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the model computes with the packed layers."""
        for module, forward in self.forwards:
            module.__dict__["forward"] = forward
        try:
            yield
        finally:
            for module, _ in self.forwards:
                module.__dict__.pop("forward", None)


def _stamp(model: nn.Module) -> tuple[Any, ...]:
    """What changes when a weight does."""
    return tuple((id(p), p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.parameters())


def _can(module: Any) -> bool:
    weight = module.weight
    if weight.device.type != "cpu" or weight.layout != torch.strided or module._forward_hooks or weight.numel() == 0:
        return False
    return torch.backends.mkldnn.is_available() and (
        weight.dtype == torch.float32
        or (weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    )


def _forward(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    weight = module.weight.detach()
    if isinstance(module, Conv1D):
        weight = weight.t().contiguous()  # (in, out) → (out, in)
    weight, bias = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS), module.bias

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    return forward


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")
