"""Markov chains of parallel tempering on three kernels behind one interface.

A block of chains holds `width` lanes. Every lane carries two independent replica sets of one
disorder sample at all temperatures; a block with fewer samples than lanes runs whole copies of
them. Chains advance in rounds: sweeps at every temperature, energies, then one exchange step of
every second pair of neighbouring temperatures.

========== ========================== ===============================================
kernel      lanes and their couplings  lanes that share random numbers
========== ========================== ===============================================
multispin   512, +-J                   64 (one word)
batched     32, multiples of `UNIT`    32 (the block)
scalar      1, any                     none; can add Houdayer's cluster moves
========== ========================== ===============================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tgn.kernels import batched, ising, multispin
from tgn.kernels.vectors import WORDS, aligned
from tgn.spin_glass.lattice import UNIT, EdwardsAnderson

SUM_PLANES = 48  # binary digits of the sum of all energies of a run
ROUND_TRIP_PLANES = 24


class Chains(ABC):
    """Two replica sets of up to `width` disorder samples at T temperatures.

    Parameters
    ----------
    model : EdwardsAnderson
        At most `width` samples.
    temperatures : array, shape (T,), ascending
    seed : SeedSequence
        Decides the initial spins and every random number.
    cluster_temperature : float
        Houdayer moves up to this temperature, 0 for none; the scalar kernel only.
    """

    width: ClassVar[int]

    def __init__(
        self,
        model: EdwardsAnderson,
        temperatures: NDArray[np.float64],
        seed: np.random.SeedSequence,
        cluster_temperature: float = 0.0,
    ) -> None:
        self.model = model
        self.temperatures = temperatures
        self.n_cluster = int(np.searchsorted(temperatures, cluster_temperature, side="right"))
        self.copies = self.width // model.n_samples
        self.n_rounds = 0
        self.n_measured = 0
        rng = np.random.default_rng(seed)
        self._chains: Any = self._start(rng)

    @abstractmethod
    def _start(self, rng: np.random.Generator) -> Any:
        """Initial state of the kernel."""

    def advance(
        self, n_rounds: int, n_sweeps: int, *, measure: bool = False, overlap_every: int = 1
    ) -> None:
        """Run `n_rounds` rounds of `n_sweeps` sweeps.

        With `measure`, energies enter the means every round, overlaps in each round whose number
        divides by `overlap_every`.
        """
        self._temper(self.n_rounds, n_rounds, n_sweeps, measure, overlap_every)
        self.n_rounds += n_rounds
        self.n_measured += n_rounds * measure

    @abstractmethod
    def _temper(self, *schedule: int) -> None:
        """Call the kernel: first round, rounds, sweeps, measure, overlap_every."""

    @abstractmethod
    def spins(self) -> NDArray[np.int8]:
        """Present spins, shape (2, T, lanes, N)."""

    @abstractmethod
    def energies(self) -> NDArray[np.float64]:
        """Energies of `spins`, shape (2, T, lanes)."""

    @abstractmethod
    def lowest(self) -> NDArray[np.float64]:
        """Lowest energy at the end of any round (scalar: any sweep) so far, shape (lanes,)."""

    @abstractmethod
    def energy_sum(self) -> NDArray[np.float64]:
        """Energies before each measured exchange, summed over rounds and sets, (T, lanes)."""

    def overlap_sum(self) -> NDArray[np.float64]:
        """Sums of |q|, q**2 and the link overlap over measurements, shape (3, T, lanes)."""
        return self._chains.overlap_sum.reshape(3, self.temperatures.size, self.width)

    @abstractmethod
    def round_trips(self) -> NDArray[np.int64]:
        """Arrivals at the coldest temperature from the hottest, both sets, shape (lanes,)."""

    def exchanged(self) -> NDArray[np.int64]:
        """Accepted exchanges of each pair of temperatures, all lanes and sets, shape (T - 1,)."""
        counts = self._chains.exchanged
        return counts.sum(axis=tuple(range(1, counts.ndim)))

    def cluster_updates(self) -> int:
        """Spins visited by cluster moves."""
        return 0

    def _lane_bonds(self) -> NDArray[np.float32]:
        """Couplings of each lane, shape (N, 3, lanes).

        Lane k runs sample k % n_samples; lanes left over after whole copies are not reported.
        """
        samples = np.arange(self.width) % self.model.n_samples
        return self.model.bonds[samples].transpose(1, 2, 0)

    def _random_states(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray:
        states = aligned(shape)
        states[...] = rng.integers(1, 2**64, size=shape, dtype=np.uint64)
        return states


class MultispinChains(Chains):
    """Bit-coded: 512 samples with couplings of +1 and -1."""

    width = multispin.LANES

    def _start(self, rng: np.random.Generator) -> multispin.Chains:
        model, n_temperatures = self.model, self.temperatures.size
        bonds = _packed(self._lane_bonds() < 0)
        self._samples = multispin.Samples(
            bonds,
            model.neighbours,
            model.incoming,
            model.sweep_order,
            model.coordination,
            model.n_bonds,
        )
        betas = 1 / self.temperatures
        self._ladder = multispin.Ladder(_flip_thresholds(betas), betas[:-1] - betas[1:])
        n_planes = model.n_bonds.bit_length()
        lowest = aligned((n_planes, WORDS))
        lowest[...] = ~np.uint64(0)
        cold_last = aligned((n_temperatures, 2, WORDS))
        cold_last[...] = ~np.uint64(0)
        return multispin.Chains(
            spins=self._random_states(rng, (n_temperatures, model.n_sites, 2, WORDS)),
            random=self._random_states(rng, (2, 2, WORDS)),
            unsatisfied=aligned((n_temperatures, 2, n_planes, WORDS)),
            lowest=lowest,
            cold_last=cold_last,
            round_trips=aligned((ROUND_TRIP_PLANES, WORDS)),
            exchanged=np.zeros(n_temperatures - 1, dtype=np.int64),
            energy_sum=aligned((n_temperatures, SUM_PLANES, WORDS)),
            overlap_sum=np.zeros((3, n_temperatures, self.width)),
            scratch=aligned((n_planes + 1, WORDS)),
        )

    def _temper(self, *schedule: int) -> None:
        multispin.temper(self._samples, self._ladder, self._chains, *schedule)

    def spins(self) -> NDArray[np.int8]:
        return (1 - 2 * _bits(self._chains.spins).astype(np.int8)).transpose(2, 0, 3, 1)

    def energies(self) -> NDArray[np.float64]:
        return self._energy(_decoded(self._chains.unsatisfied)).swapaxes(0, 1)

    def lowest(self) -> NDArray[np.float64]:
        return self._energy(_decoded(self._chains.lowest))

    def energy_sum(self) -> NDArray[np.float64]:
        n_terms = 2 * self.n_measured
        total = 2 * _decoded(self._chains.energy_sum) - self.model.n_bonds * n_terms
        return total.astype(np.float64)

    def round_trips(self) -> NDArray[np.int64]:
        return _decoded(self._chains.round_trips)

    def _energy(self, unsatisfied: NDArray[np.int64]) -> NDArray[np.float64]:
        return (2 * unsatisfied - self.model.n_bonds).astype(np.float64)


class BatchedChains(Chains):
    """32 samples whose couplings are multiples of `UNIT`."""

    width = batched.LANES

    def _start(self, rng: np.random.Generator) -> batched.Chains:
        model, n_temperatures = self.model, self.temperatures.size
        bonds = aligned((model.n_sites, 3, self.width), np.int16)
        bonds[...] = self._lane_bonds() / UNIT
        self._samples = batched.Samples(
            bonds,
            model.neighbours,
            model.incoming,
            model.sweep_order,
            model.n_bonds,
            UNIT,
        )
        spins = aligned((n_temperatures, model.n_sites, 2, self.width), np.int16)
        spins[...] = 2 * rng.integers(2, size=spins.shape, dtype=np.int8) - 1
        n_margins = -(-2 * model.n_sites // self.width) * self.width
        return batched.Chains(
            spins=spins,
            random=self._random_states(rng, (2, WORDS)),
            energy=aligned((n_temperatures, 2, self.width), np.int32),
            lowest=np.full(self.width, np.iinfo(np.int32).max, dtype=np.int32),
            cold_last=np.ones((n_temperatures, 2, self.width), dtype=np.bool_),
            round_trips=np.zeros(self.width, dtype=np.int64),
            exchanged=np.zeros((n_temperatures - 1, self.width), dtype=np.int64),
            energy_sum=np.zeros((n_temperatures, self.width), dtype=np.int64),
            overlap_sum=np.zeros((3, n_temperatures, self.width)),
            margins=aligned((n_margins,), np.int16),
            scratch=aligned((self.width,), np.int32),
            variates=aligned((16,), np.float32),
            stays=aligned((self.width,), np.int16),
        )

    def _temper(self, *schedule: int) -> None:
        batched.temper(self._samples, self.temperatures, self._chains, *schedule)

    def spins(self) -> NDArray[np.int8]:
        return self._chains.spins.astype(np.int8).transpose(2, 0, 3, 1)

    def energies(self) -> NDArray[np.float64]:
        return np.multiply(self._chains.energy, UNIT).swapaxes(0, 1)

    def lowest(self) -> NDArray[np.float64]:
        return self._chains.lowest * UNIT

    def energy_sum(self) -> NDArray[np.float64]:
        return self._chains.energy_sum * UNIT

    def round_trips(self) -> NDArray[np.int64]:
        return self._chains.round_trips


class ScalarChains(Chains):
    """One sample, spin by spin: the kernel on which arms are compared."""

    width = 1

    def _start(self, rng: np.random.Generator) -> ising.Chains:
        model, n_temperatures = self.model, self.temperatures.size
        shape = (n_temperatures, 2, model.n_sites)
        return ising.Chains(
            spins=2 * rng.integers(2, size=shape, dtype=np.int8) - 1,
            random=self._random_states(rng, (2, WORDS)),
            energy=np.zeros((n_temperatures, 2)),
            lowest=np.full(1, np.inf),
            cold_last=np.ones((n_temperatures, 2), dtype=np.bool_),
            round_trips=np.zeros(1, dtype=np.int64),
            exchanged=np.zeros(n_temperatures - 1, dtype=np.int64),
            energy_sum=np.zeros(n_temperatures),
            overlap_sum=np.zeros((3, n_temperatures)),
            fields=np.zeros(shape, dtype=np.float32),
            cluster_updates=np.zeros(1, dtype=np.int64),
        )

    def _temper(self, *schedule: int) -> None:
        ising.temper(
            self._chains,
            self.model.neighbours,
            self.model.neighbour_couplings[0],
            self.temperatures,
            self.n_cluster,
            *schedule,
        )

    def spins(self) -> NDArray[np.int8]:
        return self._chains.spins.swapaxes(0, 1)[:, :, None].copy()

    def energies(self) -> NDArray[np.float64]:
        return self._chains.energy.T[..., None].copy()

    def lowest(self) -> NDArray[np.float64]:
        return self._chains.lowest.copy()

    def energy_sum(self) -> NDArray[np.float64]:
        return self._chains.energy_sum[:, None]

    def round_trips(self) -> NDArray[np.int64]:
        return self._chains.round_trips

    def cluster_updates(self) -> int:
        return int(self._chains.cluster_updates[0])


def _flip_thresholds(betas: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Probabilities of the demon in units of 2**-64, shape (T, 7, 3).

    A site with z bonds, n of them unsatisfied, flips at the cost 2 z - 4 n. The demon must bring
    at least 3 - n, so it brings k or more with the probability of that flip.
    """
    z, k = np.arange(7)[:, None], np.arange(1, 4)
    cost = np.maximum(2 * z - 4 * (3 - k), 0)
    probability = np.exp(-betas[:, None, None] * cost)
    # 2**64 itself does not fit: a certain flip is missed once in 2**53 times.
    return (probability * float(2**64 - 2**11)).astype(np.uint64)


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Lanes along the last axis as bits of words."""
    words = np.packbits(bits, axis=-1, bitorder="little").view("<u8")
    packed = aligned(words.shape)
    packed[...] = words
    return packed


def _bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Inverse of `_packed`."""
    octets = np.ascontiguousarray(words).astype("<u8").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little")


def _decoded(planes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Integers of planes of shape (..., P, 8), shape (..., 512)."""
    weights = np.int64(1) << np.arange(planes.shape[-2], dtype=np.int64)
    return np.einsum("...pl,p->...l", _bits(planes).astype(np.int64), weights)


KERNELS: dict[str, type[Chains]] = {
    "multispin": MultispinChains,
    "batched": BatchedChains,
    "scalar": ScalarChains,
}
