"""Tables of ranks: equal terms, recorded losses, known order, known biases."""

import json

import numpy as np
import pandas as pd
import pytest

from tgn.fmri.connectivity import DEFINITIONS, rank_profile
from tgn.fmri.connectomes import Connectome
from tgn.fmri.ranks import (
    STATES,
    bias_table,
    on_equal_terms,
    rank_table,
    read_runs,
    reference_table,
    resampled,
    with_motion,
)
from tgn.fmri.surrogates import autoregressive

SHARED = {"awake": 0.1, "light": 0.25, "deep": 0.45, "recovery": 0.15}
LABELS = np.arange(2001, 2013)
OPTIONS = {"windows": [20], "step": 5, "draws": 3, "seed": 0}


def write(folder, arm, subject, *, volumes=120, labels=LABELS, states=STATES, noise=0.0):
    """A file of parcel signals whose rank falls with the share of a common signal."""
    place = folder / arm / "aal2" / f"sub-{subject}.npz"
    place.parent.mkdir(parents=True, exist_ok=True)
    fields = {}
    for state in states:
        rng = np.random.default_rng([int(subject), STATES.index(state)])
        x = autoregressive(volumes, len(LABELS), phi=0.3, shared=SHARED[state], rng=rng)
        x = x + noise * rng.standard_normal(x.shape)
        fields[state] = x[:, np.isin(LABELS, labels)].astype(np.float32)
        fields[f"{state}_fd"] = 0.1
        fields[f"{state}_kept"] = np.array([volumes, 130])
    np.savez(place, parcels=labels, tr=2.0, **fields)
    return place


def measure(folder, files, **changes):
    table, report = folder / "ranks.parquet", folder / "report.json"
    rank_table(signals=files, table=table, report=report, **{**OPTIONS, **changes})
    return pd.read_parquet(table), json.loads(report.read_text())


def test_known_order_on_equal_terms_and_what_was_lost(tmp_path):
    files = [
        write(tmp_path, "default", "01"),
        write(tmp_path, "default", "02", volumes=100),
        write(tmp_path, "default", "03", labels=LABELS[1:]),
        write(tmp_path, "default", "04", states=("awake",)),
        write(tmp_path, "gsr", "01", volumes=130),
        write(tmp_path, "default", "05", states=()),
    ]
    table, report = measure(tmp_path, files)
    assert (table["volumes"] == 100).all()
    assert (table["parcels"] == 11).all()
    assert report["volumes"] == 100
    assert report["shortest"] == "default/aal2/sub-02/awake"
    assert report["dropped"] == {"aal2": ["2001"]}
    assert report["parcels"] == {"aal2": 11}
    assert report["cut_off"]["default/aal2/sub-01/deep"] == 20
    assert report["cut_off"]["gsr/aal2/sub-01/deep"] == 30
    assert not any("sub-02" in run for run in report["cut_off"])
    assert report["without_runs"] == [str(files[-1])]
    assert report["without_a_state"] == ["default/aal2/sub-04 lacks deep, light, recovery"]
    keys = ["subject", "state", "arm", "atlas", "definition", "window"]
    assert not table.duplicated(keys).any()
    assert set(table["definition"]) == set(DEFINITIONS)
    primary = table[(table["definition"] == "pearson") & (table["window"] == 0)]
    ranks = primary[primary["arm"] == "default"].groupby("state")["rank"].mean()
    assert list(ranks.sort_values().index) == ["deep", "light", "recovery", "awake"]
    row = primary[(primary["subject"] == "03") & (primary["state"] == "deep")]
    stored = next(run for run in read_runs(files[2]) if run.state == "deep")
    assert row["rank"].item() == pytest.approx(rank_profile(stored.signals[:100])["pearson"])
    assert row["fd"].item() == pytest.approx(0.1)


def test_a_runs_numbers_do_not_depend_on_its_company(tmp_path):
    first, second = write(tmp_path, "default", "01"), write(tmp_path, "default", "02")
    alone, _ = measure(tmp_path, [second])
    together, _ = measure(tmp_path, [first, second])
    pd.testing.assert_frame_equal(
        alone, together[together["subject"] == "02"].reset_index(drop=True)
    )


def test_parcels_are_matched_by_label_not_by_place(tmp_path):
    one = next(read_runs(write(tmp_path, "default", "01")))
    turned = one._replace(subject="02", signals=one.signals[:, ::-1], parcels=one.parcels[::-1])
    lacking = one._replace(subject="03", signals=one.signals[:, 2:], parcels=one.parcels[2:])
    runs, _ = on_equal_terms([one, turned, lacking])
    for run in runs:
        np.testing.assert_array_equal(run.signals, one.signals[:, 2:])
        np.testing.assert_array_equal(run.parcels, LABELS[2:])


def test_faults_are_named(tmp_path):
    empty = write(tmp_path, "default", "05", states=())
    with pytest.raises(ValueError, match="no run"):
        measure(tmp_path, [empty])
    apart = [
        write(tmp_path, "default", "01", labels=LABELS[:6]),
        write(tmp_path, "default", "02", labels=LABELS[5:]),
    ]
    with pytest.raises(ValueError, match="fewer than two parcels"):
        measure(tmp_path, apart)
    run = write(tmp_path, "default", "03")
    with np.load(run) as stored:
        fields = dict(stored)
    fields["light"][:, 4] = 1.5
    np.savez(run, **fields)
    with pytest.raises(ValueError, match=r"default/aal2/sub-03/light: constant.*parcel 2005"):
        measure(tmp_path, [run])
    with pytest.raises(ValueError, match="window must be in"):
        measure(tmp_path, [write(tmp_path, "default", "01")], windows=[121])
    assert not (tmp_path / "ranks.parquet").exists()


def bias(folder, signals, clean, **changes):
    options = {
        "lengths": [40, 80, 500], "parcels": [4, 8], "motion": [0.5, 2.0],
        "definitions": ["pearson", "stable_rank"], "draws": 3, "seed": 0,
    }  # fmt: skip
    table = folder / "bias.parquet"
    bias_table(signals=signals, clean=clean, table=table, **{**options, **changes})
    return pd.read_parquet(table)


def test_what_moves_the_estimate(tmp_path):
    noisy = [write(tmp_path, "default", s, noise=1.0) for s in ("01", "02")]
    clean = [write(tmp_path, "truth", s) for s in ("01", "02")]
    table = bias(tmp_path, noisy, clean)
    assert not table.duplicated(["factor", "level", "subject", "state", "definition"]).any()
    levels = table.groupby("factor")["level"].unique().map(sorted).to_dict()
    assert levels == {
        "length": [40, 80, 120], "parcels": [4, 8, 12], "planted_motion": [0, 0.5, 2.0],
    }  # fmt: skip
    means = table[table["definition"] == "pearson"].groupby(["factor", "level"])
    ranks, truths = means["rank"].mean(), means["truth"].mean()
    for factor in ("length", "parcels"):
        assert ranks[factor].is_monotonic_increasing
        assert truths[factor].is_monotonic_increasing
        assert (ranks[factor] > truths[factor]).all()  # noise adds directions
    assert ranks["planted_motion"].is_monotonic_decreasing
    assert ranks["planted_motion"][0] == pytest.approx(truths["planted_motion"][0])
    assert truths["planted_motion"].nunique() == 1
    whole = [truths["length"][120], truths["parcels"][12], truths["planted_motion"][0]]
    np.testing.assert_allclose(whole, whole[0])


def test_without_clean_signals_there_is_no_truth(tmp_path):
    files = [write(tmp_path, "default", "01")]
    table = bias(tmp_path, files, [])
    assert table["truth"].isna().all()
    assert table["rank"].notna().all()
    with pytest.raises(ValueError, match="unknown definitions"):
        bias(tmp_path, files, [], definitions=["entropy"])


def test_planted_motion_is_shared_by_all_parcels():
    rng = np.random.default_rng(0)
    x = autoregressive(4000, 3, phi=0.0, shared=0.0, rng=rng)
    moved = with_motion(7 * x, 2.0, rng)
    # Exponential displacements of mean 2 have variance 4.
    expected = 4 / (1 + 4)
    found = np.corrcoef(moved, rowvar=False)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("new_tr", [2.0, 0.8])
def test_resampling_keeps_what_is_in_the_band(new_tr):
    tr = 0.72
    time = np.arange(1200) * tr
    wave = np.stack([np.sin(2 * np.pi * f * time) for f in (0.03, 0.05)], axis=1)
    hum = np.sin(2 * np.pi * 0.35 * time)[:, None]
    found = resampled(wave + hum + 100, tr=tr, new_tr=new_tr, band=(0.01, 0.1))
    new_time = np.arange(len(found)) * new_tr
    assert len(found) == int(1200 * tr / new_tr)
    expected = np.stack([np.sin(2 * np.pi * f * new_time) for f in (0.03, 0.05)], axis=1)
    middle = slice(len(found) // 4, -len(found) // 4)
    np.testing.assert_allclose(found[middle], expected[middle], atol=0.06)
    with pytest.raises(ValueError, match="Nyquist"):
        resampled(wave, tr=tr, new_tr=8.0, band=(0.01, 0.1))


def person(folder, name, volumes, tr):
    rng = np.random.default_rng(volumes)
    fields = Connectome(
        person=name, dataset="hcp", sc=np.eye(12), lengths=np.eye(12),
        bold=autoregressive(volumes, 12, phi=0.9, shared=0.3, rng=rng).astype(np.float32),
        tr=tr, regions=LABELS.astype(str), labels=LABELS,
    )  # fmt: skip
    np.savez(folder / f"{name}.npz", **fields._asdict())
    return folder / f"{name}.npz"


def test_real_people_are_measured_at_the_same_volume_time_and_length(tmp_path):
    files = [
        person(tmp_path, "long", 600, 0.72),
        person(tmp_path, "same", 200, 2.0),
        person(tmp_path, "short", 100, 2.0),
    ]
    table = tmp_path / "reference.parquet"
    options = {"tr": 2.0, "volumes": 150, "band": [0.01, 0.1], **OPTIONS}
    reference_table(connectomes=files, table=table, **options)
    found = pd.read_parquet(table)
    assert set(found["subject"]) == {"long", "same"}
    assert (found["volumes"] == 150).all()
    assert set(found["source_tr"]) == {0.72, 2.0}
    assert set(found["site"]) == {"hcp"}
    assert (found["arm"] == "real").all()
    like = tmp_path / "report.json"
    like.write_text('{"volumes": 90}')
    reference_table(connectomes=files, table=table, like=like, **options)
    found = pd.read_parquet(table)
    assert set(found["subject"]) == {"long", "same", "short"}
    assert (found["volumes"] == 90).all()
    with pytest.raises(ValueError, match="nobody"):
        reference_table(connectomes=files[2:], table=table, **options)
