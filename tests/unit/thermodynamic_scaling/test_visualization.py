"""Figures: what is drawn where, that nothing outside of them changes, and what is refused."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tgn.thermodynamics.critical import freezing_temperature, gaussian_null
from thermodynamic_scaling import thermodynamics
from thermodynamic_scaling import visualization as vis
from thermodynamic_scaling.methodological_enhancements import (
    eigenvalue_analysis,
    perturbation_analysis,
)
from thermodynamic_scaling.scaling_law import universal_scaling_function
from thermodynamic_scaling.theoretical_extensions import (
    information_theory,
    renormalization_group,
    replica_theory,
)

RNG = np.random.default_rng(0)
MATRIX = 0.14 * RNG.standard_normal((64, 64))
CURVES = thermodynamics.compute_thermal_properties(MATRIX, (0.05, 2.0))
NORMAL = thermodynamics.compute_thermal_properties(MATRIX, (0.05, 2.0), normalize="std")


def lines_at(axes, x):
    """Vertical lines across the panel at x."""
    return [
        line
        for line in axes.get_lines()
        if np.allclose(line.get_xdata(), x, rtol=1e-6) and len(line.get_xdata()) == 2
    ]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def table(n_models=4, n_rows=3):
    rows = []
    for model in range(n_models):
        for row in range(n_rows):
            sigma = 0.2 / (model + 1) ** 0.5
            rows.append(
                {
                    "model_name": f"model {model}",
                    "model_size": 10.0 ** (5 + model),
                    "critical_temperature": sigma * (0.3 + 0.01 * row),
                    "freezing_temperature": sigma * 0.25,
                    "at_edge": False,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def flow():
    return renormalization_group.renormalization_flow(
        MATRIX, (0.05, 2.0), 3, n_permutations=9, rng=0
    )


@pytest.fixture(scope="module")
def response():
    return perturbation_analysis.perturbation_response(
        MATRIX[:24, :24], {"noise": (0.1, 0.3), "pruning": (0.2, 0.4)}, draws=2, rng=0
    )


@pytest.fixture(scope="module")
def collapse():
    curves = {
        f"{size}": thermodynamics.compute_thermal_properties(
            RNG.standard_normal((size, size)), (0.1, 1.5), n_temps=20, normalize="std"
        )
        for size in (16, 32, 64)
    }
    found = universal_scaling_function(
        {name: (c["temperatures"], c["specific_heat"]) for name, c in curves.items()},
        {"nu": 1.0, "beta": 0.5},
        sizes={name: int(name) for name in curves},
        critical_temperature=0.3,
    )
    return found, curves


@pytest.mark.parametrize("n", [1024, 65536])
def test_the_bound_of_freezing_is_one_and_near_where_the_curve_covers_the_peak(n):
    levels = 3.0 * np.random.default_rng(n).standard_normal(n)
    whole = thermodynamics.compute_thermal_properties(levels, (0.1, 60.0), n_temps=100)
    found = vis.freezing_bound(whole["temperatures"], whole["specific_heat"])
    exact = freezing_temperature(levels.std(), n)
    assert exact * 0.99 < found < exact * 1.15
    part = thermodynamics.compute_thermal_properties(levels, (3.0, 60.0), n_temps=100)
    assert vis.freezing_bound(part["temperatures"], part["specific_heat"]) > found


def test_the_bound_does_not_depend_on_boltzmanns_constant():
    grid = np.geomspace(0.05, 20, 60)
    one = thermodynamics.compute_thermal_properties(MATRIX, grid)["specific_heat"]
    two = thermodynamics.compute_thermal_properties(MATRIX, grid / 2, k_B=2.0)["specific_heat"]
    assert vis.freezing_bound(grid / 2, two) == pytest.approx(vis.freezing_bound(grid, one) / 2)


def test_one_curve_with_its_freezing_temperature_and_its_peak():
    figure = vis.plot_specific_heat_curve(
        NORMAL["temperatures"],
        NORMAL["specific_heat"],
        "gpt2",
        "Query Matrix",
        freezing_temperature=NORMAL["freezing_temperature"],
        normalize="std",
        null=gaussian_null(64, rng=RNG, draws=5),
    )
    (axes,) = figure.axes
    assert len(lines_at(axes, NORMAL["freezing_temperature"])) == 1
    names = legend(axes)
    assert any(name.startswith(vis.FREEZING) for name in names)
    assert any(name.startswith("peak at 0.") for name in names)
    assert any("95 %" in name for name in names)
    assert axes.get_xlabel() == vis.SIGMAS
    assert "k_B" in axes.get_ylabel()


def test_a_peak_at_the_edge_is_called_none():
    wide = thermodynamics.compute_thermal_properties(MATRIX, (0.1, 2.0))
    figure = vis.plot_specific_heat_curve(wide["temperatures"], wide["specific_heat"])
    names = legend(figure.axes[0])
    assert vis.EDGE in names
    assert not any("peak at" in name for name in names)
    assert any(name.startswith(vis.BOUND) for name in names)


def test_many_curves_have_a_panel_a_type_and_a_line_a_width():
    matrices = {
        f"layer_{index}/{kind}": (index + 1) * MATRIX for index in range(3) for kind in ("q", "v")
    }
    found = thermodynamics.batch_analyze_matrices(matrices, (0.005, 2.0), 20, normalize=None)
    figure = vis.plot_specific_heat_curves("gpt2", found, ["q", "v"])
    for axes in figure.axes:
        for index in range(3):
            assert lines_at(axes, (index + 1) * CURVES["freezing_temperature"])
        assert legend(axes)[:3] == ["layer_0", "layer_1", "layer_2"]
    normal = thermodynamics.batch_analyze_matrices(matrices, (0.05, 2.0), 20)
    axes = vis.plot_specific_heat_curves("gpt2", normal).axes[0]
    assert len(lines_at(axes, NORMAL["freezing_temperature"])) == 1  # all are one, in units of σ


def test_more_curves_than_colours_get_a_scale_of_their_order():
    many = {f"layer_{index}": NORMAL for index in range(9)}
    figure = vis.plot_specific_heat_curves("gpt2", many)
    assert figure.axes[1].get_ylabel() == "layer_0 (1) to layer_8 (9)"


def test_curves_nested_by_layer():
    nested = {"layer_0": {"q": CURVES}, "layer_1": {"q": CURVES}}
    assert legend(vis.plot_specific_heat_curves("m", nested, ["q"]).axes[0])[0] == "layer_0"


def test_the_law_is_fitted_to_models_and_not_to_matrices():
    rows = table()
    axes = vis.plot_scaling_law(rows).axes[0]
    law = next(name for name in legend(axes) if name.startswith("power"))
    assert "n = 4" in law
    assert vis.FREEZING in legend(axes)
    rows.loc[rows["model_name"] == "model 3", "at_edge"] = True
    axes = vis.plot_scaling_law(rows).axes[0]
    assert "n = 3" in next(name for name in legend(axes) if name.startswith("power"))
    assert vis.EDGE in legend(axes)
    two = vis.plot_scaling_law(table(2)).axes[0]
    assert "no law: fewer than three sizes" in legend(two)


def test_the_exponent_of_the_law_is_the_true_one():
    rows = table(5).assign(critical_temperature=lambda t: t["model_size"] ** -0.25)
    law = next(n for n in legend(vis.plot_scaling_law(rows).axes[0]) if n.startswith("power"))
    assert law.startswith("power -0.25 [-0.25, -0.25]")


def test_means_of_numbers_that_may_be_negative_are_called_arithmetic():
    rows = table().assign(critical_temperature=-1.0)
    axes = vis.plot_scaling_law(rows, log_scale=False, fit=False).axes[0]
    assert "arithmetic mean of a model" in legend(axes)
    assert "geometric mean of a model" in legend(vis.plot_scaling_law(table()).axes[0])


def test_models_are_compared_beside_their_null():
    axes = vis.plot_model_comparisons(table(), "critical_temperature").axes[0]
    assert {"median", vis.FREEZING} <= set(legend(axes))
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        f"model {index}" for index in range(4)
    ]


def test_the_flow_has_every_freezing_temperature(flow):
    figure = vis.plot_renormalization_flow(flow)
    for frozen in flow["freezing_temps"]:
        assert lines_at(figure.axes[0], frozen)
    assert vis.FREEZING in legend(figure.axes[1])
    assert any("permuted" in name for name in legend(figure.axes[2]))


def test_the_law_of_noise_is_normalised_on_the_spectrum():
    values = eigenvalue_analysis.eigenvalue_distribution(RNG.standard_normal((200, 400)))[0]
    axes = vis.plot_eigenvalue_spectrum(values, aspect_ratio=2.0).axes[0]
    (law,) = (line for line in axes.get_lines() if len(line.get_xdata()) > 100)
    assert np.trapezoid(law.get_ydata(), law.get_xdata()) == pytest.approx(1, abs=0.01)
    assert any("0 of 200 beyond" in name for name in legend(axes))
    assert len(vis.plot_eigenvalue_spectrum(values, with_mp_law=False).axes[0].get_lines()) == 0


@pytest.mark.parametrize("shape", [(80, 80), (200, 40)])
def test_a_spectrum_is_drawn_from_what_the_analysis_returns(shape):
    found = eigenvalue_analysis.eigenvalue_distribution(RNG.standard_normal(shape))
    axes = vis.plot_eigenvalue_spectrum(found, aspect_ratio=shape[0] / shape[1]).axes[0]
    (bars,) = axes.patches
    heights, ends, _ = bars.get_data()
    assert (heights * np.diff(ends)).sum() == pytest.approx(1)
    low, high = axes.get_xlim()
    assert low < found[0].min() < found[0].max() < high
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_zeros_and_equal_eigenvalues_are_drawn():
    axes = vis.plot_eigenvalue_spectrum([0.0, 2.0, 2.0], with_mp_law=False).axes[0]
    assert axes.get_title(loc="left") == "3 eigenvalues, 1 of them zero"


def test_a_phase_diagram_has_the_first_parameter_along_x():
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, np.nan]])
    figure = vis.plot_2d_phase_diagram(
        [1, 2], [10, 100, 1000], values, ("layers", "width"), freezing_temps=values / 2,
        at_edge=values > 4,
    )  # fmt: skip
    maps = [axes for axes in figure.axes if axes.get_xlabel() == "layers"]
    assert len(maps) == 2
    assert [label.get_text() for label in maps[0].get_xticklabels()] == ["1", "2"]
    mesh = maps[0].collections[0].get_array()
    np.testing.assert_array_equal(np.asarray(mesh)[:, 0], [1, 2, 3])
    np.testing.assert_allclose(maps[1].collections[0].get_array().compressed(), 2)


def test_a_landscape_shows_samples_and_minima():
    found = replica_theory.free_energy_landscape(MATRIX, 0.5, 50, n_replicas=3, n_spins=12, rng=0)
    figure = vis.plot_free_energy_landscape(found, 0.5)
    visited, valleys = figure.axes
    assert sum(bar.get_height() for bar in visited.patches) > 0
    assert len(valleys.get_lines()[0].get_xdata()) == min(found["n_minima"], 21)


def test_a_collapse_and_its_curves(collapse):
    found, curves = collapse
    assert len(vis.plot_scaling_collapse(found).axes) == 1
    frozen = {name: c["freezing_temperature"] for name, c in curves.items()}
    measured, _ = vis.plot_scaling_collapse(found, freezing_temps=frozen).axes
    for (name, curve), line in zip(curves.items(), measured.get_lines()[::2], strict=False):
        assert lines_at(measured, frozen[name])
        np.testing.assert_allclose(line.get_xdata(), curve["temperatures"], rtol=1e-9)
        np.testing.assert_allclose(line.get_ydata(), curve["specific_heat"], rtol=1e-9)


def test_information_and_its_plane():
    scan = information_theory.information_scan(MATRIX, (0.02, 2.0))
    figure = vis.plot_information_metrics(scan, freezing_temperature=CURVES["freezing_temperature"])
    assert all(lines_at(axes, CURVES["freezing_temperature"]) for axes in figure.axes)
    path = information_theory.information_bottleneck_analysis(
        MATRIX, (0.05, 2.0), 4, inputs=RNG.standard_normal((20, 64)),
        labels=np.arange(20) % 2, n_permutations=3, rng=0,
    )  # fmt: skip
    assert "$I(X;T)$ (nats)" in [
        axes.get_xlabel() for axes in vis.plot_information_metrics(path).axes
    ]


def test_a_response_has_a_panel_a_metric_and_its_control(response):
    figure = vis.plot_perturbation_response(response, ("critical_temperature", "entropy"))
    assert len(figure.axes) == 2
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"noise", "pruning", "pruning, noise of its size"} <= set(names)
    assert any("wider random levels" in name for name in names)


def test_all_at_once(flow, response, collapse):
    spectra = eigenvalue_analysis.layer_wise_eigenvalue_analysis({"layer_0": {"q": MATRIX}})
    scan = information_theory.information_scan(MATRIX, (0.02, 2.0))
    made = vis.generate_all_visualizations(table(), collapse[0], scan, flow, spectra, response)
    assert set(made) == {
        "scaling_law", "model_comparison", "scaling_collapse", "information_metrics",
        "renormalization_flow", "eigenvalues_layer_0_q", "perturbation_response",
    }  # fmt: skip


def test_those_there_are_results_for_are_saved(collapse, tmp_path):
    made = vis.generate_all_visualizations(scaling_results=collapse[0], save_dir=tmp_path / "made")
    assert set(made) == {"scaling_collapse"}
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["scaling_collapse.png"]
    with pytest.raises(ValueError, match="no results"):
        vis.generate_all_visualizations()


def test_a_figure_is_saved_at_300_dpi_and_leaves_matplotlib_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    figure = vis.plot_specific_heat_curve(
        CURVES["temperatures"], CURVES["specific_heat"], figsize=(4, 3),
        save_path=tmp_path / "one.png",
    )  # fmt: skip
    assert isinstance(figure, Figure)
    assert dict(matplotlib.rcParams) == before
    assert imread(tmp_path / "one.png").shape[:2] == (900, 1200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vis.plot_specific_heat_curve([], []), "temperature"),
        (lambda: vis.plot_specific_heat_curve([1, 2, 3], [1, np.nan, 1]), "specific_heats"),
        (lambda: vis.plot_specific_heat_curve([-1, 2, 3], [1, 1, 1]), "temperature"),
        (lambda: vis.plot_specific_heat_curve([1, 2, 3], [1, 1]), "specific_heats has 2"),
        (lambda: vis.plot_specific_heat_curve([1], [1]), "at least three"),
        (lambda: vis.plot_specific_heat_curve([3, 2, 1], [1, 1, 1]), "must rise"),
        (lambda: vis.plot_specific_heat_curve([1, 2, 3], [0, 0, 0]), "width of the levels"),
        (
            lambda: vis.plot_specific_heat_curve(
                [1, 2, 3], [1, 2, 1], null=gaussian_null(9, rng=RNG, draws=2)
            ),
            "null is in units of sigma",
        ),
        (lambda: vis.plot_specific_heat_curves("m", {}), "results is empty"),
        (lambda: vis.plot_specific_heat_curves("m", {"a": 1}), "holds no thermal"),
        (lambda: vis.plot_specific_heat_curves("m", {"q": CURVES}, ["v"]), "no results of v"),
        (lambda: vis.plot_specific_heat_curves("m", {"a": CURVES, "b": NORMAL}), "units"),
        (lambda: vis.plot_scaling_law(table().drop(columns="model_size")), "lacks model_size"),
        (
            lambda: vis.plot_scaling_law(table().drop(columns="freezing_temperature")),
            "lacks freezing_temperature",
        ),
        (lambda: vis.plot_scaling_law(table().iloc[:0]), "empty"),
        (lambda: vis.plot_scaling_law(table().assign(model_size=-1.0)), "must be positive"),
        (lambda: vis.plot_model_comparisons(table().assign(sigma=np.nan), "sigma"), "not finite"),
        (lambda: vis.plot_renormalization_flow({}), "flow_results lacks temperatures"),
        (lambda: vis.plot_eigenvalue_spectrum([]), "eigenvalues"),
        (lambda: vis.plot_eigenvalue_spectrum([1.0, -1.0]), "not negative"),
        (lambda: vis.plot_eigenvalue_spectrum([1.0, 2.0]), "aspect_ratio must be positive"),
        (lambda: vis.plot_eigenvalue_spectrum([0.0], with_mp_law=False), "all are zero"),
        (lambda: vis.plot_2d_phase_diagram([1, 2], [1], [[1.0]]), "critical_temps has shape"),
        (lambda: vis.plot_2d_phase_diagram([2, 1], [1], [[1.0], [1.0]]), "param1_values must"),
        (lambda: vis.plot_2d_phase_diagram([1], [1], [[np.nan]]), "no finite"),
        (lambda: vis.plot_free_energy_landscape({}, 1.0), "free_energy_data lacks"),
        (lambda: vis.plot_scaling_collapse({}), "collapse_results lacks"),
        (lambda: vis.plot_information_metrics({"temperatures": [1]}), "lacks entropy"),
        (lambda: vis.plot_perturbation_response(pd.DataFrame()), "lacks kind"),
    ],
)
def test_what_is_refused_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_metric_that_was_not_measured_is_named(response):
    with pytest.raises(ValueError, match="no rows of 'taste'"):
        vis.plot_perturbation_response(response, ["taste"])
