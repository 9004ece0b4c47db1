"""The transfer function of a real block: singular values of its Jacobian, and where they end.

A block maps the residual stream of a passage, x of shape (tokens, width), to that after it. Its
Jacobian at x is never written down: products with it are forward derivatives, products with its
transpose backward ones (:mod:`torch.func`). A central difference over a finite perturbation checks
the derivative where the perturbation is small, and where it is not tells how far a block is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from tgn.probing.adapters import adapt
from tgn.thermodynamics.transfer import largest_gains

SIZES = (1e-3, 1e-2, 1e-1, 1.0)


class BlockMap(NamedTuple):
    """A block as a function of its input: ``function`` and the ``point`` (tokens, width)."""

    function: Callable[[Tensor], Tensor]
    point: Tensor


class BlockGains(NamedTuple):
    """Gains of a block at one passage.

    ``gains`` (number,) are the largest singular values of the Jacobian, falling; ``isotropic_gain``
    is the root mean square gain of perturbations without a direction, ``draws`` (n,) those of each.
    """

    gains: NDArray[np.floating]
    isotropic_gain: float
    draws: NDArray[np.floating]


def block_map(
    model: PreTrainedModel, tokens: ArrayLike, layer: int, *, increment: bool = False
) -> BlockMap:
    """One block of a model as a function, at the input that a passage gives it.

    Parameters
    ----------
    model
        One stack, in evaluation mode.
    tokens : int array, shape (tokens,)
    layer
        From 0.
    increment
        Whether to leave out the skip connection: what the block adds to the stream.

    Raises
    ------
    ValueError
        If the family is unknown, the model is in training mode, there is no such layer, or the
        tokens are no row of ids.
    """
    blocks = adapt(model).blocks
    if model.training:
        raise ValueError("model is in training mode, where blocks are random: call model.eval()")
    if not 0 <= layer < len(blocks):
        raise ValueError(f"layer must be from 0 to {len(blocks) - 1}, got {layer}")
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise ValueError(f"tokens must be one row of ids, got shape {ids.shape} of {ids.dtype}")
    block = blocks[layer].module
    met: list[tuple[tuple, dict[str, Any]]] = []

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        met.append((args, kwargs))

    handle = block.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with torch.no_grad():
            row = torch.from_numpy(ids.astype(np.int64))[None].to(model.device)
            model.base_model(row, use_cache=False)
    finally:
        handle.remove()
    ((args, kwargs),) = met
    by_name = not args
    rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
    point = (kwargs["hidden_states"] if by_name else args[0])[0]

    def function(x: Tensor) -> Tensor:
        output = block(x[None], *args[1:], **rest)
        y = (output[0] if isinstance(output, tuple) else output)[0]
        return y - x if increment else y

    return BlockMap(function, point.detach())


def block_gains(
    model: PreTrainedModel,
    tokens: ArrayLike,
    layer: int,
    *,
    rng: np.random.Generator,
    number: int = 8,
    draws: int = 16,
    increment: bool = False,
) -> BlockGains:
    """The largest gains of a block at a passage, and that of perturbations without a direction.

    Parameters
    ----------
    model, tokens, layer, increment
        As :func:`block_map`.
    rng
        Of the perturbations, and of the start of the search.
    number
        Of gains, fewer than tokens x width.
    draws
        Perturbations without a direction.

    Raises
    ------
    ValueError
        As :func:`block_map`, if a number is out of range, or the block has an operation that
        :mod:`torch.func` cannot differentiate (BLOOM).
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    function, point = block_map(model, tokens, layer, increment=increment)
    apply, adjoint = products(function, point)
    size = point.numel()
    gains, _ = largest_gains(apply, adjoint, (size, size), number, rng=rng)
    probes = rng.standard_normal((draws, size))
    answers = np.array([np.linalg.norm(apply(d)) / np.linalg.norm(d) for d in probes])
    return BlockGains(gains, float(np.sqrt(np.mean(answers**2))), answers)


def block_response(
    model: PreTrainedModel,
    tokens: ArrayLike,
    layer: int,
    *,
    rng: np.random.Generator,
    sizes: Sequence[float] = SIZES,
    draws: int = 4,
    increment: bool = False,
) -> pd.DataFrame:
    """Gain of a block by its derivative and by finite perturbations.

    Parameters
    ----------
    model, tokens, layer, increment
        As :func:`block_map`.
    rng
        Of the directions, drawn without preference.
    sizes
        Norms of the finite perturbations, relative to that of the input.

    Returns
    -------
    DataFrame
        A row for each ``direction`` and ``size``: ``gain`` (||J d|| / ||d||), ``gain_finite``
        (of the central difference), ``relative_difference`` (of the two vectors, relative to
        J d). Below about 1e-3 the difference is the rounding of single precision.

    Raises
    ------
    ValueError
        As :func:`block_gains`, and if there are no sizes or a size is not positive.
    """
    if not len(sizes) or not all(np.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(f"sizes must be positive and finite, got {list(sizes)}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    function, point = block_map(model, tokens, layer, increment=increment)
    rows = []
    for direction in range(draws):
        drawn = torch.from_numpy(rng.standard_normal(tuple(point.shape))).to(point)
        unit = drawn / drawn.norm()
        tangent = _forward(function, point, unit)
        for size in sizes:
            step = float(size * point.norm())
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                moved = function(point + step * unit) - function(point - step * unit)
            slope = moved / (2 * step)
            rows.append(
                {
                    "direction": direction,
                    "size": size,
                    "gain": float(tangent.norm()),
                    "gain_finite": float(slope.norm()),
                    "relative_difference": float((slope - tangent).norm() / tangent.norm()),
                }
            )
    return pd.DataFrame(rows)


def products(
    function: Callable[[Tensor], Tensor], point: Tensor
) -> tuple[Callable[[NDArray], NDArray], Callable[[NDArray], NDArray]]:
    """Products with a function's Jacobian at a point, and with its transpose, on flat arrays.

    Returns
    -------
    apply, adjoint
        d -> J d and e -> J' e, both of shape (n,), with n the components of the point.
    """

    with _differentiable(), sdpa_kernel(SDPBackend.MATH):
        backward = torch.func.vjp(function, point)[1]

    def apply(direction: NDArray) -> NDArray:
        return _flat(_forward(function, point, _like(direction, point)))

    def adjoint(cotangent: NDArray) -> NDArray:
        return _flat(backward(_like(cotangent, point))[0])

    return apply, adjoint


def _forward(function: Callable[[Tensor], Tensor], point: Tensor, direction: Tensor) -> Tensor:
    # attention's fused kernels have no forward derivative
    with _differentiable(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        return torch.func.jvp(function, (point,), (direction,))[1]


@contextmanager
def _differentiable() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "setup_context" not in str(error):
            raise
        raise ValueError(
            "model: a block has an operation of its own making that torch.func cannot "
            "differentiate, as the GELU of BLOOM"
        ) from error


def _like(array: NDArray, point: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float64).reshape(point.shape)).to(point)


def _flat(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().flatten().numpy(force=True)
