"""Ranks of connectivity against their definitions, whole and windowed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.fmri.connectivity import (
    DEFINITIONS,
    PEARSON,
    mean_correlations,
    pearson,
    pearson_spectra,
    rank_caps,
    rank_profile,
    thresholded_rank,
    window_starts,
    windowed_ranks,
    windowed_thresholded_ranks,
)


def signals(volumes, parcels, seed=0, shared=0.5):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((volumes, 1))
    return rng.standard_normal((volumes, parcels)) + shared * common


def entropy_rank(weights):
    p = np.asarray(weights) / np.sum(weights)
    p = p[p > 0]
    return np.exp(-(p * np.log(p)).sum())


def by_definition(x):
    """Every rank, word for word."""
    correlations = np.linalg.eigvalsh(np.corrcoef(x, rowvar=False)).clip(0)
    z = (x - x.mean(0)) / x.std(0)
    positive = np.maximum(np.corrcoef(x, rowvar=False), 0)
    positive /= positive.sum(axis=1, keepdims=True)
    return {
        "sigma_uncentred": entropy_rank(np.linalg.svd(x, compute_uv=False)),
        "sigma_centred": entropy_rank(np.linalg.svd(x - x.mean(0), compute_uv=False)),
        "covariance": entropy_rank(np.linalg.eigvalsh(np.cov(x, rowvar=False)).clip(0)),
        "pearson": entropy_rank(correlations),
        "pearson_sigma": entropy_rank(np.linalg.svd(z, compute_uv=False)),
        "participation_ratio": correlations.sum() ** 2 / (correlations**2).sum(),
        "stable_rank": correlations.sum() / correlations.max(),
        "thresholded": entropy_rank(np.linalg.svd(positive, compute_uv=False)),
    }


@pytest.mark.parametrize("shape", [(60, 12), (20, 30), (40, 40)])
def test_profile_is_what_the_names_say(shape):
    x = signals(*shape) * np.linspace(0.5, 3, shape[1]) + 2
    profile, expected = rank_profile(x), by_definition(x)
    assert tuple(profile) == DEFINITIONS
    for name in DEFINITIONS:
        assert profile[name] == pytest.approx(expected[name], rel=1e-6), name


def test_profile_of_several_runs_is_that_of_each():
    x = np.stack([signals(30, 8, seed) for seed in range(3)])
    together = rank_profile(x)
    for k in range(3):
        for name, value in rank_profile(x[k]).items():
            assert together[name][k] == pytest.approx(value)


@given(
    volumes=st.integers(3, 30),
    parcels=st.integers(2, 20),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    seed=st.integers(0, 50),
)
@settings(max_examples=30, deadline=None)
def test_order_caps_and_invariance(volumes, parcels, scale, seed):
    x = signals(volumes, parcels, seed)
    profile, caps = rank_profile(x), rank_caps(volumes, parcels)
    assert profile["stable_rank"] + 1e-9 >= 1
    assert profile["stable_rank"] <= profile["participation_ratio"] + 1e-9
    assert profile["participation_ratio"] <= profile["pearson"] + 1e-9
    assert profile["pearson"] <= profile["pearson_sigma"] + 1e-9
    assert all(profile[name] <= caps[name] + 1e-6 for name in DEFINITIONS)
    rng = np.random.default_rng(seed)
    changed = rank_profile(
        scale * x[:, rng.permutation(parcels)] * rng.uniform(0.5, 2, parcels) + scale
    )
    for name in (*PEARSON, "thresholded"):
        assert changed[name] == pytest.approx(profile[name], rel=1e-5), name


def test_caps():
    assert rank_caps(30, 100) == {
        **dict.fromkeys(DEFINITIONS, 29),
        "sigma_uncentred": 30,
        "thresholded": 100,
    }
    assert set(rank_caps(101, 100).values()) == {100}


@given(
    parcels=st.sampled_from([3, 20, 45]),
    window=st.integers(3, 44),
    step=st.integers(1, 12),
    seed=st.integers(0, 50),
)
@settings(max_examples=30, deadline=None)
def test_windowed_ranks_are_those_of_the_windows(parcels, window, step, seed):
    x = signals(60, parcels, seed)
    ranks = windowed_ranks(x, window, step)
    starts = window_starts(60, window, step)
    spectra = pearson_spectra(x, window, step)
    assert spectra.shape == (len(starts), min(window, parcels))
    assert spectra.sum(axis=1) == pytest.approx(parcels)
    assert (np.diff(spectra, axis=1) <= 0).all()
    for number, start in enumerate(starts):
        expected = rank_profile(x[start : start + window])
        for name in PEARSON:
            assert ranks[name][number] == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.parametrize("window", [30, 60])
def test_windowed_ranks_equal_corrcoef_and_svd(window):
    x = signals(64, 200)
    ours = windowed_ranks(x, window, 2)["pearson"]
    peer = [
        entropy_rank(np.linalg.svd(np.corrcoef(x[s : s + window].T), compute_uv=False))
        for s in window_starts(64, window, 2)
    ]
    np.testing.assert_allclose(ours, peer, rtol=1e-9)


def test_roots_of_nearly_collapsed_windows_are_taken_exactly():
    """Second direction eight decades below the first, where a Gram matrix sees nothing."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 1)) + 1e-8 * rng.standard_normal((40, 60))
    sigma = windowed_ranks(x, 20, 20)["pearson_sigma"]
    for number, start in enumerate((0, 20)):
        part = x[start : start + 20]
        z = (part - part.mean(0)) / part.std(0)
        assert sigma[number] == pytest.approx(
            entropy_rank(np.linalg.svd(z, compute_uv=False)), rel=1e-9
        )
        assert sigma[number] > 1 + 1e-7


def test_one_signal_everywhere_has_rank_one():
    x = np.random.default_rng(0).standard_normal((40, 1)) * np.array([1.0, -2.0, 3.0])
    assert all(
        rank_profile(x)[name] == pytest.approx(1, abs=1e-4)
        for name in DEFINITIONS
        if name != "thresholded"
    )
    assert rank_profile(x)["thresholded"] == pytest.approx(2)  # the negative one stands apart
    assert windowed_ranks(x, 3)["pearson"] == pytest.approx(1)


def test_thresholding_drops_negative_correlations():
    assert thresholded_rank([[1.0, -0.9], [-0.9, 1.0]]) == pytest.approx(2)
    assert thresholded_rank([[1.0, 0.0], [0.0, 1.0]]) == pytest.approx(2)
    assert thresholded_rank(np.ones((4, 4))) == pytest.approx(1)
    x = signals(50, 6)
    windowed = windowed_thresholded_ranks(x, 20, 15)
    assert windowed[1] == pytest.approx(float(thresholded_rank(pearson(x[15:35]))))


def test_mean_correlations_are_means_of_the_matrix():
    x = signals(50, 7) + 100
    above = np.triu_indices(7, 1)
    expected = [
        np.corrcoef(x[s : s + 12], rowvar=False)[above].mean() for s in window_starts(50, 12, 5)
    ]
    np.testing.assert_allclose(mean_correlations(x, 12, 5), expected)


def test_pearson_has_a_diagonal_of_one():
    x = signals(30, 5)
    np.testing.assert_allclose(pearson(x), np.corrcoef(x, rowvar=False))
    assert (np.diag(pearson(x)) == 1).all()


@pytest.mark.parametrize(
    "measure",
    [pearson, rank_profile, lambda x, p: windowed_ranks(x, 10, 5, p)],
)
def test_bad_parcels_are_named(measure):
    labels = ["Hippocampus_L", "Hippocampus_R", "Amygdala_L"]
    broken = signals(30, 3)
    broken[4, 1] = np.nan
    with pytest.raises(ValueError, match="not finite: parcel Hippocampus_R;"):
        measure(broken, labels)
    still = signals(30, 3)
    still[:, 2] = 0.3
    with pytest.raises(ValueError, match=r"constant.*parcel Amygdala_L;"):
        measure(still, labels)


@pytest.mark.parametrize(("parcels", "window"), [(3, 10), (15, 10)])
def test_a_parcel_that_stands_still_in_a_window_is_named_with_the_window(parcels, window):
    x = signals(30, parcels)
    x[12:24, 1] = 5.1
    with pytest.raises(ValueError, match="window of 10 volumes from 12 on: column 1;"):
        windowed_ranks(x, window)
    with pytest.raises(ValueError, match="window of 10 volumes from 12 on: column 1;"):
        mean_correlations(x, window)


def test_bad_shapes_and_windows_are_refused():
    x = signals(30, 4)
    for window in (2, 31):
        with pytest.raises(ValueError, match="window must be in 3"):
            windowed_ranks(x, window)
    with pytest.raises(ValueError, match="step"):
        windowed_ranks(x, 10, 0)
    with pytest.raises(ValueError, match="no windowed rank"):
        windowed_ranks(x, 10, definitions=["covariance"])
    with pytest.raises(ValueError, match="shape"):
        rank_profile(x[:2])
    with pytest.raises(ValueError, match=r"\(T, P\)"):
        pearson_spectra(x[None], 10)
