"""The settings that only the LIDC bundle has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from monai_jdt.bundle_runtime.declarations import (
    CroppedTraining,
    EvaluationSettings,
    ImageName,
    PredictionSettings,
    RunSettings,
    Window,
)
from monai_jdt.bundle_runtime.kinds import AmongNames, KeyOf, NameText, Number, also
from monai_jdt.bundle_runtime.lidc_lists import UNMARKED_READERS

#: How the network's outputs become probabilities.
ACTIVATIONS: tuple[str, ...] = ("softmax", "sigmoid")

VoxelEdge = Annotated[Number, Field(gt=0, le=100)]


class LidcVolume(RunSettings):
    """Settings that training and prediction of the LIDC bundle share."""

    activation: Annotated[NameText, AmongNames(ACTIVATIONS)] = Field(
        description="How outputs become probabilities: with the background one distribution, or each region alone.",
        examples=["softmax"],
        json_schema_extra=also("act", "output_activation"),
    )
    spacing: list[VoxelEdge] | None = Field(
        min_length=3,
        max_length=3,
        description="Voxel size in mm to which every case is resampled; predictions are brought back. null: the size of the files.",
        examples=['"[1,1,1]"'],
        json_schema_extra=also("pixdim", "voxel_size", "target_spacing", "resample"),
    )
    roi: Window = Field(
        min_length=3,
        max_length=3,
        description="Size of the crops and of the sliding window, voxels of `spacing`; each edge a multiple of 8.",
        examples=['"[32,32,32]"'],
    )


class LidcTraining(LidcVolume, CroppedTraining):
    """Settings of `train.yaml` of the LIDC bundle."""

    unmarked: Annotated[NameText, AmongNames(UNMARKED_READERS)] = Field(
        description="What a reader says who did not mark the nodules of a case: `background`, as the literature has it, or nothing "
        "(`missing`: the case has fewer readers).",
        examples=["background"],
        json_schema_extra=also("unmarked_readers", "missing_readers"),
    )
    crop: Annotated[NameText, KeyOf("croppings", ("random", "whole"))] = Field(
        description="What is trained on: `random` crops, half of them around marked voxels, or the middle of each case (`whole`), for "
        "crops around nodules.",
        examples=["random"],
        json_schema_extra=also("cropping", "patches"),
    )


class LidcEvaluation(EvaluationSettings, LidcTraining):
    """Settings of `evaluate.yaml` over `train.yaml` of the LIDC bundle."""


class LidcPrediction(LidcVolume, PredictionSettings):
    """Settings of `inference.yaml` of the LIDC bundle."""

    image_name: ImageName = Field(
        description="The name of the image files below `dataset_dir`; `*` stands for any letters. Where there are none, every folder "
        "with DICOM files is a CT.",
        examples=["ct.nii.gz"],
    )
    prediction_name: NameText = Field(
        description="The name of a prediction in the folder of its case; ends in .nii.gz.", examples=["nodule.nii.gz"]
    )
