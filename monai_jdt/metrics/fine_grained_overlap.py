"""Fine-grained IoU, Dice and accuracy as a MONAI metric."""

from __future__ import annotations

from typing import Any

import torch
from monai.utils import MetricReduction

from monai_jdt.functional.fine_grained_overlap import (
    BothEmptyScore,
    Discretization,
    FineGrainedAverage,
    FineGrainedKind,
    fine_grained_average,
    overlap_counts,
    overlap_of_counts,
)
from monai_jdt.functional.metric_labels import label_rule
from monai_jdt.metrics.image_scores import ImageScores
from monai_jdt.metrics.reduction import metric_reduction_of, nothing_scored, reduce_classes, reduce_scores
from monai_jdt.validation import check_choice, check_int, error_sentence


class FineGrainedOverlap(ImageScores):
    r"""IoU, Dice or accuracy averaged over the data set, images or classes, and over the worst cases (arXiv:2310.19252).

    ==========  =====================================================================================================
    average     mean
    ==========  =====================================================================================================
    "dataset"   counts are added over images, then the ratio of each class, then the mean over classes: mIoU^D
    "image"     mean over an image's classes, then over images: mIoU^I
    "class"     mean over a class's images, then over classes: mIoU^C
    ==========  =====================================================================================================

    An image's classes are those of its label; a class that no label has is undefined. With a single channel a prediction where the
    label is empty has IoU and Dice 0 and an undefined accuracy, and `empty` says what two empty masks score. An image without a counted
    voxel is undefined. Counts are exact.

    Args:
        include_background: False leaves channel 0 out.
        reduction: "mean", "sum" or "none" (the classes) for `average="dataset"`. For the others "mean" follows `average` and `worst`,
            and MONAI's other reductions act on the scores of images and classes.
        get_not_nans: `aggregate` returns the number of defined scores (classes, or images and classes) too.
        kind: "iou", "dice", or "accuracy", the share of a class's voxels that are found.
        average: a row of the table.
        worst: q: the mean over the `max(1, n * q // 100)` worst of n images, or of a class's images; "averaged": the mean of
            q = 10, 20, ..., 100; None: all. Not with "dataset", and with `reduction="mean"` only.
        discretize: "argmax" or "threshold" (above .5) for probabilities; None: `y_pred` is 0 and 1.
        empty: "undefined" or "one", for a single channel.
        ignore_index: voxels whose label channels all have the value do not count; not 0 or 1.
        undefined: "leave_out" or "spread": what an undefined score (an image without a class of the others, too) does to the result.

    Shapes:
        - y_pred, y: `(N, C, *S)`, 0 and 1; y is a hard label: fuse raters before.
        - result of a call: counts `(N, C, 4)`, int64: both, prediction, label, voxels that count.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, tensors that do not fit each other.

    Example:
        >>> metric = FineGrainedOverlap(average="image")
        >>> counts = metric(torch.tensor([[[1, 1, 0]], [[0, 1, 1]]]), torch.tensor([[[1, 0, 0]], [[0, 1, 1]]]))
        >>> metric.aggregate().item()  # (1/2 + 1) / 2
        0.75
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: Any = "mean",
        get_not_nans: bool = False,
        *,
        kind: str | FineGrainedKind = "iou",
        average: str | FineGrainedAverage = "dataset",
        worst: float | str | None = None,
        discretize: str | Discretization | None = None,
        empty: str | BothEmptyScore = "undefined",
        ignore_index: int | None = None,
        undefined: Any = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, undefined=undefined)
        self.kind = check_choice("kind", kind, FineGrainedKind)
        self.average = check_choice("average", average, FineGrainedAverage)
        self.discretize = None if discretize is None else check_choice("discretize", discretize, Discretization)
        self.empty = check_choice("empty", empty, BothEmptyScore)
        self.ignore_index = label_rule(ignore_index=ignore_index).ignore_index
        self.percents = _percents_of(worst)
        self._check_reduction(self.reduction)

    def _check_reduction(self, reduction: MetricReduction) -> None:
        if self.average is FineGrainedAverage.DATASET:
            if self.percents != (100,):
                raise ValueError(
                    error_sentence("worst", "None with average='dataset'", "worst cases", "pass average='image' or 'class'")
                )
            reduce_classes(torch.zeros(1), reduction)  # raises
        elif self.percents != (100,) and reduction is not MetricReduction.MEAN:
            raise ValueError(error_sentence("reduction", "'mean' with `worst`", repr(reduction.value)))

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Count a batch."""
        if rater_weights is not None:
            raise ValueError(error_sentence("rater_weights", "None for hard labels", "weights", "fuse the raters before"))
        return overlap_counts(y_pred, y, self.discretize, ignore_index=self.ignore_index, include_background=self.include_background)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Average the counts of all calls since the last `reset`, those of other processes included.

        Args:
            reduction: instead of the constructor's.

        Returns:
            The result, float64; with `get_not_nans` also the number of defined scores. NaN, and 0, where there was no image.
        """
        chosen = metric_reduction_of(reduction or self.reduction)
        self._check_reduction(chosen)
        counts = self.get_buffer()
        if counts is None:
            result, number = nothing_scored()
        else:
            # without the background a single channel of counts is the second of two
            one_channel = counts.shape[1] == 1 and self.include_background
            result, number = self._averaged(counts, chosen, one_channel)
        return (result, number) if self.get_not_nans else result

    def _averaged(self, counts: torch.Tensor, reduction: MetricReduction, one_channel: bool) -> tuple[torch.Tensor, torch.Tensor]:
        if self.average is FineGrainedAverage.DATASET:
            classes = overlap_of_counts(counts.sum(0), self.kind, one_channel, self.empty)
            return reduce_classes(classes, reduction, self.undefined)
        scores = overlap_of_counts(counts, self.kind, one_channel, self.empty)
        if reduction is MetricReduction.MEAN:
            result = fine_grained_average(scores, self.average, self.percents, self.undefined)
            return result, (~scores.isnan()).sum().float()
        return reduce_scores(scores, reduction, self.undefined)


def _percents_of(worst: float | str | None) -> tuple[int, ...]:
    """Return the percents whose means are averaged."""
    if worst is None:
        return (100,)
    if worst == "averaged":
        return tuple(range(10, 101, 10))
    if isinstance(worst, str):
        raise ValueError(error_sentence("worst", "None, 'averaged', or a whole number of percent", repr(worst)))
    percent = check_int("worst", worst)
    if not 1 <= percent <= 100:
        raise ValueError(error_sentence("worst", "percent from 1 to 100", str(percent)))
    return (percent,)
