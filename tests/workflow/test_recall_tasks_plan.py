"""What the small recall tasks train, at every scale."""

import copy
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from running import ROOT, snakemake
from snakemake.utils import update_config

from tgn.config import read_yaml, without_null_arms
from tgn.text import associative
from tgn.training import recall_tasks
from tgn.training import recall_tasks_plan as plan


def section(scale):
    config = copy.deepcopy(read_yaml(ROOT / "config.yaml"))
    if scale != "laptop":
        update_config(config, read_yaml(ROOT / f"config/scales/{scale}.yaml"))
    return without_null_arms(config)["recall_tasks"]


def trained(run):
    """Runs that a dry-run would train, by name."""
    assert run.returncode == 0, run.stderr[-3000:] + run.stdout[-3000:]
    said = run.stdout + run.stderr
    return set(re.findall(r"/recall_tasks/([a-z0-9_.-]+)/model\.safetensors", said))


def test_the_laptop_trains_each_arm_and_sweeps_nothing(checkout):
    planned = trained(snakemake(checkout, "-n", "results/recall_tasks.pdf"))
    laptop = section("laptop")
    assert planned == set(plan.runs(laptop))
    for task in plan.TASKS:
        swept = trained(snakemake(checkout, "-n", f"results/recall_tasks/{task}_rates.csv"))
        assert swept == set(plan.by_task(plan.sweep(laptop), task))


def test_the_committed_rates_are_of_the_sweep_that_is_planned():
    laptop = section("laptop")
    for task, settings in laptop["tasks"].items():
        table = (ROOT / settings["rates"]).read_text().splitlines()[1:]
        lines = [line.split(",") for line in table]
        rows = {(arm, float(rate), int(seed)) for arm, rate, seed, *_ in lines}
        swept = plan.by_task(plan.sweep(laptop), task).values()
        assert rows == {(run["arm"], run["rate"], run["seed"]) for run in swept}


def test_no_best_rate_is_at_an_edge_of_its_grid_unless_the_arm_never_left_chance():
    laptop = section("laptop")
    for task, settings in laptop["tasks"].items():
        table = pd.read_csv(ROOT / settings["rates"])
        guess = untrained(plan.tasks(laptop, task, "validation"))
        learnt = table.groupby("arm")["validation_accuracy"].max() > guess
        assert learnt[["attention", "tgn_gru"]].all()
        for arm in learnt.index[learnt]:
            rows = table[table["arm"] == arm]
            (best,) = set(rows.loc[rows["best"], "rate"])
            assert rows["rate"].min() < best < rows["rate"].max(), (task, arm)


def untrained(tasks):
    """How often the most frequent token of a sequence, or of all answers, is right."""
    inputs, answers = recall_tasks.draw(tasks, np.random.default_rng(0), 2000)
    if tasks[0]["kind"] == "associative":
        return (associative.most_frequent(inputs) == answers).mean()
    return np.bincount(answers).max() / len(answers)


def test_the_paper_scale_has_the_published_sizes(checkout):
    paper = section("paper")
    runs, sweep = plan.runs(paper), plan.sweep(paper)
    target = "results/paper/recall_tasks.pdf"
    assert trained(snakemake(checkout, "-n", target, "--config", "scale=paper")) == {*runs, *sweep}
    for task in plan.TASKS:
        for arm in ("attention", "gru", "mingru", "mamba", "tgn", "tgn_gru"):
            assert {f"{task}-{arm}-{seed}" for seed in range(5)} <= set(runs)
    single, nested = runs["associative-tgn_gru-0"], runs["listops-tgn_gru-0"]
    (length,) = {task["input_seq_len"] for task in single["test_tasks"]}
    assert (length, single["model"]["vocabulary"], single["model"]["width"]) == (200, 30, 32)
    assert (single["penalty"], nested["penalty"]) == (0.005, 0.001)
    assert [nested["model"][name] for name in ("depth", "heads", "width")] == [4, 4, 64]
    assert max(task["max_depth"] for task in nested["test_tasks"]) == 10


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_arm_of_a_task_is_given_the_same(scale):
    for task in plan.TASKS:
        runs = plan.by_task(plan.runs(section(scale)), task).values()
        for given in ("training", "train_tasks", "test_tasks"):
            assert len({str(run[given]) for run in runs}) == 1


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_distances_and_depths_are_tested_from_end_to_end(scale):
    runs = plan.runs(section(scale))
    distances = runs["associative-tgn-0"]["test_tasks"]
    ends = [(task["min_distance"], task["max_distance"]) for task in distances]
    assert ends[0][0] == 2
    assert ends[-1][1] == distances[0]["input_seq_len"] - 1
    assert all(low == before + 1 for (_, before), (low, _) in itertools.pairwise(ends))
    trained_to = runs["listops-tgn-0"]["train_tasks"][0]["max_depth"]
    depths = [task["max_depth"] for task in runs["listops-tgn-0"]["test_tasks"]]
    assert (depths[0], depths[-1]) == (1, trained_to)


def test_a_wrong_section_stops_before_training(checkout, tmp_path):
    path = tmp_path / "overlay.yaml"
    path.write_text("recall_tasks: {tasks: {listops: {train: [{max_depth: 4}]}}}")
    run = snakemake(checkout, "--dry-run", "--configfile", str(path))
    assert run.returncode != 0
    assert "recall_tasks.tasks.listops.train: part must be train" in run.stdout + run.stderr
