"""What whole-brain models share: parameters that may change in time, states, bands and runs.

A model is a frozen dataclass with ``weights`` (R, R), a tuple ``parameters`` that names its
parameters, the noise last, and ``step``, s. A parameter is a number, or a *ramp*: knots
``((seconds, value), ...)`` from the first volume on, joined by straight lines and level before the
first and after the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tgn.fmri.filters import Band, check_band
from tgn.kernels import normals
from tgn.kernels import whole_brain as kernels

Array: TypeAlias = NDArray[np.float64]
Ramp: TypeAlias = Sequence[Sequence[float]]
Parameter: TypeAlias = float | Ramp
Seed: TypeAlias = int | Sequence[int]


class Run(NamedTuple):
    """What a simulation gives."""

    signals: NDArray[np.float32]
    """BOLD, arbitrary unit (Hopf) or fractional change (mean field), (T, R)."""
    activity: NDArray[np.float32]
    """Mean over the run of amplitudes (Hopf) or of open excitatory gates (mean field), (R,)."""
    rates: NDArray[np.float32] | None
    """Mean excitatory rates, Hz, (R,); None for Hopf."""


class Model(Protocol):
    """Either model."""

    @property
    def weights(self) -> Array:
        """Coupling between regions, (R, R)."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, the noise last."""

    @property
    def step(self) -> float:
        """Seconds."""

    def connectivity(self, band: Band | None = None) -> Array:
        """Exact correlation matrix of the linearised model's signals, (R, R)."""

    def simulate(self, *, volumes: int, tr: float, seed: Seed, settle: float = ...) -> Run:
        """Signals at the end of each volume."""


def changed(model: Any, factors: Mapping[str, Parameter]) -> Any:
    """The model in another state: each named parameter times a number, or times a ramp.

    Raises
    ------
    ValueError
        If the model has no such parameter, or the result is out of its range.
    """
    if unknown := set(factors) - set(model.parameters):
        raise ValueError(
            f"{type(model).__name__} has no {', '.join(sorted(unknown))}; its parameters are "
            f"{', '.join(model.parameters)}"
        )
    now = dict(zip(model.parameters, constants(model), strict=True))
    return replace(model, **{name: _times(now[name], factors[name]) for name in factors})


def _times(value: float, factor: Parameter) -> Parameter:
    knots = np.asarray(factor, dtype=np.float64)
    if knots.ndim == 0:
        return value * float(knots)
    return tuple((float(time), value * float(f)) for time, f in knots)


def knot_values(parameter: Parameter) -> Array:
    """Value of a number, or values of the knots of a ramp.

    Raises
    ------
    ValueError
        If a ramp is not pairs of ascending times and a value.
    """
    knots = np.asarray(parameter, dtype=np.float64)
    if knots.ndim == 0:
        return knots.reshape(1)
    if knots.ndim != 2 or knots.shape[1] != 2 or not (np.diff(knots[:, 0]) > 0).all():
        raise ValueError(f"a ramp must be pairs of ascending seconds and a value, got {parameter}")
    return knots[:, 1]


def constants(model: Model) -> list[float]:
    """The parameters.

    Raises
    ------
    ValueError
        If one is a ramp.
    """
    found = [getattr(model, name) for name in model.parameters]
    if any(np.ndim(parameter) for parameter in found):
        raise ValueError("constant parameters are needed here, and one of these is a ramp")
    return [float(parameter) for parameter in found]


def check(model: Model, regions: int) -> None:
    """Refuse weights, numbers of regions, and parameters that no model can have.

    Raises
    ------
    ValueError
        Names what is wrong.
    """
    weights = np.asarray(model.weights)
    if weights.shape != (regions, regions):
        raise ValueError(f"weights of {regions} regions have shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    for name in model.parameters:
        if not np.isfinite(knot_values(getattr(model, name))).all():
            raise ValueError(f"{name} must be finite, got {getattr(model, name)}")
    for name in ("coupling", "noise"):
        if (knot_values(getattr(model, name)) < 0).any():
            raise ValueError(f"{name} must not be negative, got {getattr(model, name)}")


def angular_frequencies(band: Band, count: int) -> Array:
    """Midpoints of equal parts of a band in Hz, rad / s."""
    low, high = check_band(band)
    return 2 * np.pi * (low + (high - low) * (np.arange(count) + 0.5) / count)


def correlation(covariance: Array) -> Array:
    """Pearson's correlations of a covariance matrix."""
    deviation = np.sqrt(np.diag(covariance))
    matrix = covariance / deviation / deviation[:, None]
    np.fill_diagonal(matrix, 1)
    return (matrix + matrix.T) / 2


def run_volumes(
    model: Model,
    advance: Callable[[NDArray, NDArray, NDArray], None],
    *,
    volumes: int,
    tr: float,
    seed: Seed,
    settle: float,
    scale: float,
) -> Iterator[int]:
    """Advance a model volume by volume, and yield the number of each once it has settled.

    Parameters
    ----------
    advance
        Takes the noise of the steps of a volume, (steps, 2, N), and the parameters at its
        beginning and at its end.
    volumes, tr, settle
        How many after how many seconds, and seconds of one.
    scale
        What makes of the last parameter, the noise, the standard deviation of one step.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    steps = round(tr / model.step)
    if steps < 1 or abs(steps * model.step - tr) > 1e-9:
        raise ValueError(f"tr must be a multiple of {model.step} s, got {tr}")
    if volumes < 1 or not settle >= 0:
        raise ValueError(f"cannot simulate {volumes} volumes after {settle} s")
    ramps = [_knots(getattr(model, name)) for name in model.parameters]
    factors = np.array([*[1.0] * (len(ramps) - 1), scale])

    def parameters(seconds: float) -> NDArray[np.float32]:
        values = np.array([np.interp(seconds, times, knots) for times, knots in ramps])
        return (values * factors).astype(np.float32)

    random = normals.streams(seed)
    noise = np.empty((steps, 2, kernels.padded(model.weights[0]).size), dtype=np.float32)
    before = parameters(0.0)
    for volume in range(-int(np.ceil(settle / tr)), volumes):
        after = parameters(max(volume + 1, 0) * tr)
        normals.fill(random, noise)
        advance(noise, before, after)
        before = after
        if volume >= 0:
            yield volume


def _knots(parameter: Parameter) -> Array:
    """Times and values, (2, knots)."""
    knots = np.asarray(parameter, dtype=np.float64)
    return np.array([[0.0], [float(knots)]]) if knots.ndim == 0 else knots.T
