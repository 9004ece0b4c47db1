"""Surrogates keep what they should and destroy the rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.fmri.connectivity import DEFINITIONS, PEARSON, pearson, rank_profile, windowed_ranks
from tgn.fmri.surrogates import autoregressive, phase_randomised, ranks_with_surrogates

# Ranks of 100 parcels, means of 20 simulations: volumes, phi, shared, then sigma_uncentred,
# sigma_centred, covariance, pearson, participation_ratio, stable_rank.
ANCHORS = [
    (100, 0.0, 0.0, 80.3, 79.9, 60.2, 60.6, 50.1, 26.7),
    (100, 0.5, 0.2, 71.7, 71.5, 36.1, 36.9, 17.0, 4.9),
    (155, 0.0, 0.0, 89.7, 89.6, 72.0, 72.4, 60.8, 32.1),
    (155, 0.5, 0.5, 74.3, 74.2, 15.5, 15.7, 3.9, 2.0),
    (256, 0.0, 0.0, 94.4, 94.3, 81.9, 82.2, 71.8, 39.2),
    (256, 0.5, 0.0, 91.4, 91.4, 73.7, 74.2, 61.1, 30.2),
    (256, 0.8, 0.0, 81.3, 81.5, 51.0, 52.1, 37.1, 17.0),
    (256, 0.5, 0.2, 87.7, 87.7, 49.6, 50.1, 18.8, 4.8),
    (256, 0.5, 0.5, 79.6, 79.6, 16.2, 16.3, 3.8, 2.0),
]
QUOTED = (
    "sigma_uncentred", "sigma_centred", "covariance", "pearson",
    "participation_ratio", "stable_rank",
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    volumes=st.integers(4, 41),
    parcels=st.integers(2, 8),
    cross=st.sampled_from(["same", "destroyed"]),
    seed=st.integers(0, 100),
)
def test_spectra_means_and_reality_are_kept(volumes, parcels, cross, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((volumes, parcels)) @ rng.standard_normal((parcels, parcels)) + 3
    surrogate = phase_randomised(x, rng, cross=cross)
    assert surrogate.shape == x.shape
    assert not np.iscomplexobj(surrogate)
    np.testing.assert_allclose(
        np.abs(np.fft.rfft(surrogate, axis=0)), np.abs(np.fft.rfft(x, axis=0)), atol=1e-10
    )
    np.testing.assert_allclose(surrogate.mean(axis=0), x.mean(axis=0), atol=1e-12)
    if cross == "same":
        np.testing.assert_allclose(pearson(surrogate), pearson(x), atol=1e-10)


@pytest.mark.parametrize("volumes", [64, 65])
def test_the_order_in_time_is_destroyed(volumes):
    """Also at the last frequency of an even length, which has a sign only."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((volumes, 3))
    draws = np.stack([phase_randomised(x, rng, cross="same") for _ in range(400)])
    relation = [np.corrcoef(draws[:, t, 0], draws[:, t, 1])[0, 1] for t in range(volumes)]
    assert np.abs((draws[..., 0] - draws[..., 0].mean(0)).mean()) < 0.1
    # At one time over draws, parcels are related as they are over time.
    assert np.mean(relation) == pytest.approx(np.corrcoef(x[:, 0], x[:, 1])[0, 1], abs=0.1)
    last = np.fft.rfft(draws[:, :, 0] - x[:, 0].mean(), axis=1)[:, -1].real
    if volumes % 2 == 0:
        assert 0.35 < (last > 0).mean() < 0.65


@pytest.mark.parametrize("volumes", [120, 121])
def test_own_phases_leave_no_correlation_on_average(volumes):
    rng = np.random.default_rng(1)
    x = autoregressive(volumes, 6, phi=0.3, shared=0.8, rng=rng)
    above = np.triu_indices(6, 1)
    assert pearson(x)[above].min() > 0.5
    draws = 300
    found = np.stack(
        [pearson(phase_randomised(x, rng, cross="destroyed"))[above] for _ in range(draws)]
    )
    error = found.std(axis=0) / np.sqrt(draws)
    assert (np.abs(found.mean(axis=0)) < 4.5 * error).all()
    same = pearson(phase_randomised(x, rng, cross="same"))[above]
    np.testing.assert_allclose(same, pearson(x)[above], atol=1e-10)


def test_anchors():
    """Known ranks of autoregressive noise, within four errors of means of 20 and of our 20."""
    for volumes, phi, shared, *values in ANCHORS:
        rng = np.random.default_rng([volumes, int(10 * phi), int(10 * shared)])
        runs = np.stack(
            [autoregressive(volumes, 100, phi=phi, shared=shared, rng=rng) for _ in range(20)]
        )
        profile = rank_profile(runs)
        for name, value in zip(QUOTED, values, strict=True):
            ranks = profile[name]
            allowed = 4 * np.sqrt(2 / 20) * ranks.std(ddof=1) + 0.1  # 0.1: digits quoted
            assert abs(ranks.mean() - value) < allowed, (volumes, phi, shared, name)


def test_autoregressive_signals_are_what_they_say():
    rng = np.random.default_rng(0)
    x = autoregressive(20_000, 4, phi=0.6, shared=0.3, rng=rng)
    np.testing.assert_allclose(x.var(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(pearson(x)[np.triu_indices(4, 1)], 0.3, atol=0.05)
    np.testing.assert_allclose((x[1:] * x[:-1]).mean(axis=0), 0.6, atol=0.05)
    starts = np.stack([autoregressive(2, 3, phi=0.9, shared=0.5, rng=rng)[0] for _ in range(4000)])
    np.testing.assert_allclose(starts.var(axis=0), 1, atol=0.12)  # stationary from the first on
    for bad in ({"phi": 1.0, "shared": 0.1}, {"phi": 0.1, "shared": 1.1}):
        with pytest.raises(ValueError, match="must be in"):
            autoregressive(10, 3, rng=rng, **bad)


def run(seed=0, **options):
    x = autoregressive(120, 30, phi=0.5, shared=0.3, rng=np.random.default_rng(5))
    settings = {"windows": [20, 100], "step": 7, "draws": 6, **options}
    return x, ranks_with_surrogates(x, rng=np.random.default_rng(seed), **settings)


def test_table_of_ranks_and_surrogates():
    x, table = run()
    indexed = table.set_index(["definition", "window"])
    assert set(indexed.index) == {
        *((name, 0) for name in DEFINITIONS),
        *((name, window) for name in PEARSON for window in (20, 100)),
        ("thresholded", 100),
    }
    assert (table["rank"] <= table["cap"] + 1e-9).all()
    assert indexed.loc[("pearson", 20), "cap"] == 19
    assert indexed.loc[("pearson", 20), "windows"] == 15
    assert indexed.loc[("thresholded", 100), "windows"] == 1
    assert (table["volumes"] == 120).all()
    profile = rank_profile(x)
    for name in DEFINITIONS:
        assert indexed.loc[(name, 0), "rank"] == pytest.approx(profile[name])
    windowed = windowed_ranks(x, 20, 7)["pearson"].mean()
    assert indexed.loc[("pearson", 20), "rank"] == pytest.approx(windowed)


def test_surrogates_of_a_shared_signal_tell_it_from_its_spectra():
    _, table = run()
    shared = table[table["definition"] == "pearson"]
    assert (shared["surrogate_destroyed"] > 1.1 * shared["rank"]).all()
    stationary = shared[shared["window"] > 0]
    assert (np.abs(stationary["surrogate_same"] / stationary["rank"] - 1) < 0.1).all()


def test_whole_runs_of_surrogates_with_the_same_correlation_have_the_same_ranks():
    """Which is why the table does not measure them."""
    x, table = run(windows=[])
    surrogate = rank_profile(phase_randomised(x, np.random.default_rng(1), cross="same"))
    for row in table.itertuples():
        assert row.surrogate_same == pytest.approx(surrogate[row.definition], rel=1e-6)


def test_seeds_decide():
    _, first = run()
    _, again = run()
    _, other = run(seed=1)
    assert first.equals(again)
    assert not first.equals(other)
    assert first["rank"].equals(other["rank"])


def test_bad_arguments_are_refused():
    x = autoregressive(30, 4, phi=0, shared=0, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="cross must be"):
        phase_randomised(x, np.random.default_rng(0), cross="other")
    with pytest.raises(ValueError, match="draws"):
        run(draws=0)
