"""Synchrony of planted oscillations."""

import numpy as np
import pytest

from tgn.fmri.synchrony import kuramoto_order, windowed_mean

TR, BAND = 2.0, (0.04, 0.07)


def oscillations(phases, volumes=200, noise=0.0):
    rng = np.random.default_rng(0)
    time = np.arange(volumes)[:, None] * TR
    waves = np.sin(2 * np.pi * 0.055 * time + phases)
    return waves + noise * rng.standard_normal(waves.shape)


@pytest.mark.parametrize(
    ("phases", "order"),
    [([0.3] * 4, 1.0), ([0, np.pi], 0.0), ([0, np.pi / 2], np.sqrt(0.5)), ([0, 0, 0, np.pi], 0.5)],
)
def test_order_of_oscillations_with_known_phases(phases, order):
    found = kuramoto_order(oscillations(phases), tr=TR, band=BAND)
    inside = found[np.isfinite(found)]
    np.testing.assert_allclose(inside, order, atol=0.05)
    np.testing.assert_allclose(inside[30:-30], order, atol=0.01)


def test_edges_of_one_period_are_not_numbers():
    found = kuramoto_order(oscillations([0, 1], noise=1.0), tr=TR, band=BAND)
    edge = 13  # 25 s
    assert np.isnan(found[:edge]).all()
    assert np.isnan(found[-edge:]).all()
    assert np.isfinite(found[edge:-edge]).all()


def test_units_and_offsets_do_not_matter():
    x = oscillations([0, 1, 2], noise=1.0)
    changed = x * [1, 5, 0.1] + [0, 100, -3]
    np.testing.assert_allclose(
        kuramoto_order(x, tr=TR, band=BAND), kuramoto_order(changed, tr=TR, band=BAND), atol=1e-9
    )


def test_unrelated_parcels_have_the_order_of_chance():
    x = np.random.default_rng(3).standard_normal((4000, 100))
    found = kuramoto_order(x, tr=TR, band=BAND)
    assert np.nanmean(found) == pytest.approx(0.089, abs=0.01)


def test_windows_with_an_edge_are_not_numbers():
    series = np.array([np.nan, 1.0, 2.0, 3.0, 4.0, np.nan])
    np.testing.assert_allclose(windowed_mean(series, 3), [np.nan, 2, 3, np.nan])


def test_bad_bands_and_short_runs_are_refused():
    x = oscillations([0, 1])
    for band in ((0.0, 0.05), (0.06, 0.04), (0.1, 0.3)):
        with pytest.raises(ValueError, match="Nyquist"):
            kuramoto_order(x, tr=TR, band=band)
    with pytest.raises(ValueError, match="longer runs"):
        kuramoto_order(x[:26], tr=TR, band=BAND)
