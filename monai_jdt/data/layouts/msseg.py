"""MSSEG-2016: seven experts' lesions of each patient, in the files of the challenge and of its newer release."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from monai_jdt.data.layouts.folders import NIFTI_SUFFIX, finished_list, natural_key, nifti_files, nothing_found
from monai_jdt.data.layouts.listing import CaseList, SkippedPath, files_not_taken
from monai_jdt.data.names import user_path
from monai_jdt.data.problems import DataProblem
from monai_jdt.validation import error_sentence

#: The names of the modalities: FLAIR, T1, T1 with gadolinium, proton density, T2.
MSSEG_MODALITIES: tuple[str, ...] = ("FLAIR", "T1", "GADO", "DP", "T2")

_IMAGE = re.compile(r"(?:3D)?(?P<modality>FLAIR|T1GADO|T1|GADO|DP|T2)(?P<done>_preprocessed)?", re.IGNORECASE)
_EXPERT = re.compile(r"ManualSegmentation[-_](?P<rater>\d+)", re.IGNORECASE)
_INNER = ("raw_data", "preprocessed_data", "masks")
_EXPECTED = "MSSEG-2016 patients (FLAIR_preprocessed.nii.gz, ..., ManualSegmentation_1.nii.gz, ...)"


def msseg_datalist(
    root: str | os.PathLike[str],
    images: Literal["preprocessed", "raw"] = "preprocessed",
    modalities: Sequence[str] = MSSEG_MODALITIES,
) -> CaseList:
    """List the patients of MSSEG-2016, of the challenge's release or the newer one.

    The newer release has `<center>/<patient>/{Raw_Data,Preprocessed_Data,Masks}/`; the older one has images and masks in
    `<patient>/`, which may stand in several folders below `root` (raw, preprocessed, masks): the files of one patient's
    name are one case. Where there are centers, patients are named `<center>_<patient>`, since their numbers start anew in
    each center.

    Args:
        root: the folder. The paths in the answer begin with it.
        images: "preprocessed" (`FLAIR_preprocessed.nii.gz`; on the masks' grid) or "raw" (`FLAIR.nii.gz` or
            `3DFLAIR.nii.gz`, ...; of these only FLAIR is on the masks' grid).
        modalities: names of :data:`MSSEG_MODALITIES`, in the order of the channels.

    Returns:
        One dictionary per patient: `{"case": name, "task": "msseg2016", "image": [paths], "raters": [paths]}`, and the
        experts' consensus under "consensus". The list's `found` says what was left out and why.

    Raises:
        ValueError: if `images` or a modality is unknown.
        DataProblemError: if the folder is missing, holds no such patient, or two files for one thing.
    """
    if images not in ("preprocessed", "raw"):
        raise ValueError(error_sentence("images", "preprocessed or raw", repr(images), "name one of these"))
    unknown = [name for name in modalities if name not in MSSEG_MODALITIES]
    if unknown or not modalities:
        expected = f"names among {', '.join(MSSEG_MODALITIES)}"
        raise ValueError(error_sentence("modalities", expected, str(list(modalities)), "name at least one of these"))
    root = user_path(root)
    skipped: list[SkippedPath] = []
    files = nifti_files(root, _EXPECTED, skipped)
    items: list[dict[str, Any]] = []
    problems: list[DataProblem] = []
    for patient, found in _by_patient(files, images, skipped).items():
        for kind, paths in found.items():
            if len(paths) > 1:
                problems.append(DataProblem(patient, f"one file {kind}", " and ".join(paths[:2]), "name the folder of one release"))
        raters = sorted((kind for kind in found if kind.startswith("expert ")), key=natural_key)
        absent = [name for name in modalities if name not in found]
        if absent:
            skipped.append(SkippedPath(patient, f"no {images} {', '.join(absent)}"))
        elif not raters:
            skipped.append(SkippedPath(patient, "no ManualSegmentation"))
        else:
            item: dict[str, Any] = {"case": patient, "task": "msseg2016", "image": [found[name][0] for name in modalities]}
            item["raters"] = [found[rater][0] for rater in raters]
            if "consensus" in found:
                item["consensus"] = found["consensus"][0]
            items.append(item)
    if not items and not problems:
        problems = [nothing_found(root, f"{_EXPECTED} with {images} images", files)]
    return finished_list(root, items, problems, skipped)


def _by_patient(files: Iterable[str], images: str, skipped: list[SkippedPath]) -> dict[str, dict[str, list[str]]]:
    """Return patient to kind to files. Links to a file that is there, and files of unknown names, are added to `skipped`."""
    others: list[str] = []
    patients: dict[str, dict[str, list[str]]] = {}
    for file in files:
        kind = _kind_of(file, images)
        if kind is None:
            others += [] if _is_known(file) else [file]
            continue
        same = patients.setdefault(_patient_of(file), {}).setdefault(kind, [])
        if os.path.realpath(file) in map(os.path.realpath, same):
            skipped.append(SkippedPath(file, f"the same file as {same[0]}, by a link"))
        else:
            same.append(file)
    skipped += files_not_taken(others, [], "a name that MSSEG-2016 does not have")
    return patients


def _kind_of(file: str, images: str) -> str | None:
    """Return one of "FLAIR", ..., "expert 1", ..., "consensus", or None for other files, and for images of the other kind."""
    stem = NIFTI_SUFFIX.sub("", os.path.basename(file))
    if match := _EXPERT.fullmatch(stem):
        return f"expert {int(match['rater'])}"
    if stem.lower() == "consensus":
        return "consensus"
    match = _IMAGE.fullmatch(stem)
    if match is None or (match["done"] is not None) != (images == "preprocessed"):
        return None
    return match["modality"].upper().replace("T1GADO", "GADO")


def _is_known(file: str) -> bool:
    """Return whether a file is an image of the kind that is not asked for, or the brain's mask."""
    stem = NIFTI_SUFFIX.sub("", os.path.basename(file))
    return _IMAGE.fullmatch(stem) is not None or stem.lower() in ("brain_mask", "mask")


def _patient_of(file: str) -> str:
    parts = os.path.abspath(file).split(os.sep)[:-1]
    if parts and parts[-1].lower() in _INNER:
        parts.pop()
    patient = parts.pop()  # of the older release: the same name below the raw, the preprocessed and the masks' folder
    return f"{parts[-1]}_{patient}" if parts and parts[-1].lower().startswith("center") else patient
