"""The kernel for CUDA: one pass over the voxels forward, which reads each logit and label once, and one backward.

A program takes blocks of `BLOCK_V` voxels with all their channels in registers, so that the predictions are made once for the overlap
and the pixel term, and nothing as large as the logits is written but the gradient. The maths of a block is in `block_math`; the
derivation of the gradient in `chunked`.

The sums are the same in every run: how voxels are dealt out to programs follows from shapes alone, each program writes its sums into
a row of its own, and a second kernel adds the rows in float64 in a fixed order. A program takes at most `_GROUP` blocks, for two
reasons: float32 that adds one number k times is off by up to k / 4 * 2**-23, which must stay well below 1e-6, and many small programs
keep every multiprocessor busy to the end.

The host waits for nothing: no value comes back from the device, and none is copied to it (settings are arguments of a launch).

With `TRITON_INTERPRET=1` set before triton is imported, the same kernels run on CPU tensors, slowly; that is for tests.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton's values have no Python types.

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

from monai_jdt.definitions import Activation, LabelForm, PixelTerm
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.rows import Row
from monai_jdt.kernels.triton.block_math import (
    WORD_BITS,
    cross_entropy_block,
    entropy_block,
    focal_factor,
    focal_power,
    voxel_block,
    voxel_factor,
)

#: Blocks of a program, at most; float32 adds them up.
_GROUP = 16
#: Programs that a launch should have before they grow: several for each place on the multiprocessors of a large GPU.
_PROGRAMS = 2048
#: Voxels of a program, if there are as many: its sums (36 bytes per channel) are then below 0.04 of its float16 logits.
_VOXELS = 512
#: Columns and rows that the second kernel holds at once: there are few columns, so it is the rows that must be read side by side.
_COLUMNS, _PARTS = 8, 256
#: A multiplication and an addition may round once. Said, since Triton 3.10 has another default.
_FUSED = {"enable_fp_fusion": True}

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


def triton_sums(given: KernelInput) -> torch.Tensor:
    """Return the sums of a step.

    Args:
        given: logits, label and what to sum; on CUDA, or anywhere under Triton's interpreter.

    Returns:
        `(9, N, C)`. The kernel checks no values, so `Row.MAY_FAIL_CHECK` is 1 wherever a voxel counts: the caller runs the full check.
    """
    n, channels, voxels = given.logits.shape
    if n == 0 or voxels == 0:
        return torch.zeros((len(Row), n, channels), dtype=torch.float32, device=given.logits.device)
    arguments, launch, parts = _call(given)
    rows = torch.empty((len(Row), n, channels), dtype=torch.float32, device=given.logits.device)
    partial = torch.empty((parts, *rows.shape), dtype=torch.float32, device=rows.device)
    columns = rows.numel()
    with _on(given.logits.device):
        sums_kernel[(n * parts,)](partial=partial, threshold=given.recipe.threshold, FOLD=_fold_of(given.logits), **arguments, **launch)
        total_kernel[(triton.cdiv(columns, _COLUMNS),)](partial, rows, columns, parts, PARTS=_PARTS, COLUMNS=_COLUMNS, **_FUSED)
    return rows


def triton_gradient(given: KernelInput, upstream: torch.Tensor) -> torch.Tensor:
    """Return the gradient of `(upstream * sums).sum()` by the logits.

    Args:
        given: as for :func:`triton_sums`.
        upstream: `(4, N, C)`, contiguous, for the rows TP, FP, FN, PIXEL.

    Returns:
        As the logits, in shape, dtype and (where they are dense) strides.
    """
    result = torch.empty_like(given.logits)
    if result.numel() == 0:
        return result
    arguments, launch, parts = _call(given)
    result_n, result_c, result_v = result.stride()
    with _on(result.device):
        gradient_kernel[(result.shape[0] * parts,)](
            upstream=upstream.to(torch.float32).contiguous(),
            result=result,
            result_n=result_n,
            result_c=result_c,
            result_v=result_v,
            **arguments,
            **launch,
        )
    return result


def block_shape(channels: int) -> tuple[int, int, int]:
    """`BLOCK_C, BLOCK_V` and the warps of a program: about 16 logits a thread, few enough for registers, enough to be in flight.

    Args:
        channels: C, at most the `most_channels` of its row in :data:`monai_jdt.kernels.registry.KERNELS`.
    """
    block_c = triton.next_power_of_2(channels)
    # a row of 32 half floats is two sectors of memory; below 16 a read would waste most of one
    block_v = max(2048 // block_c, 32 if block_c < 512 else 16)
    return block_c, block_v, min(max(block_c * block_v // 512, 4), 32)


def _fold_of(logits: torch.Tensor) -> int:
    """Return how many neighbours forward adds at once.

    Where rows of logits are read 16 bytes at a time, four neighbours lie in one thread, and a sum of them takes one register of it
    instead of four. Elsewhere they lie in different threads, and are left for the end.
    """
    return 4 if logits.stride(2) == 1 and logits.shape[2] % 16 == 0 else 1


def _call(given: KernelInput) -> tuple[dict[str, Any], dict[str, Any], int]:
    """What both kernels are given, how they are launched, and the number of programs to an image."""
    recipe, reading, rule = given.recipe, given.recipe.label, given.recipe.pixel
    focal = rule if rule is not None and rule.term is PixelTerm.FOCAL else None
    logits, label, mask = given.logits, _loadable(given.label), given.mask
    n, channels, voxels = logits.shape
    block_c, block_v, warps = block_shape(channels)
    blocks = triton.cdiv(voxels, block_v)
    group = min(max(n * blocks // _PROGRAMS, triton.cdiv(_VOXELS, block_v)), _GROUP)
    parts = triton.cdiv(blocks, group)
    label_as = _label_as(label.dtype)
    softmax = recipe.activation is Activation.SOFTMAX
    marker = reading.ignore_index
    if marker is not None and not _holds(label_as, marker):
        # no value of the label equals it
        marker = None
    # where there is nothing to point to, a pointer that no compiled instruction reads
    mask_strides = (0, 0, 0) if mask is None else mask.stride()
    raters_strides = (0, 0) if given.rater_weights is None else given.rater_weights.stride()
    arguments = {
        "logits": logits,
        "label": label,
        "mask": logits if mask is None else mask.view(torch.uint8),
        "rater_weights": logits if given.rater_weights is None else given.rater_weights,
        "class_weight": logits if given.class_weight is None else given.class_weight,
        "V": voxels,
        "parts": parts,
        "group": group,
        **dict(zip(("logits_n", "logits_c", "logits_v"), logits.stride(), strict=True)),
        **dict(zip(("label_n", "label_c", "label_v"), label.stride(), strict=True)),
        **dict(zip(("mask_n", "mask_c", "mask_v"), mask_strides, strict=True)),
        **dict(zip(("raters_n", "raters_r"), raters_strides, strict=True)),
        "weight_c": 0 if given.class_weight is None else given.class_weight.stride(0),
        "keep": 1.0 - reading.smoothing,
        "spread": reading.smoothing / (channels if softmax else 2),
        "C": channels,
        "BLOCK_C": block_c,
        "BLOCK_V": block_v,
        "ACTIVATION": recipe.activation.value,
        "FORM": reading.form.value,
        "LABEL_AS": label_as,
        "MARKER": marker,
        "RATERS": label.shape[1] if reading.form is LabelForm.VOTES else 0,
        **_region_table(reading.regions, label_as),
        "MASK": "none" if mask is None else "one" if mask.shape[1] == 1 else "each",
        "SMOOTHED": reading.smoothing > 0,
        "NORM": recipe.norm,
        "TERM": "none" if rule is None else rule.term.value,
        "GAMMA": 1.0 if focal is None else focal.focal_gamma,
        "ALPHA": None if focal is None else focal.focal_alpha,
        "WEIGHTED": given.class_weight is not None,
    }
    return arguments, {"num_warps": warps, **_FUSED}, parts


def _loadable(label: torch.Tensor) -> torch.Tensor:
    return label.view(torch.uint8) if label.dtype is torch.bool else label


def _label_as(dtype: torch.dtype) -> tl.dtype:
    """Return the type that label values are compared in: wide enough for each of them, and for what they are compared with."""
    if dtype in (torch.float64, torch.int64):
        return tl.float64 if dtype is torch.float64 else tl.int64
    return tl.float32 if dtype.is_floating_point else tl.int32


def _holds(label_as: tl.dtype, number: int) -> bool:
    return label_as.is_floating() or abs(number) < 2 ** (label_as.primitive_bitwidth - 1)


def _region_table(regions: tuple[tuple[int, ...], ...] | None, label_as: tl.dtype) -> dict[str, int]:
    """The values that are in any region, and for each word of channels and each value the bits of the channels that have it.

    Both tables are packed into a number of 64 bits an entry; none of them is negative.
    """
    values = sorted({number for region in regions or () for number in region if _holds(label_as, number)})
    if regions is not None and not values:
        # a table cannot be empty; of a value that is in no region all bits are 0
        values = [0]
    word = WORD_BITS.value
    bits = [
        sum(1 << bit for bit, region in enumerate((regions or ())[first : first + word]) if value in region)
        for first in range(0, len(regions or ()), word)
        for value in values
    ]

    def packed(entries: list[int]) -> int:
        return sum(entry << (64 * place) for place, entry in enumerate(entries))

    return {"REGION_COUNT": len(values), "REGION_VALUES": packed(values), "REGION_BITS": packed(bits)}


def _on(device: torch.device) -> Any:
    """Return a context with the tensors' device as the current one, which Triton launches on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


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
    NORM: tl.constexpr,
    TERM: tl.constexpr,
    GAMMA: tl.constexpr,
    ALPHA: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """Write one program's part of the gradient of one image, in the same blocks as forward."""
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
        tl.store(at, by_logits.to(result.dtype.element_ty), mask=here & (start + voxel < V))
