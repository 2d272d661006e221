"""What more than half of the raters mark: a hard label."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.raters.votes import present_votes, region_votes


def fuse_majority(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """Return the voxels that more than half of the raters put into each region: the hard label.

    At least `R // 2 + 1` raters must agree, so a tie is background. Regions are judged one by one: a voxel where half
    the raters say 1 and half say 4 is in the region (1, 4), though no single value has a majority.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing and does not count in R; other values say only that it is there.

    Returns:
        `(C, *S)`, float32, 0 or 1.

    Example:
        >>> votes = torch.tensor([[0, 1, 4], [0, 4, 4]])
        >>> fuse_majority(votes, [[1, 4], 4])
        tensor([[0., 1., 1.],
                [0., 0., 1.]])
    """
    votes = present_votes(votes, rater_weights)
    return (region_votes(votes, regions) >= votes.shape[0] // 2 + 1).to(torch.float32)
