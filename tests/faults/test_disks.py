"""Disks that are full or read-only: said in words, nothing half made, and gone on with later."""

import os
import subprocess
import sys

import pytest
from running import copy_checkout, snakemake

TABLE = "results/smoke/corpora/fixture-wikitext.parquet"
WEIGHTS = "results/smoke/recall/tgn-0/model.safetensors"


@pytest.fixture
def checkout(tmp_path):
    return copy_checkout(tmp_path / "checkout")


@pytest.fixture
def disk(checkout):
    """Make a folder of the checkout a small disk of its own, with options such as ``size=1m``."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root can mount a small disk")
    mounted = []

    def mount(name, options):
        place = checkout / name
        place.mkdir(exist_ok=True)
        again = "remount," if place in mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and not mounted:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted.append(place)

    yield mount
    for place in set(mounted):
        subprocess.run(["umount", str(place)], check=True)


def made(folder, name):
    """Files there but TensorBoard's, which is told while a training goes on."""
    names = [path.name for path in (folder / name).rglob("*") if path.is_file()]
    return [name for name in names if "tfevents" not in name]


@pytest.mark.parametrize("target", [TABLE, WEIGHTS])
def test_a_job_on_a_full_disk_says_so_and_is_done_later(checkout, disk, settings, target):
    disk("results", "size=12k")
    run = snakemake(checkout, target, *settings)
    said = run.stdout + run.stderr
    assert run.returncode != 0
    assert "disk is full" in said, said[-2000:]
    assert "make space and run again" in said
    assert os.path.dirname(target) in said
    assert made(checkout, "results") == []
    disk("results", "size=50m")
    run = snakemake(checkout, target, *settings)
    assert run.returncode == 0, run.stderr[-2000:]
    assert (checkout / target).stat().st_size > 0


def test_a_fetch_onto_a_full_disk_says_so_and_goes_on_later(checkout, disk, settings, toy):
    toy.register(checkout)
    receipt = "resources/toy/receipt.json"
    disk("resources", "size=400k")
    run = snakemake(checkout, receipt, *settings, **toy.environment)
    said = run.stdout + run.stderr
    assert run.returncode != 0
    assert "disk is full" in said, said[-2000:]
    assert "make space and run again" in said
    assert "resources/toy" in said
    assert made(checkout, "resources") == []
    disk("resources", "size=50m")
    run = snakemake(checkout, receipt, *settings, **toy.environment)
    assert run.returncode == 0, run.stderr[-2000:]
    assert (checkout / "resources/toy/noise.txt").read_bytes() == toy.body


def test_read_only_results_can_be_looked_at_and_refuse_work_in_words(checkout, disk, settings):
    disk("results", "size=50m")
    run = snakemake(checkout, TABLE, *settings)
    assert run.returncode == 0, run.stderr[-2000:]
    before = (checkout / TABLE).read_bytes()
    disk("results", "ro")
    run = snakemake(checkout, TABLE, *settings)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Nothing to be done" in run.stdout + run.stderr
    for arguments, words in (
        ([TABLE, "--force"], "Write-protected output files"),
        ([WEIGHTS], "Read-only file system"),
    ):
        run = snakemake(checkout, *arguments, *settings)
        said = run.stdout + run.stderr
        assert run.returncode != 0
        assert words in said, said[-2000:]
        assert "results/smoke" in said
        assert "Traceback" not in said
    assert (checkout / TABLE).read_bytes() == before
