"""The readable kernel, and the definition that every other one is judged by, in value and gradient.

With p the prediction and t the label of a voxel, both in [0, 1], summed over the voxels that count:

    norm 1:  tp = sum min(p, t)    fp = sum (p - min(p, t))    fn = sum (t - min(p, t))
    norm 2:  tp = sum p t          fp = fn = sum (p - t)^2 / 2

Norm 1 is the norm form `tp = (|p| + |t| - |p - t|) / 2` of the papers (arXiv:2302.05666, arXiv:2303.16296) without its
subtraction of large sums; at ties the gradient of min is 1/2 to each side, as the norm form's. Norm 2 is the same with squared
norms; only fp + fn enters a loss there (alpha = beta), and written so it cannot fall below 0.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from monai_jdt.checks import check_activated, check_predictions
from monai_jdt.definitions import Activation, PixelRule, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.labels import read_label


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

    space = tuple(range(2, logits.ndim))
    first = recipe.first_channel
    p_kept, t_kept = p[:, first:], t[:, first:]
    if recipe.norm == 1:
        both = torch.minimum(p_kept, t_kept)
        tp, fp, fn = both.sum(space), (p_kept - both).sum(space), (t_kept - both).sum(space)
    else:
        tp = (p_kept * t_kept).sum(space)
        fp = fn = (p_kept - t_kept).square().sum(space) / 2
    pixel, pixel_norm = _pixel_sums(logits, p, t, counted, class_weight, recipe) if recipe.pixel is not None else (None, None)
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
    """`(N, C)` as one voxel: a reduction over no dimensions would be one over all."""
    return tensor.unsqueeze(-1) if tensor.ndim == 2 else tensor


def _keep(values: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    return values if counted is None else torch.where(counted, values, 0.0)


def _counts(like: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    """The number of voxels that count, shaped as the sums of `like`."""
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


def _pixel_sums(
    logits: torch.Tensor,
    p: torch.Tensor,
    t: torch.Tensor,
    counted: torch.Tensor | None,
    class_weight: torch.Tensor | None,
    recipe: VoxelRecipe,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixel term and its normaliser, summed: `(N, 1)` with softmax, `(N, C)` with sigmoid.

    A class weight multiplies a voxel, never a class inside its logarithm, so that the label stays the minimiser.
    """
    assert recipe.pixel is not None
    space = tuple(range(2, t.ndim))
    if class_weight is not None:
        class_weight = class_weight.to(t.dtype).expand(t.shape[1]).reshape(1, -1, *[1] * len(space))
    if recipe.activation is Activation.SOFTMAX:
        term = _softmax_term(logits, p, t, recipe.pixel)
        if class_weight is None:
            return (_keep(term, counted)).sum(space), _counts(term, counted)
        weight = (class_weight * t).sum(1, keepdim=True)
        return (weight * term).sum(space), weight.sum(space)
    term = _sigmoid_term(logits, p, t, recipe.pixel)
    if class_weight is not None:
        term = term * (class_weight if t.shape[1] > 1 else class_weight * t + 1 - t)
    return _keep(term, counted).sum(space), _counts(term, counted)


def _softmax_term(logits: torch.Tensor, p: torch.Tensor, t: torch.Tensor, rule: PixelRule) -> torch.Tensor:
    """`(N, 1, *S)`: cross-entropy, or its focal form, or the divergence KL(t || p)."""
    # A class that a network masks out with -inf logits costs nothing where the label does not have it.
    by_class = torch.where(t == 0, 0.0, -t * torch.log_softmax(logits, 1))
    if rule.term is PixelTerm.FOCAL:
        by_class = by_class * _focus(p, t, rule.focal_gamma)
        if rule.focal_alpha is not None:
            by_class = by_class.sum(1, keepdim=True) * _foreground_weight(1 - t[:, :1], t[:, :1], rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        by_class = by_class + torch.xlogy(t, t)
    return by_class.sum(1, keepdim=True)


def _sigmoid_term(logits: torch.Tensor, p: torch.Tensor, t: torch.Tensor, rule: PixelRule) -> torch.Tensor:
    """`(N, C, *S)`: binary cross-entropy, or its focal form, or the divergence of each channel."""
    term = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    if rule.term is PixelTerm.FOCAL:
        term = term * _focus(p, t, rule.focal_gamma)
        if rule.focal_alpha is not None:
            term = term * _foreground_weight(t, 1 - t, rule.focal_alpha)
    elif rule.term is PixelTerm.DIVERGENCE:
        term = term + torch.xlogy(t, t) + torch.xlogy(1 - t, 1 - t)
    return term


def _focus(p: torch.Tensor, t: torch.Tensor, gamma: float) -> torch.Tensor:
    """`|p - t| ** gamma`, with derivatives of any order that are finite at p = t, where they are taken as 0."""
    far = (p - t).abs()
    at_label = far == 0
    return torch.where(at_label, 0.0, torch.where(at_label, 1.0, far) ** gamma)


def _foreground_weight(foreground: torch.Tensor, background: torch.Tensor, alpha: float) -> torch.Tensor:
    return alpha * foreground + (1 - alpha) * background
