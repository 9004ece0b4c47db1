"""Replicas of a weight matrix: as couplings of spins, or as levels of one system.

**Couplings.** A square matrix, symmetrised and with zero diagonal, couples Ising spins,

    E(s) = -1/2 sum_ij J_ij s_i s_j,    scaled to sum_ij J_ij^2 = N;

a rectangular one couples a spin for each row with one for each column. Gaussian entries then give
the model of Sherrington and Kirkpatrick (1975), which freezes at T = 1, and all temperatures are in
these units. Replicas are independent systems in equilibrium, by tempering up to infinite
temperature, and q_ab = sum_i s_i^a s_i^b / N is their overlap. Flipping all spins changes nothing,
so only abs(q) means anything. Its distribution P has Parisi's order parameter q(x) as its quantile
function (Parisi 1983).

Replica symmetry is broken where abs(q) has no one value, that is where P stays broad. Noise has
this too: the model of Sherrington and Kirkpatrick is the standard case. So it is *detected* in a
matrix only where P is broader than those of Gaussian matrices of the same size at the same
temperature, sampled in the same way. One coherent direction in the weights makes P narrow, several
make it broad.

**Levels.** If the entries are levels of one system, two independent draws overlap fully (they are
the same level) with probability Y_2 = sum p^2 and else not at all. Gaussian levels are Derrida's
random-energy model (1981): below T_f the mean of Y_2 is 1 - T / T_f.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgn.kernels import couplings as kernels
from tgn.thermodynamics.levels import checked_levels, checked_temperatures, thermal_properties
from tgn.thermodynamics.nulls import p_above
from tgn.thermodynamics.spectra import checked_matrix

Array = NDArray[np.floating]
Spins = NDArray[np.int8]

LEAST_REPLICAS = 3  # to leave one out and have a pair left
SETTLED = 1e-8  # largest change of a magnetisation in a sweep
MOST_SWEEPS = 2000
ALIKE = 1e-3  # largest root-mean-square distance of two solutions that are one
MOST_BARRIERS = 20


def couplings(matrix: ArrayLike, n_spins: int, *, rng: np.random.Generator) -> Array:
    """The matrix as couplings J of at most `n_spins` spins, shape (N, N).

    Of a larger matrix rows and columns are drawn: of a square one the same, of a rectangular one as
    many of each as their numbers are in proportion.

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite, couples nothing, or there are fewer than two
        spins.
    """
    values = checked_matrix(matrix)
    if n_spins < 2:
        raise ValueError(f"n_spins must be at least 2, got {n_spins}")
    rows, columns = values.shape
    if rows == columns:
        chosen = _drawn(rows, min(rows, n_spins), rng)
        part = values[np.ix_(chosen, chosen)]
        coupled = (part + part.T) / 2
        np.fill_diagonal(coupled, 0.0)
        return _scaled(coupled)
    share = min(1.0, n_spins / (rows + columns))
    few = min(max(1, round(share * min(rows, columns))), n_spins - 1)
    many = min(max(rows, columns), max(1, min(n_spins, rows + columns) - few))
    m, n = (few, many) if rows < columns else (many, few)
    part = values[np.ix_(_drawn(rows, m, rng), _drawn(columns, n, rng))]
    return _scaled(np.block([[np.zeros((m, m)), part], [part.T, np.zeros((n, n))]]))


def _drawn(total: int, number: int, rng: np.random.Generator) -> NDArray[np.intp]:
    if number == total:
        return np.arange(total)
    return np.sort(rng.choice(total, number, replace=False))


def _scaled(coupled: Array) -> Array:
    squares = (coupled**2).sum()
    if squares == 0:
        raise ValueError("weight_matrix couples nothing: all its entries off the diagonal are zero")
    return coupled * np.sqrt(len(coupled) / squares)


def noise_like(matrix: ArrayLike, n_spins: int, *, rng: np.random.Generator) -> Array:
    """Couplings from a Gaussian matrix with the shape of this one: the null."""
    return couplings(rng.standard_normal(np.shape(matrix)), n_spins, rng=rng)


class Samples(NamedTuple):
    """Configurations of R independent systems in equilibrium.

    ``spins`` has shape (n_temperatures, n_samples, R, N), in the order of ``temperatures``;
    ``energies`` (n_samples, rungs, R) for all inverse temperatures of the ladder, ``betas``, which
    rise from 0; ``rungs`` says where the temperatures are in it, and ``exchange_rate`` which share
    of exchanges each gap of the ladder lets pass: near 0 the systems are not in equilibrium.
    """

    temperatures: Array
    spins: Spins
    energies: Array
    betas: Array
    rungs: NDArray[np.intp]
    exchange_rate: Array


def sample(
    coupled: ArrayLike,
    temperatures: ArrayLike,
    *,
    rng: np.random.Generator,
    n_replicas: int = 10,
    n_samples: int = 1000,
    burn_in: int | None = None,
) -> Samples:
    """Sample by parallel tempering (Hukushima and Nemoto 1996), with heat-bath sweeps.

    Parameters
    ----------
    coupled : array, shape (N, N)
        Symmetric, zero on the diagonal.
    n_samples
        One after each sweep and exchange.
    burn_in
        Sweeps before the first, half as many as samples unless given.

    Raises
    ------
    ValueError
        If the couplings are not symmetric, a temperature is not positive, or there are fewer than
        three replicas or one sample.
    """
    matrix = checked_matrix(coupled, "couplings")
    if matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T) or matrix.trace():
        raise ValueError("couplings must be symmetric, with zeros on the diagonal")
    kelvins = checked_temperatures(temperatures)
    if n_replicas < LEAST_REPLICAS:
        raise ValueError(f"n_replicas must be at least {LEAST_REPLICAS}, got {n_replicas}")
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    n = len(matrix)
    matrix = np.ascontiguousarray(matrix)
    betas = _ladder(kelvins, n)
    rungs = np.searchsorted(betas, 1 / kelvins)
    state = kernels.Ladder(
        spins=_random_spins(rng, (n_replicas, len(betas), n)),
        fields=np.empty((n_replicas, len(betas), n)),
        energy=np.empty((n_replicas, len(betas))),
        random=rng.integers(1, 2**64, size=(2, 8), dtype=np.uint64),
        exchanged=np.zeros(len(betas) - 1, np.int64),
    )
    for a, t in np.ndindex(state.energy.shape):
        state.energy[a, t] = kernels.settle(matrix, state.spins[a, t], state.fields[a, t])
    nothing = np.empty((0, len(rungs), n_replicas, n), np.int8), np.empty((0, 0, 0))
    kernels.temper(
        matrix, betas, state, n_samples // 2 if burn_in is None else burn_in, rungs, *nothing
    )
    state.exchanged[:] = 0
    spins = np.empty((n_samples, len(rungs), n_replicas, n), np.int8)
    energies = np.empty((n_samples, len(betas), n_replicas))
    kernels.temper(matrix, betas, state, n_samples, rungs, spins, energies)
    # of the gap t every second round tries one exchange, beginning with the parity of t
    tries = n_replicas * ((n_samples + 1 - np.arange(len(betas) - 1) % 2) // 2)
    rate = state.exchanged / np.maximum(tries, 1)
    return Samples(kelvins, spins.swapaxes(0, 1), energies, betas, rungs, rate)


def _ladder(kelvins: Array, n: int) -> Array:
    """Inverse temperatures from 0 on, close enough for energies N C / beta^2 wide to meet."""
    wanted = np.unique(1 / kelvins)
    step = np.sqrt(2 / n)
    coldest = wanted[-1]
    warm = min(coldest, 1.0)
    grid = [np.linspace(0, warm, 1 + int(np.ceil(warm / step)))]
    if coldest > 1:
        grid.append(np.geomspace(1, coldest, 1 + int(np.ceil(np.log(coldest) / step))))
    betas = np.unique(np.concatenate([*grid, wanted]))
    # what was put in between is dropped where a wanted one stands close by
    near = np.abs(betas[:, None] - wanted).min(axis=1)
    keep = np.isin(betas, wanted) | (near > step / 3 * np.maximum(betas, 1)) | (betas == 0)
    return betas[keep]


def _random_spins(rng: np.random.Generator, shape: tuple[int, ...]) -> Spins:
    return 2 * rng.integers(2, size=shape, dtype=np.int8) - 1


class Overlaps(NamedTuple):
    """Overlaps at one temperature, as a histogram of abs(q) for each pair of replicas.

    ``values`` (levels,) are the possible ones, ``counts`` has shape (R, R, levels), and
    ``eigenvalues`` (R,) are those of the matrix q_ab, falling, averaged over the samples; they do
    not depend on the signs of the replicas, and their mean is 1.
    """

    values: Array
    counts: Array
    eigenvalues: Array


def overlaps(spins: Spins) -> Overlaps:
    """Overlaps of spins, shape (n_samples, R, N).

    Raises
    ------
    ValueError
        If there are fewer than three replicas.
    """
    replicas, n = spins.shape[1:]
    if replicas < LEAST_REPLICAS:
        raise ValueError(f"spins: at least {LEAST_REPLICAS} replicas are needed, got {replicas}")
    as_floats = spins.astype(np.float32)
    q = as_floats @ as_floats.swapaxes(1, 2)  # whole numbers, exact
    levels = np.rint(np.abs(q)).astype(np.intp) // 2  # N minus an even number
    n_levels = n // 2 + 1
    pair = np.arange(replicas**2).reshape(replicas, replicas) * n_levels
    counts = np.bincount((levels + pair).ravel(), minlength=replicas**2 * n_levels)
    values = (2 * np.arange(n_levels) + n % 2) / n
    eigenvalues = np.linalg.eigvalsh(q / n).mean(axis=0)[::-1]
    return Overlaps(
        values,
        counts.reshape(replicas, replicas, n_levels).astype(float),
        eigenvalues.astype(float),
    )


class OverlapMoments(NamedTuple):
    """Of abs(q) over pairs and samples: mean, standard deviation, <q^2>, and the Binder ratio.

    The ratio (3 - <q^4> / <q^2>^2) / 2 is 0 for independent spins and 1 for a single abs(q).
    """

    mean: float
    std: float
    square: float
    binder: float


def moments(found: Overlaps) -> tuple[OverlapMoments, OverlapMoments]:
    """The moments and their standard errors, from leaving out one replica at a time.

    Replicas are independent where samples of one are not.
    """
    value, error = _jackknife(found, lambda share: np.array(_moments(found.values, share)))
    return OverlapMoments(*value.tolist()), OverlapMoments(*error.tolist())


def _moments(values: Array, share: Array) -> OverlapMoments:
    mean, square, fourth = (share @ values**power for power in (1, 2, 4))
    std = np.sqrt(np.maximum(0.0, square - mean**2))
    binder = (3 - fourth / square**2) / 2 if square else 0.0
    return OverlapMoments(float(mean), float(std), float(square), float(binder))


def order_parameter(found: Overlaps, x: ArrayLike) -> tuple[Array, Array]:
    """Parisi's q(x) and its standard error, each of the shape of x.

    q(x) is the abs(q) that a share x of the overlaps stays below. A whole overlap stands for the
    interval of width 2 / N around it.

    Raises
    ------
    ValueError
        If x is not within [0, 1].
    """
    at = np.asarray(x, float)
    if not ((at >= 0) & (at <= 1)).all():
        raise ValueError("x must be within [0, 1]")
    half = (found.values[1] - found.values[0]) / 2
    edges = np.clip(np.concatenate([[0.0], found.values + half]), 0, 1)

    def quantiles(share: Array) -> Array:
        return np.interp(at, np.concatenate([[0.0], np.cumsum(share)]), edges)

    return _jackknife(found, quantiles)


def _jackknife(found: Overlaps, statistic: Callable[[Array], Array]) -> tuple[Array, Array]:
    replicas = len(found.counts)

    def of(kept: NDArray[np.intp]) -> Array:
        above = np.triu_indices(len(kept), 1)
        counts = found.counts[np.ix_(kept, kept)][above].sum(axis=0)
        return statistic(counts / counts.sum())

    everyone = np.arange(replicas)
    without = np.array([of(np.delete(everyone, a)) for a in everyone])
    spread = (replicas - 1) * without.var(axis=0)
    return of(everyone), np.sqrt(spread)


class Breaking(NamedTuple):
    """A test for replica symmetry breaking beyond noise.

    ``null`` are the statistics of Gaussian matrices, sampled in the same way, and ``p_value`` the
    share of them (the matrix counted) that are at least as large.
    """

    statistic: float
    null: Array
    p_value: float
    is_frozen: bool

    def is_detected(self, level: float = 0.05) -> bool:
        """Whether the overlaps are frozen and broader than those of noise."""
        return self.is_frozen and self.p_value <= level


def breaking(
    matrix: ArrayLike,
    temperature: float,
    *,
    rng: np.random.Generator,
    n_spins: int = 64,
    n_replicas: int = 10,
    n_samples: int = 1000,
    n_null: int = 39,
) -> tuple[Breaking, Overlaps]:
    """Whether P(abs(q)) is broader than noise would make it; with the overlaps.

    The statistic is the standard deviation of abs(q). The overlaps count as frozen if <q^2> exceeds
    the 1 / N of independent spins by half and by three standard errors. Of noise, the test detects
    a share ``level`` where noise is frozen and practically none above. The null has to be drawn
    for each temperature and size, and takes nearly all of the time.

    Raises
    ------
    ValueError
        As :func:`couplings` and :func:`sample`, or if the null has fewer than 19 draws, as no
        p-value could then be 0.05.
    """
    if n_null < 19:
        raise ValueError(f"n_null must be at least 19, got {n_null}")

    def drawn(coupled: Array) -> Overlaps:
        found = sample(coupled, [temperature], rng=rng, n_replicas=n_replicas, n_samples=n_samples)
        return overlaps(found.spins[0])

    coupled = couplings(matrix, n_spins, rng=rng)
    found = drawn(coupled)
    value, error = moments(found)
    free = 1 / len(coupled)
    frozen = value.square > 1.5 * free and value.square - free > 3 * error.square
    null = np.array(
        [moments(drawn(noise_like(matrix, n_spins, rng=rng)))[0].std for _ in range(n_null)]
    )
    return Breaking(value.std, null, p_above(value.std, null), frozen), found


def level_overlap(energies: ArrayLike, temperatures: ArrayLike) -> Array:
    """Y_2 = sum p^2, how often two draws are the same level; shape (n_temperatures,).

    Raises
    ------
    ValueError
        As :func:`tgn.thermodynamics.levels.thermal_properties`.
    """
    levels = checked_levels(energies)
    kelvins = checked_temperatures(temperatures)
    above = levels - levels.min()
    at = thermal_properties(above, kelvins).free_energy
    at_half = thermal_properties(above, kelvins / 2).free_energy
    return np.clip(np.exp(2 * (at - at_half) / kelvins), 1 / levels.size, 1.0)


def level_breaking(
    energies: ArrayLike, temperature: float, *, rng: np.random.Generator, n_null: int = 99
) -> Breaking:
    """Whether fewer levels share the weight than of as many Gaussian ones, of equal sigma.

    The statistic is Y_2. The levels count as frozen if 1 / Y_2 of them are fewer than sqrt(N),
    which Gaussian levels are below 2 T_f.

    Raises
    ------
    ValueError
        If the levels are all equal, or not finite, or the null has fewer than 19 draws.
    """
    if n_null < 19:
        raise ValueError(f"n_null must be at least 19, got {n_null}")
    levels = checked_levels(energies)
    sigma = levels.std()
    if sigma == 0:
        raise ValueError("energies: all levels are equal")
    value = float(level_overlap(levels, [temperature])[0])
    null = np.array(
        [
            level_overlap(rng.standard_normal(levels.size), [temperature / sigma])[0]
            for _ in range(n_null)
        ]
    )
    return Breaking(value, null, p_above(value, null), value > levels.size**-0.5)


class SpinThermodynamics(NamedTuple):
    """Per system (not per spin), with standard errors over replicas."""

    temperature: float
    energy: float
    energy_error: float
    entropy: float
    entropy_error: float
    free_energy: float
    free_energy_error: float


def thermodynamics(found: Samples, which: int = 0) -> SpinThermodynamics:
    """Energy, entropy and free energy by integration from infinite temperature.

    ln Z = N ln 2 - integral of U over beta, where dU / dbeta = -Var(E) is known as well: each gap
    is integrated as the cubic through both ends with their slopes.
    """
    n = found.spins.shape[-1]
    upto = int(found.rungs[which]) + 1
    beta = found.betas[:upto]
    energies = found.energies[:, :upto]
    mean, slope = energies.mean(axis=0), -energies.var(axis=0)  # (rungs, R)
    gap = np.diff(beta)[:, None]
    area = (gap * (mean[1:] + mean[:-1]) / 2 + gap**2 * (slope[:-1] - slope[1:]) / 12).sum(axis=0)
    log_z = n * np.log(2) - area
    energy, entropy, free = mean[-1], log_z + beta[-1] * mean[-1], -log_z / beta[-1]

    def with_error(values: Array) -> tuple[float, float]:
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    return SpinThermodynamics(
        float(found.temperatures[which]),
        *with_error(energy),
        *with_error(entropy),
        *with_error(free),
    )


class Minima(NamedTuple):
    """Configurations that no flip of one spin improves, each with its mirror image as one.

    ``states`` (minima, N) by rising ``energies``; ``counts`` says how many quenches ended in each,
    ``coverage`` (Good and Turing) which share of quenches ends in minima that have been found.
    """

    states: Spins
    energies: Array
    counts: NDArray[np.int64]
    coverage: float

    @property
    def effective_number(self) -> float:
        """exp of the entropy of the shares of quenches."""
        share = self.counts / self.counts.sum()
        return float(np.exp(-(share * np.log(share)).sum()))


def minima(coupled: ArrayLike, n_starts: int, *, rng: np.random.Generator) -> Minima:
    """Minima by descent from random configurations.

    Raises
    ------
    ValueError
        If there are no starts, or the couplings are no finite matrix.
    """
    if n_starts < 1:
        raise ValueError(f"n_starts must be at least 1, got {n_starts}")
    matrix = np.ascontiguousarray(checked_matrix(coupled, "couplings"))
    spins = _random_spins(rng, (n_starts, len(matrix)))
    energies = kernels.descend(matrix, spins)
    spins *= spins[:, :1]  # of a state and its mirror image that with the first spin up
    states, first, counts = np.unique(spins, axis=0, return_index=True, return_counts=True)
    order = np.argsort(energies[first], kind="stable")
    coverage = 1 - np.sum(counts == 1) / n_starts
    return Minima(states[order], energies[first][order], counts[order], float(coverage))


def surviving(coupled: ArrayLike, states: Spins, temperatures: ArrayLike) -> NDArray[np.int64]:
    """How many of these states still stand apart at each temperature, shape (n_temperatures,).

    Each is followed upwards in temperature as a solution of the mean-field equations
    m = tanh(J m / T). States that meet go on as one, so the number cannot rise; above the largest
    eigenvalue of J, which is 2 for noise, m = 0 is the only one.

    Raises
    ------
    ValueError
        If a state has not settled: what has not is no solution, and would be counted as one.
    """
    matrix = np.ascontiguousarray(checked_matrix(coupled, "couplings"))
    grid = checked_temperatures(temperatures)
    standing: Array = np.ascontiguousarray(states, dtype=np.float64)
    number = np.empty(len(grid), np.int64)
    for place in np.argsort(grid):
        temperature = grid[place]
        unsettled = kernels.magnetise(matrix, standing, 1 / temperature, SETTLED, MOST_SWEEPS)
        if unsettled:
            raise ValueError(
                f"temperature {temperature:g}: {unsettled} of {len(standing)} states have not "
                f"settled within {MOST_SWEEPS} sweeps; leave this temperature out"
            )
        standing = _distinct(standing)
        number[place] = len(standing)
    return number


def _distinct(states: Array) -> Array:
    """Without those that equal an earlier one or its mirror image."""
    products = states @ states.T
    squares = np.diag(products)
    apart = squares[:, None] + squares - 2 * np.abs(products)
    first = np.argmax(apart < ALIKE**2 * states.shape[1] + 1e-9, axis=1)
    return np.ascontiguousarray(states[first == np.arange(len(states))])


def barriers(coupled: ArrayLike, found: Minima) -> Array:
    """How far one has to climb from each of the lowest minima towards the lowest of all.

    An upper bound each, shape (up to 20,), by the path that flips the spins which differ one by
    one, the cheapest first.
    """
    matrix = checked_matrix(coupled, "couplings")
    target = found.states[0].astype(float)
    climbs = []
    for start in found.states[1 : 1 + MOST_BARRIERS].astype(float):
        state = start.copy()
        goal = target if state @ target >= 0 else -target
        fields: Array = matrix @ state
        energy, highest = 0.0, 0.0
        left = state != goal
        while left.any():
            cost = np.where(left, 2 * state * fields, np.inf)
            i = int(np.argmin(cost))
            energy += cost[i]
            highest = max(highest, energy)
            fields = fields - 2 * state[i] * matrix[i]
            state[i], left[i] = goal[i], False
        climbs.append(highest)
    return np.array(climbs)
