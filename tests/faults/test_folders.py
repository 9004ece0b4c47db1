"""Folders in which two runs meet, with strange names, of older revisions; and all others."""

import json
import shutil
import subprocess
import sys
import time

import pytest
from running import copy_checkout, offline, snakemake, start

from tgn.statistics import read_statistics

STATISTICS = "results/smoke/recall_tasks/statistics.json"
RECALL = "results/smoke/recall/tgn-0/model.safetensors"


def with_environment(folder):
    """Give a checkout an environment that makes use of the one that runs the tests."""
    venv = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(
        "\n".join(path for path in sys.path if "site-packages" in path)
    )
    (venv / "bin/snakemake").write_text('#!/bin/sh\nexec python -m snakemake "$@"\n')
    (venv / "bin/snakemake").chmod(0o755)
    (venv / "ready").touch()
    return folder


def make(folder, *arguments):
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=offline(), capture_output=True, text=True
    )


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose usual scale is smoke."""
    folder = with_environment(copy_checkout(tmp_path / "Ünïcode and blanks 重力"))
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("default_scale: laptop", "default_scale: smoke"))
    return folder


def test_of_two_runs_the_second_is_refused_and_the_first_ends_well(checkout, settings):
    first = start(checkout, RECALL, *settings)
    locks = checkout / ".snakemake/locks"
    while not (locks.is_dir() and any(locks.iterdir())):
        assert first.poll() is None
        time.sleep(0.02)
    second = snakemake(checkout, RECALL, *settings)
    third = make(checkout)
    assert first.poll() is None, "the first run was too short for this test"
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stdout + second.stderr
    assert third.returncode != 0
    assert "Another run holds the lock" in third.stderr
    assert "make unlock, then make" in third.stderr
    assert first.wait() == 0
    assert (checkout / RECALL).is_file()
    assert not locks.exists() or not any(locks.iterdir())


def test_a_figure_is_made_in_a_folder_with_unusual_letters_and_blanks(checkout):
    figure = "results/smoke/fig1.pdf"
    recipe = f". .venv/bin/activate && snakemake --rerun-incomplete {figure}"
    run = subprocess.run(
        ["sh", "-c", recipe], cwd=checkout, env=offline(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert (checkout / figure).read_bytes().startswith(b"%PDF")
    unlocked = make(checkout, "unlock")
    assert unlocked.returncode == 0, unlocked.stderr


@pytest.fixture
def older(undisturbed, tmp_path):
    """Results that the library made before one of its files was changed."""
    folder = shutil.copytree(undisturbed.folder, tmp_path / "older")
    with open(folder / "src/tgn/training/recall_statistics.py", "a") as module:
        module.write("\n# another revision\n")
    return folder


def test_what_a_changed_library_file_made_is_made_anew(older, settings):
    before = (older / STATISTICS).read_bytes()
    planned = snakemake(older, "--dry-run", STATISTICS, *settings)
    why = "Updated input files: src/tgn/training/recall_statistics.py"
    assert why in planned.stdout + planned.stderr
    run = snakemake(older, STATISTICS, *settings)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "rule recall_task_statistics:" in run.stderr
    assert "rule recall_task:" not in run.stderr
    assert (older / STATISTICS).read_bytes() == before
    again = snakemake(older, STATISTICS, *settings)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_statistics_of_an_older_form_are_refused_with_the_reason(undisturbed, tmp_path):
    rows = json.loads((undisturbed.folder / STATISTICS).read_text())
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps([{"simulated": True, **row} for row in rows]))
    with pytest.raises(ValueError, match=r"statistics\.json: .*'simulated'.*delete it"):
        read_statistics(path)


def test_nothing_is_written_outside_the_folder(undisturbed):
    """But what Snakemake caches for itself."""
    found = {
        path.relative_to(place).parts[:2]
        for place in (undisturbed.home, undisturbed.temporary)
        for path in place.rglob("*")
    }
    assert found <= {(".cache",), (".cache", "snakemake")}
