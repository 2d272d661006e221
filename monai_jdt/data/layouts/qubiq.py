"""QUBIQ 2020 and 2021: case folders with `image.nii.gz` and `taskTT_segRR.nii.gz`, below any root, by data set and task."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from monai_jdt.data.layouts.folders import NIFTI_SUFFIX, natural_key, nifti_files, nothing_found, two_files
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken, one_of_each_case
from monai_jdt.data.names import user_path
from monai_jdt.data.problems import DataProblem, DataProblemError


@dataclass(frozen=True)
class QubiqSet:
    """One of QUBIQ's data sets.

    Args:
        name: its folder's name.
        tasks: how many structures are segmented, each by all raters.
        raters: how many raters a case has at most.
        spatial_dims: 2 or 3.
        channels: how many modalities stand on the image file's last axis; 0: it has no such axis.
        is_ct: whether intensities are Hounsfield units; else they have no unit (MR).
    """

    name: str
    tasks: int
    raters: int
    spatial_dims: int = 2
    channels: int = 0
    is_ct: bool = False


#: By name: the sets of 2020 and, the last two, those that 2021 adds.
QUBIQ_SETS: Mapping[str, QubiqSet] = MappingProxyType(
    {
        s.name: s
        for s in (
            QubiqSet("brain-growth", tasks=1, raters=7),
            QubiqSet("brain-tumor", tasks=3, raters=3, channels=4),
            QubiqSet("kidney", tasks=1, raters=3, is_ct=True),
            QubiqSet("prostate", tasks=2, raters=6),
            QubiqSet("pancreas", tasks=1, raters=2, spatial_dims=3, is_ct=True),
            QubiqSet("pancreatic-lesion", tasks=1, raters=2, spatial_dims=3, is_ct=True),
        )
    }
)

_MASK = re.compile(r"task[-_]?(?P<task>\d+)_seg[-_]?(?P<rater>\d+)", re.IGNORECASE)
_PROBABILITY = re.compile(r"task[-_]?(?P<task>\d+)_probability", re.IGNORECASE)
_SUBSETS = {
    "training": "training",
    "train": "training",
    "validation": "validation",
    "val": "validation",
    "testing": "testing",
    "test": "testing",
}
_EXPECTED = "QUBIQ cases (image.nii.gz with taskTT_segRR.nii.gz beside it)"


def qubiq_datalist(
    root: str | os.PathLike[str],
    dataset: str | None = None,
    task: int | str | None = None,
    *,
    subset: str | None = None,
    labelled: bool = True,
) -> CaseList:
    """List the cases of QUBIQ below any folder: the whole download, one data set, one of its parts, or one case.

    A case is a folder with an `image.nii` or `image.nii.gz`; its folder names tell the data set and the part (training,
    validation, testing), whether or not there is a level for the part. Nothing is opened.

    Args:
        root: the folder. The paths in the answer are this folder joined with what lies below it.
        dataset: a data set's name, e.g. "brain-growth" (underscores are hyphens); None: all that are there.
        task: a task's number, or its name as "task01"; None: all tasks.
        subset: "training", "validation" or "testing", where the folders tell; None: all.
        labelled: True: cases without raters are left out; False: every image is an item, without "raters", and with
            a task only if one is named, as for cases to predict.

    Returns:
        One dictionary for each case and task, by data set, case and task:
        `{"case": "case01", "dataset": "prostate", "task": "task01", "image": path, "raters": [paths]}`, and "subset"
        where the folders tell. An image with its modalities on the last axis has "channels", their numbers. A phantom's
        true probability stands under "probability". The list's `found` tells what was found, and what was left out.

    Raises:
        ValueError: if `task` or `subset` cannot be read.
        DataProblemError: if the folder is missing, holds no such case, holds a case twice, or two files for one thing.
    """
    number = _task_number(task)
    dataset = None if dataset is None else _set_name(dataset)
    if subset is not None and subset not in _SUBSETS.values():
        raise ValueError(f"subset: expected training, validation, testing or None, got {subset!r}")
    root = user_path(root)
    skipped: list[SkippedPath] = []
    files = nifti_files(root, _EXPECTED, skipped)
    unknown: list[str] = []
    folders: dict[str, list[str]] = {}
    for file in files:
        folders.setdefault(os.path.dirname(file), []).append(file)
    items: list[dict[str, Any]] = []
    problems: list[DataProblem] = []
    sets, tasks = set(), set()
    for folder, content in folders.items():
        case = _QubiqFolder(folder, content)
        wanted = dataset in (None, case.dataset) and subset in (None, case.subset)
        unknown += case.unknown if wanted else []
        if not case.images and not case.masks:
            continue
        problems += case.problems
        sets.add(case.dataset)
        if not wanted:
            continue
        tasks |= set(case.masks)
        if not case.images:
            skipped.append(SkippedPath(folder, "masks without an image.nii.gz"))
        elif not labelled:
            items.append(case.item(number, labelled=False))
        elif not case.masks:
            skipped.append(SkippedPath(folder, "an image without masks"))
        elif number is not None and number not in case.masks:
            skipped.append(SkippedPath(folder, f"no mask of task{number:02d}"))
        else:
            items += [case.item(t) for t in sorted(case.masks) if number in (None, t)]
    if not items and not problems:
        problems = [_no_case(root, files, dataset, number, subset, sets, tasks)]
    skipped += files_not_taken(unknown, [], "a name that QUBIQ does not have")
    items, doubled = one_of_each_case(items, skipped)
    problems += doubled
    if problems:
        raise DataProblemError(problems)
    items.sort(key=lambda item: (item["dataset"], natural_key(item["case"]), item.get("task", "")))
    return CaseList(items, root, skipped)


class _QubiqFolder:
    """One folder's files by what they are."""

    def __init__(self, folder: str, files: list[str]) -> None:
        self.folder = folder
        self.images: list[str] = []
        self.masks: dict[int, dict[int, str]] = {}
        self.probabilities: dict[int, str] = {}
        self.problems: list[DataProblem] = []
        self.unknown: list[str] = []
        for file in files:
            stem = NIFTI_SUFFIX.sub("", os.path.basename(file))
            if stem.lower() == "image":
                self.images.append(file)
            elif match := _MASK.fullmatch(stem):
                raters = self.masks.setdefault(int(match["task"]), {})
                first = raters.setdefault(int(match["rater"]), file)
                if first != file:
                    self.problems.append(two_files(folder, f"file of {stem}", first, file))
            elif match := _PROBABILITY.fullmatch(stem):
                self.probabilities[int(match["task"])] = file
            else:
                self.unknown.append(file)
        if len(self.images) > 1:
            self.problems.append(two_files(folder, "image", *self.images[:2]))
        parts = os.path.abspath(folder).split(os.sep)
        self.case = parts.pop()
        above = parts.pop().lower() if parts else ""
        self.subset = _SUBSETS.get(above)
        if self.subset is not None and parts:
            above = parts.pop()
        self.dataset = _set_name(above)

    def item(self, task: int | None, labelled: bool = True) -> dict[str, Any]:
        item: dict[str, Any] = {"case": self.case, "dataset": self.dataset}
        if task is not None:
            item["task"] = f"task{task:02d}"
        if self.subset is not None:
            item["subset"] = self.subset
        item["image"] = self.images[0]
        known = QUBIQ_SETS.get(self.dataset)
        if known is not None and known.channels:
            item["channels"] = list(range(known.channels))
        if labelled and task is not None:
            item["raters"] = [self.masks[task][rater] for rater in sorted(self.masks[task])]
            if task in self.probabilities:
                item["probability"] = self.probabilities[task]
        return item


def _set_name(name: str) -> str:
    return re.sub(r"[_\s]+", "-", name.strip().lower())


def _task_number(task: int | str | None) -> int | None:
    if task is None:
        return None
    match = re.fullmatch(r"(?:task[-_]?)?(\d+)", str(task).strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"task: expected a number or a name as 'task01', got {task!r}")
    return int(match[1])


def _no_case(
    root: str, files: list[str], dataset: str | None, task: int | None, subset: str | None, sets: set[str], tasks: set[int]
) -> DataProblem:
    if not sets:
        return nothing_found(root, _EXPECTED, files)
    wanted = [name for name in (dataset, None if task is None else f"task{task:02d}", subset) if name is not None]
    got = "the data sets " + ", ".join(sorted(sets))
    if tasks:
        got += " with the tasks " + ", ".join(f"task{t:02d}" for t in sorted(tasks))
    return DataProblem(root, " ".join(["labelled cases", *(["of", *wanted] if wanted else [])]), got, "name what is there")
