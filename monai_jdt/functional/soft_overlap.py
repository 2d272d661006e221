"""Soft Dice and soft Jaccard of a probability map and a soft label."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch

from monai_jdt.functional.metric_labels import DENSE, LabelRule, as_rows, read_metric_label, read_prediction, wide_dtype


class OverlapKind(Enum):
    """Which ratio: 2 tp / (2 tp + fp + fn), or tp / (tp + fp + fn)."""

    DICE = "dice"
    JACCARD = "jaccard"


def soft_overlap(
    y_pred: Any,
    y: Any,
    kind: OverlapKind,
    rule: LabelRule = DENSE,
    *,
    rater_weights: Any = None,
    include_background: bool = True,
) -> torch.Tensor:
    r"""Score the overlap of a probability map p and a soft label m, in each image and class.

    With :math:`tp = \sum \min(p, m)`, :math:`fp = \sum (p - \min(p, m))`, :math:`fn = \sum (m - \min(p, m))` over the counted voxels,

    .. math:: \mathrm{Dice} = \frac{2\,tp}{2\,tp + fp + fn} = 1 - \frac{|p - m|_1}{|p|_1 + |m|_1}, \qquad
              \mathrm{Jaccard} = \frac{tp}{tp + fp + fn} = 1 - \frac{|p - m|_1}{\sum \max(p, m)} .

    Both are 1 exactly for p = m, and equal the usual scores for hard p and m. They are 1 minus the losses `DiceSemimetricLoss` and
    `JaccardMetricLoss` of the same maps, without smoothing (arXiv:2302.05666, arXiv:2303.16296).

    Args:
        y_pred: probabilities, `(N, C, *S)` or `(N, C)`, in [0, 1].
        y: the soft label, of the same shape; with `rule.votes` a rater stack `(N, R, *S)`, whose weighted mean is the label.
        kind: Dice or Jaccard.
        rule: how the label is read.
        rater_weights: for votes: `(N, R)` or `(R,)`, 0 = missing; None: 1 each.
        include_background: False leaves channel 0 out.

    Returns:
        `(N, C)`, or `(N, C - 1)` without the background; float64 (Apple's MPS: float32) in [0, 1]. NaN where prediction and label are
        0 at every counted voxel, or no voxel counts.

    Raises:
        TypeError: no tensors.
        ValueError: shapes that do not fit, values outside [0, 1], or votes that are no class.

    Example:
        >>> p, m = torch.tensor([[[0.5, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.5, 0.0]]])
        >>> soft_overlap(p, m, OverlapKind.DICE), soft_overlap(p, m, OverlapKind.JACCARD)  # tp 1, fp .5, fn .5
        (tensor([[0.6667]], dtype=torch.float64), tensor([[0.5000]], dtype=torch.float64))
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
            p = p if counted is None else torch.where(counted, p, 0.0)
            both = torch.minimum(p, m)
            tp, differ = both.sum(), (p - both).sum() + (m - both).sum()
            twice = 2 * tp if kind is OverlapKind.DICE else tp
            scores[image, channel - first] = twice / (twice + differ)  # 0 / 0 is NaN: undefined
    return scores
