"""Figure 5: the three-dimensional Edwards-Anderson spin glass."""

from tgn.spin_glass.lattice import EdwardsAnderson
from tgn.spin_glass.tempering import parallel_tempering, simulated_annealing

__all__ = ["EdwardsAnderson", "parallel_tempering", "simulated_annealing"]
