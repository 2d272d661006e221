"""Metrics over an evaluator's run, for `key_val_metric` and `additional_metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from monai.handlers import IgniteMetricHandler

from monai_jdt.metrics.disagreement_correlation import DisagreementCorrelation
from monai_jdt.metrics.expected_overlap import ExpectedOverlap
from monai_jdt.metrics.fine_grained_overlap import FineGrainedOverlap
from monai_jdt.metrics.generalized_energy_distance import GeneralizedEnergyDistance
from monai_jdt.metrics.image_scores import ImageScores
from monai_jdt.metrics.lesion_wise_overlap import LesionWiseOverlap
from monai_jdt.metrics.rater_agreement import RaterAgreement
from monai_jdt.metrics.rater_brier_score import RaterBrierScore
from monai_jdt.metrics.rater_calibration_error import RaterCalibrationError
from monai_jdt.metrics.rater_dice import RaterDice
from monai_jdt.metrics.rater_nll import RaterNLL
from monai_jdt.metrics.soft_overlap import SoftDice, SoftJaccard
from monai_jdt.metrics.thresholded_dice import ThresholdedDice
from monai_jdt.metrics.volume_crps import VolumeCRPS
from monai_jdt.validation import error_sentence


class MeanScore(IgniteMetricHandler):
    """A metric over an evaluator's run. Subclasses name the metric.

    Args:
        output_transform: from the engine's output to `(y_pred, y)` or `(y_pred, y, rater_weights)`, such as
            `monai.handlers.from_engine(["prob", "raters", "rater_weights"])`; for a metric of votes alone to the votes.
        save_details: keep in `engine.state.metric_details` what the metric computes of each image and class: scores, for
            :class:`FineGrainedOverlapHandler` counts, and for :class:`RaterCalibrationErrorHandler` at level "dataset" bins.
        arguments: those of the metric.

    Raises:
        ValueError: while the engine runs, for another number of outputs.
    """

    metric: ClassVar[type[ImageScores]]

    def __init__(self, *, output_transform: Callable = lambda output: output, save_details: bool = True, **arguments: Any) -> None:
        super().__init__(metric_fn=self.metric(**arguments), output_transform=output_transform, save_details=save_details)
        # ignite would pair the items of two lists itself, and refuse a third one: the raters' weights
        self._skip_unrolling = True

    def update(self, output: Any) -> None:
        """Score an iteration's output.

        Args:
            output: what `output_transform` gives.
        """
        self._is_reduced = False
        if not self.metric.needs_label and not isinstance(output, tuple):
            output = (output,)
        if not 1 <= len(output) <= 3:
            expected = "(y_pred, y) or (y_pred, y, rater_weights)"
            raise ValueError(error_sentence("output_transform", expected, f"{len(output)} outputs"))
        self.metric_fn(*output)


class MeanThresholdedDice(MeanScore):
    """:class:`~monai_jdt.metrics.ThresholdedDice` over an evaluator's run. Arguments as :class:`MeanScore`.

    Example:
        >>> MeanThresholdedDice(thresholds="mrnet").metric_fn.rule.thresholds
        (0.1, 0.3, 0.5, 0.7, 0.9)
    """

    metric = ThresholdedDice


class MeanSoftDice(MeanScore):
    """:class:`~monai_jdt.metrics.SoftDice` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = SoftDice


class MeanSoftJaccard(MeanScore):
    """:class:`~monai_jdt.metrics.SoftJaccard` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = SoftJaccard


class MeanRaterDice(MeanScore):
    """:class:`~monai_jdt.metrics.RaterDice` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = RaterDice


class MeanGeneralizedEnergyDistance(MeanScore):
    """:class:`~monai_jdt.metrics.GeneralizedEnergyDistance` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = GeneralizedEnergyDistance


class MeanRaterAgreement(MeanScore):
    """:class:`~monai_jdt.metrics.RaterAgreement` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = RaterAgreement


class MeanRaterBrierScore(MeanScore):
    """:class:`~monai_jdt.metrics.RaterBrierScore` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = RaterBrierScore


class MeanRaterNLL(MeanScore):
    """:class:`~monai_jdt.metrics.RaterNLL` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = RaterNLL


class MeanVolumeCRPS(MeanScore):
    """:class:`~monai_jdt.metrics.VolumeCRPS` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = VolumeCRPS


class MeanDisagreementCorrelation(MeanScore):
    """:class:`~monai_jdt.metrics.DisagreementCorrelation` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = DisagreementCorrelation


class MeanExpectedOverlap(MeanScore):
    """:class:`~monai_jdt.metrics.ExpectedOverlap` over an evaluator's run, whose label is the mask. Arguments as :class:`MeanScore`."""

    metric = ExpectedOverlap


class MeanLesionWiseOverlap(MeanScore):
    """:class:`~monai_jdt.metrics.LesionWiseOverlap` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = LesionWiseOverlap


class FineGrainedOverlapHandler(MeanScore):
    """:class:`~monai_jdt.metrics.FineGrainedOverlap` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = FineGrainedOverlap


class RaterCalibrationErrorHandler(MeanScore):
    """:class:`~monai_jdt.metrics.RaterCalibrationError` over an evaluator's run. Arguments as :class:`MeanScore`."""

    metric = RaterCalibrationError
