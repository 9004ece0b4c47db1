"""The runs behind figures 21 and 22 are planned from one section of the configuration."""

from pathlib import Path

import pytest
import yaml

from tgn.training import plan

SECTION = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())["language_model"]


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


def test_planning_leaves_the_configuration_as_it_was():
    before = yaml.safe_dump(SECTION)
    plan.runs(SECTION)
    plan.sweep(SECTION)
    assert yaml.safe_dump(SECTION) == before
