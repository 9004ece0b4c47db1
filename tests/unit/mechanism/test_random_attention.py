"""Ranks of random attention in their limits, and how a maximum is found."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from tgn.mechanism.random_attention import (
    DEFINITIONS,
    crossing,
    freezing_alpha,
    highest,
    measure,
    normal_scores,
    profile,
    width_of_rise,
)

SCORES = normal_scores(40, 16, np.random.default_rng(0))


def test_hot_attention_is_one_direction():
    ranks = profile(softmax(1e-6 * SCORES, axis=1))
    for name in DEFINITIONS[:4]:
        assert ranks[name] == pytest.approx(1, abs=1e-3)
    assert ranks["row_rank"] == pytest.approx(40)


def test_cold_attention_has_the_rank_of_the_keys_that_are_picked():
    weights = softmax(1e4 * SCORES, axis=1)
    picked = len(np.unique(SCORES.argmax(axis=1)))
    assert np.linalg.matrix_rank(weights) == picked
    ranks = profile(weights)
    assert 1 < ranks["effective_rank_sigma"] <= picked + 1e-9
    assert ranks["row_rank"] == pytest.approx(1, abs=1e-3)


def test_the_largest_singular_value_is_not_one():
    """Only the largest eigenvalue of a row-stochastic matrix is."""
    weights = softmax(10 * SCORES, axis=1)
    assert np.linalg.svd(weights, compute_uv=False)[0] > 1.2
    assert np.abs(np.linalg.eigvals(weights)).max() == pytest.approx(1)


def test_the_identity_has_full_rank_by_every_definition():
    ranks = profile(np.eye(8))
    assert [ranks[name] for name in DEFINITIONS[:4]] == pytest.approx([8] * 4)
    assert ranks["centred"] == pytest.approx(7)
    assert ranks["row_rank"] == 1


def test_scores_have_unit_variance_at_any_dimension():
    for dimension in (4, 64):
        scores = normal_scores(400, dimension, np.random.default_rng(1))
        assert scores.std() == pytest.approx(1, rel=0.05)


@given(st.floats(-1.5, 1.5), st.floats(0.5, 3))
def test_the_top_of_a_parabola_is_found_between_points(place, curvature):
    logs = np.linspace(-2.3, 3.4, 21)
    found, at_edge = highest(np.exp(logs), 5 - curvature * (logs - place) ** 2)
    assert found == pytest.approx(place, abs=1e-9)
    assert not at_edge


def test_a_curve_that_only_rises_is_highest_at_an_end():
    alphas = np.exp([0.0, 1.0, 2.0])
    assert highest(alphas, np.array([1.0, 2.0, 3.0])) == (2.0, True)


def test_a_crossing_lies_between_the_points():
    alphas = np.exp([0.0, 1.0, 2.0])
    assert crossing(alphas, np.array([4.0, 3.0, 1.0]), 2.0) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="never passes"):
        crossing(alphas, np.array([4.0, 3.0, 2.0]), 1.0)


def test_the_width_of_a_logistic_rise():
    logs = np.linspace(-6, 6, 601)
    rise = 1 / (1 + np.exp(-logs / 0.5))
    assert width_of_rise(np.exp(logs), rise) == pytest.approx(2 * 0.5 * np.log(3), rel=1e-3)


def test_the_random_energy_model_knows_the_number_of_levels_alone():
    """Its rows lose half of their entropy where theory says, for very many levels."""
    rng = np.random.default_rng(2)
    entropies = []
    alpha = freezing_alpha(10**6) / np.sqrt(2)
    for _ in range(4):
        weights = softmax(alpha * rng.normal(size=10**6))
        entropies.append(-(weights * np.log(weights)).sum() / np.log(10**6))
    assert np.mean(entropies) == pytest.approx(0.5, abs=0.02)


def test_a_job_measures_every_case_draw_and_definition(tmp_path):
    path = tmp_path / "a.parquet"
    plan = {"alphas": [0.1, 10, 5], "cases": [[12, 4, 2], [8, 4, 3]], "seed": 3}
    measure(table=path, **plan)
    table = pd.read_parquet(path)
    assert len(table) == 5 * (2 + 3) * len(DEFINITIONS)
    assert not table.duplicated(["size", "dimension", "draw", "alpha", "definition"]).any()
    first = table[(table["size"] == 12) & (table["draw"] == 0) & (table["definition"] == "centred")]
    second = table[
        (table["size"] == 12) & (table["draw"] == 1) & (table["definition"] == "centred")
    ]
    assert (first["value"].to_numpy() != second["value"].to_numpy()).any()
    assert np.allclose(np.sort(first["alpha"])[[0, -1]], [0.1, 10])
