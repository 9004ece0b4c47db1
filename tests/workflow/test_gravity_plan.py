"""What the figure of gravity trains, at every scale, before anything runs."""

import re

import pytest
from running import ROOT, snakemake

from tgn.config import load
from tgn.models import sizes
from tgn.training import plan
from tgn.training.run import matched

TARGETS = {"laptop": "results/gravity.pdf", "smoke": "results/smoke/gravity.pdf",
           "paper": "results/paper/gravity.pdf"}  # fmt: skip


def sections(scale):
    config = load(scale, ROOT)
    return config["language_model"], config["gravity"]


def planned(checkout, scale, target=None):
    """Training runs that a dry-run would make, by name, and jobs by rule."""
    run = snakemake(checkout, "-n", target or TARGETS[scale], "--config", f"scale={scale}")
    said = run.stdout + run.stderr
    assert run.returncode == 0, said[-3000:]
    table = said.split("Job stats:")[1].split("total")[0]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    return set(re.findall(r"language_model/([a-z0-9_.-]+)/model\.safetensors", said)), jobs


@pytest.mark.parametrize("scale", ["laptop", "smoke"])
def test_runs_are_those_of_the_plan_and_nothing_is_swept(checkout, scale):
    names, jobs = planned(checkout, scale)
    assert names == set(plan.gravity_runs(*sections(scale)))
    assert jobs["gravity_model"] == len(names)
    for rule in ("gravity_probes", "gravity_times", "gravity_statistics", "gravity"):
        assert jobs[rule] == 1
    assert "language_model" not in jobs


def test_the_screening_trains_every_arm_once_at_the_published_seed(checkout):
    names, jobs = planned(checkout, "laptop", "results/gravity/screening.md")
    assert names == set(plan.gravity_screening(*sections("laptop")))
    assert all(name.endswith("-42") for name in names)
    assert jobs["gravity_screening"] == 1


def test_the_paper_scale_sweeps_and_has_its_own_text(checkout):
    names, jobs = planned(checkout, "paper")
    language, gravity = sections("paper")
    runs, sweep = plan.gravity_runs(language, gravity), plan.gravity_sweep(language, gravity)
    assert names == set(runs) | set(sweep)
    assert jobs["gravity_tokens"] == jobs["language_model_rates"] == 1
    assert {(run["arm"], run["seed"]) for run in runs.values()} == {
        (arm, seed) for arm in gravity["arms"] for seed in range(3)
    }


def test_the_paper_scale_is_the_published_comparison():
    """25 M parameters, BPE-8192, 32 sequences of 512 tokens, 15 000 steps."""
    runs = plan.gravity_runs(*sections("paper"))
    for run in runs.values():
        assert run["training"]["steps"] == 15_000
        assert run["training"]["batch"] == 32
        assert run["model"]["context"] == 512
    for arm in ("published", "gravity", "vanilla"):
        run = runs[f"gravity-{arm}-0"]
        config = matched({"vocabulary": 8192, **run["model"]}, run["match"])
        assert sizes.parameters(config) == pytest.approx(25.5e6, rel=0.02)


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("gravity: {arms: {no_radius: {rates_of: tgn}}}", ["no_radius.rates_of", "tgn", "vanilla"]),
        ("gravity: {arms: {vanilla: {match: {parameters: gpt}}}}", ["arms.vanilla", "gpt"]),
        ("gravity: {arms: {published: null}}", ["arms.published", "null"]),
        ("gravity: {arms: {gravity: {seeds: 1}}}", ["gravity.seeds", "spread"]),
        ("gravity: {probed: [gravity, published, mass_in_value, vanilla]}", ["probed", "vanilla"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_compared_is_refused(checkout, tmp_path, overlay, words):
    path = tmp_path / "overlay.yaml"
    path.write_text(overlay)
    run = snakemake(checkout, "--dry-run", "--configfile", str(path))
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "Job stats" not in said
    for word in words:
        assert word in said, said
