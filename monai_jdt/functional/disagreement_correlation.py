"""The correlation of a model's uncertainty with the raters' disagreement."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch

from monai_jdt.functional.metric_labels import (
    VOTES,
    DenseLabel,
    LabelRule,
    RaterStack,
    as_rows,
    read_prediction,
    read_rater_stack,
    wide_dtype,
)
from monai_jdt.functional.undefined import UNDEFINED
from monai_jdt.validation import error_sentence


class UncertaintyKind(Enum):
    """1 - sum of p_c^2 (for one channel p (1 - p)), or the entropy."""

    VARIANCE = "variance"
    ENTROPY = "entropy"


def disagreement_correlation(
    y_pred: Any,
    y: Any,
    uncertainty: UncertaintyKind = UncertaintyKind.VARIANCE,
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Correlate u(p), the uncertainty of a prediction, with u(m), the disagreement of the raters, over the voxels of each image.

    u is the same function of the probability p and of the raters' mean m:

    * "variance": :math:`1 - \sum_c p_c^2`; for one channel, or each region, :math:`p (1 - p)`;
    * "entropy": :math:`-\sum_c p_c \log p_c`; for one channel, or each region, that of p and 1 - p.

    The score is Pearson's r, over the voxels where at least two raters say something.

    Args:
        y_pred: probabilities, `(N, C, *S)` or `(N, C)`, in [0, 1].
        y: votes `(N, R, *S)`.
        uncertainty: which u.
        rule: regions and the ignored value; `rule.votes` is True. With regions each channel has a score.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out; with regions only, since classes have one uncertainty together.

    Returns:
        `(N, 1)`, with regions `(N, C)`; float64 (Apple's MPS: float32) in [-1, 1]. NaN where one of the two is constant: raters who all
        agree, or a prediction that is certain everywhere; and with fewer than two voxels or raters.

    Raises:
        TypeError: no tensors.
        ValueError: shapes that do not fit, values outside [0, 1], votes that are no class, or classes without the background.

    Example:
        >>> p = torch.tensor([[[0.0, 0.5, 0.9, 1.0]]])
        >>> votes = torch.tensor([[[0, 1, 1, 1], [0, 0, 1, 1]]])
        >>> disagreement_correlation(p, votes)  # u(p) = 0, .25, .09, 0; u(m) = 0, .25, 0, 0: .04125 / sqrt(.0417 * .046875)
        tensor([[0.9330]], dtype=torch.float64)
    """
    prob = read_prediction(y_pred, include_background)
    separate = prob.shape[1] == 1 or rule.regions is not None
    if not separate and not include_background:
        expected = "True for classes, which have one uncertainty together"
        raise ValueError(error_sentence("include_background", expected, "False", "leave it out"))
    label = read_rater_stack(prob, y, rule, rater_weights)
    rows, first = as_rows(prob), 0 if include_background else 1
    channels = [[c] for c in range(first, prob.shape[1])] if separate else [list(range(prob.shape[1]))]
    scores = torch.full((prob.shape[0], len(channels)), UNDEFINED, dtype=wide_dtype(prob.device), device=prob.device)
    for image in range(prob.shape[0]):
        counted = _voxels_of_two(label, image)
        predicted = DenseLabel(rows)
        for column, together in enumerate(channels):
            u = _uncertainty(predicted, image, together, uncertainty, separate)
            v = _uncertainty(label, image, together, uncertainty, separate)
            scores[image, column] = _pearson(u[counted], v[counted])
    return scores


def _voxels_of_two(stack: RaterStack, image: int) -> torch.Tensor:
    """Return the voxels where at least two raters say something."""
    speaking = torch.zeros(stack.votes.shape[2], dtype=torch.int16, device=stack.votes.device)
    for rater in stack.raters(image):
        speaks = stack.speaks(image, rater)
        speaking += 1 if speaks is None else speaks
    return speaking >= 2


def _uncertainty(
    label: DenseLabel | RaterStack, image: int, channels: list[int], kind: UncertaintyKind, separate: bool
) -> torch.Tensor:
    """Return u for each voxel, from one channel at a time."""
    total: torch.Tensor | None = None
    for channel in channels:
        share, _ = label.soft(image, channel)
        if kind is UncertaintyKind.VARIANCE:
            part = share * (1 - share) if separate else share**2
        else:
            part = -torch.xlogy(share, share) - (torch.xlogy(1 - share, 1 - share) if separate else 0.0)
        total = part if total is None else total + part
    assert total is not None
    return 1 - total if kind is UncertaintyKind.VARIANCE and not separate else total


def _pearson(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return Pearson's r, or NaN where a vector is constant, or has fewer than two numbers."""
    if first.numel() < 2 or bool((first == first[0]).all()) or bool((second == second[0]).all()):
        return UNDEFINED
    first, second = first - first.mean(), second - second.mean()
    r = float((first * second).sum() / ((first**2).sum() * (second**2).sum()).sqrt())
    return max(-1.0, min(1.0, r))
