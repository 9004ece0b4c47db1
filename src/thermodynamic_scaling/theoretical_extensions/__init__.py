"""Information theory, renormalisation and replicas of weight matrices."""

from thermodynamic_scaling.theoretical_extensions import (
    information_theory,
    renormalization_group,
    replica_theory,
)

__all__ = ["information_theory", "renormalization_group", "replica_theory"]
