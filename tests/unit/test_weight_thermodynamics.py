"""Weight matrices as levels and spectra: what is planted is found, and noise is called noise."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from tgn import sources
from tgn.models import build, io
from tgn.models.config import ModelConfig
from tgn.probing import weight_thermodynamics as weights
from tgn.thermodynamics.critical import freezing_temperature, gaussian_null
from tgn.thermodynamics.information import complexity, fisher_information
from tgn.thermodynamics.levels import thermal_properties

PER_OCTAVE = 16
GRID = weights.temperature_octaves(0.05, 6.4, PER_OCTAVE)
SHAPE = (64, 96)


@pytest.fixture(scope="module")
def null():
    return gaussian_null(np.prod(SHAPE), GRID, rng=np.random.default_rng(0), draws=60)


def noise(seed=1):
    return 0.3 + 0.02 * np.random.default_rng(seed).standard_normal(SHAPE)


def measured(matrix, null):
    row, peaks, curve = weights.measure_matrix(matrix, GRID, null, rng=np.random.default_rng(2))
    return row, pd.DataFrame(peaks).set_index("levels"), curve


def test_the_grid_has_half_of_every_temperature():
    assert GRID[0] == 0.05
    assert GRID[-1] == pytest.approx(6.4)
    np.testing.assert_allclose(GRID[PER_OCTAVE:], 2 * GRID[:-PER_OCTAVE])
    with pytest.raises(ValueError, match="less than one octave"):
        weights.temperature_octaves(1.0, 1.5, 8)
    with pytest.raises(ValueError, match="per_octave"):
        weights.temperature_octaves(1.0, 4.0, 0)


def test_noise_is_told_from_neither_its_null_nor_a_hump(null):
    row, peaks, _ = measured(noise(), null)
    assert row["sigma"] == pytest.approx(0.02, rel=0.05)
    assert row["mean"] == pytest.approx(0.3, abs=0.01)
    assert row["p"] > 0.05
    assert not row["at_edge"]
    assert row["power_law_below"] < 0 > row["power_law_above"]
    assert row["low"] < row["high"]
    assert "student" not in peaks.index or row["kurtosis"] > weights.HEAVIEST
    assert row["stored_values"] > weights.STORED_VALUES
    assert "gaussian_quantised" not in peaks.index


@settings(deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_units_and_mean_of_the_weights_do_not_matter(scale, shift):
    matrix = np.random.default_rng(3).standard_normal((8, 9))
    levels = [weights.normalised(m) for m in (matrix, scale * (matrix + shift))]
    np.testing.assert_allclose(*levels, atol=1e-9)


def test_one_low_entry_makes_the_peak_and_takes_it_away(null):
    """The system falls into it alone, where its free energy meets that of the rest."""
    matrix = noise()
    matrix[5, 7] -= 0.3  # 15 sigma
    row, peaks, _ = measured(matrix, null)
    assert row["p"] < 0.05
    assert row["z"] > 5
    assert row["critical_temperature"] == pytest.approx(row["isolated_temperature"], rel=0.1)
    at = peaks["temperature"]
    assert at["weights"] > 3 * at["without_lowest"]
    assert at["flipped"] == pytest.approx(at["without_lowest"], rel=0.5)


@settings(deadline=None)
@given(st.integers(10, 10**7), st.floats(0, 50))
def test_an_isolated_level_condenses_no_lower_than_freezing(n, depth):
    """Where it counts, both states have one free energy there."""
    found = weights.isolated_temperature(-depth, n)
    frozen = freezing_temperature(1.0, n)
    assert found >= frozen * (1 - 1e-12)
    if depth > 1.01 * np.sqrt(2 * np.log(n)):
        assert depth / found == pytest.approx(np.log(n) + 1 / (2 * found**2))


def test_uniform_levels_have_no_peak_to_speak_of(null):
    uniform = np.random.default_rng(4).uniform(size=SHAPE)
    row, *_ = measured(uniform, null)
    assert row["peak_height"] < 1.5  # C = 1 down to the distance of levels
    assert row["height_p"] < 0.05


def test_storage_in_4_bits_is_recognised_and_keeps_the_extremes():
    levels = np.random.default_rng(5).standard_normal((16, 64))
    stored = weights.as_stored(levels)
    assert weights.stored_values(stored) <= weights.STORED_VALUES < weights.stored_values(levels)
    step = np.ptp(levels.reshape(-1, 32), axis=1).max() / 15
    assert np.abs(stored - levels).max() < 0.51 * step
    assert stored.min() == pytest.approx(levels.min(), rel=1e-3)
    np.testing.assert_allclose(weights.as_stored(np.full((1, 32), 0.5)), 0.5)
    assert np.isnan(weights.stored_values(np.zeros((4, 33))))
    with pytest.raises(ValueError, match="blocks of 32"):
        weights.as_stored(np.zeros((4, 33)))


def test_levels_stored_in_4_bits_are_compared_with_gaussian_ones_stored_alike(null):
    _, peaks, _ = measured(weights.as_stored(noise()), null)
    assert peaks.loc["gaussian_quantised", "temperature"] == pytest.approx(
        peaks.loc["gaussian", "temperature"], rel=0.3
    )
    assert peaks.loc["gaussian_quantised", "temperature"] != peaks.loc["gaussian", "temperature"]


def test_information_by_free_energies_is_that_of_the_weights():
    levels = np.random.default_rng(6).standard_normal(500)
    rows = weights.curve_rows(thermal_properties(levels, GRID), PER_OCTAVE)
    assert rows["renyi_2"].isna().sum() == PER_OCTAVE
    for number in (PER_OCTAVE, 20, len(GRID) - 1):
        row = rows.iloc[number]
        exact = complexity(levels, row["t"])
        assert row["entropy"] == pytest.approx(exact.shannon)
        assert row["renyi_2"] == pytest.approx(exact.renyi_2)
        assert row["fisher"] == pytest.approx(fisher_information(levels, [row["t"]])[0])


def test_a_planted_direction_is_an_outlier_and_noise_has_none():
    rng = np.random.default_rng(7)
    matrix = rng.standard_normal((100, 200))
    planted = matrix + 3 * np.outer(rng.standard_normal(100), rng.standard_normal(200)) / 5
    rows = [
        weights.spectrum_row(weights.spectra.eigenvalues(m), m.shape) for m in (matrix, planted)
    ]
    assert [row["outliers"] for row in rows] == [0, 1]
    assert rows[0]["mp_distance"] < 1.5 / np.sqrt(100) < 0.2
    assert rows[1]["stable_rank"] < rows[0]["stable_rank"] <= 100


def test_block_averages_find_neighbours_that_are_alike_and_nothing_in_noise():
    rng = np.random.default_rng(8)
    free = rng.standard_normal((32, 32))
    alike = np.kron(rng.standard_normal((16, 16)), np.ones((2, 2))) + 0.5 * free
    found = [
        weights.flow_rows(m, rng=rng, steps=2, permutations=40).set_index("step")
        for m in (free, alike)
    ]
    assert found[0].loc[1, "ratio"] == pytest.approx(1, abs=0.1)
    assert found[0].loc[1, "p"] > 0.01
    assert found[1].loc[1, "ratio"] > 1.5
    assert found[1].loc[1, "p"] == pytest.approx(1 / 41)
    assert np.isnan(found[0].loc[0, "ratio"])


@pytest.fixture
def folders(tiny_model, tmp_path):
    """A pretrained model and one of our own, with one planted entry in the first's queries."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight[0, 0] = -20.0
    model.save_pretrained(tmp_path / "pretrained")
    receipt = tmp_path / "pretrained/receipt.json"
    sources.write_receipt(receipt, name="tiny", kind="fixture", evidence="simulated")
    config = ModelConfig(vocabulary=50, context=16, width=32, depth=2, heads=2, mixer="attention")
    own = build(config)
    with torch.no_grad():
        own.blocks[0].mixer.out.weight.normal_()
    io.save(tmp_path / "own", own, config)
    return [str(receipt), str(tmp_path / "own/model.safetensors")]


def test_models_of_both_kinds_become_tables(folders, tmp_path):
    paths = {
        name: tmp_path / f"{name}.parquet" for name in ("matrices", "peaks", "curves", "nulls")
    }
    weights.measure_levels(
        models=folders, labels=["tiny", "own"], **paths, temperatures=[0.05, 6.4],
        per_octave=PER_OCTAVE, draws=5, seed=1,
    )  # fmt: skip
    rows, peaks, curves, nulls = (pd.read_parquet(path) for path in paths.values())
    tiny = rows[rows["model"] == "tiny"]
    assert tiny.groupby("weights").size().to_dict() == {"trained": 21, "untrained": 21}
    planted = tiny.sort_values("lowest").iloc[0]
    assert planted[["weights", "layer", "kind"]].tolist() == [
        "trained", 1, "self_attention.query",
    ]  # fmt: skip
    assert not rows["kind"].str.contains("embed").any()
    body = AutoModel.from_pretrained(tmp_path / "pretrained")
    embeddings = body.get_input_embeddings().weight.numel()
    assert set(tiny["parameters"]) == {body.num_parameters() - embeddings}
    own = rows[rows["model"] == "own"]
    assert "mixer.gain" not in set(own["kind"])
    # output maps start at zero, where there are no levels
    untrained = own.loc[own["weights"] == "untrained", "kind"]
    assert "mixer.out" in set(own["kind"])
    assert "mixer.out" not in set(untrained)
    assert set(peaks["levels"]) >= {"weights", "flipped", "without_lowest", "gaussian_null"}
    assert len(curves) == len(rows) * len(GRID)
    assert set(nulls["n_levels"]) == set(rows["n_levels"])


def test_matrices_of_two_stacks_are_told_apart(tiny_model, tmp_path):
    tiny_model("bart").save_pretrained(tmp_path)
    receipt = tmp_path / "receipt.json"
    sources.write_receipt(receipt, name="tiny", kind="fixture", evidence="simulated")
    found = weights._pretrained(receipt, "tiny", "trained", seed=0)
    places = [(matrix.layer, matrix.kind) for matrix in found.matrices]
    assert len(set(places)) == len(places)
    assert {(0, "encoder_ffn.output"), (0, "decoder_ffn.output")} <= set(places)


def test_spectra_of_both_kinds_become_tables(folders, tmp_path):
    names = ("spectra_table", "densities", "flows")
    paths = {name: tmp_path / f"{name}.parquet" for name in names}
    weights.measure_spectra(
        models=folders, labels=["tiny", "own"], **paths, layers=2, steps=1, permutations=5, seed=1
    )
    found, densities, flows = (pd.read_parquet(path) for path in paths.values())
    assert set(found["entries"]) == {"weights", "shuffled"}
    # each density has mass one, but for what lies outside of the histogram
    mass = (densities["density"] * (densities["high"] - densities["low"])).groupby(
        [densities[key] for key in ("model", "weights", "entries", "kind", "rows", "columns")]
    )
    assert mass.sum().between(0.9, 1 + 1e-9).all()
    assert flows.groupby("model")["layer"].unique().map(list).to_dict() == {
        "tiny": [0, 2], "own": [0, 1],
    }  # fmt: skip
