"""What the free-energy argument about attention proves, and where it ends (figure 1a).

Attention with energies ``E_j = -q.k_j`` at temperature ``tau`` (``sqrt(d)`` in a Transformer) has
the weights that minimise ``sum a E + tau sum a ln a`` over the simplex. This holds at every
temperature, so it singles out none. With keys of one norm the weights are those of a normalised
Gaussian kernel of variance ``tau``; otherwise each key's weight is besides multiplied by
``exp(|k|^2 / (2 tau))``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, minimize
from scipy.special import softmax, xlogy

from tgn.files import write_table
from tgn.rank import effective_rank

Array = NDArray[np.float64]

GATES = 8  # of a gating problem: all 2**8 gates are tried
CHANNELS = 4
PRICE = 0.5  # lambda, in units of the loss
TRAPS = np.array([1.0, 2.0, 5.0, 9.0])  # wave numbers of the drawn landscape


def measure(
    *,
    landscape: str | Path,
    checks: str | Path,
    problems: int,
    tokens: int,
    dimension: int,
    spreads: Sequence[float],
    temperatures: Sequence[float],
    seed: int,
) -> None:
    """Check the argument on random problems, and weigh a landscape to be drawn.

    Parameters
    ----------
    landscape
        Parquet to write: columns x, energy, temperature, weight.
    checks
        Parquet to write: columns problem, quantity, spread (of the norms of the keys, their
        standard deviation over their mean; NaN where norms are not the subject), value.
    problems
        Random problems of each kind.
    tokens, dimension
        Of an attention problem: as many queries, and as many keys.
    spreads
        Of the norms, at which attention is compared with the Gaussian kernel.
    temperatures
        Of the drawn landscape, in units of the spread of its energies.
    """
    write_table(landscape, weighed_landscape(np.asarray(temperatures, dtype=float)))
    rows: list[dict[str, float | str]] = []
    for problem in range(problems):
        rng = np.random.default_rng([seed, problem])
        found = [
            *_optimum_check(tokens, dimension, rng),
            *_kernel_checks(tokens, dimension, spreads, rng),
            *_gate_checks(rng),
            *_heat_checks(tokens, dimension, rng),
        ]
        rows += [
            {"problem": problem, "quantity": quantity, "spread": spread, "value": value}
            for quantity, spread, value in found
        ]
    write_table(checks, pd.DataFrame(rows))


def boltzmann(energies: ArrayLike, temperature: float) -> Array:
    """Weights ``exp(-E / temperature)``, normalised over the last axis.

    >>> boltzmann([0.0, np.log(3)], 1.0).round(2)
    array([0.75, 0.25])
    """
    return softmax(-np.asarray(energies, dtype=float) / temperature, axis=-1)


def free_energy(weights: ArrayLike, energies: ArrayLike, temperature: float) -> float:
    """Mean energy minus temperature times entropy of weights on the simplex."""
    weights = np.asarray(weights, dtype=float)
    return float(weights @ np.asarray(energies) + temperature * xlogy(weights, weights).sum())


def constrained_minimum(energies: ArrayLike, temperature: float) -> Array:
    """Minimiser of the free energy on the simplex by sequential quadratic programming.

    It knows the functional, its gradient and the constraints, and nothing of exponentials.

    Parameters
    ----------
    energies : array, shape (n,)

    Raises
    ------
    RuntimeError
        If the optimiser does not converge.
    """
    n = len(np.asarray(energies))
    scaled = np.asarray(energies, dtype=float) / temperature
    scaled -= scaled.min()
    weights = np.full(n, 1 / n)
    for _ in range(2):  # again from where it stopped, with a fresh idea of the curvature
        found = minimize(
            free_energy,
            weights,
            args=(scaled, 1.0),  # over the temperature, which moves no minimum
            jac=lambda weights, *_: scaled + np.log(weights) + 1,
            method="SLSQP",
            bounds=Bounds(1e-15, 1),
            constraints={
                "type": "eq",
                "fun": lambda weights: weights.sum() - 1,
                "jac": lambda weights: np.ones(n),
            },
            options={"ftol": 1e-18, "maxiter": 5000},
        )
        if not found.success:
            raise RuntimeError(f"no minimum of {n} energies at {temperature:g}: {found.message}")
        weights = found.x
    return weights


def dot_product_weights(queries: Array, keys: Array, temperature: float) -> Array:
    """Attention, ``softmax(q.k / temperature)``; arrays (n, d) and (m, d) to (n, m)."""
    return softmax(queries @ keys.T / temperature, axis=-1)


def gaussian_weights(queries: Array, keys: Array, temperature: float) -> Array:
    """Kernel ``exp(-|q - k|^2 / (2 temperature))``, its rows normalised, shape (n, m)."""
    squares = np.square(queries[:, None] - keys[None]).sum(axis=-1)
    return softmax(-squares / (2 * temperature), axis=-1)


def total_variation(first: Array, second: Array) -> Array:
    """Half the summed absolute difference over the last axis: 0 if equal, 1 if disjoint."""
    return np.abs(first - second).sum(axis=-1) / 2


def best_gate(inertial: ArrayLike, geometric: ArrayLike, price: float) -> NDArray[np.bool_]:
    """The rule: a token's gate opens where attention lowers its loss by more than the price."""
    return np.asarray(inertial) - np.asarray(geometric) > price


def enumerated_gate(inertial: Array, geometric: Array, price: float) -> NDArray[np.bool_]:
    """The gates of least total loss among all ``2**n``, each loss with the price of open gates."""
    gates = np.array(list(product([False, True], repeat=len(inertial))))
    return gates[gated_loss(gates, inertial, geometric, price).argmin()]


def gated_loss(gates: ArrayLike, inertial: Array, geometric: Array, price: float) -> Array:
    """Total loss over the last axis, with the price of the open gates.

    >>> float(gated_loss([True, False], np.array([3.0, 1.0]), np.array([2.0, 4.0]), 0.5))
    3.5
    """
    return np.where(gates, geometric + price, inertial).sum(axis=-1)


def best_soft_gate(inertial: Array, geometric: Array, target: Array, price: float) -> Array:
    """Gate in [0, 1] of least loss where outputs are mixed, as in the network, and loss is convex.

    The loss of a token is ``|(1 - g) y_inertial + g y_geometric - target|^2 / 2 + price g``.

    Parameters
    ----------
    inertial, geometric, target : arrays, shape (tokens, channels)

    Returns
    -------
    array, shape (tokens,)
    """
    step = geometric - inertial
    squares = np.square(step).sum(axis=-1)
    gain = ((target - inertial) * step).sum(axis=-1) - price
    best = np.divide(gain, squares, out=np.where(gain > 0, np.inf, 0.0), where=squares > 0)
    return np.clip(best, 0, 1)


def dirichlet_energy(coupling: Array, states: Array) -> float:
    """Half of ``sum_ij A_ij |x_i - x_j|^2`` for couplings (n, n) and states (n, channels)."""
    squares = np.square(states[:, None] - states[None]).sum(axis=-1)
    return float((coupling * squares).sum() / 2)


def doubly_stochastic(kernel: Array, tolerance: float = 1e-13) -> Array:
    """The symmetric doubly stochastic scaling of a positive symmetric kernel.

    Sinkhorn's iteration in its symmetric form (Knight, Ruiz and Ucar 2014).

    Raises
    ------
    RuntimeError
        If row sums are not within the tolerance of 1 after 10000 steps.
    """
    scale = np.ones(len(kernel))
    for _ in range(10_000):
        sums = scale * (kernel @ scale)
        if np.abs(sums - 1).max() < tolerance:
            return scale[:, None] * kernel * scale
        scale /= np.sqrt(sums)
    raise RuntimeError(f"the scaling has not converged: row sums are off by {np.ptp(sums):.1e}")


def weighed_landscape(temperatures: Array) -> pd.DataFrame:
    """A rugged landscape on a line, and its Boltzmann weights at each temperature.

    Returns
    -------
    table with columns x, energy (unit variance), temperature, weight (sums to 1)
    """
    x = np.linspace(0, 1, 241)
    # Fixed phases: a drawing, from which nothing is concluded.
    waves = np.sin(2 * np.pi * TRAPS * x[:, None] + np.arange(4)) / np.sqrt(TRAPS)
    energy = waves.sum(axis=1)
    energy = (energy - energy.mean()) / energy.std()
    parts = [
        pd.DataFrame({"x": x, "energy": energy, "temperature": t, "weight": boltzmann(energy, t)})
        for t in temperatures
    ]
    return pd.concat(parts, ignore_index=True)


Found = list[tuple[str, float, float]]  # quantity, spread of the norms, value


def _optimum_check(tokens: int, dimension: int, rng: np.random.Generator) -> Found:
    query, several = rng.normal(size=dimension), rng.normal(size=(tokens, dimension))
    temperature = np.sqrt(dimension) * np.exp(rng.uniform(-1, 1))  # the usual one within e
    energies = -several @ query
    apart = boltzmann(energies, temperature) - constrained_minimum(energies, temperature)
    return [("optimum_difference", np.nan, float(np.abs(apart).max()))]


def _kernel_checks(
    tokens: int, dimension: int, spreads: Sequence[float], rng: np.random.Generator
) -> Found:
    """Attention against the Gaussian kernel, for planned spreads of norms and for normal keys."""
    queries, normal = rng.normal(size=(2, tokens, dimension))
    directions = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    draws = rng.normal(size=(tokens, 1))
    draws = (draws - draws.mean()) / draws.std()

    def distance(several: Array) -> float:
        pair = (queries, several, np.sqrt(dimension))
        return float(total_variation(dot_product_weights(*pair), gaussian_weights(*pair)).mean())

    found: Found = [
        (
            "kernel_distance",
            spread,
            distance(np.sqrt(dimension) * directions * (1 + spread * draws)),
        )
        for spread in spreads
    ]
    norms = np.linalg.norm(normal, axis=1)
    return [*found, ("kernel_distance_normal", float(norms.std() / norms.mean()), distance(normal))]


def _gate_checks(rng: np.random.Generator) -> Found:
    inertial, geometric, target = rng.normal(size=(3, GATES, CHANNELS))
    shut, opened = (np.square(output - target).sum(axis=-1) / 2 for output in (inertial, geometric))
    rule, best = (gate(shut, opened, PRICE) for gate in (best_gate, enumerated_gate))
    soft = best_soft_gate(inertial, geometric, target, PRICE)
    mixture = (1 - soft)[:, None] * inertial + soft[:, None] * geometric
    losses = {
        name: gated_loss(gates, shut, opened, PRICE)
        for name, gates in (("rule", rule), ("least", best), ("open", True), ("shut", False))
    }
    losses["soft"] = (np.square(mixture - target).sum(axis=-1) / 2 + PRICE * soft).sum()
    return [
        ("gate_rule_is_best", np.nan, float((rule == best).all())),
        ("soft_gate_inside", np.nan, float(((soft > 0) & (soft < 1)).mean())),
        *((f"gate_loss_{name}", np.nan, float(loss)) for name, loss in losses.items()),
    ]


def _heat_checks(tokens: int, dimension: int, rng: np.random.Generator) -> Found:
    """One step of averaging, without skip connection: by a heat kernel, and by attention."""
    states = rng.normal(size=(tokens, dimension))
    kernel = np.exp(-np.square(states[:, None] - states[None]).sum(-1) / (2 * np.sqrt(dimension)))
    symmetric = doubly_stochastic(kernel)
    queries, several = rng.normal(size=(2, tokens, dimension))
    attention = dot_product_weights(queries, several, np.sqrt(dimension))

    def change(measured: Callable[[Array], float], matrix: Array) -> float:
        return float(np.log(measured(matrix @ states) / measured(states)))

    return [
        (
            "heat_step_log_energy",
            np.nan,
            change(lambda x: dirichlet_energy(symmetric, x), symmetric),
        ),
        ("heat_step_log_rank", np.nan, change(_centred_rank, symmetric)),
        ("attention_step_log_rank", np.nan, change(_centred_rank, attention)),
        ("attention_step_log_spread", np.nan, change(_spread, attention)),
    ]


def _centred_rank(states: Array) -> float:
    return float(effective_rank(states, centre="columns"))


def _spread(states: Array) -> float:
    return float(np.linalg.norm(states - states.mean(axis=0)))
