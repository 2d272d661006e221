"""A data set of a few voxels with three raters, and plans for a network of a few weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_jdt.data.datalist_file import write_datalist
from monai_jdt.nnunet.conversion import RawDataset, convert_to_nnunet
from tests.nifti_files import save_nifti

NAME = "Dataset503_Tiny"
SHAPE = (20, 18, 14)
ONE_REGION = {"lesion": (1,)}
NESTED = {"whole": (1, 2), "core": (2,)}


def votes_of(number: int, shape: Sequence[int] = SHAPE, raters: int = 3) -> np.ndarray:
    """Return boxes of another size for each rater, of the value 1 with a core of 2, `(R, *S)`."""
    votes = np.zeros((raters, *shape), np.uint8)
    for rater in range(raters):
        box = tuple(slice(size // 4 + (number + rater) % 2, size // 2 + 1 + rater) for size in shape)
        core = tuple(slice(part.start + 1, part.stop - 2) for part in box)
        votes[rater][box] = 1
        votes[rater][core] = 2
    return votes


def write_list(folder: Path, cases: int = 4, missing: Mapping[int, Sequence[int]] | None = None, shape: Sequence[int] = SHAPE) -> Path:
    """Write images and raters' maps with a data list.

    Args:
        folder: where.
        cases: how many.
        missing: case to the raters without a map. The list names its raters, so that the others keep their numbers.
        shape: of the images.
    """
    items = []
    for number in range(cases):
        votes = votes_of(number, shape)
        image = np.random.default_rng(number).normal(votes.sum(0), 0.5).astype(np.float32) + 10
        image[:2] = 0  # outside of the body: nnU-Net crops these layers, and marks the corner by -1
        image[2:5, :3, :3] = 0
        save_nifti(str(folder / f"c{number}" / "im.nii.gz"), image)
        gone = (missing or {}).get(number, ())
        raters = {f"r{rater}": f"c{number}/r{rater}.nii.gz" for rater in range(len(votes)) if rater not in gone}
        for rater, path in raters.items():
            save_nifti(str(folder / path), votes[int(rater[1:])])
        files = [str(folder / path) for path in raters.values()]
        items.append({"case": f"c{number}", "image": str(folder / f"c{number}" / "im.nii.gz"), "raters": files})
        items[-1]["rater_names"] = list(raters)
    return Path(write_datalist(items, folder / "list.json"))


def tiny_plans(patch: Sequence[int] = (16, 16, 8), **changes: Any) -> dict[str, Any]:
    """Return plans as nnU-Net's planner writes them, for a network of three resolutions.

    Args:
        patch: the patch of 3d_fullres, which 3d_lowres and the cascade share.
        changes: of the settings of 3d_fullres.
    """
    flat = len(patch) == 2
    axes = "2d" if flat else "3d"
    settings = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": list(SHAPE[-len(patch) :]),
        "spacing": [2.0] * len(patch),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [True],
        "batch_dice": False,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 8, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{axes}",
                "kernel_sizes": [[3] * len(patch)] * 3,
                "strides": [[1] * len(patch), [2] * len(patch), [*[1] * (len(patch) - 2), 2, 2]],
                "n_conv_per_stage": [1, 1, 1],
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    settings |= changes
    lowres = {**settings, "data_identifier": "nnUNetPlans_3d_lowres", "spacing": [4.0] * len(patch), "next_stage": "3d_cascade_fullres"}
    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 2.0, 2.0],
        "original_median_shape_after_transp": list(SHAPE),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "3d_fullres": settings,
            "3d_lowres": lowres,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 11.0, "std": 1.0, "percentile_00_5": 8.0, "percentile_99_5": 14.0}
        },
    }


def planned(folder: Path, regions: Mapping[str, Sequence[int]] = ONE_REGION, **choices: Any) -> RawDataset:
    """Convert a list below nnUNet_raw, and put plans into nnUNet_preprocessed, as after nnU-Net's planning.

    Args:
        folder: its `raw` and `preprocessed` are nnU-Net's.
        regions: of the conversion.
        choices: of :func:`write_list`, of :func:`convert_to_nnunet`, or `plans`.
    """
    plans = choices.pop("plans", None) or tiny_plans()
    ignored = choices.pop("ignored", None)
    listed = write_list(folder / "files", **choices)
    made = convert_to_nnunet(listed, folder / "raw" / NAME, regions, ignored=ignored, progress=False)
    preprocessed = folder / "preprocessed" / NAME
    preprocessed.mkdir(parents=True)
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    (preprocessed / "dataset.json").write_bytes((folder / "raw" / NAME / "dataset.json").read_bytes())
    (preprocessed / "dataset_fingerprint.json").write_text("{}")
    return made
