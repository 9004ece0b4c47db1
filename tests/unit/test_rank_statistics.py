"""Figure 8's statistics find what is planted and nothing where nothing is."""

import re

import numpy as np
import pandas as pd
import pytest

from tgn.probing.rank_statistics import (
    by_layer,
    count_units,
    cross_fitted,
    lowest,
    lowest_in_first_half,
    mean_band,
    model_statistics,
    summarise,
)
from tgn.statistics import read_statistics

PASSAGES, LAYERS = 40, 9
DEFINITIONS = ("published", "uncentred", "centred", "without_outliers")
ARMS = (
    "intact",
    "no_attention",
    "no_mlp",
    "attention_only",
    "mlp_only",
    "random_mixer",
    "random_weights",
    "no_attention_random_weights",
)


def table(curves, noise=0.05, seed=0, draws=None):
    """Rows as measured, from one planted curve for each (arm, definition); 20 where none is.

    A curve has shape (layers,), or (passages, layers).
    """
    rng = np.random.default_rng(seed)
    draws = draws or {}
    parts = []
    for arm in ARMS:
        for definition in DEFINITIONS:
            planted = np.asarray(curves.get((arm, definition), np.full(LAYERS, 20.0)))
            values = planted * np.exp(noise * rng.normal(size=(PASSAGES, LAYERS)))
            grid = np.indices(values.shape)
            distance = curves.get((arm, "distance"), np.full(LAYERS, 0.5))
            parts.append(
                pd.DataFrame(
                    {
                        "arm": arm,
                        "definition": definition,
                        "passage": grid[0].ravel(),
                        "layer": grid[1].ravel(),
                        "effective_rank": values.ravel(),
                        "distance": np.tile(distance, PASSAGES),
                        "draw": grid[0].ravel() % draws.get(arm, 1),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def statistics(curves, **options):
    records = model_statistics(
        table(curves, **options),
        model="planted",
        evidence="simulated",
        resamples=300,
        rng=np.random.default_rng(1),
    )
    return {record.id.removeprefix("fig8."): record for record in records}


def contains(record, value):
    return record.ci_low <= value <= record.ci_high


FALL_AND_RISE = np.array([40, 30, 20, 10, 20, 30, 40, 50, 60.0])


def test_a_planted_fall_and_recovery_are_found():
    found = statistics({("intact", "centred"): FALL_AND_RISE})
    assert found["fall_log_rank"].value == pytest.approx(np.log(10 / 40), abs=0.05)
    assert found["recovery_log_rank"].value == pytest.approx(np.log(60 / 10), abs=0.05)
    assert found["fall_log_rank_random_init"].value == pytest.approx(0, abs=0.05)


def test_falls_are_read_under_the_published_definition_too():
    """One huge first vector: the fall is in the published definition and gone without it."""
    found = statistics({("intact", "published"): FALL_AND_RISE})
    fall = found["fall_log_rank_published_definition"]
    assert fall.value == pytest.approx(np.log(10 / 40), abs=0.05)
    assert re.fullmatch(
        r"mean rank \S+ at the input, 10\S* at its lowest \(after block 3\), 6.* the last block",
        fall.note,
    )
    recovery = found["recovery_log_rank_published_definition"]
    assert recovery.value == pytest.approx(np.log(60 / 10), abs=0.05)
    for name in ("fall_log_rank_uncentred_without_first", "fall_log_rank"):
        assert found[name].value == pytest.approx(0, abs=0.05)


def test_an_interval_covers_what_differs_between_draws():
    """Eight networks whose final ranks differ: forty passages do not make up for that."""
    offsets = np.random.default_rng(3).normal(0, 0.5, 8)
    planted = 20 * np.exp(np.outer(offsets[np.arange(PASSAGES) % 8], np.linspace(0, 1, LAYERS)))
    curves = {("random_mixer", "centred"): planted}
    name = "final_log_rank_intact_minus_random_mixer"
    one, several = (statistics(curves, draws={"random_mixer": count})[name] for count in (1, 8))
    assert (one.n, several.n) == (PASSAGES, 8)
    assert several.value == pytest.approx(one.value)
    # passages do not average the draws away: the interval is wider by about sqrt(40 / 8), and
    # Student's of eight is wider than that of many
    assert several.ci_high - several.ci_low > 2.5 * (one.ci_high - one.ci_low)
    assert "8" not in one.method
    assert "Student's 95 % interval over draws, which share 40 passages" in several.method


def test_few_draws_are_covered_by_numbers_and_bands():
    """Resampling four networks misses their mean in one of five cases."""
    rng, kept = np.random.default_rng(0), []
    draws = np.arange(12) % 4
    for _ in range(200):
        values = rng.normal(0, 1, 4)[draws][:, None] + 0.1 * rng.normal(size=(12, 3))
        band = mean_band(values, draws, rng=rng, resamples=200)
        kept.append((band.low <= 0) & (band.high >= 0))
    assert np.mean(kept) == pytest.approx(0.95, abs=0.04)
    assert count_units(draws) == 4


def test_noise_alone_makes_no_fall():
    """Reading a minimum where it was found would make one: the naive fall is far below zero."""
    found = [statistics({}, noise=0.5, seed=seed)["fall_log_rank"] for seed in range(20)]
    rows = table({}, noise=0.5).query("arm == 'intact' and definition == 'centred'")
    naive = np.log(by_layer(rows, "effective_rank"))
    assert (naive[:, 1:].min(axis=1) - naive[:, 0]).mean() < -0.5
    assert sum(contains(record, 0) for record in found) >= 15
    assert abs(np.mean([record.value for record in found])) < 0.05


def test_contrasts_between_arms_have_the_planted_size():
    found = statistics(
        {
            ("intact", "centred"): np.linspace(20, 60, LAYERS),
            ("no_attention", "centred"): np.linspace(20, 6, LAYERS),
            ("random_mixer", "centred"): np.linspace(20, 15, LAYERS),
            ("no_attention", "without_outliers"): np.linspace(20, 12, LAYERS),
            ("no_attention_random_weights", "centred"): np.linspace(20, 18, LAYERS),
            ("intact", "without_outliers"): np.linspace(20, 50, LAYERS),
            ("no_mlp", "centred"): np.linspace(20, 10, LAYERS),
            ("no_mlp", "without_outliers"): np.linspace(20, 15, LAYERS),
        }
    )
    planted = {
        "final_log_rank_intact_minus_no_attention": np.log(60 / 6),
        "final_log_rank_intact_minus_no_attention_without_outliers": np.log(50 / 12),
        "final_log_rank_intact_minus_no_mlp": np.log(60 / 10),
        "final_log_rank_intact_minus_no_mlp_without_outliers": np.log(50 / 15),
        "final_log_rank_intact_minus_random_mixer": np.log(60 / 15),
        "no_mlp_final_log_rank_ratio": np.log(10 / 20),
        "no_mlp_final_log_rank_ratio_without_outliers": np.log(15 / 20),
        "no_attention_final_log_rank_ratio": np.log(6 / 20),
        "no_attention_final_log_rank_ratio_without_outliers": np.log(12 / 20),
        "no_attention_final_log_rank_ratio_random_init": np.log(18 / 20),
    }
    for name, value in planted.items():
        assert found[name].value == pytest.approx(value, abs=0.05)
    assert found["no_attention_lowest_minus_intact_lowest"].ci_high < 0


def test_distances_are_compared_in_decades():
    found = statistics(
        {
            ("attention_only", "distance"): np.geomspace(1, 1e-5, LAYERS),
            ("mlp_only", "distance"): np.full(LAYERS, 0.1),
            ("no_mlp", "distance"): np.full(LAYERS, 1.0),
        }
    )
    contrast = found["final_log_distance_attention_only_minus_mlp_only"]
    assert contrast.value == pytest.approx(-4)
    assert "1.0e-05 of the norm" in contrast.note
    assert found["skip_restores_log_distance"].value == pytest.approx(5)


def test_a_collapse_below_rounding_counts_as_rounding():
    found = statistics({("attention_only", "distance"): np.geomspace(1, 1e-30, LAYERS)})
    floor = np.log10(np.finfo(np.float32).eps)
    value = found["final_log_distance_attention_only_minus_mlp_only"].value
    assert value == pytest.approx(floor - np.log10(0.5), abs=1e-3)


def test_the_share_of_a_dip_that_outliers_explain():
    dip = np.array([40, 20, 10, 20, 40, 40, 40, 40, 40.0])
    gone = statistics({("intact", "published"): dip})
    whole = statistics({("intact", "published"): dip, ("intact", "without_outliers"): dip})
    name = "dip_log_depth_without_outliers_minus_half"
    assert gone[name].value == pytest.approx(-np.log(4) / 2, abs=0.05)
    assert whole[name].value == pytest.approx(np.log(4) / 2, abs=0.05)
    assert gone["dip_log_depth_published_definition"].value == pytest.approx(np.log(4), abs=0.05)


def test_a_dip_in_the_second_half_is_not_a_shallow_one():
    mean = np.array([5, 5, 4, 5, 5, 5, 5, 1, 5.0])
    assert lowest(mean) == 7
    assert lowest_in_first_half(mean) == 2


def test_the_input_itself_is_never_the_lowest():
    assert lowest(np.array([1.0, 5, 4, 6])) == 2


def test_cross_fitting_reads_each_passage_at_the_other_halfs_layer():
    curves = np.array([[9.0, 1, 5], [9.0, 7, 2], [9.0, 1, 5], [9.0, 7, 2]])
    read = cross_fitted(curves, lowest, lambda part, layer: part[:, layer])
    assert read.tolist() == [5, 7, 5, 7]


def test_every_statistic_of_the_ledger_is_made(tmp_path):
    from tgn.config import read_yaml

    made = {f"fig8.{name}" for name in statistics({})}
    for claim in read_yaml("config/claims.yaml"):
        controls = [name for names in claim.get("controls", {}).values() for name in names]
        for name in [*claim["statistics"], *controls, *claim.get("beside", [])]:
            if name.startswith("fig8."):
                assert name in made


def test_summaries_are_the_same_bytes_each_time(tmp_path):
    rows = table({("intact", "centred"): FALL_AND_RISE}).assign(length=32)
    for name in ("effective_rank_sigma2", "participation_ratio", "stable_rank"):
        rows[name] = rows["effective_rank"] * 0.8
    rows[["token_share", "channel_share"]] = 0.1
    spectra = pd.DataFrame(
        {"share": [1.0], "index": [1], "layer": [0], "definition": "centred", "length": 32}
    )
    folder = tmp_path / "toy"
    folder.mkdir()
    tables = []
    for arm, part in rows.groupby("arm"):
        tables.append(str(folder / f"{arm}.parquet"))
        part.drop(columns="arm").to_parquet(tables[-1])
    spectra.to_parquet(folder / "intact.spectra.parquet")

    def written(run):
        home = tmp_path / run
        summarise(
            tables=tables, spectra=[str(folder / "intact.spectra.parquet")],
            curves=home / "curves.parquet", spectra_table=home / "spectra.parquet",
            statistics=home / "statistics.json", evidence={"toy": "simulated"},
            length=32, resamples=100, seed=0,
        )  # fmt: skip
        bands = pd.read_parquet(home / "curves.parquet")
        planted = bands.query("arm == 'intact' and definition == 'centred'")
        rank = planted[planted["quantity"] == "effective_rank"].sort_values("layer")
        np.testing.assert_allclose(rank["value"], FALL_AND_RISE, rtol=0.05)
        assert (rank["ci_low"] < rank["value"]).all()
        assert {record.model for record in read_statistics(home / "statistics.json")} == {"toy"}
        return (home / "statistics.json").read_bytes()

    assert written("one") == written("two")
