"""Gains of linear maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tgn.thermodynamics import transfer

matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-3, 3, width=32),
)


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@settings(deadline=None)
@given(matrices)
def test_each_singular_direction_has_its_gain_and_goes_out_along_its_own(matrix):
    found = transfer.linear(matrix)
    np.testing.assert_allclose(
        transfer.response(matrix, found.inputs), found.gains, atol=1e-12 * (1 + found.gains[0])
    )
    np.testing.assert_allclose(
        matrix @ found.inputs.T, (found.gains[:, None] * found.outputs).T, atol=1e-9
    )
    assert (np.diff(found.gains) <= 0).all()


@settings(deadline=None)
@given(matrices, st.integers(0, 99))
def test_the_gain_of_any_perturbation_is_made_of_those_of_the_directions(matrix, seed):
    found = transfer.linear(matrix)
    d = noise(matrix.shape[1], seed)
    shares = (found.inputs @ d) ** 2 / (d @ d)
    expected = np.sqrt((found.gains**2) @ shares)
    assert transfer.response(matrix, d)[0] == pytest.approx(expected, abs=1e-9)
    assert expected <= found.gains[0] + 1e-9


def test_a_perturbation_without_direction_has_the_isotropic_gain():
    matrix = noise((30, 50))
    gains = transfer.response(matrix, noise((4000, 50), seed=1))
    assert np.sqrt(np.mean(gains**2)) == pytest.approx(
        transfer.linear(matrix).isotropic_gain, rel=0.02
    )
    rotation = np.linalg.qr(noise((20, 20)))[0]
    assert transfer.linear(3 * rotation).isotropic_gain == pytest.approx(3)


def test_noise_has_the_gains_of_the_null_and_a_planted_direction_has_not():
    matrix = 0.02 * noise((300, 500))
    found = transfer.linear(matrix)
    np.testing.assert_allclose(found.gains, found.null_gains, rtol=0.03)
    planted = matrix + 2 * np.outer(np.ones(300), np.ones(500)) / np.sqrt(300 * 500)
    excess = transfer.linear(planted)
    assert excess.gains[0] > 1.5 * excess.null_gains[0]
    assert excess.gains[1] < 1.1 * excess.null_gains[1]


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_gains_from_products_alone(shape):
    matrix = noise(shape)
    gains, inputs = transfer.largest_gains(
        lambda d: matrix @ d, lambda e: matrix.T @ e, shape, 5, rng=np.random.default_rng(0)
    )
    exact = transfer.linear(matrix)
    np.testing.assert_allclose(gains, exact.gains[:5], rtol=1e-6)
    np.testing.assert_allclose(np.abs((inputs * exact.inputs[:5]).sum(axis=1)), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: transfer.linear([[np.inf, 1.0]]), "matrix"),
        (lambda: transfer.linear(np.zeros((0, 3))), "matrix"),
        (lambda: transfer.response(np.eye(3), np.ones(2)), "perturbations"),
        (lambda: transfer.response(np.eye(3), np.zeros(3)), "perturbations"),
        (lambda: transfer.response(np.eye(3), [[np.nan, 1, 1]]), "perturbations"),
        (
            lambda: transfer.largest_gains(
                np.negative, np.negative, (4, 4), 4, rng=np.random.default_rng(0)
            ),
            "number",
        ),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
