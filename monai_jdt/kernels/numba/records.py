"""A step over voxels in plain numbers, which is all that compiled code reads: codes, and records of addresses."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from monai_jdt.kernels.numba.vectors import WIDTH

#: Rows of a block, as pointers: to float32, to int32, to any number; and one number of a row. Any: these types exist in numba only.
Floats: TypeAlias = Any
Codes: TypeAlias = Any
Numbers: TypeAlias = Any
Number: TypeAlias = Any

# What `StridedArray.kind` says of the numbers in memory.
FLOAT32, FLOAT16, BFLOAT16, FLOAT64, UINT8, INT8, INT16, INT32, INT64 = range(9)
# `Job.activation`
NO_ACTIVATION, SIGMOID, SOFTMAX = range(3)
# `Job.pixel`
NO_PIXEL, CROSS_ENTROPY, FOCAL, DIVERGENCE = range(4)
# Rows of the sums, as in monai_jdt.kernels.rows.Row, as plain numbers, which compiled code reads as constants.
TP, FP, FN, PIXEL, PIXEL_NORM, COUNTED, IN_LABEL, IN_PREDICTION, MAY_FAIL_CHECK = range(9)
SUMS = 9
# Special class codes: invalid; ignored; and with regions, a value of no region that 32 bits do not hold.
ILLEGAL, SILENT, NOWHERE = (np.int32(number) for number in (-1, -2, -3))

#: Scratch rows of each channel (x, t, keep), and of all channels together (class codes, a rater's weights).
CHANNEL_ROWS, VOXEL_ROWS = 3, 2
#: Numbers between rows: at distances of whole pages, a load waits for a store that has nothing to do with it.
ROW_GAP = 16
#: Lanes that each channel has in scratch for the voxels at hand: exponentials, which become predictions, slopes by them, and by
#: the pixel term; in the forward pass sums, and whether a prediction above the threshold was seen.
EXPONENTIALS, SLOPES, TERMS = range(3)
SUM_TP, SUM_FP, SUM_FN, SEEN = range(1, 5)
CHANNEL_LANES = 5
#: Size of lanes, in bytes: the step of every loop over a row.
LANES = 4 * WIDTH
#: Distance in bytes, along a row, between what is computed and what is prefetched.
AHEAD = 4 * LANES


class StridedArray(NamedTuple):
    """Where `(N, K, V)` numbers lie: steps from image to image and channel to channel in bytes, from voxel to voxel in numbers."""

    address: int
    kind: int
    #: bytes of a number
    size: int
    image: int
    channel: int
    voxel: int


class Job(NamedTuple):
    """A step in plain numbers. Tables are addresses, and an address of 0 is no table.

    With softmax a voxel's pixel term is multiplied by `(alpha[0] + alpha[1] t_0) sum_c w_c t_c`, with sigmoid by
    `(alpha[0] + alpha[1] t) (w_c + v_c t)`; `w` and `v` are the two rows of `class_weight`, float32 `(2, C)`.
    """

    logits: StridedArray
    label: StridedArray
    mask: StridedArray
    gradient: StridedArray
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


class BlockRows(NamedTuple):
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


def scratch_size(channels: int, width: int) -> int:
    """Numbers that :func:`run_range` needs to work in.

    Args:
        channels: C.
        width: voxels in a block.
    """
    return (CHANNEL_ROWS * channels + VOXEL_ROWS) * (width + ROW_GAP) + channels * CHANNEL_LANES * WIDTH
