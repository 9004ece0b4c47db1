"""Spectra against the law of noise."""

import numpy as np
import pytest
from scipy.integrate import quad

from tgn.rank import marchenko_pastur_cdf
from tgn.thermodynamics import spectra


def noise(shape, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", [(2000, 1000), (1000, 2000), (500, 1000), (768, 3072)])
@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_noise_follows_the_law_at_any_scale_and_either_way_round(shape, scale):
    found = spectra.eigenvalues(noise(shape, scale=scale))
    aspect = min(shape) / max(shape)
    assert spectra.distance(found, aspect, scale**2) < min(0.02, 1.5 / np.sqrt(len(found)))
    assert spectra.distance(found, aspect) < 0.02
    assert spectra.bulk_variance(found, aspect) == pytest.approx(scale**2, rel=0.02)


def test_square_noise_too():
    assert spectra.distance(spectra.eigenvalues(noise((700, 700))), 1.0, 1.0) < 0.02


@pytest.mark.parametrize("aspect", [0.1, 0.5, 0.9, 1.0])
def test_the_density_has_mass_one_and_is_the_slope_of_the_distribution(aspect):
    low, high = spectra.edges(aspect, 2.0)
    mass = quad(lambda x: float(spectra.density(x, aspect, 2.0)), low, high, limit=500)[0]
    assert mass == pytest.approx(1, abs=1e-3)
    x = low + 0.4 * (high - low)
    slope = np.diff(marchenko_pastur_cdf(np.array([x - 1e-5, x + 1e-5]) / 2, aspect))[0] / 2e-5
    assert slope == pytest.approx(float(spectra.density(x, aspect, 2.0)), rel=1e-5)
    assert spectra.density(high + 1, aspect, 2.0) == 0


def test_a_planted_direction_is_the_one_outlier():
    matrix = noise((300, 500))
    assert spectra.outliers(spectra.eigenvalues(matrix), matrix.shape).number <= 1
    u, v = np.ones(300) / np.sqrt(300), np.ones(500) / np.sqrt(500)
    planted = matrix + 100 * np.outer(u, v)
    found = spectra.outliers(spectra.eigenvalues(planted), planted.shape)
    assert found.number == 1
    assert found.share == pytest.approx(100**2 / (100**2 + 300 * 500), rel=0.1)


def test_noise_seldom_exceeds_the_bar():
    exceeded = [
        spectra.outliers(spectra.eigenvalues(noise((60, 90), seed)), (60, 90), 1.0).number > 0
        for seed in range(200)
    ]
    assert np.mean(exceeded) < 0.05


def test_a_planted_tail_is_found_and_noise_has_none():
    rng = np.random.default_rng(1)
    pareto = (1 - rng.random(3000)) ** (-1 / 1.5)  # density x^-2.5
    fit = spectra.tail(pareto)
    assert fit.alpha == pytest.approx(2.5, abs=4 * fit.alpha_error)
    assert fit.log_ratio_exponential > 0
    assert fit.p_exponential < 0.05
    bulk = spectra.tail(spectra.eigenvalues(noise((400, 800))))
    assert bulk.log_ratio_exponential < 2 or bulk.n < 50


def test_summary_is_the_same_of_the_transpose_and_at_any_scale():
    matrix = noise((40, 70), seed=3)
    one, other = spectra.summary(matrix), spectra.summary(7 * matrix.T)
    for key in ("mp_distance", "outliers", "outlier_share", "largest", "stable_rank"):
        assert one[key] == pytest.approx(other[key])
    assert other["variance"] == pytest.approx(49 * one["variance"])


def test_refusals():
    with pytest.raises(ValueError, match="axes"):
        spectra.eigenvalues(np.ones(3))
    with pytest.raises(ValueError, match="aspect"):
        spectra.distance([1.0], 2.0)
    with pytest.raises(ValueError, match="variance"):
        spectra.edges(0.5, 0.0)
    with pytest.raises(ValueError, match="median is zero"):
        spectra.bulk_variance([0.0, 0.0, 1.0], 0.5)
    with pytest.raises(ValueError, match="ten positive"):
        spectra.tail([1.0, 2.0])
