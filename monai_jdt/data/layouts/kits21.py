"""KiTS21: one file for each instance and annotation, which make a rater's label map together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.layouts.folders import NIFTI_SUFFIX, finished_list, nifti_files, nothing_found, two_files
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken
from monai_jdt.data.names import safe_relative_name, user_path
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.progress_bar import with_progress
from monai_jdt.validation import error_sentence

#: The regions in the order of their label values 1, 2, 3.
KITS21_REGIONS: tuple[str, ...] = ("kidney", "tumor", "cyst")

#: The order in which values are painted, later ones over earlier ones: kidney, cyst, tumor, as in the challenge's own code.
KITS21_PAINT_ORDER: tuple[int, ...] = (1, 3, 2)

_MASK = re.compile(r"(?P<region>kidney|tumor|cyst)_instance-(?P<instance>\d+)_annotation-(?P<annotation>\d+)", re.IGNORECASE)
_IMAGE, _CONSENSUS = _SINGLE = ("imaging", "aggregated_maj_seg")
# The other fused labels of the challenge: known names, but no rater.
_FUSED = ("aggregated_and_seg", "aggregated_or_seg", "segmentation")
_EXPECTED = "KiTS21 cases (case_XXXXX/imaging.nii.gz with segmentations/ beside it)"


def kits21_datalist(root: str | os.PathLike[str]) -> CaseList:
    """List the cases of KiTS21, with the masks that make each rater's label.

    A rater is an annotation number: the label is the union, for each region, of the masks of all instances with that
    number. (The number is not one person over all instances: the raters are exchangeable.) So each entry of "raters"
    is a list of three lists of files, for the label values 1 kidney, 2 tumor and 3 cyst, any of which may be empty:
    `[[kidney files], [tumor files], [cyst files]]`. :func:`merge_kits21` writes such raters as one label map each, for
    transforms that read one file per rater. :func:`find_problems` looks at the single masks.

    Args:
        root: the folder. Cases are found at any depth. The paths in the answer begin with it.

    Returns:
        One dictionary per case: `{"case": "case_00000", "task": "kits21", "image": path, "raters": [...]}`, and the
        aggregated majority, where it is, under "consensus". The list's `found` names what was left out: cases without
        masks, and annotation numbers that some instance of the case lacks.

    Raises:
        DataProblemError: if the folder is missing, holds no such case, a case twice, or two files for one thing.
    """
    root = user_path(root)
    skipped: list[SkippedPath] = []
    files = nifti_files(root, _EXPECTED, skipped)
    folders, unknown = _by_folder(files)
    skipped += files_not_taken(unknown, [], "a name that KiTS21 does not have")
    items: list[dict[str, Any]] = []
    problems: list[DataProblem] = []
    for folder, content in folders.items():
        item = _case_item(folder, content, problems, skipped)
        items += [] if item is None else [item]
    if not items:
        problems.append(nothing_found(root, _EXPECTED, files))
    return finished_list(root, items, problems, skipped)


def merge_kits21(items: Sequence[Mapping[str, Any]], dest: str | os.PathLike[str], *, progress: bool = True) -> CaseList:
    """Write each rater's label map, and list the cases with them.

    The masks are painted in the order :data:`KITS21_PAINT_ORDER`. One mask and one map are in memory at a time. A map that is there
    already is used as it is.

    Args:
        items: as :func:`kits21_datalist` gives them. A rater that is one path already stays as it is.
        dest: the folder to write to: `<dest>/<case>/annotation-<n>.nii.gz`. A case's name that leads out of it is changed:
            see :func:`monai_jdt.data.safe_relative_name`.
        progress: whether to show a progress bar.

    Returns:
        The items with one path per rater.

    Raises:
        DataProblemError: if a mask cannot be read, or has another shape than the first one of its rater.
    """
    merged, dest = [], user_path(dest)
    for item in with_progress(items, "merging instances", wanted=progress):
        paths = []
        for number, groups in enumerate(item["raters"], start=1):
            if isinstance(groups, str):
                paths.append(groups)
                continue
            path = os.path.join(dest, safe_relative_name(item["case"]), f"annotation-{number}.nii.gz")
            if not os.path.isfile(path):
                _write_label(path, *_painted(groups))
            paths.append(path)
        merged.append({**item, "raters": paths})
    return CaseList(merged, dest)


def _by_folder(files: Sequence[str]) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Return the files of each case's folder by what they are ("masks" and the names in _SINGLE), and the files of other names."""
    folders: dict[str, dict[str, list[str]]] = {}
    unknown = []
    for file in files:
        folder, name = os.path.split(file)
        stem = NIFTI_SUFFIX.sub("", name)
        in_masks = os.path.basename(folder).lower() == "segmentations"
        if in_masks and _MASK.fullmatch(stem):
            folders.setdefault(os.path.dirname(folder), {}).setdefault("masks", []).append(file)
        elif not in_masks and stem.lower() in _SINGLE:
            folders.setdefault(folder, {}).setdefault(stem.lower(), []).append(file)
        elif stem.lower() not in _FUSED:
            unknown.append(file)
    return folders, unknown


def _case_item(
    folder: str, content: Mapping[str, Sequence[str]], problems: list[DataProblem], skipped: list[SkippedPath]
) -> dict[str, Any] | None:
    """Return the item of a case's folder, or None if it has none. Problems and what is left out are added to the lists."""
    problems += [two_files(folder, key, *paths[:2]) for key, paths in content.items() if key in _SINGLE and len(paths) > 1]
    if _IMAGE not in content:
        if "masks" in content:
            skipped.append(SkippedPath(folder, "masks without an imaging.nii.gz"))
        return None
    raters, left, twice = _raters_of(content.get("masks", []))
    problems += [two_files(folder, *what) for what in twice]
    skipped += [SkippedPath(folder, why) for why in left]
    if not raters:
        skipped.append(SkippedPath(folder, "an image without a whole annotation in segmentations/"))
        return None
    item = {"case": os.path.basename(os.path.abspath(folder)), "task": "kits21", "image": content[_IMAGE][0], "raters": raters}
    if _CONSENSUS in content:
        item["consensus"] = content[_CONSENSUS][0]
    return item


def _raters_of(masks: Sequence[str]) -> tuple[list[list[list[str]]], list[str], list[tuple[str, str, str]]]:
    """Return files by annotation, label value and instance, then what is left out, and what is there twice, with its two files."""
    found: dict[int, dict[tuple[str, int], str]] = {}
    doubled = []
    for file in masks:
        match = _MASK.fullmatch(NIFTI_SUFFIX.sub("", os.path.basename(file)))
        if match is not None:
            instance = (match["region"].lower(), int(match["instance"]))
            first = found.setdefault(int(match["annotation"]), {}).setdefault(instance, file)
            if first != file:
                doubled.append((f"file of {instance[0]} instance {instance[1]}, annotation {int(match['annotation'])}", first, file))
    every = {instance for files in found.values() for instance in files}
    raters, left = [], []
    for annotation, files in sorted(found.items()):
        lacking = sorted(every - set(files))
        if lacking:
            names = ", ".join(f"{region} {number}" for region, number in lacking)
            left.append(f"annotation {annotation} lacks {names}")
        else:
            raters.append([[files[i] for i in sorted(files) if i[0] == region] for region in KITS21_REGIONS])
    return raters, left, doubled


def _painted(groups: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray | None]:
    label: np.ndarray | None = None
    first, affine = "", None
    for value, path in _in_paint_order(groups):
        volume = open_volume(path)
        mask = volume.read() > 0.5  # a scale factor in the header may turn 0 into 1e-7
        if label is None:
            label, first, affine = np.zeros(mask.shape, np.uint8), path, volume.affine
        if mask.shape != label.shape:
            problem = DataProblem(path, f"shape {label.shape}, as {first}", str(mask.shape), "download the case again")
            raise DataProblemError([problem])
        label[mask] = value
    if label is None:
        raise ValueError(error_sentence("raters", "at least one file", "lists without any", "leave out the rater"))
    return label, affine


def _in_paint_order(groups: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    for value in KITS21_PAINT_ORDER:
        for path in groups[value - 1]:
            yield value, path


def _write_label(path: str, label: np.ndarray, affine: np.ndarray | None) -> None:
    import nibabel

    with whole_file(path) as draft:
        nibabel.save(nibabel.Nifti1Image(label, affine), draft)
