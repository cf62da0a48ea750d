"""Linear layers on the CPU with their weights packed once for oneDNN, where a step would arrange them anew.

A step of decoding multiplies a few rows by every weight of the model. torch does it through a general matrix product,
which is two to four times slower for so few rows than oneDNN with weights in the order that its kernels read. The
packed product has another merit: a row's result hardly depends on how many rows are beside it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from aigc_text.utils import torch_compat

ROWS = 32  # that the weights are arranged for; right for one and for a thousand as well
MOST = 4 << 30  # bytes of weights that are packed: they stay beside the model's own

Forward = Callable[[torch.Tensor], torch.Tensor]

_this_thread = threading.local()  # `computes_with`: the mark of the packed layers that it uses
_known: weakref.WeakKeyDictionary[nn.Module, Packed] = weakref.WeakKeyDictionary()


def packed(model: nn.Module) -> Packed:
    """The model's packed layers; packed anew where its weights have changed since."""
    layers: list[Any] = [m for m in model.modules() if type(m) in (nn.Linear, Conv1D) and _can(m)]
    if sum(_bytes(m.weight) for m in layers) > MOST:
        layers = []
    stamp = [_stamp(m.weight) for m in layers]
    found = _known.get(model)
    if found is None or found.stamp != stamp:
        found = _known[model] = Packed(model, layers, stamp)
    return found


class Packed:
    """The packed layers of a model; `with layers.in_use(): model(...)` computes with them.

    Several threads may compute with one model: each decides for itself, and those outside of `in_use` get the model's
    own layers meanwhile. Nothing of the model is changed when no thread is inside. Without oneDNN, on other devices,
    for other types of numbers and under autocast, the model computes as it always does.
    """

    def __init__(self, model: nn.Module, layers: Sequence[nn.Module], stamp: list[int]) -> None:
        self.stamp = stamp
        self.lock, self.users, self.mark = threading.Lock(), 0, object()
        self.forwards = [(layer, _chosen(self.mark, layer, _forward(layer))) for layer in layers]
        gelus = (m for m in model.modules() if type(m) is NewGELUActivation)
        self.forwards += [(m, _chosen(self.mark, m, _gelu)) for m in gelus]  # eight kernels in one

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the model computes with the packed layers, in this thread."""
        if torch.is_autocast_enabled("cpu"):  # inputs would come in bf16, and the weights are packed as they are
            yield
            return
        with self.lock:
            self.users += 1
            if self.users == 1:
                for module, forward in self.forwards:
                    module.__dict__["forward"] = forward
        _this_thread.computes_with = self.mark
        try:
            yield
        finally:
            _this_thread.computes_with = None
            with self.lock:
                self.users -= 1
                if not self.users:
                    self._remove()

    def _remove(self) -> None:
        for module, forward in self.forwards:
            if module.__dict__.get("forward") is forward:  # else it is that of weights packed since
                del module.__dict__["forward"]


def _chosen(mark: object, module: Any, packed: Forward) -> Forward:
    """A module's `forward` for all threads: the packed one in those that compute with the layers of that mark."""
    own = type(module).forward.__get__(module)

    def forward(x: torch.Tensor) -> torch.Tensor:
        chosen: Forward = packed if getattr(_this_thread, "computes_with", None) is mark else own
        return chosen(x)

    return forward


def _bytes(weight: torch.Tensor) -> int:
    return weight.numel() * weight.element_size()


def _stamp(weight: torch.Tensor) -> int:
    """The sum of a weight's bits, which a training step changes; torch's own count of changes misses some."""
    flat = weight.detach().reshape(-1)
    return int(flat.view(torch.int64 if _bytes(flat) % 8 == 0 else torch.uint8).sum())


def _can(module: Any) -> bool:
    weight = module.weight
    plain = type(weight) is nn.Parameter and weight.layout == torch.strided  # not what FSDP divided
    if not plain or weight.device.type != "cpu" or module._forward_hooks or weight.numel() == 0:
        return False
    return torch.backends.mkldnn.is_available() and (
        weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and torch_compat.has_bf16_kernels())
    )


def _forward(module: Any) -> Forward:
    weight = module.weight.detach()
    if isinstance(module, Conv1D):
        weight = weight.t().contiguous()  # (in, out) → (out, in)
    return torch_compat.packed_linear(weight, module.bias, ROWS)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")
