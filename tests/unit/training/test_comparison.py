"""Comparisons of arms on planted losses: text that is common cancels, and seeds do not."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from tgn.statistics import Interval
from tgn.training.comparison import by_arm, by_run, compare, seed_spread, targets_of, widened

TARGETS = np.array([100] * 29 + [50])  # the last block is shorter
HARDNESS = np.random.default_rng(1).normal(0, 0.3, len(TARGETS))


def nats(*losses):
    """Sums over blocks that vary alike for every arm, with these mean losses, by seed."""
    hard = HARDNESS - (HARDNESS @ TARGETS) / TARGETS.sum()
    return np.stack([TARGETS * (loss + hard) for loss in losses], axis=1)


def compared(arms, pairs=()):
    return compare(arms, TARGETS, pairs, rng=np.random.default_rng(0), resamples=200)


def test_levels_and_differences_are_exact_and_common_text_cancels():
    levels, differences = compared({"a": nats(5.0, 5.002), "b": nats(5.2)}, [("a", "b")])
    assert levels["a"].value == pytest.approx(5.001)
    assert levels["b"].value == pytest.approx(5.2)
    gap = differences["a", "b"]
    assert gap.value == pytest.approx(-0.199)
    # of one degree of freedom, t = 12.7; nothing of the text, which alone is ten times as wide
    margin = 12.706 * 0.002 / math.sqrt(2) * math.sqrt(1 / 2 + 1)
    assert gap.high - gap.value == pytest.approx(margin, rel=1e-3)
    assert levels["b"].high - levels["b"].value > 0.05


def test_seeds_that_disagree_widen_every_interval():
    _, steady = compared({"a": nats(5.0, 5.0), "b": nats(5.1)}, [("a", "b")])
    _, unsteady = compared({"a": nats(4.9, 5.1), "b": nats(5.1)}, [("a", "b")])
    assert steady["a", "b"].high < 0
    assert unsteady["a", "b"].value == pytest.approx(steady["a", "b"].value)
    assert unsteady["a", "b"].high > 0


def test_without_two_seeds_nothing_is_said():
    with pytest.raises(ValueError, match="two seeds"):
        compared({"a": nats(5.0), "b": nats(5.1)})


def test_the_margin_of_seeds_is_students():
    # two arms of two seeds, s = 1: t(0.975, 2) * sqrt(1/2 + 1/2)
    spread = seed_spread([np.array([0.0, math.sqrt(2)])] * 2)
    assert spread == (pytest.approx(1.0), 2)
    wide = widened(Interval(0.0, 0.0, 0.0), spread, [2, 2])
    assert wide.high == pytest.approx(4.302652729911275)


def test_the_degrees_of_freedom_of_unequal_spreads_are_welchs():
    """Against scipy's own test, whose interval is of a difference of two samples."""
    one, other = np.array([5.0, 5.3]), np.array([1.0, 1.1, 1.05, 0.9])
    expected = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    gap = one.mean() - other.mean()
    wide = widened(Interval(gap, gap, gap), seed_spread([one]), [2], (seed_spread([other]), [4]))
    assert wide.low == pytest.approx(expected.low)
    assert wide.high == pytest.approx(expected.high)


def test_an_unsteady_recipe_does_not_blur_the_others():
    arms = {"a": nats(5.0, 5.002), "b": nats(5.2, 5.201), "wild": nats(6.0, 7.0)}
    pairs = [("a", "b"), ("wild", "b")]
    _, pooled = compared(arms, pairs)
    chance = {"rng": np.random.default_rng(0), "resamples": 200}
    _, apart = compare(arms, TARGETS, pairs, {"a": "ours", "b": "ours", "wild": "old"}, **chance)
    assert pooled["a", "b"].high > 0
    assert apart["a", "b"].high < -0.19
    assert apart["wild", "b"].low < pooled["wild", "b"].low  # one degree of freedom of its own
    _, single = compare(
        {**arms, "wild": nats(6.0)}, TARGETS, pairs, {"a": "", "b": "", "wild": "old"}, **chance
    )
    assert single["wild", "b"].low > 0.7  # of one seed: what is known of the others


def test_tables_of_runs_become_grids_by_arm(tmp_path):
    runs = {
        "b-0": {"arm": "b", "seed": 0, "penalty": 0.1},
        "a-1": {"arm": "a", "seed": 1, "penalty": 0.1},
        "a-0": {"arm": "a", "seed": 0, "penalty": 0.1},
        "a-ramp-slow-0": {"arm": "a", "seed": 0, "penalty": [[0, 1], [1, 2]]},
    }
    for place, name in enumerate(runs):
        (tmp_path / name).mkdir()
        table = pd.DataFrame({"block": [1, 0], "nats": [place + 0.5, place], "targets": [4, 8]})
        table.to_parquet(tmp_path / name / "blocks.parquet")
    table = by_run([str(tmp_path / name / "blocks.parquet") for name in runs], runs)
    assert table.groupby("run")["kind"].first().to_dict() == {
        "a-0": "arm", "a-1": "arm", "b-0": "arm", "a-ramp-slow-0": "ramp",
    }  # fmt: skip
    arms = table[table["kind"] == "arm"]
    assert targets_of(arms, "block").tolist() == [8, 4]
    grids = by_arm(arms, "block")
    assert grids["a"].tolist() == [[2, 1], [2.5, 1.5]]
    assert grids["b"].tolist() == [[0], [0.5]]
