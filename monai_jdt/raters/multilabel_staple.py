"""STAPLE of all label values at once, with a confusion matrix for each rater.

Rohlfing, Russakoff, Maurer: Performance-based classifier combination in atlas-based image segmentation using expectation-maximization
parameter estimation, IEEE TMI 23(8), 2004.

* Prior of a value: its share of all votes.
* Start: confusion matrices, counted against the value that more raters gave than any other. A voxel where two values tie is not
  counted.
* End: no estimate changed by more than 1e-5, or `max_iterations`, with a warning in the log.

Start, prior and stopping rule are those of ITK's `MultiLabelSTAPLEImageFilter`, with which it agrees except at voting ties. There
ITK 5.4 counts a tied vote in the row of the next label value, which gives wrong labels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from monai_jdt.functional.region_members import region_members
from monai_jdt.raters.estimates import RaterEstimates
from monai_jdt.raters.expectation_maximisation import (
    MAX_ITERATIONS,
    confusion_by_voting,
    expectation_maximisation,
    expected_truth,
    log_prior_of,
    present_patterns,
)

logger = logging.getLogger(__name__)

#: The EM ends when no estimate changes by more: ITK's number.
_MULTILABEL_CHANGE = 1e-5

#: Two label values are equally likely if their probabilities differ by less: equal ones differ by rounding, in the raters' order.
_EQUALLY_LIKELY = 1e-9


def estimate_multilabel_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[torch.Tensor, RaterEstimates]:
    """Estimate the STAPLE label of all values at once, and the raters' confusion matrices.

    Args:
        votes: label values `(R, *S)`, as in :func:`monai_jdt.raters.region_votes`.
        regions: one entry for each channel, as there, read from the fused label map: the values are fused, not the regions.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        max_iterations: the most iterations of the EM, >= 1. An end by this number is logged once for each configuration.

    Returns:
        `(C, *S)`, float32, 0 or 1, and the estimates: `confusion` `(R, L, L)` over the L `values` that occur, NaN for a missing
        rater. A column of 0 belongs to a value that is the truth nowhere. With one value in all maps it is 1.

        A voxel is undecided, and then has the value 0, where two values are equally likely, or where a rater's vote occurs only at
        voxels without a value that most raters gave: the EM starts from those voxels, and says nothing about other votes.

    Raises:
        ValueError: as :func:`monai_jdt.raters.fuse_weighted`, and for `max_iterations` < 1.
        TypeError: as :func:`monai_jdt.raters.region_votes`.

    Example:
        >>> votes = torch.tensor([[0, 1, 4, 0], [0, 1, 4, 0], [0, 0, 4, 4]])
        >>> label, estimates = estimate_multilabel_staple(votes, [1, 4])
        >>> label.tolist(), estimates.values
        ([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], (0, 1, 4))
    """
    votes, groups, there, patterns = present_patterns(votes, regions, rater_weights, max_iterations)
    values = torch.from_numpy(patterns.values.astype(np.int64))
    start = expected_truth(patterns, log_prior_of(patterns), confusion_by_voting(patterns))
    if len(start) and not start.any():
        logger.warning(
            "multilabel_staple: at no voxel do most of the %d raters agree on a value. Nothing can be estimated, and the label is 0",
            len(there),
        )
    found, truth, _ = expectation_maximisation(patterns, start, _MULTILABEL_CHANGE, max_iterations, "multilabel_staple")
    ordered = np.sort(truth, axis=1)
    second = ordered[:, -2] if len(values) > 1 else np.zeros(len(truth))
    decided = torch.from_numpy(ordered[:, -1] - second > _EQUALLY_LIKELY)
    fused = torch.where(decided, values[torch.from_numpy(truth.argmax(axis=1))], 0)
    index = torch.from_numpy(patterns.index)
    label = torch.stack([region_members(fused, group).to(torch.float32)[index].reshape(votes.shape[1:]) for group in groups])
    confusion = torch.full((votes.shape[0], len(values), len(values)), float("nan"), dtype=torch.float64, device="cpu")
    confusion[there] = torch.from_numpy(found)
    return label.to(votes.device), RaterEstimates(confusion=confusion, values=tuple(values.tolist()))


def fuse_multilabel_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> torch.Tensor:
    """Return the label of :func:`estimate_multilabel_staple`, which explains the arguments: `(C, *S)`, float32, 0 or 1.

    Example:
        >>> fuse_multilabel_staple(torch.tensor([[0, 1, 4, 0], [0, 1, 4, 0], [0, 0, 4, 4]]), [[1, 4]])
        tensor([[0., 1., 1., 0.]])
    """
    return estimate_multilabel_staple(votes, regions, rater_weights, max_iterations=max_iterations)[0]
