"""The settings that only the BraTS bundle has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from monai_jdt.bundle_runtime.declarations import (
    CroppedTraining,
    EvaluationSettings,
    PredictionSettings,
    RunSettings,
    SpatialDims,
    Window,
)
from monai_jdt.bundle_runtime.kinds import AmongNames, NameList, VoxelSize, WholeList, also
from monai_jdt.data.layouts.brats import LAYOUT_CONVENTIONS


class BratsWindow(RunSettings):
    """Settings that training and prediction of the BraTS bundle share."""

    spatial_dims: SpatialDims = Field(
        description="3 for volumes; 2 for slices of volumes along their last axis, or images of two axes.", examples=[3]
    )
    roi: Window = Field(
        min_length=2,
        max_length=3,
        description="Size of the crops and of the sliding window, voxels, for each of `spatial_dims` axes; each edge a multiple of 8.",
        examples=['"[32,32,32]"'],
    )
    spacing: VoxelSize | None = Field(
        description="Size in mm of the voxels that the network sees, one number for each axis. null: as the files have it.",
        examples=['"[1,1,1]"'],
        json_schema_extra=also("pixdim", "voxel_size", "resample", "resolution"),
    )


class BratsTraining(BratsWindow, CroppedTraining):
    """Settings of `train.yaml` of the BraTS bundle."""

    layout: Annotated[str, AmongNames(("auto", *LAYOUT_CONVENTIONS))] = Field(
        description="The file layout; `auto` infers it from the file names."
    )


class BratsEvaluation(EvaluationSettings, BratsTraining):
    """Settings of `evaluate.yaml` over `train.yaml` of the BraTS bundle."""


class BratsPrediction(BratsWindow, PredictionSettings):
    """Settings of `inference.yaml` of the BraTS bundle."""

    image_endings: NameList = Field(
        min_length=1,
        description="How the files of a case end, in the order of training. One ending: one file with all channels.",
        examples=["\"['.nii.gz']\""],
        json_schema_extra=also("endings", "suffixes", "image_suffixes"),
    )
    channel_order: WholeList | None = Field(
        min_length=1,
        description="Where each channel of the training stands in a file with all channels. null: in the same order.",
        examples=['"[2,1,3,0]"'],
    )
