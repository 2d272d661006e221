"""The compiled side of the numba kernel: the sums, and the gradient, of a range of voxels, a block of voxels at a time.

One program serves every recipe, dtype and number of classes, so it is compiled once on a machine: numba keeps it on disk, beside
this file or in its user-wide folder. A block is so short that the values of all its classes stay in the cache of a core. Each
step over a block is a loop over one row of it, simple enough that LLVM makes vector instructions of it; which loops run is
decided once for a block. A row is a plain pointer. Python's numbers are 64 bits wide to numba, so every constant in a loop is
named, and narrow. Keep a loop to a few rows, of which two at most are written: LLVM gives up where more than eight pairs of rows
might overlap.

All compiled code stands in this file, since numba compiles again when this file changes, and looks at no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: Rows of a block, as pointers: to float32, to int32, to any number; and one number of a row.
Floats: TypeAlias = Any
Codes: TypeAlias = Any
Numbers: TypeAlias = Any
Number: TypeAlias = Any

# What `Grid.kind` says of the numbers in memory.
FLOAT32, FLOAT16, BFLOAT16, FLOAT64, UINT8, INT8, INT16, INT32, INT64 = range(9)
# `Job.activation`
NO_ACTIVATION, SIGMOID, SOFTMAX = range(3)
# `Job.pixel`
NO_PIXEL, CROSS_ENTROPY, FOCAL, DIVERGENCE = range(4)
# Rows of the sums, as in monai_jdt.kernels.rows.Row.
TP, FP, FN, PIXEL, PIXEL_NORM, COUNTED, IN_LABEL, IN_PREDICTION, SUSPECT = range(9)
# Class values that are none: no class; the marker; and with regions, a number in none of them that 32 bits do not hold.
ILLEGAL, SILENT, NOWHERE = -1, -2, -3

#: Scratch rows of a block besides the four of each channel.
VOXEL_ROWS = 6
#: Numbers between rows: at distances of whole pages, a load waits for a store that has nothing to do with it.
ROW_GAP = 16
#: Scratch rows of each channel.
CHANNEL_ROWS = 4


class Grid(NamedTuple):
    """Where `(N, K, V)` numbers lie: steps from image to image and channel to channel in bytes, from voxel to voxel in numbers."""

    address: int
    kind: int
    #: bytes of a number
    size: int
    image: int
    channel: int
    voxel: int


class Job(NamedTuple):
    """A step in plain numbers. Tables are addresses; an address of 0 is nothing.

    With softmax a voxel's pixel term is multiplied by `(alpha[0] + alpha[1] t_0) sum_c w_c t_c`, with sigmoid by
    `(alpha[0] + alpha[1] t) (w_c + v_c t)`; `w` and `v` are the two rows of `class_weight`, float32 `(2, C)`.
    """

    logits: Grid
    label: Grid
    mask: Grid
    gradient: Grid
    channels: int
    #: voxels in a block
    width: int
    #: 0 for a dense label, 1 for class indices
    raters: int
    #: float32 (N, R)
    rater_weights: int
    #: int64 (2, pairs): channel number, class value that belongs to it
    members: int
    pairs: int
    highest_class: int
    #: what a whole number above is
    above: int
    has_ignore_index: int
    ignore_index: int
    #: whether any voxel might not count
    marked: int
    #: 1, or C for a mask of each channel
    mask_rows: int
    activation: int
    norm: int
    pixel: int
    class_weight: int
    has_class_weight: int
    #: float32 (4, N, C)
    upstream: int
    images: int
    smoothed: int
    #: label smoothing: t = scale * raw + floor
    smoothing_scale: np.float32
    smoothing_floor: np.float32
    threshold: np.float32
    gamma: np.float32
    alpha: tuple[np.float32, np.float32]
    #: what suspicion starts at: label and prediction below, above; sum of a label off by
    low: np.float32
    high: np.float32
    off: np.float32


class Rows(NamedTuple):
    """Addresses of a block's rows: of each channel, `step` bytes apart; and one of each kind for all channels."""

    x: int
    p: int
    t: int
    #: 1 where a voxel counts, else 0; one row, or with `keep_step` one of each channel
    keep: int
    top: int
    total: int
    weight: int
    focus: int
    codes: int
    shared: int
    step: int
    keep_step: int


#: NaN and the order of operations are kept; a product and a sum may be one instruction.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
#: No Python calls these: what a call needs would be a quarter of the time to compile.
_UNWRAPPED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _on_disk(function: Callable) -> Any:
    """Compiled at its first call; from disk, where a folder can be written."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return njit(**_OPTIONS)(function)


#: Compiled as a part of what calls it. numba compiles any other function by itself too, with all that it calls.
_joined = njit(inline="always", **_OPTIONS)
#: Written in LLVM's language; Any, since its type has one argument more than a call.
_llvm: Any = intrinsic
_part = njit(**_OPTIONS, **_UNWRAPPED)
#: Of single numbers: a call that LLVM does not inline would keep a loop from becoming vector instructions.
_scalar = njit(forceinline=True, **_OPTIONS, **_UNWRAPPED)
#: Without fused products, so that it rounds as the definition does: where a tie p = t depends on it.
_rounded_part = njit(nogil=True, error_model="numpy", **_UNWRAPPED)

_ZERO, _HALF, _ONE, _TWO = (np.float32(number) for number in (0, 0.5, 1, 2))
_NAN = np.float32(np.nan)


# -- numbers ------------------------------------------------------------------------------------------------------------------


def _pointer_to(kind: types.Type) -> Any:
    """A function from an address to a pointer."""

    @_llvm
    def pointer(context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), code

    return pointer


_floats, _doubles = _pointer_to(types.float32), _pointer_to(types.float64)
_bytes, _shorts = _pointer_to(types.uint8), _pointer_to(types.uint16)
_int8s, _int16s, _int32s, _int64s = (_pointer_to(kind) for kind in (types.int8, types.int16, types.int32, types.int64))


@_llvm
def _plus(context: Any, total: Any, value: Any) -> Any:
    """`total + value` in any order of summands: what lets a sum run in vector lanes, while all else stays in order."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("reassoc", "contract"))

    return types.float32(types.float32, types.float32), code


@_llvm
def _widest_vectors(context: Any) -> Any:
    """Where it has them, use vectors of 512 bits: LLVM avoids them on machines that once slowed down for them."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # past the attributes that llvmlite knows by name
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), code


@_llvm
def _bits(context: Any, value: Any) -> Any:
    """The 32 bits of a float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), code


@_llvm
def _from_bits(context: Any, bits: Any) -> Any:
    """The float32 of the lower 32 bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), code


# log(2) in a part with few bits, whose products with an exponent are exact, and the rest; polynomials from Cephes (Moshier).
_LOG2_E, _LN2_HIGH, _LN2_LOW = (np.float32(number) for number in (1.44269504088896341, 0.693359375, -2.12194440e-4))
#: Adding it rounds to a whole number, which then stands in the lowest bits.
_ROUND = np.float32(1.5 * 2**23)
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
_INFINITY, _SMALLEST = np.float32(np.inf), np.float32(2.0**-126)
_LIFT, _LIFTED = np.float32(2.0**23), np.float32(23)
_SQRT_HALF_BITS, _EXPONENT_BITS, _FRACTION_BITS = np.int32(0x3F3504F3), np.int32(-0x800000), np.int32(23)


@_scalar
def exponential(x: Number) -> Number:
    """`exp(x)` of a float32 that is at most 0; 0 for x < -87.33, where it is below the smallest normal one (2 ** -126)."""
    rounded = x * _LOG2_E + _ROUND
    exponent = rounded - _ROUND
    r = x - exponent * _LN2_HIGH
    r = r - exponent * _LN2_LOW
    series = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
    series = series * (r * r) + r + _ONE
    return _ZERO if x < _EXP_LOWEST else series * _from_bits((_bits(rounded) + 127) << 23)


@_scalar
def logarithm(x: Number) -> Number:
    """`log(x)` of a float32."""
    tiny = x < _SMALLEST
    scaled = x * _LIFT if tiny else x
    bits = _bits(scaled)
    exponent = np.int32(np.int32(bits - _SQRT_HALF_BITS) & _EXPONENT_BITS)
    f = _from_bits(np.int32(bits - exponent)) - _ONE
    e = np.float32(np.int32(exponent >> _FRACTION_BITS)) - (_LIFTED if tiny else _ZERO)
    square = f * f
    series = (((((((_L8 * f + _L7) * f + _L6) * f + _L5) * f + _L4) * f + _L3) * f + _L2) * f + _L1) * f + _L0
    y = series * f * square + e * _LN2_LOW
    y = y - _HALF * square
    y = f + y + e * _LN2_HIGH
    y = y if x < _INFINITY else x
    return y if x > _ZERO else (-_INFINITY if x == _ZERO else _NAN)


@_scalar
def power(base: Number, exponent: Number) -> Number:
    """`base ** exponent` for base > 0."""
    size = exponent * logarithm(base)
    small = exponential(-abs(size))
    return small if size < _ZERO else _ONE / small


@_scalar
def log_of_one_plus(x: Number) -> Number:
    """`log(1 + x)` for x in [0, 1], as exact for small x as for large."""
    u = _ONE + x
    return logarithm(u) + (x - (u - _ONE)) / u


_HALF_SCALE = np.float32(2.0**112)


@_scalar
def from_float16(half: Number) -> Number:
    """float32 of the bits of a float16."""
    shifted = (half & 0x7FFF) << 13
    magnitude = _bits(_from_bits(shifted) * _HALF_SCALE)
    magnitude = (shifted | 0x7F800000) if shifted >= 0x0F800000 else magnitude
    return _from_bits(magnitude | ((half & 0x8000) << 16))


@_scalar
def to_float16(value: Number) -> Number:
    """The bits of the nearest float16, of two the even one."""
    bits = np.int64(_bits(value))
    sign = (bits >> 16) & 0x8000
    magnitude = bits & 0x7FFFFFFF
    # rebiased exponent, half a last place to round, and the tie
    normal = (magnitude - 0x37FFF001 + ((magnitude >> 13) & 1)) >> 13
    # the addition rounds for us
    subnormal = _bits(_from_bits(magnitude) + _HALF) - 0x3F000000
    rounded = normal if magnitude >= 0x38800000 else subnormal
    rounded = 0x7C00 if magnitude >= 0x47800000 else rounded
    rounded = 0x7E00 if magnitude > 0x7F800000 else rounded
    return np.uint16(rounded | sign)


@_scalar
def from_bfloat16(half: Number) -> Number:
    """float32 of the bits of a bfloat16."""
    return _from_bits(np.int64(half) << 16)


@_scalar
def to_bfloat16(value: Number) -> Number:
    """The bits of the nearest bfloat16, of two the even one."""
    bits = np.int64(_bits(value))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16(rounded if value == value else 0x7FC0)


# -- rows in memory -----------------------------------------------------------------------------------------------------------


@_scalar
def _place(grid: Grid, image: int, channel: int, voxel: int) -> int:
    return grid.address + image * grid.image + channel * grid.channel + voxel * grid.voxel * grid.size


@_part
def _copy_numbers(source: Numbers, stride: int, n: int, out: Floats) -> None:
    for i in range(n):
        out[i] = np.float32(source[i * stride])


@_part
def _read_row(kind: int, address: int, stride: int, n: int, out: Floats) -> None:
    if kind == FLOAT32:
        _copy_numbers(_floats(address), stride, n, out)
    elif kind == FLOAT16:
        halves = _shorts(address)
        for i in range(n):
            out[i] = from_float16(halves[i * stride])
    elif kind == BFLOAT16:
        halves = _shorts(address)
        for i in range(n):
            out[i] = from_bfloat16(halves[i * stride])
    elif kind == FLOAT64:
        _copy_numbers(_doubles(address), stride, n, out)
    elif kind == UINT8:
        _copy_numbers(_bytes(address), stride, n, out)
    elif kind == INT8:
        _copy_numbers(_int8s(address), stride, n, out)
    elif kind == INT16:
        _copy_numbers(_int16s(address), stride, n, out)
    elif kind == INT32:
        _copy_numbers(_int32s(address), stride, n, out)
    else:
        _copy_numbers(_int64s(address), stride, n, out)


@_part
def _write_row(kind: int, address: int, stride: int, n: int, row: Floats) -> None:
    if kind == FLOAT32:
        out = _floats(address)
        for i in range(n):
            out[i * stride] = row[i]
    elif kind == FLOAT16:
        halves = _shorts(address)
        for i in range(n):
            halves[i * stride] = to_float16(row[i])
    else:
        halves = _shorts(address)
        for i in range(n):
            halves[i * stride] = to_bfloat16(row[i])


#: Above every class value; all floats from here on are whole.
_LARGE_WHOLE = 2.0**53


@_scalar
def _class_code(value: Number, job: Job) -> Number:
    """A whole number as a class value."""
    legal = ILLEGAL if value < 0 else (value if value <= job.highest_class else job.above)
    return np.int32(SILENT if (job.has_ignore_index != 0) & (value == job.ignore_index) else legal)


@_scalar
def _class_code_of_float(value: Number, job: Job) -> Number:
    """A float64 as a class value. What no whole number stands for must equal no marker, so the marker is looked for first."""
    clipped = (value if value < _LARGE_WHOLE else _LARGE_WHOLE) if value >= 0.0 else -1.0
    whole = np.int64(clipped)
    legal = whole if whole <= job.highest_class else job.above
    legal = legal if np.float64(whole) == clipped else ILLEGAL
    return np.int32(SILENT if (job.has_ignore_index != 0) & (value == np.float64(job.ignore_index)) else legal)


@_part
def _copy_classes(source: Numbers, stride: int, n: int, out: Codes, job: Job) -> None:
    for i in range(n):
        out[i] = _class_code(np.int64(source[i * stride]), job)


@_part
def _round_classes(source: Numbers, stride: int, n: int, out: Codes, job: Job) -> None:
    for i in range(n):
        out[i] = _class_code_of_float(np.float64(source[i * stride]), job)


@_part
def _read_classes(job: Job, address: int, n: int, out: Codes, scratch: Floats) -> None:
    kind, stride = job.label.kind, job.label.voxel
    if kind == UINT8:
        _copy_classes(_bytes(address), stride, n, out, job)
    elif kind == INT8:
        _copy_classes(_int8s(address), stride, n, out, job)
    elif kind == INT16:
        _copy_classes(_int16s(address), stride, n, out, job)
    elif kind == INT32:
        _copy_classes(_int32s(address), stride, n, out, job)
    elif kind == INT64:
        _copy_classes(_int64s(address), stride, n, out, job)
    elif kind == FLOAT64:
        _round_classes(_doubles(address), stride, n, out, job)
    elif kind == FLOAT32:
        _round_classes(_floats(address), stride, n, out, job)
    else:
        _read_row(kind, address, stride, n, scratch)
        _round_classes(scratch, 1, n, out, job)


# -- small things about one row -----------------------------------------------------------------------------------------------


@_part
def _fill(row: Floats, value: Number, n: int) -> None:
    for i in range(n):
        row[i] = value


@_part
def _total(row: Floats, n: int) -> Number:
    total = _ZERO
    for i in range(n):
        total = _plus(total, row[i])
    return total


@_part
def _silence(row: Floats, keep: Floats, n: int) -> None:
    """0 where a voxel does not count, whatever is there."""
    for i in range(n):
        row[i] = row[i] if keep[i] != _ZERO else _ZERO


@_part
def _any_outside(row: Floats, low: Number, high: Number, n: int) -> bool:
    """Whether any number is out of bounds or NaN."""
    outside = _ZERO
    for i in range(n):
        outside = _plus(outside, _ZERO if (row[i] >= low) & (row[i] <= high) else _ONE)
    return outside > _ZERO


@_part
def _rows_in(job: Job, scratch: int) -> Rows:
    step = 4 * (job.width + ROW_GAP)
    block = step * job.channels
    voxels = scratch + CHANNEL_ROWS * block
    keep_step = step if job.mask_rows > 1 else 0
    # without an activation, the logits are the prediction
    p = scratch if job.activation == NO_ACTIVATION else scratch + block
    return Rows(
        scratch,
        p,
        scratch + 2 * block,
        scratch + 3 * block,
        voxels,
        voxels + step,
        voxels + 2 * step,
        voxels + 3 * step,
        voxels + 4 * step,
        voxels + 5 * step,
        step,
        keep_step,
    )


# -- the label ----------------------------------------------------------------------------------------------------------------


@_joined
def _count_votes(job: Job, image: int, start: int, n: int, rows: Rows) -> None:
    """Weighted shares of the raters that speak; `keep` says where any does."""
    codes, weight, keep = _int32s(rows.codes), _floats(rows.weight), _floats(rows.keep)
    channel_of, value_of = _int64s(job.members), _int64s(job.members + 8 * job.pairs)
    weights = _floats(job.rater_weights + 4 * image * job.raters)
    for c in range(job.channels):
        _fill(_floats(rows.t + c * rows.step), _ZERO, n)
    _fill(keep, _ZERO, n)
    for r in range(job.raters):
        rater_weight = weights[r]
        if not rater_weight > _ZERO:
            continue
        _read_classes(job, _place(job.label, image, r, start), n, codes, weight)
        for i in range(n):
            keep[i] = keep[i] + (rater_weight if codes[i] != SILENT else _ZERO)
        for i in range(n):
            # NaN times anything: a value that is no class makes every channel NaN
            weight[i] = _ZERO if codes[i] == SILENT else (_NAN if codes[i] == ILLEGAL else rater_weight)
        for k in range(job.pairs):
            share, value = _floats(rows.t + channel_of[k] * rows.step), np.int32(value_of[k])
            for i in range(n):
                share[i] = share[i] + weight[i] * (_ONE if codes[i] == value else _ZERO)
    if job.raters > 1:
        for c in range(job.channels):
            share = _floats(rows.t + c * rows.step)
            for i in range(n):
                share[i] = share[i] / (keep[i] if keep[i] > _ZERO else _ONE)
    for i in range(n):
        keep[i] = _ONE if keep[i] > _ZERO else _ZERO


@_joined
def _read_dense(job: Job, image: int, start: int, n: int, rows: Rows) -> None:
    """The values; `keep` says where not all channels are the marker."""
    keep, marker = _floats(rows.keep), np.float32(job.ignore_index)
    _fill(keep, _ZERO if job.has_ignore_index else _ONE, n)
    for c in range(job.channels):
        row = _floats(rows.t + c * rows.step)
        _read_row(job.label.kind, _place(job.label, image, c, start), job.label.voxel, n, row)
        if job.has_ignore_index:
            for i in range(n):
                keep[i] = keep[i] if row[i] == marker else _ONE


@_joined
def _apply_mask(job: Job, image: int, start: int, n: int, rows: Rows) -> None:
    """`keep` times the mask, for each row of it; the first one last, since the others are made of it."""
    first, row = _floats(rows.keep), _floats(rows.weight)
    for k in range(job.mask_rows - 1, -1, -1):
        _read_row(job.mask.kind, _place(job.mask, image, k, start), job.mask.voxel, n, row)
        kept = _floats(rows.keep + k * rows.step)
        for i in range(n):
            kept[i] = first[i] * row[i]


@_part
def _add_to_total(row: Floats, low: Number, high: Number, n: int, total: Floats) -> bool:
    """Add a row to `total`; whether any number is out of bounds or NaN."""
    outside = _ZERO
    for i in range(n):
        total[i] = total[i] + row[i]
        outside = _plus(outside, _ZERO if (row[i] >= low) & (row[i] <= high) else _ONE)
    return outside > _ZERO


@_joined
def _look_at_label(job: Job, n: int, rows: Rows, sums: Numbers) -> None:
    """IN_LABEL and SUSPECT, until found; the label is not smoothed yet."""
    total, keep, suspect = _floats(rows.total), _floats(rows.keep), SUSPECT * job.channels
    dense = job.raters == 0
    if dense:
        _fill(total, _ZERO, n)
    for c in range(job.channels):
        t, found = _floats(rows.t + c * rows.step), IN_LABEL * job.channels + c
        if sums[found] == 0 and _any_outside(t, -_INFINITY, job.threshold, n):
            sums[found] = 1
        # a value that is no class is NaN in every channel that counts it: one is enough where they all count the same voxels
        if dense and _add_to_total(t, job.low, job.high, n, total):
            sums[suspect + c] = 1
        elif (c == 0 or job.mask_rows > 1) and not dense and _any_outside(t, job.low, job.high, n):
            sums[suspect] = 1
    if dense and job.activation == SOFTMAX:
        if job.marked:
            for i in range(n):
                total[i] = total[i] if keep[i] != _ZERO else _ONE
        if _any_outside(total, _ONE - job.off, _ONE + job.off, n):
            sums[suspect] = 1


@_rounded_part
def _smooth(t: Floats, keep: Floats, scale: Number, floor: Number, n: int) -> None:
    for i in range(n):
        t[i] = (scale * t[i] + floor) * keep[i]


# -- the prediction -----------------------------------------------------------------------------------------------------------


@_joined
def _softmax(job: Job, n: int, rows: Rows) -> None:
    """p, 0 where a voxel does not count; x becomes log p but for the log of the sum, which is in `top`."""
    top, total, keep = _floats(rows.top), _floats(rows.total), _floats(rows.keep)
    _fill(top, -_INFINITY, n)
    _fill(total, _ZERO, n)
    for c in range(job.channels):
        x = _floats(rows.x + c * rows.step)
        for i in range(n):
            top[i] = x[i] if x[i] > top[i] else top[i]
    for c in range(job.channels):
        x, p = _floats(rows.x + c * rows.step), _floats(rows.p + c * rows.step)
        for i in range(n):
            x[i] = x[i] - top[i]
            p[i] = exponential(x[i])
            total[i] = total[i] + p[i]
    if job.pixel != NO_PIXEL:
        for i in range(n):
            top[i] = logarithm(total[i])
    for i in range(n):
        total[i] = keep[i] / total[i]
    for c in range(job.channels):
        p = _floats(rows.p + c * rows.step)
        for i in range(n):
            p[i] = p[i] * total[i]


@_joined
def _sigmoid(job: Job, n: int, rows: Rows) -> None:
    """p, 0 where a voxel does not count."""
    for c in range(job.channels):
        x, p, keep = _floats(rows.x + c * rows.step), _floats(rows.p + c * rows.step), _floats(rows.keep + c * rows.keep_step)
        for i in range(n):
            e = exponential(-abs(x[i]))
            p[i] = (_ONE if x[i] >= _ZERO else e) / (_ONE + e) * keep[i]


@_joined
def _read_block(job: Job, image: int, start: int, n: int, rows: Rows, place: int) -> None:
    """A block's label t and prediction p, both 0 where `keep` is.

    The sums get what is seen in passing.
    """
    if job.raters > 0:
        _count_votes(job, image, start, n, rows)
    else:
        _read_dense(job, image, start, n, rows)
    if job.mask.address != 0:
        _apply_mask(job, image, start, n, rows)
    for c in range(job.channels):
        x = _floats(rows.x + c * rows.step)
        _read_row(job.logits.kind, _place(job.logits, image, c, start), job.logits.voxel, n, x)
        if job.marked:
            keep = _floats(rows.keep + c * rows.keep_step)
            _silence(x, keep, n)
            _silence(_floats(rows.t + c * rows.step), keep, n)
    if place != 0:
        _look_at_label(job, n, rows, _doubles(place))
    if job.smoothed:
        for c in range(job.channels):
            t, keep = _floats(rows.t + c * rows.step), _floats(rows.keep + c * rows.keep_step)
            _smooth(t, keep, job.smoothing_scale, job.smoothing_floor, n)
    if job.activation == SOFTMAX:
        _softmax(job, n, rows)
    elif job.activation == SIGMOID:
        _sigmoid(job, n, rows)


# -- the pixel term -----------------------------------------------------------------------------------------------------------


@_joined
def _weigh_voxels(job: Job, n: int, rows: Rows) -> None:
    """With softmax, what a voxel's term is multiplied by, in `weight`; and without the focal weight, in `total`."""
    weight, total, t = _floats(rows.weight), _floats(rows.total), _floats(rows.t)
    if job.has_class_weight:
        of_class = _floats(job.class_weight)
        _fill(total, _ZERO, n)
        for c in range(job.channels):
            t, w = _floats(rows.t + c * rows.step), of_class[c]
            for i in range(n):
                total[i] = total[i] + w * t[i]
    else:
        keep = _floats(rows.keep)
        for i in range(n):
            total[i] = keep[i]
    t, constant, slope = _floats(rows.t), job.alpha[0], job.alpha[1]
    for i in range(n):
        weight[i] = total[i] * (constant + slope * t[i])


@_joined
def _weigh_channel(job: Job, c: int, n: int, rows: Rows) -> None:
    """With sigmoid, what each voxel's term of a channel is multiplied by, in `weight`."""
    weight, t, keep = _floats(rows.weight), _floats(rows.t + c * rows.step), _floats(rows.keep + c * rows.keep_step)
    of_class = _floats(job.class_weight)
    w, v, constant, slope = of_class[c], of_class[job.channels + c], job.alpha[0], job.alpha[1]
    for i in range(n):
        weight[i] = (w + v * t[i]) * (constant + slope * t[i]) * keep[i]


@_part
def _focus_row(p: Floats, t: Floats, gamma: Number, n: int, out: Floats) -> None:
    """`|p - t| ** (gamma - 1)`, 0 at p = t."""
    if gamma == _TWO:
        for i in range(n):
            out[i] = abs(p[i] - t[i])
    elif gamma == _ONE:
        for i in range(n):
            out[i] = _ZERO if p[i] == t[i] else _ONE
    else:
        for i in range(n):
            out[i] = _ZERO if p[i] == t[i] else power(abs(p[i] - t[i]), gamma - _ONE)


@_scalar
def _entropy(t: Number) -> Number:
    """`t log t`, 0 at 0."""
    return _ZERO if t == _ZERO else t * logarithm(t)


@_scalar
def _entropy_of_softmax(x: Number, log_total: Number, t: Number) -> Number:
    """`-t log p` of a class."""
    # -inf times 0: a class that a network masks out costs nothing where the label does not have it
    return _ZERO if t == _ZERO else (log_total - x) * t


@_scalar
def _entropy_of_sigmoid(x: Number, t: Number) -> Number:
    """`-t log p - (1 - t) log(1 - p)`; of an infinite x as torch has it: inf or NaN for inf, NaN for -inf."""
    lower = _ZERO if x > _ZERO else x
    # -inf less itself is NaN
    upper = x - lower
    return upper * (_ONE - t) - lower * t + log_of_one_plus(exponential(-abs(x)))


@_joined
def _cross_entropy_row(job: Job, c: int, n: int, rows: Rows) -> None:
    """That of a channel, where x is."""
    x, t, log_total = _floats(rows.x + c * rows.step), _floats(rows.t + c * rows.step), _floats(rows.top)
    if job.activation == SOFTMAX:
        for i in range(n):
            x[i] = _entropy_of_softmax(x[i], log_total[i], t[i])
    else:
        for i in range(n):
            x[i] = _entropy_of_sigmoid(x[i], t[i])


@_joined
def _pixel_sum(job: Job, c: int, n: int, rows: Rows) -> Number:
    term, weight, focus = _floats(rows.x + c * rows.step), _floats(rows.weight), _floats(rows.focus)
    p, t = _floats(rows.p + c * rows.step), _floats(rows.t + c * rows.step)
    total = _ZERO
    if job.pixel == CROSS_ENTROPY and job.activation == SOFTMAX:
        log_total = _floats(rows.top)
        for i in range(n):
            total = _plus(total, weight[i] * _entropy_of_softmax(term[i], log_total[i], t[i]))
        return total
    _cross_entropy_row(job, c, n, rows)
    if job.pixel == CROSS_ENTROPY:
        for i in range(n):
            total = _plus(total, weight[i] * term[i])
    elif job.pixel == FOCAL:
        _focus_row(p, t, job.gamma, n, focus)
        for i in range(n):
            total = _plus(total, weight[i] * term[i] * focus[i] * abs(p[i] - t[i]))
    elif job.activation == SOFTMAX:
        for i in range(n):
            total = _plus(total, weight[i] * (term[i] + _entropy(t[i])))
    else:
        for i in range(n):
            total = _plus(total, weight[i] * (term[i] + _entropy(t[i]) + _entropy(_ONE - t[i])))
    return total


# -- sums ---------------------------------------------------------------------------------------------------------------------


@_part
def _add_overlap(p: Floats, t: Floats, norm: int, n: int) -> tuple[Number, Number, Number]:
    """tp, fp, fn of a row. NaN on either side makes fp NaN."""
    tp, fp, fn = _ZERO, _ZERO, _ZERO
    if norm == 1:
        for i in range(n):
            far = p[i] - t[i]
            over = _ZERO if far < _ZERO else far
            tp = _plus(tp, t[i] if t[i] < p[i] else p[i])
            fp = _plus(fp, over)
            fn = _plus(fn, over - far)
    else:
        for i in range(n):
            far = p[i] - t[i]
            tp = _plus(tp, p[i] * t[i])
            fp = _plus(fp, far * far)
        fp = fp * _HALF
        fn = fp
    return tp, fp, fn


@_joined
def _sum_block(job: Job, n: int, rows: Rows, sums: Numbers) -> None:
    channels = job.channels
    if job.pixel != NO_PIXEL and job.activation == SOFTMAX:
        _weigh_voxels(job, n, rows)
        sums[PIXEL_NORM * channels] += _total(_floats(rows.total), n)
    for c in range(channels):
        p, t = _floats(rows.p + c * rows.step), _floats(rows.t + c * rows.step)
        tp, fp, fn = _add_overlap(p, t, job.norm, n)
        sums[TP * channels + c] += tp
        sums[FP * channels + c] += fp
        sums[FN * channels + c] += fn
        counted = np.float32(n)
        if job.marked:
            counted = _total(_floats(rows.keep + c * rows.keep_step), n)
        sums[COUNTED * channels + c] += counted
        found, suspect = IN_PREDICTION * channels + c, SUSPECT * channels + c
        if sums[found] == 0 and _any_outside(p, -_INFINITY, job.threshold, n):
            sums[found] = 1
        if job.activation == NO_ACTIVATION and sums[suspect] == 0 and _any_outside(p, job.low, job.high, n):
            sums[suspect] = 1
        if job.pixel != NO_PIXEL:
            if job.activation == SIGMOID:
                _weigh_channel(job, c, n, rows)
                sums[PIXEL_NORM * channels + c] += counted
            sums[PIXEL * channels + (c if job.activation == SIGMOID else 0)] += _pixel_sum(job, c, n, rows)


# -- the gradient -------------------------------------------------------------------------------------------------------------


@_joined
def _slope_of_overlap(job: Job, image: int, c: int, n: int, p: Floats, t: Floats, out: Floats) -> None:
    """By p, the loss's share of a voxel."""
    upstream, row = _floats(job.upstream + 4 * (image * job.channels + c)), job.images * job.channels
    tp, fp, fn = upstream[TP * row], upstream[FP * row], upstream[FN * row]
    if job.norm == 1:
        below, above, tie = tp - fn, fp, (tp - fn + fp) * _HALF
        for i in range(n):
            out[i] = below if p[i] < t[i] else (above if p[i] > t[i] else tie)
    else:
        far = fp + fn
        for i in range(n):
            out[i] = far * (p[i] - t[i]) + tp * t[i]


@_joined
def _add_slope_of_focus(gamma: Number, n: int, p: Floats, t: Floats, rows: Rows, term: Floats, slope: Floats) -> None:
    """Of `term |p - t| ** gamma` by p; `focus` and `weight` are the channel's, upstream slope included."""
    focus, weight = _floats(rows.focus), _floats(rows.weight)
    for i in range(n):
        term[i] = term[i] * weight[i] * focus[i] * (gamma if p[i] > t[i] else -gamma)
    for i in range(n):
        slope[i] = slope[i] + term[i]


@_part
def _scale(row: Floats, factor: Number, n: int) -> None:
    for i in range(n):
        row[i] = row[i] * factor


@_joined
def _through_softmax(job: Job, image: int, n: int, rows: Rows) -> None:
    """Where x is, leave the slope by the logits: p (U + sum v - sum p U) - v, with U the slope by p and v that by -log p."""
    shared, weight, slope, focus = _floats(rows.shared), _floats(rows.weight), _floats(rows.total), _floats(rows.focus)
    has_pixel = job.pixel != NO_PIXEL
    if has_pixel:
        _weigh_voxels(job, n, rows)
        _scale(weight, _floats(job.upstream)[(PIXEL * job.images + image) * job.channels], n)
    _fill(shared, _ZERO, n)
    for c in range(job.channels):
        x, p, t = _floats(rows.x + c * rows.step), _floats(rows.p + c * rows.step), _floats(rows.t + c * rows.step)
        if job.pixel == FOCAL:
            _slope_of_overlap(job, image, c, n, p, t, slope)
            _cross_entropy_row(job, c, n, rows)
            _focus_row(p, t, job.gamma, n, focus)
            _add_slope_of_focus(job.gamma, n, p, t, rows, x, slope)
            for i in range(n):
                focus[i] = focus[i] * abs(p[i] - t[i])
            for i in range(n):
                t[i] = t[i] * focus[i]
            for i in range(n):
                x[i] = slope[i]
        else:
            _slope_of_overlap(job, image, c, n, p, t, x)
        if has_pixel:
            for i in range(n):
                t[i] = t[i] * weight[i]
                shared[i] = shared[i] + (t[i] - p[i] * x[i])
        else:
            for i in range(n):
                shared[i] = shared[i] - p[i] * x[i]
    for c in range(job.channels):
        x, p, t = _floats(rows.x + c * rows.step), _floats(rows.p + c * rows.step), _floats(rows.t + c * rows.step)
        if has_pixel:
            for i in range(n):
                x[i] = p[i] * (x[i] + shared[i]) - t[i]
        else:
            for i in range(n):
                x[i] = p[i] * (x[i] + shared[i])


@_joined
def _through_sigmoid(job: Job, image: int, n: int, rows: Rows) -> None:
    """Where x is, leave the slope by the logits: U p (1 - p) + (p - t) times what the pixel term is multiplied by."""
    weight, slope, focus = _floats(rows.weight), _floats(rows.total), _floats(rows.focus)
    for c in range(job.channels):
        x, p, t = _floats(rows.x + c * rows.step), _floats(rows.p + c * rows.step), _floats(rows.t + c * rows.step)
        _slope_of_overlap(job, image, c, n, p, t, slope)
        if job.pixel != NO_PIXEL:
            _weigh_channel(job, c, n, rows)
            _scale(weight, _floats(job.upstream)[(PIXEL * job.images + image) * job.channels + c], n)
        if job.pixel == FOCAL:
            _cross_entropy_row(job, c, n, rows)
            _focus_row(p, t, job.gamma, n, focus)
            _add_slope_of_focus(job.gamma, n, p, t, rows, x, slope)
            for i in range(n):
                weight[i] = weight[i] * focus[i] * abs(p[i] - t[i])
        for i in range(n):
            x[i] = slope[i] * p[i] * (_ONE - p[i])
        if job.pixel != NO_PIXEL:
            for i in range(n):
                x[i] = x[i] + (p[i] - t[i]) * weight[i]


@_joined
def _write_block(job: Job, image: int, start: int, n: int, rows: Rows) -> None:
    if job.activation == SOFTMAX:
        _through_softmax(job, image, n, rows)
    elif job.activation == SIGMOID:
        _through_sigmoid(job, image, n, rows)
    for c in range(job.channels):
        x = _floats(rows.x + c * rows.step)
        if job.activation == NO_ACTIVATION:
            # x is p here, and two rows that are one are no vector code
            x = _floats(rows.total)
            _slope_of_overlap(job, image, c, n, _floats(rows.p + c * rows.step), _floats(rows.t + c * rows.step), x)
        if job.marked:
            _silence(x, _floats(rows.keep + c * rows.keep_step), n)
        _write_row(job.gradient.kind, _place(job.gradient, image, c, start), job.gradient.voxel, n, x)


@_on_disk
def run_range(job: Job, image: int, first: int, last: int, scratch: int, place: int) -> None:
    """Sum some voxels, or write their gradient.

    Args:
        job: the step.
        image: which image.
        first: its first voxel.
        last: the voxel after the last.
        scratch: address of `CHANNEL_ROWS * C + VOXEL_ROWS` rows of `job.width + ROW_GAP` float32.
        place: address of the sums, float64 `(9, C)`, which are added to; 0: the gradient is wanted.
    """
    _widest_vectors()
    rows = _rows_in(job, scratch)
    for start in range(first, last, job.width):
        n = min(job.width, last - start)
        _read_block(job, image, start, n, rows, place)
        if place != 0:
            _sum_block(job, n, rows, _doubles(place))
        else:
            _write_block(job, image, start, n, rows)
