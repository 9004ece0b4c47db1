"""The runs behind figures 21 and 22 are planned from one section of the configuration."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tgn import config
from tgn.training import plan
from tgn.training.run import best_rate, choose_rates

ROOT = Path(__file__).parents[3]
CONFIG = config.load("laptop", ROOT)
SECTION, CONVERGENCE = CONFIG["language_model"], CONFIG["convergence"]


def test_every_arm_has_its_seeds():
    runs = plan.runs(SECTION)
    for arm, settings in SECTION["arms"].items():
        seeds = [
            run["seed"] for name, run in runs.items() if name in {f"{arm}-{k}" for k in range(9)}
        ]
        assert seeds == list(range(settings.get("seeds", 1)))


def test_runs_of_the_penalty_differ_in_nothing_else():
    runs = plan.runs(SECTION)
    for penalty in SECTION["penalties"]:
        varied = dict(runs[f"tgn-penalty-{penalty:g}-0"])
        assert varied.pop("penalty") == penalty
        assert varied == {k: v for k, v in runs["tgn-0"].items() if k != "penalty"}


def test_ramps_go_up_and_down_and_meet_each_penalty_twice():
    runs = plan.runs(SECTION)
    for name in SECTION["ramps"]:
        ramp = runs[f"tgn-ramp-{name}-0"]
        steps, every = ramp["training"]["steps"], ramp["training"]["evaluate_every"]
        assert ramp["start"] == "tgn-0"
        assert steps % every == 0
        assert steps // every % 2 == 0  # one evaluation is at the top
        (_, low), (middle, high), (_, end) = ramp["penalty"]
        assert (low, middle) == (end, 0.5)
        assert high / low == pytest.approx(SECTION["ramp_factor"] ** 2)
    flat, slow = runs["tgn-ramp-flat-0"], runs["tgn-ramp-slow-0"]
    assert {penalty for _, penalty in flat["penalty"]} == {SECTION["penalty"]}
    assert flat["training"] == slow["training"]


def test_matched_arms_name_the_model_they_equal():
    transformer = plan.runs(SECTION)["transformer-0"]
    assert transformer["match"]["parameters"]["mixer"] == "gated"
    assert transformer["model"]["mixer"] == "attention"


def test_the_sweep_has_seeds_of_its_own_and_shorter_runs():
    swept = plan.sweep(SECTION)
    assert len(swept) == len(SECTION["arms"]) * len(SECTION["rate_grid"])
    used = {(run["arm"], run["seed"]) for run in plan.runs(SECTION).values()}
    for run in swept.values():
        assert (run["arm"], run["seed"]) not in used
        assert run["training"]["steps"] == SECTION["sweep_fraction"] * SECTION["training"]["steps"]
        assert "validation" in run["training"]["evaluation"]["splits"]


def test_the_sweep_reads_the_validation_split_even_if_figures_read_no_whole_split():
    training = {**SECTION["training"], "evaluation": None}
    for run in plan.sweep({**SECTION, "training": training}).values():
        assert "validation" in run["training"]["evaluation"]["splits"]


def test_planning_leaves_the_configuration_as_it_was():
    before = yaml.safe_dump(SECTION)
    plan.runs(SECTION)
    plan.sweep(SECTION)
    convergence = yaml.safe_dump(CONVERGENCE)
    plan.convergence_runs(SECTION, CONVERGENCE)
    plan.convergence_sweep(SECTION, CONVERGENCE)
    assert yaml.safe_dump(CONVERGENCE) == convergence
    assert yaml.safe_dump(SECTION) == before


def other(**changes):
    """Figure 22 with another model or training than figure 21."""
    return {**CONVERGENCE, **changes}


OVERRIDES = [{"model": {"width": 256}}, {"training": {"batch": 8}}]


def test_a_run_of_both_figures_is_one_run():
    first, second = plan.runs(SECTION), plan.convergence_runs(SECTION, CONVERGENCE)
    common = set(first) & set(second)
    assert {"tgn-0", "tgn-1", "transformer-0", "recurrence-0", "tgn_published-0"} <= common
    for name in common:
        assert first[name] == second[name]
    assert not any("mamba" in name for name in first | plan.sweep(SECTION))


def test_every_arm_of_the_convergence_has_its_seeds():
    runs = plan.convergence_runs(SECTION, CONVERGENCE)
    for arm, settings in CONVERGENCE["arms"].items():
        seeds = [run["seed"] for run in runs.values() if run["arm"] == arm]
        assert seeds == list(range(settings.get("seeds", CONVERGENCE["seeds"])))


def test_runs_that_share_a_seed_read_the_same_windows_in_the_same_order():
    """Which windows are read is decided by the seed, the batch and the context."""
    runs = plan.convergence_runs(SECTION, CONVERGENCE).values()
    for key in ("steps", "batch"):
        assert len({run["training"][key] for run in runs}) == 1
    assert len({run["model"]["context"] for run in runs}) == 1


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: next(iter(override)))
def test_a_run_that_differs_is_no_run_of_figure_21(override):
    section = other(**override)
    planned = plan.convergence_runs(SECTION, section) | plan.convergence_sweep(SECTION, section)
    assert set(planned).isdisjoint(plan.runs(SECTION) | plan.sweep(SECTION))
    ((key, value),) = override.items()
    for run in planned.values():
        assert value.items() <= run[key].items()
        assert run["rates"] == "convergence" or run["rate"]
    sizes = [size for run in planned.values() if run["match"] for size in run["match"].values()]
    assert sizes
    if key == "model":
        assert {size["width"] for size in sizes} == {value["width"]}


def test_every_rate_is_chosen_once_and_by_the_sweep_that_the_run_names():
    for section in (CONVERGENCE, *(other(**override) for override in OVERRIDES)):
        sweeps = {
            "language_model": plan.sweep(SECTION),
            "convergence": plan.convergence_sweep(SECTION, section),
        }
        seeds = {}
        for name, sweep in sweeps.items():
            for run in sweep.values():
                seeds.setdefault((name, run["arm"]), set()).add(run["seed"])
        if plan.shares(section):
            assert set.isdisjoint(*({run["arm"] for run in s.values()} for s in sweeps.values()))
        for run in plan.convergence_runs(SECTION, section).values():
            used = seeds[run["rates"], run["arm"]]
            assert run["seed"] not in used or run["rates"] == "language_model"


@pytest.mark.parametrize("section", [SECTION, CONVERGENCE], ids=["figure 21", "figure 22"])
def test_the_kept_learning_rates_are_those_of_the_configured_sweep(section):
    table = pd.read_csv(ROOT / section["rates"])
    arms = set(section["arms"])
    if section is CONVERGENCE:
        arms -= set(SECTION["arms"])
    assert set(table["arm"]) == arms
    for arm, swept in table.groupby("arm"):
        assert swept["rate"].tolist() == sorted(section["rate_grid"])
        best = best_rate(ROOT / section["rates"], arm)
        assert best == swept.loc[swept["validation_nats"].idxmin(), "rate"]
        # a best rate at an end of the grid would ask for a wider one
        assert swept["rate"].min() < best < swept["rate"].max()


def test_rates_are_chosen_by_validation_loss_arm_by_arm(tmp_path):
    runs = {f"{arm}-{rate:g}": {"arm": arm, "rate": rate} for arm in "ab" for rate in (0.1, 0.2)}
    for name, nats in zip(runs, (50, 40, 30, 60), strict=True):
        (tmp_path / name).mkdir()
        found = {"validation": {"nats": nats, "tokens": 10}}
        (tmp_path / name / "evaluation.json").write_text(json.dumps(found))
    table = tmp_path / "rates.csv"
    choose_rates(
        evaluated=[tmp_path / name / "evaluation.json" for name in runs], runs=runs, table=table
    )
    assert (best_rate(table, "a"), best_rate(table, "b")) == (0.2, 0.1)
    with pytest.raises(ValueError, match="no learning rate for c"):
        best_rate(table, "c")
