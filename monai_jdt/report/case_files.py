"""From the files of a case to the arrays of a picture, and the default regions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd

from monai_jdt.data.files.foreground import Foreground
from monai_jdt.data.files.grids import VoxelGrid, grid_problem, without_last_ones
from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.files.volumes import PICTURES, can_be_volume
from monai_jdt.data.layouts.regions import REGION_CONVENTIONS
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.raters.region_names import RegionSpec
from monai_jdt.transforms import LoadRaters, LoadVolume
from monai_jdt.validation import error_sentence

# Most regions that are drawn by default: each is a row of panels.
_MOST_REGIONS = 6


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case.

    Args:
        image: one file, or one for each channel.
        raters: one label map for each rater.
        prediction: predicted probabilities, one channel for each region, or None.
        truth: true probabilities, or None.
        foreground: of the raters' files; see :class:`monai_jdt.transforms.LoadRaters`.
    """

    image: tuple[str, ...]
    raters: tuple[str, ...]
    prediction: str | None = None
    truth: str | None = None
    foreground: Foreground | None = None


def load_case(files: CaseFiles) -> dict[str, Any]:
    """Load a case as :func:`monai_jdt.report.case_picture` takes it.

    Args:
        files: the paths.

    Returns:
        The arguments `image`, `votes`, `affine` (None for pictures, which have no place in space), and `prediction` and `truth`
        if there are files of them. Values keep the files' dtypes.

    Raises:
        DataProblemError: for a file that is missing or cannot be read, raters that do not lie on the image's voxels, and
            probabilities outside [0, 1].
    """
    loaded = _load_channels(list(files.image), "an image")
    affine = None if files.image[0].lower().endswith(PICTURES) else to_affine_nd(3, np.asarray(loaded.affine, np.float64))
    image = loaded.as_tensor().numpy()
    if image.ndim == 4 and len(image) == 1 and image.shape[3] > 1 and files.raters:
        # a slice with its channels on the last axis looks like a volume, but for the raters
        drawn = without_last_ones(tuple(_load_rater(files.raters[0], None, files.foreground).shape[1:]))
        if drawn == image.shape[1:3]:
            image = np.moveaxis(image[0], -1, 0)
    grid = VoxelGrid(files.image[0], tuple(image.shape[1:]), affine)
    stack = [_load_rater(path, grid, files.foreground)[0] for path in files.raters]
    wide = any(votes.dtype != torch.uint8 for votes in stack)
    votes = np.stack([votes.to(torch.int16 if wide else torch.uint8).numpy() for votes in stack])
    case: dict[str, Any] = {"image": image, "votes": votes, "affine": affine}
    for name, path in (("prediction", files.prediction), ("truth", files.truth)):
        if path is not None:
            case[name] = _probabilities(path, image.shape[1:])
    return case


def load_image(paths: Sequence[str], grid: VoxelGrid, channel_dim: str | int | None = None) -> np.ndarray:
    """Load an image that lies on the voxels of its raters.

    Args:
        paths: one file, or one for each channel.
        grid: of the raters.
        channel_dim: the axis of the channels in the file, as :class:`monai_jdt.transforms.LoadVolume` takes it.

    Returns:
        `(C, *S)` in the file's dtype, with the shape of the grid.

    Raises:
        DataProblemError: a file that cannot be read, or another grid.
    """
    loaded = _load_channels(list(paths), "an image", channel_dim)
    array = loaded.as_tensor().numpy()
    space = without_last_ones(grid.shape)
    if len(array) == 1 and array.ndim == 4 and without_last_ones(array.shape[1:]) != space == array.shape[1:3]:
        array = np.moveaxis(array[0], -1, 0)  # a slice with its channels on the last axis
    affine = None if paths[0].lower().endswith(PICTURES) else to_affine_nd(3, np.asarray(loaded.affine, np.float64))
    problem = grid_problem(VoxelGrid(paths[0], tuple(array.shape[1:]), affine if grid.affine is not None else None), grid)
    if problem is not None:
        raise DataProblemError([problem])
    return array.reshape(len(array), *grid.shape)


def default_regions(votes: np.ndarray, prediction: np.ndarray | None = None) -> tuple[RegionSpec, str]:
    """Choose the regions of a case from the values that its raters' files hold.

    Args:
        votes: label values `(R, *S)`.
        prediction: probabilities `(K, *S)`; their number, and whether they overlap, must fit the regions.

    Returns:
        The regions, and a sentence for the user. Without a prediction: each value but 0, at most six, those with the most
        voxels. With one: each value if there are K and no voxel is in two of them; all values together if K is 1; else the one
        convention of BraTS whose K regions have them all.

    Raises:
        ValueError: if nothing fits the prediction.

    Example:
        >>> default_regions(np.array([[0, 255], [0, 0]], np.uint8))[0]
        {'label 255': [255]}
    """
    found = [int(v) for v in distinct_values(votes) if v != 0] or [1]
    single: dict[str, list[int]] = {f"label {value}": [value] for value in found}
    if prediction is None:
        if len(found) <= _MOST_REGIONS:
            return single, _sentence_of(single)
        sizes = {value: int(np.count_nonzero(votes == value)) for value in found}
        shown = sorted(sorted(found, key=lambda value: -sizes[value])[:_MOST_REGIONS])
        largest = {f"label {value}": [value] for value in shown}
        return largest, f"{_sentence_of(largest)} ({len(found) - len(shown)} values with fewer voxels are left out)"
    channels = len(prediction)
    overlap = channels > 1 and float(prediction.sum(axis=0, dtype=np.float32).max()) > 1.01
    if channels == len(found) and not overlap:
        return single, _sentence_of(single)
    if channels == 1:
        together = {f"labels {', '.join(map(str, found))}": found}
        return together, _sentence_of(together)
    fitting: list[Mapping[str, Sequence[int]]] = []
    for convention in REGION_CONVENTIONS.values():
        regions = dict(convention.regions)
        named = {value for values in regions.values() for value in values}
        if set(found) <= named and len(regions) == channels and regions not in fitting:
            fitting.append(regions)
    if len(fitting) == 1:
        return fitting[0], _sentence_of(fitting[0])
    got = f"{channels} channels" + (" that overlap" if overlap else "")
    expected = f"a channel for each label value of the raters ({', '.join(map(str, found))}), or regions that say which values"
    raise ValueError(error_sentence("--prediction", expected, got, "name the regions, such as --regions brats2021"))


def _sentence_of(regions: Mapping[str, Sequence[int]]) -> str:
    named = ", ".join(f"{name} {list(values)}" for name, values in regions.items())
    return f"regions by the values of the raters' files: {named}; choose others by --regions"


def _load_channels(paths: list[str], what: str, channel_dim: str | int | None = None) -> MetaTensor:
    for path in paths:
        if not can_be_volume(path):
            got = "a folder" if os.path.isdir(path) else "nothing at that path"
            raise DataProblemError([DataProblem(path, f"{what} file", got, "correct the path")])
    try:
        with warnings.catch_warnings():
            # pictures are read without a copy, and nothing here writes to them
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            # dtype None keeps bytes as bytes: a photograph of 20000 x 20000 would take four times its memory
            return LoadVolume(ensure_channel_first=True, dtype=None, channel_dim=channel_dim)(paths if len(paths) > 1 else paths[0])
    except DataProblemError:
        raise
    except Exception as error:  # readers raise whatever their library raises
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        got = f"{type(error).__name__}: {reason.strip()}"
        problem = DataProblem(", ".join(paths), f"{what} that can be read", got, "copy or export the file again")
        raise DataProblemError([problem]) from error


def _load_rater(path: str, grid: VoxelGrid | None, foreground: Foreground | None) -> torch.Tensor:
    if not can_be_volume(path):
        got = "a folder" if os.path.isdir(path) else "nothing at that path"
        raise DataProblemError([DataProblem(path, "a rater's label map", got, "correct the path")])
    return LoadRaters(foreground=foreground).load_onto(path, grid).as_tensor()


def _probabilities(path: str, space: tuple[int, ...]) -> np.ndarray:
    array = _load_channels([path], "a probability").as_tensor().numpy()
    plain = without_last_ones(space)
    if without_last_ones(array.shape[1:]) == plain:
        array = array.reshape(len(array), *space)
    elif len(array) == 1 and array.ndim > 3 and without_last_ones(array.shape[1:-1]) == plain:
        array = np.moveaxis(array[0], -1, 0).reshape(-1, *space)  # a slice with its regions on the last axis
    else:
        expected, got = f"probabilities on the image's {space} voxels", f"shape {array.shape}, channels first"
        raise DataProblemError([DataProblem(path, expected, got, "resample it onto the image, or name the case's own file")])
    if array.dtype.kind == "u" and path.lower().endswith(PICTURES) and array.max() > 1:
        return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN too
        expected, got = "probabilities in [0, 1], one channel for each region", f"values from {low:g} to {high:g}"
        raise DataProblemError([DataProblem(path, expected, got, "write probabilities, not logits, and not label values")])
    return array.astype(np.float32, copy=False)
