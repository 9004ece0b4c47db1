"""What the rules of the constraints plan at each scale, and what they refuse."""

import pytest
import yaml
from running import ROOT, snakemake
from test_plan import planned

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())["constraints"]
PAPER = yaml.safe_load((ROOT / "config/scales/paper.yaml").read_text())["constraints"]
NOTEBOOKS = ["scaling_law", "benchmark", "restriction_maps", "twin_test", "crowding"]


def runs(family):
    return family["seeds"] * (1 + sum(map(len, family["varied"].values())))


def test_small_models_share_their_jobs_and_every_page_is_a_target(checkout):
    jobs = planned(snakemake(checkout, "-n", "constraints", "constraints_pages", *NOTEBOOKS))
    assert jobs["constraints_model"] == runs(CONFIG["family"])
    for part in ("gains", "spectra", "sheaf"):
        assert jobs[f"constraints_{part}"] == len(CONFIG["models"]) + 1
    assert jobs["constraints_statistics"] == 1
    assert (jobs["constraints_figure"], jobs["constraints_notebook"]) == (8, len(NOTEBOOKS))
    assert jobs.keys().isdisjoint({"language_model", "constraints_unavailable"})


def test_the_paper_scale_measures_the_published_models_and_lists_the_others(checkout):
    run = snakemake(checkout, "-n", "results/paper/constraints.pdf", "--config", "scale=paper")
    jobs = planned(run)
    assert len(PAPER["models"]) >= 23
    assert jobs["constraints_gains"] == len(PAPER["models"]) + 1
    assert jobs["constraints_model"] == runs({**CONFIG["family"], **PAPER["family"]})
    assert jobs["constraints_unavailable"] == 1
    assert not set(PAPER["unavailable"]) & set(PAPER["models"])
    assert not {name for name in PAPER["unavailable"] if f"resources/{name}/" in run.stdout}


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("{models: [gpt3]}", ["constraints.models", "gpt3", "smollm2-135m"]),
        ("{bfloat16: [gpt2]}", ["constraints.bfloat16", "gpt2", "constraints.models"]),
        ("{twins: [[smollm2-135m, gpt2]]}", ["constraints.twins", "gpt2"]),
        ("{family: {varied: {depth: [4]}}}", ["constraints.family.varied.depth", "4", "base"]),
    ],
)
def test_a_wrong_choice_of_models_stops_before_anything_runs(checkout, tmp_path, overlay, words):
    path = tmp_path / "overlay.yaml"
    path.write_text(f"constraints: {overlay}")
    run = snakemake(checkout, "-n", "constraints", "--configfile", str(path))
    assert run.returncode != 0
    for word in words:
        assert word in run.stdout + run.stderr
