"""The kernel of small inputs: numpy's operations on blocks of voxels, and torch's for the activation.

A call of numpy takes a third of the time of one of torch, and a step on some thousand voxels is made of calls. The formulas are
those of :mod:`monai_jdt.kernels.chunked.kernel`, with the same ways for predictions that are nearly right.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import numpy as np
import torch

from monai_jdt.checks import RANGE_TOLERANCE, SUM_TOLERANCE
from monai_jdt.definitions import Activation, LabelForm, PixelRule, PixelTerm, VoxelRecipe
from monai_jdt.kernels.eager import Sure, distance, eager_voxel_sums, sure_of
from monai_jdt.kernels.kernel_input import KernelInput
from monai_jdt.kernels.numpy.blocks import Block, LastingMemory, memory_of_thread, places_of
from monai_jdt.kernels.rows import CAUTION, DIFFERENTIABLE_ROWS, Row

#: Share of errors (fp + fn) in what is right (tp), or mean pixel term of a voxel, below which images are summed by the definition.
_SURE = 2**-10
#: Largest slope by a logit, as a share of the largest upstream slope, of images whose gradient is computed more closely.
_SURE_GRADIENT = 2**-6

# The rows as numbers: an index that is an enum takes microseconds.
_TP, _FP, _FN, _PIXEL = int(Row.TP), int(Row.FP), int(Row.FN), int(Row.PIXEL)
_PIXEL_NORM, _COUNTED, _IN_LABEL, _IN_PREDICTION, _MAY_FAIL = map(int, list(Row)[4:])

_LOW, _HIGH, _OFF = -CAUTION * RANGE_TOLERANCE, 1 + CAUTION * RANGE_TOLERANCE, CAUTION * SUM_TOLERANCE
#: By the size of a number: the type of whole numbers with its bits, and the bits of the largest label that passes.
_BITS = {4: (np.uint32, int(np.float32(_HIGH).view(np.uint32))), 8: (np.uint64, int(np.float64(_HIGH).view(np.uint64)))}
#: `p - t`, if it is not 0, is beyond every slope after a multiplication by this.
_STEEP = {4: 2.0**126, 8: 2.0**1000}
#: A row is cut into parts that are added to each other first: the shortest part, and the most parts.
_FOLD, _MOST_FOLDS = 1024, 32
#: Factors `1 + e` whose product is taken before one logarithm: at most 2^32.
_FACTORS = 32
#: Voxels of a row from which that is worth its calls, and the mean logarithm from which the roundings of `1 + e` do not matter.
_MANY, _LARGE_TERM = 2048, 0.1
#: Most numbers that torch does not share among threads, less a few, in whole vectors.
_ON_ONE_CORE = 2**15 - 2**6


def numpy_sums(given: KernelInput, saved: list[torch.Tensor] | None = None) -> torch.Tensor:
    """The sums of a step.

    Args:
        given: logits, label and what to sum, on the CPU.
        saved: gets the predictions, and the label unless it is the caller's, of one block in which all voxels count, for the gradient.

    Returns:
        `(9, N, C)` in `given.dtype`; see :class:`monai_jdt.kernels.rows.Row`. Blocks are summed in the dtype of the sums and added to
        each other in float64.
    """
    rows = np.zeros((len(Row), *given.logits.shape[:2]))
    memory = memory_of_thread(given.dtype)
    with np.errstate(all="ignore"):
        for places in places_of(given):
            here = rows[:, places[0].images]
            saves = saved is not None and places[0].whole and _is_worth_saving(given)
            for place in places:
                block = Block(given, place, memory, LastingMemory(given.dtype) if saves else None)
                p = _add_sums(block, here)
                if saves and saved is not None and block.counted is None:
                    saved += [torch.from_numpy(p)] if block.is_callers_label else [torch.from_numpy(p), torch.from_numpy(block.t)]
            _bring_into_form(here, given)
            if _is_nearly_right(here, given.recipe):
                here[:DIFFERENTIABLE_ROWS] = 0
                for place in places:
                    _add_defined_sums(place.step(given), here)
        return torch.from_numpy(rows if given.dtype is torch.float64 else rows.astype(np.float32))


def numpy_gradient(given: KernelInput, upstream: torch.Tensor, *saved: torch.Tensor) -> torch.Tensor:
    """The gradient of `(upstream * sums).sum()` by the logits.

    Args:
        given: as for :func:`numpy_sums`.
        upstream: `(4, N, C)`, for the rows TP, FP, FN, PIXEL.
        saved: by :func:`numpy_sums`. It is only read, so that a second backward pass finds it.

    Returns:
        As the logits, in shape and dtype. 0 where a voxel does not count.
    """
    result = torch.empty_like(given.logits)
    memory = memory_of_thread(given.dtype)
    by_sums = upstream.detach().numpy()[..., np.newaxis]
    with np.errstate(all="ignore"):
        for places in places_of(given):
            here = by_sums[:, places[0].images]
            sure = given.recipe.activation is not Activation.NONE
            for place in places:
                sure = _write_block_gradient(Block(given, place, memory, saved=saved), here, place.of(result), sure, closely=False)
            # Only if all of these images are sure: which way is taken must not depend on where blocks begin.
            for place in places if sure else []:
                _write_block_gradient(Block(given, place, memory, saved=saved), here, place.of(result), sure, closely=True)
    return result


def _is_worth_saving(given: KernelInput) -> bool:
    """Return whether predictions and label of a step are what its gradient begins with, and take longer to compute than to save."""
    recipe = given.recipe
    if recipe.activation is Activation.NONE or (recipe.pixel is not None and recipe.pixel.term is PixelTerm.FOCAL):
        return False
    return given.mask is None and recipe.label.ignore_index is None


def _bring_into_form(rows: np.ndarray, given: KernelInput) -> None:
    """Bring the rows of the pixel term into the form of :class:`monai_jdt.kernels.rows.Row`."""
    if given.recipe.pixel is None:
        return
    np.negative(rows[_PIXEL], out=rows[_PIXEL])
    if given.recipe.activation is Activation.SOFTMAX:
        rows[_PIXEL, :, 0] = np.add.reduce(rows[_PIXEL], 1)
        rows[_PIXEL, :, 1:] = 0
        if given.class_weight is None:
            rows[_PIXEL_NORM, :, 0] = rows[_COUNTED, :, 0]
    else:
        rows[_PIXEL_NORM] = rows[_COUNTED]


def _add_sums(block: Block, rows: np.ndarray) -> np.ndarray:
    """Add what is found in a block to the rows of its images, `(9, n, C)`. Return the predictions.

    The row PIXEL holds the term of each class, negative, which :func:`_bring_into_form` brings into form.
    """
    recipe, memory, t = block.recipe, block.memory, block.t
    softmax, simple = recipe.activation is Activation.SOFTMAX, _has_simple_term(block)
    number = 3 if recipe.pixel is None or simple else 4
    _, parts, part_tensors = memory.take("parts", torch.Size((number, *block.shape)))
    # a simple term's memory is free again when the overlap is written
    term = None if recipe.pixel is None else part_tensors[_TP if simple else _PIXEL]
    p = _predictions(block, term, parts[_FP] if simple else None)
    rows[_COUNTED] += block.shape[2] if block.counted is None else np.add.reduce(block.counted, 2)
    _mark_what_is_found(block, p, rows)
    if simple:
        rows[_PIXEL] += _sum_of_simple_terms(block, parts[_FP], part_tensors[_TP])
    elif recipe.pixel is not None and term is not None:
        norm = _write_pixel_term(block, recipe.pixel, p, term)
        if norm is not None:
            rows[_PIXEL_NORM, :, :1] += norm
    if recipe.norm == 1:
        both = np.minimum(p, t, out=parts[_TP])
        np.subtract(p, both, out=parts[_FP])
        np.subtract(t, both, out=parts[_FN])
    else:
        np.multiply(p, t, out=parts[_TP])
        far = np.subtract(p, t, out=parts[_FP])
        np.multiply(far, far, out=far)
        np.multiply(far, far.dtype.type(0.5), out=far)
        parts[_FN] = far
    sums = _sum_of_rows(parts)
    if softmax and recipe.pixel is not None and not isfinite(sums[_PIXEL].sum()):
        # A class that a network masks out by -inf costs nothing where the label does not have it.
        np.copyto(parts[_PIXEL], 0, where=t == 0)
        sums = _sum_of_rows(parts)
    rows[:number] += sums
    return p


def _has_simple_term(block: Block) -> bool:
    """Return whether the pixel term is the plain cross-entropy of a sigmoid, whose sum needs no logarithm for each voxel."""
    recipe = block.recipe
    plain = recipe.pixel is not None and recipe.pixel.term is PixelTerm.CROSS_ENTROPY and block.class_weight is None
    return plain and recipe.activation is Activation.SIGMOID and block.shape[2] >= _MANY


def _sum_of_simple_terms(block: Block, factors: np.ndarray, small: torch.Tensor) -> np.ndarray:
    """Return the sum of `t log p + (1 - t) log(1 - p)`, `(n, C)`: that of the two parts of :func:`_log_likelihood`.

    Args:
        block: the voxels.
        factors: `1 + e^-|z|`, z being the logit, as :func:`_predictions` has written it; 1 where a voxel does not count.
        small: `e^-|z|`, or 0. It is written over.
    """
    logarithms = _sum_of_logarithms(factors)
    if (logarithms < _LARGE_TERM * block.shape[2]).any():
        _elementwise(torch.log1p, small, small)
        logarithms = _sum_of_rows(small.numpy())
    part = small.numpy()
    np.subtract(block.t, block.memory.take("first", block.shape).array, out=part)
    part *= block.logits.numpy()
    sums: np.ndarray = _sum_of_rows(part)
    sums -= logarithms
    return sums


def _sum_of_logarithms(factors: np.ndarray) -> np.ndarray:
    """Return the sums of the logarithms over the last axis: those of products, of which there are fewer.

    Args:
        factors: from 1 to 2.
    """
    *outer, number = factors.shape
    size = number // _FACTORS
    products = np.multiply.reduce(factors[..., : size * _FACTORS].reshape(*outer, _FACTORS, size), -2)
    sums: np.ndarray = _sum_of_rows(np.log(products, out=products))
    sums += np.add.reduce(np.log(factors[..., size * _FACTORS :]), -1)
    return sums


def _sum_of_rows(values: np.ndarray) -> np.ndarray:
    """Return the sums over the last axis. Numpy adds rows to each other in vectors, and the numbers of a row one by one."""
    folds = min(values.shape[-1] // _FOLD, _MOST_FOLDS)
    if folds < 2:
        return np.add.reduce(values, -1)
    size = values.shape[-1] // folds
    sums = np.add.reduce(np.add.reduce(values[..., : folds * size].reshape(*values.shape[:-1], folds, size), -2), -1)
    sums += np.add.reduce(values[..., folds * size :], -1)
    return sums


def _elementwise(operation: Callable[..., torch.Tensor], values: torch.Tensor, out: torch.Tensor) -> None:
    """Write an operation of torch on contiguous memory, which is faster than numpy's, on this core alone.

    Torch would share more numbers among its threads: then numpy's next operation waits for what lies near another core.
    """
    if torch.get_num_threads() == 1 or values.numel() < _ON_ONE_CORE:
        operation(values, out=out)
        return
    for piece, into in zip(values.view(-1).split(_ON_ONE_CORE), out.view(-1).split(_ON_ONE_CORE), strict=True):
        operation(piece, out=into)


def _mark_what_is_found(block: Block, p: np.ndarray, rows: np.ndarray) -> None:
    """Write down which classes there are, and whether a value check might fail.

    Comparisons are written as `~(x <= threshold)` and not as `x > threshold`: NaN then counts as found, and as suspect.
    """
    recipe, raw, suspect = block.recipe, block.raw, False
    # The bits of a number from 0 on are ordered as the numbers are, and those of every other number are beyond.
    whole, bits_of_high = _BITS[raw.itemsize]
    highest: np.ndarray = np.maximum.reduce(raw.view(whole), 2)
    if np.maximum.reduce(highest, None) <= bits_of_high:
        highest = highest.view(raw.dtype)
    else:
        highest = np.maximum.reduce(raw, 2)
        suspect = not (raw.min() >= _LOW and highest.max() <= _HIGH)
    if recipe.activation is Activation.SOFTMAX and recipe.label.form is LabelForm.DENSE:
        total = np.add.reduce(raw, 1)
        if block.counted is not None:
            # the label is 0 where it does not count
            np.copyto(total, 1, where=~block.counted[:, 0])
        suspect = suspect or not (total.min() >= 1 - _OFF and total.max() <= 1 + _OFF)
    if recipe.activation is Activation.NONE:
        suspect = suspect or not (p.min() >= _LOW and p.max() <= _HIGH)
    if suspect:
        rows[_MAY_FAIL] = 1
    rows[_IN_LABEL] += ~(highest <= recipe.threshold)
    rows[_IN_PREDICTION] += ~(np.maximum.reduce(p, 2) <= recipe.threshold)


def _predictions(block: Block, into: torch.Tensor | None = None, factors: np.ndarray | None = None) -> np.ndarray:
    """Return p, in the memory "p" or the logits' own.

    Args:
        block: the voxels.
        into: where to write what :func:`_log_likelihood` needs: with softmax `log p`, with sigmoid `e^-|z|`, z being the logit. With
            sigmoid the memory "first" then says 1 for z > 0, else 0.
        factors: where to write `1 + e^-|z|`.
    """
    activation, memory, logits = block.recipe.activation, block.memory, block.logits.numpy()
    if activation is Activation.NONE:
        return logits
    # Not by `torch.sigmoid` and `torch.softmax`, whose last digits depend on the number of threads.
    tensor, p, _ = block.lasting.take("p", block.shape)
    if activation is Activation.SOFTMAX:
        total = memory.take("total", torch.Size((block.shape[0], 1, block.shape[2]))).array
        shifted = p if into is None else into.numpy()
        np.subtract(logits, np.maximum.reduce(logits, 1, keepdims=True, out=total), out=shifted)
        _elementwise(torch.exp, tensor if into is None else into, tensor)
        np.add.reduce(p, 1, keepdims=True, out=total)
        np.divide(p, total, out=p)
        if into is not None:
            shifted -= np.log(total, out=total)
    elif into is None:
        np.negative(logits, out=p)
        _elementwise(torch.exp, tensor, tensor)
        np.add(p, 1, out=p)
        np.reciprocal(p, out=p)
    else:
        smaller, positive = into.numpy(), memory.take("first", block.shape).array
        np.negative(np.abs(logits, out=smaller), out=smaller)
        _elementwise(torch.exp, into, into)
        block.keep(smaller, smaller)
        # the smaller of p and 1 - p, which has all its digits; then p
        np.divide(smaller, np.add(smaller, 1, out=p if factors is None else factors), out=p)
        np.subtract(np.greater(logits, 0, out=positive), p, out=p)
        np.abs(p, out=p)
    return block.keep(p, p)


def _write_pixel_term(block: Block, rule: PixelRule, p: np.ndarray, into: torch.Tensor) -> np.ndarray | None:
    """Write each class's pixel term, negative.

    Args:
        block: the voxels.
        rule: which term.
        p: the predictions.
        into: as :func:`_predictions` has written it.

    Returns:
        What to divide by, `(n, 1)`, or None for the number of voxels.
    """
    term, norm = _log_likelihood(block, into), None
    if rule.term is PixelTerm.FOCAL:
        tensor, far, _ = block.memory.take("first", block.shape)
        np.subtract(p, block.t, out=far)
        term *= torch.pow(tensor.abs_(), rule.focal_gamma, out=tensor).numpy()
        if rule.focal_alpha is not None:
            term *= _alpha_weight(block, rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        t = torch.from_numpy(block.t)
        term -= torch.xlogy(t, t).numpy()
        if block.recipe.activation is Activation.SIGMOID:
            term -= torch.xlogy(1 - t, 1 - t).numpy()
    weight = _class_weight(block)
    if weight is not None:
        term *= weight
        norm = np.add.reduce(weight, 2) if block.recipe.activation is Activation.SOFTMAX else None
    block.keep(term, term)
    return norm


def _log_likelihood(block: Block, into: torch.Tensor) -> np.ndarray:
    """Return `t log p`, with sigmoid `t log p + (1 - t) log(1 - p)`, in the memory `into`, which :func:`_predictions` has written."""
    term, t = into.numpy(), block.t
    if block.recipe.activation is Activation.SOFTMAX:
        return np.multiply(term, t, out=term)
    # -(log(1 + e^-|z|) + z (h - t)), with h 1 for z > 0, else 0: no part is the difference of large ones
    _elementwise(torch.log1p, into, into)
    logits, part = block.logits.numpy(), block.memory.take("first", block.shape).array
    np.subtract(t, np.greater(logits, 0, out=part), out=part)
    part *= logits
    return np.subtract(part, term, out=term)


def _class_weight(block: Block) -> np.ndarray | None:
    """Return the factor of a voxel's pixel term: `(n, 1, v)` with softmax, else `(n or 1, C, v or 1)`, or None for 1."""
    if block.class_weight is None:
        return None
    weight = block.class_weight.detach().numpy().reshape(1, -1, 1)
    if block.recipe.activation is Activation.SOFTMAX:
        return np.add.reduce(weight * block.t, 1, keepdims=True)
    return weight if block.shape[1] > 1 else weight * block.t + 1 - block.t


def _alpha_weight(block: Block, alpha: float) -> np.ndarray:
    """Return the focal term's weight of foreground and background, shaped as :func:`_class_weight`'s."""
    foreground = 1 - block.t[:, :1] if block.recipe.activation is Activation.SOFTMAX else block.t
    return alpha * foreground + (1 - alpha) * (1 - foreground)


def _is_nearly_right(rows: np.ndarray, recipe: VoxelRecipe) -> bool:
    """Return whether a rounding of p near 1, up to 2 ** -24, is more than 2 ** -14 of the errors of some image and class."""
    if recipe.activation is Activation.NONE:
        return False
    overlap = rows[:_PIXEL, :, recipe.first_channel :]
    small = bool((overlap[_FP] + overlap[_FN] < overlap[_TP] * _SURE).any())
    if recipe.pixel is None:
        return small
    channels = slice(1 if recipe.activation is Activation.SOFTMAX else None)
    return small or bool((rows[_PIXEL, :, channels] < rows[_COUNTED, :, channels] * _SURE).any())


def _add_defined_sums(given: KernelInput, rows: np.ndarray) -> None:
    """Add the sums with a gradient as the definition has them, three times as slow."""
    with torch.no_grad():
        sums = eager_voxel_sums(given.logits, given.label, given.recipe, given.mask, given.rater_weights, given.class_weight)
    for row, part in zip((_TP, _FP, _FN), (sums.tp, sums.fp, sums.fn), strict=True):
        rows[row, :, given.recipe.first_channel :] += part.numpy()
    if sums.pixel is not None:
        rows[_PIXEL, :, : sums.pixel.shape[1]] += sums.pixel.numpy()


def _write_block_gradient(block: Block, by_sums: np.ndarray, into: torch.Tensor, sure: bool, closely: bool) -> bool:
    """Write the gradient of a block.

    Args:
        block: the voxels.
        by_sums: upstream slopes of its images, `(4, n, C, 1)`.
        into: the place in the result.
        sure: whether the gradient of all blocks before lacks digits.
        closely: with the digits that p near 1 does not have.

    Returns:
        Whether the gradient of all blocks so far lacks digits.
    """
    recipe, memory, shape = block.recipe, block.memory, block.shape
    _, (far, slope, _), (*_, term) = memory.take("parts", torch.Size((3, *shape)))
    focal = recipe.pixel is not None and recipe.pixel.term is PixelTerm.FOCAL
    p = _predictions(block, term if focal else None) if block.p is None else block.p
    np.subtract(p, block.t, out=far)
    left = None
    if closely:
        left = sure_of(block.logits, torch.from_numpy(p), recipe.activation)
        far[...] = distance(torch.from_numpy(p), torch.from_numpy(block.t), left).numpy()
    _write_overlap_slope(block, far, by_sums, slope)
    # What is written last is written to the gradient itself, where that can be.
    direct = into.dtype == memory.dtype and block.counted is None and left is None
    out = into.numpy() if direct else slope
    if recipe.activation is not Activation.NONE:
        by_term: np.ndarray | None = None
        if recipe.pixel is not None:
            by_term = _slope_by_term(block, recipe.pixel, by_sums[_PIXEL])
            if focal:
                by_term = _add_focal_slope(block, recipe.pixel, far, left, term, by_term, slope)
        slope = _through_block_activation(block, p, far, left, by_term, slope, out)
        if sure and not closely:
            sure = _lacks_digits(block, slope, by_sums)
    if slope is not out or not direct:
        into.copy_(torch.from_numpy(block.keep(slope, slope)))
    return sure


def _lacks_digits(block: Block, slope: np.ndarray, by_sums: np.ndarray) -> bool:
    """Return whether a rounding of p near 1, times an upstream slope, is more than 2 ** -18 of the largest slope by a logit."""
    largest = np.abs(by_sums)
    if block.class_weight is not None:
        largest[_PIXEL] *= max(float(block.class_weight.max()), 1.0)
    limit = _SURE_GRADIENT * float(largest.max())
    if not (slope.max() < limit and slope.min() > -limit):
        return False
    # With sigmoid, predictions near 0 have all their digits.
    return block.recipe.activation is Activation.SOFTMAX or bool(block.logits.numpy().max() > 0)


def _through_block_activation(
    block: Block, p: np.ndarray, far: np.ndarray, left: Sure | None, by_term: np.ndarray | None, slope: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Return the slope by the logits, in `out` or where the slope by p was.

    Args:
        block: the voxels.
        p: predictions, which are written over unless the block was given them.
        far: `p - t`, which is written over.
        left: what is left of predictions near 1, where that is asked for.
        by_term: what the pixel term of a class is multiplied by, the upstream slope included, or None.
        slope: of the overlap by p, which is written over.
        out: the memory of the result, if the last operation can write it.
    """
    slope *= p
    spare = p if block.p is None else block.memory.take("p", block.shape).array
    if block.recipe.activation is Activation.SIGMOID:
        slope *= np.subtract(1, p, out=spare) if left is None else left.left.numpy()
        return slope if by_term is None else np.add(slope, np.multiply(far, by_term, out=far), out=out)
    shared = np.add.reduce(slope, 1, keepdims=True)
    if by_term is None:
        slope = np.subtract(slope, np.multiply(p, shared, out=spare), out=out)
    else:
        by_label = np.multiply(block.t, by_term, out=far)
        # Several channels of a class form add up to 1 where they count. A focal term has another slope for each channel.
        adds_up = block.recipe.label.form is not LabelForm.DENSE and by_term.shape[1] == 1 < block.shape[1]
        shared -= by_term if adds_up else np.add.reduce(by_label, 1, keepdims=True)
        slope -= np.multiply(p, shared, out=spare)
        slope = np.subtract(slope, by_label, out=out)
    if left is not None:
        _balance(slope, left)
    return slope


def _write_overlap_slope(block: Block, far: np.ndarray, by_sums: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write the slope of the overlap by p, where `far` is p - t."""
    tp, above, fn, _ = by_sums
    if block.recipe.norm == 2:
        np.multiply(far, above + fn, out=out)
        out += block.t * tp
        return out
    # Below the label, above it, and their mean where p is t: a product with a huge number, and then the nearest slope between the two
    below = tp - fn
    low, high = np.minimum(below, above), np.maximum(below, above)
    steep = np.copysign(below.dtype.type(_STEEP[below.itemsize]), above - below)
    np.multiply(far, steep, out=out)
    if block.recipe.activation is Activation.NONE:
        # probabilities that are given may be as small as they like
        out *= np.abs(steep)
    out += (low + high) / 2
    return out.clip(low, high, out=out)


def _slope_by_term(block: Block, rule: PixelRule, by_pixel: np.ndarray) -> np.ndarray:
    """Return the slope by a voxel's pixel term without its weights, `(n, 1 or C, 1 or v)`."""
    by_term = by_pixel[:, :1] if block.recipe.activation is Activation.SOFTMAX else by_pixel
    weight = _class_weight(block)
    if weight is not None:
        by_term = by_term * weight
    if rule.term is PixelTerm.FOCAL and rule.focal_alpha is not None:
        by_term = by_term * _alpha_weight(block, rule.focal_alpha)
    return by_term


def _add_focal_slope(
    block: Block, rule: PixelRule, far: np.ndarray, left: Sure | None, term: torch.Tensor, by_term: np.ndarray, slope: np.ndarray
) -> np.ndarray:
    """Add the slope of the focal weight by p, and return that by each class's cross-entropy."""
    if left is not None and block.recipe.activation is Activation.SOFTMAX:
        term = torch.where(left.above_half, torch.log1p(-left.left), term)
    cost = _log_likelihood(block, term)
    if not isfinite(cost.sum()) and block.recipe.activation is Activation.SOFTMAX:
        np.copyto(cost, 0, where=block.t == 0)
    size = np.abs(far)
    # the small factor first: the cross-entropy alone may be near the largest float
    rise = size ** (rule.focal_gamma - 1) * rule.focal_gamma * np.sign(far)
    slope -= rise * (cost * by_term)
    return size**rule.focal_gamma * by_term


def _balance(slope: np.ndarray, left: Sure) -> None:
    """Give the class near 1 the slope that the other classes, which have their digits, leave to it: the sum over classes is 0."""
    near_one = left.above_half.numpy()
    np.copyto(slope, 0, where=near_one)
    slope -= near_one * np.add.reduce(slope, 1, keepdims=True)
