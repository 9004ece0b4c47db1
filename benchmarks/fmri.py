"""Ranks in sliding windows against numpy, and whole-brain models against real time, on one thread.

Run ``python benchmarks/fmri.py`` (about a minute), or some of its cases with ``--only``. The last
line is one JSON object.

``windowed_rank``: every window of 30 or 60 volumes, one volume apart, of a run of 256 volumes of
200 or 400 parcels, from signals to the effective rank of the Pearson matrix, per window; the peer
is ``np.corrcoef`` and ``np.linalg.svd`` of each window. Both take turns and are timed in CPU
seconds. The ratio is the least over the four cases (median peer time over median own time).
``windowed_rank_values_only`` is the same against an SVD that is told to compute no vectors.

``whole_brain_real_time``, ``mean_field_real_time``: one person's brain of 94 regions, from
parameters to signals at a TR of 2 s, with everything in between: coupling of all regions and
independent noise in every step, of 20 ms (coupled oscillators) or 1 ms (mean field, then
haemodynamics). The ratio is simulated seconds per CPU second; the peer is the brain itself. As
context, the same step in numpy.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from tgn.fmri.connectivity import windowed_ranks
from tgn.fmri.connectomes import normalised
from tgn.fmri.dynamics import Model
from tgn.fmri.hopf import Hopf
from tgn.fmri.mean_field import MeanField, feedback_inhibition, rate
from tgn.fmri.surrogates import autoregressive
from tgn.kernels import whole_brain as kernels
from tgn.rank import renyi_rank

VOLUMES = 256
CASES = [(parcels, window) for parcels in (200, 400) for window in (30, 60)]
REPEATS = 7
PEER_WINDOWS = (0, 40, 80, 120, 160)  # starts: all windows would take minutes
AGREEMENT = 1e-6


def own_ranks(signals: np.ndarray, window: int) -> np.ndarray:
    return windowed_ranks(signals, window, definitions=["pearson"])["pearson"]


def peer_ranks(signals: np.ndarray, window: int, *, vectors: bool) -> np.ndarray:
    """Effective rank of the Pearson matrix of some windows, from its singular values."""
    ranks = []
    for start in PEER_WINDOWS:
        matrix = np.corrcoef(signals[start : start + window], rowvar=False)
        if vectors:
            _, sigma, _ = np.linalg.svd(matrix)
        else:
            sigma = np.linalg.svd(matrix, compute_uv=False)
        ranks.append(renyi_rank(sigma, 1))
    return np.array(ranks)


def seconds(function: Callable, *arguments: object, **options: object) -> float:
    start = time.process_time()
    function(*arguments, **options)
    return time.process_time() - start


def windowed_rank() -> dict[str, dict[str, object]]:
    """Least ratios, after checking that both sides agree in every definition."""
    print(f"{'windowed_rank':20} parcels window  ours us  peer us  ratio  values only  ratio")
    found: dict[str, dict[str, object]] = {}
    for parcels, window in CASES:
        rng = np.random.default_rng([parcels, window])
        signals = autoregressive(VOLUMES, parcels, phi=0.5, shared=0.2, rng=rng)
        ours = own_ranks(signals, window)
        expected = peer_ranks(signals, window, vectors=False)
        difference = float(np.abs(ours[list(PEER_WINDOWS)] / expected - 1).max())
        assert difference < AGREEMENT, f"{parcels} parcels, {window} volumes: off {difference:.1e}"
        rounds = [
            (
                seconds(own_ranks, signals, window) / len(ours),
                seconds(peer_ranks, signals, window, vectors=True) / len(PEER_WINDOWS),
                seconds(peer_ranks, signals, window, vectors=False) / len(PEER_WINDOWS),
            )
            for _ in range(REPEATS)
        ]
        own, full, values = (statistics.median(times) for times in zip(*rounds, strict=True))
        print(
            f"{'':20} {parcels:7} {window:6} {own * 1e6:8.1f} {full * 1e6:8.0f} {full / own:6.0f} "
            f"{values * 1e6:12.0f} {values / own:6.0f}  differ {difference:.0e}"
        )
        version = f"numpy {np.__version__} corrcoef + linalg.svd"
        for name, peer, note in (
            ("windowed_rank", full, ""),
            ("windowed_rank_values_only", values, " (compute_uv=False)"),
        ):
            if name not in found or peer / own < float(str(found[name]["ratio"])):
                found[name] = {
                    "ratio": round(peer / own, 2),
                    "ours": own,
                    "peer": peer,
                    "unit": "s",
                    "peer_version": version + note,
                }
    return found


REGIONS, TR = 94, 2.0
RUNS = 9
COUPLING = 0.8


def connectome() -> np.ndarray:
    """As uneven as tract counts are; its numbers do not change what a step costs."""
    return normalised(np.random.default_rng(1).lognormal(sigma=2, size=(REGIONS, REGIONS)))


def real_time(name: str, model: Model, volumes: int, step: Callable[[], None]) -> dict:
    """Simulated seconds per CPU second, median of some runs."""

    def simulate() -> None:
        model.simulate(volumes=volumes, tr=TR, seed=1, settle=0.0)

    simulate()  # compile
    simulated = volumes * TR
    rates = sorted(simulated / seconds(simulate) for _ in range(RUNS))
    eager = statistics.median(model.step / (seconds(repeated, step) / 200) for _ in range(RUNS))
    median = statistics.median(rates)
    print(
        f"{name:22} {REGIONS} regions, steps of {model.step * 1e3:g} ms, {simulated:g} s: "
        f"{median:.0f} times real time (from {rates[0]:.0f} to {rates[-1]:.0f}); "
        f"a step in numpy {eager:.0f} times"
    )
    return {
        name: {
            "ratio": round(median, 1),
            "ours": 1 / median,
            "peer": 1.0,
            "unit": "CPU s a simulated second",
            "peer_version": "real time",
        }
    }


def repeated(step: Callable[[], None]) -> None:
    for _ in range(200):
        step()


def whole_brain_real_time() -> dict[str, dict[str, object]]:
    """Coupled oscillators."""
    model = Hopf(connectome(), np.linspace(0.04, 0.07, REGIONS), COUPLING)
    rng, dt = np.random.default_rng(2), model.step
    turn = np.exp(2j * np.pi * model.frequencies * dt)
    total, state = model.weights.sum(axis=1), np.zeros(REGIONS, dtype=complex)

    def step() -> None:
        growth = -0.02 - np.abs(state) ** 2 - COUPLING * total
        flow = growth * state + COUPLING * (model.weights @ state)
        kicks = rng.standard_normal(REGIONS) + 1j * rng.standard_normal(REGIONS)
        state[:] = (state + dt * flow + 0.02 * dt**0.5 * kicks) * turn

    return real_time("whole_brain_real_time", model, 5000, step)


def mean_field_real_time() -> dict[str, dict[str, object]]:
    """Mean field with feedback inhibition, and BOLD by the balloon model."""
    weights = connectome()
    model = MeanField(weights, feedback_inhibition(weights, COUPLING), COUPLING)
    rng, dt = np.random.default_rng(2), model.step
    state = np.tile(np.array([[0.16], [0.04]]), REGIONS)

    def step() -> None:
        e, i = state
        drive = kernels.RECURRENCE * e + COUPLING * (weights @ e)
        current = kernels.EXTERNAL + kernels.NMDA * drive - model.inhibition * i
        feedback = kernels.INHIBITED * kernels.EXTERNAL + kernels.NMDA * e - i
        opened = kernels.GAMMA * (1 - e) * rate(current, kernels.EXCITATORY)
        flow = np.stack(
            [
                opened - e / kernels.TAU_E,
                rate(feedback, kernels.INHIBITORY) - i / kernels.TAU_I,
            ]
        )
        state[:] = np.clip(state + dt * flow + 1e-3 * rng.standard_normal(state.shape), 0, 1)

    return real_time("mean_field_real_time", model, 256, step)


CASES_BY_NAME: dict[str, Callable[[], dict[str, dict[str, object]]]] = {
    case.__name__: case for case in (windowed_rank, whole_brain_real_time, mean_field_real_time)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES_BY_NAME, metavar="CASE")
    chosen = parser.parse_args().only or CASES_BY_NAME
    threadpool_limits(1)
    results: dict[str, dict[str, object]] = {}
    for name in chosen:
        results |= CASES_BY_NAME[name]()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
