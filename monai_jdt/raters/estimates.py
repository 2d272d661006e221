"""What a fusion estimates about the raters."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class RaterEstimates:
    """What a fusion estimates about the raters. A field is None if the fusion does not estimate it. A missing rater has NaN.

    Args:
        weights: `(R,)` float64, >= 0, sum 1: the share of each rater in an average. A missing rater has 0.
        sensitivity: `(R, C)` float64 in [0, 1]: P(rater marks the region | the voxel is in it).
        specificity: `(R, C)` float64 in [0, 1]: P(rater does not mark the region | the voxel is not in it).
        confusion: `(R, L, L)` float64: entry (r, i, j) is P(rater r says values[i] | the truth is values[j]).
        values: the L label values of `confusion`, in order.
    """

    weights: torch.Tensor | None = None
    sensitivity: torch.Tensor | None = None
    specificity: torch.Tensor | None = None
    confusion: torch.Tensor | None = None
    values: tuple[int, ...] | None = None
