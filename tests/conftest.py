"""Tests side by side: the files in any process, but all that share the smoke run in one.

What a test tried, its property ``tried``, is printed at the end, whichever process ran it.
"""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Group the tests, and put first the files that take longest: those of the workflow."""
    items.sort(key=lambda item: item.path.parent.name != "workflow")
    for item in items:
        shared = "smoke_run" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("smoke" if shared else item.nodeid.split("::")[0]))


def pytest_terminal_summary(terminalreporter):
    """Say what was tried, also where nothing failed."""
    for report in terminalreporter.getreports("passed"):
        for name, tried in report.user_properties:
            if name == "tried":
                terminalreporter.write_line(f"{report.head_line}: {tried}")
