"""Coupled Stuart-Landau oscillators below their bifurcation (Deco et al. 2017).

    dz_j = [(a - |z_j|**2 + i w_j) z_j + G sum_k C_jk (z_k - z_j)] dt + s dW_j

Every region is an oscillator z whose first coordinate is its BOLD signal; dW has two independent
coordinates. With a < 0, oscillations die away unless noise sustains them, and around the origin the
covariance follows from one Lyapunov equation (Ponce-Alvarez and Deco 2024).

Sources: Deco, Kringelbach, Jirsa and Ritter 2017, Sci. Rep. 7, 3095; Ponce-Alvarez and Deco 2024,
Imaging Neurosci. 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, signal

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
from tgn.fmri.filters import Band, check_band
from tgn.kernels import whole_brain as kernels

CARRIER = (0.04, 0.07)  # Hz
NODES = 384  # frequencies of a band


@dataclass(frozen=True, eq=False)
class Hopf:
    """Coupled oscillators below their bifurcation."""

    weights: Array
    """Symmetric, (R, R)."""
    frequencies: Array
    """Hz, (R,)."""
    coupling: Parameter
    """G, 1/s, for weights of spectral radius 1."""
    bifurcation: Parameter = -0.02
    """a, 1/s, negative."""
    noise: Parameter = 0.02
    """s, per square root of a second."""

    parameters: ClassVar[tuple[str, ...]] = ("coupling", "bifurcation", "noise")
    step: ClassVar[float] = 0.02
    """s"""

    def __post_init__(self) -> None:
        check(self, len(self.frequencies))
        if not (knot_values(self.bifurcation) < 0).all():
            raise ValueError(
                f"bifurcation must be negative (damped oscillators), got {self.bifurcation}"
            )

    @property
    def jacobian(self) -> NDArray:
        """Of z around the origin, complex, (R, R), 1/s.

        Raises
        ------
        ValueError
            If a parameter is a ramp.
        """
        coupling, a, _ = constants(self)
        own = a - coupling * self.weights.sum(axis=1) + 2j * np.pi * self.frequencies
        return coupling * self.weights + np.diag(own)

    def covariance(self) -> Array:
        """Of the signals, all frequencies, by the Lyapunov equation, (R, R).

        Exact in the limit of small noise, up to the size of a step.
        """
        noise = 2 * constants(self)[2] ** 2 * np.eye(len(self.weights))
        return linalg.solve_continuous_lyapunov(self.jacobian, -noise).real / 2

    def connectivity(self, band: Band | None = None) -> Array:
        """Correlation of the signals, (R, R), of all frequencies or those of a band in Hz.

        Raises
        ------
        ValueError
            If a parameter is a ramp, or `band` is not ascending.
        """
        if band is None:
            return correlation(self.covariance())
        # Of a complex signal, negative frequencies are others than positive ones.
        omega = angular_frequencies(band, NODES)
        omega = np.concatenate([omega, -omega])
        rates, modes = np.linalg.eig(self.jacobian)
        excited = np.linalg.inv(modes)
        passed = 1 / (1j * omega[:, None] - rates)
        spectrum = (excited @ excited.conj().T) * (passed.T @ passed.conj())
        return correlation((modes @ spectrum @ modes.conj().T).real)

    def simulate(self, *, volumes: int, tr: float, seed: Seed, settle: float = 150.0) -> Run:
        """Signals at the end of each volume.

        Parameters
        ----------
        volumes : T, at least 1
        tr : seconds between volumes, a multiple of 0.02
        seed : the noise is a function of it alone
        settle : seconds before the first volume, with parameters as they are at the first

        Raises
        ------
        ValueError
            If a number is out of its range, or the state leaves its bounds.
        """
        angle = 2 * np.pi * self.frequencies * self.step
        rotation = kernels.padded(np.stack([np.cos(angle), np.sin(angle)]))
        state = np.zeros_like(rotation)
        amplitude = np.zeros(rotation.shape[1], dtype=np.float32)
        signals = np.empty((volumes, len(self.weights)), dtype=np.float32)

        def advance(noise: NDArray, first: NDArray, last: NDArray) -> None:
            kernels.hopf(state, noise, weights, rotation, first, last, self.step)

        weights = kernels.tiles(self.weights)
        for volume in run_volumes(
            self,
            advance,
            volumes=volumes,
            tr=tr,
            seed=seed,
            settle=settle,
            scale=np.sqrt(self.step),
        ):
            signals[volume] = state[0, : len(self.weights)]
            amplitude += np.hypot(*state)
        if not np.abs(signals).max() < 10:  # also if NaN
            raise ValueError("the oscillators left their bounds: coupling or noise is too large")
        amplitude /= volumes
        return Run(signals, amplitude[: len(self.weights)], None)


def peak_frequencies(bold: NDArray, tr: float, band: Band = CARRIER) -> Array:
    """Frequency in a band, Hz, at which each region's signal, (T, R), has most power, (R,).

    Welch's estimate with segments of 200 s.

    Raises
    ------
    ValueError
        If the signals are too short to tell frequencies of the band apart.
    """
    low, high = check_band(band)
    length = min(len(bold), round(200 / tr))
    if length * tr * (high - low) < 1:
        raise ValueError(f"{len(bold)} volumes of {tr} s resolve no frequency in {list(band)} Hz")
    frequencies, power = signal.welch(
        bold, 1 / tr, axis=0, nperseg=length, nfft=4 * length, detrend="linear"
    )
    inside = (frequencies >= low) & (frequencies <= high)
    return frequencies[inside][power[inside].argmax(axis=0)]
