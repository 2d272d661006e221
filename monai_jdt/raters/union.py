"""What any rater marks: a hard label."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.raters.votes import present_votes, region_votes


def fuse_union(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """Return the voxels that any rater put into each region. An empty rater adds nothing.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.

    Returns:
        `(C, *S)`, float32, 0 or 1. Classes may sum to more than 1 where raters differ.

    Example:
        >>> fuse_union(torch.tensor([[0, 1, 4], [0, 4, 0]]), [[1, 4], 4])
        tensor([[0., 1., 1.],
                [0., 1., 1.]])
    """
    return (region_votes(present_votes(votes, rater_weights), regions) > 0).to(torch.float32)
