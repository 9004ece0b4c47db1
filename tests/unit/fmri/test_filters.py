"""What is correlated has passed one filter, whether measured or simulated."""

import numpy as np
import pytest
from nilearn import signal

from tgn.fmri.filters import band_passed
from tgn.fmri.ranks import resampled

BAND = (0.01, 0.1)


def test_band_passed_keeps_the_band_alone():
    tr, time = 0.72, 0.72 * np.arange(2000)[:, None]
    inside, slow, fast = (np.sin(2 * np.pi * f * time) for f in (0.05, 0.004, 0.2))
    found = band_passed(inside + 5 * slow + 5 * fast + time, tr, BAND)
    np.testing.assert_allclose(found[500:-500], inside[500:-500], atol=0.03)
    with pytest.raises(ValueError, match="needs volumes less than 5 s apart"):
        band_passed(inside, 6.0, BAND)


def test_real_people_pass_the_filter_of_the_recordings():
    """A drift that is not taken off rings at both ends of a short run."""
    rng = np.random.default_rng(0)
    series = rng.standard_normal((200, 3)) + 0.05 * np.arange(200)[:, None]
    low, high = BAND
    expected = signal.clean(
        series, detrend=True, standardize=None, t_r=2.0, high_pass=low, low_pass=high
    )
    np.testing.assert_allclose(resampled(series, tr=2.0, new_tr=2.0, band=BAND), expected)
