"""Vectors for numba: lanes that add, compare and load as one number does, each operation in a few vector instructions.

numba relies on LLVM to vectorise loops, and LLVM does not vectorise loops over several rows of memory, sums, or selections. Here
the loop is written in vectors, so that it is vector code on every machine (LLVM makes two vectors of 512 bits, four of 256 or
eight of 128 of it), and all machines add the numbers in the same order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("NUMBA_DISABLE_JIT is set, and without its compiler numba runs no kernel")

#: Lanes of a vector: two of the widest registers (AVX-512), so that one is computed while the other waits for memory.
WIDTH = 32
#: Bytes of a cache line.
_CACHE_LINE = 64

# Python's 0.5 is a float64 to numba, and would make the lanes it meets float64 too.
ZERO, HALF, ONE, TWO, NAN, INFINITY = (np.float32(number) for number in (0, 0.5, 1, 2, np.nan, np.inf))

#: Lanes of float32, int32 and bool; one number.
Lanes: TypeAlias = Any
Whole: TypeAlias = Any
Mask: TypeAlias = Any
Number: TypeAlias = Any


class _LanesType(types.Type):
    """numba's type of lanes of float32, int32 or bool. numba compares types by name."""

    def __init__(self, number: types.Type) -> None:
        self.number = number
        super().__init__(f"Lanes({number})")


_floats, _ints, _bools = (_LanesType(number) for number in (types.float32, types.int32, types.boolean))
_MEMBERS = {types.float32: ir.FloatType(), types.int32: ir.IntType(32), types.boolean: ir.IntType(1)}


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    """What LLVM holds lanes as: one vector."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(_MEMBERS[kind.number], WIDTH))


def _in_all_lanes(builder: Any, value: Any, kind: Any) -> Any:
    """Return a number in all lanes. Lanes are returned unchanged."""
    if isinstance(kind, _LanesType):
        return value
    member = value.type
    if isinstance(member, ir.IntType):
        # Python's whole numbers are int64 to numba; a vector of them would have twice the width
        member = ir.IntType(32)
        value = builder.trunc(value, member) if value.type.width > 32 else value
    wide = ir.VectorType(member, WIDTH)
    first = builder.insert_element(ir.Constant(wide, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, ir.Constant(wide, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None))


def _define(function: Any, kind: Any, result: Any, instruction: Callable) -> None:
    """Define an operator of two values, one of which may be a single number.

    Args:
        function: of the module operator.
        kind: the lanes' type.
        result: the type of what it returns.
        instruction: from a builder and two vectors to the vector of the result.
    """
    single = types.Integer if kind == _ints else types.Float

    @type_callable(function)
    def typed(context: Any) -> Any:
        def typer(left: Any, right: Any) -> Any:
            both = kind in (left, right) and all(each == kind or isinstance(each, single) for each in (left, right))
            return result if both else None

        return typer

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return instruction(builder, *(_in_all_lanes(builder, *each) for each in zip(arguments, signature.args, strict=True)))

    for left, right in ((kind, kind), (kind, single), (single, kind)):
        lower_builtin(function, left, right)(code)


def _define_unary(function: Any, kind: Any, instruction: Callable) -> None:
    """Define an operator of one value, whose result is of the same type."""

    @type_callable(function)
    def typed(context: Any) -> Any:
        def typer(value: Any) -> Any:
            return kind if value == kind else None

        return typer

    @lower_builtin(function, kind)
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return instruction(builder, *arguments)


# LLVM may fuse a product and a sum into one instruction. NaN and the order of operations are kept.
_CONTRACT = ("contract",)
_define(operator.add, _floats, _floats, lambda builder, a, b: builder.fadd(a, b, flags=_CONTRACT))
_define(operator.sub, _floats, _floats, lambda builder, a, b: builder.fsub(a, b, flags=_CONTRACT))
_define(operator.mul, _floats, _floats, lambda builder, a, b: builder.fmul(a, b, flags=_CONTRACT))
_define(operator.truediv, _floats, _floats, lambda builder, a, b: builder.fdiv(a, b))
# ordered: a comparison with NaN is False
_define(operator.lt, _floats, _bools, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
_define(operator.le, _floats, _bools, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))
_define(operator.gt, _floats, _bools, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_define(operator.ge, _floats, _bools, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))
_define(operator.eq, _floats, _bools, lambda builder, a, b: builder.fcmp_ordered("==", a, b))
_define(operator.add, _ints, _ints, lambda builder, a, b: builder.add(a, b))
_define(operator.sub, _ints, _ints, lambda builder, a, b: builder.sub(a, b))
_define(operator.and_, _ints, _ints, lambda builder, a, b: builder.and_(a, b))
_define(operator.lshift, _ints, _ints, lambda builder, a, b: builder.shl(a, b))
_define(operator.rshift, _ints, _ints, lambda builder, a, b: builder.ashr(a, b))
_define(operator.eq, _ints, _bools, lambda builder, a, b: builder.icmp_signed("==", a, b))
_define(operator.and_, _bools, _bools, lambda builder, a, b: builder.and_(a, b))
_define(operator.or_, _bools, _bools, lambda builder, a, b: builder.or_(a, b))
_define_unary(operator.neg, _floats, lambda builder, a: builder.fneg(a))


def _sign_cleared(builder: Any, value: Any) -> Any:
    """Return the absolute value, of NaN and of -0 too."""
    whole = ir.VectorType(ir.IntType(32), WIDTH)
    mask = ir.Constant(whole, [0x7FFFFFFF] * WIDTH)
    return builder.bitcast(builder.and_(builder.bitcast(value, whole), mask), value.type)


_define_unary(abs, _floats, _sign_cleared)
_define_unary(operator.invert, _bools, lambda builder, a: builder.not_(a))

#: A function in LLVM's language. Its type is Any, since it has one argument more than a call.
_llvm: Any = intrinsic


def _reader(kind: _LanesType) -> Any:
    """Return a function that loads the numbers at an address, aligned or not."""

    @_llvm
    def read(context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer()), align=4)

        return kind(types.int64), code

    return read


#: The float32, and the int32, at an address.
lanes_at, whole_at = _reader(_floats), _reader(_ints)


@_llvm
def store(context: Any, address: Any, value: Any) -> Any:
    """Store lanes at an address."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, value = arguments
        builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(types.int64, _floats), code


@_llvm
def prefetch(context: Any, address: Any) -> Any:
    """Prefetch the lanes at an address. Invalid addresses are ignored."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        for line in range(0, 4 * WIDTH, _CACHE_LINE):
            place = builder.inttoptr(builder.add(arguments[0], ir.Constant(ir.IntType(64), line)), pointer)
            builder.call(function, [place, ir.Constant(number, 0), ir.Constant(number, 3), ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.none(types.int64), code


@_llvm
def broadcast(context: Any, number: Any) -> Any:
    """Return one float32 in all lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _in_all_lanes(builder, arguments[0], types.float32)

    return _floats(types.float32), code


@_llvm
def select(context: Any, choice: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where chosen, else `no`. Each is lanes or one float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        choice, yes, no = arguments
        return builder.select(choice, _in_all_lanes(builder, yes, signature.args[1]), _in_all_lanes(builder, no, signature.args[2]))

    yes, no = (each if each == _floats else types.float32 for each in (yes, no))
    return _floats(_bools, yes, no), code


@_llvm
def any_lane(context: Any, choice: Any) -> Any:
    """Return whether any lane is true."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(_bools), code


@_llvm
def total(context: Any, value: Any) -> Any:
    """Return the sum of the lanes: add one half to the other until one number remains."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, left = arguments[0], WIDTH
        while left > 1:
            left //= 2
            lower, upper = (
                builder.shuffle_vector(
                    value,
                    ir.Constant(value.type, ir.Undefined),
                    ir.Constant(ir.VectorType(ir.IntType(32), left), list(range(first, first + left))),
                )
                for first in (0, left)
            )
            value = builder.fadd(lower, upper)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float32(_floats), code


@_llvm
def bits_of(context: Any, value: Any) -> Any:
    """Return the 32 bits of each float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(_ints))

    return _ints(_floats), code


@_llvm
def from_bits(context: Any, bits: Any) -> Any:
    """Return the float32 of each 32 bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(_floats))

    return _floats(_ints), code


@_llvm
def to_floats(context: Any, whole: Any) -> Any:
    """Return each whole number as a float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], context.get_value_type(_floats))

    return _floats(_ints), code


@_llvm
def widest_vectors(context: Any) -> Any:
    """Use vectors of 512 bits where the machine has them. LLVM avoids them, because early AVX-512 processors lowered their clock."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # `set.add`, since llvmlite's own `add` refuses attributes that it does not know by name
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), code


# -- functions of numbers -----------------------------------------------------------------------------------------------------

#: Options of functions that LLVM inlines and only compiled code calls.
_INLINED: dict[str, Any] = {"forceinline": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_lanewise = njit(**_INLINED)

_SQRT_TWO = np.float32(2**0.5)
# log(2) as a part of few bits, whose products with an exponent are exact, and the remainder. Polynomials from Cephes (Moshier).
_LOG2_E, _LN2_HIGH, _LN2_LOW = (np.float32(number) for number in (1.44269504088896341, 0.693359375, -2.12194440e-4))
#: Adding it rounds to a whole number, and leaves that number in the lowest bits.
_ROUND = np.float32(1.5 * 2**23)
#: Just above log(2 ** -126) = -87.336. Below that the exponent would leave its bits.
_EXP_LOWEST = np.float32(-87.33)
_E0, _E1, _E2, _E3, _E4, _E5 = (
    np.float32(number)
    for number in (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4)
)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.float32(number)
    for number in (
        3.3333331174e-1,
        -2.4999993993e-1,
        2.0000714765e-1,
        -1.6668057665e-1,
        1.4249322787e-1,
        -1.2420140846e-1,
        1.1676998740e-1,
        -1.1514610310e-1,
        7.0376836292e-2,
    )
)
#: The smallest normal number. Smaller ones are lifted by 2 ** 23, since their bits hold no exponent.
_SMALLEST = np.float32(2.0**-126)
_LIFT, _LIFTED = np.float32(2.0**23), np.float32(23)
# Bits of a float32: those of sqrt(1/2); the mask of sign and exponent; where the exponent begins, and what is added to it.
_SQRT_HALF_BITS, _EXPONENT_BITS, _FRACTION_BITS, _BIAS = 0x3F3504F3, -0x800000, 23, 127


@_lanewise
def exponential(x: Lanes) -> Lanes:
    """Return `exp(x)` for x <= 0, and 0 for x < -87.33, where it is below the smallest normal float32 (2 ** -126)."""
    # exp(x) = 2 ** exponent exp(r), |r| <= log(2) / 2. The whole number lies in the lowest bits of `rounded`, too
    rounded = x * _LOG2_E + _ROUND
    exponent = rounded - _ROUND
    r = x - exponent * _LN2_HIGH
    r = r - exponent * _LN2_LOW
    series = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
    series = series * (r * r) + r + ONE
    power_of_two = from_bits((bits_of(rounded) + _BIAS) << _FRACTION_BITS)
    return select(x < _EXP_LOWEST, ZERO, series * power_of_two)


@_lanewise
def _series_of_logarithm(f: Lanes, exponent: Lanes) -> Lanes:
    """Return `log((1 + f) 2 ** exponent)` for f in [sqrt(1/2) - 1, sqrt(2) - 1]. Small parts are added first."""
    square = f * f
    series = (((((((_L8 * f + _L7) * f + _L6) * f + _L5) * f + _L4) * f + _L3) * f + _L2) * f + _L1) * f + _L0
    y = series * f * square + exponent * _LN2_LOW
    y = y - HALF * square
    return f + y + exponent * _LN2_HIGH


@_lanewise
def logarithm(x: Lanes) -> Lanes:
    """Return `log(x)`: -inf for 0, NaN for numbers below 0 and NaN, inf for inf."""
    tiny = x < _SMALLEST
    scaled = select(tiny, x * _LIFT, x)
    bits = bits_of(scaled)
    # x = (1 + f) 2 ** exponent with 1 + f in [sqrt(1/2), sqrt(2)): counted from sqrt(1/2), numbers just below 1 have the exponent 0
    exponent = (bits - _SQRT_HALF_BITS) & _EXPONENT_BITS
    f = from_bits(bits - exponent) - ONE
    y = _series_of_logarithm(f, to_floats(exponent >> _FRACTION_BITS) - select(tiny, _LIFTED, ZERO))
    y = select(x < INFINITY, y, x)
    return select(x > ZERO, y, select(x == ZERO, -INFINITY, NAN))


@_lanewise
def power(base: Lanes, exponent: Number) -> Lanes:
    """Return `base ** exponent` for base > 0. `exponential` takes numbers <= 0 only, so a power above 1 is one over its inverse."""
    size = exponent * logarithm(base)
    small = exponential(-abs(size))
    return select(size < ZERO, small, ONE / small)


@_lanewise
def log_of_one_plus(x: Lanes, reciprocal: Lanes) -> Lanes:
    """Return `log(1 + x)` for x in [0, 1], as exact for small x as for large. `reciprocal` is 1 / (1 + x)."""
    u = ONE + x
    large = u > _SQRT_TWO
    y = _series_of_logarithm(select(large, HALF * u, u) - ONE, select(large, broadcast(ONE), ZERO))
    return y + (x - (u - ONE)) * reciprocal
