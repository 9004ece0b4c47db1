"""Normal variates, thirty-two at a time (Box and Muller 1958)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.vectors import (
    FLOATS,
    WORDS,
    aligned,
    exponential,
    floats,
    load,
    next_random,
    splat,
    store,
    words,
)

BATCH = 2 * FLOATS
# Polynomials of sin(pi t / 2) / t and cos(pi t / 2) in t**2, error below 6e-8 for |t| <= 1.
_S0, _S1, _S2 = 1.5707962900224914, -0.6459633598670649, 0.07968848054380151
_S3, _S4 = -0.0046722279272383505, 0.00015082056611766964
_C0, _C1, _C2 = 0.9999999534667752, -1.2336982146699536, 0.2536507446384108
_C3, _C4 = -0.02081062752192244, 0.0008581906199148535


def streams(seed: int | Sequence[int]) -> NDArray[np.uint64]:
    """Eight streams of xoroshiro128+, (2, 8), a function of the seed alone."""
    state = aligned((2, WORDS))
    state[:] = np.random.SeedSequence(seed).generate_state(2 * WORDS, np.uint64).reshape(2, WORDS)
    return state


@intrinsic
def _signed(typing, bits):
    """The 32-bit integers of `bits`, with their signs, as floats."""

    def generate(context, builder, signature, arguments):
        integers = builder.bitcast(arguments[0], ir.VectorType(ir.IntType(32), FLOATS))
        return builder.sitofp(integers, floats.llvm)

    return floats(words), generate


@intrinsic
def _root(typing, x):
    def generate(context, builder, signature, arguments):
        signature = ir.FunctionType(floats.llvm, [floats.llvm])
        function = cgutils.get_or_insert_function(
            builder.module, signature, f"llvm.sqrt.v{FLOATS}f32"
        )
        return builder.call(function, arguments)

    return floats(floats), generate


@kernel
def fill(random, out):
    """Standard normal float32 for a contiguous array whose size is a multiple of 32.

    None exceeds 6.8. `random` are the streams, which move on.
    """
    s0, s1 = load(random, 0), load(random, 1)
    two = splat(np.float32(2))
    for k in range(out.size // BATCH):
        radius = _root(two * exponential(s0 + s1))
        s0, s1 = next_random(s0, s1)
        # With half the angle, within a quarter turn, two short polynomials are enough.
        t = _signed(s0 + s1) * splat(np.float32(2.0**-31))
        s0, s1 = next_random(s0, s1)
        square = t * t
        sine = splat(np.float32(_S4)) * square + splat(np.float32(_S3))
        sine = sine * square + splat(np.float32(_S2))
        sine = sine * square + splat(np.float32(_S1))
        sine = (sine * square + splat(np.float32(_S0))) * t
        cosine = splat(np.float32(_C4)) * square + splat(np.float32(_C3))
        cosine = cosine * square + splat(np.float32(_C2))
        cosine = cosine * square + splat(np.float32(_C1))
        cosine = cosine * square + splat(np.float32(_C0))
        twice = two * sine
        store(out, 2 * k, radius * (splat(np.float32(1)) - twice * sine))
        store(out, 2 * k + 1, radius * twice * cosine)
    store(random, 0, s0)
    store(random, 1, s1)
