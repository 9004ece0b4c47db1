"""Checkouts shared by the tests of the workflow."""

import pytest
from running import copy_checkout, snakemake


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """A checkout in which the smoke scale has run from end to end."""
    folder = copy_checkout(tmp_path_factory.mktemp("smoke"))
    run = snakemake(folder, "all", "--config", "scale=smoke")
    assert run.returncode == 0, run.stderr[-4000:]
    return folder
