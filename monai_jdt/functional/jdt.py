"""The JDT losses and their compounds as one pure function: one step over voxels, and what follows on (N, C)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.definitions import Backend, LossRecipe, VoxelSums
from monai_jdt.functional.closed_form import closed_form_loss, has_closed_form, has_many_pairs
from monai_jdt.functional.inputs import Inputs, prepare, voxel_sums
from monai_jdt.functional.overlap import combine
from monai_jdt.plain_tensors import is_observed


def jdt_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    recipe: LossRecipe,
    mask: torch.Tensor | None = None,
    *,
    rater_weights: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    backend: Backend = Backend.AUTO,
) -> torch.Tensor:
    """Return the loss that a recipe describes.

    Args:
        input: logits or probabilities, `(N, C, *S)` or `(N, C)`, floating point.
        target: label, in the form that the recipe names, on the same device. It gets no gradient.
        recipe: which loss; see :class:`monai_jdt.losses.JDTLoss` for the meaning of every part.
        mask: bool or 0/1, `(N, 1, *S)`, or `(N, C, *S)` with sigmoid; True = counts.
        rater_weights: `(N, R)` or `(R,)` for votes, >= 0, 0 = missing.
        weight: `()` or one for each class: of the channels in the overlap, or of all channels with a pixel term.
        backend: which kernel sums over the voxels; see :func:`monai_jdt.kernels.choice.choose_kernel`.

    Returns:
        float32, or float64 for float64 input: a scalar, or with `reduction="none"` a loss for each pair.

    Raises:
        TypeError: an argument that is no tensor, or of the wrong kind of dtype.
        ValueError: shapes, devices, or (where values are checked) values that do not fit.

    Example:
        >>> from monai_jdt.definitions import LossRecipe
        >>> p = torch.tensor([[[0.5, 0.5, 0.0, 1.0]]])
        >>> t = torch.tensor([[[0.5, 0.0, 0.0, 1.0]]])
        >>> round(float(jdt_loss(p, t, LossRecipe())), 4)  # Jaccard: 0.5 / 2
        0.25
    """
    inputs = prepare(
        input,
        target,
        recipe.voxels,
        mask,
        rater_weights=rater_weights,
        weight=weight,
        backend=backend,
        sync_group=recipe.averaging.sync_group,
    )
    return loss_of_inputs(inputs, recipe)


def loss_of_inputs(inputs: Inputs, recipe: LossRecipe) -> torch.Tensor:
    """Return :func:`jdt_loss` of tensors that have been checked.

    Args:
        inputs: prepared for `recipe.voxels`.
        recipe: which loss.

    Returns:
        As :func:`jdt_loss`.

    Raises:
        ValueError: label values that do not fit, where values are checked.
    """
    loss = weighted_loss([(1.0, inputs, recipe)], inputs.overlap_weight)
    if recipe.spatial_ones and recipe.averaging.reduction == "none":
        loss = loss.reshape(*loss.shape, *[1] * (inputs.logits.ndim - 2))
    return loss


def weighted_loss(terms: Sequence[tuple[float, Inputs, LossRecipe]], overlap_weight: torch.Tensor | None) -> torch.Tensor:
    """Return the sum of `factor * loss`, in closed form where every part has one.

    Args:
        terms: factor, tensors and recipe of each part. All recipes have the same averaging rule.
        overlap_weight: `(C')` or `()`, multiplies the overlap loss of a class; None: 1.

    Returns:
        As :func:`monai_jdt.functional.overlap.combine`.

    Raises:
        ValueError: label values that do not fit, where values are checked.
    """
    fixed = overlap_weight is None or not overlap_weight.requires_grad
    if not fixed or not all(has_closed_form(inputs, recipe) for _, inputs, recipe in terms):
        loss = combine([(factor, _wide_sums(inputs, recipe), recipe) for factor, inputs, recipe in terms], overlap_weight)
        return loss.to(torch.promote_types(terms[0][1].logits.dtype, torch.float32))
    losses = [closed_form_loss(inputs, recipe, overlap_weight) for _, inputs, recipe in terms]
    total = losses[0] if terms[0][0] == 1 else terms[0][0] * losses[0]
    for (factor, _, _), loss in zip(terms[1:], losses[1:], strict=True):
        total = total + factor * loss
    return total


def _wide_sums(inputs: Inputs, recipe: LossRecipe) -> VoxelSums:
    """Return the sums. Those of a fast kernel on a CPU are in float64 under `torch.compile` and `sync`, and for many pairs.

    So a mean is the same to the last digit with the closed form, in a compiled graph and in a group of one rank. Elsewhere, and where
    the loss depends on the smallest number of a dtype, the sums stay in the dtype of the loss.
    """
    sums = voxel_sums(inputs)
    ratio, averaging = recipe.ratio, recipe.averaging
    limited = ratio.log_loss or ratio.smooth_dr <= torch.finfo(torch.float32).tiny
    if limited or averaging.reduction != "mean" or inputs.kernel is Backend.EAGER or inputs.logits.device.type != "cpu":
        return sums
    if not (torch.compiler.is_compiling() or averaging.sync or (not is_observed() and has_many_pairs(inputs))):
        return sums
    wide = {name: part.to(torch.float64) for name, part in sums._asdict().items() if part is not None and part.is_floating_point()}
    return sums._replace(**wide)
