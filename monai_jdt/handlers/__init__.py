"""Ignite handlers. Importing them needs no ignite, attaching them does."""

from monai_jdt.handlers.case_figure import CaseFigureWriter
from monai_jdt.handlers.mean_scores import (
    FineGrainedOverlapHandler,
    MeanDisagreementCorrelation,
    MeanGeneralizedEnergyDistance,
    MeanRaterAgreement,
    MeanRaterBrierScore,
    MeanRaterDice,
    MeanRaterNLL,
    MeanSoftDice,
    MeanSoftJaccard,
    MeanThresholdedDice,
    MeanVolumeCRPS,
    RaterCalibrationErrorHandler,
)
from monai_jdt.handlers.non_finite import NonFiniteLossError, NonFiniteLossStop
from monai_jdt.handlers.progress import EpochLoss, LossProgressBar, mean_loss
from monai_jdt.handlers.sample_maker import SampleMaker
from monai_jdt.handlers.trained_settings import TrainedSettingsWriter, check_trained_settings

__all__ = [
    "CaseFigureWriter",
    "EpochLoss",
    "FineGrainedOverlapHandler",
    "LossProgressBar",
    "MeanDisagreementCorrelation",
    "MeanGeneralizedEnergyDistance",
    "MeanRaterAgreement",
    "MeanRaterBrierScore",
    "MeanRaterDice",
    "MeanRaterNLL",
    "MeanSoftDice",
    "MeanSoftJaccard",
    "MeanThresholdedDice",
    "MeanVolumeCRPS",
    "NonFiniteLossError",
    "NonFiniteLossStop",
    "RaterCalibrationErrorHandler",
    "SampleMaker",
    "TrainedSettingsWriter",
    "check_trained_settings",
    "mean_loss",
]
