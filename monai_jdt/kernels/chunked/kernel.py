"""The kernel of torch operations on chunks of voxels that stay near the cores, so that no temporary is as large as the logits.

Forward sums chunk after chunk; backward computes each chunk's predictions again and writes its part of the gradient. With U the
slope of a voxel's share of the loss by p, and v that by log p, the slope by the logits z is

    softmax:  v + p (U - sum_c p U - sum_c v)        sigmoid:  U p (1 - p) + (that of the pixel term)

Temporaries of a chunk's size are written over and over again into the same memory: fresh memory costs more than the arithmetic. No
class of a voxel is chosen or compared as a bool: on a CPU, torch does that number by number, and the rest in vectors.
"""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from monai_jdt.checks import RANGE_TOLERANCE, SUM_TOLERANCE
from monai_jdt.definitions import Activation, LabelForm, PixelRule, PixelTerm
from monai_jdt.kernels.chunked.chunks import VoxelChunk, chunk_views, read_chunk
from monai_jdt.kernels.chunked.scratch import ChunkView, Scratch
from monai_jdt.kernels.eager import LINEAR_SOFTPLUS, distance, pixel_term, sure_of
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.rows import CAUTION, Row

#: Share of errors (fp + fn) in what is right (tp), or mean pixel term of a voxel, below which a chunk is summed by the definition. From
#: there on a rounding of 2 ** -24 in each p is more than 2 ** -14 of the errors.
_SURE = 2**-10
#: Largest slope by a logit, as a share of the largest upstream slope, of images whose gradient is the definition's.
_SURE_GRADIENT = 2**-6


def chunked_sums(given: KernelInput) -> torch.Tensor:
    """The sums of a step.

    Args:
        given: logits, label and what to sum, on the CPU.

    Returns:
        `(9, N, C)` in `given.dtype`; see :class:`monai_jdt.kernels.rows.Row`. Chunks are summed in the dtype of the sums and added to
        each other in float64, so that the number of chunks of a large image costs no digits.
    """
    rows = np.zeros((len(Row), *given.logits.shape[:2]))
    entropy = given.recipe.pixel is not None
    scratch = Scratch(given.dtype, given.logits.shape[1])
    for views in chunk_views(given):
        found = _Found(given, views[0])
        for view in views:
            chunk = read_chunk(given, view, scratch, entropy)
            _look(given, chunk, scratch, found)
            _look_closely(given, chunk, found)
            found.add()
        _join(given, found, rows[:, views[0].images])
    return torch.from_numpy(rows).to(given.dtype)


def chunked_gradient(given: KernelInput, upstream: torch.Tensor) -> torch.Tensor:
    """The gradient of `(upstream * sums).sum()` by the logits.

    Args:
        given: as for :func:`chunked_sums`.
        upstream: `(4, N, C)`, for the rows TP, FP, FN, PIXEL.

    Returns:
        As the logits, in shape and dtype. 0 where a voxel does not count.
    """
    result = torch.empty_like(given.logits)
    focal = given.recipe.pixel is not None and given.recipe.pixel.term is PixelTerm.FOCAL
    scratch = Scratch(given.dtype, given.logits.shape[1])
    for views in chunk_views(given):
        slopes = _Slopes.of(given, upstream[:, views[0].images])
        sure = given.recipe.activation is not Activation.NONE
        for view in views:
            chunk, into = read_chunk(given, view, scratch, focal), view.of(result)
            _write_gradient(given, chunk, slopes, scratch, into)
            sure = sure and _is_short_of_digits(given, chunk, into, upstream[:, view.images])
        # The second way is taken only if all chunks of these images are sure: near a threshold, chunks of one image would otherwise
        # get gradients of two ways, and whether they do would depend on where chunks begin.
        for view in views if sure else []:
            chunk = read_chunk(given, view, scratch, focal)
            left = sure_of(chunk.logits, chunk.p, given.recipe.activation)
            _write_gradient(given, chunk._replace(sure=left), slopes, scratch, view.of(result))
    return result


def _is_short_of_digits(given: KernelInput, chunk: VoxelChunk, slope: torch.Tensor, upstream: torch.Tensor) -> bool:
    """Return whether a rounding of p near 1, times an upstream slope, is more than 2 ** -18 of the largest slope by a logit."""
    lowest, highest = slope.aminmax()
    largest = upstream.abs()
    if given.class_weight is not None:
        largest[Row.PIXEL] *= given.class_weight.max().clamp(min=1)
    if not torch.maximum(-lowest, highest) < _SURE_GRADIENT * largest.amax():
        return False
    # With sigmoid, predictions near 0 have all their digits.
    return given.recipe.activation is Activation.SOFTMAX or bool(chunk.logits.amax() > 0)


def _write_gradient(given: KernelInput, chunk: VoxelChunk, slopes: _Slopes, scratch: Scratch, into: torch.Tensor) -> None:
    at_once = chunk.kept is None and into.dtype == given.dtype
    by_p = _slope_by_p(given, chunk, slopes, scratch)
    slope = _through_activation(given, chunk, by_p, slopes.pixel, scratch, into if at_once else None)
    if slope is not into:
        into.copy_(slope if chunk.kept is None else scratch.keep("first", slope, chunk.kept))


#: Indices of the tracked minima and maxima: of the label, of its sum over channels, of the prediction.
_LABEL, _LABEL_SUM, _PREDICTION = range(3)


class _Found:
    """The sums and extremes of chunks of the same images. It is made before the first is read.

    A small tensor that is kept while a chunk's temporaries come and go holds memory beside it back from being used again.

    Args:
        given: what is read.
        view: one of the chunks; all have its images and slices.
    """

    def __init__(self, given: KernelInput, view: ChunkView) -> None:
        images = len(range(given.logits.shape[0])[view.images])
        shape = (images * view.slices, given.logits.shape[1])
        self._by_slice = (images, view.slices)
        sums = torch.zeros((Row.COUNTED + 1, *shape), dtype=given.dtype, device="cpu")
        lowest = torch.full((3, *shape), torch.inf, dtype=given.dtype, device="cpu")
        highest = torch.full((3, *shape), -torch.inf, dtype=given.dtype, device="cpu")
        #: Of the chunk at hand: a sum for each row of `Row` up to COUNTED, and an extreme for each of the three above; `(n, C)` each.
        self.sums, self.lowest, self.highest = sums.unbind(), lowest.unbind(), highest.unbind()
        #: The same memory seen by numpy, whose calls on a few numbers take less time than torch's.
        self.sum_numbers, self.lowest_numbers, self.highest_numbers = sums.numpy(), lowest.numpy(), highest.numpy()
        self._all_sums = np.zeros(self.sum_numbers.shape)
        self._all_lowest, self._all_highest = self.lowest_numbers.copy(), self.highest_numbers.copy()
        #: Whether the extremes of the predictions still matter: two reductions of a chunk, which end when every channel of every image
        #: has a prediction above the threshold.
        self.looking = True

    def add(self) -> None:
        """Add the chunk at hand to those before it."""
        self._all_sums += self.sum_numbers
        np.minimum(self._all_lowest, self.lowest_numbers, out=self._all_lowest)
        np.maximum(self._all_highest, self.highest_numbers, out=self._all_highest)

    def by_image(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return sums, lowest and highest of all chunks, `(6 or 3, images, C)`."""
        every: tuple[np.ndarray, ...] = (self._all_sums, self._all_lowest, self._all_highest)
        sums, lowest, highest = (each.reshape((len(each), *self._by_slice, -1)) for each in every)
        return sums.sum(2), lowest.min(2), highest.max(2)


def _look(given: KernelInput, chunk: VoxelChunk, scratch: Scratch, found: _Found) -> None:
    """Write down what is found in a chunk."""
    recipe, p, t = given.recipe, chunk.p, chunk.t

    def extremes(what: int, values: torch.Tensor) -> None:
        # along a dimension, torch's aminmax takes ten times as long as amin and amax together
        lowest, highest = found.lowest[what], found.highest[what]
        # a sum over channels has one channel; `out=` would resize the row that it is meant to fill, with a warning
        if values.shape[1] == lowest.shape[1]:
            torch.amin(values, 2, out=lowest)
            torch.amax(values, 2, out=highest)
        else:
            lowest.copy_(values.amin(2))
            highest.copy_(values.amax(2))

    def summed(row: Row, values: torch.Tensor) -> None:
        torch.sum(values, 2, out=found.sums[row])

    if chunk.counted is None:
        found.sums[Row.COUNTED].fill_(p.shape[2])
    else:
        found.sums[Row.COUNTED].copy_(chunk.counted.sum(2))
    extremes(_LABEL, chunk.raw)
    if found.looking:
        extremes(_PREDICTION, p)
        # Predictions that an activation made lie in [0, 1] and need no check of their range. What was found stays where it is, and
        # each later chunk adds it again, which changes neither a minimum nor a maximum.
        found.looking = recipe.activation is Activation.NONE or not (found.highest_numbers[_PREDICTION] > recipe.threshold).all()
    # with softmax, the sum of a voxel's label
    label = scratch.over_channels("sum_of_t", t) if recipe.activation is Activation.SOFTMAX else None
    if recipe.label.form is LabelForm.DENSE and label is not None:
        total = label if chunk.raw is t else scratch.over_channels("sum_of_raw", chunk.raw)
        if chunk.counted is not None:
            # the label is 0 where it does not count, a sum that the check would suspect
            total = torch.where(chunk.counted, total, 1.0)
        extremes(_LABEL_SUM, total)
    if recipe.norm == 1:
        both = torch.minimum(p, t, out=scratch.take("first", p.shape))
        summed(Row.TP, both)
        summed(Row.FP, torch.sub(p, both, out=scratch.take("second", p.shape)))
        summed(Row.FN, torch.sub(t, both, out=both))
    else:
        summed(Row.TP, torch.mul(p, t, out=scratch.take("first", p.shape)))
        summed(Row.FP, torch.sub(p, t, out=scratch.take("first", p.shape)).square_().mul_(0.5))
        found.sums[Row.FN].copy_(found.sums[Row.FP])
    if recipe.pixel is not None:
        pixel, norm = _pixel_sums_of_chunk(given, chunk, recipe.pixel, label, found.sums[Row.COUNTED], scratch)
        found.sums[Row.PIXEL][:, : pixel.shape[1]], found.sums[Row.PIXEL_NORM][:, : norm.shape[1]] = pixel, norm


def _look_closely(given: KernelInput, chunk: VoxelChunk, found: _Found) -> None:
    """Replace the sums of a chunk by those of the definition where rounding would show. They take three times as long.

    A prediction near 1 is off by up to 2 ** -24, up or down. Where errors are a share of `_SURE` of what is right, or less, a chunk's
    thousands of voxels no longer make up for it. Predictions that are given (no activation) have no further digits to find.
    """
    recipe, sums, numbers = given.recipe, found.sums, found.sum_numbers
    if recipe.activation is Activation.NONE:
        return
    small = (numbers[Row.FP] + numbers[Row.FN] < numbers[Row.TP] * _SURE).any()
    if recipe.pixel is not None:
        # with softmax, the pixel term of all channels is in the first
        channels = slice(1 if recipe.activation is Activation.SOFTMAX else None)
        small = small or (numbers[Row.PIXEL, :, channels] < numbers[Row.COUNTED, :, channels] * _SURE).any()
    if not small:
        return
    sure = sure_of(chunk.logits, chunk.p, recipe.activation)
    assert sure is not None
    far = distance(chunk.p, chunk.t, sure)
    if recipe.norm == 1:
        torch.sum(far.clamp(min=0), 2, out=sums[Row.FP])
        torch.sum(far.clamp(max=0).neg_(), 2, out=sums[Row.FN])
    else:
        torch.sum(far.square(), 2, out=sums[Row.FP]).mul_(0.5)
        sums[Row.FN].copy_(sums[Row.FP])
    if recipe.pixel is None:
        return
    term = pixel_term(chunk.logits, sure, far, chunk.t, recipe)
    weight = _voxel_weight(given, chunk)
    if weight is not None:
        term = term * weight
    if chunk.counted is not None:
        term = torch.where(chunk.counted, term, 0.0)
    total = term.sum(2)
    sums[Row.PIXEL][:, : total.shape[1]] = total


def _join(given: KernelInput, found: _Found, rows: np.ndarray) -> None:
    """Add what is found in all chunks of some images to their rows, `(9, n, C)`.

    Comparisons are written as `~(x <= threshold)` and not as `x > threshold`: NaN then counts as found, and as suspect.
    """
    recipe, (sums, lowest, highest) = given.recipe, found.by_image()
    rows[: Row.COUNTED + 1] += sums
    rows[Row.IN_LABEL] += ~(highest[_LABEL] <= recipe.threshold)
    rows[Row.IN_PREDICTION] += ~(highest[_PREDICTION] <= recipe.threshold)
    low, high = -CAUTION * RANGE_TOLERANCE, 1 + CAUTION * RANGE_TOLERANCE
    # an index or a vote that is an invalid class is NaN, which no range contains
    suspect = ~_within(lowest[_LABEL], highest[_LABEL], low, high)
    if recipe.label.form is LabelForm.DENSE and recipe.activation is Activation.SOFTMAX:
        off = CAUTION * SUM_TOLERANCE
        suspect |= ~_within(lowest[_LABEL_SUM], highest[_LABEL_SUM], 1 - off, 1 + off)
    if recipe.activation is Activation.NONE:
        suspect |= ~_within(lowest[_PREDICTION], highest[_PREDICTION], low, high)
    rows[Row.MAY_FAIL_CHECK] += suspect


def _within(lowest: np.ndarray, highest: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return bool, False where one is NaN."""
    return (lowest >= low) & (highest <= high)


def _voxel_weight(given: KernelInput, chunk: VoxelChunk) -> torch.Tensor | None:
    """Return the factor of a voxel's pixel term: `(n, 1, v)` with softmax, else `(n or 1, C, v or 1)`, or None for 1."""
    if chunk.class_weight is None:
        return None
    if given.recipe.activation is Activation.SOFTMAX:
        return (chunk.class_weight * chunk.t).sum(1, keepdim=True)
    return chunk.class_weight if chunk.t.shape[1] > 1 else chunk.class_weight * chunk.t + 1 - chunk.t


def _focal_weight(given: KernelInput, chunk: VoxelChunk, alpha: float) -> torch.Tensor:
    """The focal term's weight of foreground and background, shaped as :func:`_voxel_weight`'s."""
    foreground = 1 - chunk.t[:, :1] if given.recipe.activation is Activation.SOFTMAX else chunk.t
    return alpha * foreground + (1 - alpha) * (1 - foreground)


def _cross_entropy(chunk: VoxelChunk, scratch: Scratch) -> torch.Tensor:
    """Return `(n, C, v)`: with softmax `-t log p` of each class, 0 where t is 0, and with sigmoid the binary one of each channel."""
    if chunk.shifted is None:
        logits, t = chunk.logits, chunk.t
        if chunk.sure is not None:
            return t * F.softplus(-logits, threshold=LINEAR_SOFTPLUS) + (1 - t) * F.softplus(logits, threshold=LINEAR_SOFTPLUS)
        term = logits.abs().neg_().exp_().log1p_()
        return term.addcmul_(logits.clamp(min=0), 1 - t).addcmul_(logits.clamp(max=0), t, value=-1)
    by_class = torch.sub(_log_total(chunk, scratch), chunk.shifted, out=scratch.take("second", chunk.p.shape))
    if chunk.sure is not None:
        by_class = torch.where(chunk.sure.above_half, -torch.log1p(-chunk.sure.left), by_class)
    by_class *= chunk.t
    if not isfinite(by_class.sum()):
        # inf times 0: a class that a network masks out costs nothing where the label does not have it
        by_class.masked_fill_(chunk.t == 0, 0.0)
    return by_class


def _log_total(chunk: VoxelChunk, scratch: Scratch) -> torch.Tensor:
    """Return `(n, 1, v)`, the logarithm of the sum of the exponentials of `shifted`."""
    assert chunk.total is not None
    return torch.log(chunk.total, out=scratch.take("log_total", chunk.total.shape))


def _plain_cross_entropy(chunk: VoxelChunk, label: torch.Tensor, scratch: Scratch) -> torch.Tensor:
    """Return `(n, 1)`, the sum over classes and voxels, with softmax and without weights. `label` is the sum of t over classes."""
    assert chunk.shifted is not None
    # sum_c t_c (log total - shifted_c) = (sum_c t_c) log total - sum_c t_c shifted_c: one pass over the channels instead of three
    by_logits = torch.mul(chunk.shifted, chunk.t, out=scratch.take("first", chunk.p.shape)).sum((1, 2))
    if not isfinite(by_logits.sum()):
        # -inf times 0, as in `_cross_entropy`
        return _cross_entropy(chunk, scratch).sum((1, 2)).unsqueeze(1)
    return _log_total(chunk, scratch).mul_(label).sum(2).sub_(by_logits.unsqueeze(1))


def _pixel_sums_of_chunk(
    given: KernelInput, chunk: VoxelChunk, rule: PixelRule, label: torch.Tensor | None, count: torch.Tensor, scratch: Scratch
) -> tuple[torch.Tensor, torch.Tensor]:
    """The term and what to divide it by, summed over voxels: `(n, 1)` with softmax, else `(n, C)`."""
    t = chunk.t
    weight = _voxel_weight(given, chunk)
    if rule.term is PixelTerm.CROSS_ENTROPY and label is not None and weight is None:
        return _plain_cross_entropy(chunk, label, scratch), count[:, :1]
    term = _cross_entropy(chunk, scratch)
    if rule.term is PixelTerm.FOCAL:
        term *= torch.sub(chunk.p, t, out=scratch.take("first", t.shape)).abs_().pow_(rule.focal_gamma)
        if rule.focal_alpha is not None:
            term *= _focal_weight(given, chunk, rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        term += torch.xlogy(t, t)
        if label is None:
            term += torch.xlogy(1 - t, 1 - t)
    if weight is not None:
        term *= weight
    if chunk.kept is not None:
        term = scratch.keep("second", term, chunk.kept)
    total = term.sum(2)
    if label is not None:
        total = total.sum(1, keepdim=True)
        if weight is not None:
            return total, weight.sum(2)
        return total, count[:, :1]
    return total, count


class _Slopes(NamedTuple):
    """Upstream slopes of some images, `(n, C, 1)`."""

    tp: torch.Tensor
    #: with norm 1: of the two slopes, below (p < t) and above, the smaller; half of larger - smaller; the same with the sign that p - t
    #: has on the larger's side. The smaller and 0, 1/2 or 1 times the difference: the smaller is not lost beside a far larger one.
    smaller: torch.Tensor
    half: torch.Tensor
    signed_half: torch.Tensor
    #: with norm 2
    both: torch.Tensor
    pixel: torch.Tensor

    @classmethod
    def of(cls, given: KernelInput, upstream: torch.Tensor) -> _Slopes:
        """Return the slopes of `upstream`, `(4, n, C)`, in the dtype of the sums."""
        tp, fp, fn, pixel = upstream.to(given.dtype).numpy()[..., np.newaxis]
        below, above = tp - fn, fp
        is_below = np.abs(below) >= np.abs(above)
        half = np.where(is_below, below - above, above - below) / 2
        slopes = (tp, np.where(is_below, above, below), half, np.where(is_below, -half, half), fp + fn, pixel)
        return cls(*map(torch.from_numpy, slopes))


def _slope_by_p(given: KernelInput, chunk: VoxelChunk, slopes: _Slopes, scratch: Scratch) -> torch.Tensor:
    """Return the slope of the overlap by p, `(n, C, v)`, in the memory "first"."""
    p, t = chunk.p, chunk.t
    if given.recipe.norm == 1:
        # sign(p - t) is -1, 0 or 1, so that this is the slope below, the mean of both at a tie, and the slope above, without a choice
        slope = chunk.far(scratch.take("first", p.shape)).sign_()
        return slope.mul_(slopes.signed_half).add_(slopes.half).add_(slopes.smaller)
    slope = chunk.far(scratch.take("first", p.shape)).mul_(slopes.both)
    return slope.add_(torch.mul(t, slopes.tp, out=scratch.take("second", p.shape)))


def _through_activation(
    given: KernelInput, chunk: VoxelChunk, slope: torch.Tensor, by_pixel: torch.Tensor, scratch: Scratch, into: torch.Tensor | None
) -> torch.Tensor:
    """From the slope by p, which is written over, and the upstream slope of the pixel term, to the slope by the logits.

    The result is `into`, or else where the slope by p was.
    """
    recipe, p, t = given.recipe, chunk.p, chunk.t
    softmax, rule = recipe.activation is Activation.SOFTMAX, recipe.pixel
    if recipe.activation is Activation.NONE:
        return slope
    # what the pixel term of a voxel is multiplied by, the upstream slope included
    by_term = focus = None
    if rule is not None:
        by_term = by_pixel[:, :1] if softmax else by_pixel
        weight = _voxel_weight(given, chunk)
        if weight is not None:
            by_term = by_term * weight
        if rule.term is PixelTerm.FOCAL:
            if rule.focal_alpha is not None:
                by_term = by_term * _focal_weight(given, chunk, rule.focal_alpha)
            far = chunk.far(torch.empty_like(p))
            side, far = far.sign(), far.abs_()
            focus = far**rule.focal_gamma
            rise = far.pow_(rule.focal_gamma - 1).mul_(rule.focal_gamma).mul_(side)
            # the small factor first: the cross-entropy alone may be near the largest float
            slope += rise.mul_(_cross_entropy(chunk, scratch).mul_(by_term))
            by_term = focus.mul_(by_term)
    slope.mul_(p)
    if not softmax:
        if chunk.sure is None:
            slope.addcmul_(slope, p, value=-1)
        else:
            slope.mul_(chunk.sure.left)
        return slope if by_term is None else slope.add_(chunk.far(scratch.take("second", p.shape)).mul_(by_term))
    shared = scratch.over_channels("shared", slope)
    if by_term is None:
        return _balanced(chunk, slope.addcmul_(p, shared, value=-1))
    if focus is None:
        shared -= scratch.over_channels("sum_of_t", t).mul_(by_term)
    else:
        shared -= scratch.over_channels("sum_of_t", torch.mul(t, by_term, out=scratch.take("second", p.shape)))
    slope.addcmul_(p, shared, value=-1)
    return _balanced(chunk, torch.addcmul(slope, t, by_term, value=-1, out=slope if into is None else into))


def _balanced(chunk: VoxelChunk, slope: torch.Tensor) -> torch.Tensor:
    """Give the class near 1 the slope that the other classes, which have their digits, leave to it: the sum over classes is 0."""
    if chunk.sure is not None:
        near_one = chunk.sure.above_half
        slope.masked_fill_(near_one, 0.0)
        slope -= near_one * slope.sum(1, keepdim=True)
    return slope
