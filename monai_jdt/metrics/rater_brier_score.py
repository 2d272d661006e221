"""The Brier score against several raters as a MONAI metric."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.rater_brier_score import BrierPart, rater_brier_score
from monai_jdt.metrics.rater_scores import RaterScores
from monai_jdt.validation import check_choice


class RaterBrierScore(RaterScores):
    r"""The squared error of a probability map against each rater, and its two parts.

    Formula, conventions and errors: :func:`~monai_jdt.functional.rater_brier_score.rater_brier_score`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; a result without a defined score, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        part: "total", or its parts "distance" (from the mean of the raters) and "spread" (of the raters, which no prediction
            can lower).
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: the vote of a rater who says nothing at that voxel.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: probabilities `(N, C, *S)`, or lists without N.
        - y: votes `(N, R, *S)`, different R in the items of a list; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: `(N, C)`, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = RaterBrierScore()
        >>> scores = metric(torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[0, 1], [1, 1]]]))
        >>> metric.aggregate().item()
        0.125
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        part: str | BrierPart = "total",
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, regions=regions, ignore_index=ignore_index, undefined=undefined)
        self.part = check_choice("part", part, BrierPart)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        return rater_brier_score(
            y_pred, y, self.part, self.rule, rater_weights=rater_weights, include_background=self.include_background
        )
