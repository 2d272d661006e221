"""The correlation of uncertainty with disagreement as a MONAI metric."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.disagreement_correlation import UncertaintyKind, disagreement_correlation
from monai_jdt.metrics.rater_scores import RaterScores
from monai_jdt.validation import check_choice


class DisagreementCorrelation(RaterScores):
    r"""Pearson's correlation of a model's uncertainty with the raters' disagreement over an image.

    Formula, conventions and errors: :func:`~monai_jdt.functional.disagreement_correlation.disagreement_correlation`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; a result without a defined score, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        uncertainty: "variance" or "entropy".
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: the vote of a rater who says nothing at that voxel.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: probabilities `(N, C, *S)`, or lists without N.
        - y: votes `(N, R, *S)`, different R in the items of a list; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: `(N, 1)`, with regions `(N, C)`, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = DisagreementCorrelation()
        >>> scores = metric(torch.tensor([[[0.0, 0.5, 1.0]]]), torch.tensor([[[0, 1, 1], [0, 0, 1]]]))
        >>> round(metric.aggregate().item(), 6)
        1.0
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        uncertainty: str | UncertaintyKind = "variance",
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, regions=regions, ignore_index=ignore_index, undefined=undefined)
        self.uncertainty = check_choice("uncertainty", uncertainty, UncertaintyKind)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        return disagreement_correlation(
            y_pred, y, self.uncertainty, self.rule, rater_weights=rater_weights, include_background=self.include_background
        )
