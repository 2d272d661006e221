"""The kernel of torch operations on chunks of voxels that stay near the cores, so that no temporary is as large as the logits.

Forward sums chunk after chunk; backward computes each chunk's predictions again and writes its part of the gradient. With U the
slope of a voxel's share of the loss by p, and v that by log p, the slope by the logits z is

    softmax:  v + p (U - sum_c p U - sum_c v)        sigmoid:  U p (1 - p) + (that of the pixel term)

Temporaries of a chunk's size are written over and over again into the same memory: fresh memory costs more than the arithmetic.
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

#: Logits in a chunk.
_LARGEST = 2**16
#: Below it, the time goes into calling operations.
_SMALLEST = 2**13
#: A chunk's share of all logits: its temporaries, about ten, stay below a tenth of them.
_SHARE = 1 / 128


def chunked_sums(step: Step) -> torch.Tensor:
    """The sums of a step.

    Args:
        step: logits, label and what to sum.

    Returns:
        `(9, N, C)`; see :class:`monai_jdt.kernels.rows.Row`.
    """
    rows = torch.zeros((len(Row), *step.logits.shape[:2]), dtype=torch.float64)
    scratch = _Scratch(step)
    for images, voxels in _chunks(step):
        by_row = _sums_of_chunk(step, _read(step, images, voxels, scratch), scratch)
        like = by_row[Row.TP]
        nothing = torch.zeros_like(like)
        rows[:, images] += torch.stack([by_row[row].to(like.dtype).expand_as(like) if row in by_row else nothing for row in Row])
    if step.recipe.activation is Activation.SOFTMAX:
        # one pixel term for all channels, which the stack has repeated
        rows[[Row.PIXEL, Row.PIXEL_NORM], :, 1:] = 0
    return rows.to(step.dtype)


def chunked_gradient(step: Step, upstream: torch.Tensor) -> torch.Tensor:
    """The gradient of `(upstream * sums).sum()` by the logits.

    Args:
        step: as for :func:`chunked_sums`.
        upstream: `(4, N, C)`, for the rows TP, FP, FN, PIXEL.

    Returns:
        As the logits, in shape and dtype.
    """
    result = torch.empty_like(step.logits)
    tp, fp, fn, by_pixel = (upstream[row].unsqueeze(2) for row in (Row.TP, Row.FP, Row.FN, Row.PIXEL))
    scratch = _Scratch(step)
    for images, voxels in _chunks(step):
        chunk = _read(step, images, voxels, scratch)
        p, t = chunk.p, chunk.t
        if step.recipe.norm == 1:
            # fp where p > t, tp - fn where p < t, the mean of the two at p = t; lerp is exact at its ends
            is_below = torch.sub(t, p, out=scratch.take("second", p)).sign_().add_(1).mul_(0.5)
            slope = torch.lerp(fp[images], (tp - fn)[images], is_below, out=scratch.take("first", p))
        else:
            slope = torch.sub(p, t, out=scratch.take("first", p)).mul_((fp + fn)[images]).addcmul_(t, tp[images])
        slope = _through_activation(step, chunk, slope, by_pixel[images], scratch)
        result[images, :, voxels] = slope if chunk.counted is None else torch.where(chunk.counted, slope, 0.0)
    return result


def _sums_of_chunk(step: Step, chunk: _Chunk, scratch: _Scratch) -> dict[Row, torch.Tensor]:
    """Each row's sums over the chunk, `(n, C)` or `(n, 1)`; those that are all 0 may be missing."""
    recipe, p, t = step.recipe, chunk.p, chunk.t
    lowest, highest, highest_p = chunk.raw.amin(2), chunk.raw.amax(2), p.amax(2)
    rows = {
        Row.IN_LABEL: ~(highest <= recipe.threshold),
        Row.IN_PREDICTION: ~(highest_p <= recipe.threshold),
        Row.COUNTED: highest_p.new_full((), p.shape[2]) if chunk.counted is None else chunk.counted.sum(2),
        Row.SUSPECT: _suspect(step, chunk, lowest, highest, highest_p),
    }
    if recipe.norm == 1:
        both = torch.minimum(p, t, out=scratch.take("first", p))
        rows[Row.TP] = both.sum(2)
        rows[Row.FP] = torch.sub(p, both, out=scratch.take("second", p)).sum(2)
        rows[Row.FN] = torch.sub(t, both, out=both).sum(2)
    else:
        rows[Row.TP] = torch.mul(p, t, out=scratch.take("first", p)).sum(2)
        rows[Row.FP] = rows[Row.FN] = torch.sub(p, t, out=scratch.take("first", p)).square_().sum(2) / 2
    if recipe.pixel is not None:
        rows[Row.PIXEL], rows[Row.PIXEL_NORM] = _pixel_sums_of_chunk(step, chunk, recipe.pixel, rows[Row.COUNTED], scratch)
    return rows


class _Chunk(NamedTuple):
    """Some voxels of some images, each value `(n, C, v)` in the sums' dtype, 0 where it does not count."""

    logits: torch.Tensor
    p: torch.Tensor
    #: with softmax and a pixel term; may be written over
    log_p: torch.Tensor | None
    #: before and after label smoothing
    raw: torch.Tensor
    t: torch.Tensor
    #: bool, `(n, 1 or C, v)`; None: all
    counted: torch.Tensor | None
    #: `(1, C, 1)`
    class_weight: torch.Tensor | None


class _Scratch:
    """Memory for temporaries, by name; a name taken again is the same memory."""

    def __init__(self, step: Step) -> None:
        self._memory: dict[str, torch.Tensor] = {}
        self._dtype = step.dtype
        votes = step.recipe.label.form is LabelForm.VOTES and step.recipe.label.ignore_index is None
        #: Whether every rater speaks at every voxel.
        self.all_speak = votes and step.rater_weights is not None and bool((step.rater_weights > 0).all())

    def take(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Uninitialised, in the shape of `like`, contiguous."""
        size = like.numel()
        if name not in self._memory or self._memory[name].numel() < size:
            self._memory[name] = torch.empty(size, dtype=self._dtype)
        return self._memory[name][:size].view(like.shape)


def _chunks(step: Step) -> Iterator[tuple[slice, slice]]:
    """Ranges of images and of voxels: several whole images, or a part of one."""
    n, channels, voxels = step.logits.shape
    size = int(min(max(step.logits.numel() * _SHARE, _SMALLEST), _LARGEST))
    images_at_once = max(size // max(channels * voxels, 1), 1)
    voxels_at_once = max(size // channels, 1)
    for first in range(0, n, images_at_once):
        for start in range(0, voxels, voxels_at_once):
            yield slice(first, min(first + images_at_once, n)), slice(start, min(start + voxels_at_once, voxels))


def _read(step: Step, images: slice, voxels: slice, scratch: _Scratch) -> _Chunk:
    recipe = step.recipe
    logits = step.logits[images, :, voxels].to(step.dtype)
    weights = None if step.rater_weights is None else step.rater_weights[images]
    raw, counted = read_label(step.label[images, :, voxels], logits.shape[1], recipe, weights, step.dtype)
    if scratch.all_speak:
        counted = None
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
        shifted = torch.sub(logits, logits.amax(1, keepdim=True), out=scratch.take("log_p", logits))
        p = torch.exp(shifted, out=scratch.take("p", logits))
        total = p.sum(1, keepdim=True)
        p /= total
        log_p = None if recipe.pixel is None else shifted.sub_(total.log_())
    elif recipe.activation is Activation.SIGMOID:
        p = torch.sigmoid(logits, out=scratch.take("p", logits))
    else:
        p = logits
    if counted is not None:
        p = torch.where(counted, p, 0.0)
        t = torch.where(counted, t, 0.0)
    return _Chunk(logits, p, log_p, raw, t, counted, None if step.class_weight is None else step.class_weight.reshape(1, -1, 1))


def _suspect(step: Step, chunk: _Chunk, lowest: torch.Tensor, highest: torch.Tensor, highest_p: torch.Tensor) -> torch.Tensor:
    """Bool `(n, C)`; the bounds of the value checks, a little tighter."""
    # an index or a vote that is no class is NaN
    found = ~((highest <= 1 + 0.99 * RANGE_TOLERANCE) & (lowest >= -0.99 * RANGE_TOLERANCE))
    if step.recipe.label.form is LabelForm.DENSE and step.recipe.activation is Activation.SOFTMAX:
        total = chunk.raw.sum(1, keepdim=True)
        if chunk.counted is not None:
            total = torch.where(chunk.counted, total, 1.0)
        # on a dimension, aminmax is ten times slower than both
        fewest, most = total.amin(2), total.amax(2)
        found |= ~((most <= 1 + 0.99 * SUM_TOLERANCE) & (fewest >= 1 - 0.99 * SUM_TOLERANCE))
    if step.recipe.activation is Activation.NONE:
        found |= (highest_p > 1 + 0.99 * RANGE_TOLERANCE) | (chunk.p.amin(2) < -0.99 * RANGE_TOLERANCE)
    return found


def _voxel_weight(step: Step, chunk: _Chunk) -> torch.Tensor | None:
    """What the pixel term of a voxel is multiplied by: `(n, 1, v)` with softmax, else `(n or 1, C, v or 1)`; None: 1."""
    if chunk.class_weight is None:
        return None
    if step.recipe.activation is Activation.SOFTMAX:
        return (chunk.class_weight * chunk.t).sum(1, keepdim=True)
    return chunk.class_weight if chunk.t.shape[1] > 1 else chunk.class_weight * chunk.t + 1 - chunk.t


def _focal_weight(step: Step, chunk: _Chunk, alpha: float) -> torch.Tensor:
    """The focal term's weight of foreground and background, shaped as :func:`_voxel_weight`'s."""
    foreground = 1 - chunk.t[:, :1] if step.recipe.activation is Activation.SOFTMAX else chunk.t
    return alpha * foreground + (1 - alpha) * (1 - foreground)


def _cross_entropy(chunk: _Chunk, scratch: _Scratch) -> torch.Tensor:
    """`(n, C, v)`: with softmax by class, `-t log p`, 0 where t is 0; with sigmoid the binary one of each channel."""
    if chunk.log_p is None:
        return F.binary_cross_entropy_with_logits(chunk.logits, chunk.t, reduction="none")
    by_class = torch.mul(chunk.log_p, chunk.t, out=scratch.take("second", chunk.p))
    if not torch.isfinite(by_class.sum()):
        # -inf times 0: a class that a network masks out costs nothing where the label does not have it
        by_class.masked_fill_(chunk.t == 0, 0.0)
    return by_class.neg_()


def _pixel_sums_of_chunk(
    step: Step, chunk: _Chunk, rule: PixelRule, count: torch.Tensor, scratch: _Scratch
) -> tuple[torch.Tensor, torch.Tensor]:
    """The term and what to divide it by, summed over voxels: `(n, 1)` with softmax, else `(n, C)`."""
    softmax = step.recipe.activation is Activation.SOFTMAX
    t = chunk.t
    term = _cross_entropy(chunk, scratch)
    if rule.term is PixelTerm.FOCAL:
        term *= torch.sub(chunk.p, t, out=scratch.take("first", t)).abs_().pow_(rule.focal_gamma)
        if rule.focal_alpha is not None:
            term *= _focal_weight(step, chunk, rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        term += torch.xlogy(t, t)
        if not softmax:
            term += torch.xlogy(1 - t, 1 - t)
    weight = _voxel_weight(step, chunk)
    if weight is not None:
        term *= weight
    if chunk.counted is not None:
        term = torch.where(chunk.counted, term, 0.0)
    total = term.sum(2)
    if softmax:
        total = total.sum(1, keepdim=True)
        if weight is not None:
            return total, weight.sum(2)
    return total, count


def _through_activation(step: Step, chunk: _Chunk, slope: torch.Tensor, by_pixel: torch.Tensor, scratch: _Scratch) -> torch.Tensor:
    """From the slope by p, which is written over, and the upstream slope of the pixel term, to the slope by the logits."""
    recipe, p, t = step.recipe, chunk.p, chunk.t
    softmax, rule = recipe.activation is Activation.SOFTMAX, recipe.pixel
    if recipe.activation is Activation.NONE:
        return slope
    by_log_p = None
    direct = None
    if rule is not None:
        by_term = by_pixel[:, :1] if softmax else by_pixel
        weight = _voxel_weight(step, chunk)
        if weight is not None:
            by_term = by_term * weight
        focus = None
        if rule.term is PixelTerm.FOCAL:
            if rule.focal_alpha is not None:
                by_term = by_term * _focal_weight(step, chunk, rule.focal_alpha)
            far = p - t
            side, far = far.sign(), far.abs_()
            focus = far**rule.focal_gamma
            rise = far.pow_(rule.focal_gamma - 1).mul_(rule.focal_gamma).mul_(side)
            # the small factor first: the cross-entropy alone may be near the largest float
            slope += rise.mul_(_cross_entropy(chunk, scratch).mul_(by_term))
        if softmax:
            own = by_log_p = torch.mul(t, by_term, out=scratch.take("own", t))
        else:
            own = direct = torch.sub(p, t, out=scratch.take("own", t)).mul_(by_term)
        if focus is not None:
            own *= focus
    if not softmax:
        slope.mul_(p).addcmul_(slope, p, value=-1)
        return slope if direct is None else slope.add_(direct)
    shared = torch.mul(slope, p, out=scratch.take("second", t)).sum(1, keepdim=True).neg_()
    if by_log_p is None:
        return slope.add_(shared).mul_(p)
    return slope.add_(shared.add_(by_log_p.sum(1, keepdim=True))).mul_(p).sub_(by_log_p)
