"""Thermal properties of a weight matrix against the direct sum at each temperature, on one thread.

Run ``python benchmarks/thermodynamics.py``. The peer is the definition written in numpy, in float64
and shifted by the lowest level. Both sides take turns, so that other load on the machine falls on
both. The last line is one JSON object; its ratio is median peer time over median own time.
"""

import json
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from tgn.thermodynamics.levels import thermal_properties

SIZE = (768, 768)
TEMPERATURES = np.geomspace(0.05, 2.0, 50)
REPEATS = 15
AGREEMENT = 1e-9


def direct(matrix: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Energy, entropy, free energy and specific heat, shape (4, n_temperatures)."""
    above = matrix.ravel() - matrix.min()
    curves = []
    for temperature in temperatures:
        weights = np.exp(-above / temperature)
        z = weights.sum()
        mean = weights @ above / z
        variance = weights @ (above - mean) ** 2 / z
        curves.append(
            (
                matrix.min() + mean,
                np.log(z) + mean / temperature,
                matrix.min() - temperature * np.log(z),
                variance / temperature**2,
            )
        )
    return np.array(curves).T


def ours(matrix: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    found = thermal_properties(matrix, temperatures)
    return np.array([found.energy, found.entropy, found.free_energy, found.specific_heat])


def timed(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main() -> None:
    threadpool_limits(1)
    print(f"{SIZE[0]} x {SIZE[1]} levels, {len(TEMPERATURES)} temperatures, 1 thread")
    print(f"numpy {np.__version__}")
    weights = np.random.default_rng(0).standard_normal(SIZE)
    difference = np.max(np.abs(ours(weights, TEMPERATURES) / direct(weights, TEMPERATURES) - 1))
    assert difference < AGREEMENT, f"relative difference {difference:.1e}"
    pairs = [
        (timed(ours, weights, TEMPERATURES), timed(direct, weights, TEMPERATURES))
        for _ in range(REPEATS)
    ]
    own, peer = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    print(f"ours {own:.3f} ms, peer {peer:.3f} ms, largest relative difference {difference:.0e}")
    result = {
        "ratio": round(peer / own, 2),
        "ours": round(own, 4),
        "peer": round(peer, 4),
        "unit": "ms",
        "peer_version": f"numpy {np.__version__}",
    }
    print(json.dumps({"thermal_properties": result}))


if __name__ == "__main__":
    main()
