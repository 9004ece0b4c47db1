"""Planted leads are found, and where nothing changes none is."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.fmri.lead_lag import (
    Curves,
    change_p,
    change_point,
    cross_correlation,
    lead_lag_tables,
    permuted_band,
    read_units,
    unit_table,
)

TR = 2.0
OPTIONS = {
    "window": 30, "step": 5, "band": (0.04, 0.07), "max_lag_s": 200.0, "draws": 19, "seed": 0,
}  # fmt: skip


def curves(rank, synchrony):
    return Curves(np.arange(len(rank)) * 2.0, np.asarray(rank), np.asarray(synchrony), -rank)


@given(lag=st.integers(-6, 6), sign=st.sampled_from([-1, 1]), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_extreme_cross_correlation_is_at_the_planted_lag(lag, sign, seed):
    x = np.random.default_rng(seed).standard_normal(80)
    first, second = x[10:70], sign * x[10 - lag : 70 - lag]  # second[t + lag] = first[t]
    found = cross_correlation(first, second, 8)
    assert len(found) == 17
    assert np.abs(found).argmax() - 8 == lag
    assert found[8 + lag] == pytest.approx(sign)
    assert (np.abs(found) <= 1 + 1e-12).all()


def test_overlaps_are_not_padded():
    """A trend stays perfectly correlated at every lag, as it would not with zeros added."""
    trend = np.arange(30.0)
    np.testing.assert_allclose(cross_correlation(trend, 5 - trend, 20), -1)


def test_swapping_the_curves_turns_the_lag_around():
    a, b = np.random.default_rng(0).standard_normal((2, 50))
    np.testing.assert_allclose(cross_correlation(a, b, 9), cross_correlation(b, a, 9)[::-1])


def test_curves_that_cannot_be_compared_are_refused():
    x = np.arange(20.0)
    with pytest.raises(ValueError, match="longer run"):
        cross_correlation(x, x, 13)
    with pytest.raises(ValueError, match="one length"):
        cross_correlation(x, x[1:], 2)
    with pytest.raises(ValueError, match="constant"):
        cross_correlation(x, np.ones(20), 2)


@given(place=st.integers(3, 37), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_change_point_is_the_best_of_all_steps(place, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(40)
    x[place:] += rng.choice([0.0, 3.0])
    errors = [
        np.square(x[:k] - x[:k].mean()).sum() + np.square(x[k:] - x[k:].mean()).sum()
        for k in range(1, 40)
    ]
    best, explained = change_point(x)
    assert best == int(np.argmin(errors)) + 1
    total = np.square(x - x.mean()).sum()
    assert explained == pytest.approx(1 - min(errors) / total)


def test_change_is_judged_by_its_null():
    rng = np.random.default_rng(0)
    null = list(rng.standard_normal((39, 40)))
    step = rng.standard_normal(40)
    step[20:] += 4
    assert change_p(step, null) == 1 / 40
    p = [change_p(rng.standard_normal(40), null) for _ in range(200)]
    assert 0.4 < np.mean(p) < 0.6


def planted(rank_at, synchrony_at, seed, windows=60):
    rng = np.random.default_rng(seed)
    time = np.arange(windows)
    rank = 20 - 5.0 * (time >= rank_at) + rng.standard_normal(windows)
    order = 0.3 + 0.4 * (time >= synchrony_at) + 0.05 * rng.standard_normal(windows)
    return curves(rank, order)


@pytest.mark.parametrize(("rank_at", "synchrony_at"), [(25, 35), (35, 25)])
def test_both_hypotheses_can_win(rank_at, synchrony_at):
    null = [planted(99, 99, seed) for seed in range(1, 40)]
    table = unit_table(planted(rank_at, synchrony_at, 0), null, "kuramoto", max_lag=15, pace=10.0)
    lead = 10.0 * (synchrony_at - rank_at)
    assert table["changed"].all()
    assert table["onset_lag_s"].iloc[0] == pytest.approx(lead, abs=20)
    assert table["best_lag_s"].iloc[0] == pytest.approx(lead, abs=20)
    assert table["best_correlation"].iloc[0] < -0.7
    best = table[table["lag_s"] == table["best_lag_s"]]
    assert best["correlation"].item() < best["surrogate_low"].item()


def test_no_onset_where_only_one_curve_changes():
    null = [planted(99, 99, seed) for seed in range(1, 40)]
    for unit in (planted(25, 99, 0), planted(99, 25, 0), planted(99, 99, 0)):
        table = unit_table(unit, null, "kuramoto", max_lag=15, pace=10.0)
        assert not table["changed"].any()
        assert table["onset_lag_s"].isna().all()


def test_another_units_synchrony_knows_nothing_of_ones_own_fluctuations():
    rng = np.random.default_rng(0)
    own = []
    for _ in range(6):
        rank = rng.standard_normal(80)
        own.append(curves(rank, -rank + 0.3 * rng.standard_normal(80)))
    band = permuted_band(own, "kuramoto", max_lag=3, draws=100, rng=rng).set_index("lag")
    mean = np.mean([cross_correlation(c.rank, c.kuramoto, 3) for c in own], axis=0)
    assert mean[3] < band.loc[0, "permuted_low"]
    assert band.loc[0, "permuted_low"] < 0 < band.loc[0, "permuted_high"]
    assert (
        permuted_band(own[:2], "kuramoto", max_lag=3, draws=9, rng=rng)["permuted_low"].isna().all()
    )


def wave(rng, volumes, columns):
    """Oscillations inside the band, of unit variance."""
    spectrum = np.fft.rfft(rng.standard_normal((volumes, columns)), axis=0)
    frequency = np.fft.rfftfreq(volumes, TR)
    spectrum[(frequency < 0.04) | (frequency > 0.07)] = 0
    x = np.fft.irfft(spectrum, n=volumes, axis=0)
    return x / x.std(axis=0)


def changing(rng, *, rank_at, synchrony_at, volumes=400, parcels=40):
    """Signals whose rank falls at one time (five modules) and whose phases meet at another."""
    time = np.arange(volumes)[:, None]
    modules = np.repeat(rng.standard_normal((volumes, 5)), parcels // 5, axis=1)
    own = rng.standard_normal((volumes, parcels))
    x = np.where(time < rank_at, own, 0.2 * own + modules)
    waves = np.where(time < synchrony_at, wave(rng, volumes, parcels), wave(rng, volumes, 1))
    return x + 0.5 * waves


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lead_lag")
    rng = np.random.default_rng(0)
    cases = {
        "first": {"rank_at": 120, "synchrony_at": 220},
        "second": {"rank_at": 260, "synchrony_at": 160},
    }
    for person, times in cases.items():
        np.savez(
            folder / f"{person}.npz",
            ramp=np.stack([changing(rng, **times) for _ in range(3)]).astype(np.float32),
            control=np.stack(
                [changing(rng, rank_at=999, synchrony_at=999) for _ in range(3)]
            ).astype(np.float32),
            tr=TR,
            person=person,
        )
    runs = [folder / f"{person}.npz" for person in cases]
    files = {"lead_lag": folder / "l.parquet", "synchrony": folder / "s.parquet"}
    lead_lag_tables(runs=runs, **files, **OPTIONS)
    return pd.read_parquet(files["lead_lag"]), pd.read_parquet(files["synchrony"])


def test_signals_with_a_planted_order_of_changes(tables):
    table, _ = tables
    units = table[table["measure"] == "kuramoto"].drop_duplicates(["unit", "arm"])
    units = units.assign(person=units["unit"].str.split("-").str[0])
    ramps = units[units["arm"] == "ramp"]
    assert ramps["changed"].mean() > 0.6
    onset = ramps.groupby("person")["onset_lag_s"].mean()
    assert onset["first"] == pytest.approx(200, abs=60)
    assert onset["second"] == pytest.approx(-200, abs=60)
    assert units[units["arm"] == "control"]["changed"].mean() <= 0.2


def test_table_of_lags(tables):
    table, series = tables
    assert list(table.columns) == [
        "lag_s", "correlation", "surrogate_low", "surrogate_high", "best_lag_s",
        "best_correlation", "changed", "onset_lag_s", "measure", "model", "unit", "arm",
        "permuted_low", "permuted_high",
    ]  # fmt: skip
    keys = ["unit", "arm", "measure"]
    assert not table.duplicated([*keys, "lag_s"]).any()
    assert set(table["unit"]) == {f"{p}-{s}" for p in ("first", "second") for s in range(3)}
    assert (table.groupby(keys)["lag_s"].agg(["min", "max"]) == [-200, 200]).all(axis=None)
    assert (table["surrogate_low"] <= table["surrogate_high"]).all()
    for _, unit in table.groupby(keys):
        best = unit.loc[unit["correlation"].abs().idxmax()]
        assert best["lag_s"] == unit["best_lag_s"].iloc[0]
    assert series.notna().all(axis=None)
    # Windows that touch an edge of 13 volumes are in neither curve.
    assert series["time_s"].min() >= (13 + 15) * TR
    assert series["time_s"].max() <= (400 - 13 - 15) * TR


def test_units_of_parcel_signals_are_subjects_in_their_states(tmp_path):
    place = tmp_path / "default" / "aal2" / "sub-03.npz"
    place.parent.mkdir(parents=True)
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    np.savez(place, awake=x, deep=x, awake_fd=0.1, deep_fd=0.1, parcels=np.arange(4), tr=TR)
    units = list(read_units(place))
    assert [(u.unit, u.arm, u.model, u.tr) for u in units] == [
        ("03", "awake", "default/aal2", TR),
        ("03", "deep", "default/aal2", TR),
    ]


def test_runs_of_several_paces_keep_all_their_lags(tmp_path):
    rng = np.random.default_rng(2)
    for name, tr in (("a", 1.0), ("b", TR)):
        folder = tmp_path / name / "aal2"
        folder.mkdir(parents=True)
        signals = rng.standard_normal((400, 4)).cumsum(axis=0)
        np.savez(folder / "sub-1.npz", awake=signals, tr=tr, parcels=np.arange(4))
    files = {"lead_lag": tmp_path / "l.parquet", "synchrony": tmp_path / "s.parquet"}
    runs = [tmp_path / name / "aal2/sub-1.npz" for name in "ab"]
    lead_lag_tables(runs=runs, **files, **{**OPTIONS, "max_lag_s": 100.0})
    longest = pd.read_parquet(files["lead_lag"]).groupby("model")["lag_s"].max()
    assert dict(longest) == {"a/aal2": 100.0, "b/aal2": 100.0}


def test_too_little_to_tell_is_refused(tmp_path):
    place = tmp_path / "p.npz"
    x = np.random.default_rng(0).standard_normal((1, 60, 4))
    np.savez(place, ramp=x, control=x, tr=TR, person="p")
    files = {"lead_lag": tmp_path / "l.parquet", "synchrony": tmp_path / "s.parquet"}
    with pytest.raises(ValueError, match=r"p-0, ramp: .* longer run"):
        lead_lag_tables(runs=[place], **files, **OPTIONS)
    with pytest.raises(ValueError, match="draws must be at least 19"):
        lead_lag_tables(runs=[place], **files, **{**OPTIONS, "draws": 18})
    with pytest.raises(ValueError, match="no run"):
        lead_lag_tables(runs=[], **files, **OPTIONS)
    assert not list(tmp_path.glob("*.parquet"))
