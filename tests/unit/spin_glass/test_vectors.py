"""Vector primitives of the kernels against plain integers, and kernels on other machines."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from tgn.kernels.compiling import kernel
from tgn.kernels.vectors import (
    aligned,
    exponential,
    load,
    next_random,
    popcount,
    store,
)

MASK = 2**64 - 1


@kernel
def draw_words(state, out):
    s0, s1 = load(state, 0), load(state, 1)
    for k in range(out.shape[0]):
        store(out, k, s0 + s1)
        s0, s1 = next_random(s0, s1)


@kernel
def draw_exponentials(words, out):
    for k in range(out.shape[0]):
        store(out, k, exponential(load(words, k)))


@kernel
def count_bits(words):
    return popcount(load(words, 0))


def random_words(n, seed=0):
    words = aligned((n, 8))
    words[...] = np.random.default_rng(seed).integers(0, 2**64, (n, 8), dtype=np.uint64)
    return words


def test_arrays_begin_at_a_cache_line():
    for shape in ((1, 8), (3, 5, 8), (7, 8)):
        assert aligned(shape).ctypes.data % 64 == 0
        assert aligned(shape).shape == shape


def test_generator_is_xoroshiro128plus():
    def rotated(x, k):
        return (x << k | x >> (64 - k)) & MASK

    state, out = random_words(2), aligned((20, 8))
    words = [[int(w) for w in row] for row in state]
    draw_words(state, out)
    for column in range(8):
        s0, s1 = words[0][column], words[1][column]
        for row in out[:, column]:
            assert int(row) == (s0 + s1) & MASK
            s1 ^= s0
            s0, s1 = rotated(s0, 24) ^ s1 ^ (s1 << 16) & MASK, rotated(s1, 37)


def test_exponential_variates_are_minus_log_uniform():
    words, out = random_words(5000), aligned((5000, 16), np.float32)
    words[0] = 0
    words[1] = MASK
    draw_exponentials(words, out)
    bits = words.view(np.uint32).reshape(out.shape)
    exact = -np.log((bits.astype(np.float64) + 0.5) / 2**32)
    np.testing.assert_allclose(out, exact, rtol=3e-6, atol=1e-7)
    assert (out >= 0).all()
    assert stats.kstest(out[2:].ravel(), "expon").pvalue > 0.01


def test_popcount():
    words = random_words(1)
    assert count_bits(words) == sum(int(w).bit_count() for w in words[0])


def test_a_function_without_a_place_for_its_cache_still_compiles():
    namespace: dict = {}
    exec("def successor(x):\n    return x + 1\n", namespace)
    assert kernel(namespace["successor"])(1) == 2


PROGRAM = """
import numpy as np
from tgn.spin_glass import EdwardsAnderson, parallel_tempering
for disorder in ("bimodal", "gaussian"):
    model = EdwardsAnderson.draw(4, 40, disorder=disorder, seed=0)
    result = parallel_tempering(model, [0.5, 1.0, 1.5], 50, seed=0)
    print(result.energy.tolist(), result.link_overlap.tolist(), result.swap_acceptance.tolist())
"""


def test_a_plain_cpu_without_wide_registers_gives_the_same_numbers(tmp_path):
    """LLVM splits the vectors for the oldest CPU of this architecture."""
    outputs = []
    for target in ({}, {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}):
        cache = {"NUMBA_CACHE_DIR": str(tmp_path)} if target else {}
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **target, **cache},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        outputs.append(process.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 1000


@pytest.mark.parametrize("dtype", [np.float64, np.int8])
def test_vectors_of_other_types_are_refused(dtype):
    with pytest.raises(Exception, match="no vectors of"):
        count_bits(np.zeros(64, dtype=dtype))
