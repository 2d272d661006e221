"""STAPLE: the label that best explains the raters, together with how well each of them sees it.

Warfield, Zou, Wells: Simultaneous truth and performance level estimation (STAPLE), IEEE TMI 23(7), 2004. An expectation
maximisation between the label and each rater's sensitivity and specificity (in the multi-label form: confusion matrix). Both
are ITK's filters, called through SimpleITK; ITK's own Python package does not wrap the multi-label one.

What a rater of weight 0 and an empty rater are: see :mod:`monai_jdt.raters.fusion`. An empty rater is one of sensitivity 0: it
takes nothing away from two raters who agree, but makes a voxel .5 if it has only one rater against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from monai_jdt.raters.fusion import RaterEstimates, checked_rater_weights, checked_votes, region_members

#: An EM that has not ended by then is stopped; ITK's own default is 2^32 - 1, which never ends if a number turned NaN.
MAX_ITERATIONS = 1000


def estimate_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[torch.Tensor, RaterEstimates]:
    """STAPLE of each region by itself, with the raters' sensitivity and specificity.

    Args:
        votes: label values `(R, *S)`, as in :func:`monai_jdt.raters.region_votes`.
        regions: one entry a channel, as there. Each is a binary problem: classes need not sum to exactly 1.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        max_iterations: of the EM.

    Returns:
        The probability `(C, *S)`, float32, in [0, 1], and the estimates: sensitivity and specificity `(R, C)`, NaN for a missing
        rater. A region that no rater marks is 0 everywhere, one that all mark everywhere is 1, and one rater is that rater; the
        estimates that are then undefined (the filter's too) are NaN: sensitivity if the label is all 0, specificity if all 1.

    Raises:
        ValueError: as :func:`monai_jdt.raters.fuse_weighted`, and if the estimation fails.
        TypeError: as :func:`monai_jdt.raters.region_votes`.
        ImportError: without SimpleITK.

    Example:
        >>> votes = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
        >>> label, estimates = estimate_staple(votes, [1])
        >>> label.tolist(), estimates.sensitivity.round(decimals=3).flatten().tolist()
        ([[0.0, 1.0, 1.0, 0.0]], [1.0, 1.0, 0.0])
    """
    import SimpleITK

    votes, groups = checked_votes(votes, regions)
    there = (checked_rater_weights(rater_weights, votes.shape[0]) > 0).nonzero().flatten().tolist()
    label = torch.zeros((len(groups), *votes.shape[1:]), dtype=torch.float32)
    sensitivity = torch.full((votes.shape[0], len(groups)), float("nan"), dtype=torch.float64)
    specificity = sensitivity.clone()
    for c, group in enumerate(groups):
        marks = [region_members(votes[r], group).cpu() for r in there]
        if not any(bool(mark.any()) for mark in marks):
            specificity[there, c] = 1.0
            continue
        if all(bool(mark.all()) for mark in marks):
            label[c] = 1
            sensitivity[there, c] = 1.0
            continue
        em = SimpleITK.STAPLEImageFilter()
        em.SetForegroundValue(1.0)
        em.SetMaximumIterations(max_iterations)
        fused = SimpleITK.GetArrayFromImage(em.Execute([_as_itk(mark.numpy().astype(np.uint8)) for mark in marks]))
        if not np.isfinite(fused).all():
            raise ValueError(f"region {group}: expected a finite STAPLE estimate, got NaN. Fix: use another fusion for this case")
        label[c] = torch.from_numpy(fused).reshape(votes.shape[1:])
        sensitivity[there, c] = torch.tensor(em.GetSensitivity(), dtype=torch.float64)
        specificity[there, c] = torch.tensor(em.GetSpecificity(), dtype=torch.float64)
    return label.clamp_(0, 1).to(votes.device), RaterEstimates(sensitivity=sensitivity, specificity=specificity)


def fuse_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> torch.Tensor:
    """The label of :func:`estimate_staple`, which explains the arguments: `(C, *S)`, float32, in [0, 1].

    Example:
        >>> fuse_staple(torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 1]]), [1])
        tensor([[0., 1., 1.]])
    """
    return estimate_staple(votes, regions, rater_weights, max_iterations=max_iterations)[0]


def estimate_multilabel_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[torch.Tensor, RaterEstimates]:
    """STAPLE of all label values at once (Rohlfing, Russakoff, Maurer, IEEE TMI 23(8), 2004), with confusion matrices.

    Args:
        votes: label values `(R, *S)`, as in :func:`monai_jdt.raters.region_votes`.
        regions: one entry a channel, as there, read from the fused label map: the values are fused, not the regions.
        rater_weights: `(R,)`, 0 = the rater is missing; other values say only that it is there.
        max_iterations: of the EM.

    Returns:
        `(C, *S)`, float32, 0 or 1 (where two values are equally likely: the value 0), and the estimates: `confusion`
        `(R, L, L)` over the L `values` that occur, NaN for a missing rater. With one value in all maps it is 1.

    Raises:
        ValueError: as :func:`monai_jdt.raters.fuse_weighted`.
        TypeError: as :func:`monai_jdt.raters.region_votes`.
        ImportError: without SimpleITK.

    Example:
        >>> votes = torch.tensor([[0, 1, 4, 0], [0, 1, 4, 0], [0, 0, 4, 4]])
        >>> label, estimates = estimate_multilabel_staple(votes, [1, 4])
        >>> label.tolist(), estimates.values
        ([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], (0, 1, 4))
    """
    import SimpleITK

    votes, groups = checked_votes(votes, regions)
    there = (checked_rater_weights(rater_weights, votes.shape[0]) > 0).nonzero().flatten().tolist()
    stack = votes[there].cpu().numpy()
    # numbered without gaps: the filter takes unsigned values only, and a value that nobody uses makes its numbers NaN
    values, codes = np.unique(stack, return_inverse=True)
    count = len(values)
    confusion = torch.full((votes.shape[0], count, count), float("nan"), dtype=torch.float64)
    if count < 2:
        fused_map = votes[there[0]].to(torch.int64)
        confusion[there] = 1.0
    else:
        codes = codes.reshape(stack.shape).astype(np.uint8 if count < 256 else np.uint16)
        em = SimpleITK.MultiLabelSTAPLEImageFilter()
        em.SetMaximumNumberOfIterations(max_iterations)
        em.SetLabelForUndecidedPixels(count)
        decided = SimpleITK.GetArrayFromImage(em.Execute([_as_itk(code) for code in codes])).reshape(stack.shape[1:])
        fused_map = torch.from_numpy(np.append(values.astype(np.int64), 0))[torch.from_numpy(decided.astype(np.int64))]
        for number, rater in enumerate(there):
            # one row more than values: the undecided
            matrix = np.asarray(em.GetConfusionMatrix(number)).reshape(count + 1, count)
            confusion[rater] = torch.from_numpy(matrix[:count])
    label = torch.stack([region_members(fused_map, group) for group in groups]).to(votes.device, torch.float32)
    return label, RaterEstimates(confusion=confusion, values=tuple(int(v) for v in values))


def fuse_multilabel_staple(
    votes: torch.Tensor,
    regions: Sequence[int | Sequence[int]],
    rater_weights: torch.Tensor | Sequence[float] | None = None,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> torch.Tensor:
    """The label of :func:`estimate_multilabel_staple`, which explains the arguments: `(C, *S)`, float32, 0 or 1.

    Example:
        >>> fuse_multilabel_staple(torch.tensor([[0, 1, 4, 0], [0, 1, 4, 0], [0, 0, 4, 4]]), [[1, 4]])
        tensor([[0., 1., 1., 0.]])
    """
    return estimate_multilabel_staple(votes, regions, rater_weights, max_iterations=max_iterations)[0]


def _as_itk(array: np.ndarray) -> Any:
    """An image for a filter that looks at one voxel at a time: any number of axes as two or three."""
    import SimpleITK

    return SimpleITK.GetImageFromArray(np.ascontiguousarray(array if array.ndim in (2, 3) else array.reshape(1, -1)))
