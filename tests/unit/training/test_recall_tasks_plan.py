"""Which runs of the small recall tasks a section of the configuration plans."""

import copy

import pytest
from snakemake.utils import update_config

from tgn.models import sizes
from tgn.models.config import ModelConfig
from tgn.training import recall_tasks_plan as plan
from tgn.training.run import matched

SECTION = {
    "tasks": {
        "associative": {
            "task": {"vocab_size": 10},
            "train": [{"input_seq_len": 8}, {"input_seq_len": 12}],
            "validation": [{"input_seq_len": 12}],
            "test": [{"input_seq_len": 12, "max_distance": 5}],
            "model": {"vocabulary": 10, "context": 12, "rotary": False},
            "training": {"steps": 30},
            "penalty": 0.5,
        },
        "listops": {
            "task": {"input_seq_len": 24},
            "train": [{"max_depth": 2, "part": "train"}],
            "validation": [{"max_depth": 2, "part": "validation"}],
            "test": [{"max_depth": 1, "part": "test"}, {"max_depth": 2, "part": "test"}],
            "model": {"vocabulary": 16, "context": 24},
            "training": {"batch": 48},
            "penalty": 0.25,
        },
    },
    "model": {"width": 16, "depth": 2, "heads": 2},
    "training": {"steps": 10, "batch": 64},
    "rate_grid": [0.01, 0.1],
    "seeds": 1,
    "equal": "tgn",
    "arms": {
        "attention": {"model": {"mixer": "attention"}},
        "tgn": {"model": {"mixer": "gated", "inertial": "mingru"}, "seeds": 2},
        "late": {
            "model": {"mixer": "gated", "inertial": "mingru"},
            "penalty": [[0, 0], [1, 2]],
            "tasks": ["associative"],
        },
    },
}


def changed(**overlay):
    section = copy.deepcopy(SECTION)
    update_config(section, overlay)
    return section


def test_runs_are_tasks_arms_and_seeds():
    runs = plan.runs(SECTION)
    assert set(runs) == {
        "associative-attention-0", "associative-tgn-0", "associative-tgn-1", "associative-late-0",
        "listops-attention-0", "listops-tgn-0", "listops-tgn-1",
    }  # fmt: skip
    assert set(plan.by_task(runs, "listops")) == {k for k in runs if k.startswith("listops")}
    assert set(plan.gated(runs)) == {k for k in runs if "attention" not in k}
    late = runs["associative-late-0"]
    assert late["penalty"] == [[0, 0], [1, 2]]
    assert late["training"] == {"steps": 30, "batch": 64}
    assert runs["listops-tgn-1"]["penalty"] == 0.25
    assert runs["listops-tgn-1"]["training"] == {"steps": 10, "batch": 48}
    assert runs["listops-tgn-1"]["seed"] == 1


def test_tasks_are_lines_with_what_they_share():
    run = plan.runs(SECTION)["associative-tgn-0"]
    assert run["train_tasks"] == [
        {"kind": "associative", "vocab_size": 10, "input_seq_len": 8},
        {"kind": "associative", "vocab_size": 10, "input_seq_len": 12},
    ]
    assert run["test_tasks"][0]["max_distance"] == 5


def test_all_arms_have_the_parameters_of_one():
    runs = plan.runs(SECTION)
    assert runs["listops-tgn-0"]["match"] is None
    for task in plan.TASKS:
        counts = {
            sizes.parameters(matched(run["model"], run["match"]))
            for run in plan.by_task(runs, task).values()
        }
        equal = sizes.parameters(ModelConfig.from_dict(runs[f"{task}-tgn-0"]["model"]))
        assert all(abs(count / equal - 1) <= 0.02 for count in counts)


def test_the_sweep_has_a_seed_of_its_own_and_no_test():
    swept = plan.sweep(SECTION)
    assert len(swept) == 5 * 2
    assert {run["seed"] for run in swept.values()} == {2}
    assert {run["rate"] for run in swept.values()} == {0.01, 0.1}
    assert all(run["test_tasks"] == [] for run in swept.values())
    assert "listops-tgn-rate-0.1-2" in swept


def test_a_good_section_passes():
    plan.check(SECTION)


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"equal": "gru"}, "equal: 'gru' given; arms has attention, tgn, late"),
        ({"arms": {"tgn": {"seeds": 1}}}, "on associative one with gates needs 2 seeds"),
        (
            {"arms": {"tgn": {"seeds": 1}, "attention": {"seeds": 2}}},
            "on associative one with gates needs 2 seeds",
        ),
        ({"equal": "late"}, "late is not trained on listops"),
        (
            {"tasks": {"listops": {"train": [{"max_depth": 2}]}}},
            "listops.train: part must be train",
        ),
        (
            {"tasks": {"listops": {"test": [{"max_depth": 2, "part": "train"}]}}},
            "listops.test: part must be test",
        ),
        ({"tasks": {"listops": {"task": {"nested": 0.4}}}}, "nested 0.4: an operator"),
        ({"tasks": {"listops": {"task": {"vocab_size": 3}}}}, "listops.train: .*vocab_size"),
        (
            {"tasks": {"associative": {"model": {"context": 11}}}},
            "model.context: 11 given; the longest sequence has 12",
        ),
        (
            {"tasks": {"associative": {"task": {"vocab_size": 11}}}},
            "model.vocabulary: 10 given; the task has 11",
        ),
        (
            {"tasks": {"associative": {"test": [{"input_seq_len": 8}, {"input_seq_len": 9}]}}},
            "associative.test: sequences of one length",
        ),
        ({"training": {"batch": 11}}, "a batch of 11 tokens given; the longest .* has 12"),
    ],
)
def test_a_wrong_section_is_refused(overlay, message):
    with pytest.raises(ValueError, match=message):
        plan.check(changed(**overlay))
