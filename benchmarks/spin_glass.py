"""Spin-glass kernels against the simulated annealing of dwave-samplers, on one thread.

Run ``python benchmarks/spin_glass.py`` (about three minutes). Both sides take turns and are timed
in CPU seconds. The residual energies at L = 12 are those above the best energy known of each
sample: the lowest of this run and of an independent long run, other seed and ladder and more than
ten times the CPU, whose energies are kept beside this file. ``--reference`` makes them anew
(half an hour). The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import dimod
import numpy as np
from dwave.samplers import SimulatedAnnealingSampler

from tgn.files import replacing
from tgn.spin_glass import EdwardsAnderson, parallel_tempering

REFERENCE = Path(__file__).with_name("spin_glass_reference.json")
PEER_VERSION = f"dwave-samplers {version('dwave-samplers')} SimulatedAnnealingSampler"
LADDER = np.linspace(0.5, 1.4, 16)
REFERENCE_LADDER = np.linspace(0.4, 1.5, 20)
REPEATS = 5
SIDE, SEED = 12, 12  # of the samples of the residual energies
SWEEPS = 220_000
REFERENCE_SWEEPS = 2_000_000
PEER_SAMPLES = 64
SCHEDULES: dict[str, dict] = {
    "geometric, default range": {"beta_schedule_type": "geometric"},
    "linear, beta 0.1 ... 3": {"beta_schedule_type": "linear", "beta_range": (0.1, 3.0)},
    "the same, 8 reads": {
        "beta_schedule_type": "linear",
        "beta_range": (0.1, 3.0),
        "num_reads": 8,
    },
}


def quadratic_model(model: EdwardsAnderson, sample: int) -> dimod.BinaryQuadraticModel:
    """One sample in the form of the peer, whose energy is + J s s."""
    pairs = {
        (site, int(model.neighbours[site, 2 * axis])): -float(model.bonds[sample, site, axis])
        for site in range(model.n_sites)
        for axis in range(3)
    }
    return dimod.BinaryQuadraticModel.from_ising({}, pairs)


def cpu_seconds(function: Callable) -> tuple[float, object]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def own_rate(model: EdwardsAnderson, n_sweeps: int) -> float:
    """Spin updates per CPU second of a whole parallel tempering, from couplings to result."""
    seconds, result = cpu_seconds(lambda: parallel_tempering(model, LADDER, n_sweeps, seed=0))
    return float(result.spin_updates.sum()) / seconds  # type: ignore[attr-defined]


def peer_rate(problem: dimod.BinaryQuadraticModel, n_reads: int = 4, **options: object) -> float:
    n_sweeps = 2000
    seconds, _ = cpu_seconds(
        lambda: SimulatedAnnealingSampler().sample(
            problem, num_reads=n_reads, num_sweeps=n_sweeps, seed=0, **options
        )
    )
    return n_reads * n_sweeps * problem.num_variables / seconds


def compare_rates(side: int, disorder: str, n_samples: int, n_sweeps: int) -> dict[str, object]:
    """Best of several runs in turn, so that other load on the machine falls on both."""
    model = EdwardsAnderson.draw(side, n_samples, disorder=disorder, seed=1)  # type: ignore
    problem = quadratic_model(model, 0)
    parallel_tempering(model, LADDER, 10, seed=0)  # compile
    pairs = [(own_rate(model, n_sweeps), peer_rate(problem)) for _ in range(REPEATS)]
    ours, peer = (max(rates) for rates in zip(*pairs, strict=True))
    print(
        f"{disorder:9} L = {side:2}  tempering {ours / 1e9:6.2f}  peer {peer / 1e9:6.3f} "
        f"spin updates/ns  ratio {ours / peer:6.0f}"
    )
    return result(ours / peer, ours, peer, "spin updates per CPU second")


def compare_residuals() -> dict[str, object]:
    """Mean energy per spin above the best known, at equal CPU seconds per sample."""
    model = EdwardsAnderson.draw(SIDE, 512, seed=SEED)
    reference = np.array(json.loads(REFERENCE.read_text())["lowest_energy"], dtype=float)
    seconds, tempered = cpu_seconds(lambda: parallel_tempering(model, LADDER, SWEEPS, seed=0))
    budget = seconds / model.n_samples
    own = tempered.lowest_energy  # type: ignore[attr-defined]
    problems = [quadratic_model(model, k) for k in range(PEER_SAMPLES)]
    peers, peer_seconds = {}, {}
    for name, options in SCHEDULES.items():
        peers[name], peer_seconds[name] = annealed(problems, budget, options)
    best = np.minimum(reference, own)
    best[:PEER_SAMPLES] = np.minimum(best[:PEER_SAMPLES], np.min(list(peers.values()), axis=0))
    own_residual = (own - best).mean() / model.n_sites
    print(
        f"L = {SIDE}, {budget:.3f} CPU s a sample: tempering {own_residual:.2e} above the best "
        f"known ({(own == best).mean():.0%} reach it), the reference "
        f"{(reference - best).mean() / model.n_sites:.1e}"
    )
    residuals = {}
    for name, energies in peers.items():
        residuals[name] = (energies - best[:PEER_SAMPLES]).mean() / model.n_sites
        print(f"    peer, {name:26} {residuals[name]:.2e} ({peer_seconds[name]:.3f} CPU s)")
    peer_residual = min(residuals.values())
    print(f"    ratio {peer_residual / own_residual:.0f}")
    return result(
        peer_residual / own_residual, own_residual, peer_residual, "energy per spin above the best"
    )


def annealed(problems: list, budget: float, options: dict) -> tuple[np.ndarray, float]:
    """Lowest energies of the peer with the sweeps that the budget allows; CPU seconds a sample."""
    options = dict(options)
    n_reads = options.pop("num_reads", 1)
    rate = max(peer_rate(problems[0], n_reads=4, **options) for _ in range(3))
    n_sweeps = int(budget * rate / (n_reads * problems[0].num_variables))

    def lowest(k: int) -> float:
        return (
            SimulatedAnnealingSampler()
            .sample(problems[k], num_reads=n_reads, num_sweeps=n_sweeps, seed=k, **options)
            .first.energy
        )

    start = time.process_time()
    energies = np.array([lowest(k) for k in range(len(problems))])
    return energies, (time.process_time() - start) / len(problems)


def show_scaling() -> None:
    """CPU seconds of a sweep against N and against samples, with the exponent of a power law."""
    sides, counts = (4, 6, 8, 10, 12), (512, 1024, 2048, 4096)
    by_side = [sweep_seconds(side, 512, 400_000 // side**3) for side in sides]
    by_count = [sweep_seconds(8, count, 200) for count in counts]
    for name, sizes, seconds in (
        ("L**3", np.array(sides) ** 3, by_side),
        ("samples", np.array(counts), by_count),
    ):
        power = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
        line = np.polyfit(sizes, seconds, 1)
        unexplained = np.var(seconds - np.polyval(line, sizes)) / np.var(seconds)
        row = "  ".join(f"{n}: {1e6 * s:.0f}" for n, s in zip(sizes, seconds, strict=True))
        print(f"CPU us a sweep of {LADDER.size} x 2 replicas against {name}: {row}")
        print(
            f"    line: {1e6 * line[0]:.4g} us for each, {1e6 * line[1]:+.0f} us, R2 = "
            f"{1 - unexplained:.4f}; power law: exponent {power:.2f}"
        )


def sweep_seconds(side: int, n_samples: int, n_sweeps: int) -> float:
    """Of a long run less a short one: starting up costs no sweep."""
    model = EdwardsAnderson.draw(side, n_samples, seed=1)
    times = {
        n: min(
            cpu_seconds(lambda n=n: parallel_tempering(model, LADDER, n, seed=0))[0]  # type: ignore
            for _ in range(4)
        )
        for n in (10, n_sweeps // 10 * 10)
    }
    (short, base), (long, whole) = times.items()
    return (whole - base) / (long - short)


def result(ratio: float, ours: float, peer: float, unit: str) -> dict[str, object]:
    return {
        "ratio": round(ratio, 1),
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "peer_version": PEER_VERSION,
    }


def make_reference() -> None:
    model = EdwardsAnderson.draw(SIDE, 512, seed=SEED)
    marks = (REFERENCE_SWEEPS // 10, REFERENCE_SWEEPS // 2, REFERENCE_SWEEPS)
    run = parallel_tempering(model, REFERENCE_LADDER, REFERENCE_SWEEPS, seed=20_000, marks=marks)
    record = {
        "made_by": "python benchmarks/spin_glass.py --reference",
        "side": SIDE,
        "seed": SEED,
        "sweeps": marks,
        "samples_improved_after": (run.trajectory[-1] < run.trajectory).sum(axis=1).tolist(),
        "lowest_energy": run.lowest_energy.astype(int).tolist(),
    }
    with replacing(REFERENCE) as temporary:
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", action="store_true", help="make the reference energies")
    if parser.parse_args().reference:
        make_reference()
        return
    print(f"1 thread, {PEER_VERSION}")
    results = {
        "tempering_updates_L8": compare_rates(8, "bimodal", 512, 4000),
        "tempering_updates_L12": compare_rates(12, "bimodal", 512, 1500),
        "gaussian_updates_L8": compare_rates(8, "gaussian", 32, 4000),
    }
    show_scaling()
    results["residual_L12"] = compare_residuals()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
