"""Rows of numbers between memory, where they have any dtype and stride, and a block's rows of float32 or int32 class codes.

These are loops over one row, simple enough that LLVM makes vector instructions of them. Python's numbers are 64 bits wide to numba,
so every constant in a loop is named, and narrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from monai_jdt.kernels.numba.compilation import part, small
from monai_jdt.kernels.numba.records import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    ILLEGAL,
    INT8,
    INT16,
    INT32,
    INT64,
    LANES,
    SILENT,
    UINT8,
    Codes,
    Floats,
    Job,
    Number,
    Numbers,
    StridedArray,
)
from monai_jdt.kernels.numba.vectors import HALF, ZERO, Mask, any_lane, broadcast, lanes_at, select, store, total

#: Written in LLVM's language; Any, since its type has one argument more than a call.
_llvm: Any = intrinsic


def _pointer_to(kind: types.Type) -> Any:
    """Return a function from an address to a pointer, which numba's loops index as an array."""

    @_llvm
    def pointer(context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), code

    return pointer


floats_at, doubles_at = _pointer_to(types.float32), _pointer_to(types.float64)
_bytes_at, _shorts_at = _pointer_to(types.uint8), _pointer_to(types.uint16)
_int8s_at, _int16s_at, int32s_at, int64s_at = (_pointer_to(kind) for kind in (types.int8, types.int16, types.int32, types.int64))


@_llvm
def _bits(context: Any, value: Any) -> Any:
    """Return the 32 bits of a float32 as an int32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), code


@_llvm
def _from_bits(context: Any, bits: Any) -> Any:
    """Return the float32 of the lower 32 bits of an int64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), code


#: 2 to the difference of the exponents' biases of float16 (15) and float32 (127). The product makes normal numbers of subnormal ones.
_HALF_SCALE = np.float32(2.0**112)


@small
def from_float16(half: Number) -> Number:
    """Return the float32 of the bits of a float16."""
    shifted = (half & 0x7FFF) << 13
    magnitude = _bits(_from_bits(shifted) * _HALF_SCALE)
    # an exponent of all ones: infinity or NaN, which no product makes
    magnitude = (shifted | 0x7F800000) if shifted >= 0x0F800000 else magnitude
    return _from_bits(magnitude | ((half & 0x8000) << 16))


@small
def to_float16(value: Number) -> Number:
    """Return the bits of the nearest float16, of two equally near ones the even one."""
    bits = np.int64(_bits(value))
    sign = (bits >> 16) & 0x8000
    magnitude = bits & 0x7FFFFFFF
    # Of the 23 bits of a fraction 10 are left. 112 is taken from the exponent (0x38000000), and half a last place less one (0xFFF) is
    # added. The last bit that stays adds the one where it is odd: a tie goes to the even neighbour.
    normal = (magnitude - 0x37FFF001 + ((magnitude >> 13) & 1)) >> 13
    # below 2 ** -14: in 0.5 + x the last place is 2 ** -24, that of float16's subnormal numbers, so that the addition rounds
    subnormal = _bits(_from_bits(magnitude) + HALF) - 0x3F000000
    rounded = normal if magnitude >= 0x38800000 else subnormal
    # from 65536 on infinity (65520 and more round to it above), and NaN
    rounded = 0x7C00 if magnitude >= 0x47800000 else rounded
    rounded = 0x7E00 if magnitude > 0x7F800000 else rounded
    return np.uint16(rounded | sign)


@small
def from_bfloat16(half: Number) -> Number:
    """Return the float32 of the bits of a bfloat16, its upper half."""
    return _from_bits(np.int64(half) << 16)


@small
def to_bfloat16(value: Number) -> Number:
    """Return the bits of the nearest bfloat16, of two equally near ones the even one."""
    bits = np.int64(_bits(value))
    # half a last place less one, and one where the last bit that stays is odd; NaN could become infinity
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16(rounded if value == value else 0x7FC0)


@small
def address_of(array: StridedArray, image: int, channel: int, voxel: int) -> int:
    """Return the address of a number, in bytes."""
    return array.address + image * array.image + channel * array.channel + voxel * array.voxel * array.size


@part
def _copy_numbers(source: Numbers, stride: int, n: int, out: Floats) -> None:
    for i in range(n):
        out[i] = np.float32(source[i * stride])


@part
def read_row(kind: int, address: int, stride: int, n: int, out: Floats) -> None:
    """Read n numbers of any kind as float32.

    Args:
        kind: what the numbers are, such as FLOAT16.
        address: of the first.
        stride: from one to the next, in numbers.
        n: how many.
        out: where they go.
    """
    if kind == FLOAT32:
        _copy_numbers(floats_at(address), stride, n, out)
    elif kind == FLOAT16:
        halves = _shorts_at(address)
        for i in range(n):
            out[i] = from_float16(halves[i * stride])
    elif kind == BFLOAT16:
        halves = _shorts_at(address)
        for i in range(n):
            out[i] = from_bfloat16(halves[i * stride])
    elif kind == FLOAT64:
        _copy_numbers(doubles_at(address), stride, n, out)
    elif kind == UINT8:
        _copy_numbers(_bytes_at(address), stride, n, out)
    elif kind == INT8:
        _copy_numbers(_int8s_at(address), stride, n, out)
    elif kind == INT16:
        _copy_numbers(_int16s_at(address), stride, n, out)
    elif kind == INT32:
        _copy_numbers(int32s_at(address), stride, n, out)
    else:
        _copy_numbers(int64s_at(address), stride, n, out)


@part
def write_row(kind: int, address: int, stride: int, n: int, row: Floats) -> None:
    """Write n float32 as numbers of a floating kind: FLOAT32, FLOAT16 or BFLOAT16. Arguments as for :func:`read_row`."""
    if kind == FLOAT32:
        out = floats_at(address)
        for i in range(n):
            out[i * stride] = row[i]
    elif kind == FLOAT16:
        halves = _shorts_at(address)
        for i in range(n):
            halves[i * stride] = to_float16(row[i])
    else:
        halves = _shorts_at(address)
        for i in range(n):
            halves[i * stride] = to_bfloat16(row[i])


_NO_CLASS = np.int32(0)
#: Above every class value. All float64 from here on are whole, and an int64 holds it, which larger floats may exceed.
_LARGE_WHOLE = 2.0**53


@small
def _class_code(value: Number, job: Job) -> Number:
    """Return the code of a whole number: the class value, SILENT for the ignore marker, ILLEGAL below 0, `job.above` if too large."""
    legal = ILLEGAL if value < 0 else (value if value <= job.highest_class else job.above)
    return np.int32(SILENT if (job.has_ignore_index != 0) & (value == job.ignore_index) else legal)


@small
def _class_code_of_float(value: Number, job: Job) -> Number:
    """Return the code of a float64, as :func:`_class_code`, and ILLEGAL for fractions and NaN.

    The marker is compared with the number as it is: clipped to a whole number first, another value could become the marker.
    """
    clipped = (value if value < _LARGE_WHOLE else _LARGE_WHOLE) if value >= 0.0 else -1.0
    whole = np.int64(clipped)
    legal = whole if whole <= job.highest_class else job.above
    legal = legal if np.float64(whole) == clipped else ILLEGAL
    return np.int32(SILENT if (job.has_ignore_index != 0) & (value == np.float64(job.ignore_index)) else legal)


@part
def _copy_classes(source: Numbers, stride: int, n: int, out: Codes, job: Job) -> None:
    for i in range(n):
        out[i] = _class_code(np.int64(source[i * stride]), job)


@part
def _copy_small_classes(source: Numbers, stride: int, n: int, out: Codes, job: Job) -> None:
    """As :func:`_copy_classes` for values of at most 16 bits: in 32 bits, twice as many fit into a vector."""
    highest, above, marker = np.int32(job.highest_class), np.int32(job.above), np.int32(job.ignore_index)
    marked = (job.has_ignore_index != 0) & (np.int64(marker) == job.ignore_index)
    for i in range(n):
        value = np.int32(source[i * stride])
        code = ILLEGAL if value < _NO_CLASS else (value if value <= highest else above)
        out[i] = SILENT if marked & (value == marker) else code


@part
def _round_classes(source: Numbers, stride: int, n: int, out: Codes, job: Job) -> None:
    for i in range(n):
        out[i] = _class_code_of_float(np.float64(source[i * stride]), job)


@part
def read_classes(job: Job, address: int, n: int, out: Codes, scratch: Floats) -> None:
    """Read n class values of a label as int32 codes.

    Args:
        job: the step, for the label's dtype and stride.
        address: of the first value.
        n: how many.
        out: where the codes go.
        scratch: n float32, by way of which float16 and bfloat16 are read.
    """
    kind, stride = job.label.kind, job.label.voxel
    if kind == UINT8:
        _copy_small_classes(_bytes_at(address), stride, n, out, job)
    elif kind == INT8:
        _copy_small_classes(_int8s_at(address), stride, n, out, job)
    elif kind == INT16:
        _copy_small_classes(_int16s_at(address), stride, n, out, job)
    elif kind == INT32:
        _copy_classes(int32s_at(address), stride, n, out, job)
    elif kind == INT64:
        _copy_classes(int64s_at(address), stride, n, out, job)
    elif kind == FLOAT64:
        _round_classes(doubles_at(address), stride, n, out, job)
    elif kind == FLOAT32:
        _round_classes(floats_at(address), stride, n, out, job)
    else:
        read_row(kind, address, stride, n, scratch)
        _round_classes(scratch, 1, n, out, job)


# -- small things about one row -----------------------------------------------------------------------------------------------


@part
def fill_row(row: Floats, value: Number, first: int, last: int) -> None:
    """Set a part of a row to one value."""
    for i in range(first, last):
        row[i] = value


@small
def all_true() -> Mask:
    """Return lanes of True."""
    return broadcast(ZERO) <= ZERO


@part
def row_total(row: int, n: int) -> Number:
    """Return the sum of a row of n float32 at an address. n is a multiple of the lanes, here and below."""
    result = broadcast(ZERO)
    for i in range(0, 4 * n, LANES):
        result = result + lanes_at(row + i)
    return total(result)


@part
def zero_uncounted(row: int, keep: int, n: int) -> None:
    """Write 0 where a voxel does not count, whatever is there: a product with 0 would keep NaN."""
    for i in range(0, 4 * n, LANES):
        store(row + i, select(lanes_at(keep + i) > ZERO, lanes_at(row + i), ZERO))


@part
def any_above(row: int, threshold: Number, n: int) -> bool:
    """Return whether any number is above a threshold, or NaN."""
    below = all_true()
    for i in range(0, 4 * n, LANES):
        below = below & (lanes_at(row + i) <= threshold)
    return any_lane(~below)
