"""The rows of a block of voxels: where they are, how they are read, and the lanes of them that are at hand."""

from __future__ import annotations

from monai_jdt.kernels.numba.compilation import joined, small
from monai_jdt.kernels.numba.labels import apply_mask, count_votes, inspect_label, read_dense, smooth_row
from monai_jdt.kernels.numba.memory_rows import address_of, doubles_at, floats_at, read_row, zero_uncounted
from monai_jdt.kernels.numba.records import (
    AHEAD,
    CHANNEL_LANES,
    CHANNEL_ROWS,
    FLOAT32,
    LANES,
    ROW_GAP,
    VOXEL_ROWS,
    BlockRows,
    Job,
    StridedArray,
)
from monai_jdt.kernels.numba.vectors import WIDTH, Lanes, lanes_at, prefetch


@small
def _lies_in_rows(array: StridedArray) -> bool:
    """Return whether the voxels of a channel are float32 side by side, so that lanes can be loaded where they lie."""
    return (array.kind == FLOAT32) & (array.voxel == 1)


@joined
def rows_of_block(job: Job, image: int, start: int, n: int, scratch: int) -> BlockRows:
    """Place a block's rows: in scratch, or in memory where that holds whole lanes of float32 that every step may read as they are.

    Args:
        job: the step.
        image: the number of the image.
        start: the block's first voxel.
        n: how many voxels it has, at most `job.width`.
        scratch: address of a thread's scratch. Its layout: x of all channels, t of all, `keep` of all, codes, a rater's weights, lanes.

    Returns:
        The addresses. The gradient goes to memory directly, or else over the scratch of x: a lane of x is read before it is written.
    """
    step = 4 * (job.width + ROW_GAP)
    block = step * job.channels
    voxels = scratch + CHANNEL_ROWS * block
    x, t, keep, codes = scratch, scratch + block, scratch + 2 * block, voxels
    x_step, t_step, out, out_step = step, step, x, step
    # A block that ends within a lane is copied: the last lane would reach into the next channel's row, or beyond the tensor.
    if n % WIDTH == 0:
        if _lies_in_rows(job.gradient):
            out, out_step = address_of(job.gradient, image, 0, start), job.gradient.channel
        # where voxels may not count, x and t are written over with zeros, which the caller's tensors must not be
        if not job.marked:
            if _lies_in_rows(job.logits):
                x, x_step = address_of(job.logits, image, 0, start), job.logits.channel
            if _lies_in_rows(job.label) and job.raters == 0 and not job.smoothed:
                t, t_step = address_of(job.label, image, 0, start), job.label.channel
    keep_step = step if job.mask_rows > 1 else 0
    whole = -(-n // WIDTH) * WIDTH
    lanes = voxels + VOXEL_ROWS * step
    return BlockRows(whole, x, x_step, t, t_step, keep, keep_step, out, out_step, codes, codes + step, lanes)


@joined
def read_block(job: Job, image: int, start: int, n: int, rows: BlockRows, place: int) -> None:
    """Read a block's logits x and label t, both 0 where `keep` is 0.

    Args:
        job: the step.
        image: the number of the image.
        start: the block's first voxel.
        n: how many voxels it has.
        rows: where they go, from :func:`rows_of_block`.
        place: address of the image's sums, which get IN_LABEL and MAY_FAIL_CHECK in passing; 0: in backward nobody asks.
    """
    if job.raters > 0:
        count_votes(job, image, start, n, rows)
    else:
        read_dense(job, image, start, n, rows)
    if job.mask.address != 0:
        apply_mask(job, image, start, n, rows)
    # what fills the last lane up is whatever scratch held, NaN perhaps, and must be zeroed like an ignored voxel
    gaps = (job.marked != 0) | (n != rows.n)
    for c in range(job.channels):
        x, there = rows.x + c * rows.x_step, address_of(job.logits, image, c, start)
        if x != there:
            read_row(job.logits.kind, there, job.logits.voxel, n, floats_at(x))
        if gaps:
            zero_uncounted(x, rows.keep + c * rows.keep_step, rows.n)
            zero_uncounted(rows.t + c * rows.t_step, rows.keep + c * rows.keep_step, rows.n)
    if place != 0:
        inspect_label(job, rows, doubles_at(place))
    # After the inspection, which judges the label as it was given. A smoothed label is in scratch: `rows_of_block` sees to it.
    if job.smoothed:
        for c in range(job.channels):
            t, keep = floats_at(rows.t + c * rows.t_step), floats_at(rows.keep + c * rows.keep_step)
            smooth_row(t, keep, job.smoothing_scale, job.smoothing_floor, rows.n)


@small
def x_of(rows: BlockRows, c: int, i: int) -> Lanes:
    """Return lanes of a channel's logits at byte i."""
    return lanes_at(rows.x + c * rows.x_step + i)


@small
def t_of(rows: BlockRows, c: int, i: int) -> Lanes:
    """Return lanes of a channel's label."""
    return lanes_at(rows.t + c * rows.t_step + i)


@small
def keep_of(rows: BlockRows, c: int, i: int) -> Lanes:
    """Return lanes that are 1 where a voxel of a channel counts, else 0."""
    return lanes_at(rows.keep + c * rows.keep_step + i)


@small
def lanes_of(rows: BlockRows, c: int, kind: int) -> int:
    """Return the address of a channel's lanes of a kind, such as EXPONENTIALS: one value for each voxel at hand."""
    return rows.lanes + (c * CHANNEL_LANES + kind) * LANES


@small
def prefetch_ahead(job: Job, c: int, rows: BlockRows, i: int) -> None:
    """Prefetch what a channel's rows need soon. A processor foresees few streams by itself, and C channels are up to 3 C."""
    prefetch(rows.x + c * rows.x_step + i + AHEAD)
    prefetch(rows.t + c * rows.t_step + i + AHEAD)
    if job.gradient.address != 0:
        prefetch(rows.out + c * rows.out_step + i + AHEAD)
