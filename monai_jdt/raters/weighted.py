"""The weighted share of raters: a soft label."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.functional.region_members import region_members
from monai_jdt.raters.average import fuse_average
from monai_jdt.raters.votes import VOXEL_BLOCK, checked_votes, present_votes, rater_shares


def fuse_weighted(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """Return the weighted share of raters that put each voxel into each region: a soft label.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, finite, >= 0, any scale; 0 = the rater is missing. None or all equal: :func:`fuse_average`.

    Returns:
        `(C, *S)`, float32, in [0, 1]. Regions that are classes sum to 1; nested regions stay nested.

    Raises:
        ValueError: as :func:`region_votes`, and for weights that are not R finite numbers >= 0 or are all 0.
        TypeError: as :func:`region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 4], [0, 4, 4], [9, 9, 9]])
        >>> fuse_weighted(votes, [[1, 4], 4], [3, 1, 0])
        tensor([[0.0000, 1.0000, 1.0000],
                [0.0000, 0.2500, 1.0000]])
    """
    votes, groups = checked_votes(votes, regions)
    weights = rater_shares(rater_weights, votes.shape[0])
    speaking = weights > 0
    if len(weights[speaking].unique()) == 1:
        return fuse_average(present_votes(votes, weights), groups)
    label = torch.zeros((len(groups), *votes.shape[1:]), dtype=torch.float32, device=votes.device)
    flat, channels = votes.reshape(votes.shape[0], -1), label.view(len(groups), -1)
    there = speaking.nonzero().flatten().tolist()
    if len(there) <= 8:
        # who marks a voxel is one byte, and each of the at most 256 bytes has one answer
        bits = torch.arange(2 ** len(there), device="cpu").unsqueeze(1) >> torch.arange(len(there), device="cpu") & 1
        answers = (bits * weights[speaking]).sum(1).clamp(0, 1).to(torch.float32).to(votes.device)
        for start in range(0, flat.shape[1], VOXEL_BLOCK):
            block = flat[:, start : start + VOXEL_BLOCK]
            for channel, group in zip(channels[:, start : start + VOXEL_BLOCK], groups, strict=True):
                marks = torch.zeros(block.shape[1:], dtype=torch.uint8, device=votes.device)
                for bit, rater in enumerate(there):
                    marks.add_(region_members(block[rater], group).view(torch.uint8), alpha=1 << bit)
                torch.index_select(answers, 0, marks.to(torch.int32), out=channel)
        return label
    # blocks that stay in the cache: one pass over the votes, one over the label
    for start in range(0, flat.shape[1], VOXEL_BLOCK):
        for rater, weight in zip(flat[:, start : start + VOXEL_BLOCK], weights.tolist(), strict=True):
            if weight > 0:
                for channel, group in zip(channels[:, start : start + VOXEL_BLOCK], groups, strict=True):
                    channel.add_(region_members(rater, group).to(torch.float32), alpha=weight)
    return label.clamp_(0, 1)
