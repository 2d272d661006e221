"""The result of the step over voxels."""

from __future__ import annotations

from typing import NamedTuple

import torch


class VoxelSums(NamedTuple):
    """What a kernel returns, in float32 or wider. C' is C without the background if that is left out.

    Args:
        tp: true positives, `(N, C')`.
        fp: false positives, `(N, C')`.
        fn: false negatives, `(N, C')`.
        counted: the number of voxels that count, `(N, C')`.
        in_label: whether the label's largest value is above the threshold, bool `(N, C')`.
        in_prediction: the same of the prediction.
        pixel: the sum of the pixel term, `(N, C)` with sigmoid, `(N, 1)` with softmax; None without a pixel term.
        pixel_norm: what to divide it by for a mean, of the same shape.
    """

    tp: torch.Tensor
    fp: torch.Tensor
    fn: torch.Tensor
    counted: torch.Tensor
    in_label: torch.Tensor
    in_prediction: torch.Tensor
    pixel: torch.Tensor | None
    pixel_norm: torch.Tensor | None
