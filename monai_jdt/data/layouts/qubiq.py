"""QUBIQ 2020 and 2021: case folders with `image.nii.gz` and `taskTT_segRR.nii.gz`, below any root, by data set and task."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from monai_jdt.data.layouts.folders import NIFTI_SUFFIX, finished_list, nifti_files, nothing_found, two_files
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken
from monai_jdt.data.names import user_path
from monai_jdt.data.problems import DataProblem
from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class QubiqSet:
    """One of QUBIQ's data sets.

    Args:
        name: its folder's name.
        tasks: how many structures are segmented, each by all raters.
        raters: how many raters a case has at most.
        spatial_dims: 2 or 3.
        channels: how many modalities stand on the last axis of the image file; 0: it has no such axis.
        is_ct: whether intensities are Hounsfield units. Those of MR have no unit.
    """

    name: str
    tasks: int
    raters: int
    spatial_dims: int = 2
    channels: int = 0
    is_ct: bool = False


#: The data sets by name: the first four are of 2020, and 2021 adds the last two.
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

    A case is a folder with an `image.nii` or `image.nii.gz`. Its folder names are those of the data set and the part (training,
    validation, testing), whether or not there is a level for the part. Nothing is opened.

    Args:
        root: the folder. The paths in the answer are this folder joined with what lies below it.
        dataset: a data set's name, e.g. "brain-growth" (underscores are hyphens); None: all that are there.
        task: a task's number, or its name as "task01"; None: all tasks.
        subset: "training", "validation" or "testing", if folders have such names. None: all.
        labelled: True: cases without raters are left out; False: every image is an item, without "raters", and with
            a task only if one is named, as for cases to predict.

    Returns:
        One dictionary per case and task, sorted by data set, case and task:
        `{"case": "case01", "dataset": "prostate", "task": "task01", "image": path, "raters": [paths]}`, and "subset"
        if folders have such names. An image with its modalities on the last axis has "channels", their numbers. The true
        probability of a phantom stands under "probability". The list's `found` counts them, and names what was left out.

    Raises:
        ValueError: if `task` or `subset` has no such form.
        DataProblemError: if the folder is missing, holds no such case, holds a case twice, or two files for one thing.
    """
    number = _task_number(task)
    dataset = None if dataset is None else _set_name(dataset)
    if subset is not None and subset not in _SUBSETS.values():
        raise ValueError(error_sentence("subset", "training, validation, testing or None", repr(subset), "name one of these"))
    root = user_path(root)
    skipped: list[SkippedPath] = []
    files = nifti_files(root, _EXPECTED, skipped)
    folders = _case_folders(files)
    wanted = [folder for folder in folders if dataset in (None, folder.dataset) and subset in (None, folder.subset)]
    problems = [problem for folder in folders if folder.is_case for problem in folder.problems]
    items: list[dict[str, Any]] = []
    for folder in wanted:
        if folder.is_case and (why := folder.why_skipped(number, labelled)) is not None:
            skipped.append(SkippedPath(folder.folder, why))
        elif folder.is_case:
            tasks = [t for t in sorted(folder.masks) if number in (None, t)] if labelled else [number]
            items += [folder.item(t, labelled) for t in tasks]
    if not items and not problems:
        sets = {folder.dataset for folder in folders if folder.is_case}
        problems = [_no_case(root, files, dataset, number, subset, sets, {task for folder in wanted for task in folder.masks})]
    unknown = [file for folder in wanted for file in folder.unknown]
    skipped += files_not_taken(unknown, [], "a name that QUBIQ does not have")
    return finished_list(root, items, problems, skipped)


def _case_folders(files: Iterable[str]) -> list[_QubiqFolder]:
    folders: dict[str, list[str]] = {}
    for file in files:
        folders.setdefault(os.path.dirname(file), []).append(file)
    return [_QubiqFolder(folder, content) for folder, content in folders.items()]


class _QubiqFolder:
    """The files of one folder by what they are, and the data set, part and case that its path names."""

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
        # .../kidney/Training/case01, or .../kidney/case1-1 without a part
        self.subset = _SUBSETS.get(above)
        if self.subset is not None and parts:
            above = parts.pop()
        self.dataset = _set_name(above)

    @property
    def is_case(self) -> bool:
        return bool(self.images or self.masks)

    def why_skipped(self, task: int | None, labelled: bool) -> str | None:
        """Return why the folder has no item, or None if it has one."""
        if not self.images:
            return "masks without an image.nii.gz"
        if labelled and not self.masks:
            return "an image without masks"
        if labelled and task is not None and task not in self.masks:
            return f"no mask of task{task:02d}"
        return None

    def item(self, task: int | None, labelled: bool) -> dict[str, Any]:
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
        raise ValueError(error_sentence("task", "a number or a name as 'task01'", repr(task), "pass 1"))
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
