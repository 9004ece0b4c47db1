"""Environment variables that processes started from this one inherit."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/memory.max")  # what a container may use
REQUIRE_GPUS = "TGN_REQUIRE_GPUS"  # 0: jobs that ask for GPUs compute on CPUs without


def put(variable: str, value: object) -> None:
    """Set a variable."""
    os.environ[variable] = str(value)


def memory_limit(path: Path = CGROUP) -> float:
    """Bytes of memory that a container around this process allows; infinite without a limit."""
    try:
        return float(path.read_text().strip().replace("max", "inf"))
    except OSError:
        return math.inf


def put_first(variable: str, folder: object) -> None:
    """Put a folder before those a search path has."""
    others = os.environ.get(variable, "").split(os.pathsep)
    kept = [other for other in others if other and other != str(folder)]
    put(variable, os.pathsep.join([str(folder), *kept]))
