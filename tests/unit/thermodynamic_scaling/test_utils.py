"""Saving without pickle, and small statistics."""

import json
import zipfile
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from scipy import stats

from thermodynamic_scaling import thermodynamics, utils

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


class Pair(NamedTuple):
    first: float
    second: np.ndarray


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plain)
def test_plain_data_come_back_as_they_were(tmp_path, results):
    utils.save_results(results, tmp_path / "results.npz", overwrite=True)
    found = utils.load_results(tmp_path / "results.npz")
    assert repr(found) == repr(results)  # also NaN, which is not equal to itself, and -0.0


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "bool", "complex128", "<U3"])
def test_arrays_keep_their_type_and_shape(tmp_path, dtype):
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    utils.save_results({"a": [array, {"b": array.T}]}, tmp_path / "r.npz")
    found = utils.load_results(tmp_path / "r.npz")["a"]
    for ours, expected in ((found[0], array), (found[1]["b"], array.T)):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)


def test_tables_records_and_numpy_numbers(tmp_path):
    table = pd.DataFrame({"model": ["a", "b"], "T_c": [0.3, np.nan], "n": [1, 2]})
    curve = thermodynamics.find_critical_point([1.0, 2.0, 3.0], [0.0, 1.0, 0.5])
    results = {"table": table, "pair": Pair(1.0, np.arange(3)), "peak": curve, 3: np.float32(0.5)}
    utils.save_results(results, tmp_path / "r.npz")
    found = utils.load_results(tmp_path / "r.npz")
    pd.testing.assert_frame_equal(found["table"], table)
    np.testing.assert_array_equal(found["pair"]["second"], np.arange(3))
    assert found["peak"]["temperature"] == curve.temperature
    assert found[3] == 0.5


def test_the_file_holds_arrays_and_json_alone(tmp_path):
    utils.save_results({"x": np.arange(3), "note": "ü"}, tmp_path / "r.npz")
    with zipfile.ZipFile(tmp_path / "r.npz") as archive:
        assert set(archive.namelist()) == {"structure.npy", "array_0.npy"}
    with np.load(tmp_path / "r.npz", allow_pickle=False) as stored:
        assert json.loads(str(stored["structure"]))["format"] == utils.FORMAT


@pytest.mark.parametrize(
    ("results", "name"),
    [
        ({"layers": [1, object()]}, r"\['layers'\]\[1\]"),
        ({"a": np.array([object()])}, r"\['a'\]"),
        ({"f": print}, r"\['f'\]"),
        ({(1, 2): 3}, "key"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path, results, name):
    with pytest.raises(ValueError, match=name):
        utils.save_results(results, tmp_path / "r.npz")
    assert not list(tmp_path.iterdir())


def test_files_are_not_replaced_unasked_and_others_are_not_read(tmp_path):
    path = tmp_path / "r.npz"
    utils.save_results(1, path)
    with pytest.raises(FileExistsError, match="overwrite"):
        utils.save_results(2, path)
    assert utils.load_results(path) == 1
    with pytest.raises(ValueError, match="npz"):
        utils.save_results(1, tmp_path / "r.pkl")
    with pytest.raises(FileNotFoundError):
        utils.load_results(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    np.savez(tmp_path / "objects.npz", structure=np.array([{}], dtype=object))
    (tmp_path / "broken.npz").write_bytes(b"PK broken")
    for name in ("other", "objects", "broken"):
        with pytest.raises(ValueError, match=name):
            utils.load_results(tmp_path / f"{name}.npz")


def test_items_are_processed_in_order_and_an_error_says_where():
    assert utils.batch_process(range(4), lambda x: x**2, show_progress=False) == [0, 1, 4, 9]
    assert utils.batch_process([3], str) == ["3"]
    with pytest.raises(ZeroDivisionError) as caught:
        utils.batch_process([1, 0], lambda x: 1 / x, "inverses", show_progress=False)
    assert "inverses: item 1 of 2" in caught.value.__notes__[0]


def test_statistics_against_scipy():
    data = np.random.default_rng(0).gamma(2.0, size=(20, 5))
    found = utils.calculate_statistics(data)
    assert found["skewness"] == pytest.approx(stats.skew(data, axis=None))
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(data, axis=None))
    assert found["iqr"] == pytest.approx(stats.iqr(data))
    assert found["range"] == pytest.approx(data.max() - data.min())
    assert np.isnan(utils.calculate_statistics([2.0, 2.0])["skewness"])


def test_comparison_of_two_samples():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal(500), 1 + rng.standard_normal(400)
    found = utils.compare_distributions(one, other, ["a", "b"], bins=20)
    assert found["wasserstein"] == pytest.approx(stats.wasserstein_distance(one, other))
    assert found["p_value"] < 1e-6
    for name in ("a", "b"):
        assert (found["histograms"][name] * np.diff(found["edges"])).sum() == pytest.approx(1)
    assert utils.compare_distributions(one, one)["kolmogorov_smirnov"] == 0


@pytest.mark.parametrize("method", utils.CORRELATIONS)
def test_correlations_of_every_two(method):
    x = np.random.default_rng(0).standard_normal(30)
    matrix, names = utils.calculate_correlation_matrix(
        {"x": x, "up": 2 * x + 1, "down": -x}, method
    )
    assert names == ["x", "up", "down"]
    np.testing.assert_allclose(matrix, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    figure = utils.plot_correlation_matrix(matrix, names)
    assert {text.get_text() for text in figure.axes[0].texts} == {"1.00", "-1.00"}


def test_figures_belong_to_the_caller(tmp_path):
    matrix, before = np.random.default_rng(0).standard_normal((30, 20)), plt.get_fignums()
    figure = utils.plot_matrix_heatmap(matrix, "query", max_size=10, save_path=tmp_path / "h.png")
    shown = figure.axes[0].images[0]
    np.testing.assert_array_equal(shown.get_array(), matrix[:10, :10])
    assert shown.get_clim()[0] == -shown.get_clim()[1]
    assert (tmp_path / "h.png").stat().st_size > 0
    assert plt.get_fignums() == before


def test_rows_of_results_leave_arrays_out():
    found = utils.create_dataframe_from_results(
        [{"model": "a", "peak": {"T": 0.3}, "curve": np.arange(3)}, {"model": "b", "list": [1]}]
    )
    assert list(found) == ["model", "peak.T"]
    assert found["peak.T"].tolist() == pytest.approx([0.3, np.nan], nan_ok=True)


def test_normalisation_by_quantiles():
    data = np.append(np.linspace(0, 1, 101), 1000.0).reshape(2, 51)
    found = utils.robust_normalization(data, 0.0, 0.95)
    assert found.shape == data.shape
    assert found.min() == 0
    assert found.max() == 1
    assert (np.diff(found.ravel()[:90]) > 0).all()


def test_moving_average():
    np.testing.assert_allclose(utils.moving_average([1, 2, 3, 6], 2), [1.5, 2.5, 4.5])
    np.testing.assert_allclose(utils.moving_average([1, 2, 3], 1), [1, 2, 3])


@pytest.mark.parametrize("width", [0.1, 0.3])
@pytest.mark.parametrize("even", [True, False])
def test_sharpness_of_a_gaussian_peak(width, even):
    x = np.linspace(0.1, 4, 2000) if even else np.geomspace(0.1, 4, 2000)
    found = utils.estimate_peak_sharpness(x, np.exp(-((x - 2) ** 2) / (2 * width**2)))
    assert found == pytest.approx(2 / (2 * np.sqrt(2 * np.log(2)) * width), rel=1e-2)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: utils.truncate_matrix(np.ones(3)), "matrix"),
        (lambda: utils.truncate_matrix(np.eye(3), 0), "max_size"),
        (lambda: utils.plot_matrix_heatmap([[np.nan]]), "matrix"),
        (lambda: utils.compare_distributions([], [1.0]), "dist1"),
        (lambda: utils.compare_distributions([1.0], [1.0], ["a", "a"]), "labels"),
        (lambda: utils.compare_distributions([1.0], [1.0], bins=0), "bins"),
        (lambda: utils.calculate_statistics([]), "data"),
        (lambda: utils.calculate_correlation_matrix({"a": [1, 2, 3]}), "data_dict"),
        (lambda: utils.calculate_correlation_matrix({"a": [1, 2, 3], "b": [1]}), "data_dict"),
        (lambda: utils.calculate_correlation_matrix({}, "cosine"), "method"),
        (lambda: utils.plot_correlation_matrix(np.eye(2), ["a"]), "matrix"),
        (lambda: utils.create_dataframe_from_results([]), "results"),
        (lambda: utils.robust_normalization([1.0, 1.0]), "data"),
        (lambda: utils.robust_normalization([1.0, 2.0], 0.9, 0.1), "lower_quantile"),
        (lambda: utils.moving_average([1.0], 2), "window"),
        (lambda: utils.estimate_peak_sharpness([1, 2, 3], [1, 2, 3]), "y has no peak"),
        (lambda: utils.estimate_peak_sharpness([1, 2], [1, 2, 3]), "y has 3"),
        (lambda: utils.estimate_peak_sharpness([3, 2, 1], [1, 2, 1]), "x must rise"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
