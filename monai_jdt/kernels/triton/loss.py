"""The loss and its slopes from the sums of a step, on the device: one small program, with the images and channels in its registers.

`monai_jdt.functional.overlap.combine` is the definition, some forty operations on (N, C), and as many in backward. Each is a launch
of its own, and together they take longer than the kernels of a large volume. Here they are one, in float64, for which the host does
not wait. Every factor of a recipe is an argument, so that a schedule of them compiles nothing. Only one that reaches 0, or gamma that
reaches 1, has a second program.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton's values have no Python types.

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row
from monai_jdt.kernels.triton.launch import FUSED, on_device

#: Pairs of image and channel, each count padded to a power of two, that lie in one program's registers.
MOST_PAIRS = 4096

_TP: tl.constexpr = tl.constexpr(int(Row.TP))
_FP: tl.constexpr = tl.constexpr(int(Row.FP))
_FN: tl.constexpr = tl.constexpr(int(Row.FN))
_PIXEL: tl.constexpr = tl.constexpr(int(Row.PIXEL))
_PIXEL_NORM: tl.constexpr = tl.constexpr(int(Row.PIXEL_NORM))
_COUNTED: tl.constexpr = tl.constexpr(int(Row.COUNTED))
_IN_LABEL: tl.constexpr = tl.constexpr(int(Row.IN_LABEL))
_IN_PREDICTION: tl.constexpr = tl.constexpr(int(Row.IN_PREDICTION))


def fits_one_program(images: int, channels: int) -> bool:
    """Return whether :func:`triton_loss` can take sums of this shape.

    Args:
        images: N.
        channels: C.
    """
    return triton.next_power_of_2(max(images, 1)) * triton.next_power_of_2(max(channels, 1)) <= MOST_PAIRS


def triton_loss(rows: torch.Tensor, weight: torch.Tensor | None, settings: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss, `()`, and its slopes by the differentiable rows, `(4, N, C)`, both float32 on the device.

    Args:
        rows: of :func:`monai_jdt.kernels.triton.launch.triton_sums`, `(9, N, C)`; N and C as :func:`fits_one_program` allows.
        weight: of the classes in the overlap, `(C')` or `()`; None: 1.
        settings: the recipe, as arguments of :func:`loss_kernel`.
    """
    _, images, channels = rows.shape
    value = torch.empty((), dtype=torch.float32, device=rows.device)
    slopes = torch.empty((DIFFERENTIABLE_ROWS, images, channels), dtype=torch.float32, device=rows.device)
    block_n, block_c = (triton.next_power_of_2(max(size, 1)) for size in (images, channels))
    with on_device(rows.device):
        loss_kernel[(1,)](
            rows,
            rows if weight is None else weight,
            value,
            slopes,
            images,
            channels,
            0 if weight is None or weight.ndim == 0 else weight.stride(0),
            WEIGHTED=weight is not None,
            BLOCK_N=block_n,
            BLOCK_C=block_c,
            num_warps=min(max(block_n * block_c // 256, 1), 16),
            **settings,
            **FUSED,
        )
    return value, slopes


@triton.jit
def _ratio(tp, fp, fn, share, alpha, beta, gamma, nr, dr, tiny, LOG_LOSS: tl.constexpr, POWER: tl.constexpr):
    """Return the loss of pairs times their share, and its slopes by tp, and by the cost `alpha fp + beta fn`.

    With M the cost and D everything, `l = M / D`, and `d (M / D) = ((tp + nr) dM - M dtp) / D^2`.
    """
    cost = alpha * fp + beta * fn
    everything = tp + cost + dr
    whole = tl.where(everything == 0, 1.0, everything)
    loss = (cost + (dr - nr)) / whole
    score = (tp + nr) / whole
    # one over it would be infinite in the dtype of the loss; a dr that is not tiny keeps it from that
    least = tl.where(dr <= tiny, tiny * 0.25, float("-inf"))
    by_loss = tl.where(everything < least, 0.0, share / whole)
    chained = loss
    if LOG_LOSS:
        floor = tl.where(score < tiny, tiny, score)
        # each half is computed where it is exact; near 0 with the digits that the rounding of 1 - loss took
        near = tl.where(loss > 0.5, 0.0, loss)
        rest = 1.0 - near
        rounded = 1.0 - rest
        factor = tl.where(rounded == 0, 1.0, near / tl.where(rounded == 0, 1.0, rounded))
        chained = tl.where(loss > 0.5, -tl.log(floor), tl.where(rounded == 0, near, -tl.log(rest) * factor))
        by_loss = tl.where(score < tiny, 0.0, by_loss / floor)
    if POWER:
        best = chained == 0
        base = tl.where(best, 1.0, chained)
        power = tl.exp((gamma - 1.0) * tl.log(base))
        chained = tl.where(best, 0.0, base * power)
        by_loss = tl.where(best, 0.0, by_loss * gamma * power)
    nothing = everything == 0
    return (
        tl.where(nothing, 0.0, share * chained),
        tl.where(nothing, 0.0, -loss * by_loss),
        tl.where(nothing, 0.0, score * by_loss),
    )


@triton.jit
def _total(values):
    """Return the sum over both dimensions, `(1, 1)`, always in the same order."""
    return tl.sum(tl.sum(values, axis=1, keep_dims=True), axis=0, keep_dims=True)


@triton.jit
def _divisor(count):
    return tl.where(count > 0, count, 1.0)


@triton.jit
def loss_kernel(
    rows,
    weight,
    value,
    slopes,
    images,
    channels,
    weight_c,
    lambda_jdt,
    lambda_pixel,
    pair,
    dataset,
    image,
    class_,
    alpha,
    beta,
    gamma,
    nr,
    dr,
    tiny,
    WEIGHTED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    FIRST: tl.constexpr,
    CLASSES: tl.constexpr,
    LISTED: tl.constexpr,
    LISTED_COUNT: tl.constexpr,
    HAS_OVERLAP: tl.constexpr,
    HAS_PIXEL: tl.constexpr,
    PIXEL_FROM_ZERO: tl.constexpr,
    PIXEL_OF_ALL: tl.constexpr,
    EACH: tl.constexpr,
    WHOLE: tl.constexpr,
    LOG_LOSS: tl.constexpr,
    POWER: tl.constexpr,
):
    """Write the loss and its slopes. Long, since Triton has no records, as in `block_math`.

    Args:
        rows: pointer to float32 `(9, N, C)`.
        weight: pointer, not read unless `WEIGHTED`.
        value: pointer to the loss.
        slopes: pointer to float32 `(4, N, C)`.
        images: N.
        channels: C.
        weight_c: the stride of the weights; 0: one for all.
        lambda_jdt: the factor of the overlap.
        lambda_pixel: the factor of the pixel term.
        pair: the share of each average, here and below.
        dataset: see `pair`.
        image: see `pair`.
        class_: see `pair`.
        alpha: of :class:`monai_jdt.definitions.RatioRule`, here and below.
        beta: see `alpha`.
        gamma: see `alpha`.
        nr: see `alpha`.
        dr: see `alpha`.
        tiny: the smallest normal number of the loss's dtype. A logarithm's argument is at least that.
        WEIGHTED: whether there is a class weight.
        BLOCK_N: N or more, a power of two.
        BLOCK_C: C or more, a power of two.
        FIRST: the first channel of the overlap.
        CLASSES: which pairs are active, a value of :class:`monai_jdt.definitions.ActiveClasses`.
        LISTED: the listed channels, 16 bits each, packed into one whole number.
        LISTED_COUNT: how many these are.
        HAS_OVERLAP: whether there is an overlap term.
        HAS_PIXEL: whether there is a pixel term.
        PIXEL_FROM_ZERO: whether what rounding has left of it below 0 is taken as 0.
        PIXEL_OF_ALL: whether every channel has its own; else that of all is in channel 0.
        EACH: whether an average is over images' own ratios.
        WHOLE: whether one is over ratios of the whole batch.
        LOG_LOSS: whether the logarithm is taken.
        POWER: whether gamma is not 1.
    """
    lambda_jdt, lambda_pixel = tl.cast(lambda_jdt, tl.float64), tl.cast(lambda_pixel, tl.float64)
    pair, dataset = tl.cast(pair, tl.float64), tl.cast(dataset, tl.float64)
    image, class_ = tl.cast(image, tl.float64), tl.cast(class_, tl.float64)
    alpha, beta, gamma = tl.cast(alpha, tl.float64), tl.cast(beta, tl.float64), tl.cast(gamma, tl.float64)
    nr, dr, tiny = tl.cast(nr, tl.float64), tl.cast(dr, tl.float64), tl.cast(tiny, tl.float64)
    n = tl.arange(0, BLOCK_N)[:, None]
    channel = tl.arange(0, BLOCK_C)[None, :]
    exists = (n < images) & (channel < channels)
    overlapping = exists & (channel >= FIRST)
    at, row = n * channels + channel, images * channels
    zero = tl.zeros((BLOCK_N, BLOCK_C), tl.float64)
    by_pixel, by_tp, by_error = zero, zero, zero
    result = tl.zeros((1, 1), tl.float64)

    if HAS_PIXEL:
        term = tl.load(rows + _PIXEL * row + at, mask=exists, other=0.0).to(tl.float64)
        if PIXEL_FROM_ZERO:
            term = tl.where(term < 0, 0.0, term)
        # class weights make norm a number that may be less than 1
        norm = _total(tl.load(rows + _PIXEL_NORM * row + at, mask=exists, other=0.0).to(tl.float64))
        share = lambda_pixel / tl.where(norm > 0, norm, 1.0)
        result = share * _total(term)
        by_pixel = tl.where(exists if PIXEL_OF_ALL else exists & (channel == 0), share, 0.0)

    if HAS_OVERLAP:
        tp = tl.load(rows + _TP * row + at, mask=overlapping, other=0.0).to(tl.float64)
        fp = tl.load(rows + _FP * row + at, mask=overlapping, other=0.0).to(tl.float64)
        fn = tl.load(rows + _FN * row + at, mask=overlapping, other=0.0).to(tl.float64)
        active = tl.load(rows + _COUNTED * row + at, mask=overlapping, other=0.0) > 0
        if CLASSES == "label" or CLASSES == "both":
            in_label = tl.load(rows + _IN_LABEL * row + at, mask=overlapping, other=0.0) > 0
        if CLASSES == "prob" or CLASSES == "both":
            in_prediction = tl.load(rows + _IN_PREDICTION * row + at, mask=overlapping, other=0.0) > 0
        if CLASSES == "label":
            active = active & in_label
        elif CLASSES == "prob":
            active = active & in_prediction
        elif CLASSES == "both":
            active = active & (in_label | in_prediction)
        elif CLASSES == "listed":
            wanted = channel < 0
            for number in tl.static_range(LISTED_COUNT):
                wanted = wanted | (channel == ((LISTED >> (16 * number)) & 0xFFFF))
            active = active & wanted
        ones = active.to(tl.float64)
        if CLASSES == "pooled":
            tp = tl.sum(tp, axis=1, keep_dims=True)
            fp = tl.sum(fp, axis=1, keep_dims=True)
            fn = tl.sum(fn, axis=1, keep_dims=True)
            ones = tl.max(ones, axis=1, keep_dims=True)
        of_image = tl.sum(ones, axis=1, keep_dims=True)
        of_class = tl.sum(ones, axis=0, keep_dims=True)
        classes_found = _total((of_class > 0).to(tl.float64))
        factor = lambda_jdt
        if WEIGHTED:
            factor = lambda_jdt * tl.load(
                weight + (channel - FIRST) * weight_c, mask=(channel >= FIRST) & (channel < channels), other=0.0
            ).to(tl.float64)
        if EACH:
            images_found = _total((of_image > 0).to(tl.float64))
            share = pair / _divisor(_total(ones)) + image / _divisor(of_image * images_found)
            share += class_ / _divisor(of_class * classes_found)
            some, some_by_tp, some_by_error = _ratio(tp, fp, fn, share * factor, alpha, beta, gamma, nr, dr, tiny, LOG_LOSS, POWER)
            # selected, not multiplied: 0 * NaN is NaN
            result += _total(tl.where(ones > 0, some, 0.0))
            by_tp += tl.where(ones > 0, some_by_tp, 0.0)
            by_error += tl.where(ones > 0, some_by_error, 0.0)
        if WHOLE:
            tp = tl.sum(tp, axis=0, keep_dims=True)
            fp = tl.sum(fp, axis=0, keep_dims=True)
            fn = tl.sum(fn, axis=0, keep_dims=True)
            share = dataset / _divisor(classes_found)
            some, some_by_tp, some_by_error = _ratio(tp, fp, fn, share * factor, alpha, beta, gamma, nr, dr, tiny, LOG_LOSS, POWER)
            result += _total(tl.where(of_class > 0, some, 0.0))
            by_tp += tl.where(of_class > 0, some_by_tp, 0.0)
            by_error += tl.where(of_class > 0, some_by_error, 0.0)

    by_tp = tl.where(overlapping, by_tp, 0.0)
    by_error = tl.where(overlapping, by_error, 0.0)
    tl.store(value + n * 0 + channel * 0, (zero + result).to(tl.float32), mask=(n == 0) & (channel == 0))
    tl.store(slopes + _TP * row + at, by_tp.to(tl.float32), mask=exists)
    tl.store(slopes + _FP * row + at, (alpha * by_error).to(tl.float32), mask=exists)
    tl.store(slopes + _FN * row + at, (beta * by_error).to(tl.float32), mask=exists)
    tl.store(slopes + _PIXEL * row + at, by_pixel.to(tl.float32), mask=exists)
