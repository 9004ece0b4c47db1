"""The effective-rank family: inequalities, invariances, exact cases, anchors, accuracy, nulls."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import quad
from scipy.signal import lfilter
from threadpoolctl import threadpool_limits

from tgn import rank

CENTRES = ("none", "columns", "zscore")
CHAIN = (
    "stable_rank",
    "participation_ratio",
    "effective_rank_sigma2",
    "effective_rank_sigma",
    "rank",
    "cap",
)
BATCHED = {
    "singular_values": rank.singular_values,
    "effective_rank": rank.effective_rank,
    "effective_rank_sigma2": lambda x: rank.effective_rank(x, weighting="sigma2"),
    "effective_rank_zscore": lambda x: rank.effective_rank(x, centre="zscore"),
    "participation_ratio": rank.participation_ratio,
    "participation_ratio_zscore": lambda x: rank.participation_ratio(x, centre="zscore"),
    "stable_rank": rank.stable_rank,
    "stable_rank_columns": lambda x: rank.stable_rank(x, centre="columns"),
    "relative_residual": rank.relative_residual,
    "relative_residual_mixed": lambda x: rank.relative_residual(x, norm="mixed"),
    "token_share": lambda x: rank.outlier_share(x)[0],
    "channel_share": lambda x: rank.outlier_share(x)[1],
}
MATRIX_FUNCTIONS = {
    **BATCHED,
    "rank_profile": rank.rank_profile,
    "equal_length": lambda x: rank.equal_length(x, 1),
    "shuffled_within_columns": lambda x: rank.shuffled_within_columns(x, generator()),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small matrices: waking a second thread costs more than it brings."""
    with threadpool_limits(1):
        yield


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def white(*shape: int, seed: int = 0) -> np.ndarray:
    return generator(seed).standard_normal(shape)


def decaying(seed: int, n_rows: int, n_columns: int, decades: float) -> np.ndarray:
    return white(n_rows, n_columns, seed=seed) * np.logspace(0, -decades, n_columns)


def orthogonal(n: int, seed: int) -> np.ndarray:
    return np.linalg.qr(white(n, n, seed=seed))[0]


def ranks(x: np.ndarray, centre: str = "none") -> np.ndarray:
    """Every definition in one vector, the decomposition-free participation ratio included."""
    profile = rank.rank_profile(x, centre=centre)
    return np.array(
        [profile[name] for name in CHAIN] + [rank.participation_ratio(x, centre=centre)]
    )


small_integers = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.integers(-5, 5),
)
continuous = st.builds(
    decaying,
    st.integers(0, 10**6),
    st.integers(2, 12),
    st.integers(2, 12),
    st.sampled_from([0.0, 1.0, 2.5]),
)
weights_lists = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-6, 1.0)), min_size=1, max_size=12
).filter(any)


class TestInequalities:
    @given(small_integers, st.sampled_from(CENTRES))
    def test_chain_holds_even_for_deficient_matrices(self, x, centre):
        profile = rank.rank_profile(x, centre=centre)
        values = np.array([profile[name] for name in CHAIN])
        assert np.isfinite(values).all()
        if values[4] == 0:
            centred = x - x.mean(axis=0) if centre != "none" else x
            assert np.allclose(centred, 0)
            assert (values[:5] == 0).all()
        else:
            assert values[0] >= 1 - 1e-9
            assert (np.diff(values) >= -1e-7).all()

    @given(continuous, st.sampled_from(CENTRES))
    def test_chain_is_strict_for_uneven_spectra(self, x, centre):
        profile = rank.rank_profile(x, centre=centre)
        values = [profile[name] for name in CHAIN[:5]]
        if profile["rank"] > 1 and profile["participation_ratio"] < profile["rank"] - 1e-3:
            assert (np.diff(values) > 0).all()

    @given(small_integers)
    def test_rank_agrees_with_exact_rank(self, x):
        assert rank.rank_profile(x)["rank"] == np.linalg.matrix_rank(x)

    @pytest.mark.parametrize(
        ("shape", "centre", "cap"),
        [
            ((5, 8), "none", 5),
            ((5, 8), "columns", 4),
            ((5, 8), "zscore", 4),
            ((8, 5), "none", 5),
            ((8, 5), "columns", 5),
            ((5, 5), "columns", 4),
            ((1, 3), "columns", 0),
        ],
    )
    def test_cap_is_reached_by_generic_data(self, shape, centre, cap):
        profile = rank.rank_profile(white(*shape), centre=centre)
        assert profile["cap"] == rank.rank_cap(*shape, centre=centre) == cap
        assert profile["rank"] == cap


class TestInvariances:
    @given(continuous, st.sampled_from(CENTRES), st.floats(-12, 12), st.sampled_from([-1, 1]))
    def test_scale(self, x, centre, exponent, sign):
        scaled = sign * 10**exponent * x
        np.testing.assert_allclose(ranks(scaled, centre), ranks(x, centre), rtol=1e-9)

    @pytest.mark.parametrize("factor", [1e-307, 1e-160, 1e160, 1e307])
    @pytest.mark.parametrize("centre", CENTRES)
    def test_scale_where_squares_overflow_or_vanish(self, factor, centre):
        x = white(9, 6)
        np.testing.assert_allclose(ranks(x * factor, centre), ranks(x, centre), rtol=1e-6)
        assert rank.outlier_share(x * factor) == pytest.approx(rank.outlier_share(x), rel=1e-6)
        for norm in ("frobenius", "mixed"):
            residual = rank.relative_residual(x, norm=norm)
            assert rank.relative_residual(x * factor, norm=norm) == pytest.approx(residual)

    @pytest.mark.parametrize("factor", [1e-36, 1e-12, 1e12, 1e36])
    @pytest.mark.parametrize("centre", CENTRES)
    def test_scale_in_float32(self, factor, centre):
        x = white(128, 64).astype(np.float32)
        scaled = x * np.float32(factor)
        np.testing.assert_allclose(ranks(scaled, centre), ranks(x, centre), rtol=2e-6)

    @given(continuous)
    def test_transpose_when_not_centred(self, x):
        np.testing.assert_allclose(ranks(x.T), ranks(x), rtol=1e-9)

    def test_transpose_matters_when_centred(self):
        x = white(20, 10) + 3 * white(10, seed=1)
        assert abs(ranks(x.T, "columns")[3] - ranks(x, "columns")[3]) > 0.5

    @given(continuous, st.integers(0, 100))
    def test_orthogonal_maps(self, x, seed):
        rotated = orthogonal(x.shape[0], seed) @ x @ orthogonal(x.shape[1], seed + 1)
        np.testing.assert_allclose(ranks(rotated), ranks(x), rtol=1e-8)
        right = x @ orthogonal(x.shape[1], seed)
        np.testing.assert_allclose(ranks(right, "columns"), ranks(x, "columns"), rtol=1e-8)

    @given(continuous, st.sampled_from(CENTRES), st.integers(0, 100))
    def test_permutations(self, x, centre, seed):
        rng = generator(seed)
        permuted = rng.permutation(rng.permutation(x, axis=0), axis=1)
        np.testing.assert_allclose(ranks(permuted, centre), ranks(x, centre), rtol=1e-8)

    @given(continuous, st.sampled_from(["columns", "zscore"]), st.floats(-1e3, 1e3))
    def test_column_offsets_when_centred(self, x, centre, size):
        offset = size * white(x.shape[1], seed=5)
        np.testing.assert_allclose(ranks(x + offset, centre), ranks(x, centre), rtol=1e-5)

    def test_large_offset_sends_uncentred_ranks_to_one(self):
        x = white(40, 20)
        uncentred = ranks(x + 1e6)
        assert (np.delete(uncentred, [4, 5]) < 1.001).all()
        np.testing.assert_allclose(ranks(x + 1e6, "columns"), ranks(x, "columns"), rtol=1e-7)

    @given(continuous, st.integers(0, 100))
    def test_column_scales_when_zscored(self, x, seed):
        scales = np.exp(generator(seed).uniform(-5, 5, x.shape[1]))
        np.testing.assert_allclose(ranks(x * scales, "zscore"), ranks(x, "zscore"), rtol=1e-6)


class TestExactCases:
    @pytest.mark.parametrize("n", [1, 2, 7, 64])
    def test_identity(self, n):
        np.testing.assert_allclose(ranks(np.eye(n)), n, rtol=1e-12)

    @pytest.mark.parametrize("shape", [(6, 9), (9, 6), (128, 96)])
    def test_rank_one(self, shape):
        x = np.outer(white(shape[0]), white(shape[1], seed=1))
        np.testing.assert_allclose(np.delete(ranks(x), 5), 1, rtol=1e-12)

    @pytest.mark.parametrize("k", [1, 3, 5])
    @pytest.mark.parametrize("shape", [(5, 12), (12, 5), (40, 30)])
    def test_k_equal_singular_values(self, k, shape):
        x = 7.5 * orthogonal(shape[0], 0)[:, :k] @ orthogonal(shape[1], 1)[:k]
        np.testing.assert_allclose(np.delete(ranks(x), 5), k, rtol=1e-5)

    def test_two_singular_values_by_hand(self):
        x = np.diag([3.0, 1.0])
        profile = rank.rank_profile(x)
        assert profile["stable_rank"] == pytest.approx(10 / 9)
        assert profile["participation_ratio"] == pytest.approx(100 / 82)
        assert profile["effective_rank_sigma2"] == pytest.approx(
            np.exp(-0.9 * np.log(0.9) - 0.1 * np.log(0.1))
        )
        assert profile["effective_rank_sigma"] == pytest.approx(
            np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
        )

    @pytest.mark.parametrize("centre", CENTRES)
    @pytest.mark.parametrize(
        "x", [np.zeros((3, 4)), np.zeros((4, 3), np.float32), np.zeros((2, 5, 5), int)]
    )
    def test_zero_matrix_has_rank_zero(self, x, centre):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            profile = rank.rank_profile(x, centre=centre)
            assert all(np.all(profile[name] == 0) for name in CHAIN[:5])
            assert np.all(rank.participation_ratio(x, centre=centre) == 0)
            assert np.all(rank.effective_rank(x, weighting="sigma2", centre=centre) == 0)
            assert np.all(rank.stable_rank(x, centre=centre) == 0)
            assert np.all(rank.relative_residual(x, norm="mixed") == 0)
            assert all(np.all(share == 0) for share in rank.outlier_share(x))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("centre", ["columns", "zscore"])
    def test_constant_columns_vanish_exactly_when_centred(self, dtype, centre):
        # 0.1 and its mean over 7 rows differ by a rounding error, which must not become a rank.
        x = np.full((7, 5), 0.1, dtype) * np.arange(1, 6, dtype=dtype)
        assert (ranks(x, centre)[[0, 1, 2, 3, 4, 6]] == 0).all()
        x[:, 0] = white(7)
        np.testing.assert_allclose(ranks(x, centre)[[0, 1, 2, 3, 4, 6]], 1, rtol=1e-6)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_signal_far_below_a_constant_column(self, dtype):
        x = np.eye(4, dtype=dtype)[:, :2] * dtype(1e-30)
        expected = ranks(np.eye(4)[:, :2], "columns")
        x = np.column_stack([np.ones(4, dtype), x])
        np.testing.assert_allclose(np.delete(ranks(x, "columns"), 5), np.delete(expected, 5), 1e-6)

    @given(continuous, st.sampled_from(CENTRES))
    def test_single_definitions_equal_the_profile(self, x, centre):
        single = {
            "stable_rank": rank.stable_rank(x, centre=centre),
            "participation_ratio": rank.participation_ratio(x, centre=centre),
            "effective_rank_sigma2": rank.effective_rank(x, weighting="sigma2", centre=centre),
            "effective_rank_sigma": rank.effective_rank(x, weighting="sigma", centre=centre),
        }
        profile = rank.rank_profile(x, centre=centre)
        assert single == pytest.approx({name: profile[name] for name in single}, rel=1e-9)

    def test_one_row_has_no_centred_rank(self):
        assert ranks(white(1, 4))[3] == pytest.approx(1)
        assert (ranks(white(1, 4), "columns") == 0).all()

    def test_zscored_squares_are_pearson_eigenvalues(self):
        x = white(50, 8) @ white(8, 8, seed=1) + 4
        expected = np.linalg.eigvalsh(np.corrcoef(x, rowvar=False))[::-1]
        squares = rank.singular_values(x, centre="zscore") ** 2 / 50
        np.testing.assert_allclose(squares, expected, rtol=1e-9)

    def test_column_centring_gives_covariance_eigenvalues(self):
        x = white(50, 8) @ white(8, 8, seed=1) + 4
        expected = np.linalg.eigvalsh(np.cov(x, rowvar=False))[::-1]
        squares = rank.singular_values(x, centre="columns") ** 2 / 49
        np.testing.assert_allclose(squares, expected, rtol=1e-9)


class TestRenyi:
    @given(weights_lists, st.floats(0, 40), st.floats(0, 40))
    def test_falls_with_the_order_and_stays_in_range(self, weights, one, other):
        low, high = sorted((one, other))
        smallest = rank.renyi_rank(weights, np.inf)
        largest = rank.renyi_rank(weights, 0)
        chain = [
            1.0,
            smallest,
            rank.renyi_rank(weights, high),
            rank.renyi_rank(weights, low),
            largest,
        ]
        assert (np.diff(chain) >= -1e-6 * largest).all()
        assert largest == np.count_nonzero(weights)

    @given(weights_lists, st.sampled_from([0.5, 2.0, 3.0]))
    def test_matches_the_textbook_formula(self, weights, order):
        p = np.array(weights) / np.sum(weights)
        expected = (p**order).sum() ** (1 / (1 - order))
        assert rank.renyi_rank(weights, order) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("order", [1 - 1e-6, 1 - 1e-13, 1, 1 + 1e-13, 1 + 1e-6])
    def test_is_continuous_at_order_one(self, order):
        p = np.array([0.5, 0.25, 0.125, 0.125])
        assert rank.renyi_rank(p, order) == pytest.approx(2**1.75, rel=1e-5)

    @pytest.mark.parametrize("order", [300.0, 1e6, 1e308])
    def test_large_orders_approach_the_limit(self, order):
        assert rank.renyi_rank([0.25, 0.5, 0.25], order) == pytest.approx(2.0, rel=5e-3)

    @given(weights_lists, st.sampled_from([1e-300, 1e-12, 1e12, 1e300]))
    def test_scale(self, weights, factor):
        for order in (0, 0.5, 1, 2, np.inf):
            expected = rank.renyi_rank(weights, order)
            scaled = rank.renyi_rank(np.array(weights) * factor, order)
            assert scaled == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("order", [0, 0.5, 1, 2, np.inf])
    def test_zero_weights(self, order):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mixed = rank.renyi_rank([[0.0, 0.0], [0.0, 3.0], [2.0, 2.0]], order)
        np.testing.assert_allclose(mixed, [0, 1, 2], rtol=1e-12)
        assert mixed[0] == 0

    @pytest.mark.parametrize(
        ("weights", "order", "name"),
        [
            ([], 1, "weights"),
            (3.0, 1, "weights"),
            ([1.0, -1e-9], 1, "weights"),
            ([1.0, np.nan], 1, "weights"),
            ([1.0, np.inf], 1, "weights"),
            ([1.0], -0.1, "order"),
            ([1.0], np.nan, "order"),
        ],
    )
    def test_errors(self, weights, order, name):
        with pytest.raises(ValueError, match=name):
            rank.renyi_rank(weights, order)


def anchor_columns(x: np.ndarray) -> np.ndarray:
    """The columns of the reference tables, averaged over a batch."""
    raw, centred, zscored = (rank.rank_profile(x, centre=centre) for centre in CENTRES)
    values = (
        raw["effective_rank_sigma"],
        centred["effective_rank_sigma"],
        centred["effective_rank_sigma2"],
        zscored["effective_rank_sigma2"],
        zscored["participation_ratio"],
        zscored["stable_rank"],
    )
    return np.array([value.mean() for value in values])


def assert_within(values: np.ndarray, expected: list[float], tolerance: list[float] | float):
    off = np.abs(values - expected) > tolerance
    assert not off.any(), f"{values} instead of {expected} within {tolerance}"


class TestAnchors:
    """Independently measured values: one Gaussian matrix, so wide only by its own scatter."""

    def noise(self):
        return white(40, 128, 64)

    def test_white(self):
        expected = [59.0, 58.9, 49.2, 49.5, 42.3, 22.5]
        assert_within(anchor_columns(self.noise()), expected, [0.5, 0.5, 1, 1, 1.5, 3])

    def test_column_offsets(self):
        x = self.noise() + 3 * white(40, 1, 64, seed=1)
        expected = [31.5, 59.6, 50.6, 50.9, 43.9, 23.8]
        assert_within(anchor_columns(x), expected, [6, 1, 1.5, 1.5, 2, 3])

    def test_outlier_channel_is_cured_by_zscore(self):
        x = self.noise()
        x[..., 0] *= 100
        expected = [9.2, 9.1, 1.1, 49.5, 42.3, 22.5]
        assert_within(anchor_columns(x), expected, [2, 2, 0.06, 1, 1.5, 3])

    def test_outlier_token_is_not(self):
        x = self.noise()
        x[:, 0] *= 100
        expected = [12.2, 12.2, 1.1, 2.2, 1.3, 1.1]
        assert_within(anchor_columns(x), expected, [3, 3, 0.06, 0.7, 0.3, 0.2])

    @pytest.mark.parametrize(
        ("length", "phi", "shared", "expected"),
        [
            (100, 0.0, 0.0, [80.3, 79.9, 60.2, 60.6, 50.1, 26.7]),
            (155, 0.5, 0.5, [74.3, 74.2, 15.5, 15.7, 3.9, 2.0]),
            (256, 0.0, 0.0, [94.4, 94.3, 81.9, 82.2, 71.8, 39.2]),
            (256, 0.8, 0.0, [81.3, 81.5, 51.0, 52.1, 37.1, 17.0]),
            (256, 0.5, 0.2, [87.7, 87.7, 49.6, 50.1, 18.8, 4.8]),
        ],
    )
    def test_autoregressive_regions_with_a_common_signal(self, length, phi, shared, expected):
        innovations = white(20, length + 100, 101, seed=2) * np.sqrt(1 - phi**2)
        series = lfilter([1.0], [1.0, -phi], innovations, axis=1)[:, 100:]
        x = np.sqrt(1 - shared) * series[..., 1:] + np.sqrt(shared) * series[..., :1]
        # Both sides are means over 20 runs; the scatter of a run is up to 3 with a common signal.
        tolerance = 1.0 if shared == 0 else 3.0
        assert_within(anchor_columns(x), expected, tolerance)


def exact_effective_rank(x: np.ndarray) -> float:
    sigma = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    p = sigma[sigma > 1e-14 * sigma[0]]
    p = p / p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def with_channel(x: np.ndarray, factor: float) -> np.ndarray:
    x = x.copy()
    x[:, 3] *= factor
    return x


ILL_CONDITIONED = {
    "channel x 1e3": lambda x: with_channel(x, 1e3),
    "channel x 1e5": lambda x: with_channel(x, 1e5),
    "channel x 1e7": lambda x: with_channel(x, 1e7),
    "token x 1e3": lambda x: with_channel(x.T, 1e3).T,
    "decay to 1e-4": lambda x: x * np.logspace(0, -4, x.shape[1]),
    "decay to 1e-8": lambda x: x * np.logspace(0, -8, x.shape[1]),
    "offset 100": lambda x: x + 100,
    "rank 3": lambda x: x[:, :3] @ x[:3],
    "nearly rank one": lambda x: np.outer(x[:, 0], x[0]) + 1e-6 * x,
    "duplicate rows": lambda x: np.repeat(x[: len(x) // 2], 2, axis=0),
}


class TestAccuracy:
    @given(continuous, st.sampled_from(CENTRES))
    def test_singular_values_match_the_svd(self, x, centre):
        y = x - x.mean(axis=0) if centre != "none" else x
        y = y / y.std(axis=0) if centre == "zscore" else y
        expected = np.linalg.svd(y, compute_uv=False)
        sigma = rank.singular_values(x, centre=centre)
        assert sigma.dtype == np.float64
        np.testing.assert_allclose(sigma, expected, rtol=1e-8, atol=1e-7 * expected[0])

    @pytest.mark.parametrize("kind", ILL_CONDITIONED)
    @pytest.mark.parametrize("shape", [(128, 192), (192, 128), (100, 100)])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_effective_rank_of_ill_conditioned_matrices(self, kind, shape, dtype):
        x = ILL_CONDITIONED[kind](white(*shape)).astype(dtype)
        expected = exact_effective_rank(x)
        assert rank.effective_rank(x) == pytest.approx(expected, rel=1e-4)
        # What is above 1, the whole signal of a collapse, is resolved too.
        if expected > 1 + 1e-6:
            assert rank.effective_rank(x) - 1 == pytest.approx(expected - 1, rel=1e-2)

    def test_ordinary_matrices_never_need_the_svd(self, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("the SVD was called")

        monkeypatch.setattr(np.linalg, "svd", refuse)
        for centre in CENTRES:
            rank.effective_rank(white(128, 192), centre=centre)
            rank.effective_rank(with_channel(white(192, 128), 1e3), centre=centre)
        with pytest.raises(AssertionError, match="SVD"):
            rank.effective_rank(with_channel(white(192, 128), 1e7))

    @pytest.mark.parametrize("shape", [(128, 576), (320, 240), (4, 64, 96)])
    @pytest.mark.parametrize("factor", [1.0, 1e3])
    def test_agrees_with_torch_on_float32(self, shape, factor):
        x = white(*shape).astype(np.float32)
        x[..., 7] *= np.float32(factor)
        sigma = torch.linalg.svdvals(torch.from_numpy(x))
        p = sigma / sigma.sum(-1, keepdim=True)
        expected = torch.special.entr(p).sum(-1).exp().numpy()
        np.testing.assert_allclose(rank.effective_rank(x), expected, rtol=1e-4)
        squares = sigma.double().square()
        expected = (squares.sum(-1) ** 2 / squares.square().sum(-1)).numpy()
        np.testing.assert_allclose(rank.participation_ratio(x), expected, rtol=1e-4)

    @pytest.mark.parametrize("kind", ILL_CONDITIONED)
    @pytest.mark.parametrize("centre", CENTRES)
    def test_float32_participation_ratio(self, kind, centre):
        x = ILL_CONDITIONED[kind](white(128, 192)).astype(np.float32)
        expected = rank.participation_ratio(x.astype(np.float64), centre=centre)
        spectral = rank.renyi_rank(rank.singular_values(x, centre=centre) ** 2, 2)
        assert expected == pytest.approx(spectral, rel=1e-9)
        assert rank.participation_ratio(x, centre=centre) == pytest.approx(expected, rel=2e-5)

    @pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, bool, np.longdouble])
    def test_other_types_are_computed_as_float64(self, dtype):
        x = (white(20, 12) * 100).clip(-128, 127).round()
        x[0, 0] = -128 if dtype == np.int8 else 1  # abs(-128) overflows in int8
        if dtype in (np.uint8, bool):
            x = np.abs(x)
        x = x.astype(dtype)
        expected = ranks(x.astype(np.float64), "columns")
        np.testing.assert_allclose(ranks(x, "columns"), expected, rtol=1e-5)


class TestBatches:
    @pytest.mark.parametrize("name", BATCHED)
    @pytest.mark.parametrize("shape", [(3, 6, 10), (2, 3, 10, 6)])
    def test_batch_equals_loop(self, name, shape):
        function = BATCHED[name]
        x = white(*shape) + 0.5
        x[0] *= 1e9  # a scale of its own
        batch = function(x)
        matrices = x.reshape(-1, *shape[-2:])
        looped = np.array([function(matrix) for matrix in matrices])
        np.testing.assert_allclose(batch, looped.reshape(shape[:-2] + looped.shape[1:]), rtol=1e-12)

    def test_exact_svd_is_used_for_the_doubtful_members_only(self, monkeypatch):
        x = np.stack([white(40, 30), with_channel(white(40, 30), 1e8), white(40, 30, seed=1)])
        x = np.stack([x, x[::-1]])
        shapes = []
        svd = np.linalg.svd

        def counting(a, **options):
            shapes.append(a.shape)
            return svd(a, **options)

        monkeypatch.setattr(np.linalg, "svd", counting)
        batch = rank.effective_rank(x)
        assert shapes == [(2, 40, 30)]
        expected = [[exact_effective_rank(matrix) for matrix in row] for row in x]
        np.testing.assert_allclose(batch, expected, rtol=1e-6)

    def test_profile_of_a_batch(self):
        x = white(2, 3, 9, 5)
        profile = rank.rank_profile(x, centre="columns")
        assert list(profile) == list(CHAIN)
        assert all(value.shape == (2, 3) for value in profile.values())
        single = rank.rank_profile(x[1, 2], centre="columns")
        assert all(profile[name][1, 2] == pytest.approx(single[name]) for name in CHAIN)

    def test_single_matrix_gives_scalars(self):
        for value in [
            *rank.rank_profile(white(4, 3)).values(),
            rank.participation_ratio(np.eye(2)),
        ]:
            assert isinstance(value, float)

    @pytest.mark.parametrize("name", MATRIX_FUNCTIONS)
    def test_input_is_left_alone_and_layout_is_free(self, name):
        x = white(6, 8)
        kept = x.copy()
        result = MATRIX_FUNCTIONS[name](x)
        np.testing.assert_array_equal(x, kept)
        x.flags.writeable = False
        strided = np.asfortranarray(np.repeat(x, 2, axis=1))[:, ::2]
        if name != "rank_profile":
            np.testing.assert_allclose(MATRIX_FUNCTIONS[name](strided), result, rtol=1e-12)


class TestResidual:
    @given(small_integers)
    def test_matches_the_definition(self, x):
        residual = x - x.mean(axis=0)
        size, total = np.linalg.norm(residual), np.linalg.norm(x)
        expected = size / total if total else 0.0
        assert rank.relative_residual(x) == pytest.approx(expected, abs=1e-12)
        mixed = [np.sqrt(np.linalg.norm(y, 1) * np.linalg.norm(y, np.inf)) for y in (residual, x)]
        expected = mixed[0] / mixed[1] if mixed[1] else 0.0
        assert rank.relative_residual(x, norm="mixed") == pytest.approx(expected, abs=1e-12)

    def test_no_other_row_is_nearer(self):
        x = white(12, 7) + 2
        distance = rank.relative_residual(x) * np.linalg.norm(x)
        for seed in range(50):
            other = x.mean(axis=0) + 10 ** -(seed % 4) * white(7, seed=seed)
            assert np.linalg.norm(x - other) > distance

    def test_mean_row_is_within_twice_the_best_mixed_distance(self):
        for seed in range(50):
            x = generator(seed).standard_cauchy((9, 5))
            distance = rank.relative_residual(x, norm="mixed")
            for other in (np.median(x, axis=0), np.zeros(5), x[0]):
                y = x - other
                mixed = np.sqrt(np.linalg.norm(y, 1) * np.linalg.norm(y, np.inf))
                whole = np.sqrt(np.linalg.norm(x, 1) * np.linalg.norm(x, np.inf))
                assert distance <= 2 * mixed / whole + 1e-12

    def test_limits(self):
        rows = np.tile(white(1, 6), (5, 1)) * 0.1
        assert rank.relative_residual(rows) == 0
        assert rank.relative_residual(rows, norm="mixed") == 0
        centred = white(5, 6)
        centred -= centred.mean(axis=0)
        assert rank.relative_residual(centred) == pytest.approx(1)
        # A rank-one matrix that is not row-constant has not collapsed.
        assert rank.relative_residual(np.outer([1.0, -1.0], [1.0, 2.0])) == pytest.approx(1)

    def test_averaging_attention_shrinks_it(self):
        x = white(16, 8)
        attention = np.full((16, 16), 0.05 / 16) + 0.95 * np.eye(16)
        before = rank.relative_residual(x)
        assert rank.relative_residual(attention @ x) < before


class TestOutlierShare:
    def test_planted_token_and_channel(self):
        x = np.ones((4, 5))
        x[2] = 3.0
        token, channel = rank.outlier_share(x)
        assert token == pytest.approx(45 / 60)
        assert channel == pytest.approx(1 / 5)
        assert rank.outlier_share(x.T) == (pytest.approx(1 / 5), pytest.approx(45 / 60))

    @given(continuous)
    def test_bounds(self, x):
        token, channel = rank.outlier_share(x)
        assert 1 / x.shape[0] - 1e-12 <= token <= 1 + 1e-12
        assert 1 / x.shape[1] - 1e-12 <= channel <= 1 + 1e-12


class TestEqualLength:
    def test_leading_window(self):
        x = white(2, 10, 3)
        np.testing.assert_array_equal(rank.equal_length(x, 4), x[:, :4])
        np.testing.assert_array_equal(rank.equal_length(x, 10, generator()), x)

    def test_random_window_is_contiguous_uniform_and_seeded(self):
        x = np.arange(6.0)[:, None]
        starts = []
        rng = generator()
        for _ in range(600):
            window = rank.equal_length(x, 3, rng)[:, 0]
            assert (np.diff(window) == 1).all()
            assert len(window) == 3
            starts.append(int(window[0]))
        counts = np.bincount(starts, minlength=4)
        assert len(counts) == 4
        assert (np.abs(counts - 150) < 60).all()
        same = [rank.equal_length(x, 3, generator(7))[0, 0] for _ in range(2)]
        assert same[0] == same[1]

    def test_removes_the_effect_of_length(self):
        long, short = white(256, 100), white(155, 100, seed=1)
        raw = rank.effective_rank(long, weighting="sigma2", centre="zscore")
        cut = rank.effective_rank(rank.equal_length(long, 155), weighting="sigma2", centre="zscore")
        other = rank.effective_rank(short, weighting="sigma2", centre="zscore")
        assert raw - other > 8
        assert abs(cut - other) < 2

    @pytest.mark.parametrize("length", [0, -1, 6])
    def test_errors(self, length):
        with pytest.raises(ValueError, match="length"):
            rank.equal_length(white(5, 2), length)


class TestShuffle:
    def test_keeps_every_marginal_and_breaks_dependence(self):
        x = np.repeat(white(200, 1), 10, axis=1) * np.arange(1, 11)
        null = rank.shuffled_within_columns(x, generator())
        np.testing.assert_array_equal(np.sort(null, axis=0), np.sort(x, axis=0))
        assert rank.effective_rank(x, centre="zscore") == pytest.approx(1)
        assert rank.effective_rank(null, centre="zscore") > 9.5

    def test_permuting_whole_rows_would_be_no_null(self):
        x = white(50, 5) @ white(5, 20, seed=1)
        permuted = generator().permutation(x)
        np.testing.assert_allclose(ranks(permuted), ranks(x), rtol=1e-8)
        shuffled = rank.shuffled_within_columns(x, generator())
        assert ranks(shuffled)[3] > 2 * ranks(x)[3]

    def test_seeded_and_independent_across_the_batch(self):
        x = np.broadcast_to(np.arange(30.0)[:, None], (2, 30, 3))
        one, other = (rank.shuffled_within_columns(x, generator(3)) for _ in range(2))
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one[0], one[1])
        assert not np.array_equal(one[0, :, 0], one[0, :, 1])


class TestMarchenkoPastur:
    @pytest.mark.parametrize("shape", [(128, 64), (64, 128), (100, 100), (400, 100)])
    @pytest.mark.parametrize("centre", CENTRES)
    def test_spectrum_and_ranks_match_simulation(self, shape, centre):
        x = white(40, *shape, seed=4)
        simulated = rank.singular_values(x, centre=centre).mean(axis=0)
        expected = rank.marchenko_pastur(*shape, centre=centre)
        np.testing.assert_allclose(expected, simulated, atol=0.02 * simulated[0])
        profile = rank.rank_profile(x, centre=centre)
        law = rank.white_noise_profile(*shape, centre=centre)
        assert list(law) == list(CHAIN)
        for name in CHAIN:
            tolerance = 0.04 if name == "stable_rank" else 0.01
            assert law[name] == pytest.approx(profile[name].mean(), rel=tolerance)

    @pytest.mark.parametrize("shape", [(60, 20), (33, 32), (20, 60)])
    def test_quantiles_integrate_the_published_density(self, shape):
        ratio = min(shape) / max(shape)
        low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2

        def density(value):
            return np.sqrt((high - value) * (value - low)) / (2 * np.pi * ratio * value)

        eigenvalues = rank.marchenko_pastur(*shape) ** 2 / max(shape)
        n = min(shape)
        for k in (0, 1, n // 2, n - 1):
            above, _ = quad(density, eigenvalues[k], high)
            assert above == pytest.approx((k + 0.5) / n, abs=1e-5)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (10**6, 3), (700, 700)])
    def test_sum_of_squares_is_the_number_of_entries(self, shape):
        sigma = rank.marchenko_pastur(*shape)
        assert sigma.shape == (min(shape),)
        assert (np.diff(sigma) <= 0).all()
        tolerance = 0.5 / min(shape) + 1e-3
        assert (sigma**2).sum() == pytest.approx(np.prod(shape), rel=tolerance)

    def test_centring_removes_one_dimension(self):
        sigma = rank.marchenko_pastur(20, 30, centre="columns")
        assert sigma.shape == (20,)
        assert sigma[-1] == 0
        np.testing.assert_array_equal(sigma[:-1], rank.marchenko_pastur(19, 30))
        tall = rank.marchenko_pastur(31, 20, centre="zscore")
        np.testing.assert_array_equal(tall, rank.marchenko_pastur(30, 20))
        np.testing.assert_array_equal(rank.marchenko_pastur(1, 3, centre="zscore"), [0.0])
        assert rank.white_noise_profile(1, 3, centre="zscore")["effective_rank_sigma"] == 0

    def test_reference_anchor(self):
        law = rank.white_noise_profile(128, 64)
        assert law["effective_rank_sigma"] == pytest.approx(59.0, abs=0.5)
        assert law["effective_rank_sigma2"] == pytest.approx(49.5, abs=0.7)


class TestErrors:
    @pytest.mark.parametrize("name", MATRIX_FUNCTIONS)
    @pytest.mark.parametrize(
        "x",
        [
            np.float64(3.0),
            np.ones(3),
            np.ones((0, 3)),
            np.ones((3, 0)),
            np.array([[1.0, np.nan], [0.0, 1.0]]),
            np.array([[1.0, 0.0], [-np.inf, 1.0]], np.float32),
            np.array([[1.0, np.inf]], np.float16),
            np.ones((2, 2), complex),
            np.array([["a", "b"]]),
        ],
        ids=["0-D", "1-D", "no rows", "no columns", "nan", "-inf", "inf", "complex", "text"],
    )
    def test_bad_matrix(self, name, x):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match=r"^x "):
                MATRIX_FUNCTIONS[name](x)

    @pytest.mark.parametrize(
        "function",
        [
            rank.singular_values,
            rank.effective_rank,
            rank.participation_ratio,
            rank.stable_rank,
            rank.rank_profile,
            lambda x, centre: rank.rank_cap(2, 2, centre=centre),
            lambda x, centre: rank.marchenko_pastur(2, 2, centre=centre),
            lambda x, centre: rank.white_noise_profile(2, 2, centre=centre),
        ],
    )
    @pytest.mark.parametrize("centre", ["rows", "", None, ["none"]])
    def test_unknown_centre(self, function, centre):
        with pytest.raises(ValueError, match="centre"):
            function(np.eye(2), centre=centre)

    def test_unknown_options(self):
        with pytest.raises(ValueError, match="weighting"):
            rank.effective_rank(np.eye(2), weighting="lambda")
        with pytest.raises(ValueError, match="norm"):
            rank.relative_residual(np.eye(2), norm="nuclear")

    @pytest.mark.parametrize("function", [rank.rank_cap, rank.marchenko_pastur])
    @pytest.mark.parametrize(("shape", "name"), [((0, 3), "n_rows"), ((3, 0), "n_columns")])
    def test_empty_shape(self, function, shape, name):
        with pytest.raises(ValueError, match=name):
            function(*shape)


def test_needs_no_torch():
    code = "import sys, tgn.rank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=300)
@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.sampled_from(CENTRES),
)
@example(np.array([[1.7e308], [-1.7e308], [-1.7e308]]), "columns")
def test_every_finite_matrix_has_finite_ranks(x, centre):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = rank.rank_profile(x, centre=centre)
        values = [*profile.values(), rank.participation_ratio(x, centre=centre)]
        values += [rank.relative_residual(x), *rank.outlier_share(x)]
    assert all(np.isfinite(value).all() for value in values)
