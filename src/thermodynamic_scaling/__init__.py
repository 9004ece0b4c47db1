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

from thermodynamic_scaling import model_loading, thermodynamics

__all__ = ["model_loading", "thermodynamics"]
