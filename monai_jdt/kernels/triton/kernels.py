"""The Triton programs of a step: sums over blocks of voxels, their total, and the gradient by the logits.

A program takes blocks of `BLOCK_V` voxels with all their channels in registers, so that the predictions are made once for the overlap
and the pixel term, and nothing as large as the logits is written but the gradient. The maths of a block is in `block_math`; the
derivation of the gradient in `chunked`. How many programs run, and what they are given, is in `launch`.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton's values have no Python types.

from __future__ import annotations

import triton
import triton.language as tl

from monai_jdt.kernels.rows import Row
from monai_jdt.kernels.triton.block_math import (
    cross_entropy_block,
    entropy_block,
    focal_factor,
    focal_power,
    voxel_block,
    voxel_factor,
    voxels_inside,
)

_TP: tl.constexpr = tl.constexpr(int(Row.TP))
_FP: tl.constexpr = tl.constexpr(int(Row.FP))
_FN: tl.constexpr = tl.constexpr(int(Row.FN))
_PIXEL: tl.constexpr = tl.constexpr(int(Row.PIXEL))
_PIXEL_NORM: tl.constexpr = tl.constexpr(int(Row.PIXEL_NORM))
_COUNTED: tl.constexpr = tl.constexpr(int(Row.COUNTED))
_IN_LABEL: tl.constexpr = tl.constexpr(int(Row.IN_LABEL))
_IN_PREDICTION: tl.constexpr = tl.constexpr(int(Row.IN_PREDICTION))
_SUSPECT: tl.constexpr = tl.constexpr(int(Row.MAY_FAIL_CHECK))
_ROWS: tl.constexpr = tl.constexpr(len(Row))


@triton.jit
def _folded(values, FOLD: tl.constexpr):
    """Return the sums of FOLD neighbours, `(rows, voxels)` to `(rows, voxels / FOLD)`."""
    return values if FOLD == 1 else tl.sum(tl.reshape(values, (values.shape[0], values.shape[1] // FOLD, FOLD)), axis=2)


@triton.jit
def sums_kernel(
    logits,
    label,
    mask,
    rater_weights,
    class_weight,
    partial,
    V,
    parts,
    group,
    logits_n,
    logits_c,
    logits_v,
    label_n,
    label_c,
    label_v,
    mask_n,
    mask_c,
    mask_v,
    raters_n,
    raters_r,
    weight_c,
    keep,
    spread,
    threshold,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_V: tl.constexpr,
    ACTIVATION: tl.constexpr,
    FORM: tl.constexpr,
    LABEL_AS: tl.constexpr,
    MARKER: tl.constexpr,
    RATERS: tl.constexpr,
    REGION_COUNT: tl.constexpr,
    REGION_VALUES: tl.constexpr,
    REGION_BITS: tl.constexpr,
    MASK: tl.constexpr,
    SMOOTHED: tl.constexpr,
    EVEN: tl.constexpr,
    NORM: tl.constexpr,
    TERM: tl.constexpr,
    GAMMA: tl.constexpr,
    ALPHA: tl.constexpr,
    WEIGHTED: tl.constexpr,
    FOLD: tl.constexpr,
):
    """One program's part of the sums of one image, `(9, C)` of partial `(parts, 9, N, C)`."""
    n = (tl.program_id(0) // parts).to(tl.int64)
    part = tl.program_id(0) % parts
    # the pixel term of a softmax is one number for a voxel, and what counts is too without a mask for each channel
    PIXEL_C: tl.constexpr = 1 if ACTIVATION == "softmax" else BLOCK_C
    COUNT_C: tl.constexpr = BLOCK_C if MASK == "each" else 1
    DIVIDED: tl.constexpr = (TERM != "none" and ACTIVATION == "softmax") and WEIGHTED
    WIDTH: tl.constexpr = BLOCK_V // FOLD
    tp = tl.zeros((BLOCK_C, WIDTH), tl.float32)
    fp = tl.zeros((BLOCK_C, WIDTH), tl.float32)
    fn = tl.zeros((BLOCK_C, WIDTH), tl.float32)
    pixel = tl.zeros((PIXEL_C, WIDTH), tl.float32)
    weights = tl.zeros((1, WIDTH), tl.float32)
    counts = tl.zeros((COUNT_C, WIDTH), tl.float32)
    # how often a value was not at most the threshold (so that NaN is above it): the label's in the lower half, the prediction's above
    found = tl.zeros((BLOCK_C, WIDTH), tl.int32)
    for block in range(part * group, tl.minimum(part * group + group, tl.cdiv(V, BLOCK_V))):
        z, p, far, _, log_p, raw, t, counted = voxel_block(
            logits,
            label,
            mask,
            rater_weights,
            n,
            tl.cast(block, tl.int64) * BLOCK_V,
            V,
            logits_n,
            logits_c,
            logits_v,
            label_n,
            label_c,
            label_v,
            mask_n,
            mask_c,
            mask_v,
            raters_n,
            raters_r,
            keep,
            spread,
            C,
            BLOCK_C,
            BLOCK_V,
            ACTIVATION,
            FORM,
            LABEL_AS,
            MARKER,
            RATERS,
            REGION_COUNT,
            REGION_VALUES,
            REGION_BITS,
            MASK,
            SMOOTHED,
            EVEN,
            TERM != "none",
        )
        counts += _folded(counted.to(tl.float32), FOLD)
        found += _folded(tl.where(raw <= threshold, 0, 1) + tl.where(p <= threshold, 0, 65536), FOLD)
        if NORM == 1:
            over = tl.maximum(far, 0.0, propagate_nan=tl.PropagateNan.ALL)
            tp += _folded(tl.minimum(p, t, propagate_nan=tl.PropagateNan.ALL), FOLD)
            fp += _folded(over, FOLD)
            fn += _folded(over - far, FOLD)
        else:
            tp += _folded(p * t, FOLD)
            fp += _folded(far * far, FOLD)
        if TERM != "none":
            term = cross_entropy_block(z, log_p, t, ACTIVATION)
            if TERM == "focal":
                term = term * (tl.abs(far) * focal_power(tl.abs(far), GAMMA))
            elif TERM == "kl":
                term = term + entropy_block(t)
                if ACTIVATION == "sigmoid":
                    term = term + entropy_block(1.0 - t)
            if ACTIVATION == "softmax":
                term = tl.sum(term, axis=0, keep_dims=True)
            if ALPHA is not None:
                term = term * focal_factor(t, ALPHA, BLOCK_C, ACTIVATION)
            if WEIGHTED:
                weight = voxel_factor(t, class_weight, weight_c, C, BLOCK_C, ACTIVATION)
                term = term * weight
                if DIVIDED:
                    weights += _folded(weight, FOLD)
            pixel += _folded(tl.where(counted, term, 0.0), FOLD)
    all_tp = tl.sum(tp, axis=1, keep_dims=True)
    all_fp = tl.sum(fp, axis=1, keep_dims=True)
    all_fn = tl.sum(fn, axis=1, keep_dims=True)
    if NORM == 2:
        all_fp = all_fp * 0.5
        all_fn = all_fp
    nothing = tl.zeros((BLOCK_C, 1), tl.float32)
    all_counted = nothing + tl.sum(counts, axis=1, keep_dims=True)
    all_pixel = nothing + tl.sum(pixel, axis=1, keep_dims=True)
    norm = all_counted
    if DIVIDED:
        norm = nothing + tl.sum(weights, axis=1, keep_dims=True)
    channel = tl.arange(0, BLOCK_C)[:, None]
    if ACTIVATION == "softmax":
        all_pixel = tl.where(channel == 0, all_pixel, 0.0)
        norm = tl.where(channel == 0, norm, 0.0)
    in_label = tl.max(found & 65535, axis=1, keep_dims=True)
    in_prediction = tl.max(found >> 16, axis=1, keep_dims=True)

    # rows of `(parts, 9, N, C)` lie N * C apart
    images = (tl.num_programs(0) // parts).to(tl.int64)
    at = partial + (part.to(tl.int64) * _ROWS * images + n) * C + channel
    row = images * C
    here = channel < C
    tl.store(at + _TP * row, all_tp, mask=here)
    tl.store(at + _FP * row, all_fp, mask=here)
    tl.store(at + _FN * row, all_fn, mask=here)
    tl.store(at + _PIXEL * row, all_pixel, mask=here)
    tl.store(at + _PIXEL_NORM * row, norm, mask=here)
    tl.store(at + _COUNTED * row, all_counted, mask=here)
    tl.store(at + _IN_LABEL * row, in_label.to(tl.float32), mask=here)
    tl.store(at + _IN_PREDICTION * row, in_prediction.to(tl.float32), mask=here)
    tl.store(at + _SUSPECT * row, nothing + 1.0, mask=here)


@triton.jit
def total_kernel(partial, rows, columns, parts, PARTS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums over the first dimension of partial `(parts, columns)`, always in the same order."""
    column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros((PARTS, COLUMNS), tl.float64)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)[:, None]
        total += tl.load(partial + part.to(tl.int64) * columns + column, mask=(part < parts) & (column < columns), other=0.0)
    tl.store(rows + column, tl.sum(total, axis=0, keep_dims=True).to(tl.float32), mask=column < columns)


@triton.jit
def gradient_kernel(
    logits,
    label,
    mask,
    rater_weights,
    class_weight,
    upstream,
    factor,
    result,
    V,
    parts,
    group,
    logits_n,
    logits_c,
    logits_v,
    label_n,
    label_c,
    label_v,
    mask_n,
    mask_c,
    mask_v,
    raters_n,
    raters_r,
    weight_c,
    result_n,
    result_c,
    result_v,
    keep,
    spread,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_V: tl.constexpr,
    ACTIVATION: tl.constexpr,
    FORM: tl.constexpr,
    LABEL_AS: tl.constexpr,
    MARKER: tl.constexpr,
    RATERS: tl.constexpr,
    REGION_COUNT: tl.constexpr,
    REGION_VALUES: tl.constexpr,
    REGION_BITS: tl.constexpr,
    MASK: tl.constexpr,
    SMOOTHED: tl.constexpr,
    EVEN: tl.constexpr,
    NORM: tl.constexpr,
    TERM: tl.constexpr,
    GAMMA: tl.constexpr,
    ALPHA: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SCALED: tl.constexpr,
):
    """Write one program's part of the gradient of one image."""
    n = (tl.program_id(0) // parts).to(tl.int64)
    part = tl.program_id(0) % parts
    channel = tl.arange(0, BLOCK_C)[:, None]
    voxel = tl.arange(0, BLOCK_V)[None, :]
    here = channel < C
    images = (tl.num_programs(0) // parts).to(tl.int64)
    up = upstream + n * C + channel
    row = images * C
    up_tp = tl.load(up + _TP * row, mask=here, other=0.0)
    up_fp = tl.load(up + _FP * row, mask=here, other=0.0)
    up_fn = tl.load(up + _FN * row, mask=here, other=0.0)
    # with softmax the pixel term of all channels is in channel 0
    up_pixel = tl.load(upstream + n * C + _PIXEL * row + (channel * 0 if ACTIVATION == "softmax" else channel), mask=here, other=0.0)
    if SCALED:
        scale = tl.load(factor).to(tl.float32)
        up_tp, up_fp, up_fn, up_pixel = up_tp * scale, up_fp * scale, up_fn * scale, up_pixel * scale
    offset = channel.to(tl.int64) * result_c + voxel.to(tl.int64) * result_v

    for block in range(part * group, tl.minimum(part * group + group, tl.cdiv(V, BLOCK_V))):
        start = tl.cast(block, tl.int64) * BLOCK_V
        z, p, far, left, log_p, _, t, counted = voxel_block(
            logits,
            label,
            mask,
            rater_weights,
            n,
            start,
            V,
            logits_n,
            logits_c,
            logits_v,
            label_n,
            label_c,
            label_v,
            mask_n,
            mask_c,
            mask_v,
            raters_n,
            raters_r,
            keep,
            spread,
            C,
            BLOCK_C,
            BLOCK_V,
            ACTIVATION,
            FORM,
            LABEL_AS,
            MARKER,
            RATERS,
            REGION_COUNT,
            REGION_VALUES,
            REGION_BITS,
            MASK,
            SMOOTHED,
            EVEN,
            TERM == "focal",
        )
        # by p; at a tie of norm 1 the mean of both sides
        if NORM == 1:
            slope = tl.where(far < 0, up_tp - up_fn, tl.where(far > 0, up_fp, (up_tp + up_fp - up_fn) * 0.5))
        else:
            slope = far * (up_fp + up_fn) + t * up_tp

        if TERM != "none":
            by_term = up_pixel
            if WEIGHTED:
                by_term = by_term * voxel_factor(t, class_weight, weight_c, C, BLOCK_C, ACTIVATION)
            if ALPHA is not None:
                by_term = by_term * focal_factor(t, ALPHA, BLOCK_C, ACTIVATION)
            focus = 1.0
            if TERM == "focal":
                power = focal_power(tl.abs(far), GAMMA)
                focus = tl.abs(far) * power
                sign = tl.where(far > 0, 1.0, tl.where(far < 0, -1.0, 0.0))
                slope += by_term * (sign * GAMMA * power * cross_entropy_block(z, log_p, t, ACTIVATION))
        if ACTIVATION == "softmax":
            shared = tl.sum(slope * p, axis=0, keep_dims=True)
            if TERM != "none":
                by_log_p = t * by_term * focus
                by_logits = p * (slope + (tl.sum(by_log_p, axis=0, keep_dims=True) - shared)) - by_log_p
            else:
                by_logits = p * (slope - shared)
            # a class above 1/2 from the others, since all add up to 0: its own is a small difference of large numbers
            others = tl.sum(tl.where((p > 0.5) | (channel >= C), 0.0, by_logits), axis=0, keep_dims=True)
            by_logits = tl.where(p > 0.5, -others, by_logits)
        elif ACTIVATION == "sigmoid":
            by_logits = slope * p * left
            if TERM != "none":
                by_logits += by_term * (far * focus)
        else:
            by_logits = slope
        by_logits = tl.where(counted, by_logits, 0.0)
        at = result + (n * result_n + start * result_v) + offset
        tl.store(at, by_logits.to(result.dtype.element_ty), mask=here & voxels_inside(start, V, BLOCK_V, EVEN))
