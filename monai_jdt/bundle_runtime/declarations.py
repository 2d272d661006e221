"""The settings that the bundles share. Each is declared once, with its type, its range and its meaning.

The defaults stand in the bundles' YAML files. The check before a run, its messages and their hints, and the tables of keys in the
bundles' docs are made from these declarations. A bundle's own settings stand in :mod:`monai_jdt.bundle_runtime.brats_settings`,
:mod:`monai_jdt.bundle_runtime.qubiq_settings` and :mod:`monai_jdt.bundle_runtime.lidc_settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from monai_jdt.bundle_runtime.case_lists import SPLIT_SOURCES
from monai_jdt.bundle_runtime.kinds import (
    AmongNames,
    Cases,
    DeviceName,
    KeyOf,
    LabelValues,
    NameText,
    Number,
    PathText,
    Regions,
    Whole,
    WholeList,
    also,
)
from monai_jdt.bundle_runtime.overlay_settings import OverlaySettings
from monai_jdt.report.challenge_scores import CHALLENGES
from monai_jdt.transforms.decide_mask import MASK_DECISIONS
from monai_jdt.transforms.region_form import LABEL_FORMS

#: The largest size of an image edge that a run accepts: beyond it a network's activations fit no memory.
LARGEST_EDGE = 4096

#: Labels that a network can be trained on, each a way to make one label of several raters.
LABEL_SOURCES: tuple[str, ...] = ("average", "weighted", "majority", "staple", "random_rater")


Percentile = Annotated[Number, Field(ge=0, le=100)]
Edge = Annotated[Whole, Field(ge=1, le=LARGEST_EDGE)]

# What settings of one name have in common. Each bundle describes what the setting means there.
SpatialDims = Annotated[Whole, Field(ge=2, le=3, json_schema_extra=also("dims"))]
Window = Annotated[list[Edge], Field(json_schema_extra=also("roi_size", "patch_size", "crop_size", "size", "spatial_size"))]
ImageName = Annotated[NameText, Field(json_schema_extra=also("image"))]


class PhantomSettings(BaseModel):
    """Arguments of the function that makes phantoms."""

    model_config = ConfigDict(extra="forbid")

    cases: Whole = Field(ge=2, examples=[12])
    shape: list[Edge] | None = Field(default=None, min_length=2, max_length=3)
    spacing: Any = None
    layout: str | None = None
    seed: Whole | None = Field(default=None, ge=0)
    styles: Any = None
    progress: bool | None = None


class RunSettings(BaseModel):
    """Settings of every run of every bundle."""

    model_config = ConfigDict(arbitrary_types_allowed=True, validate_assignment=True)

    #: Folders in which the run writes.
    written: ClassVar[tuple[str, ...]] = ("output_dir",)

    bundle_root: PathText = Field(description="The bundle's folder; a run writes below it.", examples=["my_bundle"])
    dataset_dir: PathText | None = Field(
        description="The folder of your data. null: phantoms (synthetic, of no patient) are made below `bundle_root` on first use.",
        examples=["/data/set"],
        json_schema_extra=also("data_dir", "data_root", "dataset", "data"),
    )
    output_dir: PathText = Field(
        description="Where tables, pictures and predictions go.", examples=["runs/one"], json_schema_extra=also("out_dir", "save_dir")
    )
    datalist_file: PathText | None = Field(
        description="The path of `datalist`, under its former name.",
        examples=["list.json"],
        json_schema_extra=also("data_list_file", "data_list_file_path", "data_list_path"),
    )
    datalist_section: NameText | None = Field(
        description="Which section of the data list is taken; `all`: every one. null: for training its `training`, and its "
        "`validation` if it has one; for prediction its `testing`, else `validation`, else `training`. With a section, an evaluation "
        "scores all of its cases.",
        examples=["testing"],
        json_schema_extra=also("section", "data_list_key", "datalist_key"),
    )
    normalize: Annotated[NameText, KeyOf("normalizations", ("mr", "zscore", "ct", "percentiles", "photo", "none"))] = Field(
        description="How intensities are normalised, in training and prediction alike.",
        examples=["zscore"],
        json_schema_extra=also("normalization", "normalisation", "normalise", "intensity"),
    )
    window: list[Number] = Field(
        min_length=2,
        max_length=2,
        description="HU that become 0 and 1 where `normalize` is `ct`.",
        examples=['"[-200,300]"'],
        json_schema_extra=also("ct_window", "hu_window", "intensity_range"),
    )
    percentiles: list[Percentile] = Field(
        min_length=2,
        max_length=2,
        description="Percentiles that become 0 and 1 where `normalize` is `percentiles`.",
        examples=['"[0.5,99.5]"'],
    )
    phantoms: PhantomSettings = Field(description="The phantoms: how many cases, of which shape.", examples=['"{cases: 12}"'])
    channels: Whole = Field(
        ge=1, le=1024, description="Number of image channels.", examples=[1], json_schema_extra=also("in_channels", "input_channels")
    )
    decision: Annotated[NameText, AmongNames(MASK_DECISIONS)] = Field(
        description="How probabilities become masks: p > 0.5, or the mask with the best expected Dice or Jaccard score.",
        examples=["expected_dice"],
        json_schema_extra=also("decide", "mask", "threshold"),
    )
    empty_below: Number = Field(
        ge=0,
        le=1,
        description="A channel whose best expected score is lower stays empty. Choose it on validation data; 0 where `decision` is "
        "`threshold`.",
        examples=[0.3],
        json_schema_extra=also("empty_level", "level"),
    )
    temperature: Number = Field(
        gt=0,
        description="Logits are divided by it before they become probabilities. Choose it on validation data; 1 changes nothing.",
        examples=[1.5],
    )
    num_workers: Whole = Field(
        ge=0,
        le=256,
        description="Processes that load data. 0: this process loads; more pay off with large images.",
        examples=[0],
        json_schema_extra=also("workers", "n_workers"),
    )
    device: DeviceName = Field(
        description="Where the network runs: `cpu`, `cuda`, `cuda:1`.", examples=["cpu"], json_schema_extra=also("gpu")
    )
    amp: bool = Field(
        description="Whether mixed precision is used.", examples=["true"], json_schema_extra=also("fp16", "mixed_precision")
    )


class TrainingSettings(OverlaySettings, RunSettings):
    """Settings of the training of every bundle."""

    written: ClassVar[tuple[str, ...]] = ("output_dir", "ckpt_dir")

    ckpt_dir: PathText = Field(
        description="Where the weights go.",
        examples=["runs/one/models"],
        json_schema_extra=also("model_dir", "checkpoint_dir", "models"),
    )
    label_source: Annotated[NameText, KeyOf("fusions", LABEL_SOURCES)] = Field(
        description="What the network is trained on.",
        examples=["average"],
        json_schema_extra=also("source", "label", "fusion", "method"),
    )
    regions: Regions = Field(
        description="The channels that the network predicts: a convention's name, or channel names with label values.",
        examples=["\"{'cord': [1]}\""],
    )
    label_values: LabelValues | None = Field(
        min_length=1, description="Values that a label file may hold. null: any whole number.", examples=['"[0,1]"']
    )
    datalist: Cases = Field(
        description="A data list (JSON), as `python -m monai_jdt datalist` writes it, in place of `dataset_dir`. In a file also one "
        "dictionary for each case: {case, image, raters}; relative paths begin at `dataset_dir`.",
        examples=["list.json"],
        json_schema_extra=also("data_list", "list", "json_list"),
    )
    split_by: Annotated[NameText, AmongNames(SPLIT_SOURCES)] = Field(
        description="Who splits the cases. `auto`: the data list, if it has a section `validation` or items with `fold`; "
        "`list`: the same, and a list without them is refused; `draw`: the bundle, by the keys below.",
        examples=["draw"],
        json_schema_extra=also("split_source"),
    )
    fold: Whole | None = Field(
        ge=0,
        description="The fold that is validated, from 0; the others are trained on. null: the first, if there are folds.",
        examples=[0],
        json_schema_extra=also("val_fold", "fold_index"),
    )
    seed: Whole = Field(ge=0, le=2**32 - 1, description="Of every random draw.", examples=[0], json_schema_extra=also("random_seed"))
    epochs: Whole = Field(
        ge=1,
        description="Passes over the training cases.",
        examples=[20],
        json_schema_extra=also("max_epochs", "n_epochs", "num_epochs", "max_epoch"),
    )
    val_interval: Whole = Field(
        ge=1,
        description="Epochs between validations; there is one after the last epoch, too.",
        examples=[4],
        json_schema_extra=also("val_every"),
    )
    batch_size: Whole = Field(
        ge=1, le=4096, description="Cases in a batch, of each process.", examples=[1], json_schema_extra=also("bs", "train_batch_size")
    )
    learning_rate: Number = Field(
        gt=0, description="At the first epoch; it falls to almost 0.", examples=[0.001], json_schema_extra=also("lr", "rate")
    )
    resume: bool = Field(
        description="Whether a training that was interrupted goes on after its last complete epoch, from `ckpt_dir`; without a "
        "checkpoint there it starts.",
        examples=["true"],
        json_schema_extra=also("resume_training", "continue"),
    )
    accumulate: Whole = Field(
        ge=1,
        le=4096,
        description="Batches of a step of the optimizer, whose gradients are averaged.",
        examples=[4],
        json_schema_extra=also("accumulation_steps", "accumulate_grad_batches", "gradient_accumulation"),
    )
    clip_norm: Number | None = Field(
        gt=0,
        description="The largest norm of a step's gradient; larger ones are scaled down to it. null: any.",
        examples=[12],
        json_schema_extra=also("gradient_clip_val", "grad_clip", "clip", "max_norm"),
    )
    ema_decay: Number | None = Field(
        ge=0,
        lt=1,
        description="Decay of the moving average of the weights, which is then validated and saved in their place. null: none.",
        examples=[0.999],
        json_schema_extra=also("ema", "moving_average"),
    )
    show_progress: bool = Field(description="Whether a progress bar is shown.", examples=["false"], json_schema_extra=also("progress"))
    rank: Whole = Field(ge=0, description="Of this process; `multi_gpu_train.yaml` sets it.", examples=[0])
    figure_case: NameText | None = Field(
        description="The validation case that is drawn. null: the first.", examples=["case03"], json_schema_extra=also("case")
    )
    figure_channel: Whole | WholeList | None = Field(
        description="The image channel that is drawn, from 0: one for all regions, or a list with one for each. "
        "null: the colours of a photograph, else one channel in grey.",
        examples=[0],
    )


class CroppedTraining(TrainingSettings):
    """Settings of a training on crops, which validates a share of the patients: of the BraTS and the LIDC bundle."""

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
        description="Random crops of each case in an epoch, half of them around labelled voxels.",
        examples=[2],
        json_schema_extra=also("num_samples", "n_crops", "num_crops"),
    )


class CheckpointSettings(RunSettings):
    """Settings of every run that begins with trained weights."""

    ckpt_path: PathText = Field(
        description="The weights.",
        examples=["models/model.pt"],
        json_schema_extra=also("ckpt_dir", "ckpt", "checkpoint", "weights", "model", "model_path", "load_path"),
    )


class EvaluationSettings(CheckpointSettings, TrainingSettings):
    """Settings of the evaluation of every bundle: those of its training, and the weights."""

    written: ClassVar[tuple[str, ...]] = ("output_dir",)

    search_temperature: bool = Field(
        description="Whether the temperature that is best for the cases is searched and logged, where `temperature` is 1.",
        examples=["false"],
    )
    challenge_scores: Annotated[NameText, AmongNames(CHALLENGES)] = Field(
        description="Scores of a challenge that are added: of BraTS lesion by lesion (3D; needs scipy), of QUBIQ those that are always "
        "there, of CURVAS by volume, consensus and thresholds.",
        examples=["brats"],
        json_schema_extra=also("challenge", "scores"),
    )


class PredictionSettings(CheckpointSettings):
    """Settings of the prediction of every bundle."""

    out_channels: Whole = Field(ge=1, le=1024, description="Channels that the network predicts, as in training.", examples=[3])
    datalist: Cases = Field(
        description="A data list (JSON) in place of `dataset_dir`. In a file also one dictionary for each case: {case, image}.",
        examples=["list.json"],
        json_schema_extra=also("data_list", "list", "json_list"),
    )
    form: Annotated[NameText, AmongNames(LABEL_FORMS)] = Field(
        description="What a prediction holds: `soft` probabilities, `hard` 0 and 1 by `decision`, or one `map` of label values. Hard "
        "and map of pictures are PNG files with a palette; they need monai_jdt.",
        examples=["soft"],
        json_schema_extra=also("output_form", "output_type"),
    )
    regions: Regions | None = Field(
        description="The label values of each channel, for the form `map`. By default those of the training, from the file beside the "
        "weights.",
        examples=["\"{'cord': [1]}\""],
    )
    save_masks: bool = Field(
        description="Whether masks are written, too, into `masks` below `output_dir`; needs monai_jdt.",
        examples=["true"],
        json_schema_extra=also("masks", "write_masks", "mask"),
    )
