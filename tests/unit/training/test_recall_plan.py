"""Which runs a section of the configuration plans."""

import pytest

from tgn.training import recall_plan

SECTION = {
    "task": {"vocab_size": 64, "random_non_queries": False},
    "train": [[16, 4], [32, 4, 3]],
    "test": [[16, 4], [32, 4], [48, 2]],
    "widths": [8, 16],
    "model": {"width": 8, "depth": 2, "heads": 1, "mlp_width": 8},
    "training": {"steps": 100, "batch": 64, "evaluate_every": 20},
    "penalty": 0.1,
    "rate_grid": [0.01, 0.001],
    "sweep_fraction": 0.3,
    "sweep_evaluate_every": 5,
    "sweep_seeds": 2,
    "seeds": 1,
    "arms": {
        "attention": {"model": {"mixer": "attention"}, "seeds": 2},
        "gru": {"model": {"mixer": "gru"}, "penalty": 0, "training": {"batch": 32}},
    },
}


def test_runs_are_arms_widths_and_seeds():
    runs = recall_plan.runs(SECTION)
    assert set(runs) == {
        "attention-0", "attention-1", "gru-0", "attention_d16-0", "attention_d16-1", "gru_d16-0",
    }  # fmt: skip
    assert runs["attention-1"]["model"] == {
        "vocabulary": 64, "context": 48, "width": 8, "depth": 2, "heads": 1, "mlp_width": 8,
        "mixer": "attention",
    }  # fmt: skip
    assert runs["gru_d16-0"]["model"]["mlp_width"] == 16
    assert runs["gru_d16-0"]["training"] == {"steps": 100, "batch": 32, "evaluate_every": 20}
    assert [runs[name]["penalty"] for name in ("attention-0", "gru-0")] == [0.1, 0]
    assert runs["attention-1"]["seed"] == 1
    assert all(run["rate"] is None for run in runs.values())


def test_tasks_have_their_weights():
    (first, second) = recall_plan.runs(SECTION)["gru-0"]["train_tasks"]
    assert first == {
        "kind": "recall", "vocab_size": 64, "random_non_queries": False, "input_seq_len": 16,
        "num_kv_pairs": 4,
    }  # fmt: skip
    assert second["weight"] == 3
    with pytest.raises(ValueError, match="too short"):
        recall_plan.tasks(SECTION | {"test": [[16, 5]]}, "test")


def test_the_sweep_has_seeds_of_its_own_and_reads_no_test_set():
    sweep = recall_plan.sweep(SECTION)
    assert set(sweep) == {
        f"{arm}-rate-{rate}-{seed}"
        for arm in ("attention", "gru", "attention_d16", "gru_d16")
        for rate in ("0.01", "0.001")
        for seed in (2, 3)
    }
    run = sweep["gru_d16-rate-0.001-3"]
    assert (run["arm"], run["seed"], run["rate"], run["test_tasks"]) == ("gru_d16", 3, 0.001, [])
    assert run["training"] == {"steps": 30, "batch": 32, "evaluate_every": 5}
    as_often = recall_plan.sweep(SECTION | {"sweep_evaluate_every": None})
    assert as_often["gru-rate-0.001-2"]["training"]["evaluate_every"] == 20
    assert not set(sweep) & set(recall_plan.runs(SECTION))
