"""The generalised energy distance as a MONAI metric."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.generalized_energy_distance import EmptyDistance, generalized_energy_distance
from monai_jdt.functional.set_overlap import SetOverlap
from monai_jdt.metrics.rater_scores import RaterScores
from monai_jdt.validation import check_bool, check_choice


class GeneralizedEnergyDistance(RaterScores):
    r"""The squared generalised energy distance between samples of a model and raters.

    Formula, conventions and errors: :func:`~monai_jdt.functional.generalized_energy_distance.generalized_energy_distance`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; a result without a defined score, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        distance: "iou" (1 - IoU) or "dice" (1 - Dice).
        diagonal: whether a sample, or rater, is compared with itself too, as published.
        empty: the distance of two empty sets: "zero" or "undefined".
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: the vote of a rater who says nothing at that voxel.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: binary samples `(N, M, C, *S)`, or one prediction `(N, C, *S)`, or lists without N.
        - y: votes `(N, R, *S)`, different R in the items of a list; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: `(N, C)`, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = GeneralizedEnergyDistance()
        >>> scores = metric(torch.tensor([[[1, 0]]]), torch.tensor([[[1, 1], [1, 0]]]))
        >>> metric.aggregate().item()
        0.25
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        distance: str | SetOverlap = "iou",
        diagonal: bool = True,
        empty: str | EmptyDistance = "zero",
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, regions=regions, ignore_index=ignore_index, undefined=undefined)
        self.distance = check_choice("distance", distance, SetOverlap)
        self.diagonal = check_bool("diagonal", diagonal)
        self.empty = check_choice("empty", empty, EmptyDistance)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        return generalized_energy_distance(
            y_pred,
            y,
            self.distance,
            self.diagonal,
            self.empty,
            self.rule,
            rater_weights=rater_weights,
            include_background=self.include_background,
        )
