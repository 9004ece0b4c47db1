"""Signs, labs and classes on planted data."""

import numpy as np
import pytest

from tgn.constraints.associations import Undecidable
from tgn.constraints.classes import (
    agreement_interval,
    area_under_curve,
    critical_value,
    permuted_labels_p,
    sign_of,
)
from tgn.statistics import Interval

RNG = np.random.default_rng


def test_a_sign_needs_an_interval_without_zero():
    assert sign_of(Interval(0.2, 0.1, 0.3)) == "expand"
    assert sign_of(Interval(-0.2, -0.3, -0.1)) == "dampen"
    assert sign_of(Interval(0.2, -0.1, 0.3)) == "undetermined"
    assert sign_of(Interval(0.1, 0.0, 0.3)) == "undetermined"


def test_labels_permuted_over_families_exactly():
    """Two labs of two families, values apart: 2 of 6 ways to label are as extreme."""
    assert permuted_labels_p([0.0, 0.1, 1.0, 1.1], list("aabb"), rng=RNG(0)) == pytest.approx(1 / 3)
    far = np.r_[np.zeros(6), np.ones(6)] + 1e-3 * RNG(1).normal(size=12)
    assert permuted_labels_p(far, ["a"] * 6 + ["b"] * 6, rng=RNG(0)) < 0.01
    assert permuted_labels_p(RNG(3).normal(size=12), list("aaabbbcccddd"), rng=RNG(0)) > 0.05
    for labels in (list("abcd"), list("aaaa")):
        with pytest.raises(Undecidable, match="lab and family are one"):
            permuted_labels_p(np.arange(4.0), labels, rng=RNG(0))


def test_area_under_curve():
    assert area_under_curve(np.array([3.0, 1.0]), np.array([1.0, 0.0])) == 1.0
    assert area_under_curve(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == 0.5
    assert area_under_curve(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == 0.5


@pytest.mark.parametrize("cut", [0.1, 0.2, 0.4])
def test_the_critical_value_lies_where_it_was_planted(cut):
    rho = np.geomspace(0.03, 1.2, 41)
    assert critical_value(rho, (rho > cut).astype(float)) == pytest.approx(cut, rel=0.1)
    assert (
        critical_value(rho, (rho < cut).astype(float)) == rho.max()
    )  # the contrary: no such place
    assert critical_value(rho, np.ones(41)) == rho.min()


def test_agreement_within_labs_planted_true_and_by_chance():
    labs = np.repeat(list("abcd"), 3)
    true = agreement_interval(np.repeat([-1, 1, 1, -1], 3), labs, rng=RNG(0), permutations=400)
    assert true.value == pytest.approx(1 - 18 / 54)
    assert true.low > 0
    wrong = 0
    for seed in range(100):
        signs = RNG(seed).choice([-1, 1], size=12)
        found = agreement_interval(signs, labs, rng=RNG(seed), permutations=200)
        wrong += not found.low <= 0 <= found.high
    assert wrong <= 12  # 5 % are planted by chance; binomial, 99.8 %
    with pytest.raises(Undecidable, match="lab and family are one"):
        agreement_interval([1, -1], ["a", "b"], rng=RNG(0))
