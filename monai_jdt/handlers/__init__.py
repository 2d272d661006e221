"""Ignite handlers. Importing them needs no ignite, attaching them does."""

from monai_jdt.handlers.best_weights import BestWeightsWriter
from monai_jdt.handlers.case_figure import CaseFigureWriter
from monai_jdt.handlers.case_scores import CaseScoresWriter
from monai_jdt.handlers.case_volumes import CaseVolumeWriter
from monai_jdt.handlers.consistency_ramp_up import ConsistencyRampUp
from monai_jdt.handlers.empty_level import EmptyLevelSearch
from monai_jdt.handlers.epoch_checkpoint import EpochCheckpoint
from monai_jdt.handlers.gradient_clip import GradientClip
from monai_jdt.handlers.mean_scores import (
    FineGrainedOverlapHandler,
    MeanDisagreementCorrelation,
    MeanExpectedOverlap,
    MeanGeneralizedEnergyDistance,
    MeanLesionWiseOverlap,
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
from monai_jdt.handlers.step_seed import StepSeed
from monai_jdt.handlers.temperature import TemperatureSearch
from monai_jdt.handlers.trained_settings import TrainedSettingsWriter, check_trained_settings
from monai_jdt.handlers.training_table import TrainingTableWriter

__all__ = [
    "BestWeightsWriter",
    "CaseFigureWriter",
    "CaseScoresWriter",
    "CaseVolumeWriter",
    "ConsistencyRampUp",
    "EmptyLevelSearch",
    "EpochCheckpoint",
    "EpochLoss",
    "FineGrainedOverlapHandler",
    "GradientClip",
    "LossProgressBar",
    "MeanDisagreementCorrelation",
    "MeanExpectedOverlap",
    "MeanGeneralizedEnergyDistance",
    "MeanLesionWiseOverlap",
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
    "StepSeed",
    "TemperatureSearch",
    "TrainedSettingsWriter",
    "TrainingTableWriter",
    "check_trained_settings",
    "mean_loss",
]
