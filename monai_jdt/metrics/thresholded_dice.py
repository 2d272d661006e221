"""The thresholded Dice score as a MONAI metric."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from monai.utils import MetricReduction

from monai_jdt.functional.metric_labels import label_rule
from monai_jdt.functional.thresholded_dice import BothEmpty, ThresholdComparison, threshold_rule, thresholded_dice
from monai_jdt.functional.undefined import UndefinedPolicy
from monai_jdt.metrics.image_scores import ImageScores
from monai_jdt.validation import error_sentence


class ThresholdedDice(ImageScores):
    r"""The Dice score of a probability map and a soft label, averaged over the thresholds at which both are cut.

    The metric of the QUBIQ challenge: :math:`\frac1T \sum_t \mathrm{Dice}(p > t,\ m > t)` for each image and class, p the predicted
    probability and m the mean of the raters. It is 1 for p = m, and unlike a Dice score against the majority it asks for the right
    probability wherever raters disagree. Formula, rounding at the thresholds and errors:
    :func:`~monai_jdt.functional.thresholded_dice.thresholded_dice`.

    ===============  =============================  ==========  ===========
    thresholds       values                         comparison  both_empty
    ===============  =============================  ==========  ===========
    "qubiq"          .1, .2, ..., .9                ">"         "one"
    "mrnet"          .1, .3, .5, .7, .9             ">"         "one"
    "curvas-pdacvi"  .1, .24, .38, .52, .66, .8     ">"         "one"
    numbers          as given                       ">"         "undefined"
    ===============  =============================  ==========  ===========

    `comparison` and `both_empty` override what the thresholds bring. "one" rewards an empty prediction of an empty label, and at
    high thresholds many labels are empty: scores under "one" and "undefined" are not comparable.

    Args:
        include_background: False leaves channel 0 out.
        reduction: as in :class:`monai.metrics.DiceMetric`: "mean", "sum", "mean_batch", "sum_batch", "mean_channel", "sum_channel",
            "none". A result to which no defined score contributes, an empty run's among them, is NaN.
        get_not_nans: `aggregate` returns the number of defined scores too.
        thresholds: a name in the table, or different numbers in [0, 1) (for ">=" in (0, 1]).
        comparison: ">" or ">="; None: that of the table.
        both_empty: the score at a threshold that leaves neither map a voxel: "one", "zero", or "undefined", left out of the mean
            over thresholds; None: that of the table.
        votes: y is a rater stack `(N, R, *S)`, whose weighted mean is the label; False: y has the shape of `y_pred`.
        regions: for votes: the label values of each channel; None: channel c is value c, and a single channel is the value 1.
        ignore_index: votes: the rater says nothing at that voxel; dense: voxels whose channels all have the value do not count.
        undefined: what the reduction does with an undefined score: "leave_out", or "spread", which makes the result undefined.

    Shapes:
        - y_pred: ``(N, C, *S)`` or ``(N, C)``, or lists of ``(C, *S)``; values in [0, 1].
        - y: likewise; with votes ``(N, R, *S)``, different R in the items of a list; rater_weights at the call: ``(N, R)`` or ``(R,)``,
          0 = missing.
        - result of a call: ``(N, C)``, float64; of `aggregate`: as the reduction says, float64.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument that makes no sense; at a call, maps that do not fit each other or [0, 1].

    Example:
        >>> metric = ThresholdedDice(thresholds=[0.1, 0.5, 0.8])
        >>> p, m = torch.tensor([[[0.9, 0.6, 0.2, 0.0]]]), torch.tensor([[[1.0, 0.4, 0.4, 0.0]]])
        >>> scores = metric(y_pred=p, y=m)
        >>> round(metric.aggregate().item(), 4)  # (1 + 2/3 + 1) / 3
        0.8889
        >>> metric.reset()
        >>> metric.aggregate().item()
        nan
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = "mean",
        get_not_nans: bool = False,
        *,
        thresholds: str | Iterable[float] = "qubiq",
        comparison: str | ThresholdComparison | None = None,
        both_empty: str | BothEmpty | None = None,
        votes: bool = False,
        regions: Any = None,
        ignore_index: int | None = None,
        undefined: str | UndefinedPolicy = "leave_out",
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, undefined=undefined)
        self.rule = threshold_rule(thresholds, comparison, both_empty)
        self.reading = label_rule(votes, regions, ignore_index)

    def score(self, y_pred: torch.Tensor, y: torch.Tensor | None, rater_weights: Any = None) -> torch.Tensor:
        """Score a batch as :func:`~monai_jdt.functional.thresholded_dice.thresholded_dice`."""
        if y is None:
            raise TypeError(
                error_sentence("y", "a torch.Tensor", "None", "pass the soft label, such as the mean of the raters, or votes")
            )
        options = {"rater_weights": rater_weights, "include_background": self.include_background}
        return thresholded_dice(y_pred, y, self.rule, self.reading, **options)
