"""STAPLE of one region: the label that best explains the raters, together with each rater's sensitivity and specificity.

Warfield, Zou, Wells: Simultaneous truth and performance level estimation (STAPLE), IEEE TMI 23(7), 2004.

* Prior of a value: its share of all votes.
* Start: the share of raters that mark a voxel.
* End: no estimate changed by more than 1e-7, or `max_iterations`, with a warning in the log.

Start, prior and stopping rule are those of ITK's `STAPLEImageFilter`.

:mod:`monai_jdt.raters` says what a rater of weight 0 and an empty rater are. An empty rater has sensitivity 0: two raters who agree are
not affected, but with a single rater against it the voxel becomes .5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from monai_jdt.raters.estimates import RaterEstimates
from monai_jdt.raters.expectation_maximisation import MAX_ITERATIONS, expectation_maximisation, present_patterns
from monai_jdt.raters.vote_patterns import region_patterns

#: The EM ends when no estimate changes by more: ITK's number.
_BINARY_CHANGE = 1e-7


def estimate_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[torch.Tensor, RaterEstimates]:
    """Estimate the STAPLE label of each region by itself, and the raters' sensitivity and specificity.

    Args:
        votes: label values `(R, *S)`, as in :func:`monai_jdt.raters.region_votes`.
        regions: one entry for each channel, as there. Each is a binary problem: classes need not sum to exactly 1.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        max_iterations: the most iterations of the EM, >= 1. An end by this number is logged once for each configuration.

    Returns:
        The probability `(C, *S)`, float32, in [0, 1], and the estimates: sensitivity and specificity `(R, C)`, NaN for a missing
        rater. A region that no rater marks is 0 everywhere, one that all mark everywhere is 1, and one rater is that rater. An
        undefined estimate is NaN: sensitivity if the label is all 0, specificity if it is all 1.

    Raises:
        ValueError: as :func:`monai_jdt.raters.fuse_weighted`, and for `max_iterations` < 1.
        TypeError: as :func:`monai_jdt.raters.region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
        >>> label, estimates = estimate_staple(votes, [1])
        >>> label.tolist(), estimates.sensitivity.round(decimals=3).flatten().tolist()
        ([[0.0, 1.0, 1.0, 0.0]], [1.0, 1.0, 0.0])
    """
    votes, groups, there, patterns = present_patterns(votes, regions, rater_weights, max_iterations)
    label = torch.empty((len(groups), *votes.shape[1:]), dtype=torch.float32, device="cpu")
    sensitivity = torch.full((votes.shape[0], len(groups)), float("nan"), dtype=torch.float64, device="cpu")
    specificity = sensitivity.clone()
    for c, group in enumerate(groups):
        marks = region_patterns(patterns, group)
        share = marks.votes.mean(axis=1)
        confusion, truth, mass = expectation_maximisation(
            marks, np.stack([1 - share, share], axis=1), _BINARY_CHANGE, max_iterations, f"staple of the region {list(group)}"
        )
        label[c] = torch.from_numpy(truth[marks.index, 1].astype(np.float32)[patterns.index]).reshape(votes.shape[1:])
        # a rate over no voxel is undefined
        if mass[1] > 0:
            sensitivity[there, c] = torch.from_numpy(confusion[:, 1, 1])
        if mass[0] > 0:
            specificity[there, c] = torch.from_numpy(confusion[:, 0, 0])
    return label.clamp_(0, 1).to(votes.device), RaterEstimates(sensitivity=sensitivity, specificity=specificity)


def fuse_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> torch.Tensor:
    """Return the label of :func:`estimate_staple`, which explains the arguments: `(C, *S)`, float32, in [0, 1].

    Example:
        >>> fuse_staple(torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 1]]), [1])
        tensor([[0., 1., 1.]])
    """
    return estimate_staple(votes, regions, rater_weights, max_iterations=max_iterations)[0]
