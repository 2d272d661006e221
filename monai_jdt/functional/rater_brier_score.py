"""The Brier score of a probability map against several raters, and its two parts."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch

from monai_jdt.functional.metric_labels import VOTES, LabelRule, as_rows, read_metric_label, read_prediction, wide_dtype


class BrierPart(Enum):
    """The whole score, its distance from the mean of the raters, or the spread of the raters, which no prediction can lower."""

    TOTAL = "total"
    DISTANCE = "distance"
    SPREAD = "spread"


def rater_brier_score(
    y_pred: Any,
    y: Any,
    part: BrierPart = BrierPart.TOTAL,
    rule: LabelRule = VOTES,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score the squared error of a probability map p against each rater, averaged over raters and voxels, in each image and class.

    With :math:`y_r` what rater r marked, :math:`w_r` its weight among the raters that speak at a voxel, and
    :math:`m = \sum_r w_r y_r` their mean,

    .. math:: \underbrace{\frac1V \sum_v \sum_r w_r (p - y_r)^2}_{\text{total}}
              = \underbrace{\frac1V \sum_v (p - m)^2}_{\text{distance}} + \underbrace{\frac1V \sum_v m (1 - m)}_{\text{spread}} .

    The mean is over the voxels where any rater speaks. Scores are per channel; the sum over classes that some papers report is C
    times their mean.

    Args:
        y_pred: probabilities, `(N, C, *S)` or `(N, C)`, in [0, 1].
        y: votes `(N, R, *S)`.
        part: what is returned.
        rule: regions and the ignored value; `rule.votes` is True.
        rater_weights: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out.

    Returns:
        `(N, C)`, or `(N, C - 1)`; float64 (Apple's MPS: float32); NaN where no voxel counts.

    Raises:
        TypeError: no tensors.
        ValueError: shapes that do not fit, values outside [0, 1], or votes that are no class.

    Example:
        >>> p, votes = torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[0, 1], [1, 1]]])  # two raters, two voxels
        >>> rater_brier_score(p, votes)  # (.25 + 0) / 2: all of it is the raters' spread
        tensor([[0.1250]], dtype=torch.float64)
    """
    prob = read_prediction(y_pred, include_background)
    label = read_metric_label(prob, y, rule, rater_weights)
    rows, first = as_rows(prob), 0 if include_background else 1
    wide = wide_dtype(prob.device)
    scores = torch.empty(prob.shape[0], prob.shape[1] - first, dtype=wide, device=prob.device)
    for image in range(prob.shape[0]):
        for channel in range(first, prob.shape[1]):
            m, counted = label.soft(image, channel)
            p = rows[image, channel].to(wide)
            error = torch.zeros_like(m)
            if part is not BrierPart.SPREAD:
                error += (p - m) ** 2
            if part is not BrierPart.DISTANCE:
                error += m * (1 - m)
            scores[image, channel - first] = error.mean() if counted is None else error[counted].mean()
    return scores
