"""Forward: what a block of voxels adds to the sums of its image."""

from __future__ import annotations

from monai_jdt.kernels.numba.blocks import keep_of, lanes_of, prefetch_ahead, t_of, x_of
from monai_jdt.kernels.numba.compilation import joined, small
from monai_jdt.kernels.numba.memory_rows import all_true, row_total
from monai_jdt.kernels.numba.records import (
    CHANNEL_LANES,
    COUNTED,
    CROSS_ENTROPY,
    EXPONENTIALS,
    FN,
    FP,
    IN_PREDICTION,
    LANES,
    MAY_FAIL_CHECK,
    NO_PIXEL,
    PIXEL,
    PIXEL_NORM,
    SEEN,
    SIGMOID,
    SUM_FN,
    SUM_FP,
    SUM_TP,
    TP,
    BlockRows,
    Job,
    Numbers,
)
from monai_jdt.kernels.numba.terms import (
    distance_of,
    exponentials_of,
    log_of_sum,
    other_term_of_softmax,
    pixel_term_of_sigmoid,
    sigmoid_of,
    weight_in_channel,
    weight_of_voxel,
)
from monai_jdt.kernels.numba.vectors import HALF, ONE, ZERO, Lanes, any_lane, broadcast, lanes_at, select, store, total


@small
def _overlap(p: Lanes, t: Lanes, far: Lanes, norm: int) -> tuple[Lanes, Lanes, Lanes]:
    """Return each voxel's share of tp, fp and fn. `far` is p - t.

    fn is over - far, not t - min(p, t): where p is near 1, far has digits that p has not. NaN in either makes fp NaN.
    """
    if norm == 1:
        over = select(far < ZERO, ZERO, far)
        return select(t < p, t, p), over, over - far
    half = HALF * (far * far)
    return p * t, half, half


@joined
def sum_softmax(job: Job, rows: BlockRows, sums: Numbers) -> None:
    """Add a block's sums, with softmax.

    Args:
        job: the step.
        rows: the block's logits and label.
        sums: float64 `(9, C)` of the image, added to. A lane adds up to 1024 / 32 numbers in float32 before that.
    """
    channels, looking = job.channels, False
    for c in range(channels):
        for kind in range(SUM_TP, CHANNEL_LANES):
            store(lanes_of(rows, c, kind), broadcast(ZERO))
        # until every channel has a prediction above the threshold; then the comparison is left out
        looking = looking | (sums[IN_PREDICTION * channels + c] == 0)
    pixel, pixel_norm, legal = broadcast(ZERO), broadcast(ZERO), all_true()
    for i in range(0, 4 * rows.n, LANES):
        top, whole, others = exponentials_of(job, rows, i)
        scale, label, inside, term = lanes_at(rows.keep + i) / whole, broadcast(ZERO), all_true(), broadcast(ZERO)
        left = others * scale
        for c in range(channels):
            p, t = lanes_at(lanes_of(rows, c, EXPONENTIALS)) * scale, t_of(rows, c, i)
            label, inside = label + t, inside & (t >= job.low) & (t <= job.high)
            if job.pixel == CROSS_ENTROPY:
                x = x_of(rows, c, i)
                # -inf times 0: a class that a network masks out costs nothing where the label does not have it
                term = term + select(t == ZERO, ZERO, (top - x) * t)
            tp, fp, fn = _overlap(p, t, distance_of(p, t, left), job.norm)
            store(lanes_of(rows, c, SUM_TP), lanes_at(lanes_of(rows, c, SUM_TP)) + tp)
            store(lanes_of(rows, c, SUM_FP), lanes_at(lanes_of(rows, c, SUM_FP)) + fp)
            store(lanes_of(rows, c, SUM_FN), lanes_at(lanes_of(rows, c, SUM_FN)) + fn)
        legal = legal & ((inside & (abs(label - ONE) <= job.off)) | ~(lanes_at(rows.keep + i) > ZERO))
        if looking:
            for c in range(channels):
                p = lanes_at(lanes_of(rows, c, EXPONENTIALS)) * scale
                seen = lanes_at(lanes_of(rows, c, SEEN))
                store(lanes_of(rows, c, SEEN), select(p <= job.threshold, seen, ONE))
        if job.pixel != NO_PIXEL:
            log_whole = log_of_sum(whole, others)
            if job.pixel == CROSS_ENTROPY:
                term = term + log_whole * label
            else:
                term = other_term_of_softmax(job, rows, i, scale, left, top, log_whole)
            weight, plain = weight_of_voxel(job, rows, i)
            pixel = pixel + weight * term
            pixel_norm = pixel_norm + plain
    counted = row_total(rows.keep, rows.n)
    for c in range(channels):
        all_fp = total(lanes_at(lanes_of(rows, c, SUM_FP)))
        # NaN on one side of min takes the other side; it is NaN in fp, and so in tp too
        sums[TP * channels + c] += total(lanes_at(lanes_of(rows, c, SUM_TP))) + all_fp * ZERO
        sums[FP * channels + c] += all_fp
        sums[FN * channels + c] += total(lanes_at(lanes_of(rows, c, SUM_FN)))
        sums[COUNTED * channels + c] += counted
        if looking and any_lane(lanes_at(lanes_of(rows, c, SEEN)) > ZERO):
            sums[IN_PREDICTION * channels + c] = 1
    if any_lane(~legal) and not job.smoothed:
        sums[MAY_FAIL_CHECK * channels] = 1
    sums[PIXEL * channels] += total(pixel)
    sums[PIXEL_NORM * channels] += total(pixel_norm)


@joined
def sum_channel(job: Job, c: int, rows: BlockRows, sums: Numbers) -> None:
    """Add a channel's sums of a block, with sigmoid, or where the logits are the prediction.

    Args:
        job: the step.
        c: the channel.
        rows: the block's logits and label.
        sums: float64 `(9, C)` of the image, added to.
    """
    channels = job.channels
    tps, fps, fns = broadcast(ZERO), broadcast(ZERO), broadcast(ZERO)
    pixel, counted = broadcast(ZERO), broadcast(ZERO)
    low, legal = all_true(), all_true()
    for i in range(0, 4 * rows.n, LANES):
        prefetch_ahead(job, c, rows, i)
        x, t = x_of(rows, c, i), t_of(rows, c, i)
        keep = keep_of(rows, c, i)
        p, far = x, x - t
        if job.activation == SIGMOID:
            p, left, e, reciprocal = sigmoid_of(x)
            p = p * keep
            far = distance_of(p, t, left)
            if job.pixel != NO_PIXEL:
                pixel = pixel + weight_in_channel(job, c, t, keep) * pixel_term_of_sigmoid(job, x, far, e, reciprocal, t)
        else:
            legal = legal & (p >= job.low) & (p <= job.high)
        if not job.smoothed:
            legal = legal & (((t >= job.low) & (t <= job.high)) | ~(keep > ZERO))
        low = low & (p <= job.threshold)
        tp, fp, fn = _overlap(p, t, far, job.norm)
        tps, fps, fns, counted = tps + tp, fps + fp, fns + fn, counted + keep
    all_fp = total(fps)
    sums[TP * channels + c] += total(tps) + all_fp * ZERO
    sums[FP * channels + c] += all_fp
    sums[FN * channels + c] += total(fns)
    sums[COUNTED * channels + c] += total(counted)
    sums[PIXEL * channels + c] += total(pixel)
    if job.pixel != NO_PIXEL:
        sums[PIXEL_NORM * channels + c] += total(counted)
    if any_lane(~low):
        sums[IN_PREDICTION * channels + c] = 1
    if any_lane(~legal):
        sums[MAY_FAIL_CHECK * channels + c] = 1
