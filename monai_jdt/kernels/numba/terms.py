"""Prediction and pixel term of the voxels at hand. Forward and backward share all of it."""

from __future__ import annotations

from monai_jdt.kernels.numba.blocks import lanes_of, prefetch_ahead, t_of, x_of
from monai_jdt.kernels.numba.compilation import small
from monai_jdt.kernels.numba.memory_rows import floats_at
from monai_jdt.kernels.numba.records import DIVERGENCE, EXPONENTIALS, FOCAL, BlockRows, Job, Number
from monai_jdt.kernels.numba.vectors import (
    HALF,
    INFINITY,
    ONE,
    TWO,
    ZERO,
    Lanes,
    broadcast,
    exponential,
    lanes_at,
    log_of_one_plus,
    logarithm,
    power,
    select,
    store,
)


@small
def exponentials_of(job: Job, rows: BlockRows, i: int) -> tuple[Lanes, Lanes, Lanes]:
    """Leave `exp(x - top)` of each channel in its lanes.

    Args:
        job: the step.
        rows: the block's rows.
        i: which voxels of the block, as a distance in bytes along a row; here and in all functions below.

    Returns:
        top, the largest logit of each voxel; whole, the sum of the exponentials; others, that sum without exponentials of exactly 1.
        Where one class is nearly sure, `others / whole` is 1 - p with digits that whole, a number near 1, has lost.
    """
    top, whole, others = broadcast(-INFINITY), broadcast(ZERO), broadcast(ZERO)
    for c in range(job.channels):
        prefetch_ahead(job, c, rows, i)
        x = x_of(rows, c, i)
        top = select(x > top, x, top)
    for c in range(job.channels):
        e = exponential(x_of(rows, c, i) - top)
        store(lanes_of(rows, c, EXPONENTIALS), e)
        whole = whole + e
        others = others + select(e < ONE, e, ZERO)
    return top, whole, others


@small
def log_of_sum(whole: Lanes, others: Lanes) -> Lanes:
    """Return `log(whole)` with what the rounding of 1 + others took, to first order: `rest / whole`.

    From 2 on more than one exponential may be 1, and whole is not 1 + others. There the logarithm is at least log 2 and has its digits.
    """
    return logarithm(whole) + select(whole < TWO, others - (whole - ONE), ZERO) / whole


@small
def sigmoid_of(x: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """Return p, 1 - p, e = `exp(-|x|)` and `1 / (1 + e)`, each with all its digits. exp(-|x|) cannot overflow."""
    e = exponential(-abs(x))
    reciprocal = ONE / (ONE + e)
    small = e * reciprocal
    return select(x >= ZERO, reciprocal, small), select(x >= ZERO, small, reciprocal), e, reciprocal


@small
def distance_of(p: Lanes, t: Lanes, left: Lanes) -> Lanes:
    """Return `p - t`, for p above 1/2 by `left` = 1 - p, which has more digits near 1."""
    return select(p > HALF, (ONE - t) - left, p - t)


@small
def weight_of_voxel(job: Job, rows: BlockRows, i: int) -> tuple[Lanes, Lanes]:
    """Return, with softmax, the factor of a voxel's term, and that factor without the focal weight."""
    plain = lanes_at(rows.keep + i)
    if job.has_class_weight:
        of_class, plain = floats_at(job.class_weight), broadcast(ZERO)
        for c in range(job.channels):
            plain = plain + of_class[c] * t_of(rows, c, i)
    return plain * (job.alpha[0] + job.alpha[1] * lanes_at(rows.t + i)), plain


@small
def weight_in_channel(job: Job, c: int, t: Lanes, keep: Lanes) -> Lanes:
    """Return, with sigmoid, the factor of each voxel's term of a channel, 0 where it does not count."""
    of_class = floats_at(job.class_weight)
    return (of_class[c] + of_class[job.channels + c] * t) * (job.alpha[0] + job.alpha[1] * t) * keep


@small
def focal_power_of(far: Lanes, gamma: Number) -> Lanes:
    """Return `far ** (gamma - 1)` of far = |p - t|, 0 at 0: the term and its slope are 0 there, and 0 ** 0 would be 1."""
    if gamma == TWO:
        return far
    if gamma == ONE:
        return select(far == ZERO, ZERO, ONE)
    return select(far == ZERO, ZERO, power(far, gamma - ONE))


@small
def slope_of_focus(far: Lanes, gamma: Number, focus: Lanes) -> Lanes:
    """Return the slope of `|p - t| ** gamma` by p. `focus` is from :func:`focal_power_of`, and 0 at a tie, where the sign is open."""
    return focus * select(far > ZERO, gamma, -gamma)


@small
def _entropy(t: Lanes) -> Lanes:
    """Return `t log t`, 0 at 0."""
    return select(t == ZERO, ZERO, t * logarithm(t))


@small
def entropy_of_softmax(x: Lanes, top: Lanes, log_whole: Lanes, t: Lanes) -> Lanes:
    """Return `-t log p` of a class. `log_whole` is from :func:`log_of_sum`."""
    # -inf times 0: a class that a network masks out costs nothing where the label does not have it
    return select(t == ZERO, ZERO, (log_whole - (x - top)) * t)


@small
def entropy_of_sigmoid(x: Lanes, e: Lanes, reciprocal: Lanes, t: Lanes) -> Lanes:
    """Return `-t log p - (1 - t) log(1 - p)` as `max(x, 0) (1 - t) - min(x, 0) t + log(1 + e)`, with e = exp(-|x|).

    `reciprocal` is 1 / (1 + e).

    Of an infinite x it is infinite, but NaN where the label is the same: infinity times 0.
    """
    lower, upper = select(x > ZERO, ZERO, x), select(x > ZERO, x, ZERO)
    return upper * (ONE - t) - lower * t + log_of_one_plus(e, reciprocal)


@small
def other_term_of_softmax(job: Job, rows: BlockRows, i: int, scale: Lanes, left: Lanes, top: Lanes, log_whole: Lanes) -> Lanes:
    """Return the pixel term of each voxel, not yet weighted: focal or divergence. The cross-entropy is added up where p is made."""
    term = broadcast(ZERO)
    for c in range(job.channels):
        t = t_of(rows, c, i)
        entropy = entropy_of_softmax(x_of(rows, c, i), top, log_whole, t)
        if job.pixel == FOCAL:
            far = abs(distance_of(lanes_at(lanes_of(rows, c, EXPONENTIALS)) * scale, t, left))
            term = term + entropy * focal_power_of(far, job.gamma) * far
        else:
            term = term + (entropy + _entropy(t))
    return term


@small
def pixel_term_of_sigmoid(job: Job, x: Lanes, far: Lanes, e: Lanes, reciprocal: Lanes, t: Lanes) -> Lanes:
    """Return the pixel term of each voxel of a channel, not yet weighted."""
    term = entropy_of_sigmoid(x, e, reciprocal, t)
    if job.pixel == FOCAL:
        term = term * focal_power_of(abs(far), job.gamma) * abs(far)
    elif job.pixel == DIVERGENCE:
        term = term + _entropy(t) + _entropy(ONE - t)
    return term
