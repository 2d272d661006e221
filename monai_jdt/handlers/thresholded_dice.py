"""The thresholded Dice score in an evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.handlers import IgniteMetricHandler

from monai_jdt.metrics.thresholded_dice import ThresholdedDice


class MeanThresholdedDice(IgniteMetricHandler):
    """:class:`~monai_jdt.metrics.ThresholdedDice` over an evaluator's run, for `key_val_metric` and `additional_metrics`.

    Args:
        output_transform: from the engine's output to `(y_pred, y)`, such as `monai.handlers.from_engine(["prob", "label"])`.
        save_details: keep the scores of each image and class in `engine.state.metric_details`.
        arguments: those of the metric.

    Example:
        >>> MeanThresholdedDice(thresholds="mrnet").metric_fn.rule.thresholds
        (0.1, 0.3, 0.5, 0.7, 0.9)
    """

    def __init__(self, *, output_transform: Callable = lambda output: output, save_details: bool = True, **arguments: Any) -> None:
        super().__init__(metric_fn=ThresholdedDice(**arguments), output_transform=output_transform, save_details=save_details)
