"""The settings that only the QUBIQ bundle has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from monai_jdt.bundle_runtime.declarations import (
    Edge,
    EvaluationSettings,
    ImageName,
    PredictionSettings,
    RunSettings,
    SpatialDims,
    TrainingSettings,
)
from monai_jdt.bundle_runtime.kinds import AmongNames, NameText, Whole, also
from monai_jdt.data.layouts.qubiq import QUBIQ_SETS

Axis = Annotated[Whole, Field(ge=-4, le=3)]


class QubiqStructure(RunSettings):
    """Settings that training and prediction of the QUBIQ bundle share."""

    set: Annotated[str, AmongNames(tuple(QUBIQ_SETS))] = Field(
        description="The data set.", json_schema_extra=also("dataset", "data_set", "dataset_name")
    )
    task: Whole = Field(
        ge=1,
        description="Number of the structure: prostate has two tasks, brain-tumor three, the others one.",
        examples=[1],
        json_schema_extra=also("structure", "task_id"),
    )
    protocol: Annotated[str, AmongNames(("short", "paper"))] = Field(
        description="Size, epochs and batches: of the paper, or what a CPU does with phantoms in a minute."
    )
    spatial_dims: SpatialDims = Field(description="2 for images, 3 for volumes.", examples=[2])
    channel_dim: Axis | Literal["no_channel"] | None = Field(
        description="The axis of a file that holds the channels. no_channel: none does. null: as the file itself says.", examples=[-1]
    )
    size: list[Edge] = Field(
        min_length=2,
        max_length=3,
        description="Every image is resized to it, and predictions are brought back; each edge a multiple of 8.",
        examples=['"[64,64]"'],
        json_schema_extra=also("roi", "image_size", "spatial_size", "roi_size"),
    )


class QubiqTraining(QubiqStructure, TrainingSettings):
    """Settings of `train.yaml` of the QUBIQ bundle."""

    folds: Whole = Field(
        ge=2,
        description="Blocks into which the cases are cut in their order, unless the data list has its own split.",
        examples=[5],
        json_schema_extra=also("n_folds", "num_folds"),
    )


class QubiqEvaluation(EvaluationSettings, QubiqTraining):
    """Settings of `evaluate.yaml` over `train.yaml` of the QUBIQ bundle."""


class QubiqPrediction(QubiqStructure, PredictionSettings):
    """Settings of `inference.yaml` of the QUBIQ bundle."""

    prediction_name: NameText = Field(
        description="The name of a prediction: ends in .nii.gz, or in .png for one structure of a flat image or its form map.",
        examples=["task01.nii.gz"],
    )
    image_name: ImageName = Field(
        description="The name of the image files; `*` stands for any letters.",
        examples=["image.nii.gz"],
    )
