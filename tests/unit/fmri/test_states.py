"""Tests within subject: exact small cases, peers, planted effects, and how often nulls reject."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tgn.fmri import states

STATES = ("awake", "light", "deep", "recovery")
DIFFERENCES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=9).map(
    np.array
)


def rng(seed=0):
    return np.random.default_rng(seed)


def long(table, fd=None):
    """A long table of an array (subjects, states)."""
    fd = np.full(table.shape, 0.1) if fd is None else fd
    return pd.DataFrame(
        [
            {"subject": f"{s:02}", "state": state, "rank": table[s, k], "fd": fd[s, k]}
            for s in range(len(table))
            for k, state in enumerate(STATES)
        ]
    )


# --- wide tables


def test_subjects_without_every_state_are_left_out():
    rows = long(np.arange(12.0).reshape(3, 4)).drop(index=1)
    table = states.wide(rows, STATES)
    assert list(table.index) == ["01", "02"]
    assert list(table.columns) == list(STATES)


def test_a_doubled_an_absent_and_a_missing_number_are_errors():
    rows = long(np.arange(8.0).reshape(2, 4))
    with pytest.raises(ValueError, match="more than one rank"):
        states.wide(pd.concat([rows, rows.head(1)]), STATES)
    with pytest.raises(ValueError, match=r"no subject has the states \['coma'\]"):
        states.wide(rows, ["awake", "coma"])
    with pytest.raises(ValueError, match="not finite"):
        states.wide(rows.assign(rank=[np.nan, *range(7)]), STATES)


# --- sign flips


@given(DIFFERENCES)
def test_the_p_value_is_that_of_all_sign_patterns(d):
    sums = np.array([np.dot(s, d) for s in itertools.product([1, -1], repeat=len(d))])
    expected = np.mean(np.abs(sums) >= abs(d.sum()) - 1e-9)
    assert states.sign_flip_test(d).p == pytest.approx(expected)


def test_the_p_value_agrees_with_scipy():
    d = rng(3).normal(0.4, 1, 12)
    peer = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert states.sign_flip_test(d).p == pytest.approx(peer.pvalue)


@given(DIFFERENCES, st.floats(0.1, 1000))
def test_the_p_value_knows_neither_unit_nor_sign(d, scale):
    p = states.sign_flip_test(d).p
    assert states.sign_flip_test(-d).p == pytest.approx(p)
    assert states.sign_flip_test(scale * d).p == pytest.approx(p)


def test_seventeen_subjects_of_one_sign_have_the_smallest_p():
    found = states.sign_flip_test(1 + rng().random(17))
    assert found.p == 2 / 2**17
    assert (found.flips, found.exhaustive) == (2**17, True)


def test_more_units_than_can_be_enumerated_are_sampled_to_the_same_p():
    d = rng(5).normal(0.3, 1, 20)
    exact = states.sign_flip_test(d).p
    padded = np.append(d, 0.0)  # 21 units; flipping a zero changes nothing
    sampled = states.sign_flip_test(padded, rng=rng(1))
    assert not sampled.exhaustive
    assert sampled.p == pytest.approx(exact, abs=4 * math.sqrt(exact / states.SAMPLES))
    with pytest.raises(ValueError, match="give rng"):
        states.sign_flip_test(padded)


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [[1.0, 2.0]]])
def test_what_is_no_list_of_differences_is_refused(bad):
    with pytest.raises(ValueError, match=r"dimension|finite"):
        states.sign_flip_test(bad)


@given(
    st.lists(st.integers(-50, 50), min_size=6, max_size=10).map(lambda x: np.array(x, dtype=float)),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
)
def test_the_interval_excludes_a_shift_exactly_if_the_test_rejects_it(d, level):
    interval = states.sign_flip_interval(d, level=level)
    for shift in [0.0, interval.low - 0.013, interval.high + 0.013, interval.value]:
        rejected = states.sign_flip_test(d - shift).p <= 1 - level + 1e-12
        assert rejected == (not interval.low <= shift <= interval.high)


def test_too_few_units_have_no_interval():
    assert states.sign_flip_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert states.sign_flip_interval(range(1, 11), level=0.999) is None
    assert states.sign_flip_interval(range(1, 12), level=0.999) is not None


def test_the_interval_covers_the_truth_at_its_level():
    draws = rng(7).normal(0.5, 1, (400, 10))
    intervals = [states.sign_flip_interval(d) for d in draws]
    covered = np.mean([i.low <= 0.5 <= i.high for i in intervals])
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 400)


def test_a_null_is_rejected_no_more_often_than_promised_and_an_effect_is_found():
    """Also with skewed pairs: the difference of two exchangeable numbers is symmetric."""
    skewed = rng(11).exponential(1, (2, 600, 12))
    null = np.mean([states.sign_flip_test(d).p <= 0.05 for d in skewed[0] - skewed[1]])
    assert null < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    # dz at 80 % power by the t test
    effect = rng(12).normal(states.detectable(12), 1, (400, 12))
    found = np.mean([states.sign_flip_test(d).p <= 0.05 for d in effect])
    assert found == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / 400) + 0.02)


# --- effect size, Holm, power


def test_the_effect_size_has_an_interval_around_it_unless_units_are_few():
    d = rng(1).normal(1, 1, 17)
    size = states.effect_size(d, rng=rng(), resamples=500)
    assert size.low < size.value < size.high
    assert size.value == pytest.approx(d.mean() / d.std(ddof=1))
    assert states.effect_size(d[:7], rng=rng()) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).map(np.array))
@settings(max_examples=10, deadline=None)  # statsmodels takes a twentieth of a second a call
def test_holm_lies_between_the_raw_and_the_bonferroni_values(p):
    adjusted = states.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert adjusted.min() == pytest.approx(min(1, len(p) * p.min()))


def test_power_at_seventeen_subjects():
    anchors = {(0.8, 1): 0.72, (0.9, 1): 0.84, (0.8, 3): 0.86, (0.8, 6): 0.95}
    for (target, tests), dz in anchors.items():
        assert states.detectable(17, target=target, tests=tests) == pytest.approx(dz, abs=0.005)
    assert states.power(0.33, 17) == pytest.approx(0.25, abs=0.01)


@given(st.integers(8, 60), st.floats(0.5, 0.95), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_power_and_detectable_effect_are_inverse(units, target, tests):
    dz = states.detectable(units, target=target, tests=tests)
    assert states.power(dz, units, alpha=0.05 / tests) == pytest.approx(target, abs=1e-6)


def test_power_of_too_few_units_is_an_error():
    with pytest.raises(ValueError, match="from 8 on"):
        states.detectable(5)


# --- trends


def test_a_perfect_order_has_the_largest_trend():
    table = np.tile([3.0, 2.0, 1.0], (5, 1)) + np.arange(5)[:, None]
    trend = states.page_trend(table, [2, 1, 0], rng=rng())
    assert trend.value == 1
    assert trend.statistic == 5 * 14
    assert trend.p == pytest.approx(6**-5)  # one order of six in each subject
    assert trend.interval is None
    assert states.page_trend(table, [0, 1, 2], rng=rng()).value == -1


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_the_trend_is_the_mean_of_spearmans_correlations_and_rescales_l(seed):
    table = rng(seed).normal(size=(9, 4))
    trend = states.page_trend(table, [0, 1, 2, 3], rng=rng(), resamples=50)
    spearman = [stats.spearmanr(row, range(4)).statistic for row in table]
    assert trend.value == pytest.approx(np.mean(spearman))
    # Page (1963), equation 3
    assert trend.value == pytest.approx(12 * trend.statistic / (9 * 4 * 15) - 5)


def test_page_rejects_nulls_no_more_often_than_promised():
    tables = rng(2).normal(size=(300, 8, 3))
    p = [states.page_trend(t, [0, 1, 2], rng=rng(), resamples=2).p for t in tables[:, :7]]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_an_order_must_name_every_column_once():
    with pytest.raises(ValueError, match="not an order"):
        states.page_trend(np.ones((3, 3)), [0, 1, 1], rng=rng())


def test_repeated_measures_correlation_is_that_of_the_analysis_of_covariance():
    """Subject dummies and a common slope, by statsmodels: r**2 = SS / (SS + SS of error)."""
    from statsmodels.regression.linear_model import OLS

    draws = rng(4)
    x = np.tile([0.0, 1.0, 3.0, 0.0], (9, 1))
    y = 5 * draws.normal(size=(9, 1)) - 0.4 * x + draws.normal(size=(9, 4))
    found = states.repeated_measures_correlation(x, y, rng=rng(), resamples=200)
    dummies = np.repeat(np.eye(9), 4, axis=0)
    full = OLS(y.ravel(), np.column_stack([dummies, x.ravel()])).fit()
    least = OLS(y.ravel(), dummies).fit()
    size = math.sqrt((least.ssr - full.ssr) / least.ssr)
    assert found.value == pytest.approx(math.copysign(size, full.params[-1]))
    assert found.freedom == full.df_resid
    assert found.p == pytest.approx(full.pvalues[-1])
    assert found.interval.low < found.value < found.interval.high


@given(st.integers(0, 10_000), st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_repeated_measures_correlation_ignores_levels_of_subjects_and_units(seed, scale):
    draws = rng(seed)
    x, y = draws.normal(size=(2, 5, 4))
    value = states.repeated_measures_correlation(x, y, rng=rng()).value
    moved = scale * y + 100 * draws.normal(size=(5, 1))
    again = states.repeated_measures_correlation(x, moved, rng=rng()).value
    assert again == pytest.approx(value, abs=1e-9)
    assert -1 <= value <= 1


def test_repeated_measures_correlation_needs_two_measures_that_change():
    with pytest.raises(ValueError, match="y does not change"):
        states.repeated_measures_correlation(np.eye(3), np.ones((3, 3)), rng=rng())
    with pytest.raises(ValueError, match="not paired"):
        states.repeated_measures_correlation(np.eye(3), np.eye(4), rng=rng())


def test_repeated_measures_correlation_rejects_nulls_at_its_level():
    x = np.tile([0.0, 1.0, 3.0, 0.0], (7, 1))
    draws = rng(9).normal(size=(600, 7, 4))
    p = [states.repeated_measures_correlation(x, y, rng=rng()).p for y in draws]
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 600)


# --- the mixed model


def test_without_a_covariate_the_contrast_is_that_of_two_way_analysis_of_variance():
    """Balanced data with real variance between subjects: the paired differences and one error."""
    draws = rng(6)
    table = 3 * draws.normal(size=(10, 1)) + draws.normal(size=(10, 4)) - [0, 1, 2, 0]
    fit = states.mixed_model(long(table))
    effect = fit.contrast("awake", "deep")
    residual = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    error = math.sqrt(2 / 10 * (residual**2).sum() / 27)
    assert (fit.converged, fit.singular, fit.remark) == (True, False, "")
    assert fit.freedom == 27
    assert any("never changes" in message for message in fit.messages)
    assert effect.value == pytest.approx((table[:, 0] - table[:, 2]).mean())
    assert effect.high - effect.value == pytest.approx(stats.t.ppf(0.975, 27) * error, rel=1e-3)
    assert effect.p == pytest.approx(2 * stats.t.sf(abs(effect.value) / error, 27), rel=0.02)


def test_an_effect_that_is_all_motion_is_taken_away_by_the_covariate():
    draws = rng(8)
    fd = 0.1 + 0.2 * draws.random((20, 4)) + [0, 0.1, 0.2, 0]
    table = 10 + draws.normal(size=(20, 1)) - 20 * fd + 0.3 * draws.normal(size=(20, 4))
    assert states.sign_flip_test(table[:, 0] - table[:, 2]).p < 0.001
    fit = states.mixed_model(long(table, fd))
    adjusted, motion = fit.contrast("awake", "deep"), fit.contrast("fd")
    assert adjusted.low < 0 < adjusted.high
    assert motion.low < -20 < motion.high


def test_subjects_that_do_not_differ_give_a_fit_that_is_called_singular():
    table = rng(0).normal(size=(12, 4))
    table -= table.mean(axis=1, keepdims=True)
    fit = states.mixed_model(long(table))
    assert fit.singular
    assert "singular" in fit.remark
    assert fit.messages


def test_a_subject_with_one_state_stays_in_the_model():
    draws = rng(1)
    rows = long(2 * draws.normal(size=(8, 1)) + draws.normal(size=(8, 4))).iloc[:-3]
    fit = states.mixed_model(rows)
    assert fit.subjects == 8
    assert fit.freedom == 29 - 8 - 4 + 1


def test_a_model_with_too_little_data_is_refused():
    rows = long(rng().normal(size=(4, 4)))
    with pytest.raises(ValueError, match="1 states and 4 subjects"):
        states.mixed_model(rows[rows["state"] == "deep"])
    with pytest.raises(ValueError, match="too few"):
        states.mixed_model(rows.groupby("subject").head(1).assign(state=list("aabb")))
    with pytest.raises(ValueError, match="no 'coma'"):
        states.mixed_model(rows).contrast("coma")


def test_the_mixed_model_rejects_nulls_at_its_level():
    draws = rng(21)
    p = []
    for _ in range(120):
        table = 1.5 * draws.normal(size=(12, 1)) + draws.normal(size=(12, 4))
        fit = states.mixed_model(long(table, 0.1 + 0.1 * draws.random((12, 4))))
        p.append(fit.contrast("awake", "deep").p)
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 120)
