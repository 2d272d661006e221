"""Raters weighted by their Dice with the majority: a soft label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from monai_jdt.functional.region_members import array_members
from monai_jdt.raters.votes import VOXEL_BLOCK, checked_votes, rater_shares
from monai_jdt.raters.weighted import fuse_weighted


def dice_weights(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    paper_compatible: bool = False,
) -> torch.Tensor:
    """Return the share of each rater by its Dice with the raters' majority, as in the QUBIQ experiments of arXiv:2303.16296.

    With region c of rater r as the set A_rc and the majority M_c of :func:`fuse_majority`,
    `d_r = 2 sum_c |A_rc & M_c| / sum_c (|A_rc| + |M_c|)` and `w_r = d_r / sum d`. A rater has one weight for all
    regions, so that classes still sum to 1 and nested regions stay nested. A region that holds the value 0 (background) does not
    enter the weights, unless there is no other.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        paper_compatible: a rater that has no voxel in common with the majority gets d = 1, as in the published code, instead
            of 0.

    Returns:
        `(R,)` float64, sum 1; 0 for a missing rater. An empty rater gets 0. Where all would weigh 0 (the majority is
        empty), the raters that are there weigh the same, with `paper_compatible` too.

    Raises:
        ValueError: as :func:`fuse_weighted`.
        TypeError: as :func:`region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 0]])
        >>> dice_weights(votes, [1]).tolist()
        [0.5, 0.5, 0.0]
    """
    votes, groups = checked_votes(votes, regions)
    there = rater_shares(rater_weights, votes.shape[0]) > 0
    judged = tuple(group for group in groups if 0 not in group) or groups
    # numpy, since it compares and counts bytes several times as fast as torch
    flat = votes.reshape(votes.shape[0], -1).cpu().numpy()
    present = there.nonzero().flatten().tolist()
    common = torch.zeros(votes.shape[0], dtype=torch.int64, device="cpu")
    sizes = torch.zeros_like(common)
    majority_size = 0
    for start in range(0, flat.shape[1], VOXEL_BLOCK):
        block = flat[:, start : start + VOXEL_BLOCK]
        for group in judged:
            members = [array_members(block[r], group) for r in present]
            count = members[0].astype(np.uint8 if len(present) <= 255 else np.int64)
            for member in members[1:]:
                count += member.view(np.uint8)
            majority = count >= len(present) // 2 + 1
            majority_size += int(np.count_nonzero(majority))
            for r, member in zip(present, members, strict=True):
                sizes[r] += int(np.count_nonzero(member))
                common[r] += int(np.count_nonzero(member & majority))
    both = (sizes + majority_size).to(torch.float64)
    dice = torch.where(common > 0, 2 * common / both, 1.0 if paper_compatible else 0.0)
    dice = torch.where(there, dice, 0.0)
    return rater_shares(dice if dice.any() else there, len(dice))


def fuse_dice_weighted(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    paper_compatible: bool = False,
) -> torch.Tensor:
    """Return the average of raters weighted by :func:`dice_weights`: raters near the majority count more.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.
        rater_weights: as in :func:`dice_weights`.
        paper_compatible: as in :func:`dice_weights`.

    Returns:
        `(C, *S)`, float32, in [0, 1].

    Raises:
        ValueError: as :func:`fuse_weighted`.
        TypeError: as :func:`region_votes`.

    Example:
        >>> fuse_dice_weighted(torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 0]]), [1])
        tensor([[0., 1., 1.]])
    """
    return fuse_weighted(votes, regions, dice_weights(votes, regions, rater_weights, paper_compatible=paper_compatible))
