"""How fast a walker forgets where it began on a rugged landscape, with and without attention (1d).

Two landscapes of size n, in both of which barriers grow with n. *hypercube*: the ``2**n`` states of
n spins, with independent normal energies of variance n (the random-energy model, Derrida 1981); a
local move flips one spin. *ring*: ``4 n**2`` sites, whose energies are a random walk that closes
(steps of variance 1/4, so that the deepest valleys lie about n below the ridges; Sinai 1982); a
local move goes to one of the four nearest sites.

With a given share of the moves the walker jumps instead:

``attention``
    by the softmax of ``-E_j / T + x_i.x_j / sqrt(n)``, energy and similarity of every state,
    accepted after Metropolis and Hastings, so that the Boltzmann distribution stays;
``row_softmax``
    by the same softmax, always accepted, as attention is used: another distribution then;
``uniform``
    to any state alike, accepted after Metropolis: a shortcut without attention.

The gap is one minus the second eigenvalue of the transition matrix; its inverse is the relaxation
time in steps, which bounds the mixing time from both sides up to the logarithm of the rarest
state's weight (Levin, Peres and Wilmer 2009, chapter 12). Of small landscapes the mixing time is
counted itself. A step costs one new energy, but a jump by attention costs the energies of all
states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, eigs, eigsh

from tgn.files import write_table
from tgn.progress import bar

Array = NDArray[np.float64]

ARMS = ("local", "attention", "row_softmax", "uniform")
REACH = 2  # sites to either side that a local move on the ring may reach
TOLERANCE = 1e-8  # of eigenvalues, relative
SMALLEST_GAP = 1e-12  # below it rounding errors of the generator show
MIXED = 0.25  # total variation from the stationary weights below which a walk counts as mixed


class Landscape(NamedTuple):
    """Energies of N states, the chance of each local proposal, and how alike two states are."""

    energies: Array  # (N,)
    proposals: Array  # (N, N), symmetric, rows sum to 1
    similarity: Array  # (N, N), x_i.x_j / sqrt(n) of vectors of squared norm n


class Walk(NamedTuple):
    """How fast a walk forgets, and where it ends up."""

    gap: float
    distance: float  # of the stationary weights from Boltzmann's, total variation
    mixing: float  # mixing time in steps; NaN where it is not counted


def measure(
    *,
    table: str | Path,
    sizes: Mapping[str, Sequence[int]],
    samples: int,
    temperature: float,
    share: float,
    mixed: int,
    seed: int,
) -> None:
    """Gaps of every arm on random landscapes, and mixing times of the small ones.

    Parameters
    ----------
    table
        Parquet to write: columns landscape, size, states, sample, arm, gap, evaluations (energies
        a step), distance (of the stationary distribution from Boltzmann's, total variation), mixing
        (steps, see :func:`mixing_time`; NaN of large landscapes).
    sizes
        Sides n of each landscape.
    samples
        Landscapes of each size.
    temperature
        In units of the energies; the hypercube's landscape freezes at ``1 / sqrt(2 ln 2)``, 0.85.
    share
        Of the moves that are jumps.
    mixed
        Most states of a landscape whose mixing time is counted.
    """
    rows = []
    plan = [(kind, size) for kind, several in sizes.items() for size in several]
    for kind, size in bar(plan, desc="landscapes"):
        for sample in range(samples):
            rng = np.random.default_rng([seed, len(kind), size, sample])
            landscape = MAKERS[kind](size, rng)
            for arm, walk in arms(landscape, temperature, share, mixed).items():
                rows.append(
                    {
                        "landscape": kind,
                        "size": size,
                        "states": len(landscape.energies),
                        "sample": sample,
                        "arm": arm,
                        "evaluations": evaluations(arm, len(landscape.energies), share),
                    }
                    | walk._asdict()
                )
    write_table(table, pd.DataFrame(rows))


def hypercube(size: int, rng: np.random.Generator) -> Landscape:
    """Independent energies of variance n on the corners of an n-cube."""
    spins = 1.0 - 2.0 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1)
    overlap = spins @ spins.T
    return Landscape(
        np.sqrt(size) * rng.normal(size=2**size),
        (overlap == size - 2) / size,
        overlap / np.sqrt(size),
    )


def ring(size: int, rng: np.random.Generator) -> Landscape:
    """A random walk that closes, on 4 n^2 sites in a circle."""
    sites = 4 * size**2
    steps = rng.normal(scale=0.5, size=sites)
    apart = np.subtract.outer(np.arange(sites), np.arange(sites)) % sites
    near = np.minimum(apart, sites - apart)
    return Landscape(
        np.cumsum(steps - steps.mean()),
        ((near > 0) & (near <= REACH)) / (2 * REACH),
        np.sqrt(size) * np.cos(2 * np.pi * apart / sites),
    )


MAKERS = {"hypercube": hypercube, "ring": ring}


def evaluations(arm: str, states: int, share: float) -> float:
    """Energies that a step asks for, on average: one, or all for a jump by attention."""
    by_attention = arm in ("attention", "row_softmax")
    return 1 - share + share * states if by_attention else 1.0


def arms(landscape: Landscape, temperature: float, share: float, mixed: int = 0) -> dict[str, Walk]:
    """The walk of every arm; its mixing time is counted for up to ``mixed`` states.

    Raises
    ------
    ValueError
        If a gap is too small to be told from rounding errors.
    """
    log_weights = (landscape.energies.min() - landscape.energies) / temperature
    # Reversible chains are held in their symmetric form, P_ij sqrt(w_i / w_j).
    root = np.exp(log_weights / 2)  # the ends of a move differ by no more than floats can hold
    tilt = np.minimum.outer(root, root) / np.maximum.outer(root, root)
    local = landscape.proposals * tilt
    uniform = tilt / len(root)
    likeness = np.exp(landscape.similarity)
    norms = likeness @ root**2
    jump = likeness * np.outer(root, root) / np.maximum.outer(norms, norms)
    reversible = {
        "local": local,
        "attention": (1 - share) * local + share * jump,
        "uniform": (1 - share) * local + share * uniform,
    }
    weights = root**2 / (root @ root)
    small = len(root) <= mixed
    found = {
        arm: Walk(
            reversible_gap(rates, root),
            0.0,
            mixing_time(transition_matrix(rates, root), weights) if small else np.nan,
        )
        for arm, rates in reversible.items()
    }
    softmax = likeness * root**2 / norms[:, None]
    chain = (1 - share) * transition_matrix(local, root) + share * softmax
    gap, stationary = irreversible_gap(chain, root)
    distance = float(np.abs(stationary - weights).sum() / 2)
    mixing = mixing_time(chain, stationary) if small else np.nan
    return {**found, "row_softmax": Walk(gap, distance, mixing)}


def transition_matrix(rates: Array, root: Array) -> Array:
    """P of its symmetric form, with what is refused on the diagonal; rows sum to 1.

    Parameters are those of :func:`reversible_gap`.
    """
    chain = rates * (root / root[:, None])
    np.fill_diagonal(chain, 0.0)
    np.fill_diagonal(chain, 1 - chain.sum(axis=1))
    return chain


def reversible_gap(rates: Array, root: Array) -> float:
    """Gap of a reversible chain, from its symmetric form off the diagonal.

    ``1 - P`` in that form has the root of the weights as its null vector. Lifting that one leaves
    a positive definite matrix, whose smallest eigenvalue is the gap, found by Lanczos on the
    inverse: accurate also for gaps far below what an eigensolver on P finds in reasonable time.

    Parameters
    ----------
    rates : array, shape (N, N)
        ``P_ij sqrt(w_i / w_j)``; the diagonal is ignored.
    root : array, shape (N,)
        Roots of the stationary weights, up to a factor.

    Raises
    ------
    ValueError
        If the gap is too small to be told from rounding errors.
    """
    unit = root / np.linalg.norm(root)
    lifted = 2 * np.outer(unit, unit) - rates
    leaving = (rates @ unit - rates.diagonal() * unit) / unit
    np.fill_diagonal(lifted, leaving + 2 * unit**2)
    factor = cho_factor(lifted, check_finite=False, overwrite_a=True)
    inverse = LinearOperator(
        lifted.shape,
        matvec=lambda vector: cho_solve(factor, vector, check_finite=False),
        dtype=np.float64,
    )
    start = np.cos(np.arange(len(root)))  # fixed, so that equal chains give equal bytes
    values = eigsh(
        inverse, k=1, which="LM", v0=start, ncv=min(8, len(root)), tol=TOLERANCE,
        return_eigenvectors=False,
    )  # fmt: skip
    gap = 1 / float(values[0])
    if gap < SMALLEST_GAP:
        raise ValueError(
            f"a gap of {gap:.1e} cannot be told from rounding: raise landscapes.temperature or "
            "lower landscapes.sizes"
        )
    return gap


def irreversible_gap(chain: Array, start: Array) -> tuple[float, Array]:
    """One minus the largest real part but one, and the stationary weights.

    Parameters
    ----------
    chain : array, shape (N, N)
        Transition matrix, rows sum to 1.
    start : array, shape (N,)
        Where the search for eigenvectors begins.
    """
    values, vectors = eigs(chain.T, k=2, which="LR", v0=start, tol=TOLERANCE)
    first, second = np.argsort(-values.real)[:2]
    stationary = np.abs(vectors[:, first].real)
    return float(1 - values[second].real), stationary / stationary.sum()


def mixing_time(chain: Array, stationary: Array) -> int:
    """Steps after which a walk is mixed, wherever it began: exact, by powers of the chain.

    The total variation from the stationary weights, of the worst beginning, never rises with the
    steps. So the chain is squared until it is mixed, and then the last number of steps that does
    not mix is found digit by digit.

    Parameters
    ----------
    chain : array, shape (N, N)
        Transition matrix of two states or more, rows sum to 1.
    stationary : array, shape (N,)

    Examples
    --------
    >>> mixing_time(np.array([[0.7, 0.3], [0.1, 0.9]]), np.array([0.25, 0.75]))  # 3/4 0.6**t
    3
    """

    def mixes(power: Array) -> bool:
        return float(np.abs(power - stationary).sum(axis=1).max()) / 2 <= MIXED

    powers = [chain]
    while not mixes(powers[-1]):
        powers.append(powers[-1] @ powers[-1])
    steps, walked = 0, np.eye(len(chain))
    for digit in reversed(range(len(powers) - 1)):
        further = walked @ powers[digit]
        if not mixes(further):
            steps, walked = steps + 2**digit, further
    return steps + 1
