"""What figure 22's associative recall trains, at every scale, and a sweep that is killed."""

import copy
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from statistics import mean

import pandas as pd
import pytest
import yaml
from running import ROOT, copy_checkout, snakemake
from snakemake.utils import update_config

from tgn.config import read_yaml, without_null_arms
from tgn.training import recall_plan

# Zoology's and Based's (length, pairs): 100 000 sequences of the first to 20 000 of each other one.
PUBLISHED = {(64, 4): 100, (128, 8): 20, (256, 16): 20, (256, 32): 20, (256, 64): 20}


def section(scale):
    config = copy.deepcopy(read_yaml(ROOT / "config.yaml"))
    if scale != "laptop":
        update_config(config, read_yaml(ROOT / f"config/scales/{scale}.yaml"))
    return without_null_arms(config)["recall"]


def said(run):
    assert run.returncode == 0, run.stderr[-3000:] + run.stdout[-3000:]
    return run.stdout + run.stderr


def trained(run):
    """Runs that a dry-run would train, by name."""
    return set(re.findall(r"/recall/([a-z0-9_.-]+)/model\.safetensors", said(run)))


def test_the_laptop_trains_each_arm_and_sweeps_nothing(checkout):
    planned = trained(snakemake(checkout, "-n", "results/fig22.pdf"))
    assert planned == set(recall_plan.runs(section("laptop")))
    swept = trained(snakemake(checkout, "-n", "results/recall/rates.csv"))
    assert swept == set(recall_plan.sweep(section("laptop")))


def test_the_committed_rates_are_of_the_sweep_that_is_planned():
    laptop = section("laptop")
    table = (ROOT / laptop["rates"]).read_text().splitlines()[1:]
    rows = [(a, float(rate), int(seed)) for a, rate, seed, *_ in (row.split(",") for row in table)]
    planned = recall_plan.sweep(laptop).values()
    assert sorted(rows) == sorted((run["arm"], run["rate"], run["seed"]) for run in planned)


def test_no_best_rate_is_at_an_edge_of_its_grid_unless_the_arm_never_left_chance():
    laptop = section("laptop")
    table = pd.read_csv(ROOT / laptop["rates"])
    of_context = mean(1 / pairs for _, pairs, *_ in laptop["train"])  # guessing any value of it
    means = table.groupby(["arm", "rate"])[
        "validation_accuracy"
    ].mean()  # by which rates are chosen
    learnt = means.groupby("arm").max() > of_context
    assert learnt[["attention", "mamba_4", "mamba_16", "mamba_64", "tgn", "tgn_mamba"]].all()
    for arm in learnt.index[learnt]:
        rows = table[table["arm"] == arm]
        (best,) = set(rows.loc[rows["best"], "rate"])
        assert rows["rate"].min() < best < rows["rate"].max(), arm


def test_the_laptop_sweeps_half_a_run_with_several_seeds_of_its_own():
    laptop = section("laptop")
    runs, sweep = recall_plan.runs(laptop), recall_plan.sweep(laptop)
    for run in sweep.values():
        whole = runs[f"{run['arm']}-0"]["training"]
        own = {"steps": run["training"]["steps"], "evaluate_every": laptop["sweep_evaluate_every"]}
        assert run["training"] == whole | own
        assert run["training"]["steps"] >= 0.5 * whole["steps"]
        assert run["seed"] > max(one["seed"] for one in runs.values())
    swept = Counter((run["arm"], run["rate"]) for run in sweep.values())
    assert min(swept.values()) >= 2
    for arm in ("attention", "mamba_16", "tgn"):  # by which claims are decided
        assert f"{arm}-1" in runs


def test_the_paper_scale_is_zoologys(checkout):
    target = "results/paper/fig22/recall.parquet"
    run = snakemake(checkout, "-n", target, "--config", "scale=paper")
    paper = section("paper")
    runs, sweep = recall_plan.runs(paper), recall_plan.sweep(paper)
    assert trained(run) == set(runs) | set(sweep)
    arms = set(paper["arms"])
    assert {f"mamba_{states}" for states in (4, 8, 16, 32, 64)} <= arms
    assert {"attention", "gru", "mingru", "tgn", "tgn_mamba", "tgn_published"} <= arms
    for arm in arms:
        for name in (arm, f"{arm}_d128", f"{arm}_d256"):
            assert {f"{name}-{seed}" for seed in range(3)} <= set(runs)
            assert len([k for k in sweep if k.startswith(f"{name}-rate-")]) >= 3
    assert {run["model"]["width"] for run in runs.values()} == {64, 128, 256}
    assert {run["model"]["vocabulary"] for run in runs.values()} == {8192}
    assert {run["model"]["depth"] for run in runs.values()} == {2}

    task = runs["tgn-0"]["train_tasks"]
    tokens = {(t["input_seq_len"], t["num_kv_pairs"]): t.get("weight", 1) for t in task}
    published = {key: key[0] * count for key, count in PUBLISHED.items()}
    assert set(tokens) == set(published)
    for key, count in published.items():
        assert tokens[key] / sum(tokens.values()) == pytest.approx(count / sum(published.values()))
    assert all(t["random_non_queries"] for t in task)
    tested = {(t["input_seq_len"], t["num_kv_pairs"]) for t in runs["tgn-0"]["test_tasks"]}
    assert {length for length, _ in tested} == {64, 128, 256, 512, 1024}
    assert {pairs for _, pairs in tested} >= {4, 8, 16, 32, 64, 128, 256}

    gpus = {
        name: re.search(r"gpu=(\d+)", block)
        for name, block in re.findall(r"rule (\w+):\n((?:    .*\n)+)", said(run))
    }
    assert gpus["recall"][1] == "1"
    assert gpus["fig22_statistics"] is None


def test_every_arm_is_given_the_same(checkout):
    """Tokens, examples, tasks and rates; what differs stands in the arm's own line."""
    for scale in ("laptop", "paper"):
        runs = recall_plan.runs(section(scale))
        limits = ("steps", "batch", "solved")
        budgets = {tuple(run["training"][name] for name in limits) for run in runs.values()}
        assert len(budgets) == 1
        assert len({str(run["train_tasks"]) for run in runs.values()}) == 1
        positions = {r["arm"] for r in runs.values() if r["model"].get("rotary", True)}
        assert not positions & {"attention", "tgn", "tgn_mamba", "tgn_sequential", "tgn_free"}


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("{train: [[64, 4], [64, 17]]}", ["recall.train", "too short", "17 pairs"]),
        ("{task: {vocab_size: 512}}", ["recall.test", "vocab_size 512 must exceed"]),
        ("{train: [[48, 4]]}", ["recall.test", "(48, 4)", "not tested"]),
        ("{pairs: 3}", ["recall.test", "must have", "[256, 3]"]),
        ("{training: {batch: 128}}", ["recall.training.batch", "128", "256"]),
        ("{widths: [32]}", ["recall.widths", "model.width", "64"]),
    ],
)
def test_a_wrong_section_stops_before_training(checkout, tmp_path, overlay, words):
    path = tmp_path / "overlay.yaml"
    path.write_text(f"recall: {overlay}")
    run = snakemake(checkout, "--dry-run", "--configfile", str(path))
    assert run.returncode != 0
    for word in words:
        assert word in run.stdout + run.stderr


def test_a_killed_sweep_resumes_only_what_is_unfinished(tmp_path):
    folder = copy_checkout(tmp_path / "checkout")
    few = dict.fromkeys(section("smoke")["arms"]) | {"attention": {"model": {"mixer": "attention"}}}
    sizes = yaml.safe_load((ROOT / "config.yaml").read_text())["scaling"]["runs"]
    left_out = {name: None for name, run in sizes.items() if run.startswith("recall/")}
    overlay = {"recall": {"rate_grid": [0.03, 0.01, 0.003], "arms": few}}
    overlay["scaling"] = {"runs": left_out}
    (folder / "few.yaml").write_text(yaml.safe_dump(overlay))
    arguments = [
        "results/smoke/recall/rates.csv", "--configfile", "few.yaml", "--cores", "1",
        "--config", "scale=smoke",
    ]  # fmt: skip

    def finished():
        done = folder.glob("results/smoke/recall/*/provenance.json")  # what a job writes last
        return {path.parent.name: path.stat().st_mtime_ns for path in done}

    everything = trained(snakemake(folder, "-n", *arguments))
    assert len(everything) == 3
    log = tmp_path / "log"
    with log.open("w") as stream, subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder, start_new_session=True, stdout=stream, stderr=stream,
    ) as process:  # fmt: skip
        while "1 of 4 steps" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    before = finished()
    assert len(before) == 1
    snakemake(folder, "--unlock", *arguments)
    again = [*arguments, "--rerun-incomplete"]
    left = trained(snakemake(folder, "-n", *again))
    assert left == everything - set(before)
    said(snakemake(folder, *again))
    after = finished()
    assert set(after) == everything
    assert {name for name in after if after[name] == before.get(name)} == everything - left
    assert (folder / "results/smoke/recall/rates.csv").exists()
