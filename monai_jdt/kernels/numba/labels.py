"""The label of a block of voxels: dense values, class indices or votes as one row for each class, and which voxels count."""

from __future__ import annotations

import numpy as np

from monai_jdt.kernels.numba.compilation import joined, rounded_part
from monai_jdt.kernels.numba.memory_rows import (
    address_of,
    all_true,
    any_above,
    fill_row,
    floats_at,
    int32s_at,
    int64s_at,
    read_classes,
    read_row,
)
from monai_jdt.kernels.numba.records import ILLEGAL, IN_LABEL, LANES, MAY_FAIL_CHECK, SILENT, BlockRows, Floats, Job, Number, Numbers
from monai_jdt.kernels.numba.vectors import NAN, ONE, ZERO, any_lane, broadcast, lanes_at, select, store, whole_at


@joined
def count_votes(job: Job, image: int, start: int, n: int, rows: BlockRows) -> None:
    """Write the weighted shares of the raters that speak, and in `keep` 1 where any does.

    Class indices are read as the votes of one rater of weight 1.

    Args:
        job: the step; `members` says which class values belong to which channel.
        image: the number of the image.
        start: the block's first voxel.
        n: how many voxels it has. Those that fill the last lane up are silent.
        rows: t and keep are written; codes and weight are written over.
    """
    channel_of, value_of = int64s_at(job.members), int64s_at(job.members + 8 * job.pairs)
    weights = floats_at(job.rater_weights + 4 * image * job.raters)
    for c in range(job.channels):
        fill_row(floats_at(rows.t + c * rows.t_step), ZERO, 0, rows.n)
    fill_row(floats_at(rows.keep), ZERO, 0, rows.n)
    fill_row(int32s_at(rows.codes), SILENT, n, rows.n)
    for r in range(job.raters):
        rater_weight = weights[r]
        # written so that a NaN weight is a missing rater, too; what that rater's map holds is not read
        if not rater_weight > ZERO:
            continue
        read_classes(job, address_of(job.label, image, r, start), n, int32s_at(rows.codes), floats_at(rows.weight))
        for i in range(0, 4 * rows.n, LANES):
            codes = whole_at(rows.codes + i)
            silent = codes == SILENT
            store(rows.keep + i, lanes_at(rows.keep + i) + select(silent, ZERO, rater_weight))
            # NaN times anything is NaN: an invalid class makes every channel NaN, never another class
            store(rows.weight + i, select(silent, ZERO, select(codes == ILLEGAL, NAN, rater_weight)))
        for k in range(job.pairs):
            share, value = rows.t + channel_of[k] * rows.t_step, np.int32(value_of[k])
            for i in range(0, 4 * rows.n, LANES):
                chosen = select(whole_at(rows.codes + i) == value, ONE, ZERO)
                store(share + i, lanes_at(share + i) + lanes_at(rows.weight + i) * chosen)
    # One rater's share is 0 or 1 already: its weight is scaled to 1, and a division could not change it.
    if job.raters > 1:
        for i in range(0, 4 * rows.n, LANES):
            spoke = lanes_at(rows.keep + i)
            store(rows.weight + i, select(spoke > ZERO, spoke, ONE))
        for c in range(job.channels):
            share = rows.t + c * rows.t_step
            for i in range(0, 4 * rows.n, LANES):
                store(share + i, lanes_at(share + i) / lanes_at(rows.weight + i))
    for i in range(0, 4 * rows.n, LANES):
        store(rows.keep + i, select(lanes_at(rows.keep + i) > ZERO, ONE, ZERO))


@joined
def read_dense(job: Job, image: int, start: int, n: int, rows: BlockRows) -> None:
    """Write the values, and in `keep` 1 where not all channels are the ignore marker.

    Args:
        job: the step.
        image: the number of the image.
        start: the block's first voxel.
        n: how many voxels it has. Those that fill the last lane up get the marker in every channel, and do not count.
        rows: keep is written, and t where it is not the caller's memory.
    """
    marker = np.float32(job.ignore_index)
    fill_row(floats_at(rows.keep), ZERO if job.has_ignore_index else ONE, 0, n)
    fill_row(floats_at(rows.keep), ZERO, n, rows.n)
    for c in range(job.channels):
        place = address_of(job.label, image, c, start)
        row = rows.t + c * rows.t_step
        if row != place:
            read_row(job.label.kind, place, job.label.voxel, n, floats_at(row))
            fill_row(floats_at(row), marker, n, rows.n)
        if job.has_ignore_index:
            for i in range(0, 4 * rows.n, LANES):
                store(rows.keep + i, select(lanes_at(row + i) == marker, lanes_at(rows.keep + i), ONE))


@joined
def apply_mask(job: Job, image: int, start: int, n: int, rows: BlockRows) -> None:
    """Multiply `keep` by each row of the mask.

    `keep` comes in one row, of the label. With a mask for each channel it leaves in C rows, of which the first is in the same place: it
    is written last, since the others are made of it.
    """
    fill_row(floats_at(rows.weight), ZERO, n, rows.n)
    for k in range(job.mask_rows - 1, -1, -1):
        read_row(job.mask.kind, address_of(job.mask, image, k, start), job.mask.voxel, n, floats_at(rows.weight))
        kept = rows.keep + k * rows.keep_step
        for i in range(0, 4 * rows.n, LANES):
            store(kept + i, lanes_at(rows.keep + i) * lanes_at(rows.weight + i))


@joined
def inspect_label(job: Job, rows: BlockRows, sums: Numbers) -> None:
    """Look at the label as it was given: set IN_LABEL, until found, and MAY_FAIL_CHECK of a label that will be smoothed.

    A label that is not smoothed is checked in `sums`, where its lanes are at hand anyway.

    Args:
        job: the step.
        rows: label and keep.
        sums: float64 `(9, C)` of the image.
    """
    if job.smoothed:
        legal = all_true()
        for i in range(0, 4 * rows.n, LANES):
            label, inside = broadcast(ZERO), all_true()
            for c in range(job.channels):
                t = lanes_at(rows.t + c * rows.t_step + i)
                inside = inside & (((t >= job.low) & (t <= job.high)) | ~(lanes_at(rows.keep + c * rows.keep_step + i) > ZERO))
                label = label + t
            legal = legal & inside & ((abs(label - ONE) <= job.off) | ~(lanes_at(rows.keep + i) > ZERO))
        if any_lane(~legal):
            sums[MAY_FAIL_CHECK * job.channels] = 1
    for c in range(job.channels):
        found = IN_LABEL * job.channels + c
        if sums[found] == 0 and any_above(rows.t + c * rows.t_step, job.threshold, rows.n):
            sums[found] = 1


@rounded_part
def smooth_row(t: Floats, keep: Floats, scale: Number, floor: Number, n: int) -> None:
    """Smooth a label in place: `scale * t + floor` where it counts, else 0.

    Compiled without fused products: torch rounds twice here, and a label that differs in the last bit is no tie with a prediction
    that equals the definition's label.
    """
    for i in range(n):
        t[i] = (scale * t[i] + floor) * keep[i]
