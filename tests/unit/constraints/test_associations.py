"""Clustered intervals, partial correlations, mixed models and held-out shares on planted data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.constraints.associations import (
    PENALTY,
    Undecidable,
    clustered_interval,
    correlation,
    correlation_interval,
    correlation_p,
    family_means,
    held_out_errors,
    indicator,
    jackknife_interval,
    log_depth_constant,
    mixed_model,
    partial_correlation,
    predictive_shares,
)

RNG = np.random.default_rng


# --- correlations --------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-10, 10), min_size=5, max_size=12),
    st.floats(0.1, 9),
    st.floats(-5, 5),
    st.booleans(),
)
def test_correlation_is_one_with_a_rising_line_and_knows_no_units(x, scale, shift, rank):
    x = np.round(np.asarray(x), 3)
    found = correlation(x, scale * x + shift, rank=rank)
    assert found == pytest.approx(1.0 if np.ptp(x) > 0 else 0.0, abs=1e-6)
    assert correlation(x, -x, rank=rank) == pytest.approx(-found, abs=1e-6)


def test_what_never_changes_goes_with_nothing():
    assert correlation(np.ones(4), np.arange(4.0)) == 0.0
    assert partial_correlation(np.arange(4.0), np.arange(4.0) * 2, np.arange(4.0)) == 0.0


def test_partial_correlation_is_that_of_the_textbook():
    x, y, z = RNG(0).normal(size=(3, 40))
    y = y + z
    x = x + z
    xy, xz, yz = (correlation(*pair) for pair in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_correlation(x, y, z) == pytest.approx(expected)
    assert abs(expected) < abs(xy)


def test_p_of_a_correlation():
    from scipy import stats

    x, y = RNG(1).normal(size=(2, 9))
    found = stats.pearsonr(x, y)
    assert correlation_p(correlation(x, y), 9) == pytest.approx(found.pvalue)
    assert correlation_p(1.0, 9) == 0.0
    with pytest.raises(ValueError, match="too few"):
        correlation_p(0.5, 3, given=1)


def test_copies_of_a_family_reject_a_true_null_as_often_as_the_interval_says():
    """Each of ten families counts once, however many models it has: 5 % of 300 are 15."""
    wrong = 0
    for seed in range(300):
        x, y = RNG(seed).normal(size=(2, 10))
        found = correlation_interval(correlation(np.repeat(x, 5), np.repeat(y, 5)), 10)
        wrong += not found.low <= 0 <= found.high
    assert 5 <= wrong <= 27  # binomial, 99 %
    with pytest.raises(Undecidable, match="5 independent units"):
        correlation_interval(0.5, 5)


# --- intervals over families ---------------------------------------------------------------------


def test_families_are_the_units():
    """Twenty copies of a model add nothing: the interval is that of the families' means."""
    values = RNG(2).normal(size=8)
    families = [f"f{i}" for i in range(8)]
    once = clustered_interval([values], families, np.mean, rng=RNG(0), resamples=300)
    copies = clustered_interval(
        [np.repeat(values, 20)], np.repeat(families, 20), np.mean, rng=RNG(0), resamples=300
    )
    assert copies == pytest.approx(once)


def test_too_few_families_are_named():
    with pytest.raises(Undecidable, match=r"2 independent units \(a, b\).*takes 6"):
        clustered_interval(
            [np.arange(9.0)], ["a"] * 4 + ["b"] * 5, np.mean, rng=RNG(0), resamples=10
        )


def test_family_means():
    means, names = family_means([1.0, 3.0, 5.0], ["b", "b", "a"])
    assert list(zip(names, means, strict=True)) == [("a", 5.0), ("b", 2.0)]


# --- the depth law -------------------------------------------------------------------------------


@given(st.floats(0.2, 50), st.integers(0, 100))
@settings(max_examples=20)
def test_the_constant_of_the_depth_law_is_recovered(c, seed):
    layers = RNG(seed).integers(2, 48, size=10).astype(float)
    assert np.exp(log_depth_constant(np.log(c) / layers, layers)) == pytest.approx(c)


# --- mixed models --------------------------------------------------------------------------------


def test_mixed_model_is_statsmodels_where_families_differ():
    from statsmodels.regression.mixed_linear_model import MixedLM

    rng = RNG(3)
    families = np.repeat(np.arange(12), 4)
    x = rng.normal(size=48)
    y = 0.5 * x + rng.normal(size=12)[families] + 0.5 * rng.normal(size=48)
    design = {"intercept": np.ones(48), "x": x}
    found = mixed_model(y, design, families.astype(str))
    reference = MixedLM(y, np.column_stack(list(design.values())), groups=families).fit(reml=True)
    assert found.effects["x"].value == pytest.approx(reference.fe_params[1], abs=1e-4)
    assert found.between == pytest.approx(float(reference.cov_re[0, 0]), rel=1e-3)
    assert found.freedom == 10
    assert found.effects["x"].low < 0.5 < found.effects["x"].high


def test_many_models_of_few_families_do_not_make_an_effect():
    """A measure that changes between families only: copies of models narrow nothing."""
    rng = RNG(4)
    x, y = rng.normal(size=(2, 8))
    names = [f"f{i}" for i in range(8)]

    def reach(times: int) -> float:
        noise = 0.01 * RNG(5).normal(size=8 * times)
        fit = mixed_model(
            np.repeat(y, times) + noise,
            {"intercept": np.ones(8 * times), "x": np.repeat(x, times)},
            np.repeat(names, times),
        )
        return fit.effects["x"].high - fit.effects["x"].low

    assert reach(10) == pytest.approx(reach(2), rel=0.05)


def test_a_mixed_model_needs_more_families_than_coefficients():
    columns = {"a": [1.0, 1.0, 0.0, 0.0], "b": [0.0, 0.0, 1.0, 1.0]}
    with pytest.raises(Undecidable, match="2 families cannot tell 2 coefficients"):
        mixed_model([1.0, 2.0, 3.0, 4.0], columns, ["x", "x", "y", "y"])
    twice = {"a": np.ones(6), "b": 2 * np.ones(6)}
    with pytest.raises(Undecidable, match="not independent"):
        mixed_model(np.arange(6.0), twice, list("uvwxyz"))


# --- families left out ---------------------------------------------------------------------------


def test_held_out_errors_are_of_the_family_left_out():
    y, x = np.array([0.0, 0.0, 1.0, 5.0]), np.zeros((4, 1))
    errors = held_out_errors(y, x, ["a", "b", "c", "c"])
    assert errors == pytest.approx([4.0, 4.0, 1.0, 25.0])  # means of the others: 2, 2, 0, 0
    with pytest.raises(Undecidable, match="one family alone"):
        held_out_errors(y, x, ["a"] * 4)


def test_shares_add_up_and_find_the_block_that_predicts():
    rng = RNG(6)
    labs = np.repeat(list("pqr"), 4)
    families = [f"{lab}/{i}" for i, lab in enumerate(labs)]
    geometry, scale = rng.normal(size=(2, 12))
    blocks = {
        "heritage": (indicator(labs), PENALTY),
        "geometry": (geometry[:, None], 0.0),
        "scale": (scale[:, None], 0.0),
    }
    for planted, y in (("geometry", geometry), ("heritage", np.repeat([-1.0, 0.0, 1.0], 4))):
        reductions, baseline = predictive_shares(y + 0.1 * rng.normal(size=12), blocks, families)
        means = {name: float(values.mean()) for name, values in reductions.items()}
        assert max(means, key=lambda name: means[name]) == planted
        assert means[planted] > 0.6 * baseline.mean()
    full = baseline - sum(reductions.values())
    assert (full >= -1e-9).all()  # what is left is the error with every block, family by family


def test_the_spread_of_few_models_is_covered():
    """A bootstrap over eight misses it in one of three cases."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):
        values = rng.normal(0, 2, 8)
        found = jackknife_interval(8, lambda kept, v=values: float(np.log(v[kept].std(ddof=1))))
        covered.append(found.low <= np.log(2) <= found.high)
    assert np.mean(covered) > 0.88
    with pytest.raises(Undecidable, match="takes 6"):
        jackknife_interval(5, lambda kept: 0.0)
