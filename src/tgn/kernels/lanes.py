"""Sixteen floats or doubles as one value in numba, with the elementary functions of the scans.

LLVM's loop vectoriser gives up on loops over many arrays, and numba's `exp` is a call for every
number. A kernel written with these works on sixteen channels at a time, in either precision; LLVM
splits the vectors on a CPU with narrower registers. Unlike the vectors of `tgn.kernels.vectors`
they are loaded from any element, not from multiples of their length.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, overload, register_model

from tgn.kernels.compiling import kernel

LANES = 16
_CACHE_LINE = 64  # bytes
_INT32 = ir.IntType(32)
_BITS = ir.VectorType(_INT32, LANES)


class Lanes(types.Type):
    """Sixteen numbers of one type; has no form outside compiled code."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        element = ir.FloatType() if dtype is types.float32 else ir.DoubleType()
        self.llvm = ir.VectorType(element, LANES)
        super().__init__(f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


_KINDS = {dtype: Lanes(dtype) for dtype in (types.float32, types.float64)}


def _kind(dtype: types.Type) -> Lanes:
    if dtype not in _KINDS:
        raise TypingError(f"no lanes of {dtype}, only of float32 and float64")
    return _KINDS[dtype]


def _pointer(context, builder, array, value, start):
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [start]), _kind(array.dtype).llvm.as_pointer())


@intrinsic
def load(typing, array, start):
    """Sixteen numbers of a contiguous array, from flat element `start` on."""
    kind = _kind(array.dtype)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, array, *arguments)
        return builder.load(pointer, align=kind.dtype.bitwidth // 8)

    return kind(array, types.intp), generate


@intrinsic
def store(typing, array, start, value):
    """Write sixteen numbers of a contiguous array, from flat element `start` on."""
    kind = _kind(array.dtype)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, array, *arguments[:2])
        builder.store(arguments[2], pointer, align=kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, kind), generate


def _splat(builder, kind, number):
    first = builder.insert_element(ir.Constant(kind.llvm, ir.Undefined), number, _INT32(0))
    return builder.shuffle_vector(first, first, ir.Constant(_BITS, [0] * LANES))


@intrinsic
def splat(typing, array, start):
    """Number `start` of a contiguous array in every lane."""
    kind = _kind(array.dtype)

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        return _splat(builder, kind, builder.load(builder.gep(data, [arguments[1]])))

    return kind(array, types.intp), generate


@intrinsic
def constant(typing, like, number):
    """A literal float in every lane, of the type of `like`."""
    if not isinstance(number, types.Float):
        raise TypingError(f"a constant must be a float, not {number}")

    def generate(context, builder, signature, arguments):
        value = context.cast(builder, arguments[1], number, like.dtype)
        return _splat(builder, like, value)

    return like(like, number), generate


def _llvm_call(builder, name, kind, arguments):
    """Call LLVM's own function of lanes."""
    suffix = f"v{LANES}f{kind.dtype.bitwidth}"
    signature = ir.FunctionType(kind.llvm, [kind.llvm] * len(arguments))
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.{suffix}")
    return builder.call(function, arguments)


def _binary(operation, instruction):
    @intrinsic
    def apply(typing, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return a(a, b), generate

    def typed(a, b):
        if isinstance(a, Lanes) and a == b:
            return lambda a, b: apply(a, b)

    overload(operation)(typed)


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
_binary(operator.truediv, "fdiv")


@intrinsic
def multiply_add(typing, a, b, c):
    """a * b + c, rounded once where the CPU can."""

    def generate(context, builder, signature, arguments):
        return _llvm_call(builder, "fmuladd", a, arguments)

    return a(a, a, a), generate


@intrinsic
def where_below(typing, a, b, yes, no):
    """`yes` where a < b, else `no`, also where either is not a number."""

    def generate(context, builder, signature, arguments):
        below = builder.fcmp_ordered("<", *arguments[:2])
        return builder.select(below, *arguments[2:])

    return a(a, a, a, a), generate


@intrinsic
def total(typing, a):
    """Sum of the lanes, pairwise."""

    def generate(context, builder, signature, arguments):
        value, width = arguments[0], LANES
        while width > 1:
            width //= 2
            indices = ir.VectorType(_INT32, width)
            low, high = (
                builder.shuffle_vector(
                    value, value, ir.Constant(indices, list(range(start, start + width)))
                )
                for start in (0, width)
            )
            value = builder.fadd(low, high)
        return builder.extract_element(value, _INT32(0))

    return a.dtype(a), generate


@intrinsic
def _power_of_two(typing, a):
    """2**n in float32 from 1.5 * 2**23 + 127 + n, whose low bits are the exponent field of 2**n."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], _BITS)
        return builder.bitcast(builder.shl(bits, ir.Constant(_BITS, [23] * LANES)), a.llvm)

    return a(a), generate


@intrinsic
def _library_exp2(typing, a):
    def generate(context, builder, signature, arguments):
        return _llvm_call(builder, "exp2", a, arguments)

    return a(a), generate


_SHIFT = 1.5 * 2**23 + 127
LOG2_E = 1 / np.log(2)
# Minimax polynomial of 2**r for |r| <= 1/2 that is 1 at 0, relative error 9.2e-8.
_P1, _P2, _P3 = 0.6931469775951135, 0.24022242077091216, 0.05550733744478998
_P4, _P5 = 0.00967151318311664, 0.001326472876859599


@kernel
def scratch(size, like):
    """Room for `size` numbers of the type of an array, from the beginning of a cache line on.

    Vectors that straddle two cache lines are slow to read soon after they were written.
    """
    room = np.empty(size + LANES, like.dtype)
    start = -room.ctypes.data % _CACHE_LINE // room.itemsize
    return room[start : start + size]


@kernel
def _exp2_float32(x):
    low, high = constant(x, -126.0), constant(x, 127.0)
    x = where_below(high, x, high, x)
    x = where_below(x, low, low, x)
    shifted = x + constant(x, _SHIFT)
    r = x - (shifted - constant(x, _SHIFT))
    p = multiply_add(constant(x, _P5), r, constant(x, _P4))
    p = multiply_add(p, r, constant(x, _P3))
    p = multiply_add(p, r, constant(x, _P2))
    p = multiply_add(p, r, constant(x, _P1))
    p = multiply_add(p, r, constant(x, 1.0))
    return p * _power_of_two(shifted)


def exp2(x):
    """2**x of lanes, in compiled code.

    Doubles go to the C library. Floats have a relative error of 2e-7, and x is taken between -126
    and 127, so that the result is a normal number; NaN stays NaN.
    """
    raise NotImplementedError("only in compiled code")


@overload(exp2)
def _typed_exp2(x):
    if isinstance(x, Lanes):
        if x.dtype is types.float32:
            return lambda x: _exp2_float32(x)
        return lambda x: _library_exp2(x)


@kernel
def sigmoid(x):
    """1 / (1 + e**-x) of lanes."""
    one = constant(x, 1.0)
    return one / (one + exp2(x * constant(x, -LOG2_E)))
