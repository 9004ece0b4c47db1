"""A private checkout to run the workflow in, so that no test touches this one's results."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked_files():
    """Files git knows or would take; the working tree as it is, committed or not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def copy_checkout(folder):
    for name in tracked_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return folder


def snakemake(folder, *arguments, **environment):
    """Run Snakemake in a checkout; no proxy is reachable, so any use of the network fails."""
    return subprocess.run(
        **_snakemake(folder, arguments, environment), capture_output=True, text=True
    )


def start(folder, *arguments, output=subprocess.DEVNULL, **environment):
    """Start Snakemake as :func:`snakemake` runs it, in a process group of its own."""
    return subprocess.Popen(
        **_snakemake(folder, arguments, environment),
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _snakemake(folder, arguments, environment):
    return {
        "args": [sys.executable, "-m", "snakemake", *arguments],
        "cwd": folder,
        "env": offline(**environment),
    }


def offline(**environment):
    """The environment with these variables, in which no proxy is reachable."""
    closed = dict.fromkeys(
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], "http://127.0.0.1:9"
    )
    return {**os.environ, **closed, "PYTHONPATH": "", **environment}
