"""CURVAS 2024 and CURVAS-PDACVI 2025: case folders with `image.nii.gz` and `annotation_N.nii.gz`."""

from __future__ import annotations

import os
import re
from typing import Any

from monai_jdt.data.layouts.folders import NIFTI_SUFFIX, finished_list, nifti_files, nothing_found, two_files
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken
from monai_jdt.data.names import user_path
from monai_jdt.data.problems import DataProblem

_ANNOTATION = re.compile(r"annotation[-_]?(?P<rater>\d+)", re.IGNORECASE)
_EXPECTED = "CURVAS cases (image.nii.gz with annotation_1.nii.gz, ... beside it)"


def curvas_datalist(root: str | os.PathLike[str]) -> CaseList:
    """List the cases of CURVAS 2024 (3 annotations: 1 pancreas, 2 kidney, 3 liver) or CURVAS-PDACVI 2025 (5).

    Args:
        root: the folder. Cases are found at any depth, `.nii` or `.nii.gz`, in upper or lower case. The paths in the
            answer begin with it.

    Returns:
        One dictionary per case: `{"case": "UKCHLL001", "task": "curvas", "image": path, "raters": [paths]}`. The
        list's `found` names what was left out: images without annotations, and annotations without an image.

    Raises:
        DataProblemError: if the folder is missing, holds no such case, a case twice, or two files for one thing.
    """
    root = user_path(root)
    skipped: list[SkippedPath] = []
    files = nifti_files(root, _EXPECTED, skipped)
    unknown: list[str] = []
    folders: dict[str, tuple[list[str], dict[int, str]]] = {}
    problems: list[DataProblem] = []
    for file in files:
        stem = NIFTI_SUFFIX.sub("", os.path.basename(file))
        images, raters = folders.setdefault(os.path.dirname(file), ([], {}))
        if stem.lower() == "image":
            images.append(file)
        elif match := _ANNOTATION.fullmatch(stem):
            number = int(match["rater"])
            first = raters.setdefault(number, file)
            if first != file:
                problems.append(two_files(os.path.dirname(file), f"file of annotation {number}", first, file))
        else:
            unknown.append(file)
    skipped += files_not_taken(unknown, [], "a name that is neither image nor annotation")
    items: list[dict[str, Any]] = []
    for folder, (images, raters) in folders.items():
        if len(images) > 1:
            problems.append(two_files(folder, "image", *images[:2]))
        if images and raters:
            case = os.path.basename(os.path.abspath(folder))
            items.append({"case": case, "task": "curvas", "image": images[0], "raters": [raters[n] for n in sorted(raters)]})
        elif images or raters:
            skipped.append(SkippedPath(folder, "an image without annotations" if images else "annotations without an image.nii.gz"))
    if not items:
        problems.append(nothing_found(root, _EXPECTED, files))
    return finished_list(root, items, problems, skipped)
