"""Environment variables that processes started from this one inherit."""

from __future__ import annotations

import os


def put(variable: str, value: object) -> None:
    """Set a variable."""
    os.environ[variable] = str(value)


def put_first(variable: str, folder: object) -> None:
    """Put a folder before those a search path has."""
    others = os.environ.get(variable, "").split(os.pathsep)
    kept = [other for other in others if other and other != str(folder)]
    put(variable, os.pathsep.join([str(folder), *kept]))
