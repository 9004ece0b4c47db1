"""Distance dependence: exact small cases, planted losses, and the nulls of subjects and parcels."""

import math

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from tgn.fmri.distance import (
    change_by_distance,
    distance_bins,
    edges,
    measure_distance,
    permuted,
)
from tgn.fmri.states import sign_flip_test
from tgn.sources import write_receipt

PARCELS = 30
SETTINGS = {"width_mm": 20.0, "least_edges": 20, "long_range_mm": 90.0, "permutations": 99}


def rng(seed=0):
    return np.random.default_rng(seed)


def brain(draws):
    return draws.uniform(-70, 70, (PARCELS, 3))


def noise(draws, subjects):
    """Changes of edges as they come: edges that share a parcel go together."""
    of_parcels = draws.normal(size=(subjects, PARCELS))
    first, second = np.triu_indices(PARCELS, k=1)
    return 0.05 * (of_parcels[:, first] + of_parcels[:, second]) + 0.05 * draws.normal(
        size=(subjects, len(first))
    )


@given(
    st.lists(st.floats(0, 180), min_size=1, max_size=60),
    st.floats(1, 50),
    st.integers(1, 10),
)
def test_every_edge_is_in_one_bin_and_no_bin_is_sparse(lengths, width, least):
    if len(lengths) < least:
        with pytest.raises(ValueError, match="fewer"):
            distance_bins(lengths, width=width, least=least)
        return
    bounds = distance_bins(lengths, width=width, least=least)
    which = np.digitize(lengths, bounds) - 1
    counts = np.bincount(which, minlength=len(bounds) - 1)
    assert (np.diff(bounds) > 0).all()
    assert len(counts) == len(bounds) - 1
    assert counts.min() >= least


def test_bins_that_are_full_are_not_merged():
    assert distance_bins(np.arange(0.5, 30), width=10, least=10).tolist() == [0, 10, 20, 30]


def test_edges_are_correlations_in_the_order_of_pdist():
    draws = rng()
    signals = draws.normal(size=(50, 4))
    expected = 1 - pdist(signals.T, metric="correlation")
    assert edges(signals) == pytest.approx(expected)


def test_a_parcel_without_a_signal_is_named():
    signals = rng().normal(size=(50, 4))
    signals[:, 2] = 1.0
    with pytest.raises(ValueError, match=r"parcels \[2\]"):
        edges(signals)


def test_a_change_linear_in_distance_is_found_exactly():
    places = brain(rng())
    distances = pdist(places)
    change = np.stack([0.01 - 0.002 * distances, 0.03 + 0.001 * distances])
    table = change_by_distance(change, places, **SETTINGS, rng=rng())
    slopes = table[table["kind"] == "slope"]["value"]
    assert slopes.to_numpy() == pytest.approx([-0.2, 0.1])  # per 100 mm
    bins = table[(table["kind"] == "bin") & (table["subject"] == 0)]
    assert bins["value"].to_numpy() == pytest.approx(0.01 - 0.002 * bins["distance_mm"])
    assert bins["edges"].sum() == len(distances)
    parts = table[(table["subject"] == 1) & table["kind"].isin(["long", "short"])]
    assert np.average(parts["value"], weights=parts["edges"]) == pytest.approx(change[1].mean())
    assert (table[table["kind"] == "slope"]["null_p"] <= 0.05).all()


def test_subjects_enter_by_their_own_mean_whatever_the_number_of_edges():
    """The error over subjects is the spread of their means, and far above that over edges."""
    draws = rng(2)
    places = brain(draws)
    change = noise(draws, 12) + 0.1 * draws.normal(size=(12, 1))
    table = change_by_distance(change, places, **SETTINGS, rng=draws)
    long = table[table["kind"] == "long"]
    is_long = pdist(places) >= 90
    assert long["value"].to_numpy() == pytest.approx(change[:, is_long].mean(axis=1))
    over_subjects = long["value"].std() / math.sqrt(12)
    over_edges = change.mean(axis=0)[is_long].std() / math.sqrt(is_long.sum())
    assert over_subjects > 3 * over_edges


def test_a_planted_loss_of_long_edges_is_found_and_short_ones_are_not_blamed():
    draws = rng(3)
    places = brain(draws)
    change = noise(draws, 17) - 0.1 * (pdist(places) >= 90)
    table = change_by_distance(change, places, **SETTINGS, rng=draws)
    of = {kind: part["value"].to_numpy() for kind, part in table.groupby("kind")}
    assert sign_flip_test(of["long"]).p < 0.01
    assert sign_flip_test(of["short"]).p > 0.05
    assert sign_flip_test(of["long"] - of["short"]).p < 0.001
    assert sign_flip_test(of["slope"]).p < 0.001
    assert table.loc[table["kind"] == "slope", "null_p"].iloc[0] <= 0.02


def test_a_change_without_distance_is_rarely_called_one():
    """By both nulls: signs of the subjects' slopes, and the parcels' arrangement."""
    draws = rng(4)
    by_signs, by_parcels = [], []
    for _ in range(150):
        table = change_by_distance(noise(draws, 10), brain(draws), **SETTINGS, rng=draws)
        slope = table[table["kind"] == "slope"]
        by_signs.append(sign_flip_test(slope["value"]).p)
        by_parcels.append(slope["null_p"].iloc[0])
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)
    assert np.mean(np.array(by_signs) <= 0.05) < allowed
    assert np.mean(np.array(by_parcels) <= 0.05) < allowed


def test_a_change_of_all_edges_alike_is_no_dependence_on_distance():
    places = brain(rng())
    table = change_by_distance(
        np.full((3, PARCELS * (PARCELS - 1) // 2), -0.2), places, **SETTINGS, rng=rng()
    )
    bins = table[table["kind"] == "bin"]
    assert bins["null_low"].to_numpy() == pytest.approx(-0.2)
    assert bins["null_high"].to_numpy() == pytest.approx(-0.2)


def test_permuting_parcels_keeps_the_mean_over_all_edges():
    draws = rng(5)
    change = noise(draws, 1)[0]
    everything = np.full((len(change), 1), 1 / len(change))
    null = permuted(change, PARCELS, everything, permutations=5, rng=draws)
    assert null[:, 0] == pytest.approx(np.full(5, change.mean()))


def atlas_of_points(tmp_path):
    """An atlas of 12 regions of one voxel each, 20 mm apart on a line, as a receipt."""
    labels = np.zeros((12, 1, 1), dtype=np.int16)
    labels[:, 0, 0] = np.arange(1, 13)
    nib.save(nib.Nifti1Image(labels, np.diag([20.0, 20, 20, 1])), tmp_path / "atlas.nii.gz")
    rows = "".join(f"{label},region {label}\n" for label in range(1, 13))
    (tmp_path / "labels.csv").write_text("index,name\n" + rows)
    receipt = tmp_path / "receipt.json"
    write_receipt(
        receipt, name="points", kind="atlas", evidence="simulated",
        files=["atlas.nii.gz", "labels.csv"],
    )  # fmt: skip
    return receipt


def save_subject(folder, name, draws, labels, states=("awake", "deep"), volumes=80):
    common = draws.normal(size=(volumes, 1))
    runs = {state: (common + draws.normal(size=(volumes, len(labels)))) for state in states}
    np.savez(folder / f"sub-{name}.npz", parcels=np.array(labels), tr=2.0, **runs)
    return folder / f"sub-{name}.npz"


def test_the_job_keeps_to_shared_parcels_and_volumes_and_says_who_is_left_out(
    tmp_path, caplog, capsys
):
    draws = rng(6)
    every = list(range(1, 13))
    files = [
        save_subject(tmp_path, "01", draws, every),
        save_subject(tmp_path, "02", draws, every[:-1], volumes=60),
        save_subject(tmp_path, "03", draws, every, states=("awake",)),
    ]
    out = tmp_path / "distance.parquet"
    settings = {"width_mm": 40.0, "least_edges": 5, "long_range_mm": 100.0, "permutations": 19}
    with caplog.at_level("WARNING"):
        measure_distance(
            signals=files, atlas=atlas_of_points(tmp_path), table=out, from_state="awake",
            to_state="deep", seed=1, **settings,
        )  # fmt: skip
    table = pd.read_parquet(out)
    assert set(table["subject"]) == {"01", "02"}
    assert set(table["volumes"]) == {60}
    assert table.loc[table["kind"] == "slope", "edges"].tolist() == [55, 55]  # 11 parcels
    assert "sub-03.npz lacks deep" in caplog.text
    assert "parcels dropped: [12]" in capsys.readouterr().out
    with np.load(files[0]) as file:
        change = edges(file["deep"][:60, :11]) - edges(file["awake"][:60, :11])
    far = pdist(20.0 * np.arange(11)[:, None]) >= 100
    long = table[(table["kind"] == "long") & (table["subject"] == "01")]
    assert long["value"].item() == pytest.approx(change[far].mean())


def test_no_subject_with_both_states_is_an_error(tmp_path):
    path = save_subject(tmp_path, "01", rng(), range(1, 13), states=("deep",))
    with pytest.raises(ValueError, match="no subject has both awake and deep"):
        measure_distance(
            signals=[path], atlas=tmp_path / "receipt.json", table=tmp_path / "t.parquet",
            from_state="awake", to_state="deep", width_mm=40.0, least_edges=5,
            long_range_mm=100.0, permutations=9, seed=1,
        )  # fmt: skip


def test_shapes_and_ranges_that_do_not_fit_are_refused():
    places = brain(rng())
    with pytest.raises(ValueError, match="30 parcels"):
        change_by_distance(np.ones((2, 7)), places, **SETTINGS, rng=rng())
    with pytest.raises(ValueError, match="does not part"):
        change_by_distance(
            np.ones((2, 435)), places, **SETTINGS | {"long_range_mm": 900.0}, rng=rng()
        )
