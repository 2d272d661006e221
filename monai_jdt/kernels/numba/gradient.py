"""Backward: the gradient of a block of voxels by their logits, from the slopes of the loss by the sums."""

from __future__ import annotations

from monai_jdt.kernels.numba.blocks import keep_of, lanes_of, prefetch_ahead, t_of, x_of
from monai_jdt.kernels.numba.compilation import joined, small
from monai_jdt.kernels.numba.memory_rows import floats_at
from monai_jdt.kernels.numba.records import EXPONENTIALS, FOCAL, LANES, NO_PIXEL, SIGMOID, SLOPES, TERMS, BlockRows, Job, Number
from monai_jdt.kernels.numba.terms import (
    distance_of,
    entropy_of_sigmoid,
    entropy_of_softmax,
    exponentials_of,
    focal_power_of,
    log_of_sum,
    sigmoid_of,
    slope_of_focus,
    weight_in_channel,
    weight_of_voxel,
)
from monai_jdt.kernels.numba.vectors import HALF, ZERO, Lanes, broadcast, lanes_at, select, store


@small
def _slope_of(job: Job, image: int, c: int, row: int) -> Number:
    """Return a number of `job.slopes`, float32 `(4, N, C)`."""
    return floats_at(job.slopes)[(row * job.images + image) * job.channels + c]


@small
def _slope_of_overlap(job: Job, image: int, c: int, far: Lanes, t: Lanes) -> Lanes:
    """Return the slope by p of a voxel's share of the loss. `far` is p - t."""
    first, second = _slope_of(job, image, c, 0), _slope_of(job, image, c, 1)
    if job.norm == 1:
        return select(far < ZERO, first, select(far > ZERO, second, _slope_of(job, image, c, 2)))
    return first * far + second * t


@joined
def write_softmax(job: Job, image: int, rows: BlockRows) -> None:
    """Write a block's gradient with softmax: `p (U + sum v - sum p U) - v`, with U the slope by p and v that by -log p.

    Two passes over the channels of the voxels at hand: the first leaves p, U and (focal) v in lanes and adds what channels share, the
    second writes. Only those lanes are kept, which stay in registers or the first cache.

    Args:
        job: the step, with slopes.
        image: the number of the image.
        rows: logits, label and the place of the gradient.
    """
    pixel = _slope_of(job, image, 0, 3) if job.pixel != NO_PIXEL else ZERO
    for i in range(0, 4 * rows.n, LANES):
        top, whole, others = exponentials_of(job, rows, i)
        # p is exponential times scale: 0 where a voxel does not count
        scale = lanes_at(rows.keep + i) / whole
        left = others * scale
        weight, shared, small = broadcast(ZERO), broadcast(ZERO), broadcast(ZERO)
        if job.pixel != NO_PIXEL:
            weight, _ = weight_of_voxel(job, rows, i)
            weight = weight * pixel
        log_whole = log_of_sum(whole, others) if job.pixel == FOCAL else top
        for c in range(job.channels):
            p, t = lanes_at(lanes_of(rows, c, EXPONENTIALS)) * scale, t_of(rows, c, i)
            far = distance_of(p, t, left)
            slope, by_term = _slope_of_overlap(job, image, c, far, t), t * weight
            if job.pixel == FOCAL:
                focus = focal_power_of(abs(far), job.gamma)
                entropy = entropy_of_softmax(x_of(rows, c, i), top, log_whole, t)
                slope = slope + entropy * weight * slope_of_focus(far, job.gamma, focus)
                by_term = t * (focus * abs(far)) * weight
                store(lanes_of(rows, c, TERMS), by_term)
            store(lanes_of(rows, c, EXPONENTIALS), p)
            store(lanes_of(rows, c, SLOPES), slope)
            piece = by_term - p * slope
            shared, small = shared + piece, small + select(p > HALF, ZERO, piece)
        kept = lanes_at(rows.keep + i) > ZERO
        # a class above 1/2 is less all others, since all add up to 0: its own is a small difference of large numbers
        rest = small - shared * left
        for c in range(job.channels):
            p, slope = lanes_at(lanes_of(rows, c, EXPONENTIALS)), lanes_at(lanes_of(rows, c, SLOPES))
            by_term = lanes_at(lanes_of(rows, c, TERMS)) if job.pixel == FOCAL else t_of(rows, c, i) * weight
            result = select(p > HALF, rest, p * (slope + shared) - by_term)
            store(rows.out + c * rows.out_step + i, select(kept, result, ZERO))


@joined
def write_channel(job: Job, image: int, c: int, rows: BlockRows) -> None:
    """Write, with sigmoid, `U p (1 - p)` plus `p - t` times the pixel term's factor, and without activation U, the slope by p.

    Args:
        job: the step, with slopes.
        image: the number of the image.
        c: the channel.
        rows: logits, label and the place of the gradient.
    """
    pixel = _slope_of(job, image, c, 3) if job.pixel != NO_PIXEL else ZERO
    for i in range(0, 4 * rows.n, LANES):
        prefetch_ahead(job, c, rows, i)
        x, t = x_of(rows, c, i), t_of(rows, c, i)
        keep = keep_of(rows, c, i)
        if job.activation == SIGMOID:
            p, left, e, reciprocal = sigmoid_of(x)
            p = p * keep
            far = distance_of(p, t, left)
            slope = _slope_of_overlap(job, image, c, far, t)
            direct = broadcast(ZERO)
            if job.pixel != NO_PIXEL:
                weight = weight_in_channel(job, c, t, keep) * pixel
                if job.pixel == FOCAL:
                    focus = focal_power_of(abs(far), job.gamma)
                    entropy = entropy_of_sigmoid(x, e, reciprocal, t)
                    slope = slope + entropy * weight * slope_of_focus(far, job.gamma, focus)
                    weight = weight * focus * abs(far)
                direct = far * weight
            slope = slope * p * left + direct
        else:
            slope = _slope_of_overlap(job, image, c, x - t, t)
        store(rows.out + c * rows.out_step + i, select(keep > ZERO, slope, ZERO))
