"""The kernel against LAPACK."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.kernels.spectra import dual_spectra


def expected(signals, window, step):
    found = []
    for start in range(0, len(signals) - window + 1, step):
        x = signals[start : start + window]
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        found.append(np.linalg.eigvalsh(z @ z.T))
    return np.array(found)


@settings(max_examples=40, deadline=None)
@given(
    window=st.integers(2, 33),
    spare=st.integers(0, 40),
    parcels=st.integers(1, 50),
    step=st.integers(1, 40),
    shared=st.sampled_from([0.0, 1.0, 100.0]),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 100),
)
def test_eigenvalues_are_lapacks(window, spare, parcels, step, shared, offset, seed):
    rng = np.random.default_rng(seed)
    signals = rng.standard_normal((window + spare, parcels))
    signals += shared * rng.standard_normal((window + spare, 1)) + offset
    eigenvalues, variances = dual_spectra(signals, window, step)
    true = expected(signals, window, step)
    assert eigenvalues.shape == true.shape
    # The offset costs the signals themselves as many digits.
    allowed = 1e-12 * max(offset, 1)
    assert np.abs(np.sort(eigenvalues, axis=1) - true).max() < allowed * window * parcels
    first = signals[:window].var(axis=0)
    assert variances.shape == (len(true), parcels)
    np.testing.assert_allclose(variances[0], first, rtol=1e-9 * max(offset, 1))


@pytest.mark.parametrize("window", [2, 3, 4, 7])
def test_decoupled_and_equal_volumes(window):
    """Off-diagonals that vanish beforehand, and eigenvalues that all agree."""
    signals = np.zeros((window, 2 * window))
    for t in range(window):
        signals[t, 2 * t : 2 * t + 2] = 1.0
    eigenvalues, _ = dual_spectra(signals, window)
    np.testing.assert_allclose(
        np.sort(eigenvalues), expected(signals, window, 1), atol=1e-12 * window**2
    )


def test_identical_parcels_leave_one_direction():
    signals = np.random.default_rng(0).standard_normal((50, 1)) * np.ones(40)
    eigenvalues = np.sort(dual_spectra(signals, 20)[0], axis=1)
    np.testing.assert_allclose(eigenvalues[:, -1], 20 * 40)
    assert np.abs(eigenvalues[:, :-1]).max() < 1e-10


def test_a_constant_parcel_has_no_variance_in_its_windows_only():
    signals = np.random.default_rng(0).standard_normal((40, 5)) + 0.1
    signals[10:30, 2] = 0.1
    _, variances = dual_spectra(signals, 10)
    assert [start for start, row in enumerate(variances) if row[2] == 0] == list(range(10, 21))
    assert (variances[:, [0, 1, 3, 4]] > 0).all()
