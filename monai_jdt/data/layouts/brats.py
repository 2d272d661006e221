"""From a folder to a list of cases: the BraTS layouts of every year, and the MSD's Task01."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from monai_jdt.data.layouts.folders import NIFTI_SUFFIX, finished_list, natural_key, nifti_files, nothing_found
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken
from monai_jdt.data.names import folded_name, user_path
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.validation import error_sentence

#: Layout name to the region convention (see `regions.py`) of its label files. A BraTS 2024 set has the file names of the 2023 layout
#: and one label value more, so the name of its convention, "brats2024", cannot be read from the files.
LAYOUT_CONVENTIONS: Mapping[str, str] = MappingProxyType(
    {"brats2018": "brats2018", "brats2021": "brats2021", "brats2023": "brats2023", "msd": "msd"}
)

#: The channel order of every BraTS image in the package.
MODALITIES: tuple[str, ...] = ("T1c", "T1", "T2", "FLAIR")

#: Where each of :data:`MODALITIES` stands in the MSD's 4D files, whose order is FLAIR, T1w, t1gd, T2w (`dataset.json`):
#: `image[list(MSD_CHANNELS)]` is T1c, T1, T2, FLAIR.
MSD_CHANNELS: tuple[int, ...] = (2, 1, 3, 0)


@dataclass(frozen=True)
class BratsFileNames:
    """How a layout names a case's files: the case's name, a mark, an ending.

    Args:
        mark: what stands between the case's name and the ending.
        modalities: the endings of :data:`MODALITIES`, in that order.
    """

    mark: str
    modalities: tuple[str, ...]


#: Layout name to its file names. The MSD names files by folders instead. BraTS 2019 and 2020 have the names of 2018 and 2021.
BRATS_FILE_NAMES: Mapping[str, BratsFileNames] = MappingProxyType(
    {
        "brats2018": BratsFileNames("_", ("t1ce", "t1", "t2", "flair")),
        "brats2021": BratsFileNames("_", ("t1ce", "t1", "t2", "flair")),
        "brats2023": BratsFileNames("-", ("t1c", "t1n", "t2w", "t2f")),
    }
)
_RATER = re.compile(r"seg_rater[-_]?(?P<rater>\w+)", re.IGNORECASE)
_EXPECTED = "cases in one of the layouts " + ", ".join(LAYOUT_CONVENTIONS)


def brats_datalist(root: str | os.PathLike[str], layout: str = "auto") -> CaseList:
    """List the cases of a BraTS or MSD Task01 folder, with every rater's file.

    Files are found at any depth below `root` (hidden ones are skipped), `.nii` or `.nii.gz`, in upper or lower case.
    The raters of a case are its `<case>_seg_rater*` files in the order of their numbers, or, if there are none, the
    one `<case>_seg` file.

    Args:
        root: the folder. The paths in the answer are this folder joined with what lies below it: relative if it is.
        layout: a key of :data:`LAYOUT_CONVENTIONS`, or "auto" to read it from the file names.

    Returns:
        One dictionary per case, in the natural order of the case names:
        `{"case": name, "task": layout, "image": [T1c, T1, T2, FLAIR paths], "raters": [paths]}`, with the layout as a key
        of :data:`LAYOUT_CONVENTIONS`. For the MSD, "image" is the path of one 4D file, and "channels" is its permutation
        to T1c, T1, T2, FLAIR (:data:`MSD_CHANNELS`). The true probability of a phantom stands under "probability". The
        list's `found` counts them, and names what was left out.

    Raises:
        ValueError: if `layout` is unknown.
        DataProblemError: if the folder is missing, holds no case or two layouts, or if a case lacks a modality or has
            no rater, has two files for one thing, or is there twice. The error names all such problems.
    """
    if layout != "auto" and layout not in LAYOUT_CONVENTIONS:
        raise ValueError(error_sentence("layout", f"auto or one of {sorted(LAYOUT_CONVENTIONS)}", repr(layout), "name one of these"))
    root = user_path(root)
    skipped: list[SkippedPath] = []
    files = nifti_files(root, _EXPECTED, skipped)
    if layout == "auto":
        layout = _layout_of(root, files)
    items, problems = _list_msd(files, skipped) if layout == "msd" else _list_brats(layout, files, skipped)
    if not items and not problems:
        problems = [nothing_found(root, f"cases in the layout {layout}", files)]
    return finished_list(root, items, problems, skipped)


def brats_layout(root: str | os.PathLike[str]) -> str:
    """Tell the layout of a folder from its file names.

    Args:
        root: as in :func:`brats_datalist`.

    Returns:
        A key of :data:`LAYOUT_CONVENTIONS`. "brats2018" (a folder HGG or LGG above the cases) and "brats2021" are read
        alike.

    Raises:
        DataProblemError: if the folder is missing, or holds no known layout, or two of them.
    """
    root = user_path(root)
    return _layout_of(root, nifti_files(root, _EXPECTED))


def _split_name(file: str, layout: str) -> tuple[str, str] | None:
    """Return case name and ending ("t1", "seg", "seg_rater3", "probability") of a BraTS file, or None for any other file."""
    names = BRATS_FILE_NAMES[layout]
    stem = NIFTI_SUFFIX.sub("", os.path.basename(file))
    endings = "|".join((*names.modalities, r"probability", r"seg_rater[-_]?\w+", r"seg"))
    match = re.fullmatch(rf"(?P<case>.+?){names.mark}(?P<ending>{endings})", stem, re.IGNORECASE | re.DOTALL)
    return None if match is None else (match["case"], match["ending"].lower())


def _in_folder(file: str, *names: str) -> bool:
    return os.path.basename(os.path.dirname(os.path.abspath(file))).lower() in names


def _layout_of(root: str, files: Sequence[str]) -> str:
    found = set()
    for file in files:
        if _in_folder(file, "imagestr"):
            found.add("msd")
            continue
        for layout in ("brats2021", "brats2023"):
            name = _split_name(file, layout)
            # Modalities only: the seg and probability files of other data sets have the same endings.
            if name is not None and name[1] in BRATS_FILE_NAMES[layout].modalities:
                found.add(layout)
    if not found:
        raise DataProblemError([nothing_found(root, _EXPECTED, files)])
    if len(found) > 1:
        fix = "name the layout, or the folder of one data set"
        raise DataProblemError([DataProblem(root, "one layout", " and ".join(sorted(found)), fix)])
    layout = found.pop()
    graded = any({"hgg", "lgg"} & set(os.path.abspath(f).lower().split(os.sep)) for f in files)
    return "brats2018" if layout == "brats2021" and graded else layout


def _list_brats(layout: str, files: Iterable[str], skipped: list[SkippedPath]) -> tuple[list[dict[str, Any]], list[DataProblem]]:
    mark, modalities = BRATS_FILE_NAMES[layout].mark, BRATS_FILE_NAMES[layout].modalities
    cases: dict[tuple[str, str], dict[str, list[str]]] = {}
    names: dict[tuple[str, str], str] = {}
    unknown: list[str] = []
    for file in files:
        name = _split_name(file, layout)
        if name is None:
            unknown.append(file)
            continue
        key = (os.path.dirname(file), folded_name(name[0]))
        names.setdefault(key, name[0])
        cases.setdefault(key, {}).setdefault(name[1], []).append(file)
    skipped += files_not_taken(unknown, [], f"a name that the layout {layout} does not have")
    items, problems = [], []
    for (folder, folded), found in cases.items():
        case = names[folder, folded]
        where = os.path.join(folder, case)
        if not any(modality in found for modality in modalities):
            skipped.append(SkippedPath(where, "labels alone, no modality"))  # such as a folder of predictions
            continue
        for modality in modalities:
            if modality not in found:
                got = "only " + ", ".join(m for m in modalities if m in found)
                expected = f"the modality file {case}{mark}{modality}.nii.gz"
                problems.append(DataProblem(where, expected, got, "add it, or remove the case"))
        problems += _two_files(where, found)
        raters = _raters(found)
        if not raters:
            problems.append(_no_rater(where, f"{case}{mark}seg"))
        images = [found[modality][0] for modality in modalities if modality in found]
        item: dict[str, Any] = {"case": case, "task": layout, "image": images, "raters": raters}
        if "probability" in found:
            item["probability"] = found["probability"][0]
        items.append(item)
    return items, problems


def _list_msd(files: Sequence[str], skipped: list[SkippedPath]) -> tuple[list[dict[str, Any]], list[DataProblem]]:
    items, problems = [], []
    labels: dict[str, list[str]] = {}
    known: set[str] = set()
    for file in files:
        if _in_folder(file, "labelstr"):
            labels.setdefault(os.path.dirname(os.path.dirname(file)), []).append(file)
    for file in files:
        if not _in_folder(file, "imagestr"):
            continue
        case = NIFTI_SUFFIX.sub("", os.path.basename(file))
        folded = folded_name(case)
        known.add(file)
        found: dict[str, list[str]] = {}
        for label in labels.get(os.path.dirname(os.path.dirname(file)), []):
            stem = folded_name(NIFTI_SUFFIX.sub("", os.path.basename(label)))
            ending = "seg" if stem == folded else stem.removeprefix(folded + "_")
            if ending != stem or stem == folded:
                found.setdefault(ending, []).append(label)
                known.add(label)
        problems += _two_files(file, found)
        raters = _raters(found)
        if not raters:
            problems.append(_no_rater(file, f"labelsTr/{case}"))
        item: dict[str, Any] = {"case": case, "task": "msd", "image": file, "raters": raters, "channels": list(MSD_CHANNELS)}
        if "probability" in found:
            item["probability"] = found["probability"][0]
        items.append(item)
    skipped += files_not_taken((file for file in files if file not in known), [], "neither an image in imagesTr nor the label of one")
    return items, problems


def _raters(found: Mapping[str, Sequence[str]]) -> list[str]:
    numbered = {match["rater"]: found[ending][0] for ending in found if (match := _RATER.fullmatch(ending))}
    if numbered:
        return [numbered[rater] for rater in sorted(numbered, key=natural_key)]
    return list(found.get("seg", []))[:1]


def _no_rater(where: str, label: str) -> DataProblem:
    return DataProblem(where, f"raters: {label}_rater1.nii.gz, ..., or one {label}.nii.gz", "none", "add a label, or remove the case")


def _two_files(where: str, found: Mapping[str, Sequence[str]]) -> list[DataProblem]:
    return [
        DataProblem(where, f"one {ending} file", " and ".join(paths), "remove one of them")
        for ending, paths in found.items()
        if len(paths) > 1
    ]
