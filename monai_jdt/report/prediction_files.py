"""Predictions that anyone made, as probabilities of regions: volumes, pictures, and the `.npz` files of nnU-Net."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np

from monai_jdt.data.files.file_volume import READ_ERRORS, one_problem, unreadable
from monai_jdt.data.files.grids import VoxelGrid, grid_problem, without_last_ones
from monai_jdt.data.files.label_pictures import is_palette_picture
from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.files.volumes import FORMATS, PICTURES, TIFF, open_volume
from monai_jdt.data.problems import DataProblemError
from monai_jdt.functional.region_members import array_members
from monai_jdt.validation import error_sentence

#: nnU-Net's names of the array in its `.npz` files, version 2 and version 1. Its axes are class, z, y, x.
_NNUNET_KEYS = ("probabilities", "softmax")


class PredictionKind(Enum):
    """What the numbers of a prediction are."""

    AUTO = "auto"
    LABELS = "labels"
    PROBABILITIES = "probabilities"


class PredictionFolder:
    """A folder of predictions, one file for each case.

    Without a pattern the file of a case is `CASE.*` or `CASE_*.*`, or the one file in the folder `CASE`. A file belongs to the longest
    case name that it can: `P1_2.nii.gz` to a case P1_2, where the list has one, and not to P1. Of nnU-Net's two files of a case, the
    `.npz` is taken.

    Args:
        folder: where the files are.
        cases: the names in the list, one for each item. Several items of one name (tasks, data sets) need a pattern.
        pattern: the path in the folder, such as "{case}/task{task}.nii.gz", of the item's "case", "dataset" and "task".

    Raises:
        ValueError: a pattern with another field, or without the case.
    """

    def __init__(self, folder: str, cases: Sequence[str], pattern: str | None = None) -> None:
        self.folder, self.pattern = folder, pattern
        if pattern is not None:
            _check_pattern(pattern)
            return
        self._twice = {case for case, count in Counter(cases).items() if count > 1}
        self._files: dict[str, list[str]] = {}
        names = set(cases)
        for entry in sorted(os.listdir(folder)):
            path = os.path.join(folder, entry)
            if entry in names and os.path.isdir(path):
                self._files.setdefault(entry, []).extend(
                    os.path.join(path, name) for name in sorted(os.listdir(path)) if _can_be_read(name)
                )
            elif _can_be_read(entry):
                stem = _without_ending(entry)
                while stem and stem not in names:
                    stem = stem.rpartition("_")[0]
                if stem:
                    self._files.setdefault(stem, []).append(path)

    def path_of(self, case: str, others: Mapping[str, str] | None = None) -> str:
        """Return the file of a case.

        Args:
            case: its name in the list.
            others: the item's "dataset" and "task".

        Raises:
            DataProblemError: no such file, several, or a field of the pattern that the item lacks.
        """
        if self.pattern is not None:
            fields = {"case": case, **(others or {})}
            try:
                path = os.path.join(self.folder, self.pattern.format(**fields))
            except KeyError as error:
                raise one_problem(case, f"the key {error} that --pattern names", ", ".join(fields), "correct --pattern") from None
            if not os.path.exists(path):
                raise one_problem(path, f"the prediction of {case}", "nothing at that path", "correct --pattern, or predict the case")
            return path
        where = os.path.join(self.folder, case)
        if case in self._twice:
            fix = "--pattern with {task} or {dataset}, such as '{case}/task{task}.nii.gz'"
            raise one_problem(where, "one item of this name", "several in the list", fix)
        found = self._files.get(case, [])
        # nnU-Net writes probabilities and labels of a case side by side
        probabilities = [path for path in found if path.lower().endswith(".npz")]
        found = probabilities if len(probabilities) == 1 else found
        exact = [path for path in found if _without_ending(os.path.basename(path)) == case]
        found = exact if len(exact) == 1 else found
        if len(found) == 1:
            return found[0]
        got = "none" if not found else "several: " + ", ".join(os.path.basename(path) for path in found[:3])
        fix = "name it by --pattern, such as '{case}.nii.gz'" if found else "predict the case, or say by --pattern where the file is"
        raise one_problem(where, "one file of predictions", got, fix)


def _check_pattern(pattern: str) -> None:
    try:
        paths = {pattern.format(case=case, dataset="x", task="x") for case in "ab"}
    except (KeyError, ValueError, IndexError):
        paths = set()
    if len(paths) < 2:
        expected = "a path with {case} in it, and maybe {dataset} and {task}"
        raise ValueError(error_sentence("--pattern", expected, repr(pattern), "--pattern '{case}.nii.gz'"))


def _can_be_read(name: str) -> bool:
    return name.lower().endswith((*FORMATS, ".npz"))


def read_region_prediction(
    path: str, grid: VoxelGrid, regions: Mapping[str, Sequence[int]], kind: PredictionKind = PredictionKind.AUTO
) -> tuple[np.ndarray, bool]:
    """Read a prediction as one probability per region.

    * A label map makes 0 and 1. With `auto` it is taken for one if its whole numbers are 0 or values of the regions.
    * Channels that sum to 1, one for each value from 0 on, are class probabilities. A region's is the sum over its values. Otherwise as
      many channels as regions are one region's probability each.
    * Pictures hold probabilities times their largest number (255 for bytes). Those with a palette hold label values, or a mask of 0
      and 1.

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
    highest = max(value for group in regions.values() for value in group)
    # regions do not sum to 1 everywhere: they leave the background out
    are_classes = len(channels) > max(highest, 1) and bool(np.abs(channels.sum(axis=0) - 1).max(initial=0) < 1e-2)
    if len(channels) == len(regions) and not are_classes:
        return channels
    if len(channels) <= highest:
        expected = f"{len(regions)} channels, one per region, or at least {highest + 1}, one per class"
        raise one_problem(path, expected, str(len(channels)), "name the regions by --regions in the order of the channels")
    summed = [channels[list(group)].sum(axis=0) for group in regions.values()]
    return np.stack(summed).clip(0, 1)


def _in_unit_range(path: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "u" and path.lower().endswith(PICTURES) and not _is_mask_of_indices(path, values):
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN too
        got, fix = f"values from {low:g} to {high:g}", "write probabilities, not logits; for a label map name its values by --regions"
        raise one_problem(path, "probabilities in [0, 1], or a label map of the regions' values", got, fix)
    return values.astype(np.float32).clip(0, 1)


def _is_mask_of_indices(path: str, values: np.ndarray) -> bool:
    """Return whether a picture's 0 and 1 are the indices of a palette. Divided by 255, they would be an empty mask.

    Raises:
        DataProblemError: other indices: label values that no region has.
    """
    if path.lower().endswith(TIFF) or not is_palette_picture(path):
        return False
    found = {int(value) for value in distinct_values(values)}
    if not found <= {0, 1} and not found <= {0, 255}:
        got = "the palette's indices " + ", ".join(map(str, sorted(found)[:8]))
        raise one_problem(path, "label values of the regions", got, "name the label values by --regions")
    return found <= {0, 1}


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
