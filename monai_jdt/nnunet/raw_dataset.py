"""Where things are in a raw data set of nnU-Net, with the folder of the raters beside its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from monai_jdt.data.files.file_volume import one_problem
from monai_jdt.validation import error_sentence

#: The folder of the raters' maps, beside labelsTr. A case's are `CASE_rater1`, `CASE_rater2`, ...
RATERS_FOLDER = "ratersTr"
#: What a rater's channel holds where there is no map of that rater. It is no label value, and not the -1 that nnU-Net makes background.
MISSING = -2
#: What the name of plans ends with whose preprocessed data have rater channels. nnU-Net's own plans and data stay as they are.
PLANS_ENDING = "Raters"

_DATASET = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
_RATER = re.compile(r"(.+)_rater([1-9]\d*)")


def check_dataset_name(name: str) -> str:
    """Return a name that nnU-Net finds, such as Dataset503_Nodules.

    Args:
        name: the name.

    Raises:
        ValueError: another form.
    """
    if not _DATASET.fullmatch(name):
        fix = "name it Dataset503_Nodules, with three digits that no other data set has"
        raise ValueError(error_sentence("dataset", "a name of nnU-Net's form", repr(name), fix))
    return name


def nnunet_folder(variable: str) -> str:
    """Return the folder that an environment variable of nnU-Net names.

    Args:
        variable: such as nnUNet_raw.

    Raises:
        ValueError: it is not set.
    """
    folder = os.environ.get(variable)
    if not folder:
        fix = f"export {variable}=/a/folder, as for nnU-Net itself"
        raise ValueError(error_sentence(variable, "a folder in this environment variable", "none", fix))
    return folder


def rater_file(case: str, number: int, ending: str) -> str:
    """Return the name of a rater's map.

    Args:
        case: nnU-Net's name of the case.
        number: the rater's, from 1 on.
        ending: the data set's, such as ".nii.gz".

    Example:
        >>> rater_file("liver_1", 2, ".nii.gz")
        'liver_1_rater2.nii.gz'
    """
    return f"{case}_rater{number}{ending}"


def rater_files_of(folder: str, cases: Iterable[str], ending: str) -> dict[str, dict[int, str]]:
    """Find the raters' maps of each case.

    Args:
        folder: the raters'.
        cases: nnU-Net's names of all cases.
        ending: the data set's, such as ".nii.gz".

    Returns:
        Case to number of the rater to path. A case may have none.

    Raises:
        DataProblemError: no such folder, no map in it, or a file in it that belongs to no case.
    """
    fix = "put each rater's map there as CASE_rater1, CASE_rater2, ..., or make the data set by `monai-jdt nnunet convert`"
    if not os.path.isdir(folder):
        raise one_problem(folder, "a folder of the raters' maps", "nothing at that path", fix)
    found: dict[str, dict[int, str]] = {case: {} for case in cases}
    for entry in sorted(os.listdir(folder)):
        if entry.startswith("."):
            continue
        match = _RATER.fullmatch(entry.removesuffix(ending)) if entry.endswith(ending) else None
        if match is None or match[1] not in found:
            got = "one of no case in imagesTr" if match else "another name"
            raise one_problem(os.path.join(folder, entry), f"a file CASE_raterN{ending} of a case", got, "rename or remove it")
        found[match[1]][int(match[2])] = os.path.join(folder, entry)
    if not any(found.values()):
        raise one_problem(folder, "raters' maps", "none", fix)
    return found
