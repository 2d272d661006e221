"""Metrics of soft labels and several raters, in MONAI's calling conventions."""

from monai_jdt.metrics.disagreement_correlation import DisagreementCorrelation
from monai_jdt.metrics.expected_overlap import ExpectedOverlap
from monai_jdt.metrics.fine_grained_overlap import FineGrainedOverlap
from monai_jdt.metrics.generalized_energy_distance import GeneralizedEnergyDistance
from monai_jdt.metrics.lesion_wise_overlap import LesionWiseOverlap
from monai_jdt.metrics.rater_agreement import RaterAgreement
from monai_jdt.metrics.rater_brier_score import RaterBrierScore
from monai_jdt.metrics.rater_calibration_error import RaterCalibrationError
from monai_jdt.metrics.rater_dice import RaterDice
from monai_jdt.metrics.rater_nll import RaterNLL
from monai_jdt.metrics.soft_overlap import SoftDice, SoftJaccard
from monai_jdt.metrics.thresholded_dice import ThresholdedDice
from monai_jdt.metrics.volume_crps import VolumeCRPS

__all__ = [
    "DisagreementCorrelation",
    "ExpectedOverlap",
    "FineGrainedOverlap",
    "GeneralizedEnergyDistance",
    "LesionWiseOverlap",
    "RaterAgreement",
    "RaterBrierScore",
    "RaterCalibrationError",
    "RaterDice",
    "RaterNLL",
    "SoftDice",
    "SoftJaccard",
    "ThresholdedDice",
    "VolumeCRPS",
]
