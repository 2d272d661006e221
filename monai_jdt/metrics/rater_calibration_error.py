"""The calibration error against several raters as a MONAI metric."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from monai.utils import MetricReduction

from monai_jdt.functional.rater_calibration_error import (
    Binning,
    CalibrationKind,
    CalibrationRegion,
    CalibrationRule,
    CalibrationTarget,
    error_of_bins,
    rater_calibration_bins,
    rater_calibration_error,
)
from monai_jdt.metrics.rater_scores import RaterScores
from monai_jdt.metrics.reduction import metric_reduction_of, reduce_classes
from monai_jdt.validation import check_bool, check_choice, check_int, error_sentence


class CalibrationLevel(Enum):
    """Bins pooled over the data set, or an error for each image."""

    DATASET = "dataset"
    IMAGE = "image"


class RaterCalibrationError(RaterScores):
    r"""The expected, average or maximum calibration error of a probability map against several raters.

    Formula, conventions and errors: :func:`~monai_jdt.functional.rater_calibration_error.rater_calibration_error`; the bins of a
    reliability diagram: :func:`~monai_jdt.functional.rater_calibration_error.rater_calibration_bins`.

    Args:
        include_background: False leaves channel 0 out; with `classwise` only.
        reduction: as in :class:`monai.metrics.DiceMetric`; with `level="dataset"`, which has classes only, "mean", "sum" or "none".
        get_not_nans: `aggregate` returns the number of defined scores too.
        kind: "ece", "ace" (mean over non-empty bins), or "mce".
        against: "mean", the share of raters, for which p = m scores 0; or "raters". At level "dataset" all (voxel, rater) pairs are
            pooled; at level "image" each rater's error is computed, then averaged, so that it includes the raters' disagreement.
        classwise: True: each channel is a binary problem, and their mean is the static calibration error. False: the largest of all
            channels, as torchmetrics. None: True for one channel and for regions, else False.
        level: "dataset": bins are added over images, then the error; "image": an error for each image.
        bins: how many.
        binning: "width", or "mass": bins with as many voxels each; with `level="image"` only.
        inside: "all" voxels, or the joint bounding "box" of what the raters marked.
        regions: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: the vote of a rater who says nothing at that voxel.
        undefined: "leave_out" or "spread": what the reduction does with an undefined score.

    Shapes:
        - y_pred: probabilities `(N, C, *S)`, or lists without N.
        - y: votes `(N, R, *S)`, different R in the items of a list; rater_weights at the call: `(N, R)` or `(R,)`, 0 = missing.
        - result of a call: errors `(N, C)` at level "image", bins `(N, C, bins, 3)` at level "dataset", C = 1 for the largest channel.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = RaterCalibrationError(bins=2)
        >>> bins = metric(torch.tensor([[[0.25, 0.25, 0.75]]]), torch.tensor([[[0, 1, 1], [0, 0, 1]]]))
        >>> round(metric.aggregate().item(), 4)  # |1/4 - 1/4| * 2/3 + |1 - 3/4| * 1/3
        0.0833
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        kind: str | CalibrationKind = "ece",
        against: str | CalibrationTarget = "mean",
        classwise: bool | None = None,
        level: str | CalibrationLevel = "dataset",
        bins: int = 15,
        binning: str | Binning = "width",
        inside: str | CalibrationRegion = "all",
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, regions=regions, ignore_index=ignore_index, undefined=undefined)
        self.kind = check_choice("kind", kind, CalibrationKind)
        self.level = check_choice("level", level, CalibrationLevel)
        if check_int("bins", bins) < 1:
            raise ValueError(error_sentence("bins", "a whole number >= 1", str(bins)))
        self.how = CalibrationRule(
            check_choice("against", against, CalibrationTarget),
            None if classwise is None else check_bool("classwise", classwise),
            bins,
            check_choice("binning", binning, Binning),
            check_choice("inside", inside, CalibrationRegion),
        )
        if self.level is CalibrationLevel.DATASET:
            if self.how.binning is Binning.MASS:
                got, fix = "'mass'", "pass level='image': quantiles of a data set need all its voxels at once"
                raise ValueError(error_sentence("binning", "'width' with level='dataset'", got, fix))
            reduce_classes(torch.zeros(1), self.reduction, self.undefined)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Return the bins of a batch, or its errors."""
        options = {"rater_weights": rater_weights, "include_background": self.include_background}
        if self.level is CalibrationLevel.DATASET:
            return rater_calibration_bins(y_pred, y, self.how, self.rule, **options)
        return rater_calibration_error(y_pred, y, self.kind, self.how, self.rule, **options)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Compute the error of all calls since the last `reset`, those of other processes included.

        Args:
            reduction: instead of the constructor's.

        Returns:
            The result, float64; with `get_not_nans` also the number of defined scores. NaN, and 0, where there was no image.
        """
        bins = self.get_buffer() if self.level is CalibrationLevel.DATASET else None
        if bins is None:
            return super().aggregate(reduction)
        chosen = metric_reduction_of(reduction or self.reduction)
        result, number = reduce_classes(error_of_bins(bins.sum(0), self.kind), chosen, self.undefined)
        return (result, number) if self.get_not_nans else result
