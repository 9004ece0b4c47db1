"""Figure 14's statistics from small tables: planted effects are found, planted nulls are not."""

import math

import numpy as np
import pandas as pd
import pytest

from tgn.fmri.method_summary import bias_rows, bias_statistics, concordance, method_statistics
from tgn.fmri.model_summary import (
    course_statistics,
    course_table,
    expansion_statistics,
    expansion_table,
    lag_statistics,
    lag_table,
)
from tgn.fmri.records import Choice
from tgn.fmri.summary import (
    STATES,
    contrast_table,
    distance_table,
    realism_statistics,
    sensitivity_statistics,
    state_statistics,
    state_table,
    summarise,
)
from tgn.statistics import Statistic, read_statistics

CHOICE = Choice("default", "aal2", "pearson", 0)
DEPTH = {"awake": 2, "light": 3, "deep": 5, "recovery": 2}
LEVELS = {"awake": 30.0, "light": 27.0, "deep": 22.0, "recovery": 29.5}


def rng(seed=0):
    return np.random.default_rng(seed)


def common(seed=0):
    return {"rng": rng(seed), "resamples": 100}


def rank_rows(draws, subjects=12, levels=LEVELS, arm="default", noise=1.0, offset=None, window=0):
    """Ranks as the measuring job writes them; ``offset`` (subjects,) is kept by every arm."""
    offset = 2 * draws.normal(size=subjects) if offset is None else offset
    rows = [
        {
            "subject": f"{s + 1:02}",
            "state": state,
            "arm": arm,
            "atlas": "aal2",
            "definition": "pearson",
            "window": window,
            "rank": level + offset[s] + noise * draws.normal(),
            "cap": 94.0,
            "surrogate_same": level + offset[s],
            "surrogate_destroyed": 60 + draws.normal(),
            "fd": 0.1 + 0.05 * draws.random(),
            "volumes": 200,
            "parcels": 94,
        }
        for s in range(subjects)
        for state, level in levels.items()
    ]
    return pd.DataFrame(rows)


def cohort(draws):
    """All arms of one cohort: what subjects are like is shared, what is read off is not."""
    offset = 2 * draws.normal(size=12)
    blurred = {state: 15.0 for state in STATES}
    return pd.concat(
        [
            rank_rows(draws, offset=offset),
            rank_rows(draws, arm="gsr", offset=offset),
            rank_rows(draws, arm="as_published", offset=offset, levels=blurred, noise=4.0),
            rank_rows(draws, arm="truth", offset=offset, noise=0.2),
            rank_rows(draws, offset=offset, window=60).assign(rank=lambda rows: rows["rank"] / 2),
        ],
        ignore_index=True,
    )


def runs_in_silico(draws, gain=0.3, noise=0.05, people=12):
    grown = {"none": 0.0, "gain": gain, "noise": noise, "both": gain + noise}
    rows = []
    for person in range(people):
        for seed in range(2):
            level = 3 + 0.2 * draws.normal()
            for arm, effect in grown.items():
                for phase in ("before", "after"):
                    log_rank = level + effect * (phase == "after") + 0.03 * draws.normal()
                    rows.append(
                        {
                            "person": f"hcp-{person}",
                            "seed": seed,
                            "arm": arm,
                            "phase": phase,
                            "definition": "pearson",
                            "window": 0,
                            "rank": math.exp(log_rank),
                            "surrogate_destroyed": 70.0,
                            "exact": math.exp(3 + effect),
                        }
                    )
    return pd.DataFrame(rows)


def lead_lag_rows(draws, lead=20.0, people=10, arms=("ramp", "control")):
    lags = np.arange(-60.0, 61, 20)
    parts = []
    for person in range(people):
        for seed in range(2):
            for arm in arms:
                best = (lead if arm == "ramp" else 0) + 8 * draws.normal()
                shape = -0.6 * np.exp(-(((lags - best) / 30) ** 2)) + 0.1 * draws.normal(size=7)
                for measure in ("kuramoto", "mean_fc"):
                    parts.append(
                        pd.DataFrame({"lag_s": lags, "correlation": shape}).assign(
                            model="hopf",
                            unit=f"hcp-{person}-{seed}",
                            arm=arm,
                            measure=measure,
                            surrogate_low=-0.3,
                            surrogate_high=0.3,
                            permuted_low=-0.2,
                            permuted_high=0.2,
                            best_lag_s=best,
                            best_correlation=-0.6,
                            changed=arm == "ramp",
                            onset_lag_s=best if arm == "ramp" else np.nan,
                        )
                    )
    return pd.concat(parts, ignore_index=True)


def synchrony_rows(draws, people=10):
    """Rank falls by a third and synchrony rises by 0.2 in the middle of the ramp."""
    seconds = np.arange(0.0, 400, 20)
    parts = []
    for person in range(people):
        for seed in range(2):
            for arm in ("ramp", "control"):
                done = (seconds > 200) & (arm == "ramp")
                noise = 0.02 * draws.normal(size=(3, len(seconds)))
                parts.append(
                    pd.DataFrame(
                        {
                            "model": "whole-brain model",
                            "unit": f"hcp-{person}-{seed}",
                            "arm": arm,
                            "time_s": seconds,
                            "rank": (15 + person) * np.exp(math.log(2 / 3) * done + noise[0]),
                            "kuramoto": 0.4 + 0.2 * done + noise[1],
                            "mean_fc": 0.3 + 0.1 * done + noise[2],
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def distance_rows(draws, subjects=12):
    middles = [30.0, 60.0, 90.0, 120.0]
    kinds = [("bin", k, middle - 15, middle + 15, middle) for k, middle in enumerate(middles)]
    kinds += [("long", -1, 90.0, 140.0, 110.0), ("short", -1, 0.0, 90.0, 50.0)]
    kinds += [("slope", -1, 0.0, 140.0, 70.0)]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "subject": [f"{s + 1:02}" for s in range(subjects)],
                    "kind": kind,
                    "bin": place,
                    "low_mm": low,
                    "high_mm": high,
                    "distance_mm": middle,
                    "edges": 500,
                    "value": -0.001 * middle + 0.03 * draws.normal(size=subjects),
                    "null_low": -0.08,
                    "null_high": -0.05,
                    "null_p": 0.01,
                }
            )
            for kind, place, low, high, middle in kinds
        ],
        ignore_index=True,
    )


def bias_table(draws, subjects=12):
    rows = []
    plans = {"length": (60, 120, 200), "parcels": (20, 50, 94), "planted_motion": (0.0, 0.2, 0.4)}
    moves = {"length": 0.002, "parcels": 0.01, "planted_motion": -0.5}
    units = {"length": "volumes", "parcels": "parcels", "planted_motion": "mm"}
    for factor, levels in plans.items():
        for level in levels:
            for s in range(subjects):
                for state, base in LEVELS.items():
                    truth = base * math.exp(moves[factor] * (level - levels[-1]))
                    rows.append(
                        {
                            "factor": factor,
                            "level": float(level),
                            "unit": units[factor],
                            "subject": f"{s + 1:02}",
                            "state": state,
                            "definition": "pearson",
                            "rank": truth * math.exp(0.02 * draws.normal()),
                            "truth": truth,
                            "fd": 0.1,
                        }
                    )
    return pd.DataFrame(rows)


def real_people(draws):
    levels = {"awake": 33.0}
    return rank_rows(draws, arm="real", levels=levels).assign(site="hcp")


def by_name(records):
    """Records by id without the figure, each checked as a statistic."""
    about = {"model": "x", "evidence": "simulated"}
    return {fields["id"].removeprefix("fig14."): Statistic(**fields, **about) for fields in records}


# --- states


def test_a_planted_collapse_is_found_with_interval_effect_size_and_trend():
    found = by_name(state_statistics(rank_rows(rng(1)), DEPTH, **common()))
    fall = found["rank_awake_minus_deep"]
    assert 5 < fall.ci_low < 8 < fall.ci_high
    assert found["p_awake_deep"].value == 2 / 2**12
    assert found["p_awake_deep_holm"].value == 3 * 2 / 2**12
    assert found["rank_awake_minus_deep_999"].ci_low > 0
    assert found["dz_awake_deep"].value > 2
    assert found["rank_trend"].ci_low > 0.8
    assert found["rank_depth_correlation"].ci_high < -0.8
    assert found["share_falling"].value == 1
    equal_motion = found["rank_awake_minus_deep_at_equal_motion"]
    assert equal_motion.ci_low < 8 < equal_motion.ci_high
    recovery = found["rank_recovery_minus_awake"]
    assert abs(recovery.value) < 2
    assert found["log_surrogate_awake_minus_deep"].ci_low < 0.02


def test_the_strict_interval_excludes_zero_exactly_if_p_is_below_one_in_a_thousand():
    for seed in range(6):
        gap = 1.0 + 0.4 * (seed % 3)
        levels = LEVELS | {"deep": LEVELS["awake"] - gap}
        found = by_name(state_statistics(rank_rows(rng(seed), levels=levels), DEPTH, **common()))
        excluded = found["rank_awake_minus_deep_999"].ci_low > 0
        assert excluded == (found["p_awake_deep"].value <= 0.001)


def test_states_alike_are_no_collapse():
    levels = dict.fromkeys(STATES, 25.0)
    found = by_name(state_statistics(rank_rows(rng(3), levels=levels), DEPTH, **common()))
    for name in ("rank_awake_minus_deep", "rank_trend", "rank_awake_minus_deep_at_equal_motion"):
        assert found[name].ci_low < 0 < found[name].ci_high
    assert found["p_awake_deep_holm"].value > 0.05


def test_a_fall_that_spectra_alone_explain_is_taken_away():
    rows = rank_rows(rng(4), noise=0.1)
    rows["surrogate_destroyed"] = 2 * rows["rank"]
    found = by_name(state_statistics(rows, DEPTH, **common()))
    assert found["log_rank_awake_minus_deep"].ci_low > 0.2
    assert found["log_rank_awake_minus_deep_beyond_spectra"].value == pytest.approx(0, abs=1e-12)


def test_two_subjects_have_numbers_but_no_intervals():
    found = by_name(state_statistics(rank_rows(rng(5), subjects=2), DEPTH, **common()))
    assert found["rank_awake_minus_deep"].ci_low is None
    assert "too few" in found["rank_awake_minus_deep"].note
    assert found["rank_trend"].ci_low is None


def test_a_subject_without_every_state_counts_in_the_mixed_model_alone():
    rows = rank_rows(rng(6)).iloc[:-2]
    found = by_name(state_statistics(rows, DEPTH, **common()))
    assert found["rank_awake_minus_deep"].n == 11
    assert found["rank_awake_minus_deep_at_equal_motion"].n == 12


def test_other_arms_stand_beside_the_one_that_decides():
    found = by_name(sensitivity_statistics(cohort(rng(7)), CHOICE, rng=rng()))
    assert set(found) == {"rank_awake_minus_deep_gsr", "rank_awake_minus_deep_as_published"}
    assert found["rank_awake_minus_deep_gsr"].ci_low > 5
    published = found["rank_awake_minus_deep_as_published"]
    assert published.ci_low < 0 < published.ci_high


def test_the_table_of_states_keeps_every_subject_and_what_stands_beside():
    measured, people = cohort(rng(8)), real_people(rng(8))
    table = state_table(CHOICE.of(measured), CHOICE.of(measured, arm="truth"), people, **common())
    assert table["kind"].value_counts()["subject"] == 48
    means = table[table["kind"] == "mean"].set_index("state")
    expected = CHOICE.of(measured).groupby("state")["rank"].mean()
    assert means["value"].to_dict() == pytest.approx(expected.to_dict())
    assert means["value"].between(means["low"], means["high"]).all()
    assert set(table["kind"]) >= {"truth", "surrogate_same", "people", "person"}


def test_contrasts_cover_every_way_of_measuring_and_skip_what_lacks_a_state(caplog):
    measured = cohort(rng(9))
    lacking = measured[(measured["arm"] == "gsr") & (measured["state"] == "deep")].index
    with caplog.at_level("WARNING"):
        table = contrast_table(measured.drop(lacking), **common())
    assert set(table["arm"]) == {"default", "as_published", "truth"}
    assert "gsr" in caplog.text
    assert set(table.loc[table["arm"] == "default", "window"]) == {0, 60}
    fall = table[(table["arm"] == "truth") & (table["second"] == "deep")].iloc[0]
    assert fall["dz_low"] < fall["dz"] < fall["dz_high"]


# --- distance, real people


def test_bins_are_corrected_together():
    table = distance_table(distance_rows(rng(1)), rng=rng())
    bins = table[table["kind"] == "bin"]
    assert (bins["p_holm"] >= bins["p"]).all()
    assert bins["p_holm"].iloc[-1] < 0.05
    assert table.loc[table["kind"] != "bin", "p_holm"].isna().all()


def test_virtual_subjects_are_held_against_the_real_people_behind_them():
    (found,) = realism_statistics(rank_rows(rng(2)), real_people(rng(3)), **common())
    assert found["ci_low"] < math.log(30 / 33) < found["ci_high"]


# --- method


def test_the_order_of_true_ranks_is_recovered_by_the_arm_that_can():
    found = by_name(method_statistics(cohort(rng(1)), CHOICE, **common()))
    assert found["order_recovered_share"].value == 1
    assert found["truth_correlation"].ci_low > 0.8
    assert abs(found["log_rank_bias"].value) < 0.03
    lost = found["truth_correlation_as_published"]
    assert lost.ci_low < 0.3
    assert lost.value < found["truth_correlation"].ci_low
    assert found["log_rank_bias_as_published"].ci_high < -0.4


def test_the_method_is_judged_on_the_cohorts_own_atlas():
    here = method_statistics(cohort(rng(1)), CHOICE, **common())
    elsewhere = CHOICE._replace(atlas="schaefer-100")
    assert method_statistics(cohort(rng(1)), elsewhere, **common()) == here


def test_without_truth_there_is_no_judgement():
    assert method_statistics(pd.DataFrame(), CHOICE, **common()) == []
    with pytest.raises(ValueError, match="no arm 'truth'"):
        method_statistics(rank_rows(rng()), CHOICE, **common())


def test_unrelated_orders_agree_by_half():
    shares = concordance(*rng(1).normal(size=(2, 4000, 4)))
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert concordance(np.eye(3), np.eye(3)).tolist() == [1, 1, 1]


def test_a_planted_bias_is_recovered_in_size_and_its_contrast_is_none():
    found = by_name(bias_statistics(bias_rows(bias_table(rng(1)), "pearson"), rng=rng()))
    for name, size in (("length", -0.28), ("parcels", -0.74), ("planted_motion", -0.2)):
        assert found[f"bias_{name}"].ci_low < size < found[f"bias_{name}"].ci_high
        contrast = found[f"bias_{name}_contrast"]
        assert contrast.ci_low < 0 < contrast.ci_high
    assert "60 against 200 volumes" in found["bias_length"].note
    with pytest.raises(ValueError, match="no rank of sigma"):
        bias_rows(bias_table(rng(1)), "sigma")


# --- in silico


def test_what_the_drug_adds_to_the_noise_is_told_from_the_noise():
    table = expansion_table(runs_in_silico(rng(1)), "pearson", 0)
    found = by_name(expansion_statistics(table, rng=rng()))
    for name, size in (("gain", 0.3), ("noise", 0.05), ("both", 0.35), ("both_minus_noise", 0.3)):
        assert found[f"expansion_{name}"].value == pytest.approx(size, abs=0.05)
        assert found[f"expansion_{name}_exact"].value == pytest.approx(size)
        assert found[f"expansion_{name}"].n == 12
    assert found["expansion_none"].ci_low < 0 < found["expansion_none"].ci_high


def test_noise_alone_is_not_called_a_drug():
    table = expansion_table(runs_in_silico(rng(2), gain=0.0, noise=0.4), "pearson", 0)
    found = by_name(expansion_statistics(table, rng=rng()))
    assert found["expansion_both"].ci_low > 0.3
    for name in ("expansion_gain", "expansion_both_minus_noise"):
        assert found[name].ci_low < 0 < found[name].ci_high


def test_a_half_run_or_a_missing_arm_is_an_error():
    runs = runs_in_silico(rng(1))
    with pytest.raises(ValueError, match="one phase only"):
        expansion_table(runs.drop(index=0), "pearson", 0)
    with pytest.raises(ValueError, match=r"arms \['noise'\] are missing"):
        expansion_table(runs[runs["arm"] != "noise"], "pearson", 0)
    with pytest.raises(ValueError, match="window of 60"):
        expansion_table(runs, "pearson", 60)


def test_a_planted_lead_is_found_and_its_absence_too():
    found = by_name(lag_statistics(lead_lag_rows(rng(1)), **common()))
    assert found["lead_ramp"].ci_low < 20 < found["lead_ramp"].ci_high
    assert found["lead_ramp"].n == 10  # people, not their twenty runs
    assert found["lead_ramp_minus_control"].ci_low > 5
    assert found["onset_lead_ramp"].ci_low < 20 < found["onset_lead_ramp"].ci_high
    assert "onset_lead_control" not in found  # nothing changed there
    assert (found["changed_share_ramp"].value, found["changed_share_control"].value) == (1, 0)
    null = by_name(lag_statistics(lead_lag_rows(rng(2), lead=0.0), **common()))
    gap = null["lead_ramp_minus_control"]
    assert gap.ci_low < 0 < gap.ci_high


def test_subjects_runs_are_averaged_over_states():
    rows = lead_lag_rows(rng(3), arms=STATES)
    rows = rows[rows["unit"].str.endswith("-0")]
    rows = rows.assign(unit=rows["unit"].str.removesuffix("-0"))
    found = by_name(lag_statistics(rows, **common()))
    assert set(found) == {"lead_in_runs", "lead_in_runs_mean_fc"}
    assert found["lead_in_runs"].n == 10


def test_curves_of_lags_average_people_and_not_runs():
    rows = lead_lag_rows(rng(4))
    table = lag_table(rows, **common())
    ramp = table[(table["arm"] == "ramp") & (table["measure"] == "kuramoto")]
    assert set(ramp["n"]) == {10}
    assert ramp.loc[ramp["value"].idxmin(), "lag_s"] == 20
    assert (ramp["low"] <= ramp["value"]).all()


def test_a_fall_of_rank_and_a_rise_of_synchrony_have_their_signs():
    found = by_name(course_statistics(synchrony_rows(rng(1)), rng=rng()))
    assert found["ramp_log_rank_change"].value == pytest.approx(math.log(2 / 3), abs=0.02)
    assert found["ramp_log_rank_change"].ci_high < 0
    assert found["ramp_kuramoto_change"].value == pytest.approx(0.2, abs=0.02)
    assert found["ramp_kuramoto_change"].n == 10
    table = course_table(synchrony_rows(rng(1)), **common())
    end = table[(table["quantity"] == "kuramoto") & (table["time_s"] == 380)].set_index("arm")
    assert end["value"].to_dict() == pytest.approx({"ramp": 0.6, "control": 0.4}, abs=0.02)


# --- the job


def test_the_job_writes_every_table_and_the_same_statistics_twice(tmp_path, capsys):
    draws = rng(1)
    inputs = {
        "ranks": cohort(draws),
        "reference": real_people(draws),
        "runs": runs_in_silico(draws),
        "lead_lag": lead_lag_rows(draws),
        "synchrony": synchrony_rows(draws),
        "distance": distance_rows(draws),
        "bias": bias_table(draws),
    }
    path = {name: tmp_path / f"{name}.parquet" for name in inputs}
    for name, table in inputs.items():
        table.to_parquet(path[name])
    outputs = ("states", "contrasts", "expansion", "lags", "courses", "distances", "biases")

    def run(folder, **changed):
        folder.mkdir()
        arguments = {
            "ranks": path["ranks"],
            "validation": path["ranks"],
            "reference": path["reference"],
            "in_silico": [str(path["runs"])],
            "lead_lag": str(path["lead_lag"]),
            "synchrony": str(path["synchrony"]),
            "distance": path["distance"],
            "bias": path["bias"],
            "statistics": folder / "statistics.json",
            **{name: folder / f"{name}.parquet" for name in outputs},
            "data": "virtual cohort",
            "evidence": "simulated",
            **CHOICE._asdict(),
            "in_silico_window": 0,
            "depth": DEPTH,
            "resamples": 100,
            "seed": 14,
        }
        summarise(**arguments | changed)
        return folder

    first, second = run(tmp_path / "first"), run(tmp_path / "second")
    printed = capsys.readouterr().out
    assert "12 subjects:" in printed
    assert "17 subjects:\n  80 % power: dz 0.72" in printed
    for name in outputs:
        assert len(pd.read_parquet(first / f"{name}.parquet")) > 0
    assert (first / "statistics.json").read_bytes() == (second / "statistics.json").read_bytes()
    found = {record.id: record for record in read_statistics(first / "statistics.json")}
    assert found["fig14.rank_awake_minus_deep"].evidence == "simulated"
    assert found["fig14.real_rank_awake"].evidence == "real"
    assert found["fig14.expansion_gain"].model == "whole-brain model"
    real = run(tmp_path / "real", data="ds003171", evidence="real", validation=None, bias=None)
    found = {record.id: record for record in read_statistics(real / "statistics.json")}
    assert found["fig14.p_awake_deep"].evidence == "real"
    assert found["fig14.expansion_gain"].evidence == "simulated"
    assert "fig14.order_recovered_share" not in found
    assert "fig14.log_rank_awake_minus_real" not in found
    assert pd.read_parquet(real / "biases.parquet").empty
