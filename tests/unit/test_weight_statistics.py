"""The scaling figure's statistics find what is planted and nothing where nothing is."""

import numpy as np
import pandas as pd
import pytest

from tgn.probing import weight_statistics
from tgn.probing.weight_statistics import band_table, model_table, summarise
from tgn.statistics import read_statistics

LAYERS, KINDS, N = 6, ("self_attention.query", "ffn.output"), 4096
MODELS = {"small": 1e4, "middle": 1e5, "large": 1e6, "huge": 1e7}
GRID = np.geomspace(0.05, 6.4, 29)
NULL_PEAK = 0.3


def tables(*, over_null=1.0, sigma_exponent=0.0, own_exponent=0.0, alone=1.0, power_law=-50.0):
    """Tables as measured: peaks at ``over_null`` times the null's, in models of four sizes."""
    rng = np.random.default_rng(0)
    rows, peaks, curves, spectra, flows = [], [], [], [], []
    for model, parameters in MODELS.items():
        for weights in ("trained", "untrained"):
            trained = weights == "trained"
            for layer in range(LAYERS):
                for kind in KINDS:
                    keys = {"model": model, "weights": weights, "layer": layer, "kind": kind}
                    growth = (parameters / 1e4) ** own_exponent
                    at = NULL_PEAK * (over_null * growth if trained else 1.0)
                    at *= np.exp(0.02 * rng.standard_normal())
                    rows.append(
                        keys
                        | {
                            "parameters": parameters, "n_levels": N,
                            "sigma": 0.1 * (parameters / 1e4) ** sigma_exponent,
                            "critical_temperature": at, "low": 0.9 * at, "high": 1.1 * at,
                            "at_edge": False, "freezing_temperature": 0.245,
                            "isolated_temperature": at, "outliers": 4,
                            "p": 0.01 if trained else 0.5,
                            "power_law_below": power_law, "power_law_above": power_law,
                        }
                    )  # fmt: skip
                    for levels, factor in (
                        ("weights", 1.0), ("without_lowest", alone), ("flipped", 1.1),
                        ("without_outliers", alone**2),
                        ("student", 1.0), ("gaussian", NULL_PEAK / at),
                    ):  # fmt: skip
                        peaks.append(
                            keys
                            | {"levels": levels, "n_levels": N, "temperature": at * factor,
                               "at_edge": False}
                        )  # fmt: skip
                    curves.append(
                        pd.DataFrame(
                            {"t": GRID, "specific_heat": 2 / GRID, "entropy": 4.0,
                             "renyi_2": 3.0, "fisher": 2 / GRID**3}
                        ).assign(**keys)
                    )  # fmt: skip
                    for entries in ("weights", "shuffled") if trained else ("weights",):
                        real = trained and entries == "weights"
                        spectra.append(
                            keys
                            | {"entries": entries, "mp_distance": 0.2 if real else 0.01,
                               "outlier_share": 0.3 if real else 0.0}
                        )  # fmt: skip
                    if trained:
                        flows.append(keys | {"step": 1, "ratio": 1.0, "permuted": 1.0, "p": 0.5})
    for draw in range(50):
        peaks.append(
            {"model": "", "weights": "null", "kind": "", "layer": draw, "levels": "gaussian_null",
             "n_levels": N, "temperature": NULL_PEAK * np.exp(0.05 * rng.standard_normal()),
             "at_edge": False, "power_law_below": -50.0, "power_law_above": -50.0}
        )  # fmt: skip
    null = pd.DataFrame({"n_levels": N, "t": GRID, "specific_heat": 1 / GRID, "entropy": 5.0})
    for name in ("specific_heat", "entropy"):
        null[f"{name}_low"], null[f"{name}_high"] = 0.9 * null[name], 1.1 * null[name]
    return {
        "matrices": pd.DataFrame(rows), "peaks": pd.DataFrame(peaks),
        "curves": pd.concat(curves, ignore_index=True), "nulls": null,
        "spectra": pd.DataFrame(spectra), "flows": pd.DataFrame(flows),
    }  # fmt: skip


@pytest.fixture
def statistics(tmp_path):
    """Statistics of planted tables, by id and model; the tables are split over two groups."""

    def make(**planted):
        paths = {}
        for name, table in tables(**planted).items():
            parts = [table]
            if name not in ("nulls",):
                large = table["model"].isin(["huge"])
                own_null = table["model"] == ""
                parts = [table[large | own_null], table[~large]]
            else:
                parts = [table, table]  # each group draws the null again
            paths[name] = []
            for number, part in enumerate(parts):
                path = tmp_path / f"{name}{number}.parquet"
                part.to_parquet(path)
                paths[name].append(str(path))
        summarise(
            **paths, bands=tmp_path / "bands.parquet", models_table=tmp_path / "models.parquet",
            statistics=tmp_path / "statistics.json", evidence={"huge": "simulated"},
            across="all", resamples=200, seed=1,
        )  # fmt: skip
        return {
            record.id.removeprefix("scaling."): record
            for record in read_statistics(tmp_path / "statistics.json")
        }

    return make


def test_weights_like_their_null_show_nothing(statistics):
    found = statistics()
    assert found["log_peak_over_gaussian"].value == pytest.approx(0, abs=0.03)
    for name in ("exponent", "exponent_over_freezing", "exponent_size"):
        assert abs(found[name].value) < 0.005
    assert found["share_power_law"].value == 0
    assert found["share_with_peak"].value == found["share_with_peak_gaussian"].value == 1
    assert found["log_peak_over_gaussian"].n == LAYERS
    assert found["exponent"].n == len(MODELS)
    assert {record.evidence for record in found.values()} == {"simulated"}


def test_methods_name_the_units_that_were_resampled(statistics):
    over = {name: record.method.rpartition(" over ")[2] for name, record in statistics().items()}
    for name in ("log_peak_over_gaussian", "entropy_minus_gaussian", "log_fisher_over_gaussian"):
        assert over[name] == "layers"
    for name in ("share_with_peak_gaussian", "share_power_law_gaussian"):
        assert over[name] == "draws"


def test_planted_peaks_twins_and_power_laws_are_read(statistics):
    found = statistics(over_null=2.0, alone=0.5, power_law=10.0)
    assert found["log_peak_over_gaussian"].value == pytest.approx(np.log(2), abs=0.03)
    assert found["log_peak_over_gaussian_untrained"].value == pytest.approx(0, abs=0.03)
    assert found["log_peak_without_lowest"].value == pytest.approx(np.log(0.5))
    assert found["log_peak_without_outliers"].value == pytest.approx(2 * np.log(0.5))
    assert found["outlying_entries"].value == pytest.approx(4 / N)
    assert found["log_peak_flipped"].value == pytest.approx(np.log(1.1))
    assert found["log_peak_over_isolated"].value == pytest.approx(0, abs=1e-12)
    assert found["share_power_law"].value == 1
    assert found["share_power_law_gaussian"].value == 0
    assert found["entropy_minus_gaussian"].value == pytest.approx(-1)
    assert found["log_fisher_over_gaussian"].value == pytest.approx(np.log(2))
    assert found["mp_distance"].value > found["mp_distance_shuffled"].value
    assert "log_peak_quantised" not in found  # nothing was stored in 4 bits


def test_size_of_the_weights_is_told_from_size_of_the_model(statistics):
    """T_c that grows because sigma does has an exponent, and none over sigma."""
    found = statistics(sigma_exponent=-0.25)
    assert found["exponent"].value == pytest.approx(-0.25, abs=0.01)
    assert found["exponent_sigma"].value == pytest.approx(-0.25)
    assert found["exponent_gaussian"].value == pytest.approx(-0.25)
    assert found["exponent_over_freezing"].value == pytest.approx(0, abs=0.01)
    assert found["exponent_size"].value == pytest.approx(0.25, abs=0.01)
    own = statistics(own_exponent=0.5)
    assert own["exponent_over_freezing"].value == pytest.approx(0.5, abs=0.01)
    assert own["exponent_untrained"].value == pytest.approx(0, abs=0.01)
    assert own["spread_of_log_ratio"].value > 0.5


def test_peaks_at_the_edge_are_counted_and_left_out():
    made = tables()
    rows = made["matrices"]
    edge = rows["layer"] == 0
    rows.loc[edge, ["critical_temperature", "at_edge"]] = [1e6, True]
    table = model_table(rows, made["peaks"])
    assert (table["at_edge"] == 1 / LAYERS).all()
    assert table["ratio"].between(1.1, 1.4).all()


def test_the_interval_of_the_peak_holds_the_spread_of_sigma():
    """Layers whose sigma differ, all with the peak at one T / sigma."""
    made = tables()
    rows = made["matrices"].assign(critical_temperature=NULL_PEAK)
    rows["sigma"] = 0.1 * np.exp(0.2 * (rows["layer"] - (LAYERS - 1) / 2))
    table = model_table(rows, made["peaks"])
    np.testing.assert_allclose(table["critical_temperature"], 0.1 * NULL_PEAK)
    error = 0.2 * np.std(np.arange(LAYERS), ddof=1) / np.sqrt(LAYERS)
    reach = np.log(table["critical_high"] / table["critical_temperature"])
    np.testing.assert_allclose(reach, 2.5706 * error, rtol=1e-3)  # t of five degrees of freedom
    np.testing.assert_allclose(
        table["critical_low"] * table["critical_high"], table["critical_temperature"] ** 2
    )
    single = model_table(rows[rows["layer"] == 0], made["peaks"])
    assert single[["critical_low", "critical_high"]].isna().all(axis=None)


def test_bands_stand_beside_the_null_of_their_size():
    made = tables()
    bands = band_table(made["matrices"], made["curves"], made["nulls"])
    heat = bands[bands["quantity"] == "specific_heat"]
    np.testing.assert_allclose(heat["value"], 2 * heat["null"])
    entropy = bands[bands["quantity"] == "entropy"]
    np.testing.assert_allclose(entropy["value"], 4 / np.log(N))
    np.testing.assert_allclose(entropy["null_high"], 5.5 / np.log(N))
    assert bands.loc[bands["quantity"] == "renyi_2", "null"].isna().all()


def test_too_few_sizes_are_refused(statistics):
    table = model_table(*(tables()[name] for name in ("matrices", "peaks")))
    few = table[table["model"].isin(["small", "large"])]
    with pytest.raises(ValueError, match="three sizes"):
        weight_statistics.size_statistics(
            few, model="all", evidence="real", resamples=100, rng=np.random.default_rng(0)
        )
