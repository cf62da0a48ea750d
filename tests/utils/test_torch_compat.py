"""Private names of torch: each is there in the installed version, and does what it is used for."""

import pytest

torch = pytest.importorskip("torch")

from aigc_text.utils import torch_compat  # noqa: E402


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_packed_layer_is_the_layer(bias, rows):
    layer, x = torch.nn.Linear(7, 3, bias=bias), torch.randn(rows, 7)
    packed = torch_compat.packed_linear(layer.weight.detach(), layer.bias, 32)
    assert torch.allclose(packed(x), layer(x), atol=1e-6)


@pytest.mark.parametrize("kept", [True, False])
def test_whether_a_graph_is_kept(kept):
    found = []

    class Asks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            found.append(torch_compat.keeps_graph())
            return gradient * 2

    Asks.apply(torch.ones(1, requires_grad=True)).backward(retain_graph=kept)
    assert found == [kept]


def test_the_makers_of_tensors_are_known():
    makers = torch_compat.tensor_makers()
    assert {torch.empty, torch.zeros, torch.ones, torch.randn, torch.full} <= makers
    assert torch.add not in makers


def test_a_compiled_module_is_forgotten():
    module = torch.nn.Linear(2, 2)
    module.compile()
    assert module._compiled_call_impl is not None
    torch_compat.forget_compiled(module)
    assert module._compiled_call_impl is None and module(torch.ones(1, 2)).shape == (1, 2)


def test_whether_bf16_is_computed_is_known():
    assert torch_compat.has_bf16_kernels() in (True, False)
