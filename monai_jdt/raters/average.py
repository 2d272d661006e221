"""The share of raters: the soft label."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.raters.votes import checked_votes, count_members


def fuse_average(votes: torch.Tensor, regions: Sequence[int | Sequence[int]]) -> torch.Tensor:
    """Return the share of raters that put each voxel into each region: the soft label.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.

    Returns:
        `(C, *S)`, float32, in [0, 1]: a multiple of 1/R everywhere.

    Example:
        >>> votes = torch.tensor([[0, 1, 4], [0, 4, 4]])  # two raters, three voxels
        >>> fuse_average(votes, [[1, 4], 4])
        tensor([[0.0000, 1.0000, 1.0000],
                [0.0000, 0.5000, 1.0000]])
    """
    votes, groups = checked_votes(votes, regions)
    counts = count_members(votes, groups)
    return torch.div(counts, votes.shape[0], out=torch.empty_like(counts, dtype=torch.float32))
