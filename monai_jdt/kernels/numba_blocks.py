"""The compiled side of the numba kernel: the sums, and the gradient, of a range of voxels, a block of voxels at a time.

One program serves every recipe, dtype and number of classes, so it is compiled once on a machine: numba keeps it on disk, beside
this file or in its user-wide folder. A block is so short that the values of all its classes stay in the cache of a core. It is
read from memory into rows, one of each class, or where it lies there as rows of float32 already, left where it is. Then a few
voxels at a time, as many as lanes are wide, go through all classes; between the steps only what each class needs is written down.

The reading and writing of other dtypes, and the counting of votes, are loops over one row, simple enough that LLVM makes vector
instructions of them. Python's numbers are 64 bits wide to numba, so every constant in a loop is named, and narrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from monai_jdt.kernels import numba_lanes
from monai_jdt.kernels.numba_lanes import (
    WIDTH,
    Choice,
    Lanes,
    any_lane,
    choose,
    exponential,
    fetch,
    lanes_at,
    log_of_one_plus,
    logarithm,
    power,
    spread,
    store,
    total,
    whole_at,
    widest_vectors,
)

#: Rows of a block, as pointers: to float32, to int32, to any number; and one number of a row.
Floats: TypeAlias = Any
Codes: TypeAlias = Any
Numbers: TypeAlias = Any
Number: TypeAlias = Any

# What `Grid.kind` says of the numbers in memory.
FLOAT32, FLOAT16, BFLOAT16, FLOAT64, UINT8, INT8, UINT16, INT16, UINT32, INT32, INT64 = range(11)
# `Job.activation`
NO_ACTIVATION, SIGMOID, SOFTMAX = range(3)
# `Job.pixel`
NO_PIXEL, CROSS_ENTROPY, FOCAL, DIVERGENCE = range(4)
# Rows of the sums, as in monai_jdt.kernels.rows.Row.
TP, FP, FN, PIXEL, PIXEL_NORM, COUNTED, IN_LABEL, IN_PREDICTION, SUSPECT = range(9)
# Special class codes: invalid; ignored; and with regions, a value of no region that 32 bits do not hold.
ILLEGAL, SILENT, NOWHERE = (np.int32(number) for number in (-1, -2, -3))

#: Scratch rows of each channel, and of all channels together.
CHANNEL_ROWS, VOXEL_ROWS = 3, 2
#: Numbers between rows: at distances of whole pages, a load waits for a store that has nothing to do with it.
ROW_GAP = 16
#: Lanes that each channel has in scratch for the voxels at hand: exponentials, which become predictions, slopes by them, and by
#: the pixel term; in the forward pass sums, and whether a prediction above the threshold was seen.
_EXPONENTIALS, _SLOPES, _TERMS = range(3)
_SUM_TP, _SUM_FP, _SUM_FN, _SEEN = range(1, 5)
CHANNEL_LANES = 5
#: Bytes of lanes.
LANES = 4 * WIDTH
#: Bytes of a row between what is computed and what is fetched.
AHEAD = 4 * LANES


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
    #: float32 (4, N, C). Of a channel's share of the loss by p, with norm 1: where p < t, where p > t, at p = t; with norm 2: what
    #: p - t and t are multiplied by; last, what the pixel term is
    slopes: int
    images: int
    smoothed: int
    #: label smoothing: t = scale * raw + floor
    smoothing_scale: np.float32
    smoothing_floor: np.float32
    threshold: np.float32
    gamma: np.float32
    alpha: tuple[np.float32, np.float32]
    #: what suspicion starts at: a label, before it is smoothed, or a prediction below, above; a label's sum over channels off by
    low: np.float32
    high: np.float32
    off: np.float32


class Rows(NamedTuple):
    """Addresses of a block's rows, those of a channel `..._step` bytes after the one before."""

    #: voxels, filled up to whole lanes with some that do not count
    n: int
    x: int
    x_step: int
    t: int
    t_step: int
    #: 1 where a voxel counts, else 0; one row, or with a step one of each channel
    keep: int
    keep_step: int
    #: where the gradient is written
    out: int
    out_step: int
    #: int32, and float32 for a rater's weights
    codes: int
    weight: int
    #: lanes of each channel
    lanes: int


#: NaN and the order of operations are kept; a product and a sum may be one instruction.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
#: No Python calls these: what a call needs would be a quarter of the time to compile.
_UNWRAPPED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _on_disk(function: Callable) -> Any:
    """Compiled at its first call; from disk, where a folder can be written."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return in_memory(function)


def in_memory(function: Callable) -> Any:
    """Compile at the first call, for this process alone.

    Args:
        function: Python's.
    """
    return njit(**_OPTIONS)(function)


#: Compiled as a part of what calls it. numba compiles any other function by itself too, with all that it calls.
_joined = njit(inline="always", **_OPTIONS)
#: Written in LLVM's language; Any, since its type has one argument more than a call.
_llvm: Any = intrinsic
_part = njit(**_OPTIONS, **_UNWRAPPED)
#: Of single numbers, or of lanes: a call that LLVM does not inline would keep a loop from becoming vector instructions.
_small = njit(forceinline=True, **_OPTIONS, **_UNWRAPPED)
#: Without fused products, so that it rounds as the definition does: where a tie p = t depends on it.
_rounded_part = njit(nogil=True, error_model="numpy", **_UNWRAPPED)

_ZERO, _HALF, _ONE, _TWO = (np.float32(number) for number in (0, 0.5, 1, 2))
_NAN, _INFINITY = np.float32(np.nan), np.float32(np.inf)


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
_bytes, _shorts, _words = (_pointer_to(kind) for kind in (types.uint8, types.uint16, types.uint32))
_int8s, _int16s, _int32s, _int64s = (_pointer_to(kind) for kind in (types.int8, types.int16, types.int32, types.int64))


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


_HALF_SCALE = np.float32(2.0**112)


@_small
def from_float16(half: Number) -> Number:
    """float32 of the bits of a float16."""
    shifted = (half & 0x7FFF) << 13
    magnitude = _bits(_from_bits(shifted) * _HALF_SCALE)
    magnitude = (shifted | 0x7F800000) if shifted >= 0x0F800000 else magnitude
    return _from_bits(magnitude | ((half & 0x8000) << 16))


@_small
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


@_small
def from_bfloat16(half: Number) -> Number:
    """float32 of the bits of a bfloat16."""
    return _from_bits(np.int64(half) << 16)


@_small
def to_bfloat16(value: Number) -> Number:
    """The bits of the nearest bfloat16, of two the even one."""
    bits = np.int64(_bits(value))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16(rounded if value == value else 0x7FC0)


# -- rows in memory -----------------------------------------------------------------------------------------------------------


@_small
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
    elif kind == UINT16:
        _copy_numbers(_shorts(address), stride, n, out)
    elif kind == INT16:
        _copy_numbers(_int16s(address), stride, n, out)
    elif kind == UINT32:
        _copy_numbers(_words(address), stride, n, out)
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


@_small
def _class_code(value: Number, job: Job) -> Number:
    """A whole number as a class value."""
    legal = ILLEGAL if value < 0 else (value if value <= job.highest_class else job.above)
    return np.int32(SILENT if (job.has_ignore_index != 0) & (value == job.ignore_index) else legal)


@_small
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
    elif kind == UINT16:
        _copy_classes(_shorts(address), stride, n, out, job)
    elif kind == INT16:
        _copy_classes(_int16s(address), stride, n, out, job)
    elif kind == UINT32:
        _copy_classes(_words(address), stride, n, out, job)
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
def _fill(row: Floats, value: Number, first: int, last: int) -> None:
    for i in range(first, last):
        row[i] = value


@_small
def _true() -> Choice:
    return spread(_ZERO) <= _ZERO


@_part
def _total(row: int, n: int) -> Number:
    result = spread(_ZERO)
    for i in range(0, 4 * n, LANES):
        result = result + lanes_at(row + i)
    return total(result)


@_part
def _silence(row: int, keep: int, n: int) -> None:
    """0 where a voxel does not count, whatever is there."""
    for i in range(0, 4 * n, LANES):
        store(row + i, choose(lanes_at(keep + i) > _ZERO, lanes_at(row + i), _ZERO))


@_part
def _any_above(row: int, threshold: Number, n: int) -> bool:
    """Whether any number is above, or NaN."""
    below = _true()
    for i in range(0, 4 * n, LANES):
        below = below & (lanes_at(row + i) <= threshold)
    return any_lane(~below)


# -- the label ----------------------------------------------------------------------------------------------------------------


@_joined
def _count_votes(job: Job, image: int, start: int, n: int, rows: Rows) -> None:
    """Weighted shares of the raters that speak; `keep` says where any does."""
    channel_of, value_of = _int64s(job.members), _int64s(job.members + 8 * job.pairs)
    weights = _floats(job.rater_weights + 4 * image * job.raters)
    for c in range(job.channels):
        _fill(_floats(rows.t + c * rows.t_step), _ZERO, 0, rows.n)
    _fill(_floats(rows.keep), _ZERO, 0, rows.n)
    _fill(_int32s(rows.codes), SILENT, n, rows.n)
    for r in range(job.raters):
        rater_weight = weights[r]
        if not rater_weight > _ZERO:
            continue
        _read_classes(job, _place(job.label, image, r, start), n, _int32s(rows.codes), _floats(rows.weight))
        for i in range(0, 4 * rows.n, LANES):
            codes = whole_at(rows.codes + i)
            silent = codes == SILENT
            store(rows.keep + i, lanes_at(rows.keep + i) + choose(silent, _ZERO, rater_weight))
            # NaN times anything: a value that is no class makes every channel NaN
            store(rows.weight + i, choose(silent, _ZERO, choose(codes == ILLEGAL, _NAN, rater_weight)))
        for k in range(job.pairs):
            share, value = rows.t + channel_of[k] * rows.t_step, np.int32(value_of[k])
            for i in range(0, 4 * rows.n, LANES):
                chosen = choose(whole_at(rows.codes + i) == value, _ONE, _ZERO)
                store(share + i, lanes_at(share + i) + lanes_at(rows.weight + i) * chosen)
    if job.raters > 1:
        for i in range(0, 4 * rows.n, LANES):
            spoke = lanes_at(rows.keep + i)
            store(rows.weight + i, choose(spoke > _ZERO, spoke, _ONE))
        for c in range(job.channels):
            share = rows.t + c * rows.t_step
            for i in range(0, 4 * rows.n, LANES):
                store(share + i, lanes_at(share + i) / lanes_at(rows.weight + i))
    for i in range(0, 4 * rows.n, LANES):
        store(rows.keep + i, choose(lanes_at(rows.keep + i) > _ZERO, _ONE, _ZERO))


@_joined
def _read_dense(job: Job, image: int, start: int, n: int, rows: Rows) -> None:
    """The values; `keep` says where not all channels are the marker."""
    marker = np.float32(job.ignore_index)
    _fill(_floats(rows.keep), _ZERO if job.has_ignore_index else _ONE, 0, n)
    _fill(_floats(rows.keep), _ZERO, n, rows.n)
    for c in range(job.channels):
        place = _place(job.label, image, c, start)
        row = rows.t + c * rows.t_step
        if row != place:
            _read_row(job.label.kind, place, job.label.voxel, n, _floats(row))
            _fill(_floats(row), marker, n, rows.n)
        if job.has_ignore_index:
            for i in range(0, 4 * rows.n, LANES):
                store(rows.keep + i, choose(lanes_at(row + i) == marker, lanes_at(rows.keep + i), _ONE))


@_joined
def _apply_mask(job: Job, image: int, start: int, n: int, rows: Rows) -> None:
    """`keep` times the mask, for each row of it; the first one last, since the others are made of it."""
    _fill(_floats(rows.weight), _ZERO, n, rows.n)
    for k in range(job.mask_rows - 1, -1, -1):
        _read_row(job.mask.kind, _place(job.mask, image, k, start), job.mask.voxel, n, _floats(rows.weight))
        kept = rows.keep + k * rows.keep_step
        for i in range(0, 4 * rows.n, LANES):
            store(kept + i, lanes_at(rows.keep + i) * lanes_at(rows.weight + i))


@_joined
def _look_at_label(job: Job, rows: Rows, sums: Numbers) -> None:
    """IN_LABEL, until found, and of what will be smoothed SUSPECT: the label is as it was given."""
    if job.smoothed:
        legal = _true()
        for i in range(0, 4 * rows.n, LANES):
            label, inside = spread(_ZERO), _true()
            for c in range(job.channels):
                t = lanes_at(rows.t + c * rows.t_step + i)
                inside = inside & (((t >= job.low) & (t <= job.high)) | ~(lanes_at(rows.keep + c * rows.keep_step + i) > _ZERO))
                label = label + t
            legal = legal & inside & ((abs(label - _ONE) <= job.off) | ~(lanes_at(rows.keep + i) > _ZERO))
        if any_lane(~legal):
            sums[SUSPECT * job.channels] = 1
    for c in range(job.channels):
        found = IN_LABEL * job.channels + c
        if sums[found] == 0 and _any_above(rows.t + c * rows.t_step, job.threshold, rows.n):
            sums[found] = 1


@_rounded_part
def _smooth(t: Floats, keep: Floats, scale: Number, floor: Number, n: int) -> None:
    for i in range(n):
        t[i] = (scale * t[i] + floor) * keep[i]


# -- a block's rows -----------------------------------------------------------------------------------------------------------


@_small
def _lies_in_rows(grid: Grid) -> bool:
    return (grid.kind == FLOAT32) & (grid.voxel == 1)


@_joined
def _rows_of_block(job: Job, image: int, start: int, n: int, scratch: int) -> Rows:
    step = 4 * (job.width + ROW_GAP)
    block = step * job.channels
    voxels = scratch + CHANNEL_ROWS * block
    x, t, keep, codes = scratch, scratch + block, scratch + 2 * block, voxels
    x_step, t_step, out, out_step = step, step, x, step
    if n % WIDTH == 0:
        if _lies_in_rows(job.gradient):
            out, out_step = _place(job.gradient, image, 0, start), job.gradient.channel
        if not job.marked:
            if _lies_in_rows(job.logits):
                x, x_step = _place(job.logits, image, 0, start), job.logits.channel
            if _lies_in_rows(job.label) and job.raters == 0 and not job.smoothed:
                t, t_step = _place(job.label, image, 0, start), job.label.channel
    keep_step = step if job.mask_rows > 1 else 0
    whole = -(-n // WIDTH) * WIDTH
    lanes = voxels + VOXEL_ROWS * step
    return Rows(whole, x, x_step, t, t_step, keep, keep_step, out, out_step, codes, codes + step, lanes)


@_joined
def _read_block(job: Job, image: int, start: int, n: int, rows: Rows, place: int) -> None:
    """A block's logits x and label t, both 0 where `keep` is.

    The sums get what is seen in passing.
    """
    if job.raters > 0:
        _count_votes(job, image, start, n, rows)
    else:
        _read_dense(job, image, start, n, rows)
    if job.mask.address != 0:
        _apply_mask(job, image, start, n, rows)
    gaps = (job.marked != 0) | (n != rows.n)
    for c in range(job.channels):
        x, there = rows.x + c * rows.x_step, _place(job.logits, image, c, start)
        if x != there:
            _read_row(job.logits.kind, there, job.logits.voxel, n, _floats(x))
        if gaps:
            _silence(x, rows.keep + c * rows.keep_step, rows.n)
            _silence(rows.t + c * rows.t_step, rows.keep + c * rows.keep_step, rows.n)
    if place != 0:
        _look_at_label(job, rows, _doubles(place))
    if job.smoothed:
        for c in range(job.channels):
            t, keep = _floats(rows.t + c * rows.t_step), _floats(rows.keep + c * rows.keep_step)
            _smooth(t, keep, job.smoothing_scale, job.smoothing_floor, rows.n)


@_small
def _x_of(rows: Rows, c: int, i: int) -> Lanes:
    return lanes_at(rows.x + c * rows.x_step + i)


@_small
def _t_of(rows: Rows, c: int, i: int) -> Lanes:
    return lanes_at(rows.t + c * rows.t_step + i)


@_small
def _keep_of(rows: Rows, c: int, i: int) -> Lanes:
    return lanes_at(rows.keep + c * rows.keep_step + i)


@_small
def _lanes_of(rows: Rows, c: int, kind: int) -> int:
    """The address of a channel's lanes."""
    return rows.lanes + (c * CHANNEL_LANES + kind) * LANES


@_small
def _fetch_ahead(job: Job, c: int, rows: Rows, i: int) -> None:
    """What a channel's rows need soon: a machine does not foresee the rows of many channels by itself."""
    fetch(rows.x + c * rows.x_step + i + AHEAD)
    fetch(rows.t + c * rows.t_step + i + AHEAD)
    if job.gradient.address != 0:
        fetch(rows.out + c * rows.out_step + i + AHEAD)


# -- the prediction -----------------------------------------------------------------------------------------------------------


@_small
def _exponentials(job: Job, rows: Rows, i: int) -> tuple[Lanes, Lanes, Lanes]:
    """The largest logit of each voxel, the sum of the exponentials of what all are below it, which the lanes keep, and the others' sum.

    The sum without the largest has digits that a sum near 1 has not.
    """
    top, whole, others = spread(-_INFINITY), spread(_ZERO), spread(_ZERO)
    for c in range(job.channels):
        _fetch_ahead(job, c, rows, i)
        x = _x_of(rows, c, i)
        top = choose(x > top, x, top)
    for c in range(job.channels):
        e = exponential(_x_of(rows, c, i) - top)
        store(_lanes_of(rows, c, _EXPONENTIALS), e)
        whole = whole + e
        others = others + choose(e < _ONE, e, _ZERO)
    return top, whole, others


@_small
def _log_of_sum(whole: Lanes, others: Lanes) -> Lanes:
    """`log(whole)` with what its rounding took, where the largest exponential is one: the others' digits."""
    return logarithm(whole) + choose(whole < _TWO, others - (whole - _ONE), _ZERO) / whole


@_small
def _sigmoid(x: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """The prediction, what is left of 1, e = `exp(-|x|)`, and `1 / (1 + e)`."""
    e = exponential(-abs(x))
    reciprocal = _ONE / (_ONE + e)
    small = e * reciprocal
    return choose(x >= _ZERO, reciprocal, small), choose(x >= _ZERO, small, reciprocal), e, reciprocal


@_small
def _distance(p: Lanes, t: Lanes, left: Lanes) -> Lanes:
    """`p - t`; of p above 1/2 by what is left of it, which has more digits near 1."""
    return choose(p > _HALF, (_ONE - t) - left, p - t)


# -- the pixel term -----------------------------------------------------------------------------------------------------------


@_small
def _weight_of_voxel(job: Job, rows: Rows, i: int) -> tuple[Lanes, Lanes]:
    """With softmax, what a voxel's term is multiplied by; and that without the focal weight."""
    plain = lanes_at(rows.keep + i)
    if job.has_class_weight:
        of_class, plain = _floats(job.class_weight), spread(_ZERO)
        for c in range(job.channels):
            plain = plain + of_class[c] * _t_of(rows, c, i)
    return plain * (job.alpha[0] + job.alpha[1] * lanes_at(rows.t + i)), plain


@_small
def _weight_in_channel(job: Job, c: int, t: Lanes, keep: Lanes) -> Lanes:
    """With sigmoid, what each voxel's term of a channel is multiplied by."""
    of_class = _floats(job.class_weight)
    return (of_class[c] + of_class[job.channels + c] * t) * (job.alpha[0] + job.alpha[1] * t) * keep


@_small
def _focal_power(far: Lanes, gamma: Number) -> Lanes:
    """`far ** (gamma - 1)` of far = |p - t|, 0 at 0."""
    if gamma == _TWO:
        return far
    if gamma == _ONE:
        return choose(far == _ZERO, _ZERO, _ONE)
    return choose(far == _ZERO, _ZERO, power(far, gamma - _ONE))


@_small
def _slope_of_focus(far: Lanes, gamma: Number, focus: Lanes) -> Lanes:
    """Of `|p - t| ** gamma` by p."""
    return focus * choose(far > _ZERO, gamma, -gamma)


@_small
def _entropy(t: Lanes) -> Lanes:
    """`t log t`, 0 at 0."""
    return choose(t == _ZERO, _ZERO, t * logarithm(t))


@_small
def _entropy_of_softmax(x: Lanes, top: Lanes, log_whole: Lanes, t: Lanes) -> Lanes:
    """`-t log p` of a class."""
    # -inf times 0: a class that a network masks out costs nothing where the label does not have it
    return choose(t == _ZERO, _ZERO, (log_whole - (x - top)) * t)


@_small
def _entropy_of_sigmoid(x: Lanes, e: Lanes, reciprocal: Lanes, t: Lanes) -> Lanes:
    """`-t log p - (1 - t) log(1 - p)`, with e = exp(-|x|) and 1 / (1 + e).

    Of an infinite x it is infinite, but NaN where the label is the same: infinity times 0.
    """
    lower, upper = choose(x > _ZERO, _ZERO, x), choose(x > _ZERO, x, _ZERO)
    return upper * (_ONE - t) - lower * t + log_of_one_plus(e, reciprocal)


@_small
def _other_term_of_softmax(job: Job, rows: Rows, i: int, scale: Lanes, left: Lanes, top: Lanes, log_whole: Lanes) -> Lanes:
    """Of each voxel, not yet weighted: any but the cross-entropy."""
    term = spread(_ZERO)
    for c in range(job.channels):
        t = _t_of(rows, c, i)
        entropy = _entropy_of_softmax(_x_of(rows, c, i), top, log_whole, t)
        if job.pixel == FOCAL:
            far = abs(_distance(lanes_at(_lanes_of(rows, c, _EXPONENTIALS)) * scale, t, left))
            term = term + entropy * _focal_power(far, job.gamma) * far
        else:
            term = term + (entropy + _entropy(t))
    return term


@_small
def _pixel_term_of_sigmoid(job: Job, x: Lanes, far: Lanes, e: Lanes, reciprocal: Lanes, t: Lanes) -> Lanes:
    """Of each voxel of a channel, not yet weighted."""
    term = _entropy_of_sigmoid(x, e, reciprocal, t)
    if job.pixel == FOCAL:
        term = term * _focal_power(abs(far), job.gamma) * abs(far)
    elif job.pixel == DIVERGENCE:
        term = term + _entropy(t) + _entropy(_ONE - t)
    return term


# -- sums ---------------------------------------------------------------------------------------------------------------------


@_small
def _overlap(p: Lanes, t: Lanes, far: Lanes, norm: int) -> tuple[Lanes, Lanes, Lanes]:
    """tp, fp, fn; far is p - t. NaN on either side makes fp NaN."""
    if norm == 1:
        over = choose(far < _ZERO, _ZERO, far)
        return choose(t < p, t, p), over, over - far
    half = _HALF * (far * far)
    return p * t, half, half


@_joined
def _sum_softmax(job: Job, rows: Rows, sums: Numbers) -> None:
    channels, looking = job.channels, False
    for c in range(channels):
        for kind in range(_SUM_TP, CHANNEL_LANES):
            store(_lanes_of(rows, c, kind), spread(_ZERO))
        looking = looking | (sums[IN_PREDICTION * channels + c] == 0)
    pixel, pixel_norm, legal = spread(_ZERO), spread(_ZERO), _true()
    for i in range(0, 4 * rows.n, LANES):
        top, whole, others = _exponentials(job, rows, i)
        scale, label, inside, term = lanes_at(rows.keep + i) / whole, spread(_ZERO), _true(), spread(_ZERO)
        left = others * scale
        for c in range(channels):
            p, t = lanes_at(_lanes_of(rows, c, _EXPONENTIALS)) * scale, _t_of(rows, c, i)
            label, inside = label + t, inside & (t >= job.low) & (t <= job.high)
            if job.pixel == CROSS_ENTROPY:
                x = _x_of(rows, c, i)
                # -inf times 0: a class that a network masks out costs nothing where the label does not have it
                term = term + choose(t == _ZERO, _ZERO, (top - x) * t)
            tp, fp, fn = _overlap(p, t, _distance(p, t, left), job.norm)
            store(_lanes_of(rows, c, _SUM_TP), lanes_at(_lanes_of(rows, c, _SUM_TP)) + tp)
            store(_lanes_of(rows, c, _SUM_FP), lanes_at(_lanes_of(rows, c, _SUM_FP)) + fp)
            store(_lanes_of(rows, c, _SUM_FN), lanes_at(_lanes_of(rows, c, _SUM_FN)) + fn)
        legal = legal & ((inside & (abs(label - _ONE) <= job.off)) | ~(lanes_at(rows.keep + i) > _ZERO))
        if looking:
            for c in range(channels):
                p = lanes_at(_lanes_of(rows, c, _EXPONENTIALS)) * scale
                seen = lanes_at(_lanes_of(rows, c, _SEEN))
                store(_lanes_of(rows, c, _SEEN), choose(p <= job.threshold, seen, _ONE))
        if job.pixel != NO_PIXEL:
            log_whole = _log_of_sum(whole, others)
            if job.pixel == CROSS_ENTROPY:
                term = term + log_whole * label
            else:
                term = _other_term_of_softmax(job, rows, i, scale, left, top, log_whole)
            weight, plain = _weight_of_voxel(job, rows, i)
            pixel = pixel + weight * term
            pixel_norm = pixel_norm + plain
    counted = _total(rows.keep, rows.n)
    for c in range(channels):
        sums[TP * channels + c] += total(lanes_at(_lanes_of(rows, c, _SUM_TP)))
        sums[FP * channels + c] += total(lanes_at(_lanes_of(rows, c, _SUM_FP)))
        sums[FN * channels + c] += total(lanes_at(_lanes_of(rows, c, _SUM_FN)))
        sums[COUNTED * channels + c] += counted
        if looking and any_lane(lanes_at(_lanes_of(rows, c, _SEEN)) > _ZERO):
            sums[IN_PREDICTION * channels + c] = 1
    if any_lane(~legal) and not job.smoothed:
        sums[SUSPECT * channels] = 1
    sums[PIXEL * channels] += total(pixel)
    sums[PIXEL_NORM * channels] += total(pixel_norm)


@_joined
def _sum_channel(job: Job, c: int, rows: Rows, sums: Numbers) -> None:
    """With sigmoid, or where the logits are the prediction."""
    channels = job.channels
    tps, fps, fns = spread(_ZERO), spread(_ZERO), spread(_ZERO)
    pixel, counted = spread(_ZERO), spread(_ZERO)
    low, legal = _true(), _true()
    for i in range(0, 4 * rows.n, LANES):
        _fetch_ahead(job, c, rows, i)
        x, t = _x_of(rows, c, i), _t_of(rows, c, i)
        keep = _keep_of(rows, c, i)
        p, far = x, x - t
        if job.activation == SIGMOID:
            p, left, e, reciprocal = _sigmoid(x)
            p = p * keep
            far = _distance(p, t, left)
            if job.pixel != NO_PIXEL:
                pixel = pixel + _weight_in_channel(job, c, t, keep) * _pixel_term_of_sigmoid(job, x, far, e, reciprocal, t)
        else:
            legal = legal & (p >= job.low) & (p <= job.high)
        if not job.smoothed:
            legal = legal & (((t >= job.low) & (t <= job.high)) | ~(keep > _ZERO))
        low = low & (p <= job.threshold)
        tp, fp, fn = _overlap(p, t, far, job.norm)
        tps, fps, fns, counted = tps + tp, fps + fp, fns + fn, counted + keep
    sums[TP * channels + c] += total(tps)
    sums[FP * channels + c] += total(fps)
    sums[FN * channels + c] += total(fns)
    sums[COUNTED * channels + c] += total(counted)
    sums[PIXEL * channels + c] += total(pixel)
    if job.pixel != NO_PIXEL:
        sums[PIXEL_NORM * channels + c] += total(counted)
    if any_lane(~low):
        sums[IN_PREDICTION * channels + c] = 1
    if any_lane(~legal):
        sums[SUSPECT * channels + c] = 1


# -- the gradient -------------------------------------------------------------------------------------------------------------


@_small
def _slope_of(job: Job, image: int, c: int, row: int) -> Number:
    return _floats(job.slopes)[(row * job.images + image) * job.channels + c]


@_small
def _slope_of_overlap(job: Job, image: int, c: int, far: Lanes, t: Lanes) -> Lanes:
    """By p, the loss's share of a voxel; far is p - t."""
    first, second = _slope_of(job, image, c, 0), _slope_of(job, image, c, 1)
    if job.norm == 1:
        return choose(far < _ZERO, first, choose(far > _ZERO, second, _slope_of(job, image, c, 2)))
    return first * far + second * t


@_joined
def _write_softmax(job: Job, image: int, rows: Rows) -> None:
    """With softmax `p (U + sum v - sum p U) - v`, with U the slope by p and v that by -log p."""
    pixel = _slope_of(job, image, 0, 3) if job.pixel != NO_PIXEL else _ZERO
    for i in range(0, 4 * rows.n, LANES):
        top, whole, others = _exponentials(job, rows, i)
        scale = lanes_at(rows.keep + i) / whole
        left = others * scale
        weight, shared, small = spread(_ZERO), spread(_ZERO), spread(_ZERO)
        if job.pixel != NO_PIXEL:
            weight, _ = _weight_of_voxel(job, rows, i)
            weight = weight * pixel
        log_whole = _log_of_sum(whole, others) if job.pixel == FOCAL else top
        for c in range(job.channels):
            p, t = lanes_at(_lanes_of(rows, c, _EXPONENTIALS)) * scale, _t_of(rows, c, i)
            far = _distance(p, t, left)
            slope, by_term = _slope_of_overlap(job, image, c, far, t), t * weight
            if job.pixel == FOCAL:
                focus = _focal_power(abs(far), job.gamma)
                entropy = _entropy_of_softmax(_x_of(rows, c, i), top, log_whole, t)
                slope = slope + entropy * weight * _slope_of_focus(far, job.gamma, focus)
                by_term = t * (focus * abs(far)) * weight
                store(_lanes_of(rows, c, _TERMS), by_term)
            store(_lanes_of(rows, c, _EXPONENTIALS), p)
            store(_lanes_of(rows, c, _SLOPES), slope)
            piece = by_term - p * slope
            shared, small = shared + piece, small + choose(p > _HALF, _ZERO, piece)
        kept = lanes_at(rows.keep + i) > _ZERO
        # a class above 1/2 is less all others, since all add up to 0: its own is a small difference of large numbers
        rest = small - shared * left
        for c in range(job.channels):
            p, slope = lanes_at(_lanes_of(rows, c, _EXPONENTIALS)), lanes_at(_lanes_of(rows, c, _SLOPES))
            by_term = lanes_at(_lanes_of(rows, c, _TERMS)) if job.pixel == FOCAL else _t_of(rows, c, i) * weight
            result = choose(p > _HALF, rest, p * (slope + shared) - by_term)
            store(rows.out + c * rows.out_step + i, choose(kept, result, _ZERO))


@_joined
def _write_channel(job: Job, image: int, c: int, rows: Rows) -> None:
    """With sigmoid `U p (1 - p)` plus `p - t` times what the pixel term is multiplied by; without an activation U, the slope by p."""
    pixel = _slope_of(job, image, c, 3) if job.pixel != NO_PIXEL else _ZERO
    for i in range(0, 4 * rows.n, LANES):
        _fetch_ahead(job, c, rows, i)
        x, t = _x_of(rows, c, i), _t_of(rows, c, i)
        keep = _keep_of(rows, c, i)
        if job.activation == SIGMOID:
            p, left, e, reciprocal = _sigmoid(x)
            p = p * keep
            far = _distance(p, t, left)
            slope = _slope_of_overlap(job, image, c, far, t)
            direct = spread(_ZERO)
            if job.pixel != NO_PIXEL:
                weight = _weight_in_channel(job, c, t, keep) * pixel
                if job.pixel == FOCAL:
                    focus = _focal_power(abs(far), job.gamma)
                    entropy = _entropy_of_sigmoid(x, e, reciprocal, t)
                    slope = slope + entropy * weight * _slope_of_focus(far, job.gamma, focus)
                    weight = weight * focus * abs(far)
                direct = far * weight
            slope = slope * p * left + direct
        else:
            slope = _slope_of_overlap(job, image, c, x - t, t)
        store(rows.out + c * rows.out_step + i, choose(keep > _ZERO, slope, _ZERO))


# -- the program --------------------------------------------------------------------------------------------------------------


def _range_program(sources: str) -> Any:
    """The compiled function. numba tells what it has on disk by this file's time and size, and by what the function encloses."""

    @_on_disk
    def run_range(job: Job, image: int, first: int, last: int, scratch: int, place: int) -> int:
        """Sum some voxels, or write their gradient.

        Args:
            job: the step.
            image: which image.
            first: its first voxel.
            last: the voxel after the last.
            scratch: address of `scratch_size` float32.
            place: address of the sums, float64 `(9, C)`, which are added to; 0: the gradient is wanted.

        Returns:
            The length of `sources`, which is thus enclosed.
        """
        widest_vectors()
        for start in range(first, last, job.width):
            n = min(job.width, last - start)
            rows = _rows_of_block(job, image, start, n, scratch)
            _read_block(job, image, start, n, rows, place)
            if place != 0 and job.activation == SOFTMAX:
                _sum_softmax(job, rows, _doubles(place))
            elif place != 0:
                for c in range(job.channels):
                    _sum_channel(job, c, rows, _doubles(place))
            else:
                if job.activation == SOFTMAX:
                    _write_softmax(job, image, rows)
                else:
                    for c in range(job.channels):
                        _write_channel(job, image, c, rows)
                for c in range(job.channels):
                    row, there = rows.out + c * rows.out_step, _place(job.gradient, image, c, start)
                    if row != there:
                        _write_row(job.gradient.kind, there, job.gradient.voxel, n, _floats(row))
        return len(sources)

    return run_range


#: The program of this file and of the lanes.
run_range = _range_program("".join(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (__file__, numba_lanes.__file__)))


def scratch_size(channels: int, width: int) -> int:
    """Numbers that :func:`run_range` needs to work in.

    Args:
        channels: C.
        width: voxels in a block.
    """
    return (CHANNEL_ROWS * channels + VOXEL_ROWS) * (width + ROW_GAP) + channels * CHANNEL_LANES * WIDTH
