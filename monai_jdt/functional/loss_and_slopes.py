"""The loss and its slopes by a kernel's sums, number by number, for few images and classes.

:func:`monai_jdt.functional.overlap.combine` is the definition: some forty operations of torch on (N, C), and as many in backward.
Each takes microseconds, whatever its size, and together they take longer than the kernel of a small input. :func:`loss_and_slopes`
computes the same in float64. It is written such that numba compiles it, where the kernel is numba's, and Python runs it on lists of a
few numbers, where it is not.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_jdt.definitions import Activation, ActiveClasses, Backend, LossRecipe, PixelTerm
from monai_jdt.functional.overlap import averages_of
from monai_jdt.kernels.rows import DIFFERENTIABLE_ROWS, Row

#: Pairs of image and class up to which Python is not slower than torch's operations.
INTERPRETED_PAIRS = 256

# The rows as numbers, which numba takes for constants.
_FP, _FN, _PIXEL, _PIXEL_NORM = int(Row.FP), int(Row.FN), int(Row.PIXEL), int(Row.PIXEL_NORM)


class LossNumbers(NamedTuple):
    """A recipe in plain numbers, for sums of a certain shape."""

    images: int
    channels: int
    #: of the channels in the overlap
    first: int
    #: whether all channels share one ratio
    pooled: bool
    has_pixel: bool
    #: whether what rounding has left below 0 is taken as 0
    pixel_from_zero: bool
    #: with softmax, the sum of all channels is in the first
    pixel_channels: int
    lambda_pixel: float
    has_overlap: bool
    lambda_jdt: float
    #: the share of each average
    pair: float
    dataset: float
    image: float
    class_: float
    alpha: float
    beta: float
    gamma: float
    log_loss: bool
    nr: float
    dr: float
    #: the smallest normal number of the loss's dtype. A logarithm's argument is at least that
    tiny: float


@lru_cache(maxsize=256)
def loss_numbers(recipe: LossRecipe, images: int, channels: int, dtype: torch.dtype) -> LossNumbers:
    """Return a recipe in plain numbers.

    Args:
        recipe: which loss, a mean.
        images: N.
        channels: C.
        dtype: of the loss.
    """
    rule, ratio, averaging = recipe.voxels.pixel, recipe.ratio, recipe.averaging
    shares = dict(averages_of(averaging))
    scale = 0.5 if ratio.smooths_double else 1.0
    return LossNumbers(
        images=images,
        channels=channels,
        first=recipe.voxels.first_channel,
        pooled=averaging.classes is ActiveClasses.POOLED,
        has_pixel=rule is not None,
        pixel_from_zero=rule is not None and rule.term is PixelTerm.DIVERGENCE,
        pixel_channels=1 if recipe.voxels.activation is Activation.SOFTMAX else channels,
        lambda_pixel=float(recipe.lambda_pixel),
        has_overlap=rule is None or recipe.lambda_jdt != 0,
        lambda_jdt=float(recipe.lambda_jdt),
        pair=float(shares.get("pair", 0)),
        dataset=float(shares.get("dataset", 0)),
        image=float(shares.get("image", 0)),
        class_=float(shares.get("class", 0)),
        alpha=float(ratio.alpha),
        beta=float(ratio.beta),
        gamma=float(ratio.gamma),
        log_loss=bool(ratio.log_loss),
        nr=float(scale * ratio.smooth_nr),
        dr=float(scale * ratio.smooth_dr),
        tiny=float(torch.finfo(dtype).tiny),
    )


def closed_form(
    kernel: Backend, rows: np.ndarray, active: np.ndarray, weight: np.ndarray | None, recipe: LossRecipe, dtype: torch.dtype
) -> tuple[float, np.ndarray]:
    """Return the loss, and its slopes by the differentiable rows, float64 `(4, N, C)`.

    Args:
        kernel: with numba's, the loop is compiled.
        rows: of a kernel, `(9, N, C)`.
        active: which pairs take part, bool `(N, C')` or, pooled, `(N, 1)`.
        weight: of the classes in the overlap, `(C')` or `()`; None: 1.
        recipe: which loss, a mean.
        dtype: of the loss.
    """
    _, images, channels = rows.shape
    numbers = loss_numbers(recipe, images, channels, dtype)
    weights = np.ones(1) if weight is None else weight.astype(np.float64).reshape(-1)
    size, found = DIFFERENTIABLE_ROWS * images * channels, images + active.shape[1]
    flat = rows.astype(np.float64).reshape(-1)
    slopes = np.zeros(size)
    if kernel is Backend.NUMBA:
        value = _compiled()(flat, active.reshape(-1), weights, numbers, np.zeros(found, np.int64), slopes)
    else:
        listed = [0.0] * size
        with np.errstate(all="ignore"):
            value = loss_and_slopes(flat.tolist(), active.reshape(-1).tolist(), weights.tolist(), numbers, [0] * found, listed)
        slopes[:] = listed
    return float(value), slopes.reshape(DIFFERENTIABLE_ROWS, images, channels)


def loss_and_slopes(rows: Any, active: Any, weight: Any, numbers: LossNumbers, found: Any, slopes: Any) -> float:
    """Return the loss, and add its slopes.

    With M the cost and D everything, `l = M / D`, and `d (M / D) = ((tp + nr) (a dfp + b dfn) - M dtp) / D^2`. Long, since numba would
    compile and keep a second function by itself, and Python would take half of the time for calls.

    Args:
        rows: of a kernel, flat `(9, N, C)`.
        active: which pairs take part, flat `(N, C')`, or, pooled, `(N, 1)`.
        weight: of a class, flat `(C')`, or one for all.
        numbers: the recipe.
        found: N + C' zeros, to count in.
        slopes: by the first four rows, flat `(4, N, C)`, zeros.
    """
    images, channels, first = numbers.images, numbers.channels, numbers.first
    size = images * channels
    value = 0.0
    if numbers.has_pixel:
        total, norm = 0.0, 0.0
        for at in range(size):
            term = rows[_PIXEL * size + at]
            total += 0.0 if numbers.pixel_from_zero and term < 0 else term
            norm += rows[_PIXEL_NORM * size + at]
        share = numbers.lambda_pixel / norm if norm > 0 else numbers.lambda_pixel
        value = share * total
        for image in range(images):
            for channel in range(numbers.pixel_channels):
                slopes[_PIXEL * size + image * channels + channel] = share
    if not numbers.has_overlap:
        return value

    classes = 1 if numbers.pooled else channels - first
    pairs, images_found, classes_found = 0, 0, 0
    for image in range(images):
        for c in range(classes):
            if active[image * classes + c]:
                pairs += 1
                images_found += found[image] == 0
                classes_found += found[images + c] == 0
                found[image] += 1
                found[images + c] += 1

    # each image, and last, with the sums of all images, the whole
    for place in range(images + 1):
        whole = place == images
        if whole and numbers.dataset == 0:
            continue
        if not whole and numbers.pair == 0 and numbers.image == 0 and numbers.class_ == 0:
            continue
        for c in range(classes):
            if whole:
                if found[images + c] == 0:
                    continue
                share = numbers.dataset / classes_found
            else:
                if not active[place * classes + c]:
                    continue
                share = numbers.pair / pairs + numbers.image / (found[place] * images_found)
                share += numbers.class_ / (found[images + c] * classes_found)
            share *= numbers.lambda_jdt * weight[c if len(weight) > 1 else 0]
            first_image, last_image = (0, images) if whole else (place, place + 1)
            first_channel, last_channel = (first, channels) if numbers.pooled else (first + c, first + c + 1)
            tp, fp, fn = 0.0, 0.0, 0.0
            for image in range(first_image, last_image):
                for channel in range(first_channel, last_channel):
                    at = image * channels + channel
                    tp += rows[at]
                    fp += rows[_FP * size + at]
                    fn += rows[_FN * size + at]
            cost = numbers.alpha * fp + numbers.beta * fn
            everything = tp + cost + numbers.dr
            if everything == 0:
                continue
            loss, score = (cost + (numbers.dr - numbers.nr)) / everything, (tp + numbers.nr) / everything
            # one over it would be infinite in the dtype of the loss
            by_loss = 0.0 if numbers.dr <= numbers.tiny and everything < numbers.tiny / 4 else share / everything
            chained = loss
            if numbers.log_loss:
                floor = numbers.tiny if score < numbers.tiny else score
                # each half is computed where it is exact
                chained = -math.log(floor) if loss > 0.5 else -math.log1p(-loss)
                by_loss = 0.0 if score < numbers.tiny else by_loss / floor
            if numbers.gamma != 1:
                # np.power, since Python's own raises an error where the result is beyond the largest float
                by_loss = 0.0 if chained == 0 else by_loss * numbers.gamma * np.power(chained, numbers.gamma - 1)
                chained = np.power(chained, numbers.gamma)
            value += share * chained
            by_tp, by_error = -loss * by_loss, score * by_loss
            for image in range(first_image, last_image):
                for channel in range(first_channel, last_channel):
                    at = image * channels + channel
                    slopes[at] += by_tp
                    slopes[_FP * size + at] += numbers.alpha * by_error
                    slopes[_FN * size + at] += numbers.beta * by_error
    return value


@lru_cache(maxsize=1)
def _compiled() -> Any:
    """Return the loop as numba compiles it, from disk where it is there."""
    from monai_jdt.kernels.numba.compilation import on_disk, ready_to_call

    none, whole = np.zeros(0), np.zeros(0, np.int64)
    numbers = loss_numbers(LossRecipe(), 0, 0, torch.float32)
    return ready_to_call(on_disk(loss_and_slopes), none, np.zeros(0, bool), np.ones(1), numbers, whole, np.zeros(0))
