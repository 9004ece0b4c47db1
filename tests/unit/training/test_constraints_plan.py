"""The controlled family behind the figure of constraints, as the configuration has it."""

from pathlib import Path

import pytest

from tgn import config
from tgn.models.config import ModelConfig
from tgn.training import plan

ROOT = Path(__file__).parents[3]
CONFIG = config.load("laptop", ROOT)
LANGUAGE, CONSTRAINTS = CONFIG["language_model"], CONFIG["constraints"]
FAMILY = CONSTRAINTS["family"]


def runs(**changed):
    return plan.constraints_runs(LANGUAGE, {"family": {**FAMILY, **changed}})


def test_every_design_has_its_seeds_under_a_name_that_no_other_figure_has():
    designs = ["base"] + [
        f"{measure}_{value}" for measure, values in FAMILY["varied"].items() for value in values
    ]
    wanted = {f"constraints-{name}-{seed}" for name in designs for seed in range(FAMILY["seeds"])}
    assert set(runs()) == wanted
    others = plan.runs(LANGUAGE) | plan.convergence_runs(LANGUAGE, CONFIG["convergence"])
    assert not wanted & set(others)


def test_a_design_differs_from_the_base_in_one_measure_and_in_nothing_else():
    planned = runs()
    base = planned["constraints-base-0"]
    assert base["model"]["mixer"] == "attention"
    for name, run in planned.items():
        differs = {key for key in base["model"] if run["model"][key] != base["model"][key]}
        assert run["model"].keys() == base["model"].keys()
        assert differs == (set() if "base" in name else {name.split("-")[1].split("_")[0]})
        same = {"arm", "model", "seed"}
        assert {k: v for k, v in run.items() if k not in same} == {
            k: v for k, v in base.items() if k not in same
        }


def test_all_read_as_many_tokens_at_one_rate_and_pay_no_penalty():
    for run in runs().values():
        assert run["rate"] == FAMILY["rate"]
        assert run["penalty"] == 0
        assert run["match"] is run["start"] is None


def test_the_family_spans_the_depths_and_has_seeds():
    """Three values of a measure are the least from which an effect is read."""
    depths = {run["model"]["depth"] for run in runs().values()}
    assert {min(depths), max(depths)} == {2, 12}
    for values in FAMILY["varied"].values():
        assert len(values) >= 2
    assert FAMILY["seeds"] >= 2
    assert min(run["model"]["context"] for run in runs().values()) >= 128


@pytest.mark.parametrize("name", sorted(runs()))
def test_every_design_is_a_model(name):
    config = ModelConfig.from_dict({"vocabulary": 4096, **runs()[name]["model"]})
    assert config.mlp_width == 4 * config.width
