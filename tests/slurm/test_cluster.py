"""The workflow on a real SLURM: figure 8 at the smoke scale, from fixtures to PDF.

The cluster has two nodes on this host, one of them with two GPUs that are counted and not there.
What jobs were given is read from the controller, not from the jobs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
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
    "prepare": ["fixture", "corpus"],
    "measure": ["rank_dynamics"],  # on GPUs
    "judge": ["fig8_statistics", "fig8"],
}


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
    most = {"cpus_per_task": 8, "mem_mb": 16000}
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
def figure(cluster, tmp_path_factory):
    """A checkout in which figure 8 was made, and the jobs that made it."""
    folder = copy_checkout(tmp_path_factory.mktemp("figure"))
    done = run(*snakemake(folder, "fig8", *grouped()), limit=900, cwd=folder, env=cluster)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder, jobs(cluster)


def test_the_figure_is_made(figure):
    folder, submitted = figure
    assert (folder / "results/smoke/fig8.pdf").read_bytes().startswith(b"%PDF")
    assert len(submitted) == len(GROUPS)
    assert {job["JobState"] for job in submitted} == {"COMPLETED"}


def test_jobs_get_what_the_profile_asks_for(figure):
    _, submitted = figure
    partitions = []
    for job in submitted:
        asked = asked_of(rule_of(job))
        gpus = "gres:gpu:a100:1" if "gpu_model" in asked else None
        assert job["Partition"] == asked["slurm_partition"], job
        assert job.get("TresPerJob") == gpus, job
        assert int(job["NumCPUs"]) >= asked["cpus_per_task"], job
        partitions.append(job["Partition"])
    assert partitions == ["cpu", "a100", "cpu"]


def test_nothing_is_left_in_the_queue(figure, cluster):
    assert run(CLIENT / "squeue", "-h", env=cluster).stdout == ""
