"""Statistics of figure 5 on planted tables with a known truth."""

import numpy as np
import pandas as pd
import pytest

from tgn.claims import model_comparison
from tgn.spin_glass.analysis import (
    at_equal_updates,
    best_checkpoint,
    figure_statistics,
    fit_scaling,
    reference_energies,
    resampled_means,
    solution_times,
    summary,
    time_to_solution,
    with_residuals,
)

SIDES = np.array([4, 6, 8, 10, 12])


def traces(residual, *, sides=SIDES, n=40, checkpoints=(1.0, 2.0), scatter=0.01):
    """Tables with a mean `residual(arm, side)`, halved from the first checkpoint to the second."""
    rng = np.random.default_rng(0)
    rows = []
    for arm in ("tgn", "tempering", "langevin"):
        for side in sides:
            excess = np.maximum(residual(arm, side) + scatter * rng.standard_normal(n), 0)
            for number, seconds in enumerate(checkpoints):
                rows.append(
                    pd.DataFrame(
                        {
                            "arm": arm,
                            "disorder": "gaussian",
                            "side": side,
                            "sample": np.arange(n),
                            "checkpoint": number,
                            "seconds": seconds,
                            "updates": 1000 * seconds * (2 if arm == "tgn" else 1),
                            "energy": -1.7 + excess * (2 - number),
                            "acceptance": 0.1,
                        }
                    )
                )
    return pd.concat(rows, ignore_index=True)


def independent(table, energy=-1.7, found=1):
    keys = ["disorder", "side", "sample"]
    return table[keys].drop_duplicates().assign(energy=energy, found=found)


def statistics_of(table):
    residuals = with_residuals(table, reference_energies(table, independent(table)))
    records = figure_statistics(residuals, resamples=100, seed=0)
    return {record.id: record for record in records}


def test_planted_residuals_and_differences_are_found():
    excess = {"tgn": 0.02, "tempering": 0.05, "langevin": 0.3}
    found = statistics_of(traces(lambda arm, side: excess[arm], scatter=0.003))
    assert found["fig5.tgn_residual"].value == pytest.approx(0.02, abs=0.003)
    assert found["fig5.tgn_minus_tempering"].interval.high < 0
    assert found["fig5.tgn_minus_tempering"].value == pytest.approx(-0.03, abs=0.003)
    assert found["fig5.tgn_minus_langevin"].controls == ("langevin",)
    # At equal updates tgn is read at its first checkpoint, where it stands twice as high.
    equal = found["fig5.tgn_minus_tempering_equal_updates"]
    assert equal.value == pytest.approx(0.04 - 0.05, abs=0.003)


@pytest.mark.parametrize("slope", [0.0, 0.01])
def test_the_slope_of_the_residual_tells_a_constant_gap_from_a_growing_one(slope):
    found = statistics_of(traces(lambda arm, side: 0.1 + slope * (side - 4)))
    record = found["fig5.tgn_residual_slope"]
    assert record.interval.low < slope < record.interval.high
    assert (record.interval.low > 0) == (slope > 0)


def counts(log_tau, n=512, rng=None):
    """Samples of n solved in a run of length 1."""
    p = -np.expm1(-np.exp(-log_tau))
    return n * p if rng is None else rng.binomial(n, p)


def test_growth_laws_are_recovered():
    exponential = fit_scaling(SIDES, 1.0, counts(-4 + 0.6 * SIDES), 512)
    assert exponential.exponential_rate == pytest.approx(0.6, abs=1e-3)
    assert exponential.aic_difference < -6
    power = fit_scaling(SIDES, 1.0, counts(-5 + 3.0 * np.log(SIDES)), 512)
    assert power.power == pytest.approx(3.0, abs=1e-3)
    assert power.aic_difference > 6


def test_runs_of_different_length_are_put_on_one_scale():
    log_tau = -4 + 0.6 * SIDES
    seconds = np.array([0.1, 0.5, 1.0, 3.0, 20.0])
    fit = fit_scaling(SIDES, seconds, counts(log_tau - np.log(seconds)), 512)
    assert fit.exponential_rate == pytest.approx(0.6, abs=1e-3)


def test_many_fits_at_once_are_those_one_by_one():
    rng = np.random.default_rng(0)
    solved = np.stack([counts(-4 + 0.6 * SIDES, rng=rng) for _ in range(5)])
    together = fit_scaling(SIDES, 1.0, solved, 512)
    alone = [fit_scaling(SIDES, 1.0, row, 512).aic_difference for row in solved]
    assert together.aic_difference == pytest.approx(alone, abs=1e-5)
    assert np.ptp(alone) > 0.1


def test_sizes_without_a_solution_are_bounds_and_do_not_bend_the_fit():
    solved = counts(-5 + 1.2 * SIDES, rng=np.random.default_rng(0))
    assert solved[-1] == 0
    assert solved[0] > 300
    assert fit_scaling(SIDES, 1.0, solved, 512).exponential_rate == pytest.approx(1.2, abs=0.15)
    all_or_none = fit_scaling(SIDES, 1.0, [50, 50, 50, 0, 0], 50)
    assert all(np.isfinite(part).all() for part in all_or_none)
    assert all_or_none.exponential_rate > 0
    nothing = fit_scaling(SIDES, 1.0, [0] * 5, 50)
    assert nothing.aic_difference == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("law", "verdict"), [("power", "reproduced"), ("exp", "not reproduced")])
def test_freezing_is_decided_by_the_growth_of_the_time_to_solution(law, verdict):
    rng = np.random.default_rng(0)
    log_tau = -5 + 3.0 * np.log(SIDES) if law == "power" else -4 + 0.6 * SIDES
    table = []
    for side, tau in zip(SIDES, np.exp(log_tau), strict=True):
        when = rng.exponential(tau, size=2000)
        for number, seconds in enumerate((0.5, 1.0)):
            table.append(
                pd.DataFrame(
                    {
                        "arm": "tgn",
                        "disorder": "gaussian",
                        "side": side,
                        "sample": np.arange(2000),
                        "checkpoint": number,
                        "seconds": seconds,
                        "updates": 1.0 + number,
                        "energy": np.where(when < seconds, -1.7, -1.6),
                        "acceptance": 0.1,
                    }
                )
            )
    record = statistics_of(pd.concat(table))["fig5.tgn_tts_aic_exponential_minus_power"]
    assert model_comparison([record]).verdict == verdict


def test_times_to_solution():
    assert time_to_solution(2.0, 0.5) == pytest.approx(2 * np.log(0.01) / np.log(0.5))
    assert best_checkpoint([1, 2, 4], [0.0, 0.0, 0.0]) == 2
    assert best_checkpoint([1, 2, 4], [[0.0, 0.9, 0.9], [0.5, 0.7, 0.9]]).tolist() == [1, 0]
    residuals = traces(lambda arm, side: 0.0, scatter=0.0)
    residuals = with_residuals(residuals, reference_energies(residuals))
    times = solution_times(residuals, resamples=20, seed=0)
    assert (times[["tts", "ci_low", "ci_high"]] == 1.0).all(axis=None)
    assert (times["solved"] == 40).all()


def test_references_are_the_pooled_best_and_flagged_if_found_once():
    table = traces(lambda arm, side: {"tgn": 0.0, "tempering": 0.0, "langevin": 0.1}[arm], n=3)
    table.loc[table["arm"] == "tempering", "energy"] += 0.05
    alone = reference_energies(table)
    found_twice = (
        table[table["arm"] == "tgn"].groupby(["side", "sample"])["energy"].min().to_numpy()
    )
    assert alone["energy"].to_numpy() == pytest.approx(found_twice)
    assert not alone["converged"].any()
    assert not with_residuals(table, alone)["solved"].any()  # no arm is its own yardstick
    both = reference_energies(table, independent(table, energy=alone["energy"].min()))
    assert (both["energy"] == alone["energy"].min()).all()
    with pytest.raises(ValueError, match="pool"):
        with_residuals(table, alone.assign(energy=alone["energy"] + 0.01))
    with pytest.raises(ValueError, match="lacks"):
        with_residuals(table, alone.iloc[1:])


def test_two_long_runs_that_agree_have_converged_and_one_has_not():
    table = traces(lambda arm, side: 0.1, n=3)
    for found in (1, 2):
        reference = reference_energies(table, independent(table, energy=-1.9, found=found))
        assert (reference["energy"] == -1.9).all()
        assert (reference["converged"] == (found == 2)).all()


def test_an_independent_run_on_other_samples_adds_none():
    table = traces(lambda arm, side: 0.0, n=3)
    more = independent(table)
    extra = pd.concat([more, more.assign(sample=more["sample"] + 100)])
    assert len(reference_energies(table, extra)) == len(more)


def test_the_summary_has_a_row_for_every_checkpoint():
    table = traces(lambda arm, side: 0.02)
    curves = summary(
        with_residuals(table, reference_energies(table, independent(table))), resamples=50, seed=0
    )
    assert len(curves) == 3 * 5 * 2
    assert (curves["ci_low"] <= curves["residual"]).all()
    assert (curves["residual"] <= curves["ci_high"]).all()
    assert curves["success"].between(0, 1).all()
    assert (curves["success_high"] - curves["success_low"] > 0.01).all()


def test_a_share_of_none_solved_is_not_known_exactly():
    found = statistics_of(traces(lambda arm, side: 0.02))["fig5.tgn_success"]
    assert (found.value, found.ci_low) == (0, 0)
    assert found.ci_high == pytest.approx(1.96**2 / (found.n + 1.96**2), rel=1e-3)  # Wilson's


def test_equal_updates_reads_the_faster_arm_earlier():
    table = traces(lambda arm, side: 0.1, sides=[4])
    rows = at_equal_updates(table, "tgn", "tempering").set_index("sample")
    for arm, checkpoint in (("tgn", 0), ("tempering", 1)):  # TGN makes twice the updates a second
        there = table[(table["arm"] == arm) & (table["checkpoint"] == checkpoint)]
        assert rows[rows["arm"] == arm]["energy"].to_numpy() == pytest.approx(there["energy"])


def test_equal_updates_interpolates_in_the_logarithm():
    table = pd.DataFrame(
        {
            "arm": ["a", "a", "b"], "sample": 0, "checkpoint": [0, 1, 1],
            "updates": [100.0, 400.0, 200.0], "energy": [-1.0, -2.0, -1.2],
        }
    )  # fmt: skip
    rows = at_equal_updates(table, "a", "b").set_index("arm")["energy"]
    assert rows["a"] == pytest.approx(-1.5)
    assert rows["b"] == -1.2


def test_bad_input_to_the_fit_is_named():
    with pytest.raises(ValueError, match="sides"):
        fit_scaling(SIDES[:3], 1.0, [1, 1, 1], 2)
    with pytest.raises(ValueError, match="solved"):
        fit_scaling(SIDES, 1.0, [3] * 5, 2)
    with pytest.raises(ValueError, match="seconds"):
        fit_scaling(SIDES, 0.0, [1] * 5, 2)


def test_bootstrap_means_scatter_like_the_error_of_the_mean():
    values = np.random.default_rng(0).standard_normal((400, 2)) * [1.0, 3.0]
    means = resampled_means(values, 4000, np.random.default_rng(1))
    assert means.shape == (4000, 2)
    error = values.std(axis=0) / 20
    assert means.std(axis=0) == pytest.approx(error, rel=0.05)
    assert means.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.1 * error.min())
    assert resampled_means(values > 0, 10, np.random.default_rng(1)).shape == (10, 2)


def test_where_nothing_was_solved_the_time_to_solution_has_a_lower_bound():
    residuals = traces(lambda arm, side: 0.1)
    residuals = with_residuals(residuals, reference_energies(residuals, independent(residuals)))
    times = solution_times(residuals.assign(solved=False), resamples=20, seed=0)
    assert np.isinf(times[["tts", "ci_high"]]).all(axis=None)
    share = 1 - np.exp(times["seconds"] * np.log(0.01) / times["ci_low"])  # that would take so long
    assert ((1 - share) ** times["n"]).to_numpy() == pytest.approx(0.025)
