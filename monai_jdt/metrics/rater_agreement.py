"""The agreement of raters as a MONAI metric."""

from __future__ import annotations

from typing import Any

import torch

from monai_jdt.functional.metric_labels import check_background
from monai_jdt.functional.rater_agreement import AgreementKind, rater_agreement
from monai_jdt.metrics.rater_scores import RaterScores
from monai_jdt.validation import check_choice, check_int, error_sentence


class RaterAgreement(RaterScores):
    r"""How much the raters of an image agree with each other: a metric of the votes alone, `metric(votes)`.

    Formula, conventions and errors: :func:`~monai_jdt.functional.rater_agreement.rater_agreement`.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`; a result without a defined score, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        kind: "pairwise_dice", "pairwise_jaccard", or "fleiss_kappa".
        num_classes: label values from 0 to this - 1; either this or `regions`. 1: the value 1 against the rest.
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: the vote of a rater who says nothing at that voxel.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: the votes `(N, R, *S)` themselves, or lists without N.
        - y: None; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: `(N, C)`, or `(N, 1)` for kappa of label values, float64; of `aggregate`: as the reduction says.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = RaterAgreement(num_classes=1)
        >>> scores = metric(torch.tensor([[[1, 1, 0, 0], [1, 0, 0, 0]]]))  # 2 * 1 / (2 + 1)
        >>> round(metric.aggregate().item(), 4)
        0.6667
    """

    needs_label = False

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        kind: str | AgreementKind = "pairwise_dice",
        num_classes: int | None = None,
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, regions=regions, ignore_index=ignore_index, undefined=undefined)
        self.kind = check_choice("kind", kind, AgreementKind)
        if (num_classes is None) == (regions is None):
            got = "neither" if regions is None else "both"
            raise ValueError(error_sentence("num_classes, regions", "one of them", got))
        self.channels = len(self.rule.regions) if self.rule.regions is not None else check_int("num_classes", num_classes)
        if self.channels < 1:
            raise ValueError(error_sentence("num_classes", "a whole number >= 1", str(num_classes)))
        check_background(self.include_background, self.channels)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as the function does."""
        return rater_agreement(
            y_pred, self.channels, self.kind, self.rule, rater_weights=rater_weights, include_background=self.include_background
        )
