"""What figure 22's convergence trains, at every scale, before anything runs."""

import copy
import re

import pytest
from running import ROOT, snakemake
from snakemake.utils import update_config

from tgn.config import read_yaml
from tgn.models import sizes
from tgn.training import plan
from tgn.training.run import matched

ARMS = {"transformer", "mamba", "tgn", "tgn_mamba", "tgn_published", "recurrence"}
GPT2_TOKENS = 50257
WIKITEXT_TOKENS = 117_000_000  # of the train split in GPT-2's tokens, rounded down


def sections(scale):
    config = copy.deepcopy(read_yaml(ROOT / "config.yaml"))
    update_config(config, read_yaml(ROOT / f"config/scales/{scale}.yaml"))
    return config["language_model"], config["convergence"]


def trained(run):
    """Training runs that a dry-run would make, by name."""
    assert run.returncode == 0, run.stderr[-3000:] + run.stdout[-3000:]
    made = re.findall(r"language_model/([a-z0-9_.-]+)/model\.safetensors", run.stdout + run.stderr)
    return set(made)


def test_figure_21_trains_nothing_of_figure_22(checkout):
    for scale, root in (("laptop", "results"), ("paper", "results/paper")):
        run = snakemake(checkout, "-n", f"{root}/fig21.pdf", "--config", f"scale={scale}")
        names = trained(run)
        assert "tgn-0" in names
        assert not {name for name in names if "mamba" in name or "convergence" in name}


def test_the_laptop_shares_the_runs_of_figure_21_and_sweeps_nothing(checkout):
    planned = trained(snakemake(checkout, "-n", "results/fig22/convergence.json"))
    first = trained(snakemake(checkout, "-n", "results/fig21.pdf"))
    language, convergence = sections("laptop")
    wanted = set(plan.convergence_runs(language, convergence))
    assert planned == wanted
    new = {re.sub(r"-\d$", "", name) for name in wanted - first}
    assert new <= {"mamba", "tgn_mamba", "recurrence", "tgn_published"}
    assert wanted & first == {"tgn-0", "tgn-1", "transformer-0", "transformer-1", "recurrence-0",
                              "tgn_published-0"}  # fmt: skip


def test_the_paper_scale_is_planned_as_published(checkout):
    """350 M parameters, 192 windows of 1024 tokens, no token twice, three seeds, a sweep apart."""
    target = "results/paper/fig22/convergence.json"
    names = trained(snakemake(checkout, "-n", target, "--config", "scale=paper"))
    language, convergence = sections("paper")
    runs = plan.convergence_runs(language, convergence)
    sweep = plan.convergence_sweep(language, convergence)
    assert names == set(runs) | set(sweep)
    assert len(runs) == 3 * len(ARMS) == 18
    assert len(sweep) == len(ARMS) * len(convergence["rate_grid"])
    assert all(name.startswith("convergence-") for name in names)
    assert {(run["arm"], run["seed"]) for run in runs.values()} == {
        (arm, seed) for arm in ARMS for seed in range(3)
    }
    for run in runs.values():
        training = run["training"]
        assert training["batch"] == 192
        assert training["steps"] * training["batch"] * run["model"]["context"] < WIKITEXT_TOKENS


@pytest.mark.parametrize(
    ("scale", "size"), [("laptop", 1.5e6), ("paper", 353e6)], ids=["laptop", "paper"]
)
def test_all_arms_are_of_one_size(scale, size):
    """At the paper scale that of GPT-2 medium's layers and tokens, without its positions."""
    language, convergence = sections(scale)
    vocabulary = language["text"]["vocabulary"] or GPT2_TOKENS
    found = {
        run["arm"]: sizes.parameters(
            matched({"vocabulary": vocabulary, **run["model"]}, run["match"])
        )
        for run in plan.convergence_runs(language, convergence).values()
        if run["seed"] == 0
    }
    assert set(found) == ARMS
    assert found["tgn"] == pytest.approx(size, rel=0.01)
    for arm, parameters in found.items():
        assert abs(parameters / found["tgn"] - 1) <= sizes.TOLERANCE, arm


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("convergence: {arms: {hyena: {}}}", ["arms.hyena", "model", "transformer"]),
        ("convergence: {arms: {tgn: {training: {batch: 8}}}}", ["arms.tgn", "seeds"]),
        ("convergence: {arms: {mamba: {match: {parameters: gpt}}}}", ["arms.mamba", "gpt", "tgn"]),
        ("convergence: {seeds: 1}", ["convergence.seeds", "spread"]),
        ("convergence: {model: {width: big}}", ["convergence.model.width", "big"]),
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
