"""Predictions that anyone made, as probabilities of regions: volumes, pictures, and the `.npz` files of nnU-Net."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np

from monai_jdt.data.files.file_volume import READ_ERRORS, one_problem, unreadable
from monai_jdt.data.files.grids import VoxelGrid, grid_problem, without_last_ones
from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.files.volumes import FORMATS, PICTURES, open_volume
from monai_jdt.data.problems import DataProblemError
from monai_jdt.functional.region_members import array_members

#: nnU-Net's names of the array in its `.npz` files, version 2 and version 1. Its axes are class, z, y, x.
_NNUNET_KEYS = ("probabilities", "softmax")


class PredictionKind(Enum):
    """What the numbers of a prediction are."""

    AUTO = "auto"
    LABELS = "labels"
    PROBABILITIES = "probabilities"


def prediction_path(folder: str, case: str, pattern: str | None = None, others: Mapping[str, str] | None = None) -> str:
    """Find the prediction of a case.

    Args:
        folder: where predictions are.
        case: the case's name.
        pattern: the path in the folder, with `{case}` in it, and maybe the item's `{dataset}` and `{task}`. None: the one file of the
            case, `CASE.*`, `CASE_*.*`, or the one file in the folder `CASE`.
        others: the item's "dataset" and "task".

    Returns:
        The path.

    Raises:
        DataProblemError: no such file, or several.
    """
    if pattern is not None:
        path = os.path.join(folder, pattern.format(case=case, **(others or {})))
        if not os.path.exists(path):
            raise one_problem(path, f"the prediction of {case}", "nothing at that path", "correct --pattern, or predict the case")
        return path
    names = sorted(os.listdir(folder))
    files = [name for name in names if name.lower().endswith((*FORMATS, ".npz"))]
    exact = [name for name in files if name.partition(".")[0] == case or _without_ending(name) == case]
    found = [os.path.join(folder, name) for name in exact or [name for name in files if name.startswith(f"{case}_")]]
    if not found and case in names and os.path.isdir(os.path.join(folder, case)):
        own = os.path.join(folder, case)
        found = [os.path.join(own, name) for name in sorted(os.listdir(own)) if name.lower().endswith((*FORMATS, ".npz"))]
    # nnU-Net writes probabilities and labels of a case side by side
    probabilities = [path for path in found if path.lower().endswith(".npz")]
    found = probabilities if len(probabilities) == 1 else found
    if len(found) == 1:
        return found[0]
    got = "none" if not found else "several: " + ", ".join(os.path.basename(path) for path in found[:3])
    fix = "name it by --pattern, such as '{case}.nii.gz'" if found else "predict the case, or say by --pattern where the file is"
    raise one_problem(os.path.join(folder, case), "one file of predictions", got, fix)


def read_region_prediction(
    path: str, grid: VoxelGrid, regions: Mapping[str, Sequence[int]], kind: PredictionKind = PredictionKind.AUTO
) -> tuple[np.ndarray, bool]:
    """Read a prediction as one probability per region.

    * A label map makes 0 and 1. With `auto` it is taken for one if its whole numbers are 0 or values of the regions.
    * As many channels as regions: each is a region's probability. More: class probabilities, and a region's is the sum over its values.
    * Pictures hold probabilities times their largest number (255 for bytes).

    Args:
        path: a volume in a format that is read here (channels first or last), or nnU-Net's `.npz`.
        grid: of the raters.
        regions: name to label values.
        kind: what the numbers are.

    Returns:
        `(C, *S)` float32 in [0, 1], one channel per region, on the raters' voxels; and whether it was a label map.

    Raises:
        DataProblemError: a file that cannot be read, another grid, values or channels that do not fit.
    """
    values, own = _read_npz(path) if path.lower().endswith(".npz") else _read_volume(path)
    space = without_last_ones(grid.shape)
    if without_last_ones(values.shape) == space:
        channels = values.reshape(1, *grid.shape)
    elif without_last_ones(values.shape[1:]) == space:
        channels = values.reshape(len(values), *grid.shape)
    elif values.ndim > 1 and without_last_ones(values.shape[:-1]) == space:
        channels = np.moveaxis(values, -1, 0).reshape(values.shape[-1], *grid.shape)
    else:
        fix = "resample the prediction onto the raters' grid"
        raise one_problem(path, f"the raters' {grid.shape} voxels, with a channel axis or without", str(values.shape), fix)
    if own is not None and grid.affine is not None:
        problem = grid_problem(VoxelGrid(path, grid.shape, own), grid)
        if problem is not None:
            raise DataProblemError([problem])
    known = {0, *(value for group in regions.values() for value in group)}
    if kind is PredictionKind.AUTO:
        whole = channels.dtype.kind in "biu" or bool((channels == np.round(channels)).all())
        is_map = len(channels) == 1 and whole and {int(value) for value in distinct_values(channels)} <= known
        kind = PredictionKind.LABELS if is_map else PredictionKind.PROBABILITIES
    if kind is PredictionKind.LABELS:
        if len(channels) > 1:
            raise one_problem(path, "a label map of one channel", f"{len(channels)} channels", "--kind probabilities")
        return np.stack([array_members(channels[0], group) for group in regions.values()]).astype(np.float32), True
    return _of_regions(path, _in_unit_range(path, channels), regions), False


def _of_regions(path: str, channels: np.ndarray, regions: Mapping[str, Sequence[int]]) -> np.ndarray:
    if len(channels) == len(regions):
        return channels
    highest = max(value for group in regions.values() for value in group)
    if len(channels) <= highest:
        expected = f"{len(regions)} channels, one per region, or at least {highest + 1}, one per class"
        raise one_problem(path, expected, str(len(channels)), "name the regions by --regions in the order of the channels")
    summed = [channels[list(group)].sum(axis=0) for group in regions.values()]
    return np.stack(summed).clip(0, 1)


def _in_unit_range(path: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "u" and path.lower().endswith(PICTURES):
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN too
        got, fix = f"values from {low:g} to {high:g}", "write probabilities, not logits; for a label map name its values by --regions"
        raise one_problem(path, "probabilities in [0, 1], or a label map of the regions' values", got, fix)
    return values.astype(np.float32).clip(0, 1)


def _read_npz(path: str) -> tuple[np.ndarray, None]:
    try:
        with np.load(path, allow_pickle=False) as content:
            key = next((key for key in _NNUNET_KEYS if key in content.files), None)
            if key is None:
                fix = "export nnU-Net's predictions with --save_probabilities"
                raise one_problem(path, f"an array named {' or '.join(_NNUNET_KEYS)}", ", ".join(content.files) or "none", fix)
            values = content[key]
    except READ_ERRORS as error:
        raise unreadable(path, ".npz", error) from error
    # class, z, y, x to class, x, y, z
    return np.ascontiguousarray(values.transpose(0, *range(values.ndim - 1, 0, -1))), None


def _read_volume(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    volume = open_volume(path)
    return volume.read(), volume.affine


def _without_ending(name: str) -> str:
    lower = name.lower()
    ending = max((ending for ending in (*FORMATS, ".npz") if lower.endswith(ending)), key=len, default="")
    return name[: len(name) - len(ending)]
