"""Progress bars that are seen by whoever started the work."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A tqdm bar on the terminal, also inside a job whose output goes to a log; else silent."""
    return tqdm(iterable, file=sys.__stderr__, disable=None, **options)
