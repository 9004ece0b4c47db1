"""The reduced Wong-Wang dynamic mean field with feedback inhibition, and its BOLD signal.

Shares of open gates E (NMDA) and I (GABA) of every region, in steps of 1 ms (Deco et al. 2014):

    dE = [-E / tau_E + (1 - E) gamma r(x_E)] dt + s dW     x_E = I_0 + w J E + G J C E - f I
    dI = [-I / tau_I + r(x_I)] dt + s dW'                  x_I = 0.7 I_0 + J E - I

A factor on ``a I - b`` of the excitatory transfer function r, its *gain*, stands for 5-HT2A agonism
(Deco et al. 2018, Herzog et al. 2020); below threshold a higher gain lowers the rate. BOLD follows
from E by the balloon model (Friston et al. 2003).

Feedback inhibition
    The weights f hold every region at 3 Hz; they are solved for at the fixed point, as Demirtas et
    al. 2019 do, instead of by repeated simulation.
Regime
    Rates stay there, and linear theory holds, if the noise is a tenth of the published one and the
    coupling not above :func:`coupling_limit`. The size of the noise then changes no correlation.

Sources: Deco et al. 2014, J. Neurosci. 34, 7886; Deco et al. 2018, Curr. Biol. 28, 3065; Demirtas
et al. 2019, Neuron 101, 1181; Friston, Harrison and Penny 2003, NeuroImage 19, 1273; Herzog et al.
2020, Sci. Rep. 10, 17725.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from tgn.fmri.dynamics import (
    Array,
    Parameter,
    Run,
    Seed,
    angular_frequencies,
    check,
    constants,
    correlation,
    knot_values,
    run_volumes,
)
from tgn.fmri.filters import Band
from tgn.kernels import whole_brain as kernels
from tgn.kernels.whole_brain import EXCITATORY, INHIBITORY, NMDA, Transfer

RESTING_CURRENT = EXCITATORY.b / EXCITATORY.a - 0.026  # nA, of 3 Hz (Deco et al. 2014)
BIN = 0.01  # s of activity that the balloon model takes at a time
BOLD_BAND = (0.0, 0.25)  # Hz, beyond which haemodynamics let nothing through
NODES = 24  # frequencies of a band, in which the spectrum is smooth


@dataclass(frozen=True, eq=False)
class MeanField:
    """Excitatory and inhibitory populations with feedback inhibition."""

    weights: Array
    """Symmetric, (R, R)."""
    inhibition: Array
    """f, nA, (R,); see :func:`feedback_inhibition`."""
    coupling: Parameter
    """G, a pure number, for weights of spectral radius 1."""
    gain: Parameter = 1.0
    """Of the excitatory transfer function."""
    noise: Parameter = 0.001
    """s, per square root of a millisecond; 0.01 is published."""

    parameters: ClassVar[tuple[str, ...]] = ("coupling", "gain", "noise")
    step: ClassVar[float] = 0.001
    """s"""

    def __post_init__(self) -> None:
        check(self, len(self.inhibition))
        if not (knot_values(self.gain) > 0).all():
            raise ValueError(f"gain must be positive, got {self.gain}")

    @cached_property
    def fixed_point(self) -> Array:
        """Excitatory and inhibitory gates to which rest at 3 Hz relaxes without noise, (2, R).

        Raises
        ------
        ValueError
            If it does not come to rest, or a parameter is a ramp.
        """
        found = optimize.root(
            self._drift, self.relaxed(_resting_gates()).ravel(), jac=self._slope, tol=1e-12
        )
        if np.abs(self._drift(found.x)).max() > 1e-6:
            raise ValueError(f"no fixed point at coupling {self.coupling}, gain {self.gain}")
        return found.x.reshape(2, -1)

    def relaxed(self, gates: Sequence[float]) -> Array:
        """Both gates, (2, R), 20 s after all regions had those given, without noise."""
        first = np.array([*constants(self)[:2], 0.0], dtype=np.float32)
        state = kernels.padded(np.tile(np.array(gates)[:, None], len(self.weights)))
        silence = np.zeros((20_000, *state.shape), dtype=np.float32)
        activity, rates = np.empty((1, state.shape[1]), np.float32), np.zeros_like(state[0])
        kernels.mean_field(
            state, silence, kernels.tiles(self.weights), kernels.padded(self.inhibition),
            first, first, self.step, activity, rates,
        )  # fmt: skip
        return state[:, : len(self.weights)].astype(np.float64)

    @cached_property
    def jacobian(self) -> Array:
        """Of both gates around the fixed point, (2 R, 2 R), 1/s."""
        return self._slope(self.fixed_point.ravel())

    def covariance(self) -> Array:
        """Of the excitatory gates, all frequencies, by the Lyapunov equation, (R, R).

        Raises
        ------
        ValueError
            If the fixed point is unstable.
        """
        self._check_stable()
        r = len(self.weights)
        noise = 1000 * constants(self)[2] ** 2 * np.eye(2 * r)
        return linalg.solve_continuous_lyapunov(self.jacobian, -noise)[:r, :r]

    def connectivity(self, band: Band | None = None) -> Array:
        """Correlation of the BOLD signals, (R, R), in a band in Hz; below 0.25 Hz if None.

        Raises
        ------
        ValueError
            If a parameter is a ramp, `band` is not ascending, or the fixed point is unstable.
        """
        self._check_stable()
        covariance = np.zeros_like(self.weights)
        for omega in angular_frequencies(band or BOLD_BAND, NODES):
            covariance += self.cross_spectrum(omega, haemodynamic_response)
        return correlation(covariance)

    def cross_spectrum(self, omega: float, response: Callable[[float, Array], Any]) -> Array:
        """Real part of the cross-spectrum at an angular frequency, of filtered excitatory gates.

        Parameters
        ----------
        omega : rad / s
        response : gain of the filter at `omega`, given the mean gates (R,)

        Inhibition is local, so it is eliminated, and one matrix of R regions remains.
        """
        r = len(self.weights)
        jacobian = self.jacobian
        to_e, to_i = np.diag(jacobian[:r, r:]), np.diag(jacobian[r:, :r])
        local = 1j * omega - np.diag(jacobian[r:, r:])
        transfer = np.linalg.inv(
            np.diag(1j * omega - to_e * to_i / local) - jacobian[:r, :r]
        ) * np.sqrt(1 + np.abs(to_e / local) ** 2)
        transfer *= response(omega, self.fixed_point[0])[:, None]
        return (transfer @ transfer.conj().T).real * (1000 * constants(self)[2] ** 2)

    def simulate(self, *, volumes: int, tr: float, seed: Seed, settle: float = 60.0) -> Run:
        """BOLD signals at the end of each volume.

        Parameters
        ----------
        volumes : T, at least 1
        tr : seconds between volumes, a multiple of 0.01
        seed : the noise is a function of it alone
        settle : seconds before the first volume, with parameters as they are at the first

        Raises
        ------
        ValueError
            If a number is out of its range, or the state leaves its bounds.
        """
        r = len(self.weights)
        state = kernels.padded(np.tile(np.array(_resting_gates())[:, None], r))
        n = state.shape[1]
        blood = kernels.padded(haemodynamic_state(state[0].astype(np.float64)), fill=1.0)
        bins = round(tr / BIN)
        activity = np.empty((max(bins, 1), n), dtype=np.float32)
        totals = np.zeros((2, n), dtype=np.float32)
        rates, bold = np.zeros(n, dtype=np.float32), np.empty(n, dtype=np.float32)
        weights, inhibition = kernels.tiles(self.weights), kernels.padded(self.inhibition)
        signals = np.empty((volumes, r), dtype=np.float32)

        def advance(noise: NDArray, first: NDArray, last: NDArray) -> None:
            rates[:] = 0
            kernels.mean_field(
                state, noise, weights, inhibition, first, last, self.step, activity, rates
            )
            kernels.balloon(blood, activity, BIN, bold)

        if abs(bins * BIN - tr) > 1e-9:
            raise ValueError(f"tr must be a multiple of {BIN} s, got {tr}")
        for volume in run_volumes(
            self, advance, volumes=volumes, tr=tr, seed=seed, settle=settle, scale=1.0
        ):
            signals[volume] = bold[:r]
            totals += activity.mean(axis=0), rates / (bins * round(BIN / self.step))
        if not np.isfinite(signals).all():
            raise ValueError("the haemodynamic state left its bounds")
        gates, rates = totals[:, :r] / volumes
        return Run(signals, gates, rates)

    def _check_stable(self) -> None:
        growth = np.linalg.eigvals(self.jacobian).real.max()
        if growth >= 0:
            raise ValueError(
                f"the fixed point at coupling {self.coupling} is unstable: perturbations grow by "
                f"{growth:.2g} / s"
            )

    def _drift(self, state: Array) -> Array:
        e, i = state.reshape(2, -1)
        current, feedback = self._currents(e, i)
        opened = kernels.GAMMA * (1 - e) * rate(current, EXCITATORY, constants(self)[1])
        return np.concatenate(
            [opened - e / kernels.TAU_E, rate(feedback, INHIBITORY) - i / kernels.TAU_I]
        )

    def _slope(self, state: Array) -> Array:
        """Jacobian of the drift."""
        e, i = state.reshape(2, -1)
        coupling, gain, _ = constants(self)
        current, feedback = self._currents(e, i)
        sensitivity = kernels.GAMMA * (1 - e) * rate_slope(current, EXCITATORY, gain)
        to_inhibition = rate_slope(feedback, INHIBITORY)
        own = -1 / kernels.TAU_E - kernels.GAMMA * rate(current, EXCITATORY, gain)
        excited = sensitivity[:, None] * coupling * NMDA * self.weights
        excited += np.diag(own + sensitivity * kernels.RECURRENCE * NMDA)
        return np.block(
            [
                [excited, np.diag(-sensitivity * self.inhibition)],
                [np.diag(to_inhibition * NMDA), np.diag(-1 / kernels.TAU_I - to_inhibition)],
            ]
        )

    def _currents(self, e: Array, i: Array) -> tuple[Array, Array]:
        drive = kernels.RECURRENCE * e + constants(self)[0] * self.weights @ e
        current = kernels.EXCITED * kernels.EXTERNAL + NMDA * drive - self.inhibition * i
        return current, kernels.INHIBITED * kernels.EXTERNAL + NMDA * e - i


def rate(current: Array | float, transfer: Transfer, gain: float = 1.0) -> Any:
    """Firing rate, Hz, of an input current, nA."""
    z = transfer.d * gain * (transfer.a * np.asarray(current) - transfer.b)
    small = np.abs(z) < 1e-6
    return np.where(small, 1 + z / 2, z / -np.expm1(-np.where(small, 1.0, z))) / transfer.d


def rate_slope(current: Array | float, transfer: Transfer, gain: float = 1.0) -> Any:
    """Its derivative, Hz / nA."""
    z = transfer.d * gain * (transfer.a * np.asarray(current) - transfer.b)
    small = np.abs(z) < 1e-3
    safe = np.where(small, 1.0, z)
    slope = (1 - np.exp(-safe) * (1 + safe)) / np.expm1(-safe) ** 2
    return np.where(small, 0.5 + z / 6, slope) * gain * transfer.a


def _resting_gates() -> tuple[float, float]:
    """Both gates of a region whose excitatory population fires at 3 Hz."""
    opened = kernels.GAMMA * kernels.TAU_E * float(rate(RESTING_CURRENT, EXCITATORY))
    e = opened / (1 + opened)
    base = kernels.INHIBITED * kernels.EXTERNAL + NMDA * e
    i = optimize.brentq(
        lambda i: float(kernels.TAU_I * rate(base - i, INHIBITORY)) - i, 0, 1, xtol=1e-14
    )
    return e, i


def feedback_inhibition(weights: Array, coupling: float) -> Array:
    """Weights of the feedback, nA, (R,), with which every region rests at 3 Hz at this coupling."""
    e, i = _resting_gates()
    drive = kernels.RECURRENCE * e + coupling * weights.sum(axis=1) * e
    return (kernels.EXCITED * kernels.EXTERNAL + NMDA * drive - RESTING_CURRENT) / i


def haemodynamic_state(activity: Array) -> Array:
    """State of the balloon model, (4, R), that a constant activity, (R,), leads to."""
    flow = 1 + activity / kernels.AUTOREGULATION
    volume = flow**kernels.STIFFNESS
    extraction = 1 - (1 - kernels.EXTRACTION) ** (1 / flow)
    return np.stack([np.zeros_like(flow), flow, volume, volume * extraction / kernels.EXTRACTION])


def haemodynamic_response(omega: float, activity: Array) -> NDArray[np.complex128]:
    """Gain of the BOLD signal for small sinusoidal changes of the mean activity, both (R,)."""
    _, flow, volume, content = haemodynamic_state(activity)
    stiff = 1 / kernels.STIFFNESS
    s = 1j * omega
    d_flow = 1 / (s * (s + kernels.KAPPA) + kernels.AUTOREGULATION)
    d_volume = d_flow / (kernels.TRANSIT * s + stiff * volume ** (stiff - 1))
    left = (1 - kernels.EXTRACTION) ** (1 / flow)
    inflow = (1 - left + np.log(1 - kernels.EXTRACTION) * left / flow) / kernels.EXTRACTION
    outflow = (stiff - 1) * volume ** (stiff - 2) * content
    d_content = (inflow * d_flow - outflow * d_volume) / (
        kernels.TRANSIT * s + volume ** (stiff - 1)
    )
    k1, k2, k3 = kernels.BOLD
    d_ratio = d_content / volume - content / volume**2 * d_volume
    return -kernels.VOLUME * (k1 * d_content + k2 * d_ratio + k3 * d_volume)


def coupling_limit(weights: Array, *, precision: float = 0.01) -> float:
    """Largest coupling at which every state of the mean field relaxes to rest at 3 Hz.

    Beyond it, regions may also stay excited at 20 Hz, and noise takes them there.
    """

    def returns(coupling: float) -> bool:
        model = MeanField(weights, feedback_inhibition(weights, coupling), coupling)
        return np.abs(model.relaxed((1.0, 1.0))[0] - _resting_gates()[0]).max() < 1e-3

    low, high = 0.0, 1.0
    while returns(high):
        low, high = high, 2 * high
    while high - low > precision:
        middle = (low + high) / 2
        low, high = (middle, high) if returns(middle) else (low, middle)
    return low
