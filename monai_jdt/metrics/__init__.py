"""Metrics of soft labels and several raters, in MONAI's calling conventions."""

from monai_jdt.metrics.thresholded_dice import ThresholdedDice

__all__ = ["ThresholdedDice"]
