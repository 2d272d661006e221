"""KiTS21: one file for each instance and annotation, which make a rater's label map together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.layouts.folders import NIFTI_SUFFIX, natural_key, nifti_files, nothing_found, two_files
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken, one_of_each_case
from monai_jdt.data.names import safe_relative_name, user_path
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.progress_bar import with_progress

#: The regions in the order of their label values 1, 2, 3.
KITS21_REGIONS: tuple[str, ...] = ("kidney", "tumor", "cyst")

#: The order in which values are painted, later over earlier: kidney, cyst, tumor, as in the challenge's own code.
KITS21_PAINT_ORDER: tuple[int, ...] = (1, 3, 2)

_MASK = re.compile(r"(?P<region>kidney|tumor|cyst)_instance-(?P<instance>\d+)_annotation-(?P<annotation>\d+)", re.IGNORECASE)
_IMAGE, _CONSENSUS = _SINGLE = ("imaging", "aggregated_maj_seg")
# other fused labels of the challenge
_FUSED = ("aggregated_and_seg", "aggregated_or_seg", "segmentation")
_EXPECTED = "KiTS21 cases (case_XXXXX/imaging.nii.gz with segmentations/ beside it)"


def kits21_datalist(root: str | os.PathLike[str]) -> CaseList:
    """List the cases of KiTS21, with the masks that make each rater's label.

    A rater is an annotation number: their label is the union, for each region, of the masks of all instances with that
    number. (The number is not one person over all instances: the raters are exchangeable.) So each entry of "raters"
    is a list of three lists of files, for the label values 1 kidney, 2 tumor and 3 cyst, any of which may be empty:
    `[[kidney files], [tumor files], [cyst files]]`. :func:`merge_kits21` writes such raters as one label map each, for
    transforms that read one file a rater. :func:`find_problems` looks at the single masks.

    Args:
        root: the folder; cases are found at any depth. The paths in the answer begin with it.

    Returns:
        One dictionary a case: `{"case": "case_00000", "task": "kits21", "image": path, "raters": [...]}`, and the
        aggregated majority, where it is, under "consensus". The list's `found` tells what was left out: cases without
        masks, and annotation numbers that some instance of the case lacks.

    Raises:
        DataProblemError: if the folder is missing, holds no such case, a case twice, or two files for one thing.
    """
    root = user_path(root)
    skipped: list[SkippedPath] = []
    files = nifti_files(root, _EXPECTED, skipped)
    unknown: list[str] = []
    folders: dict[str, dict[str, list[str]]] = {}
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
    items: list[dict[str, Any]] = []
    problems: list[DataProblem] = []
    skipped += files_not_taken(unknown, [], "a name that KiTS21 does not have")
    for folder, content in folders.items():
        problems += [two_files(folder, key, *paths[:2]) for key, paths in content.items() if key in _SINGLE and len(paths) > 1]
        if _IMAGE not in content:
            if "masks" in content:
                skipped.append(SkippedPath(folder, "masks without an imaging.nii.gz"))
            continue
        raters, left, twice = _raters_of(content.get("masks", []))
        problems += [two_files(folder, *what) for what in twice]
        skipped += [SkippedPath(folder, why) for why in left]
        if not raters:
            skipped.append(SkippedPath(folder, "an image without a whole annotation in segmentations/"))
            continue
        item = {"case": os.path.basename(os.path.abspath(folder)), "task": "kits21", "image": content[_IMAGE][0], "raters": raters}
        if _CONSENSUS in content:
            item["consensus"] = content[_CONSENSUS][0]
        items.append(item)
    if not items:
        problems.append(nothing_found(root, _EXPECTED, files))
    items, doubled = one_of_each_case(items, skipped)
    problems += doubled
    if problems:
        raise DataProblemError(problems)
    return CaseList(sorted(items, key=lambda item: natural_key(item["case"])), root, skipped)


def merge_kits21(items: Sequence[Mapping[str, Any]], dest: str | os.PathLike[str], *, progress: bool = True) -> CaseList:
    """Write each rater's label map, and list the cases with them.

    The masks are painted in the order :data:`KITS21_PAINT_ORDER`. One case's masks are in memory at a time; a map that
    is there already is used as it is.

    Args:
        items: as :func:`kits21_datalist` gives them; a rater that is one path already stays as it is.
        dest: the folder to write to: `<dest>/<case>/annotation-<n>.nii.gz`. A case's name that leads out of it is changed:
            see :func:`monai_jdt.data.safe_relative_name`.
        progress: whether to show a progress bar.

    Returns:
        The items with one path a rater.

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


def _raters_of(masks: Sequence[str]) -> tuple[list[list[list[str]]], list[str], list[tuple[str, str, str]]]:
    """Files by annotation, label value and instance; what is left out; and what is there twice, with its two files."""
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
        mask = volume.read() > 0.5  # a scale factor may leave a little of 0
        if label is None:
            label, first, affine = np.zeros(mask.shape, np.uint8), path, volume.affine
        if mask.shape != label.shape:
            problem = DataProblem(path, f"shape {label.shape}, as {first}", str(mask.shape), "download the case again")
            raise DataProblemError([problem])
        label[mask] = value
    if label is None:
        raise ValueError("raters: expected at least one file, got lists without any")
    return label, affine


def _in_paint_order(groups: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    for value in KITS21_PAINT_ORDER:
        for path in groups[value - 1]:
            yield value, path


def _write_label(path: str, label: np.ndarray, affine: np.ndarray | None) -> None:
    import nibabel

    with whole_file(path) as draft:
        nibabel.save(nibabel.Nifti1Image(label, affine), draft)
