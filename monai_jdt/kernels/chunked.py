"""The kernel of torch operations on chunks of voxels that fit the cache, so that no temporary is as large as the logits.

Forward sums chunk after chunk; backward computes each chunk's predictions again and writes its part of the gradient. With U the
slope of a voxel's share of the loss by p, and v that by log p, the slope by the logits z is

    softmax:  v + p (U - sum_c p U - sum_c v)        sigmoid:  U p (1 - p) + (that of the pixel term)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn import functional as F

from monai_jdt.checks import RANGE_TOLERANCE, SUM_TOLERANCE
from monai_jdt.definitions import Activation, LabelForm, PixelRule, PixelTerm
from monai_jdt.kernels.labels import read_label
from monai_jdt.kernels.operators import Step
from monai_jdt.kernels.rows import Row

#: Logits in a chunk: a few temporaries of as many fit the second-level caches of two cores.
_LARGEST = 2**19
#: Below it, the time goes into calling operations.
_SMALLEST = 2**14
#: A chunk's share of all logits: temporaries of a step stay below a tenth of them.
_SHARE = 1 / 64


def sums(step: Step) -> torch.Tensor:
    """The sums of a step.

    Args:
        step: logits, label and what to sum.

    Returns:
        `(9, N, C)`; see :class:`monai_jdt.kernels.rows.Row`.
    """
    rows = torch.zeros((len(Row), *step.logits.shape[:2]), dtype=torch.float64, device=step.logits.device)
    for images, voxels in _chunks(step):
        of_images = rows[:, images]
        chunk = _read(step, images, voxels)
        p, t = chunk.p, chunk.t
        if step.recipe.norm == 1:
            both = torch.minimum(p, t)
            of_images[Row.TP] += both.sum(2)
            of_images[Row.FP] += (p - both).sum(2)
            of_images[Row.FN] += torch.sub(t, both, out=both).sum(2)
        else:
            of_images[Row.TP] += (p * t).sum(2)
            far = (p - t).square_().sum(2) / 2
            of_images[Row.FP] += far
            of_images[Row.FN] += far
        of_images[Row.COUNTED] += p.shape[2] if chunk.counted is None else chunk.counted.sum(2)
        highest_p, highest = p.amax(2), chunk.raw.amax(2)
        of_images[Row.IN_LABEL] += ~(highest <= step.recipe.threshold)
        of_images[Row.IN_PREDICTION] += ~(highest_p <= step.recipe.threshold)
        of_images[Row.SUSPECT] += _suspect(step, chunk, highest, highest_p)
        if step.recipe.pixel is not None:
            term, weight = _pixel_term(step, chunk, step.recipe.pixel)
            of_images[Row.PIXEL, :, : term.shape[1]] += term.sum(2)
            of_images[Row.PIXEL_NORM, :, : term.shape[1]] += weight if isinstance(weight, int) else weight.sum(2)
    return rows.to(step.dtype)


def gradient(step: Step, upstream: torch.Tensor) -> torch.Tensor:
    """The gradient of `(upstream * sums).sum()` by the logits.

    Args:
        step: as for :func:`sums`.
        upstream: `(4, N, C)`, for the rows TP, FP, FN, PIXEL.

    Returns:
        As the logits, in shape and dtype.
    """
    result = torch.empty_like(step.logits)
    tp, fp, fn = (upstream[row].unsqueeze(2) for row in (Row.TP, Row.FP, Row.FN))
    # by p it is fp where p > t, tp - fn where p < t, and the mean of the two at p = t
    middle, half = (tp + fp - fn) / 2, (tp - fp - fn) / 2
    for images, voxels in _chunks(step):
        chunk = _read(step, images, voxels)
        p, t = chunk.p, chunk.t
        if step.recipe.norm == 1:
            slope = (t - p).sign_().mul_(half[images]).add_(middle[images])
        else:
            slope = (p - t).mul_((fp + fn)[images]).addcmul_(t, tp[images])
        by_logits = _through_activation(step, chunk, slope, upstream[Row.PIXEL, images].unsqueeze(2))
        if chunk.counted is not None:
            by_logits = torch.where(chunk.counted, by_logits, 0.0)
        result[images, :, voxels] = by_logits
    return result


class _Chunk(NamedTuple):
    """Some voxels of some images, each value `(n, C, v)` in the sums' dtype, 0 where it does not count."""

    logits: torch.Tensor
    p: torch.Tensor
    #: with softmax and a pixel term
    log_p: torch.Tensor | None
    #: before and after label smoothing
    raw: torch.Tensor
    t: torch.Tensor
    #: bool, `(n, 1 or C, v)`; None: all
    counted: torch.Tensor | None
    class_weight: torch.Tensor | None


def _chunks(step: Step) -> Iterator[tuple[slice, slice]]:
    """Ranges of images and of voxels: several whole images, or a part of one."""
    n, channels, voxels = step.logits.shape
    size = int(min(max(step.logits.numel() * _SHARE, _SMALLEST), _LARGEST))
    images_at_once = max(size // max(channels * voxels, 1), 1)
    voxels_at_once = max(size // channels, 1)
    for first in range(0, n, images_at_once):
        for start in range(0, voxels, voxels_at_once):
            yield slice(first, min(first + images_at_once, n)), slice(start, min(start + voxels_at_once, voxels))


def _read(step: Step, images: slice, voxels: slice) -> _Chunk:
    recipe = step.recipe
    logits = step.logits[images, :, voxels].to(step.dtype)
    label = step.label[images, :, voxels]
    weights = None if step.rater_weights is None else step.rater_weights[images]
    raw, counted = read_label(label, logits.shape[1], recipe, weights, step.dtype)
    if step.mask is not None:
        mask = step.mask[images, :, voxels]
        counted = mask if counted is None else counted & mask
    if counted is not None:
        logits = torch.where(counted, logits, 0.0)
        raw = torch.where(counted, raw, 0.0)
    t = raw
    if recipe.label.smoothing > 0:
        e = recipe.label.smoothing
        t = (1 - e) * raw + e / (logits.shape[1] if recipe.activation is Activation.SOFTMAX else 2)
    log_p = None
    if recipe.activation is Activation.SOFTMAX:
        log_p = logits - logits.amax(1, keepdim=True)
        p = log_p.exp()
        total = p.sum(1, keepdim=True)
        p /= total
        log_p = None if recipe.pixel is None else log_p.sub_(total.log_())
    else:
        p = torch.sigmoid(logits) if recipe.activation is Activation.SIGMOID else logits
    if counted is not None:
        p = torch.where(counted, p, 0.0)
        t = torch.where(counted, t, 0.0)
    return _Chunk(logits, p, log_p, raw, t, counted, None if step.class_weight is None else step.class_weight.reshape(1, -1, 1))


def _suspect(step: Step, chunk: _Chunk, highest: torch.Tensor, highest_p: torch.Tensor) -> torch.Tensor:
    """Bool `(n, C)`; the checks' bounds, a little tighter."""
    # an index or a vote that is no class is NaN
    found = ~(highest <= 1 + 0.99 * RANGE_TOLERANCE)
    if step.recipe.label.form is LabelForm.DENSE and step.label.dtype is not torch.bool:
        found |= ~(chunk.raw.amin(2) >= -0.99 * RANGE_TOLERANCE)
    if step.recipe.label.form is LabelForm.DENSE and step.recipe.activation is Activation.SOFTMAX:
        off = (chunk.raw.sum(1, keepdim=True) - 1).abs_()
        if chunk.counted is not None:
            off = torch.where(chunk.counted, off, 0.0)
        found |= ~(off.amax(2) <= 0.99 * SUM_TOLERANCE)
    if step.recipe.activation is Activation.NONE:
        found |= (highest_p > 1 + 0.99 * RANGE_TOLERANCE) | (chunk.p.amin(2) < -0.99 * RANGE_TOLERANCE)
    return found


def _voxel_weight(step: Step, chunk: _Chunk) -> torch.Tensor | None:
    """What the pixel term of a voxel is multiplied by: `(n, 1, v)` with softmax, else `(n or 1, C, v or 1)`."""
    if chunk.class_weight is None:
        return None
    if step.recipe.activation is Activation.SOFTMAX:
        return (chunk.class_weight * chunk.t).sum(1, keepdim=True)
    return chunk.class_weight if chunk.t.shape[1] > 1 else chunk.class_weight * chunk.t + 1 - chunk.t


def _focal_weight(step: Step, chunk: _Chunk, alpha: float) -> torch.Tensor:
    """The focal term's weight of foreground and background, shaped as :func:`_voxel_weight`'s."""
    foreground = 1 - chunk.t[:, :1] if step.recipe.activation is Activation.SOFTMAX else chunk.t
    return alpha * foreground + (1 - alpha) * (1 - foreground)


def _cross_entropy(step: Step, chunk: _Chunk) -> torch.Tensor:
    """`(n, C, v)`: with softmax by class, `-t log p`, 0 where t is 0; with sigmoid the binary one of each channel."""
    if chunk.log_p is None:
        return F.binary_cross_entropy_with_logits(chunk.logits, chunk.t, reduction="none")
    # -inf times 0: a class that a network masks out costs nothing where the label does not have it
    return (chunk.log_p * chunk.t).masked_fill_(chunk.t == 0, 0.0).neg_()


def _pixel_term(step: Step, chunk: _Chunk, rule: PixelRule) -> tuple[torch.Tensor, torch.Tensor | int]:
    """The term `(n, 1 or C, v)`, and what to divide its sum by: summed over voxels the same shape, or one number for all."""
    softmax = step.recipe.activation is Activation.SOFTMAX
    t = chunk.t
    term = _cross_entropy(step, chunk)
    if rule.term is PixelTerm.FOCAL:
        term *= (chunk.p - t).abs_().pow_(rule.focal_gamma)
        if rule.focal_alpha is not None:
            term *= _focal_weight(step, chunk, rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        term += torch.xlogy(t, t)
        if not softmax:
            term += torch.xlogy(1 - t, 1 - t)
    if softmax:
        term = term.sum(1, keepdim=True)
    weight = _voxel_weight(step, chunk)
    if weight is not None:
        term = weight * term
    if chunk.counted is not None:
        term = torch.where(chunk.counted, term, 0.0)
    if softmax and weight is not None:
        return term, weight
    return term, (t.shape[2] if chunk.counted is None else chunk.counted.to(t.dtype))


def _through_activation(step: Step, chunk: _Chunk, slope: torch.Tensor, by_pixel: torch.Tensor) -> torch.Tensor:
    """From the slope by p, which is used up, and the upstream slope of the pixel term, to the slope by the logits."""
    recipe, p, t = step.recipe, chunk.p, chunk.t
    if recipe.activation is Activation.NONE:
        return slope
    rule = recipe.pixel
    if rule is None:
        if recipe.activation is Activation.SIGMOID:
            return slope.mul_(p).mul_(1 - p)
        return slope.sub_((slope * p).sum(1, keepdim=True)).mul_(p)
    by_term = by_pixel[:, :1] if recipe.activation is Activation.SOFTMAX else by_pixel
    weight = _voxel_weight(step, chunk)
    if weight is not None:
        by_term = by_term * weight
    focus = None
    if rule.term is PixelTerm.FOCAL:
        if rule.focal_alpha is not None:
            by_term = by_term * _focal_weight(step, chunk, rule.focal_alpha)
        far = p - t
        sign, far = far.sign(), far.abs_()
        focus = far**rule.focal_gamma
        of_focus = sign.mul_(rule.focal_gamma).mul_(far.pow_(rule.focal_gamma - 1)).mul_(_cross_entropy(step, chunk))
        slope += of_focus.mul_(by_term)
    if recipe.activation is Activation.SIGMOID:
        direct = p - t
        if focus is not None:
            direct *= focus
        return slope.mul_(p).mul_(1 - p).add_(direct.mul_(by_term))
    by_log_p = t * by_term
    if focus is not None:
        by_log_p *= focus
    shared = by_log_p.sum(1, keepdim=True).sub_((slope * p).sum(1, keepdim=True))
    return slope.add_(shared).mul_(p).sub_(by_log_p)
