"""Recurrences that are linear in their state, as differentiable functions of tensors.

On a CPU they run the kernels of `tgn.kernels`. On other devices the linear scan is a parallel scan
in torch, and the selective scan is the kernel of mamba_ssm. Arguments in half precision are
computed, and results returned, in float32: a state that is carried over many steps needs it.

Sources: Feng et al. 2024, "Were RNNs all we needed?" (minGRU); Hillis and Steele 1986 (the
parallel scan); Gu and Dao 2023, "Mamba" (selective scan).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgn.kernels import scan
from tgn.kernels import selective_scan as selective


def linear_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """``h[t] = a[t] * h[t - 1] + b[t]``.

    Parameters
    ----------
    a, b : tensor, shape (B, T, D)
    h0 : tensor, shape (B, D), optional
        ``h[-1]``, zeros when None.

    Returns
    -------
    tensor, shape (B, T, D)
        float64 if an argument is, else float32.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    a, b, h0 = _prepared(a, b, h0)
    function = _LinearScan if a.device.type == "cpu" else _ParallelScan
    return function.apply(a, b, h0)


def min_gru(gate: Tensor, candidate: Tensor, h0: Tensor | None = None) -> Tensor:
    """``h[t] = (1 - z[t]) * h[t - 1] + z[t] * g(candidate[t])`` with ``z = sigmoid(gate)``.

    g(x) is x + 1/2 where x >= 0 and sigmoid(x) elsewhere, which keeps h positive: the real-space
    form of Feng et al. 2024, appendix B.2.

    Parameters
    ----------
    gate, candidate : tensor, shape (B, T, D)
    h0 : tensor, shape (B, D), optional
        ``h[-1]``, zeros when None.

    Returns
    -------
    tensor, shape (B, T, D)
        float64 if an argument is, else float32.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    gate, candidate, h0 = _prepared(gate, candidate, h0)
    if gate.device.type == "cpu":
        return _MinGRU.apply(gate, candidate, h0)
    z = gate.sigmoid()
    g = torch.where(candidate < 0, candidate.sigmoid(), candidate + 0.5)
    return _ParallelScan.apply(1 - z, z * g, h0)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    h0: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The state space of Mamba, discretisation included: `tgn.kernels.selective_scan`.

    Parameters
    ----------
    u, delta : tensor, shape (b, l, d)
        Inputs, and time steps after their softplus.
    A : tensor, shape (d, n)
        Rates, negative where the state decays.
    B, C : tensor, shape (b, l, n)
    D : tensor, shape (d,)
    h0 : tensor, shape (b, d, n), optional
        State before the first input, zeros when None.

    Returns
    -------
    y : tensor, shape (b, l, d)
    last : tensor, shape (b, d, n)
        State after the last input. Both are float64 if an argument is, else float32.

    Raises
    ------
    ValueError
        If shapes do not fit.
    ImportError
        If the tensors are on a GPU and mamba_ssm, whose kernel runs there, is not installed.
    NotImplementedError
        On devices other than CPU and GPU.
    """
    _check_selective(u, delta, A, B, C, D, h0)
    if u.device.type == "cpu":
        if h0 is None:
            h0 = u.new_zeros(u.shape[0], *A.shape)
        return _SelectiveScan.apply(*_contiguous(u, delta, A, B, C, D, h0))
    if u.device.type == "cuda":
        u, delta, A, B, C, D = _widened(u, delta, A, B, C, D)
        return _mamba_ssm_scan(u, delta, A, B, C, D, h0)
    raise NotImplementedError(f"the selective scan runs on cpu and cuda, not on {u.device.type}")


def _prepared(a: Tensor, b: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Contiguous, of one dtype, checked."""
    if a.ndim != 3 or a.shape != b.shape:
        raise ValueError(
            f"a scan needs two tensors of one shape (B, T, D), got {(*a.shape,)} and {(*b.shape,)}"
        )
    if h0 is None:
        h0 = a.new_zeros(a.shape[0], a.shape[2])
    if h0.shape != (a.shape[0], a.shape[2]):
        raise ValueError(
            f"h0 must have shape {(a.shape[0], a.shape[2])} (B, D) beside inputs of shape "
            f"{(*a.shape,)}, got {(*h0.shape,)}"
        )
    a, b, h0 = _contiguous(a, b, h0)
    return a, b, h0


def _check_selective(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, h0: Tensor | None
) -> None:
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(f"u must have axes (b, l, d) and A (d, n), got {u.shape} and {A.shape}")
    batch, length, channels = u.shape
    n_states = A.shape[1]
    expected = {
        "delta": (delta, (batch, length, channels)),
        "A": (A, (channels, n_states)),
        "B": (B, (batch, length, n_states)),
        "C": (C, (batch, length, n_states)),
        "D": (D, (channels,)),
    }
    if h0 is not None:
        expected["h0"] = (h0, (batch, channels, n_states))
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(
                f"{name} must have shape {shape} beside u of shape {(*u.shape,)} and {n_states} "
                f"states, got {(*tensor.shape,)}"
            )


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [x.contiguous() for x in _widened(*tensors)]


def _widened(*tensors: Tensor) -> list[Tensor]:
    """All in float64 if one is, else in float32."""
    wide = any(x.dtype == torch.float64 for x in tensors)
    return [x.to(torch.float64 if wide else torch.float32) for x in tensors]


def _arrays(*tensors: Tensor) -> list[Any]:
    return [x.detach().numpy() for x in tensors]


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        arrays = _arrays(a, b, h0)
        h = torch.from_numpy(scan.linear_scan(*arrays, threads=torch.get_num_threads()))
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, ...]:
        arrays = _arrays(*ctx.saved_tensors, dh.contiguous())
        gradients = scan.linear_scan_gradient(*arrays, threads=torch.get_num_threads())
        return tuple(map(torch.from_numpy, gradients))


class _ParallelScan(torch.autograd.Function):
    """`_LinearScan` on any device; it keeps nothing of the steps in between."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        h = parallel_scan(a, b, h0)
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, ...]:
        a, h, h0 = ctx.saved_tensors
        # Backwards in time the gradient of b is itself such a scan, whose a is one step ahead.
        ahead = a.roll(-1, dims=1).flip(1)
        db = parallel_scan(ahead, dh.flip(1), torch.zeros_like(h0)).flip(1)
        da = db * torch.cat([h0[:, None], h[:, :-1]], dim=1)
        return da, db, a[:, 0] * db[:, 0]


class _MinGRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, candidate: Tensor, h0: Tensor) -> Tensor:
        arrays = _arrays(gate, candidate, h0)
        h = torch.from_numpy(scan.min_gru(*arrays, threads=torch.get_num_threads()))
        ctx.save_for_backward(gate, candidate, h, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, ...]:
        arrays = _arrays(*ctx.saved_tensors, dh.contiguous())
        gradients = scan.min_gru_gradient(*arrays, threads=torch.get_num_threads())
        return tuple(map(torch.from_numpy, gradients))


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        results = selective.selective_scan(
            *_arrays(*inputs), keep=any(ctx.needs_input_grad), threads=torch.get_num_threads()
        )
        y, last, kept = map(torch.from_numpy, results)
        ctx.save_for_backward(*inputs[:-1], kept)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor, ...]:
        arrays = _arrays(*ctx.saved_tensors, dy.contiguous(), dlast.contiguous())
        gradients = selective.selective_scan_gradient(*arrays, threads=torch.get_num_threads())
        return tuple(map(torch.from_numpy, gradients))


def _mamba_ssm_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, h0: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`selective_scan` by the kernel of mamba_ssm, which begins with an empty state.

    The recurrence is linear in the state: what an initial one adds is computed apart.
    """
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:
        raise ImportError(
            "a selective scan on a GPU needs the package mamba_ssm: "
            "pip install --no-build-isolation -e '.[gpu]' (docs/cluster.md)"
        ) from error
    y, last = selective_scan_fn(
        *(x.transpose(1, 2) for x in (u, delta)),
        A,
        *(x.transpose(1, 2) for x in (B, C)),
        D,
        return_last_state=True,
    )
    y = y.transpose(1, 2)
    if h0 is not None:
        elapsed = delta.cumsum(dim=1)
        left = torch.exp(elapsed[..., None] * A) * h0[:, None]  # of h0, at every time
        y = y + torch.einsum("bldn,bln->bld", left, C)
        last = last + left[:, -1]
    return y, last


def parallel_scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """`linear_scan` in log2(T) steps of whole-tensor arithmetic, for devices with many cores.

    After k steps, element t of (a, b) is the composition of the maps of the last 2**k times.
    """
    b = torch.cat([torch.addcmul(b[:, :1], a[:, :1], h0[:, None]), b[:, 1:]], dim=1)
    reach = 1
    while reach < a.shape[1]:
        b = torch.cat(
            [b[:, :reach], torch.addcmul(b[:, reach:], a[:, reach:], b[:, :-reach])], dim=1
        )
        a = torch.cat([a[:, :reach], a[:, reach:] * a[:, :-reach]], dim=1)
        reach *= 2
    return b
