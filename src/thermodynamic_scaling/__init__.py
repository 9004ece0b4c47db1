"""Thermodynamics of pretrained weight matrices: a façade over :mod:`tgn`.

import thermodynamic_scaling as ts

weights, layer_info = ts.model_loading.extract_model_weights("gpt2")
curves = ts.thermodynamics.compute_thermal_properties(
    weights["self_attention.query"], (0.05, 2.0)
)
T_c, height = ts.thermodynamics.find_critical_point(
    curves["temperatures"], curves["specific_heat"]
)
"""

from thermodynamic_scaling import (
    methodological_enhancements,
    model_loading,
    monte_carlo,
    scaling_law,
    theoretical_extensions,
    thermodynamics,
    utils,
    visualization,
)

__all__ = [
    "methodological_enhancements",
    "model_loading",
    "monte_carlo",
    "scaling_law",
    "theoretical_extensions",
    "thermodynamics",
    "utils",
    "visualization",
]
