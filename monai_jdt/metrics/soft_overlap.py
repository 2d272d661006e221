"""Soft Dice and soft Jaccard as MONAI metrics."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.metric_labels import label_rule
from monai_jdt.functional.soft_overlap import OverlapKind, soft_overlap
from monai_jdt.metrics.image_scores import ImageScores
from monai_jdt.validation import error_sentence


class SoftDice(ImageScores):
    r"""The Dice score of a probability map and a soft label, :math:`1 - |p - m|_1 / (|p|_1 + |m|_1)`: 1 only for p = m.

    Formula and errors: :func:`~monai_jdt.functional.soft_overlap.soft_overlap`. It is what
    :class:`~monai_jdt.losses.DiceSemimetricLoss` optimises.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; a result without a defined score, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        votes: y is a rater stack `(N, R, *S)`, whose weighted mean is the label; False: y has the shape of `y_pred`.
        regions: for votes: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: votes: the rater says nothing at that voxel; dense: voxels whose channels all have the value do not count.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: probabilities `(N, C, *S)` or `(N, C)`, or lists of `(C, *S)`.
        - y: the same, or votes `(N, R, *S)`; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: `(N, C)`, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = SoftDice()
        >>> scores = metric(torch.tensor([[[0.5, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.5, 0.0]]]))
        >>> round(metric.aggregate().item(), 4)  # 2 * 1 / (2 * 1 + .5 + .5)
        0.6667
    """

    _kind = OverlapKind.DICE

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        votes: bool = False,
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, undefined=undefined)
        self.rule = label_rule(votes, regions, ignore_index)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        if y is None:
            raise TypeError(error_sentence("y", "a torch.Tensor", "None", "pass the soft label, or votes"))
        return soft_overlap(y_pred, y, self._kind, self.rule, rater_weights=rater_weights, include_background=self.include_background)


class SoftJaccard(SoftDice):
    r"""The Jaccard score of a probability map and a soft label, :math:`1 - |p - m|_1 / \sum \max(p, m)`: 1 only for p = m.

    It is what :class:`~monai_jdt.losses.JaccardMetricLoss` optimises. Arguments, shapes and errors as :class:`SoftDice`.

    Example:
        >>> metric = SoftJaccard()
        >>> scores = metric(torch.tensor([[[0.5, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.5, 0.0]]]))
        >>> metric.aggregate().item()  # 1 / (1 + .5 + .5)
        0.5
    """

    _kind = OverlapKind.JACCARD
