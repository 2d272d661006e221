"""The readable kernel, and the definition that every other one is judged by, in value and gradient.

With p the prediction and t the label of a voxel, both in [0, 1], summed over the voxels that count:

    norm 1:  tp = sum min(p, t)    fp = sum (p - min(p, t))    fn = sum (t - min(p, t))
    norm 2:  tp = sum p t          fp = fn = sum (p - t)^2 / 2

Norm 1 is the norm form `tp = (|p| + |t| - |p - t|) / 2` of the papers (arXiv:2302.05666, arXiv:2303.16296) without its
subtraction of large sums. At ties the gradient of min is 1/2 to each side, as the norm form's. Norm 2 is the same with squared
norms. Only fp + fn enters a loss there (alpha = beta), and in this form it cannot fall below 0.

Where p is almost 1, the remainder 1 - p has more digits than p: it is `sigmoid(-z)`, or the sum of the other classes. There
p - t is `(1 - t) - (1 - p)`, and `-log p` is `-log1p(-(1 - p))`, so that a right and confident prediction still has a loss with
all its digits. Equal numbers p and t are a tie, whatever 1 - p is. At t = 1 there is no tie, since no p is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from monai_jdt.checks import check_activated, check_predictions
from monai_jdt.definitions import Activation, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.labels import read_label

#: Above it, `softplus(z)` is z in float64 too.
LINEAR_SOFTPLUS = 40.0


def eager_voxel_sums(
    logits: torch.Tensor,
    label: torch.Tensor,
    recipe: VoxelRecipe,
    mask: torch.Tensor | None = None,
    rater_weights: torch.Tensor | None = None,
    class_weight: torch.Tensor | None = None,
) -> VoxelSums:
    """Sum over voxels.

    Args:
        logits: `(N, C, *S)` or `(N, C)`, floating point.
        label: in the form that the recipe names.
        recipe: what to sum.
        mask: bool or 0/1, `(N, 1, *S)` or `(N, C, *S)`; True = counts.
        rater_weights: `(N, R)` or `(R,)` for votes.
        class_weight: `(C,)` or `()` for the pixel term.

    Returns:
        The sums in float32, or float64 for float64 logits.
    """
    logits, label = _with_space(logits), _with_space(label)
    channels = logits.shape[1]
    raw, counted = read_label(label, channels, recipe, rater_weights, torch.promote_types(logits.dtype, torch.float32))
    if mask is not None:
        mask = _with_space(mask).to(torch.bool)
        counted = mask if counted is None else counted & mask

    # `where`, not a product: 0 * NaN is NaN.
    logits = _keep(logits.to(raw.dtype), counted)
    raw = _keep(raw, counted)
    t = _keep(_smoothed(raw, recipe), counted)
    p = _keep(_activated(logits, recipe), counted)
    check_predictions(p.detach(), counted, recipe)
    sure = sure_of(logits, p, recipe.activation)
    far = distance(p, t, sure)

    space = tuple(range(2, logits.ndim))
    first = recipe.first_channel
    p_kept, t_kept, far_kept = p[:, first:], t[:, first:], far[:, first:]
    if recipe.norm == 1:
        over = torch.maximum(far_kept, far_kept.new_zeros(()))
        tp, fp, fn = torch.minimum(p_kept, t_kept).sum(space), over.sum(space), (over - far_kept).sum(space)
    else:
        tp = (p_kept * t_kept).sum(space)
        fp = fn = far_kept.square().sum(space) / 2
    pixel, pixel_norm = None, None
    if recipe.pixel is not None:
        assert sure is not None
        term = pixel_term(logits, sure, far, t, recipe)
        pixel, pixel_norm = _pixel_sums(term, t, counted, class_weight, recipe)
    return VoxelSums(
        tp=tp,
        fp=fp,
        fn=fn,
        counted=_counts(p_kept, counted if counted is None or counted.shape[1] == 1 else counted[:, first:]),
        # `not <=` rather than `>`: a NaN label is present, and so reaches the loss.
        in_label=(~(raw[:, first:] <= recipe.threshold)).flatten(2).any(2),
        in_prediction=(~(p_kept.detach() <= recipe.threshold)).flatten(2).any(2),
        pixel=pixel,
        pixel_norm=pixel_norm,
    )


def _with_space(tensor: torch.Tensor) -> torch.Tensor:
    """Return `(N, C)` as one voxel, because torch reduces over all dimensions where it is given none."""
    return tensor.unsqueeze(-1) if tensor.ndim == 2 else tensor


def _keep(values: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    return values if counted is None else torch.where(counted, values, 0.0)


def _counts(like: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    """Return the number of counted voxels, shaped as the sums of `like`."""
    ones = torch.ones_like(like[:, :1]) if counted is None else counted.to(like.dtype)
    return ones.sum(tuple(range(2, like.ndim))).expand(like.shape[0], like.shape[1])


def _smoothed(t: torch.Tensor, recipe: VoxelRecipe) -> torch.Tensor:
    e = recipe.label.smoothing
    if e == 0:
        return t
    return (1 - e) * t + e / (t.shape[1] if recipe.activation is Activation.SOFTMAX else 2)


def _activated(logits: torch.Tensor, recipe: VoxelRecipe) -> torch.Tensor:
    if recipe.activation is Activation.SIGMOID:
        return torch.sigmoid(logits)
    if recipe.activation is Activation.SOFTMAX:
        return torch.softmax(logits, 1)
    if recipe.other_act is None:
        return logits
    activated = recipe.other_act(logits)
    check_activated(activated, logits)
    return activated


class Sure(NamedTuple):
    """Where a prediction is above 1/2, and there `1 - p` with all its digits.

    Elsewhere `left` is any finite number, and NaN for NaN. With softmax it is `(N, 1, *S)`, since one class at most is above 1/2.
    """

    above_half: torch.Tensor
    left: torch.Tensor


def sure_of(logits: torch.Tensor, p: torch.Tensor, activation: Activation) -> Sure | None:
    """Return `1 - p` where p is above 1/2, or None where predictions are given, which have no digits beyond their own.

    Args:
        logits: `(N, C, *S)`.
        p: `(N, C, *S)`, their predictions.
        activation: the function that made them of the logits.
    """
    if activation not in (Activation.SIGMOID, Activation.SOFTMAX):
        return None
    above_half = p > 0.5
    if activation is Activation.SIGMOID:
        return Sure(above_half, torch.sigmoid(-logits))
    # at most 1/2, so that its logarithm has a gradient everywhere
    return Sure(above_half, p.masked_fill(above_half, 0.0).sum(1, keepdim=True).clamp(max=0.5))


def distance(p: torch.Tensor, t: torch.Tensor, sure: Sure | None) -> torch.Tensor:
    """Return `p - t`, with the digits that p alone does not have near 1.

    Args:
        p: predictions, `(N, C, *S)`.
        t: the label.
        sure: from :func:`sure_of`.
    """
    if sure is None:
        return p - t
    return torch.where(sure.above_half & ((p != t) | (t == 1)), (1 - t) - sure.left, p - t)


def pixel_term(logits: torch.Tensor, sure: Sure, far: torch.Tensor, t: torch.Tensor, recipe: VoxelRecipe) -> torch.Tensor:
    """Return the pixel term of each voxel, without class weights. Ignored voxels have any value.

    Args:
        logits: `(N, C, *S)`.
        sure: from :func:`sure_of`.
        far: from :func:`distance`.
        t: the label.
        recipe: with a pixel term.

    Returns:
        `(N, 1, *S)` with softmax, else `(N, C, *S)`.
    """
    assert recipe.pixel is not None
    if recipe.activation is Activation.SOFTMAX:
        return _softmax_term(logits, sure, far, t, recipe.pixel)
    return _sigmoid_term(logits, far, t, recipe.pixel)


def not_negative(divergence: torch.Tensor) -> torch.Tensor:
    """Return a sum of divergences, or 0 where rounding made it negative. The gradient does not change.

    Args:
        divergence: any shape.
    """
    return divergence - divergence.detach().clamp(max=0)


def _pixel_sums(
    term: torch.Tensor,
    t: torch.Tensor,
    counted: torch.Tensor | None,
    class_weight: torch.Tensor | None,
    recipe: VoxelRecipe,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixel term and its normaliser, summed: `(N, 1)` with softmax, `(N, C)` with sigmoid.

    A class weight multiplies a voxel, never a class inside its logarithm, so that the label stays the minimiser.
    """
    assert recipe.pixel is not None
    space = tuple(range(2, t.ndim))
    if class_weight is not None:
        class_weight = class_weight.to(t.dtype).expand(t.shape[1]).reshape(1, -1, *[1] * len(space))
    norm = None
    if class_weight is None:
        term = _keep(term, counted)
    elif recipe.activation is Activation.SOFTMAX:
        weight = (class_weight * t).sum(1, keepdim=True)
        term, norm = weight * term, weight.sum(space)
    else:
        term = _keep(term * (class_weight if t.shape[1] > 1 else class_weight * t + 1 - t), counted)
    total = term.sum(space)
    if recipe.pixel.term is PixelTerm.DIVERGENCE:
        total = not_negative(total)
    return total, _counts(term, counted) if norm is None else norm


def _softmax_term(logits: torch.Tensor, sure: Sure, far: torch.Tensor, t: torch.Tensor, rule: PixelRule) -> torch.Tensor:
    """Return `(N, 1, *S)`: cross-entropy, its focal form, or the divergence KL(t || p)."""
    log_p = torch.where(sure.above_half, torch.log1p(-sure.left), torch.log_softmax(logits, 1))
    # A class that a network masks out with -inf logits costs nothing where the label does not have it.
    by_class = torch.where(t == 0, 0.0, -t * log_p)
    if rule.term is PixelTerm.FOCAL:
        by_class = by_class * _focus(far, rule.focal_gamma)
        if rule.focal_alpha is not None:
            by_class = by_class.sum(1, keepdim=True) * _foreground_weight(1 - t[:, :1], t[:, :1], rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        by_class = by_class + torch.xlogy(t, t)
    return by_class.sum(1, keepdim=True)


def _sigmoid_term(logits: torch.Tensor, far: torch.Tensor, t: torch.Tensor, rule: PixelRule) -> torch.Tensor:
    """Return `(N, C, *S)`: binary cross-entropy, its focal form, or the divergence of each channel."""
    # `F.binary_cross_entropy_with_logits` subtracts, and is 0 for z = -16 and t = 0
    term = t * F.softplus(-logits, threshold=LINEAR_SOFTPLUS) + (1 - t) * F.softplus(logits, threshold=LINEAR_SOFTPLUS)
    if rule.term is PixelTerm.FOCAL:
        term = term * _focus(far, rule.focal_gamma)
        if rule.focal_alpha is not None:
            term = term * _foreground_weight(t, 1 - t, rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        term = term + torch.xlogy(t, t) + torch.xlogy(1 - t, 1 - t)
    return term


def _focus(far: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return `|p - t| ** gamma`. Its derivatives of any order are finite at p = t, where they are taken as 0."""
    far = far.abs()
    at_label = far == 0
    return torch.where(at_label, 0.0, torch.where(at_label, 1.0, far) ** gamma)


def _foreground_weight(foreground: torch.Tensor, background: torch.Tensor, alpha: float) -> torch.Tensor:
    return alpha * foreground + (1 - alpha) * background
