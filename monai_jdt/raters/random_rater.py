"""The label of one rater, drawn at random: a hard label."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_jdt.raters.average import fuse_average
from monai_jdt.raters.votes import checked_votes, rater_shares


def fuse_random(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    seed: int | torch.Generator = 0,
) -> torch.Tensor:
    """Return one rater's own label, drawn with probability proportional to the weights.

    Args:
        votes: label values `(R, *S)`, as in :func:`region_votes`.
        regions: one entry for each channel, as in :func:`region_votes`.
        rater_weights: `(R,)`, as in :func:`fuse_weighted`; a missing rater is never drawn, an empty one may be.
        seed: a number (the same number and R give the same rater), or a generator on the CPU that is advanced.

    Returns:
        `(C, *S)`, float32, 0 or 1.

    Example:
        >>> fuse_random(torch.tensor([[0, 1], [1, 1], [0, 4]]), [1, 4], [0, 0, 2])
        tensor([[0., 0.],
                [0., 1.]])
    """
    checked_votes(votes, regions)
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    weights = rater_shares(rater_weights, votes.shape[0])
    rater = int(torch.multinomial(weights, 1, generator=generator))
    return fuse_average(votes[rater : rater + 1], regions)
