"""What a fast kernel returns: every sum of a step in one tensor `(rows, N, C)`, so that it is one output of one operator."""

from __future__ import annotations

from enum import IntEnum

import torch

from monai_jdt.definitions import Activation, PixelTerm, VoxelRecipe, VoxelSums
from monai_jdt.kernels.eager import not_negative


class Row(IntEnum):
    """The rows of the tensor, each `(N, C)` over all channels, background included.

    The overlap rows of a channel that takes no part (the background without `include_background`) may hold anything finite.
    The first four have a gradient. With softmax, the pixel rows hold the one sum of all channels in channel 0, and 0 elsewhere.
    """

    TP = 0
    FP = 1
    FN = 2
    PIXEL = 3
    PIXEL_NORM = 4
    COUNTED = 5
    #: 1 where a counted value is not at most the threshold (so that NaN is above it), else 0.
    IN_LABEL = 6
    IN_PREDICTION = 7
    #: Nonzero if a value check fails or might. The caller then runs the full check.
    MAY_FAIL_CHECK = 8


#: The rows with a gradient.
DIFFERENTIABLE_ROWS = 4


def voxel_sums_of(rows: torch.Tensor, recipe: VoxelRecipe) -> VoxelSums:
    """The rows as the sums that :func:`monai_jdt.kernels.eager.eager_voxel_sums` returns.

    Args:
        rows: `(9, N, C)`.
        recipe: what was summed.

    Returns:
        The same numbers by name.
    """
    overlap = rows[:, :, recipe.first_channel :]
    pixel = rows[Row.PIXEL]
    if recipe.pixel is not None and recipe.pixel.term is PixelTerm.DIVERGENCE:
        pixel = not_negative(pixel)
    wide = None if recipe.activation is not Activation.SOFTMAX else 1
    return VoxelSums(
        tp=overlap[Row.TP],
        fp=overlap[Row.FP],
        fn=overlap[Row.FN],
        counted=overlap[Row.COUNTED].detach(),
        in_label=overlap[Row.IN_LABEL].detach() > 0,
        in_prediction=overlap[Row.IN_PREDICTION].detach() > 0,
        pixel=None if recipe.pixel is None else pixel[:, :wide],
        pixel_norm=None if recipe.pixel is None else rows[Row.PIXEL_NORM, :, :wide].detach(),
    )
