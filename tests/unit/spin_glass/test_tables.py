"""The experiment as files: what one arm writes, what all of them add up to, and the figure."""

import numpy as np
import pandas as pd
import pytest

from tgn.config import read_yaml
from tgn.plots.fig5 import draw
from tgn.spin_glass.tables import gate_bands, keep_reference, measure, read_reference, summarise
from tgn.statistics import read_statistics

SETTINGS = {
    "costs": "config/spin_glass_costs.yaml",
    "disorders": ["gaussian", "bimodal"],
    "sides": [4, 6, 8, 10],
    "rungs": [4, 4, 4, 4],
    "seconds": [0.0001, 0.0002, 0.0003, 0.0004],
    "checkpoints": 2,
    "seed": 3,
}
ARMS = {
    "random_configurations": 8, "annealing": 8, "tempering": 8, "tempering_houdayer": 8,
    "tgn": 8, "tgn_gate_shut": 8, "langevin": 4, "attention_published": 4, "reference": 8,
    "reference_again": 8,
}  # fmt: skip


def references(folder):
    return [str(folder / f"{arm}.parquet") for arm in ("reference", "reference_again")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fig5")
    for arm, samples in ARMS.items():
        measure(
            arm=arm, trace=folder / f"{arm}.parquet", gates=folder / f"{arm}.gates.parquet",
            samples=samples, **SETTINGS,
        )  # fmt: skip
    arms = [arm for arm in ARMS if not arm.startswith("reference")]
    summarise(
        traces=[folder / f"{arm}.parquet" for arm in arms],
        opening=[folder / f"{arm}.gates.parquet" for arm in arms],
        reference=references(folder),
        **{name: folder / f"{name}.parquet" for name in ("curves", "times", "fits", "gates")},
        statistics=folder / "statistics.json",
        samples=8, resamples=100, seed=3,
    )  # fmt: skip
    return folder


def test_an_arm_covers_every_size_and_kind(folder):
    trace = pd.read_parquet(folder / "tgn.parquet")
    last = trace[trace["checkpoint"] == 1]
    assert len(last.drop_duplicates(["disorder", "side", "sample"])) == len(last) == 2 * 4 * 8
    assert (trace.groupby(["disorder", "side", "sample"])["energy"].agg(np.ptp) >= 0).all()
    assert trace["energy"].between(-3, 0).all()


def test_arms_with_fewer_samples_meet_the_first_of_the_others(folder):
    few, many = (pd.read_parquet(folder / f"{arm}.parquet") for arm in ("langevin", "tempering"))
    assert set(few["sample"]) == {0, 1, 2, 3} < set(many["sample"])


def test_every_statistic_of_the_ledger_is_made(folder):
    made = {record.id for record in read_statistics(folder / "statistics.json")}
    for claim in read_yaml("config/claims.yaml"):
        controls = [name for names in claim.get("controls", {}).values() for name in names]
        wanted = {name for name in [*claim["statistics"], *controls] if name.startswith("fig5.")}
        assert wanted <= made


def test_residuals_are_never_below_the_reference(folder):
    curves = pd.read_parquet(folder / "curves.parquet")
    assert (curves["residual"] >= 0).all()
    assert (curves["ci_low"] <= curves["residual"]).all()


def test_a_kept_reference_is_the_same_and_knows_its_samples(folder, tmp_path):
    table = tmp_path / "reference.csv"
    keep_reference(traces=references(folder), table=table, seed=3)
    kept = read_reference(table, samples=8, seed=3)
    fresh = read_reference(references(folder), samples=8, seed=3)
    assert set(kept["found"]) == {1, 2}
    pd.testing.assert_frame_equal(kept, fresh, check_dtype=False)
    for wrong in ({"samples": 9, "seed": 3}, {"samples": 8, "seed": 4}):
        with pytest.raises(ValueError, match=r"spin_glass\.reference to null"):
            read_reference(table, **wrong)


def test_gate_bands_are_means_over_samples():
    gated = pd.DataFrame(
        {
            "arm": "tgn", "disorder": "gaussian", "side": 4, "sample": [0, 1, 0, 1],
            "temperature": [0.1, 0.1, 1.0, 1.0], "gate": [0.0, 0.2, 0.5, 0.5],
            "local_acceptance": 0.3, "geometric_acceptance": [np.nan, np.nan, 1.0, 0.0],
        }
    )  # fmt: skip
    bands = gate_bands(gated, resamples=200, seed=0).set_index("temperature")
    assert bands["gate"].tolist() == pytest.approx([0.1, 0.5])
    assert bands.loc[1.0, "gate_low"] == bands.loc[1.0, "gate_high"] == pytest.approx(0.5)
    assert np.isnan(bands.loc[0.1, "geometric_acceptance"])


def test_the_figure_is_drawn(folder):
    tables = {name: folder / f"{name}.parquet" for name in ("curves", "times", "fits", "gates")}
    draw(**tables, pdf=folder / "fig5.pdf", png=folder / "fig5.png", scale="smoke")
    assert (folder / "fig5.pdf").read_bytes().startswith(b"%PDF")
