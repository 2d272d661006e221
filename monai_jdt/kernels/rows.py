"""What a fast kernel returns: every sum of a step in one tensor `(rows, N, C)`, so that it is one output of one operator."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

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


#: A kernel suspects a value from this share of a check's tolerance on. It computes in float32, and near the bound may round to the
#: other side of it. The check itself looks again at what is suspected, and never at what is missed.
CAUTION = 0.99

#: The rows with a gradient.
DIFFERENTIABLE_ROWS = 4


def split_rows(rows: torch.Tensor, recipe: VoxelRecipe) -> tuple[torch.Tensor | None, ...]:
    """Split the rows into tp, fp, fn, pixel, counted, in_label, in_prediction, pixel_norm, and MAY_FAIL_CHECK.

    Args:
        rows: `(9, N, C)`.
        recipe: what was summed.

    Returns:
        The first four, which are differentiable, of the channels that the recipe has in the overlap or the pixel term, None for a
        pixel term that it has not; the rest likewise, without gradient.
    """
    every = rows.unbind()
    tp, fp, fn, pixel = every[:DIFFERENTIABLE_ROWS]
    pixel_norm, counted, in_label, in_prediction, may_fail = (rows.detach().unbind() if rows.requires_grad else every)[
        DIFFERENTIABLE_ROWS:
    ]
    first = recipe.first_channel
    if first:
        tp, fp, fn, counted, in_label, in_prediction = (row[:, first:] for row in (tp, fp, fn, counted, in_label, in_prediction))
    terms: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
    if recipe.pixel is not None:
        terms = (pixel[:, :1], pixel_norm[:, :1]) if recipe.activation is Activation.SOFTMAX else (pixel, pixel_norm)
    return tp, fp, fn, terms[0], counted, in_label > 0, in_prediction > 0, terms[1], may_fail


def named_sums(sums: Sequence[Any], recipe: VoxelRecipe) -> tuple[VoxelSums, torch.Tensor]:
    """Return the sums as :func:`monai_jdt.kernels.eager.eager_voxel_sums` does, and MAY_FAIL_CHECK.

    Args:
        sums: from :func:`split_rows`.
        recipe: what was summed.
    """
    tp, fp, fn, pixel, counted, in_label, in_prediction, pixel_norm, may_fail = sums
    if recipe.pixel is not None and recipe.pixel.term is PixelTerm.DIVERGENCE:
        pixel = not_negative(pixel)
    return VoxelSums(tp, fp, fn, counted, in_label, in_prediction, pixel, pixel_norm), may_fail


def joined_rows(gradients: Sequence[torch.Tensor | None], shape: torch.Size, recipe: VoxelRecipe) -> torch.Tensor | None:
    """Join the gradients by tp, fp, fn and pixel into the upstream gradient of a kernel, 0 where a sum has none.

    Args:
        gradients: shaped as :func:`split_rows` returns them; None: 0.
        shape: (N, C).
        recipe: what was summed.

    Returns:
        `(4, N, C)`, contiguous; None where all are None.
    """
    some = next((gradient for gradient in gradients if gradient is not None), None)
    if some is None:
        return None
    missing = (recipe.first_channel, 0), (recipe.first_channel, 0), (recipe.first_channel, 0), (0, shape[1] - 1)
    rows = []
    for gradient, pad in zip(gradients, missing, strict=True):
        if gradient is None:
            rows.append(some.new_zeros(shape))
        else:
            rows.append(gradient if gradient.shape[1] == shape[1] else torch.nn.functional.pad(gradient, pad))
    return torch.stack(rows)
