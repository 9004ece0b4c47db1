"""Answers of a matrix to noise, pruning, truncation and quantisation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tgn.thermodynamics import perturbation
from tgn.thermodynamics.levels import thermal_properties

CHANGES = {
    "noise": (0.05, 0.1),
    "sign_flip": (0.01,),
    "top_direction": (0.1,),
    "bottom_direction": (0.1,),
    "pruning": (0.3,),
    "truncation": (0.25,),
    "quantisation": (4,),
}
matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(2, 6)),
    elements=st.floats(-3, 3, width=32),
)


def noise(shape=(24, 16), seed=0, scale=0.1):
    return scale * np.random.default_rng(seed).standard_normal(shape)


def apply(matrix, kind, amount, seed=0):
    return perturbation.apply(matrix, kind, amount, rng=np.random.default_rng(seed))


@settings(deadline=None)
@given(matrices, st.sampled_from([kind for kind in perturbation.KINDS if kind != "quantisation"]))
def test_nothing_is_changed_by_an_amount_of_zero(matrix, kind):
    np.testing.assert_array_equal(apply(matrix, kind, 0), matrix)


@settings(deadline=None)
@given(matrices, st.floats(0, 2), st.sampled_from(["noise", "top_direction", "bottom_direction"]))
def test_sizes_are_as_asked(matrix, amount, kind):
    if np.linalg.norm(matrix) < 1e-3:
        return
    changed = apply(matrix, kind, amount)
    assert perturbation.relative_size(matrix, changed) == pytest.approx(amount, abs=1e-12)


@settings(deadline=None)
@given(matrices, st.floats(0, 1))
def test_sign_flips_keep_magnitudes_and_are_as_many_as_asked(matrix, share):
    changed = apply(matrix, "sign_flip", share)
    np.testing.assert_array_equal(np.abs(changed), np.abs(matrix))
    nonzero = (matrix != 0).all()
    assert (changed != matrix).sum() == round(share * matrix.size) or not nonzero


@settings(deadline=None)
@given(matrices, st.floats(0, 1))
def test_pruning_takes_the_smallest_entries_and_leaves_the_others(matrix, share):
    changed = apply(matrix, "pruning", share)
    gone = (changed == 0) & (matrix != 0)
    assert gone.sum() <= round(share * matrix.size)
    np.testing.assert_array_equal(changed[~gone], matrix[~gone])
    if gone.any() and (changed != 0).any():
        assert np.abs(matrix[gone]).max() <= np.abs(changed[changed != 0]).min()
    assert (changed == 0).sum() >= round(share * matrix.size)


@settings(deadline=None)
@given(matrices, st.floats(0, 1))
def test_truncation_is_the_nearest_matrix_of_its_rank(matrix, share):
    changed = apply(matrix, "truncation", share)
    sigma = np.linalg.svd(matrix, compute_uv=False)
    dropped = round(share * len(sigma))
    assert np.linalg.matrix_rank(changed, tol=1e-9) <= len(sigma) - dropped
    # Eckart and Young 1936
    rest = np.sqrt((sigma[len(sigma) - dropped :] ** 2).sum())
    assert np.linalg.norm(changed - matrix) == pytest.approx(rest, abs=1e-9)


@settings(deadline=None)
@given(matrices, st.integers(2, 10))
def test_quantisation_rounds_to_few_values_a_row_and_again_does_nothing(matrix, bits):
    changed = apply(matrix, "quantisation", bits)
    largest = np.abs(matrix).max(axis=1)
    half = largest / (2 ** (bits - 1) - 1) / 2
    assert (np.abs(changed - matrix) <= half[:, None] * (1 + 1e-9)).all()
    np.testing.assert_allclose(np.abs(changed).max(axis=1), largest)
    assert all(len(np.unique(row)) <= 2**bits - 1 for row in changed)
    np.testing.assert_allclose(apply(changed, "quantisation", bits), changed, atol=1e-12)


def test_directions_change_one_singular_value_only():
    matrix = noise()
    sigma = np.linalg.svd(matrix, compute_uv=False)
    step = 0.1 * np.linalg.norm(matrix)
    top = np.linalg.svd(apply(matrix, "top_direction", 0.1), compute_uv=False)
    np.testing.assert_allclose(top, [sigma[0] + step, *sigma[1:]])
    bottom = np.linalg.svd(apply(matrix, "bottom_direction", 0.1), compute_uv=False)
    np.testing.assert_allclose(np.sort(bottom), np.sort([sigma[-1] + step, *sigma[:-1]]))


@pytest.mark.parametrize("kind", ["noise", "sign_flip"])
def test_a_draw_is_one_direction_over_all_amounts(kind):
    matrix = noise()
    small, large = apply(matrix, kind, 0.1) - matrix, apply(matrix, kind, 0.3) - matrix
    if kind == "noise":
        np.testing.assert_allclose(large, 3 * small)
    else:
        assert set(np.flatnonzero(small)) < set(np.flatnonzero(large))
    assert not np.array_equal(apply(matrix, kind, 0.1, seed=1) - matrix, small)


def test_the_control_moves_as_far_elsewhere():
    matrix = noise()
    changed = apply(matrix, "pruning", 0.5)
    control = perturbation.matched_noise(matrix, changed, rng=np.random.default_rng(1))
    expected = perturbation.relative_size(matrix, changed)
    assert perturbation.relative_size(matrix, control) == pytest.approx(expected)
    overlap = np.vdot(control - matrix, changed - matrix) / np.linalg.norm(changed - matrix) ** 2
    assert abs(overlap) < 0.3


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, 8, elements=st.floats(-2, 2)),
    hnp.arrays(np.float64, 8, elements=st.floats(-2, 2)),
    st.floats(0.3, 3),
)
def test_the_free_energy_answers_by_the_boltzmann_average(levels, direction, temperature):
    step = 1e-5

    def free_energy(eps):
        return thermal_properties(levels + eps * direction, [temperature]).free_energy[0]

    slope = (free_energy(step) - free_energy(-step)) / (2 * step)
    (expected,) = perturbation.free_energy_slope(levels, direction, [temperature])
    assert slope == pytest.approx(expected, abs=1e-6)


def test_noise_widens_gaussian_levels_as_the_random_energy_model_says():
    """Of variance s^2 (1 + eps^2): S = ln N - (1 + eps^2) / 2 T^2, and C, U, F likewise."""
    rows = perturbation.respond(
        noise((300, 400)),
        {"noise": (0.05, 0.1, 0.2)},
        rng=np.random.default_rng(2),
        draws=6,
        at=1.5,
    )
    found = perturbation.susceptibility(rows, rng=np.random.default_rng(3))
    curvature = found.set_index("metric")["curvature"]
    kelvin = 1.5
    for metric, expected in {
        "sigma": 0.5,
        "entropy": -0.5 / kelvin**2,
        "specific_heat": 1 / kelvin**2,
        "energy": -1 / kelvin,
        "free_energy": -0.5 / kelvin,
    }.items():
        assert curvature[metric] == pytest.approx(expected, rel=0.15), metric
    slopes = found.set_index("metric")["slope"]
    assert abs(slopes[["sigma", "entropy", "specific_heat", "energy", "free_energy"]]).max() < 0.02


def test_rows_are_tidy_and_the_reference_is_the_unchanged_matrix():
    matrix = noise()
    rows = perturbation.respond(
        matrix, CHANGES, rng=np.random.default_rng(0), name="layer_0/x", draws=3
    )
    assert list(rows) == [
        "matrix", "kind", "amount", "control", "draw", "eps", "metric", "value", "reference",
        "change",
    ]  # fmt: skip
    assert set(rows["kind"]) == set(perturbation.KINDS)
    assert set(rows["matrix"]) == {"layer_0/x"}
    own = perturbation.quantities(matrix)
    for metric, group in rows.groupby("metric"):
        assert group["reference"].nunique(dropna=False) == 1
        if metric in own and metric != "sigma":
            np.testing.assert_allclose(group["reference"].iloc[0], own[metric], rtol=1e-6)
    assert rows.loc[rows["metric"] == "sigma", "reference"].iloc[0] == pytest.approx(1)
    np.testing.assert_allclose(rows["change"], rows["value"] - rows["reference"])
    draws = rows.groupby(["kind", "control"])["draw"].nunique()
    assert draws["noise", False] == draws["sign_flip", False] == draws["pruning", True] == 3
    assert draws["pruning", False] == draws["truncation", False] == 1
    assert ("noise", True) not in draws.index
    pruned = rows[(rows["kind"] == "pruning") & (rows["metric"] == "entropy")]
    assert pruned["eps"].nunique() == 1  # the control's is the change's


def test_the_same_seed_gives_the_same_rows():
    first, second = (
        perturbation.respond(noise(), {"noise": (0.1,)}, rng=np.random.default_rng(5))
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, second)


def test_units_of_the_weights_do_not_matter():
    changes = {"pruning": (0.3,), "truncation": (0.25,), "noise": (0.1,)}
    one, other = (
        perturbation.respond(scale * noise(), changes, rng=np.random.default_rng(5))
        for scale in (1.0, 37.0)
    )
    np.testing.assert_allclose(one["change"], other["change"], rtol=1e-6, atol=1e-9)


def test_truncation_costs_rank_and_noise_of_its_size_does_not():
    rows = perturbation.respond(
        noise((60, 60)), {"truncation": (0.4,)}, rng=np.random.default_rng(1), draws=2
    )
    ranks = rows[rows["metric"] == "effective_rank_sigma"].groupby("control")["change"].mean()
    assert ranks[False] < -10 < -3 < ranks[True]


def test_a_matrix_without_a_bulk_is_not_compared_with_noise():
    low = np.outer(np.arange(1.0, 9.0), np.ones(6))
    found = perturbation.quantities(low)
    assert np.isnan([found["mp_distance"], found["largest"], found["outliers"]]).all()
    assert found["stable_rank"] == pytest.approx(1)


def test_a_peak_at_the_edge_is_none():
    found = perturbation.quantities(noise(), temperatures=(1.5, 3.0))
    assert found["at_edge"] == 1
    assert np.isnan(found["critical_temperature"])
    inside = perturbation.quantities(noise())
    assert inside["at_edge"] == 0
    assert 0.05 < inside["critical_temperature"] < 2


def test_a_matrix_of_zeros_has_no_temperature():
    found = perturbation.quantities(np.zeros((4, 4)))
    assert np.isnan(found["critical_temperature"])
    assert found["sigma"] == 0
    assert found["stable_rank"] == 0


def test_slope_and_curvature_of_a_known_answer():
    eps = np.array([0.01, 0.02, 0.05, 0.1, 0.5])
    rows = pd.concat(
        pd.DataFrame(
            {
                "matrix": "m",
                "kind": "noise",
                "control": False,
                "metric": "entropy",
                "draw": draw,
                "eps": eps,
                # beyond `largest` it is something else
                "change": np.where(eps < 0.2, (2 + shift) * eps - 3 * eps**2, 99.0),
            }
        )
        for draw, shift in enumerate((-0.1, 0.0, 0.1))
    )
    (found,) = perturbation.susceptibility(rows, rng=np.random.default_rng(0)).to_dict("records")
    assert found["slope"] == pytest.approx(2)
    assert found["curvature"] == pytest.approx(-3)
    assert (found["low"], found["high"]) == pytest.approx((1.9, 2.1))
    assert found["draws"] == 3
    (alone,) = perturbation.susceptibility(
        rows[rows["draw"] == 0], rng=np.random.default_rng(0)
    ).to_dict("records")
    assert alone["slope"] == pytest.approx(1.9)
    assert np.isnan(alone["low"])


@pytest.mark.parametrize(
    ("kind", "amount", "name"),
    [
        ("heat", 0.1, "kind"),
        ("noise", -0.1, "amount"),
        ("noise", np.nan, "amount"),
        ("pruning", 1.1, "amount"),
        ("quantisation", 1, "amount"),
        ("quantisation", 3.5, "amount"),
    ],
)
def test_changes_that_make_no_sense_are_refused(kind, amount, name):
    with pytest.raises(ValueError, match=name):
        apply(noise(), kind, amount)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda rng: perturbation.apply([[np.nan]], "noise", 0.1, rng=rng), "matrix"),
        (lambda rng: perturbation.apply([1.0, 2.0], "noise", 0.1, rng=rng), "matrix"),
        (lambda rng: perturbation.matched_noise(noise(), noise((3, 3)), rng=rng), "changed"),
        (lambda rng: perturbation.relative_size(np.zeros((2, 2)), np.ones((2, 2))), "zero"),
        (lambda rng: perturbation.quantities(noise(), sigma=0.0), "sigma"),
        (lambda rng: perturbation.quantities(noise(), at=0.0), "temperatures"),
        (lambda rng: perturbation.respond(noise(), {}, rng=rng), "changes"),
        (lambda rng: perturbation.respond(noise(), {"noise": ()}, rng=rng), "changes"),
        (lambda rng: perturbation.respond(noise(), {"noise": (0.1,)}, rng=rng, draws=0), "draws"),
        (lambda rng: perturbation.respond(np.ones((3, 3)), CHANGES, rng=rng), "equal"),
        (lambda rng: perturbation.free_energy_slope([1.0, 2.0], [1.0], [1.0]), "direction"),
        (lambda rng: perturbation.susceptibility(pd.DataFrame({"eps": [1]}), rng=rng), "lack"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(np.random.default_rng(0))


def test_one_size_is_too_few_for_a_slope():
    rows = perturbation.respond(noise(), {"noise": (0.1,)}, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="two sizes"):
        perturbation.susceptibility(rows, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="largest"):
        perturbation.susceptibility(rows, rng=np.random.default_rng(0), largest=0.0)
