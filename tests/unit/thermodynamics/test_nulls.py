"""One-sided p-values by rank."""

import numpy as np
import pytest

from tgn.thermodynamics.nulls import p_above


def test_the_value_counts_among_the_draws():
    assert p_above(10.0, np.arange(9)) == 0.1
    assert p_above(-1.0, np.arange(9)) == 1.0
    assert p_above(8.0, np.arange(9)) == 0.2  # ties are against it


def test_draws_of_the_null_are_below_p_with_probability_p():
    rng = np.random.default_rng(0)
    found = np.array([p_above(draw[0], draw[1:]) for draw in rng.standard_normal((4000, 20))])
    for p in (0.05, 0.2, 0.5):
        assert np.mean(found <= p + 1e-12) == pytest.approx(p, abs=4 * np.sqrt(p / 4000))


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="null"):
        p_above(1.0, [])
