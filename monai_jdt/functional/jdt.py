"""The JDT losses and their compounds as one pure function: one step over voxels, and what follows on (N, C)."""

from __future__ import annotations

import torch

from monai_jdt.definitions import Backend, LossRecipe
from monai_jdt.functional.inputs import Inputs, prepare, voxel_sums
from monai_jdt.functional.overlap import combine


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
    loss = combine([(1.0, voxel_sums(inputs), recipe)], inputs.overlap_weight)
    if recipe.spatial_ones and recipe.averaging.reduction == "none":
        loss = loss.reshape(*loss.shape, *[1] * (inputs.logits.ndim - 2))
    return loss
