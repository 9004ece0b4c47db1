"""The differentiable scans: gradients, precision, layouts, and the path of other devices."""

import inspect
import sys
from types import ModuleType

import pytest
import torch
from torch.autograd import gradcheck
from transformers.models.mamba import modeling_mamba

from tgn.models import scans
from tgn.models.scans import linear_scan, min_gru, selective_scan

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pair(batch=2, length=5, channels=3, dtype=torch.float64, **options):
    """Two inputs and an initial state."""
    shapes = (batch, length, channels), (batch, length, channels), (batch, channels)
    return [torch.randn(shape, dtype=dtype, **options) for shape in shapes]


def state_space(batch=2, length=11, channels=3, states=2, dtype=torch.float64):
    """u, delta, A, B, C, D, h0."""
    return [
        torch.randn(batch, length, channels, dtype=dtype),
        torch.rand(batch, length, channels, dtype=dtype),
        -torch.rand(channels, states, dtype=dtype),
        torch.randn(batch, length, states, dtype=dtype),
        torch.randn(batch, length, states, dtype=dtype),
        torch.randn(channels, dtype=dtype),
        torch.randn(batch, channels, states, dtype=dtype),
    ]


def differentiable(tensors):
    return [x.requires_grad_() for x in tensors]


@pytest.mark.parametrize("function", [linear_scan, min_gru, scans._ParallelScan.apply])
def test_gradients_of_the_linear_scans(function):
    assert gradcheck(function, differentiable(pair()))


def test_gradients_of_the_selective_scan():
    assert gradcheck(selective_scan, differentiable(state_space()))


def test_gradients_reach_only_what_asks_for_them():
    a, b, h0 = pair()
    linear_scan(a, b.requires_grad_(), h0).sum().backward()
    assert a.grad is None
    inputs = state_space()
    y, _ = selective_scan(*inputs[:3], inputs[3].requires_grad_(), *inputs[4:])
    y.sum().backward()
    assert inputs[3].grad is not None
    assert inputs[0].grad is None


@pytest.mark.parametrize("length", [1, 2, 7, 64, 100])
def test_the_parallel_scan_is_the_sequential_one(length):
    a, b, h0 = pair(length=length)
    torch.testing.assert_close(scans.parallel_scan(a, b, h0), linear_scan(a, b, h0))


def test_min_gru_is_a_linear_scan():
    gate, candidate, h0 = pair(length=20)
    z = gate.sigmoid()
    g = torch.where(candidate < 0, candidate.sigmoid(), candidate + 0.5)
    torch.testing.assert_close(min_gru(gate, candidate, h0), linear_scan(1 - z, z * g, h0))


def test_no_initial_state_is_zero():
    a, b, h0 = pair()
    for function in (linear_scan, min_gru):
        torch.testing.assert_close(function(a, b), function(a, b, torch.zeros_like(h0)))
    *inputs, h0 = state_space()
    torch.testing.assert_close(selective_scan(*inputs), selective_scan(*inputs, h0.zero_()))


def test_layout_does_not_matter():
    a, b, h0 = pair(channels=17)
    strided = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in (a, b, h0)]
    assert not strided[0].is_contiguous()
    for function in (linear_scan, min_gru):
        torch.testing.assert_close(function(*strided), function(a, b, h0))
    inputs = state_space()
    strided = [x.movedim(0, -1).contiguous().movedim(-1, 0) for x in inputs]
    torch.testing.assert_close(selective_scan(*strided), selective_scan(*inputs))
    # Gradients of a sum are expanded, of a transpose strided.
    a, b, h0 = differentiable(pair())
    linear_scan(a, b, h0).transpose(1, 2).sum().backward()
    expected = torch.autograd.grad(linear_scan(a, b, h0), b, torch.ones_like(a))[0]
    torch.testing.assert_close(b.grad, expected)


@pytest.mark.parametrize("function", [linear_scan, min_gru])
def test_half_precision_is_computed_in_float32(function):
    a, b, h0 = (x.bfloat16() for x in pair(length=50, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = function(a.sigmoid(), b.requires_grad_(), h0)
    assert h.dtype == torch.float32
    expected = function(a.sigmoid().float(), b.float(), h0.float())
    torch.testing.assert_close(h, expected, rtol=0, atol=0)
    h.sum().backward()
    assert b.grad.dtype == torch.bfloat16


def test_half_precision_selective_scan():
    inputs = [x.bfloat16() for x in state_space()]
    inputs[2] = inputs[2].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, last = selective_scan(*inputs)
    assert y.dtype == last.dtype == torch.float32
    expected = selective_scan(*(x.float() for x in inputs))
    torch.testing.assert_close((y, last), expected, rtol=0, atol=0)


def test_mixed_precision_goes_to_the_widest():
    a, b, h0 = pair()
    assert linear_scan(a.float(), b, h0.float()).dtype == torch.float64


def test_wrong_shapes_are_named():
    a, b, h0 = pair()
    with pytest.raises(ValueError, match=r"one shape \(B, T, D\)"):
        linear_scan(a, b[:, 1:])
    with pytest.raises(ValueError, match=r"h0 must have shape \(2, 3\)"):
        min_gru(a, b, h0[:1])
    inputs = state_space()
    for k, name in ((1, "delta"), (3, "B"), (5, "D"), (6, "h0")):
        wrong = list(inputs)
        wrong[k] = wrong[k][..., 1:]
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            selective_scan(*wrong)


def test_a_device_without_a_kernel_is_named():
    with pytest.raises(NotImplementedError, match="not on meta"):
        selective_scan(*(x.to("meta") for x in state_space()))


def test_without_mamba_ssm_a_gpu_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    with pytest.raises(ImportError, match=r"mamba_ssm: pip install .* -e '\.\[gpu\]'"):
        scans._mamba_ssm_scan(*state_space())


@pytest.mark.parametrize("length", [1, 11])
def test_a_kernel_that_begins_empty_is_given_an_initial_state(length, monkeypatch):
    """In place of mamba_ssm's, transformers' torch function of the same arguments and layout."""
    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = inspect.unwrap(modeling_mamba.mamba_selective_scan)
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    inputs = state_space(length=length, dtype=torch.float32)
    torch.testing.assert_close(scans._mamba_ssm_scan(*inputs), selective_scan(*inputs))


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("function", [linear_scan, min_gru])
def test_a_gpu_gives_the_cpu_scan(function):
    results, start = [], pair(length=100)
    start[0].sigmoid_()
    for device in ("cpu", "cuda"):
        inputs = differentiable([x.detach().clone().to(device) for x in start])
        h = function(*inputs)
        h.square().sum().backward()
        results.append([x.cpu() for x in (h, *(x.grad for x in inputs))])
    torch.testing.assert_close(*results)


@pytest.mark.gpu
@gpu
def test_a_gpu_gives_the_cpu_selective_scan():
    pytest.importorskip("mamba_ssm", reason="mamba_ssm is not installed")
    inputs = state_space(length=100, channels=32, states=16, dtype=torch.float32)
    expected = selective_scan(*inputs)
    found = selective_scan(*(x.cuda() for x in inputs))
    torch.testing.assert_close([x.cpu() for x in found], list(expected), rtol=1e-4, atol=1e-4)
