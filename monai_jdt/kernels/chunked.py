"""The kernel of torch operations on chunks of voxels that stay near the cores, so that no temporary is as large as the logits.

Forward sums chunk after chunk; backward computes each chunk's predictions again and writes its part of the gradient. With U the
slope of a voxel's share of the loss by p, and v that by log p, the slope by the logits z is

    softmax:  v + p (U - sum_c p U - sum_c v)        sigmoid:  U p (1 - p) + (that of the pixel term)

Temporaries of a chunk's size are written over and over again into the same memory: fresh memory costs more than the arithmetic.
A label's choices are made for voxels, not for each class, where they can: on a CPU, torch makes choices one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn import functional as F

from monai_jdt.checks import RANGE_TOLERANCE, SUM_TOLERANCE
from monai_jdt.definitions import Activation, LabelForm, PixelRule, PixelTerm
from monai_jdt.kernels.labels import read_label
from monai_jdt.kernels.memory import ask_for_huge_pages, claim
from monai_jdt.kernels.operators import Step
from monai_jdt.kernels.rows import Row

#: Logits in a chunk.
_LARGEST = 2**18
#: Below it, the time goes into calling operations.
_SMALLEST = 2**13
#: So many channels are added to each other faster than torch sums over them.
_FEW = 7
#: A chunk's share of all logits: its temporaries, five with a dense label and the cross-entropy, else up to ten, stay below a tenth.
_LARGE_SHARE, _SMALL_SHARE = 1 / 56, 1 / 128


def chunked_sums(step: Step) -> torch.Tensor:
    """The sums of a step.

    Args:
        step: logits, label and what to sum.

    Returns:
        `(9, N, C)`; see :class:`monai_jdt.kernels.rows.Row`.
    """
    rows = torch.zeros((len(Row), *step.logits.shape[:2]), dtype=torch.float64)
    entropy = step.recipe.pixel is not None
    scratch = _Scratch(step)
    for images, parts in _chunks(step):
        found = _Found.nothing_yet(len(parts), step.logits[images])
        scratch.looking = True
        for number, voxels in enumerate(parts):
            _look(step, _read(step, images, voxels, scratch, entropy), scratch, found.of(number))
        _join(step, found, rows[:, images])
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
    ask_for_huge_pages(result)
    claim(result, 0, result.numel() * result.element_size())
    tp, fp, fn, by_pixel = (upstream[row].unsqueeze(2) for row in (Row.TP, Row.FP, Row.FN, Row.PIXEL))
    below, above = tp - fn, fp
    focal = step.recipe.pixel is not None and step.recipe.pixel.term is PixelTerm.FOCAL
    scratch = _Scratch(step)
    for images, parts in _chunks(step):
        for voxels in parts:
            chunk = _read(step, images, voxels, scratch, focal)
            p, t = chunk.p, chunk.t
            if step.recipe.norm == 1:
                # 0, 1/2 or 1; lerp is exact at its ends, however far they are from each other
                is_below = torch.sub(t, p, out=scratch.take("second", p)).sign_().add_(1).mul_(0.5)
                slope = torch.lerp(above[images], below[images], is_below, out=scratch.take("first", p))
            else:
                slope = torch.sub(p, t, out=scratch.take("first", p)).mul_((fp + fn)[images]).addcmul_(t, tp[images])
            slope = _through_activation(step, chunk, slope, by_pixel[images], scratch)
            result[images, :, voxels] = slope if chunk.counted is None else torch.where(chunk.counted, slope, 0.0)
    return result


#: Whose extremes are kept: of the label, of its sum over channels, of the prediction.
_LABEL, _LABEL_SUM, _PREDICTION = range(3)


class _Found(NamedTuple):
    """What is found in chunks of the same images, a chunk in each first index; made before the first is read.

    A small tensor that is kept while a chunk's temporaries come and go holds memory beside it back from being used again.
    """

    #: `(chunks, 6, n, C)`, as the first rows of :class:`monai_jdt.kernels.rows.Row`
    sums: torch.Tensor
    #: `(chunks, 3, n, C)`
    lowest: torch.Tensor
    highest: torch.Tensor

    @classmethod
    def nothing_yet(cls, chunks: int, logits: torch.Tensor) -> _Found:
        shape = logits.shape[:2]
        dtype = torch.promote_types(logits.dtype, torch.float32)
        lowest = torch.full((chunks, 3, *shape), torch.inf, dtype=dtype)
        return cls(torch.zeros((chunks, Row.COUNTED + 1, *shape), dtype=dtype), lowest, -lowest)

    def of(self, number: int) -> _Found:
        """Views of one chunk's share."""
        return _Found(self.sums[number], self.lowest[number], self.highest[number])


def _look(step: Step, chunk: _Chunk, scratch: _Scratch, found: _Found) -> None:
    """Write down what is found in a chunk."""
    recipe, p, t, (sums, lowest, highest) = step.recipe, chunk.p, chunk.t, found
    sums[Row.COUNTED] = p.shape[2] if chunk.counted is None else chunk.counted.sum(2)
    lowest[_LABEL], highest[_LABEL] = chunk.raw.amin(2), chunk.raw.amax(2)
    if scratch.looking:
        lowest[_PREDICTION], highest[_PREDICTION] = p.amin(2), p.amax(2)
        # an activation's values need no check
        scratch.looking = recipe.activation is Activation.NONE or not bool((highest[_PREDICTION] > recipe.threshold).all())
    # with softmax, the sum of a voxel's label
    label = scratch.over_channels("label", t) if recipe.activation is Activation.SOFTMAX else None
    if recipe.label.form is LabelForm.DENSE and label is not None:
        total = label if chunk.raw is t else scratch.over_channels("raw_label", chunk.raw)
        if chunk.counted is not None:
            total = torch.where(chunk.counted, total, 1.0)
        # on a dimension, aminmax is ten times slower than both
        lowest[_LABEL_SUM], highest[_LABEL_SUM] = total.amin(2), total.amax(2)
    if recipe.norm == 1:
        both = torch.minimum(p, t, out=scratch.take("first", p))
        sums[Row.TP] = both.sum(2)
        sums[Row.FP] = torch.sub(p, both, out=scratch.take("second", p)).sum(2)
        sums[Row.FN] = torch.sub(t, both, out=both).sum(2)
    else:
        sums[Row.TP] = torch.mul(p, t, out=scratch.take("first", p)).sum(2)
        sums[Row.FP] = torch.sub(p, t, out=scratch.take("first", p)).square_().sum(2) / 2
        sums[Row.FN] = sums[Row.FP]
    if recipe.pixel is not None:
        pixel, norm = _pixel_sums_of_chunk(step, chunk, recipe.pixel, label, sums[Row.COUNTED], scratch)
        sums[Row.PIXEL, :, : pixel.shape[1]], sums[Row.PIXEL_NORM, :, : norm.shape[1]] = pixel, norm


def _join(step: Step, found: _Found, rows: torch.Tensor) -> None:
    """Write what is found in all chunks of some images to their rows, `(9, n, C)`."""
    recipe, lowest, highest = step.recipe, found.lowest.amin(0), found.highest.amax(0)
    rows[: Row.COUNTED + 1] = found.sums.sum(0, dtype=torch.float64)
    rows[Row.IN_LABEL] = ~(highest[_LABEL] <= recipe.threshold)
    rows[Row.IN_PREDICTION] = ~(highest[_PREDICTION] <= recipe.threshold)
    low, high = -0.99 * RANGE_TOLERANCE, 1 + 0.99 * RANGE_TOLERANCE
    # an index or a vote that is no class is NaN
    suspect = ~_within(lowest[_LABEL], highest[_LABEL], low, high)
    if recipe.label.form is LabelForm.DENSE and recipe.activation is Activation.SOFTMAX:
        off = 0.99 * SUM_TOLERANCE
        suspect |= ~_within(lowest[_LABEL_SUM], highest[_LABEL_SUM], 1 - off, 1 + off)
    if recipe.activation is Activation.NONE:
        suspect |= ~_within(lowest[_PREDICTION], highest[_PREDICTION], low, high)
    rows[Row.SUSPECT] = suspect


def _within(lowest: torch.Tensor, highest: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Bool; False where one is NaN."""
    return (lowest >= low) & (highest <= high)


class _Chunk(NamedTuple):
    """Some voxels of some images, each value `(n, C, v)` in the sums' dtype, 0 where it does not count."""

    logits: torch.Tensor
    p: torch.Tensor
    #: with softmax: logits less their largest, if asked for, and `(n, 1, v)` the sum of the exponentials of that
    shifted: torch.Tensor | None
    total: torch.Tensor | None
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
        #: Whether the predictions of the images at hand must be looked at.
        self.looking = True

    def take(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Uninitialised, in the shape of `like`, contiguous."""
        size = like.numel()
        if name not in self._memory or self._memory[name].numel() < size:
            self._memory[name] = torch.empty(size, dtype=self._dtype)
        return self._memory[name][:size].view(like.shape)

    def over_channels(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Sums `(n, 1, v)` of `(n, C, v)`, in the memory of that name."""
        # a product with a row of ones would be faster, and is in bfloat16 where the user lets torch's products be
        sums = self.take(name, values[:, :1])
        channels = values.shape[1]
        if channels == 1 or channels > _FEW:
            return torch.sum(values, 1, keepdim=True, out=sums)
        torch.add(values[:, :1], values[:, 1:2], out=sums)
        for channel in range(2, channels):
            sums += values[:, channel : channel + 1]
        return sums


def _chunks(step: Step) -> Iterator[tuple[slice, list[slice]]]:
    """Ranges of images, and ranges of their voxels: several whole images, or parts of one; none without voxels."""
    n, channels, voxels = step.logits.shape
    rule = step.recipe.pixel
    few = step.recipe.label.form is LabelForm.DENSE and step.mask is None and (rule is None or rule.term is PixelTerm.CROSS_ENTROPY)
    share = _LARGE_SHARE if few else _SMALL_SHARE
    size = int(min(max(step.logits.numel() * share, _SMALLEST), _LARGEST))
    images_at_once = max(size // max(channels * voxels, 1), 1)
    voxels_at_once = max(size // channels, 1)
    parts = [slice(start, min(start + voxels_at_once, voxels)) for start in range(0, voxels, voxels_at_once)]
    for first in range(0, n if parts else 0, images_at_once):
        yield slice(first, min(first + images_at_once, n)), parts


def _read(step: Step, images: slice, voxels: slice, scratch: _Scratch, entropy: bool) -> _Chunk:
    """`entropy`: whether the pixel term's own value will be asked for."""
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
    shifted = total = None
    if recipe.activation is Activation.SOFTMAX:
        largest = torch.amax(logits, 1, keepdim=True, out=scratch.take("total", logits[:, :1]))
        shifted = torch.sub(logits, largest, out=scratch.take("shifted", logits))
        p = torch.exp(shifted, out=scratch.take("p", logits) if entropy else shifted)
        total = scratch.over_channels("total", p)
        p /= total
        shifted = shifted if entropy else None
    elif recipe.activation is Activation.SIGMOID:
        p = torch.sigmoid(logits, out=scratch.take("p", logits))
    else:
        p = logits
    if counted is not None:
        p = torch.where(counted, p, 0.0)
        t = raw if t is raw else torch.where(counted, t, 0.0)
    class_weight = None if step.class_weight is None else step.class_weight.reshape(1, -1, 1)
    return _Chunk(logits, p, shifted, total, raw, t, counted, class_weight)


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
    if chunk.shifted is None:
        return F.binary_cross_entropy_with_logits(chunk.logits, chunk.t, reduction="none")
    by_class = torch.sub(_log_total(chunk, scratch), chunk.shifted, out=scratch.take("second", chunk.p)).mul_(chunk.t)
    if not torch.isfinite(by_class.sum()):
        # inf times 0: a class that a network masks out costs nothing where the label does not have it
        by_class.masked_fill_(chunk.t == 0, 0.0)
    return by_class


def _log_total(chunk: _Chunk, scratch: _Scratch) -> torch.Tensor:
    assert chunk.total is not None
    return torch.log(chunk.total, out=scratch.take("log_total", chunk.total))


def _plain_cross_entropy(chunk: _Chunk, label: torch.Tensor, scratch: _Scratch) -> torch.Tensor:
    """`(n, 1)`: with softmax and without weights, the sum over classes and voxels; `label` is the sum of t over classes."""
    assert chunk.shifted is not None
    by_class = torch.mul(chunk.shifted, chunk.t, out=scratch.take("first", chunk.p)).sum(2)
    if not torch.isfinite(by_class.sum()):
        return _cross_entropy(chunk, scratch).sum((1, 2)).unsqueeze(1)
    return _log_total(chunk, scratch).mul_(label).sum(2) - by_class.sum(1, keepdim=True)


def _pixel_sums_of_chunk(
    step: Step, chunk: _Chunk, rule: PixelRule, label: torch.Tensor | None, count: torch.Tensor, scratch: _Scratch
) -> tuple[torch.Tensor, torch.Tensor]:
    """The term and what to divide it by, summed over voxels: `(n, 1)` with softmax, else `(n, C)`."""
    t = chunk.t
    weight = _voxel_weight(step, chunk)
    if rule.term is PixelTerm.CROSS_ENTROPY and label is not None and weight is None:
        return _plain_cross_entropy(chunk, label, scratch), count[:, :1]
    term = _cross_entropy(chunk, scratch)
    if rule.term is PixelTerm.FOCAL:
        term *= torch.sub(chunk.p, t, out=scratch.take("first", t)).abs_().pow_(rule.focal_gamma)
        if rule.focal_alpha is not None:
            term *= _focal_weight(step, chunk, rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        term += torch.xlogy(t, t)
        if label is None:
            term += torch.xlogy(1 - t, 1 - t)
    if weight is not None:
        term *= weight
    if chunk.counted is not None:
        term = torch.where(chunk.counted, term, 0.0)
    total = term.sum(2)
    if label is not None:
        total = total.sum(1, keepdim=True)
        if weight is not None:
            return total, weight.sum(2)
        return total, count[:, :1]
    return total, count


def _through_activation(step: Step, chunk: _Chunk, slope: torch.Tensor, by_pixel: torch.Tensor, scratch: _Scratch) -> torch.Tensor:
    """From the slope by p, which is written over, and the upstream slope of the pixel term, to the slope by the logits."""
    recipe, p, t = step.recipe, chunk.p, chunk.t
    softmax, rule = recipe.activation is Activation.SOFTMAX, recipe.pixel
    if recipe.activation is Activation.NONE:
        return slope
    # what the pixel term of a voxel is multiplied by, the upstream slope included
    by_term = focus = None
    if rule is not None:
        by_term = by_pixel[:, :1] if softmax else by_pixel
        weight = _voxel_weight(step, chunk)
        if weight is not None:
            by_term = by_term * weight
        if rule.term is PixelTerm.FOCAL:
            if rule.focal_alpha is not None:
                by_term = by_term * _focal_weight(step, chunk, rule.focal_alpha)
            far = p - t
            side, far = far.sign(), far.abs_()
            focus = far**rule.focal_gamma
            rise = far.pow_(rule.focal_gamma - 1).mul_(rule.focal_gamma).mul_(side)
            # the small factor first: the cross-entropy alone may be near the largest float
            slope += rise.mul_(_cross_entropy(chunk, scratch).mul_(by_term))
            by_term = focus.mul_(by_term)
    slope.mul_(p)
    if not softmax:
        slope.addcmul_(slope, p, value=-1)
        return slope if by_term is None else slope.add_(torch.sub(p, t, out=scratch.take("second", p)).mul_(by_term))
    shared = scratch.over_channels("shared", slope)
    if by_term is None:
        return slope.addcmul_(p, shared, value=-1)
    if focus is None:
        shared -= scratch.over_channels("label", t).mul_(by_term)
    else:
        shared -= scratch.over_channels("label", torch.mul(t, by_term, out=scratch.take("second", p)))
    return slope.addcmul_(p, shared, value=-1).addcmul_(t, by_term, value=-1)
