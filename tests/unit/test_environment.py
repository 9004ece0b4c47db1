"""Variables that children inherit, and what a container allows."""

import math

import pytest

from tgn.environment import memory_limit


@pytest.mark.parametrize(
    ("text", "limit"), [("max\n", math.inf), ("2000000000\n", 2e9), (None, math.inf)]
)
def test_the_memory_a_container_allows(tmp_path, text, limit):
    path = tmp_path / "memory.max"
    if text is not None:
        path.write_text(text)
    assert memory_limit(path) == limit
