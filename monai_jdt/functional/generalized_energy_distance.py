"""The generalised energy distance between samples of a model and raters."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch

from monai_jdt.functional.metric_labels import VOTES, LabelRule, RaterStack, wide_dtype
from monai_jdt.functional.set_overlap import SetOverlap, pair_speaks, read_samples, set_overlap


class EmptyDistance(Enum):
    """The distance of two empty sets: 0, or undefined and left out of the expectations."""

    ZERO = "zero"
    UNDEFINED = "undefined"


def generalized_energy_distance(
    y_pred: Any,
    y: Any,
    distance: SetOverlap = SetOverlap.IOU,
    diagonal: bool = True,
    empty: EmptyDistance = EmptyDistance.ZERO,
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score how the distribution of samples s differs from that of the raters y, in each image and class.

    .. math:: D^2 = 2\,E\,d(s, y) - E\,d(s, s') - E\,d(y, y'), \qquad d = 1 - \mathrm{IoU} \text{ or } 1 - \mathrm{Dice} .

    This is the squared form, as in Kohl et al., A probabilistic U-Net for segmentation of ambiguous images, NeurIPS 2018. Samples
    count alike, raters by their weights. A rater is compared with a sample where the rater says something, with another rater
    where both do, and samples with each other where any rater does. Two raters who never speak at the same voxel have no distance,
    and are left out.

    Args:
        y_pred: binary samples `(N, M, C, *S)`, or one prediction `(N, C, *S)`.
        y: votes `(N, R, *S)`.
        distance: 1 - IoU, or 1 - Dice.
        diagonal: True takes pairs of a sample (rater) with itself into the last two expectations (V-statistic, as published);
            False leaves them out (U-statistic, without bias), and is undefined for a single sample or rater.
        empty: the distance of two empty sets.
        rule: regions and the ignored value; `rule.votes` is True.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out.

    Returns:
        `(N, C)`, or `(N, C - 1)`; float64 (Apple's MPS: float32), >= 0 with `diagonal` and no abstention; NaN where undefined.

    Raises:
        TypeError: no tensors.
        ValueError: shapes that do not fit, samples that are not binary, or votes that are no class.

    Example:
        >>> sample, votes = torch.tensor([[[1, 0]]]), torch.tensor([[[1, 1], [1, 0]]])  # IoU 1/2 and 1; raters: 1/2
        >>> generalized_energy_distance(sample, votes)  # 2 * (1/2 + 0) / 2 - 0 - (0 + 1/2 + 1/2 + 0) / 4
        tensor([[0.2500]], dtype=torch.float64)
    """
    samples, stack = read_samples(y_pred, y, rule, rater_weights, include_background)
    channels = range(0 if include_background else 1, samples.shape[2])
    value = 1.0 if empty is EmptyDistance.ZERO else math.nan

    def overlap(first: torch.Tensor, second: torch.Tensor, counted: torch.Tensor | None) -> float:
        return set_overlap(first, second, distance, value, counted)

    rows = [[_squared(samples[n, :, c], stack, n, c, overlap, diagonal) for c in channels] for n in range(len(samples))]
    return torch.tensor(rows, dtype=wide_dtype(samples.device), device=samples.device).reshape(len(samples), len(channels))


def _squared(sets: torch.Tensor, stack: RaterStack, image: int, channel: int, overlap: Callable[..., float], diagonal: bool) -> float:
    """Return the squared distance of one image and class, from samples `(M, V)`."""
    raters, counted = stack.raters(image), stack.counted(image)
    weights, ones = [stack.weights[image][rater] for rater in raters], [1.0] * len(sets)
    marked = [stack.marks(image, rater, channel) for rater in raters]
    across = [[1 - overlap(y, s, stack.speaks(image, rater)) for s in sets] for rater, y in zip(raters, marked, strict=True)]
    own = [[1 - overlap(s, t, counted) for t in sets[: i + 1]] for i, s in enumerate(sets)]
    theirs = [
        [1 - overlap(a, b, pair_speaks(stack, image, raters[i], raters[j])) for j, b in enumerate(marked[: i + 1])]
        for i, a in enumerate(marked)
    ]
    within = _expected(_symmetric(own), ones, ones, diagonal) + _expected(_symmetric(theirs), weights, weights, diagonal)
    return 2 * _expected(across, weights, ones, True) - within


def _symmetric(triangle: list[list[float]]) -> list[list[float]]:
    """Return the whole matrix of its lower triangle."""
    size = len(triangle)
    return [[triangle[max(i, j)][min(i, j)] for j in range(size)] for i in range(size)]


def _expected(matrix: list[list[float]], row_weights: list[float], column_weights: list[float], diagonal: bool) -> float:
    """Return the weighted mean of the defined entries, with or without the diagonal."""
    total = mass = 0.0
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            if (diagonal or i != j) and not math.isnan(value):
                total += row_weights[i] * column_weights[j] * value
                mass += row_weights[i] * column_weights[j]
    return total / mass if mass > 0 else math.nan
