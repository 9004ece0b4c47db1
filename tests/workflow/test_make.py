"""make says what is wrong before it works, and how to mend it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import copy_checkout


def make(folder, *arguments):
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    return copy_checkout(tmp_path)


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


OLD = 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi'


def test_an_old_python_is_refused(folder):
    run = make(folder, f"PYTHON={executable(folder / 'python3.9', OLD)}")
    assert run.returncode != 0
    assert "Python 3.11 or newer is needed" in run.stderr
    assert "Python 3.9.2" in run.stderr
    assert "make PYTHON=python3.12" in run.stderr
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("text", [OLD, None], ids=["old", "gone"])
def test_an_environment_of_an_old_python_is_refused(folder, text):
    if text:
        executable(folder / ".venv/bin/python", text)
    (folder / ".venv").mkdir(exist_ok=True)
    (folder / ".venv/ready").touch()
    run = make(folder, f"PYTHON={sys.executable}")
    assert run.returncode != 0
    assert ".venv/bin/python" in run.stderr
    assert "rm -rf .venv && make" in run.stderr


@pytest.fixture
def installed(folder):
    """A checkout whose environment is the one that runs the tests."""
    executable(folder / ".venv/bin/python", f'exec {sys.executable} "$@"')
    activate = f'PATH="{Path(sys.executable).parent}:$PATH"; export PATH\n'
    (folder / ".venv/bin/activate").write_text(activate)
    (folder / ".venv/ready").touch()
    return folder


def test_a_killed_run_is_spoken_of_and_unlocked(installed):
    command = [sys.executable, "-m", "snakemake", "all"]
    locks = installed / ".snakemake/locks"
    child = subprocess.Popen(
        command,
        cwd=installed,
        env={**os.environ, "PYTHONPATH": "", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not (locks.is_dir() and any(locks.iterdir())):
        assert child.poll() is None
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    run = make(installed)
    assert run.returncode != 0
    assert "make unlock, then make" in run.stderr
    assert any(locks.iterdir())
    assert make(installed, "unlock").returncode == 0
    assert not list(locks.glob("*"))


def test_a_comparison_of_nothing_says_how(installed):
    run = make(installed, "compare")
    assert run.returncode != 0
    assert "make compare A=results B=results/paper" in run.stderr
