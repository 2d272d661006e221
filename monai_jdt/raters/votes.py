"""Check a stack of votes and the raters' weights, and count the raters that mark a region."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.functional.region_members import region_members
from monai_jdt.raters.region_names import region_group
from monai_jdt.validation import error_sentence

#: Voxels worked on at once, so that a block of each intermediate stays in the processor's cache.
VOXEL_BLOCK = 1 << 17


def region_votes(votes: torch.Tensor, regions: Sequence[int | Sequence[int]]) -> torch.Tensor:
    """Count, for each region and voxel, the raters that put the voxel into the region.

    One rater and one region at a time: the stack of every rater's channels, `(R, C, *S)`, is never built.

    Args:
        votes: label values `(R, *S)`, R raters, any integer dtype (bool counts as 0/1).
        regions: one entry for each channel: a label value, or the values whose union is the region.

    Returns:
        Counts `(C, *S)`, int16, in [0, R].

    Raises:
        ValueError: for a stack without raters, or no region.
        TypeError: for votes that are not whole numbers by dtype.
    """
    votes, groups = checked_votes(votes, regions)
    return count_members(votes, groups).to(torch.int16)


def count_members(votes: torch.Tensor, groups: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Count as :func:`region_votes`, in the narrowest dtype that holds R: uint8, or int16 above 255 raters."""
    narrow = votes.shape[0] <= 255
    counts = torch.zeros((len(groups), *votes.shape[1:]), dtype=torch.uint8 if narrow else torch.int16, device=votes.device)
    for rater in votes:
        for channel, group in zip(counts, groups, strict=True):
            member = region_members(rater, group)
            channel += member.view(torch.uint8) if narrow else member
    return counts


def checked_votes(votes: torch.Tensor, regions: Sequence[int | Sequence[int]]) -> tuple[torch.Tensor, tuple[tuple[int, ...], ...]]:
    """Check a stack and its regions.

    Args:
        votes: as in :func:`region_votes`.
        regions: as in :func:`region_votes`.

    Returns:
        The stack, bool as uint8, and the regions as groups of values.

    Raises:
        ValueError: for a stack without raters, or no region.
        TypeError: for votes that are not whole numbers by dtype.
    """
    if votes.ndim < 1 or votes.shape[0] == 0:
        raise ValueError(error_sentence("votes", "a stack (R, *S) of at least one rater", f"shape {tuple(votes.shape)}"))
    if votes.is_floating_point() or votes.is_complex():
        raise TypeError(error_sentence("votes", "an integer dtype", str(votes.dtype), "pass votes.to(torch.int16)"))
    groups = tuple(region_group(entry) for entry in regions)
    if not groups:
        raise ValueError(error_sentence("regions", "at least one region", "none"))
    return votes.to(torch.uint8) if votes.dtype == torch.bool else votes, groups


def rater_shares(rater_weights: torch.Tensor | Sequence[float] | None, raters: int) -> torch.Tensor:
    """Check the raters' weights and scale them to sum 1.

    Args:
        rater_weights: `(R,)`, finite, >= 0, 0 = missing; None: 1 each.
        raters: R.

    Returns:
        `(R,)` float64 on the CPU, sum 1.

    Raises:
        ValueError: for another length, a negative or non-finite weight, or weights that are all 0.
    """
    if rater_weights is None:
        return torch.full((raters,), 1 / raters, dtype=torch.float64, device="cpu")
    weights = torch.as_tensor(rater_weights, device="cpu").detach().to(torch.float64)
    if weights.shape != (raters,):
        raise ValueError(error_sentence("rater_weights", f"one weight for each of {raters} raters", f"shape {tuple(weights.shape)}"))
    if not (torch.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(error_sentence("rater_weights", "finite numbers >= 0", str(weights.tolist())))
    if not weights.any():
        raise ValueError(error_sentence("rater_weights", "at least one rater with a weight > 0", str(weights.tolist())))
    weights = weights / weights.max()  # first, so that the sum cannot overflow
    return weights / weights.sum()


def present_votes(votes: torch.Tensor, rater_weights: torch.Tensor | Sequence[float] | None) -> torch.Tensor:
    """Return the stack without its missing raters, those of weight 0."""
    if rater_weights is None or votes.ndim < 1 or votes.shape[0] == 0:
        return votes
    there = rater_shares(rater_weights, votes.shape[0]) > 0
    return votes if there.all() else votes[there.to(votes.device)]
