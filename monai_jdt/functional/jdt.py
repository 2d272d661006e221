"""The JDT losses and their compounds as one pure function: checks, one step over voxels, and what follows on (N, C)."""

from __future__ import annotations

import torch

from monai_jdt.checks import (
    check_class_weight,
    check_input,
    check_label_values,
    check_mask,
    check_predictions,
    check_rater_weights,
    check_target,
    may_look,
    plain_tensor,
)
from monai_jdt.definitions import Backend, LossRecipe, VoxelRecipe, VoxelSums
from monai_jdt.functional.overlap import combine
from monai_jdt.kernels.choice import choose_kernel
from monai_jdt.kernels.eager import eager_voxel_sums
from monai_jdt.kernels.labels import spoken_voxels
from monai_jdt.kernels.operators import fast_voxel_sums


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
    """The loss that a recipe describes.

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
    sums, overlap_weight = checked_sums(input, target, recipe.voxels, mask, rater_weights=rater_weights, weight=weight, backend=backend)
    loss = combine([(1.0, sums, recipe)], overlap_weight)
    if recipe.spatial_ones and recipe.averaging.reduction == "none":
        loss = loss.reshape(*loss.shape, *[1] * (input.ndim - 2))
    return loss


def checked_sums(
    input: torch.Tensor,
    target: torch.Tensor,
    voxels: VoxelRecipe,
    mask: torch.Tensor | None = None,
    *,
    rater_weights: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    backend: Backend = Backend.AUTO,
) -> tuple[VoxelSums, torch.Tensor | None]:
    """Check the tensors, and sum over voxels.

    Args:
        input: as for :func:`jdt_loss`, like the others.
        target: label.
        voxels: what to sum.
        mask: which voxels count.
        rater_weights: for votes.
        weight: class weight.
        backend: which kernel.

    Returns:
        The sums, and the class weight of the overlap term.

    Raises:
        TypeError: as :func:`jdt_loss`.
        ValueError: as :func:`jdt_loss`.
    """
    input = plain_tensor("input", input)
    target = plain_tensor("target", target).detach()
    check_input(input, voxels)
    check_target(input, target, voxels)
    if mask is not None:
        mask = plain_tensor("mask", mask)
        check_mask(input, mask, voxels)
    if rater_weights is not None:
        rater_weights = plain_tensor("rater_weights", rater_weights).detach()
        check_rater_weights(input, target, rater_weights, voxels)
    overlap_weight = weight
    if voxels.pixel is None:
        check_class_weight(input, weight, input.shape[1] - voxels.first_channel, "one for each channel in the overlap")
    else:
        check_class_weight(input, weight, input.shape[1], "one for each channel of input, background included")
        if weight is not None and weight.ndim == 1:
            overlap_weight = weight[voxels.first_channel :]
    if input.shape[1] - voxels.first_channel == 1:
        # As in MONAI: a single class has no other to be weighed against.
        overlap_weight = None
    kernel = choose_kernel(backend, input, target, voxels, mask, rater_weights, weight)
    if kernel is Backend.EAGER:
        check_label_values(input, target, mask, rater_weights, voxels)
        return eager_voxel_sums(input, target, voxels, mask, rater_weights, weight), overlap_weight
    sums, suspect = fast_voxel_sums(kernel, input, target, voxels, mask, rater_weights, weight)
    # on a CPU the kernel has looked at the values in passing
    if may_look(input, target, mask, rater_weights) and (input.device.type != "cpu" or bool(suspect.any())):
        check_label_values(input, target, mask, rater_weights, voxels)
        spoken = spoken_voxels(target, voxels, rater_weights)
        counted = spoken if mask is None else mask.to(torch.bool) if spoken is None else mask.to(torch.bool) & spoken
        check_predictions(input.detach(), counted, voxels)
    return sums, overlap_weight
