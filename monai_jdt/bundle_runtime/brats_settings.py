"""The settings that only the BraTS bundle has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from monai_jdt.bundle_runtime.declarations import Edge, EvaluationSettings, PredictionSettings, RunSettings, TrainingSettings, also
from monai_jdt.bundle_runtime.kinds import AmongNames, NameList, Number, VoxelSize, Whole, WholeList
from monai_jdt.data.layouts.brats import LAYOUT_CONVENTIONS


class BratsWindow(RunSettings):
    """Settings that training and prediction of the BraTS bundle share."""

    spatial_dims: Whole = Field(
        ge=2,
        le=3,
        description="3 for volumes; 2 for slices of volumes along their last axis, or images of two axes.",
        examples=[3],
        json_schema_extra=also("dims"),
    )
    roi: list[Edge] = Field(
        min_length=2,
        max_length=3,
        description="Size of the crops and of the sliding window, voxels, for each of `spatial_dims` axes; each edge a multiple of 8.",
        examples=['"[32,32,32]"'],
        json_schema_extra=also("roi_size", "patch_size", "crop_size", "size", "spatial_size"),
    )
    spacing: VoxelSize | None = Field(
        description="Size in mm of the voxels that the network sees, one number for each axis. null: as the files have it.",
        examples=['"[1,1,1]"'],
        json_schema_extra=also("pixdim", "voxel_size", "resample", "resolution"),
    )


class BratsTraining(BratsWindow, TrainingSettings):
    """Settings of `train.yaml` of the BraTS bundle."""

    layout: Annotated[str, AmongNames(("auto", *LAYOUT_CONVENTIONS))] = Field(
        description="The file layout; `auto` infers it from the file names."
    )
    val_fraction: Number = Field(
        gt=0,
        lt=1,
        description="The share of patients that are validated, unless the data list has its own split.",
        examples=[0.25],
        json_schema_extra=also("val_frac", "val_split", "fraction"),
    )
    crops: Whole = Field(
        ge=1,
        le=4096,
        description="Crops of each case in an epoch, half of them around labelled voxels.",
        examples=[2],
        json_schema_extra=also("num_samples", "n_crops", "num_crops"),
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
