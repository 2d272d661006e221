"""What every rater marks: a hard label."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.raters.votes import present_votes, region_votes


def fuse_intersection(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """Return the voxels that every rater put into each region. With an empty rater there are none.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.

    Returns:
        `(C, *S)`, float32, 0 or 1. Classes need not sum to 1: where raters differ, all classes are 0.

    Example:
        >>> fuse_intersection(torch.tensor([[0, 1, 4], [0, 4, 4]]), [[1, 4], 4])
        tensor([[0., 1., 1.],
                [0., 0., 1.]])
    """
    votes = present_votes(votes, rater_weights)
    return (region_votes(votes, regions) == votes.shape[0]).to(torch.float32)
