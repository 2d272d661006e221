"""MONAI inferers that make samples, for the metrics that compare samples with raters."""

from monai_jdt.inferers.checkpoint_samples import CheckpointSamples
from monai_jdt.inferers.drawn_samples import DrawnSamples
from monai_jdt.inferers.dropout_samples import DropoutSamples
from monai_jdt.inferers.rater_samples import RaterSamples
from monai_jdt.inferers.sample_inferer import SampleInferer

__all__ = ["CheckpointSamples", "DrawnSamples", "DropoutSamples", "RaterSamples", "SampleInferer"]
