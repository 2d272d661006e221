"""The cases of the LIDC bundle: what `python -m monai_jdt lidc` has written, or phantoms that are converted by it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from monai_jdt.bundle_runtime.case_lists import listed_cases
from monai_jdt.data.layouts.listing import CaseList
from monai_jdt.data.phantoms.folder import make_phantom_folder
from monai_jdt.data.phantoms.lidc import write_lidc_phantoms
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.validation import error_sentence

#: What a reader says who did not mark the nodules of a case.
UNMARKED_READERS: tuple[str, ...] = ("background", "missing")

#: The list that a conversion writes into the folder of its cases.
LIST_NAME = "datalist.json"


def ensure_lidc_cases(root: str, **settings: Any) -> str:
    """Make phantoms in LIDC's layout and convert them, unless that has been done.

    `root/dicom` holds the phantoms of :func:`monai_jdt.data.write_lidc_phantoms`, `root/cases` what `python -m monai_jdt lidc` makes of
    them: a crop of the CT around each nodule and four readers' masks, with the data list. The folder is there as a whole or not at
    all, whoever else makes it at the same time.

    Args:
        root: the folder.
        settings: arguments of :func:`monai_jdt.data.write_lidc_phantoms`.

    Returns:
        The folder of the cases.

    Raises:
        ValueError: as :func:`monai_jdt.data.write_lidc_phantoms`; the conversion fails, e.g. without the package defusedxml.
        FileExistsError: if `root` is there and is anything but an empty folder or the same cases.
    """
    record = {"layout": "lidc", "cases": 12, "seed": 0, **settings, "cases_version": 1}
    record.pop("progress", None)
    phantoms = {key: value for key, value in settings.items() if value is not None}

    def fill(draft: str) -> None:
        from monai_jdt.data.lidc import convert_lidc

        source = os.path.join(draft, "dicom")
        write_lidc_phantoms(source, **{"progress": False, **phantoms})
        failures = convert_lidc(source, os.path.join(draft, "cases"), progress=False).failures
        if failures:
            raise ValueError(next(iter(failures.values())))

    readme = (
        "These are PHANTOMS: synthetic CT images and readings made by monai_jdt. No patient is in them.\n"
        "dicom: in the layout of LIDC-IDRI. cases: what `python -m monai_jdt lidc dicom cases` made of them."
    )
    return os.path.join(make_phantom_folder(root, record, readme, fill), "cases")


def lidc_cases(folder: str) -> CaseList:
    """Read the cases that a conversion has written.

    Args:
        folder: where it wrote them.

    Returns:
        The items of its data list.

    Raises:
        DataProblemError: there is no such list, or as :func:`monai_jdt.data.read_datalist`.
    """
    path = os.path.join(folder, LIST_NAME)
    if os.path.isfile(path):
        return listed_cases(path)
    has_dicom = any(name.lower().endswith((".dcm", ".xml")) for _, _, names in os.walk(folder) for name in names)
    got = "DICOM or XML files, which are not converted" if has_dicom else "none"
    fix = f"python -m monai_jdt lidc {folder} CASES, then --dataset_dir CASES" if has_dicom else "name the folder of converted cases"
    raise DataProblemError([DataProblem(f"dataset_dir {folder}", f"the cases of a conversion, with {LIST_NAME}", got, fix)])


def with_unmarked(items: Sequence[dict[str, Any]], unmarked: str) -> Sequence[dict[str, Any]]:
    """Decide what readers say who did not mark the nodules of a case.

    Args:
        items: the cases. Those of a conversion have the numbers of the readers who marked something under "readers", and name
            masks by the reader's number.
        unmarked: "background": their masks are empty, and count; "missing": their masks are left out.

    Returns:
        The items, changed in place.

    Raises:
        ValueError: "missing" for items that do not tell who marked something.

    Example:
        >>> items = [{"case": "a", "raters": ["a/reader1.nii.gz", "a/reader2.nii.gz"], "readers": [2]}]
        >>> with_unmarked(items, "missing")[0]["raters"]
        ['a/reader2.nii.gz']
    """
    if unmarked == "background":
        return items
    for item in items:
        numbers = [re.search(r"(\d+)\.nii(\.gz)?$", str(path)) for path in item["raters"]]
        if not isinstance(item.get("readers"), list) or not all(numbers):
            expected = "cases that say who marked the nodules (`readers`), as `python -m monai_jdt lidc` writes them"
            got = f"missing, and case {item.get('case')} without"
            raise ValueError(error_sentence("unmarked", expected, got, "leave unmarked out, or leave empty masks out of the list"))
        marked = {int(number) for number in item["readers"]}
        item["raters"] = [
            path for path, number in zip(item["raters"], numbers, strict=True) if number is not None and int(number[1]) in marked
        ]
    return items
