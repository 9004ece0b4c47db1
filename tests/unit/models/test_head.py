"""The fused head against torch's cross-entropy of all logits."""

import pytest
import torch
import torch.nn.functional as F

from tgn.models import head


def case(dtype, vocabulary=37, tokens=11, width=8):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, tokens, width, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(vocabulary, (2, tokens), generator=generator)
    targets[0, 3] = targets[1, :4] = head.IGNORED
    return x, weight, targets


@pytest.mark.parametrize("logits", [2**20, 37 * 64, 1])
def test_loss_and_gradients_are_those_of_all_logits_at_once(monkeypatch, logits):
    monkeypatch.setitem(head.LOGITS, "cpu", logits)
    x, weight, targets = case(torch.float64, tokens=150)
    loss, nats = head.cross_entropy(x, weight, targets)
    (3 * loss).backward()
    gradients = x.grad.clone(), weight.grad.clone()
    x.grad = weight.grad = None
    logits = (x @ weight.T).mT
    expected = F.cross_entropy(logits, targets)
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nats, F.cross_entropy(logits, targets, reduction="none"))
    torch.testing.assert_close(gradients, (x.grad, weight.grad))


def test_gradcheck():
    x, weight, targets = case(torch.float64)
    assert torch.autograd.gradcheck(lambda *at: head.cross_entropy(*at, targets)[0], (x, weight))


def test_large_logits_do_not_overflow():
    x, weight, targets = case(torch.float32)
    loss, _ = head.cross_entropy(1e4 * x, weight, targets)
    expected = F.cross_entropy((1e4 * x @ weight.T).mT, targets)
    torch.testing.assert_close(loss, expected)


def test_bfloat16_autocast_gives_gradients_in_the_parameters_precision():
    x, weight, targets = case(torch.float32)
    exact, _ = head.cross_entropy(x, weight, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = head.cross_entropy(x, weight, targets)
    loss.backward()
    assert x.grad.dtype == weight.grad.dtype == loss.dtype == torch.float32
    assert abs(loss - exact) < 0.02 * exact


def test_no_gradient_is_computed_that_nobody_asks_for():
    x, weight, targets = case(torch.float32)
    with torch.no_grad():
        loss, _ = head.cross_entropy(x, weight, targets)
    assert not loss.requires_grad
    assert not head.cross_entropy(x.detach(), weight.detach(), targets)[0].requires_grad


def test_all_ignored_has_no_mean():
    x, weight, targets = case(torch.float32)
    loss, nats = head.cross_entropy(x, weight, torch.full_like(targets, head.IGNORED))
    assert loss.isnan()
    assert not nats.any()
