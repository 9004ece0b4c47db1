"""Explicit vectors for numba: 64-bit words, 16- and 32-bit integers, 32-bit floats.

LLVM's loop vectoriser gives up on the loops of the spin kernels. These types have no form outside
compiled code: `load` makes one from an array and `store` writes it back. LLVM splits the vectors
on a CPU with narrower registers, so the kernels run anywhere. Arrays should come from `aligned`;
others work, more slowly.

Source of the generator: Blackman and Vigna 2018 (xoroshiro128+).
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, overload, register_model
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel

WORDS, FLOATS, SHORTS = 8, 16, 32  # elements of 512 bits
_INT32 = ir.IntType(32)


class Vector(types.Type):
    """A fixed number of elements of one machine type."""

    def __init__(self, name: str, element: ir.Type, count: int) -> None:
        self.llvm = ir.VectorType(element, count)
        super().__init__(name)


class Words(Vector):
    """Eight 64-bit words."""


class Floats(Vector):
    """Sixteen 32-bit floats."""


class Shorts(Vector):
    """Thirty-two 16-bit integers."""


class Ints(Vector):
    """Thirty-two 32-bit integers."""


words = Words("Words", ir.IntType(64), WORDS)
floats = Floats("Floats", ir.FloatType(), FLOATS)
shorts = Shorts("Shorts", ir.IntType(16), SHORTS)
ints = Ints("Ints", _INT32, SHORTS)
_BITS = ir.VectorType(_INT32, FLOATS)  # of Floats
_ROOT_HALF = 0x3F350000  # bits of about sqrt(1/2)
_KINDS = {types.uint64: words, types.float32: floats, types.int16: shorts, types.int32: ints}


@register_model(Words)
@register_model(Floats)
@register_model(Shorts)
@register_model(Ints)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


def _kind(element: types.Type) -> Vector:
    if element not in _KINDS:
        raise TypingError(f"no vectors of {element}")
    return _KINDS[element]


def aligned(shape: tuple[int, ...], dtype: Any = np.uint64) -> NDArray:
    """Zeros that begin at a cache line, so that no vector straddles two."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + 64, dtype=np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size].view(dtype).reshape(shape)


def _pointer(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    vector = _kind(kind.dtype).llvm
    return builder.gep(builder.bitcast(data, vector.as_pointer()), [index])


@intrinsic
def load(typing, array, index):
    """Vector number `index` of a contiguous array."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load(pointer, align=8)

    return _kind(array.dtype)(array, types.intp), generate


@intrinsic
def store(typing, array, index, value):
    """Write vector number `index` of a contiguous array."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, _kind(array.dtype)), generate


@intrinsic
def splat(typing, value):
    """The same number in every element."""
    kind = _kind(value)

    def generate(context, builder, signature, arguments):
        undefined = ir.Constant(kind.llvm, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], _INT32(0))
        mask = ir.VectorType(_INT32, kind.llvm.count)([0] * kind.llvm.count)
        return builder.shuffle_vector(first, undefined, mask)

    return kind(value), generate


def _binary(instruction, kind):
    @intrinsic
    def apply(typing, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return kind(kind, kind), generate

    return apply


_shl, _lshr = _binary("shl", words), _binary("lshr", words)


def _register(operation, instruction, kind):
    apply = _binary(instruction, kind)

    def typed(a, b):
        if a is kind and b is kind:
            return lambda a, b: apply(a, b)

    overload(operation)(typed)


_register(operator.and_, "and_", words)
_register(operator.or_, "or_", words)
_register(operator.xor, "xor", words)
_register(operator.add, "add", words)
_register(operator.add, "add", shorts)
_register(operator.sub, "sub", shorts)
_register(operator.mul, "mul", shorts)
_register(operator.add, "add", ints)
_register(operator.add, "fadd", floats)
_register(operator.sub, "fsub", floats)
_register(operator.mul, "fmul", floats)
_register(operator.truediv, "fdiv", floats)


@intrinsic
def below(typing, a, b):
    """All ones in the words where a < b."""

    def generate(context, builder, signature, arguments):
        return builder.sext(builder.icmp_unsigned("<", *arguments), words.llvm)

    return words(words, words), generate


@intrinsic
def where_at_most(typing, a, b, yes, no):
    """`yes` where a <= b, else `no`, for shorts or floats."""

    def generate(context, builder, signature, arguments):
        compare = builder.icmp_signed if a is shorts else builder.fcmp_ordered
        return builder.select(compare("<=", *arguments[:2]), *arguments[2:])

    return a(a, a, a, a), generate


@intrinsic
def widened(typing, a):
    """Shorts as 32-bit integers."""

    def generate(context, builder, signature, arguments):
        return builder.sext(arguments[0], ints.llvm)

    return ints(shorts), generate


@intrinsic
def store_truncated(typing, array, index, value):
    """Write sixteen floats, which must fit, as numbers 16 * `index` on of an int16 array."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        half = ir.VectorType(ir.IntType(16), FLOATS)
        pointer = builder.gep(builder.bitcast(data, half.as_pointer()), [arguments[1]])
        builder.store(builder.fptosi(arguments[2], half), pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, floats), generate


@intrinsic
def popcount(typing, a):
    """Number of bits that are 1."""

    def generate(context, builder, signature, arguments):
        count = ir.IntType(64)(0)
        for k in range(WORDS):
            word = builder.extract_element(arguments[0], _INT32(k))
            count = builder.add(count, builder.ctpop(word))
        return count

    return types.int64(words), generate


@intrinsic
def _from_bits(typing, bits):
    """The 32-bit integers of `bits` as floats."""

    def generate(context, builder, signature, arguments):
        return builder.uitofp(builder.bitcast(arguments[0], _BITS), floats.llvm)

    return floats(words), generate


@intrinsic
def _exponent(typing, x):
    """e of positive x = m * 2**e with m between sqrt(1/2) and sqrt(2)."""

    def generate(context, builder, signature, arguments):
        # Less the bits of sqrt(1/2), the exponent field counts from there.
        bits = builder.sub(builder.bitcast(arguments[0], _BITS), _BITS([_ROOT_HALF] * FLOATS))
        exponent = builder.ashr(bits, _BITS([23] * FLOATS))
        return builder.sitofp(exponent, floats.llvm)

    return floats(floats), generate


@intrinsic
def _mantissa(typing, x):
    """m of positive x = m * 2**e with m between sqrt(1/2) and sqrt(2)."""

    def generate(context, builder, signature, arguments):
        whole = builder.bitcast(arguments[0], _BITS)
        bits = builder.sub(whole, _BITS([_ROOT_HALF] * FLOATS))
        power = builder.and_(bits, _BITS([0xFF800000] * FLOATS))
        return builder.bitcast(builder.sub(whole, power), floats.llvm)

    return floats(floats), generate


@kernel
def exponential(bits):
    """Sixteen exponential variates of mean 1 from 512 random bits: -ln(u).

    u has 32 bits, and the series of the logarithm is good to float32.
    """
    x = _from_bits(bits) + splat(np.float32(0.5))
    mantissa = _mantissa(x)
    one = splat(np.float32(1))
    t = (mantissa - one) / (mantissa + one)
    square = t * t
    series = splat(np.float32(2 / 9))
    series = series * square + splat(np.float32(2 / 7))
    series = series * square + splat(np.float32(2 / 5))
    series = series * square + splat(np.float32(2 / 3))
    series = series * square + splat(np.float32(2))
    shortfall = splat(np.float32(32)) - _exponent(x)
    return shortfall * splat(np.float32(np.log(2))) - series * t


@kernel
def _rotated(a, bits):
    return _shl(a, splat(np.uint64(bits))) | _lshr(a, splat(np.uint64(64 - bits)))


@kernel
def next_random(s0, s1):
    """Next state of xoroshiro128+ in every word; the random number is s0 + s1 before it."""
    s1 = s1 ^ s0
    return _rotated(s0, 24) ^ s1 ^ _shl(s1, splat(np.uint64(16))), _rotated(s1, 37)
