"""The runs behind the figure of gravity, as the configuration has them."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tgn import config
from tgn.models import sizes
from tgn.training import plan
from tgn.training.run import matched

ROOT = Path(__file__).parents[3]
CONFIG = config.load("laptop", ROOT)
LANGUAGE, GRAVITY = CONFIG["language_model"], CONFIG["gravity"]


def runs(**changed):
    return plan.gravity_runs(LANGUAGE, {**GRAVITY, **changed})


def test_every_arm_has_its_seeds_under_its_own_name():
    wanted = {
        f"gravity-{arm}-{seed}"
        for arm, settings in GRAVITY["arms"].items()
        for seed in range(settings.get("seeds", 1))
    }
    assert set(runs()) == wanted
    others = plan.runs(LANGUAGE) | plan.convergence_runs(LANGUAGE, CONFIG["convergence"])
    assert not set(runs()) & set(others)


def test_an_arm_that_is_null_is_left_out():
    arms = {**GRAVITY["arms"], "no_radius": None}
    fewer = config.without_null_arms({"arms": arms})
    assert set(runs()) - set(runs(**fewer)) == {"gravity-no_radius-0"}


def test_arms_that_claims_compare_are_trained():
    claims = yaml.safe_load((ROOT / "config/claims.yaml").read_text())
    arms = {run["arm"] for run in runs().values()}
    compared = {
        arm
        for claim in claims
        if claim["least_scale"] == "laptop"
        for name in (*claim["statistics"], *claim.get("beside", ()))
        if (pair := re.fullmatch(r"gravity\.(\w+)_minus_(\w+)", name))
        for arm in pair.groups()
    }
    assert compared - {"unigram"}
    assert compared - {"unigram"} <= arms


def test_ablations_differ_from_what_they_change_in_one_thing():
    planned = runs()
    base = planned["gravity-gravity-0"]
    for arm, key, value in (
        ("no_radius", "cutoff", "none"),
        ("hard_radius", "cutoff", "hard"),
        ("mass_in_value", "mass", "value"),
    ):
        run = planned[f"gravity-{arm}-0"]
        assert run["model"] == {**base["model"], key: value}
        assert run["penalty"] == base["penalty"] > 0
        assert run["training"] == base["training"]
    bare = planned["gravity-no_repulsion-0"]
    assert bare["penalty"] == 0
    assert bare["model"] == base["model"]


def test_the_screening_is_the_figures_arms_at_the_published_seed():
    planned = plan.gravity_screening(LANGUAGE, GRAVITY)
    arms = {run["arm"] for run in runs().values()}
    assert set(planned) == {f"gravity-{arm}-42" for arm in arms}
    for run in planned.values():
        assert run == {**runs()[f"gravity-{run['arm']}-0"], "seed": 42}


def test_every_published_run_is_an_arm_at_paper_scale_and_the_two_differ_in_one_thing():
    merged = config.load("paper", ROOT)
    planned = plan.gravity_runs(merged["language_model"], merged["gravity"])
    arms = {run["arm"]: run for run in planned.values()}
    published = pd.read_csv(ROOT / "config/gravity_published.csv")
    assert set(published["arm"]) <= set(arms)
    base, rarer, soft = (arms[f"published{end}"] for end in ("", "_interval_8", "_soft_cutoff"))
    assert base["training"]["optimizer"]["betas"] == [0.9, 0.999]
    assert rarer["training"] == {**base["training"], "penalty_every": 8}
    assert rarer["model"] == {**base["model"], "mass": "score"}
    assert soft["model"] == {**base["model"], "mass": "score", "cutoff": "soft"}
    assert soft["training"] == base["training"]
    assert soft["penalty"] == rarer["penalty"] == base["penalty"]


def test_all_read_the_same_tokens_for_as_many_steps():
    seen = {
        (run["text"], run["training"]["steps"], run["training"]["batch"], run["model"]["context"])
        for run in runs().values()
    }
    assert len(seen) == 1


def test_a_rate_is_chosen_or_taken_from_an_arm_that_chooses():
    swept = {run["arm"] for run in plan.gravity_sweep(LANGUAGE, GRAVITY).values()}
    for run in runs().values():
        assert run["rates_of"] in swept
        assert (run["rates_of"] == run["arm"]) == (run["arm"] in swept)
    assert {"vanilla", "published", "gravity"} <= swept


def test_the_sweep_is_shorter_and_has_seeds_of_its_own():
    swept = plan.gravity_sweep(LANGUAGE, GRAVITY)
    used = {(run["arm"], run["seed"]) for run in runs().values()}
    steps = GRAVITY["training"]["steps"]
    for run in swept.values():
        assert (run["arm"], run["seed"]) not in used
        assert run["training"]["steps"] == round(GRAVITY["sweep_fraction"] * steps)


def test_the_committed_rates_are_those_of_the_sweep():
    table = pd.read_csv(ROOT / GRAVITY["rates"])
    swept = plan.gravity_sweep(LANGUAGE, GRAVITY).values()
    assert set(zip(table["arm"], table["rate"], strict=True)) == {
        (run["arm"], run["rate"]) for run in swept
    }
    for _, rows in table.groupby("arm"):
        best = rows[rows["best"]]
        assert len(best) == 1
        assert best["validation_nats"].item() == rows["validation_nats"].min()


def test_a_text_of_its_own_is_read_from_its_own_folder():
    assert {run["text"] for run in runs().values()} == {"language_model"}
    assert {run["text"] for run in runs(text=LANGUAGE["text"]).values()} == {"gravity"}


@pytest.mark.parametrize("arm", ["vanilla", "published"])
def test_matched_arms_have_as_many_parameters_as_gravity(arm):
    counted = {}
    for name in (arm, "gravity"):
        run = runs()[f"gravity-{name}-0"]
        config = matched({"vocabulary": 4096, **run["model"]}, run["match"])
        counted[name] = sizes.parameters(config)
    assert counted[arm] == pytest.approx(counted["gravity"], rel=sizes.TOLERANCE)
