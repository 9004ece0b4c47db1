"""Spectra of weight matrices, their perturbation, training dynamics and transfer functions."""

from thermodynamic_scaling.methodological_enhancements import (
    eigenvalue_analysis,
    perturbation_analysis,
    training_dynamics,
    transfer_function,
)

__all__ = ["eigenvalue_analysis", "perturbation_analysis", "training_dynamics", "transfer_function"]
