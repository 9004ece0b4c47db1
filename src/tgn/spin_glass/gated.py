r"""TGN on the spin glass: local Metropolis sweeps, gated with moves taught by a population.

R replicas of a disorder sample live at each temperature T. In every step a replica takes, with
probability g(T), the *geometric path*, and otherwise the *inertial path*, one local Metropolis
sweep. The geometric path of the replica S:

1. A query over the other replicas at the same temperature draws a partner j from a softmax,

       P(j | S) = exp a(S, j) / sum over k of exp a(S, k),
       a(S, k) = overlap_weight q(S, S_k)^2 - energy_weight E_k / sqrt(N),

   with the overlap ``q = sum s s_k / N``, whose square does not care about a global flip.
2. A third replica k is drawn uniformly. The sites where S_j and S_k differ (S_k turned over if
   their overlap is negative) form connected clusters: excitations that the population knows of.
3. Each cluster C in turn is offered to S: S' is S with C flipped, accepted with

       min(1, pi(S') P(j | S') / (pi(S) P(j | S))),   pi(S) = exp(-E(S) / T).

The gate opens where local moves are refused, ``g = ceiling (1 - acceptance)``. It adapts during
burn-in and is frozen after that.

Why the target is kept
----------------------
The target is the product of pi over all replicas. Write X for all replicas but S.

*One offer.* j, k and the clusters are functions of X and of fresh random numbers, apart from the
draw of j, which has the density P(j | S). Take j as an auxiliary variable: the extended density
``pi(S) P(j | S)`` has pi(S) as its marginal, and drawing j from P(j | S) leaves it invariant (a
Gibbs step). Given j, k and X, the cluster C does not depend on S. The proposal S -> S' flips C
and is its own inverse: from S' the same C is offered with the same probability. So the
acceptance above is Metropolis's for the extended density, and detailed balance holds:

    pi(S) P(j | S) min(1, r) = min(pi(S) P(j | S), pi(S') P(j | S')) = pi(S') P(j | S') min(1, 1/r)

Several clusters in turn, with j and k held, are several such steps; the order of the clusters
is that of the lattice and knows nothing of S. Summing over j gives invariance of pi(S), and X has
not moved, so the joint target is invariant. With a single cluster offered, summing the identity
over j, k and the choice of C gives detailed balance in the joint space itself.

*What must be symmetric.* The choice of k, the sites in a cluster and their order must be the same
from S and from S'. A cluster of the difference between S *itself* and S_j would not do: once
flipped in S it agrees with S_j and the way back offers another set (Houdayer's move escapes by
flipping both replicas). Only P(j | S) sees S, and it changes through all R - 1 overlaps: hence the
normaliser in the ratio. E_k belongs to X and is the same before and after.

*The whole.* A local sweep visits the sites in a fixed order and leaves pi(S) invariant. A frozen
gate mixes both paths with a probability that depends on nothing, and mixtures and sequences of
steps that keep a distribution keep it. Exchanges between temperatures keep the product of the
targets (Hukushima and Nemoto 1996). While the gate adapts, it depends on the past, and none of
this holds: burn-in is not sampled.

Sources: ter Braak 2006 (differences of two other chains as proposals); Houdayer 2001 (clusters
of the local overlap); Andrieu and Thoms 2008 (why adaptation must stop).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgn.kernels import gated as kernels
from tgn.spin_glass.arms import check_updates, random_spins, random_state
from tgn.spin_glass.lattice import EdwardsAnderson, streams

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class GatedState:
    """One population for each disorder sample."""

    model: EdwardsAnderson
    populations: Sequence[kernels.Population]

    @property
    def spins(self) -> NDArray[np.int8]:
        """+-1, shape (samples, T, R, N), coldest first."""
        return self._stacked("spins")

    @property
    def energy(self) -> NDArray[np.float64]:
        """Shape (samples, T, R)."""
        return self._stacked("energy")

    @property
    def lowest_energy(self) -> NDArray[np.float64]:
        """Least energy seen, shape (samples,)."""
        return self._stacked("lowest")[:, 0]

    @property
    def updates(self) -> NDArray[np.int64]:
        """Spins visited, those compared for overlaps included, shape (samples,)."""
        return self.work.sum(axis=1)

    @property
    def work(self) -> NDArray[np.int64]:
        """Spins visited by sweeps, compared for overlaps, visited by clusters, (samples, 3)."""
        return self._stacked("updates")

    @property
    def gate(self) -> NDArray[np.float64]:
        """Probability of a geometric step, shape (samples, T)."""
        return self._stacked("gate")

    @property
    def acceptance(self) -> NDArray[np.float64]:
        """Accepted share of local spin flips, all temperatures together, shape (samples,)."""
        return _share(self._stacked("flips").sum(axis=2))

    @property
    def local_acceptance(self) -> NDArray[np.float64]:
        """Accepted share of local spin flips, shape (samples, T)."""
        return _share(self._stacked("flips"))

    @property
    def geometric_acceptance(self) -> NDArray[np.float64]:
        """Accepted share of cluster flips, shape (samples, T); NaN where none was tried."""
        return _share(self._stacked("clusters"))

    def _stacked(self, name: str) -> NDArray:
        return np.stack([getattr(population, name) for population in self.populations])


@dataclass(frozen=True)
class Gated:
    """The gated arm.

    Parameters
    ----------
    temperatures : ascending, in units of the coupling
    replicas : int
        R at each temperature, at least 3: the mover, its partner and a third. With 3 there is
        one difference to learn from and the choice of a partner decides nothing: use 4 or more.
    ceiling : float
        Gate where no local move is accepted, 0 to below 1. At 0 the geometric path is closed,
        and what remains is parallel tempering (or plain Metropolis without exchange).
    overlap_weight, energy_weight : float
        Weights of the softmax; both 0 make the choice of partners uniform.
    steps : int
        Steps of every replica in a round, before exchanges.
    burn_in : int
        Rounds during which the gate adapts.
    exchange : bool
        Whether replicas exchange temperatures.

    Raises
    ------
    ValueError
        If a parameter is out of range or the temperatures do not ascend.

    Examples
    --------
    >>> box = EdwardsAnderson.draw(3, 1, seed=0)
    >>> arm = Gated(temperatures=(0.2, 1.0), replicas=4)
    >>> state = arm.advance(arm.start(box, seed=1), 100_000)
    >>> bool(state.updates[0] >= 100_000)
    True
    """

    temperatures: Sequence[float]
    replicas: int = 4
    ceiling: float = 0.1
    overlap_weight: float = 4.0
    energy_weight: float = 1.0
    steps: int = 5
    burn_in: int = 20
    exchange: bool = True

    def __post_init__(self) -> None:
        ladder = np.asarray(self.temperatures, dtype=np.float64)
        if (
            ladder.ndim != 1
            or ladder.size == 0
            or not np.isfinite(ladder).all()
            or not (np.diff(ladder, prepend=0) > 0).all()
        ):
            raise ValueError(
                f"temperatures must be positive and ascend, got {list(self.temperatures)}"
            )
        if self.replicas < 3:
            raise ValueError(f"replicas must be at least 3, got {self.replicas}")
        if not 0 <= self.ceiling < 1:
            raise ValueError(f"ceiling must be in [0, 1), got {self.ceiling}")
        for name in ("overlap_weight", "energy_weight"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.burn_in < 0:
            raise ValueError(f"burn_in must not be negative, got {self.burn_in}")

    def start(self, model: EdwardsAnderson, seed: int | np.random.SeedSequence) -> GatedState:
        """Random configurations, each sample from a stream of its own, and the gate shut."""
        return GatedState(
            model,
            [self._population(model, k, s) for k, s in enumerate(streams(seed, model.n_samples))],
        )

    def advance(self, state: GatedState, updates: int) -> GatedState:
        """Whole rounds until every sample has spent `updates` in all.

        Raises
        ------
        ValueError
            If `updates` is negative.
        """
        check_updates(updates)
        return self._evolve(state, NEVER, updates)

    def advance_rounds(self, state: GatedState, rounds: int) -> GatedState:
        """`rounds` more rounds of every sample.

        Raises
        ------
        ValueError
            If `rounds` is negative.
        """
        if rounds < 0:
            raise ValueError(f"rounds must not be negative, got {rounds}")
        return self._evolve(state, int(state.populations[0].rounds[0]) + rounds, NEVER)

    def _evolve(self, state: GatedState, n_rounds: int, n_updates: int) -> GatedState:
        settings = kernels.Settings(
            np.asarray(self.temperatures, dtype=np.float64),
            float(self.overlap_weight),
            float(self.energy_weight),
            float(self.ceiling),
            self.steps,
            self.burn_in,
            self.exchange,
        )
        for couplings, population in zip(
            state.model.neighbour_couplings, state.populations, strict=True
        ):
            lattice = kernels.Lattice(state.model.neighbours, couplings)
            kernels.evolve(population, lattice, settings, n_rounds, n_updates)
        return state

    def _population(
        self, model: EdwardsAnderson, sample: int, seed: np.random.SeedSequence
    ) -> kernels.Population:
        rng = np.random.default_rng(seed)
        rungs = len(self.temperatures)
        shape = (rungs, self.replicas, model.n_sites)
        spins = random_spins(rng, shape)
        fields = np.empty(shape, dtype=np.float32)
        energy = np.empty(shape[:2])
        for place in np.ndindex(*shape[:2]):
            energy[place] = kernels.settle(
                spins[place], fields[place], model.neighbours, model.neighbour_couplings[sample]
            )
        return kernels.Population(
            spins=spins,
            fields=fields,
            energy=energy,
            random=random_state(rng),
            lowest=np.array([energy.min()]),
            gate=np.zeros(rungs),
            flips=np.zeros((2, rungs), dtype=np.int64),
            clusters=np.zeros((2, rungs), dtype=np.int64),
            updates=np.zeros(3, dtype=np.int64),
            rounds=np.zeros(1, dtype=np.int64),
        )


def _share(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Accepted over tried along axis 1, NaN where nothing was tried."""
    accepted, tried = counts[:, 0].astype(np.float64), counts[:, 1].astype(np.float64)
    return np.divide(accepted, tried, out=np.full(accepted.shape, np.nan), where=tried > 0)
