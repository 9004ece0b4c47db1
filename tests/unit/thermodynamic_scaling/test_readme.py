"""What the README prints runs as printed, and every published name is there."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.figure
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import thermodynamic_scaling as ts

SNIPPET = """\
import thermodynamic_scaling as ts

# Load and extract weights from a model
model_name = "gpt2"
weights, layer_info = ts.model_loading.extract_model_weights(model_name)

# Compute thermodynamic properties
temp_range = (0.05, 2.0)
results = ts.thermodynamics.compute_thermal_properties(weights["self_attention.query"], temp_range)

# Find critical points
critical_temp, critical_height = ts.thermodynamics.find_critical_point(results["temperatures"], results["specific_heat"])

# Visualize results
ts.visualization.plot_specific_heat_curve(results["temperatures"], results["specific_heat"], model_name, "Query Matrix")
"""  # noqa: E501

PUBLISHED = {
    "model_loading": "extract_model_weights load_models",
    "thermodynamics": """
        partition_function expectation_value specific_heat entropy free_energy
        compute_thermal_properties find_critical_point analyze_critical_scaling
        batch_analyze_matrices eigenvalue_spectrum
    """,
    "theoretical_extensions.information_theory": """
        calculate_entropy fisher_information kullback_leibler_divergence
        mutual_information_layer_pairs information_bottleneck_analysis complexity_measures
    """,
    "theoretical_extensions.renormalization_group": """
        block_spin_renormalization renormalization_flow calculate_correlation_length
        scaling_dimension_analysis fixed_point_analysis
    """,
    "theoretical_extensions.replica_theory": """
        replica_entropy energy_landscape_complexity replica_symmetry_breaking
        parisi_order_parameter free_energy_landscape
    """,
    "monte_carlo": """
        metropolis_hastings wang_landau_sampling parallel_tempering
        calculate_thermal_properties_mcmc multicanonical_sampling
    """,
    "methodological_enhancements.eigenvalue_analysis": """
        eigenvalue_distribution spectral_density marchenko_pastur_distance
        correlate_eigenvalues_criticality layer_wise_eigenvalue_analysis random_matrix_baseline
    """,
    "methodological_enhancements.perturbation_analysis": "",
    "methodological_enhancements.training_dynamics": "",
    "methodological_enhancements.transfer_function": "",
    "scaling_law": """
        fit_power_law bayesian_power_law_fit quantum_criticality_test universal_scaling_function
        multi_variable_scaling_law compute_scaling_laws
    """,
    "visualization": """
        plot_specific_heat_curve plot_specific_heat_curves plot_scaling_law plot_model_comparisons
        plot_renormalization_flow plot_eigenvalue_spectrum plot_2d_phase_diagram
        plot_free_energy_landscape plot_scaling_collapse plot_information_metrics
        generate_all_visualizations
    """,
    "utils": """
        save_results load_results batch_process truncate_matrix plot_matrix_heatmap
        compare_distributions calculate_statistics calculate_correlation_matrix
        plot_correlation_matrix create_dataframe_from_results robust_normalization moving_average
        estimate_peak_sharpness
    """,
}
# Positional arguments as published, where they are known.
SIGNATURES = {
    "thermodynamics.partition_function": "energies beta use_gpu",
    "thermodynamics.expectation_value": "energies beta order use_gpu",
    "thermodynamics.specific_heat": "energies temperature k_B use_gpu",
    "thermodynamics.compute_thermal_properties": "weight_matrix temps k_B use_gpu",
    "thermodynamics.find_critical_point": "temps specific_heats smoothing window_length",
    "thermodynamics.analyze_critical_scaling": "temps specific_heats critical_temp temp_range",
    "thermodynamics.batch_analyze_matrices": "matrices temp_range n_temps k_B use_gpu",
    "theoretical_extensions.information_theory.fisher_information": "weights temperature delta",
    "theoretical_extensions.renormalization_group.renormalization_flow": (
        "weight_matrix temps n_steps block_size"
    ),
    "theoretical_extensions.replica_theory.free_energy_landscape": (
        "weight_matrix temperature n_samples"
    ),
    "monte_carlo.metropolis_hastings": "weight_matrix temperature n_steps step_size",
    "monte_carlo.parallel_tempering": (
        "weight_matrix temperature_range n_replicas n_steps exchange_interval"
    ),
    "scaling_law.fit_power_law": "x y log_fit",
    "visualization.plot_specific_heat_curves": (
        "model_name results layer_types figsize save_path show_critical"
    ),
    "visualization.plot_scaling_law": (
        "results_df x_col y_col hue_col figsize log_scale fit save_path"
    ),
    "visualization.plot_eigenvalue_spectrum": "eigenvalues with_mp_law aspect_ratio bins",
    "visualization.generate_all_visualizations": (
        "results_df scaling_results info_theory_results rg_results eigenvalue_results "
        "perturbation_results save_dir"
    ),
    "utils.save_results": "results filepath overwrite",
}
PAGE = Path(__file__).parents[3] / "docs" / "thermodynamic_scaling.md"


def found(path):
    thing = ts
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


@pytest.fixture
def gpt2_here(tmp_path, monkeypatch):
    """A folder of GPT-2's form in the working directory, under the name the README uses."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained("gpt2")


def test_the_snippet_runs_as_printed(gpt2_here):
    *lines, plot = SNIPPET.strip().splitlines()
    namespace = {}
    exec("\n".join(lines), namespace)
    figure = eval(plot, namespace)  # noqa: S307
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure.axes[0].get_title(loc="left") == "gpt2, Query Matrix"
    results = namespace["results"]
    assert len(results["temperatures"]) == 50
    assert results["layers"] == ["layer_0", "layer_1"]
    assert 0.05 <= namespace["critical_temp"] <= 2.0
    assert namespace["critical_height"] > 0


def test_without_the_model_the_error_names_the_fix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"hf download \S+/gpt2 .* then give that folder"):
        exec(SNIPPET, {})


def test_the_page_prints_the_snippet():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    code = ast.dump(ast.parse(SNIPPET))  # the formatter breaks its lines on the page
    assert code in [ast.dump(ast.parse(block)) for block in blocks]


@pytest.mark.parametrize("module", PUBLISHED)
def test_every_published_name_is_there(module):
    room = found(module)
    assert inspect.ismodule(room)
    for name in PUBLISHED[module].split():
        assert callable(getattr(room, name)), name
        assert inspect.getdoc(getattr(room, name)), f"{module}.{name} has no docstring"


@pytest.mark.parametrize("path", SIGNATURES)
def test_positional_arguments_are_the_published_ones(path):
    names = list(inspect.signature(found(path)).parameters)
    expected = SIGNATURES[path].split()
    assert names[: len(expected)] == expected


def test_the_page_lists_every_published_name_and_no_other():
    """A row begins with a name in code and stands under the heading of its module."""
    listed, module = {}, None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"### `(.+)`", line):
            module = heading[1]
        elif module and (row := re.match(r"\| `(\w+)` \|", line)):
            listed.setdefault(module, []).append(row[1])
    for module, names in PUBLISHED.items():
        missing = set(names.split()) - set(listed.get(module, []))
        assert not missing, f"{PAGE.name} lacks {missing} of {module}"
    for module, names in listed.items():
        for name in names:
            assert callable(getattr(found(module), name)), f"{module}.{name}"


def test_importing_it_leaves_matplotlib_as_it_was():
    code = (
        "import matplotlib as m; before = dict(m.rcParams)\n"
        "import thermodynamic_scaling\n"
        "assert dict(m.rcParams) == before\n"
    )
    # a backend that asks for no display and is not the one figures are written with
    environment = os.environ | {"MPLBACKEND": "svg"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
