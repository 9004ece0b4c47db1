"""Tests side by side, those of a file in one process.

What a test tried, its property ``tried``, is printed at the end, whichever process ran it.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Put first what takes longest: the smoke scale, then the rest of the workflow."""
    items.sort(
        key=lambda item: (item.path.name != "test_smoke.py", item.path.parent.name != "workflow")
    )


def pytest_terminal_summary(terminalreporter):
    """Say what was tried, also where nothing failed."""
    for report in terminalreporter.getreports("passed"):
        for name, tried in report.user_properties:
            if name == "tried":
                terminalreporter.write_line(f"{report.head_line}: {tried}")
