"""The loss of the next token against torch's own cross-entropy."""

import pytest
import torch
import torch.nn.functional as F

from aigc_text.training import losses


def example(dtype, seed=0):
    """Logits (3, 9, 50) and labels with masked ones, a whole row among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(3, 9, 50, generator=generator) * 3).to(dtype)
    labels = torch.randint(50, (3, 9), generator=generator)
    labels[0, 4:] = -100
    labels[2] = -100
    return logits, labels


def both(logits, labels):
    """(loss, gradient) of ours and of torch."""
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = losses.next_token_loss(ours, labels)
    expected = F.cross_entropy(theirs[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
    found.backward()
    expected.backward()
    return (found, ours.grad), (expected, theirs.grad)


@pytest.mark.parametrize("chunk", [1, 130, 1 << 18])  # a row, a few, all of them at once
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_those_of_cross_entropy(monkeypatch, chunk, dtype):
    monkeypatch.setattr(losses, "_CHUNK", {"cpu": chunk})
    (loss, gradient), (expected, reference) = both(*example(dtype))
    assert loss.dtype == torch.float32 and gradient.dtype == dtype
    assert torch.allclose(loss, expected, rtol=1e-6)
    assert torch.allclose(gradient, reference, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-8)


def test_a_factor_reaches_the_gradient():
    logits, labels = example(torch.float32)
    one, half = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    losses.next_token_loss(one, labels).backward()
    (0.5 * losses.next_token_loss(half, labels)).backward()
    assert torch.allclose(half.grad, 0.5 * one.grad)


def test_labels_that_are_all_masked_cost_nothing():
    logits, labels = example(torch.float32)
    logits.requires_grad_()
    loss = losses.next_token_loss(logits, torch.full_like(labels, -100))
    loss.backward()
    assert loss == 0 and not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_several_backward_passes_give_gradients_of_their_own(dtype):
    logits, labels = example(dtype)
    loss = losses.next_token_loss(logits.requires_grad_(), labels)
    first, second = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    kept = first.clone()
    (tripled,) = torch.autograd.grad(3 * loss, logits)
    _, (_, reference) = both(*example(dtype))
    assert torch.equal(first, kept) and torch.equal(first, second)  # neither was changed by what came later
    assert len({g.data_ptr() for g in (first, second, tripled)}) == 3
    assert torch.allclose(first, reference, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-8)
    assert torch.allclose(tripled, 3 * reference, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-8)


def test_losses_add_up_in_one_parameter():
    logits, labels = example(torch.float32)
    logits.requires_grad_()
    loss = losses.next_token_loss(logits, labels)
    loss.backward(retain_graph=True)
    loss.backward()
    _, (_, reference) = both(*example(torch.float32))
    assert torch.allclose(logits.grad, 2 * reference, rtol=1e-5, atol=1e-8)


def test_after_the_last_backward_torch_says_what_is_wrong():
    logits, labels = example(torch.float32)
    loss = losses.next_token_loss(logits.requires_grad_(), labels)
    loss.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        loss.backward()
