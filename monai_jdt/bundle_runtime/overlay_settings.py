"""The settings that overlays of a training bring along: a run has them only where the overlay is laid over `train.yaml`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from monai_jdt.bundle_runtime.kinds import AmongNames, NameText, Number, PathList, Whole, also


class OverlaySettings(BaseModel):
    """Settings of overlays. Without the overlay nothing reads them, and they are refused as unknown keys."""

    model_config = ConfigDict(arbitrary_types_allowed=True, validate_assignment=True)

    border_smoothing: Number = Field(
        ge=0,
        le=1,
        description="e: near a border a label t becomes (1 - e) t + e / C (softmax over C channels) or (1 - e) t + e / 2 (sigmoid).",
        examples=[0.5],
        json_schema_extra=also("border_epsilon", "epsilon", overlay="smoothing_boundary.yaml"),
    )
    border_width: Whole = Field(
        ge=1,
        le=64,
        description="How near, in voxels of the training along each axis.",
        examples=[3],
        json_schema_extra=also("width", "k", overlay="smoothing_boundary.yaml"),
    )
    teachers: PathList = Field(
        description="The weights of trained networks. Of several, the mean probability is learnt.",
        examples=["\"['first/models/model.pt']\""],
        json_schema_extra=also("teacher", "teacher_ckpt", "teacher_path", overlay="distillation.yaml"),
    )
    sync: bool = Field(
        description="Whether the images of all processes make one batch for the loss. false: each process has the loss of its own.",
        examples=["true"],
        json_schema_extra=also(overlay="multi_gpu_train.yaml"),
    )
    process_group_backend: Annotated[NameText, AmongNames(("nccl", "gloo"))] = Field(
        description="How the processes reach each other: `nccl` for GPUs, `gloo` for CPUs.",
        examples=["gloo"],
        json_schema_extra=also("backend", "dist_backend", "ddp_backend", overlay="multi_gpu_train.yaml"),
    )
    teacher_temperature: Number = Field(
        gt=0,
        description="T: the logits of teachers and student are divided by it, and their divergence is multiplied by T^2.",
        examples=[2],
        json_schema_extra=also("T", overlay="distillation.yaml"),
    )
    label_weight: Number = Field(
        ge=0,
        description="Weight of what is learnt from the labels.",
        examples=[0.5],
        json_schema_extra=also("lambda_label", overlay="distillation.yaml"),
    )
    teacher_weight: Number = Field(
        ge=0,
        description="Weight of what is learnt from the teachers.",
        examples=[0.5],
        json_schema_extra=also("lambda_teacher", overlay="distillation.yaml"),
    )
    labelled_fraction: Number | None = Field(
        gt=0,
        le=1,
        description="The share of the training's patients whose labels are used. The others are trained on without a label, as are the "
        "cases of a section `unlabelled` of the data list. null: 1 with such a section, otherwise 0.5.",
        examples=[0.5],
        json_schema_extra=also("label_fraction", "labeled_fraction", "labelled", overlay="mean_teacher.yaml"),
    )
    validated: Annotated[NameText, AmongNames(("teacher", "student"))] = Field(
        description="Which of the two networks is validated and saved.",
        examples=["student"],
        json_schema_extra=also("evaluated", overlay="mean_teacher.yaml"),
    )
    confidence: Number | None = Field(
        ge=0,
        le=1,
        description="The teacher is learnt from where its largest probability is at least so large. null: everywhere.",
        examples=[0.8],
        json_schema_extra=also("threshold", "tau", overlay="mean_teacher.yaml"),
    )
    consistency_weight: Number = Field(
        ge=0,
        description="Weight of what is learnt from the teacher.",
        examples=[0.1],
        json_schema_extra=also("unlabelled_weight", overlay="mean_teacher.yaml"),
    )
    ramp_up: Whole = Field(
        ge=0,
        description="Epochs over which that weight rises to its value.",
        examples=[20],
        json_schema_extra=also("rampup", "warm_up", overlay="mean_teacher.yaml"),
    )


def overlay_of(entry: Any) -> str | None:
    """Return the name of the overlay that has a setting, or None for a setting of `train.yaml` itself.

    Args:
        entry: the declaration.

    Example:
        >>> overlay_of(OverlaySettings.model_fields["border_width"])
        'smoothing_boundary.yaml'
    """
    return (entry.json_schema_extra or {}).get("overlay")
