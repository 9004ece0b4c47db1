"""The workflow on a real SLURM: every figure at the smoke scale, and jobs that do not go well.

The cluster has two nodes on this host, one of them with two GPUs that are counted and not there.
What jobs were given is read from the controller, not from the jobs.
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from running import ROOT, copy_checkout

HERE = Path(__file__).parent
CLIENT = Path("/opt/tgn-slurm/bin")  # SLURM's own programs, off everyone's PATH
PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())

# Rules whose jobs are submitted as one. All of a group ask for one partition, and no path may
# lead out of a group and back into it.
GROUPS = {
    "prepare": ["fixture", "corpus", "tokens", "connectome"],
    "spins": ["spin_glass", "fig5_statistics", "fig5"],
    "brains": [
        "brain_model", "virtual_subject", "parcel_signals", "cohort_signals", "published_signals",
        "fmri_ranks", "fmri_reference", "fmri_bias", "fmri_distance", "in_silico", "ramps",
        "lead_lag", "fig14_statistics", "fig14",
    ],
    "mechanism": [
        "free_energy", "random_attention", "landscapes", "temperature_statistics",
        "fig1_statistics", "fig1",
    ],
    "ranks": ["fig8_statistics", "fig8"],
    "gates": ["hard_gates", "fig21_statistics", "fig21"],
    "recalled": ["convergence", "fig22_statistics", "fig22"],
    "tasks": ["recall_task_gates", "recall_task_statistics", "recall_tasks"],
    "weights": ["weight_levels", "weight_spectra", "scaling_statistics", "scaling"],
    "bridged": ["bridge_statistics", "bridge"],
    "judged": ["claims", *(f"manuscript_figure{number}" for number in range(1, 6))],
    # on GPUs
    "rank_dynamics": ["rank_dynamics"],
    "attention_temperature": ["attention_temperature"],
    "language_model": ["language_model"],
    "recall": ["recall"],
    "recall_task": ["recall_task"],
    "sedation": ["sedation"],
}  # fmt: skip


@pytest.fixture(scope="session")
def cluster():
    """Environment in which the programs of SLURM's client are found."""
    installed = run(HERE / "cluster/install.sh", CLIENT, limit=600)
    if installed.returncode:
        pytest.skip(f"no SLURM here: {installed.stderr.strip()}")
    folder = Path(tempfile.mkdtemp(prefix="tgn-slurm-", dir="/var/tmp"))
    try:
        up = run(HERE / "cluster/up.sh", folder, CLIENT)
        assert up.returncode == 0, up.stdout + up.stderr
        yield {**os.environ, "PATH": f"{CLIENT}:{os.environ['PATH']}", "PYTHONPATH": ""}
    finally:
        noted = (folder / "run/pids").read_text().split()
        down = run(HERE / "cluster/down.sh", folder)
        assert down.returncode == 0, down.stderr
        left = [pid for pid in noted[1::2] if Path("/proc", pid).is_dir()]
        assert not left, "daemons left running"
        shutil.rmtree(folder)


def run(*command, limit=120, **options):
    """A command under a hard limit of time: one that SLURM keeps waiting is killed."""
    return subprocess.run(
        ["timeout", "-k", "5", str(limit), *map(str, command)],
        capture_output=True,
        text=True,
        **options,
    )


def snakemake(folder, *arguments):
    settings = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3"]
    settings += ["--latency-wait", "10", "--configfile", "tests/slurm/smoke.yaml"]
    return [sys.executable, "-m", "snakemake", *arguments, *settings, "--config", "scale=smoke"]


def grouped():
    """Jobs of a group ask together for no more than the one that asks for most."""
    rules = [f"{rule}={group}" for group, rules in GROUPS.items() for rule in rules]
    merged = [f"{group}=1000" for group in GROUPS]
    most = {"cpus_per_task": 24, "mem_mb": 96000}
    return [
        *["--groups", *rules, "--group-components", *merged],
        *["--set-resource-scopes", *(f"{name}=local" for name in most)],
        *["--resources", "gpu=1", *(f"{name}={value}" for name, value in most.items())],
    ]


def jobs(environment):
    """What the controller knows, oldest first; each as the pairs that scontrol prints."""
    shown = run(CLIENT / "scontrol", "-o", "show", "job", env=environment)
    lines = [line for line in shown.stdout.splitlines() if line.startswith("JobId=")]
    found = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return sorted(found, key=lambda job: int(job["JobId"]))


def wait_for(condition, seconds):
    for _ in range(seconds * 5):
        if found := condition():
            return found
        time.sleep(0.2)
    pytest.fail(f"not within {seconds} s: {condition.__name__}")


def rule_of(job):
    """A rule of a job, from its comment: rule_NAME, or rule_GROUP_NAMES of the rules in order."""
    name = re.match(r"rule_(\w+?)(?:_wildcards.*)?$", job["Comment"])[1]
    for group, rules in GROUPS.items():
        if name.startswith(f"{group}_{min(rules)}"):
            return rules[0]
    return name


def asked_of(rule):
    return {**PROFILE["default-resources"], **PROFILE["set-resources"].get(rule, {})}


@pytest.fixture(scope="session")
def everything(cluster, tmp_path_factory):
    """All figures, and the jobs that made them."""
    folder = copy_checkout(tmp_path_factory.mktemp("everything"))
    done = run(*snakemake(folder, "all", *grouped()), limit=2400, cwd=folder, env=cluster)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder, jobs(cluster)


def test_every_figure_is_made(everything):
    folder, submitted = everything
    results = folder / "results/smoke"
    assert len(list(results.glob("*.pdf"))) >= 9
    assert (results / "claims.json").stat().st_size > 500
    assert len(submitted) <= 25
    assert {job["JobState"] for job in submitted} == {"COMPLETED"}


def test_jobs_get_what_the_profile_asks_for(everything):
    _, submitted = everything
    seen = collections.Counter()
    for job in submitted:
        rule = rule_of(job)
        asked = asked_of(rule)
        assert job["Partition"] == asked["slurm_partition"], job
        gpus = job.get("TresPerJob", "")
        assert gpus == ("gres:gpu:a100:1" if asked["slurm_partition"] == "a100" else ""), job
        seen[asked["slurm_partition"]] += 1
    assert seen["a100"] >= 6
    assert seen["cpu"] >= 6


def test_nothing_is_left_in_the_queue(everything, cluster):
    assert run(CLIENT / "squeue", "-h", env=cluster).stdout == ""
