"""A data list as a raw data set of nnU-Net: images, one fused label per case, and the raters beside."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from monai_jdt.data.case_runner import run_cases
from monai_jdt.data.datalist_file import read_sections, write_datalist
from monai_jdt.data.files.atomic import whole_folder
from monai_jdt.data.files.file_volume import one_problem
from monai_jdt.data.files.foreground import Foreground
from monai_jdt.data.files.grids import VoxelGrid, grid_problem, without_last_ones
from monai_jdt.data.files.label_values import distinct_values
from monai_jdt.data.files.volumes import open_volume
from monai_jdt.data.list_forms import VALIDATION_NAMES, chosen_section
from monai_jdt.data.names import folded_name, one_line
from monai_jdt.data.problems import DataProblemError
from monai_jdt.data.rater_names import names_of_raters
from monai_jdt.data.splits import folds
from monai_jdt.nnunet.raw_dataset import RATERS_FOLDER, check_dataset_name, rater_file
from monai_jdt.nnunet.raw_labels import RawLabels, raw_labels
from monai_jdt.raters.label_map import regions_to_label_map
from monai_jdt.raters.votes import region_votes
from monai_jdt.report.rated_cases import RatedCase, rated_cases_of
from monai_jdt.transforms import LoadRaters, LoadVolume
from monai_jdt.validation import error_sentence

_ENDING = ".nii.gz"
#: nnU-Net's folders of each side: images, labels, raters.
_TRAINING = ("imagesTr", "labelsTr", RATERS_FOLDER)
_TEST = ("imagesTs", "labelsTs", "ratersTs")
#: nnU-Net's number of folds, and its seed.
_FOLDS, _SEED = 5, 12345


@dataclass(frozen=True)
class RawCase:
    """One case, and where it goes.

    Args:
        name: nnU-Net's.
        case: of the list.
        numbers: each rater's, from 1 on: of a person the same in every case, where the list names its raters.
        channels: how many channels the image must have.
        labels: what the raters' values mean.
        folders: of images, labels and raters.
    """

    name: str
    case: RatedCase
    numbers: tuple[int, ...]
    channels: int
    labels: RawLabels
    folders: tuple[str, str, str]


@dataclass(frozen=True)
class WrittenCase:
    """What the files of a case have.

    Args:
        values: label values of the raters' files.
        axes: 2 of a picture or a volume of one slice, else 3.
    """

    values: frozenset[int]
    axes: int


@dataclass(frozen=True)
class RawDataset:
    """What :func:`convert_to_nnunet` wrote.

    Args:
        folder: the data set's.
        labels: nnU-Net's regions and values.
        training: how many cases were written to imagesTr.
        test: how many to imagesTs.
        raters: the fewest and the most raters of a case.
        background: label values of the raters' files that are in no region, so that they became background.
        left_out: cases without raters.
    """

    folder: str
    labels: RawLabels
    training: int
    test: int
    raters: tuple[int, int]
    background: tuple[int, ...]
    left_out: tuple[str, ...]


def convert_to_nnunet(
    datalist: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    regions: Mapping[str, Sequence[int]],
    *,
    channels: Sequence[str] = ("image",),
    section: str = "all",
    test: str | None = None,
    ignored: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> RawDataset:
    """Write a data list as a raw data set of nnU-Net.

    Every file is written as `.nii.gz` on the voxels of the case's image, pictures as 2D. The label is the raters' majority: regions by
    more than half of the raters that say anything at a voxel. Label values are numbered anew (:class:`RawLabels`).
    `splits_final.json` has the folds: the list's own, or five by patient. `datalist.json` lists what was written, for
    `monai-jdt evaluate`.

    Args:
        datalist: the list.
        dest: the folder to make, such as `$nnUNet_raw/Dataset503_Nodules`.
        regions: name to label values of the raters' files.
        channels: a name for each channel of the images. nnU-Net normalises a channel named CT by Hounsfield units.
        section: one list of the file, or "all".
        test: a list of the file that becomes imagesTs; it is no part of the training then.
        ignored: the value with which a rater says nothing, in the raters' files. It becomes nnU-Net's ignore label.
        workers: processes.
        progress: whether to show a progress bar.

    Raises:
        FileExistsError: there is something at `dest`.
        ValueError: no case has raters, cases whose names would be one, regions that nnU-Net cannot have or that no rater marked,
            folds that are no folds, or a case that cannot be converted. Then nothing is written.
        DataProblemError: a list that cannot be read.
    """
    dest = os.path.abspath(os.fspath(dest))
    check_dataset_name(os.path.basename(dest))
    if os.path.lexists(dest):
        raise FileExistsError(error_sentence(dest, "a free name", "something that is there", "name another, or remove it"))
    labels = raw_labels(regions, ignored)
    training, tested = _training_and_test(datalist, section, test)
    left_out = [str(item["case"]) for item in [*training, *tested] if not item.get("raters")]
    rated = [item for item in [*training, *tested] if item.get("raters")]
    trained = sum(bool(item.get("raters")) for item in training)
    if not trained:
        raise ValueError(error_sentence(os.fspath(datalist), "cases with raters to train on", "none", "list files under 'raters'"))
    cases = rated_cases_of(rated)
    slots = {name: n + 1 for n, name in enumerate(names_of_raters(rated))} if all(case.named for case in cases) else None
    names = _raw_names(cases)
    with whole_folder(dest) as draft:
        work = [
            RawCase(
                name,
                case,
                tuple(slots[rater] if slots else n + 1 for n, rater in enumerate(case.raters)),
                len(channels),
                labels,
                _raw_folders(draft, _TRAINING if number < trained else _TEST),
            )
            for number, (name, case) in enumerate(zip(names, cases, strict=True))
        ]
        outcomes = list(run_cases(write_raw_case, work, names, what="nnunet", workers=workers, progress=progress))
        failures = [f"{outcome.name}: {outcome.failure}" for outcome in outcomes if outcome.failure is not None]
        if failures:
            more = f" ({len(failures) - 1} more cases failed: `monai-jdt check` lists every problem)" if len(failures) > 1 else ""
            raise ValueError(failures[0] + more)
        written = [outcome.result for outcome in outcomes if outcome.result is not None]
        _as_slices_of_volumes(list(zip(work, written, strict=True)))
        found = set().union(*(case.values for case in written))
        for name, group in regions.items():
            if found.isdisjoint(group):
                got = "the values " + ", ".join(map(str, sorted(found)))
                raise ValueError(error_sentence(f"region {name}", f"one of {list(group)} in a rater's file", got, "mend --regions"))
        background = sorted(found - {0, ignored, *labels.values})
        _write_records(draft, os.path.basename(dest), labels, channels, work[:trained], work[trained:], rated[:trained])
    counts = [len(raw.numbers) for raw in work]
    return RawDataset(dest, labels, trained, len(work) - trained, (min(counts), max(counts)), tuple(background), tuple(left_out))


def _training_and_test(
    datalist: str | os.PathLike[str], section: str, test: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the items to train on, each with whether the list holds it out for validation, and those to test."""
    path, sections = os.fspath(datalist), read_sections(datalist)
    tested = None if test is None else chosen_section(path, sections, test)
    wanted = [name for name in sections if name != tested] if section == "all" else [chosen_section(path, sections, section)]
    if tested in wanted:
        fix = "name another, or leave --test out"
        raise ValueError(error_sentence("test", "a section that is not trained on", repr(tested), fix))
    validation = next((name for name in sections if name in VALIDATION_NAMES), None)
    training = [{**item, "held_out": name == validation} for name in wanted for item in sections[name]]
    return training, [] if tested is None else sections[tested]


def _raw_names(cases: Sequence[RatedCase]) -> list[str]:
    """Return a file name for each case, without letters that a command line or a file system knows otherwise."""
    names = [re.sub(r"[^\w.-]+", "_", case.name).strip("_.") or "case" for case in cases]
    taken: dict[str, str] = {}
    for name, case in zip(names, cases, strict=True):
        folded = folded_name(name)
        if folded in taken:
            got = f"{one_line(taken[folded])!r} and {one_line(case.name)!r}, which would be one file name"
            fix = "rename a case in the list"
            raise ValueError(error_sentence("names", "cases whose names differ in letters and digits", got, fix))
        taken[folded] = case.name
    return names


def _raw_folders(draft: str, names: tuple[str, str, str]) -> tuple[str, str, str]:
    made = tuple(os.path.join(draft, name) for name in names)
    for folder in made:
        os.makedirs(folder, exist_ok=True)
    return made[0], made[1], made[2]


def write_raw_case(raw: RawCase) -> WrittenCase:
    """Write the files of one case.

    Args:
        raw: the case.

    Returns:
        What the files have.

    Raises:
        DataProblemError: a file that cannot be read, another grid, or another number of channels.
    """
    case, labels = raw.case, raw.labels
    if not case.image:
        raise one_problem(case.name, "an image", "none in the list", "add the image's path to the list")
    image = LoadVolume(dtype=None, ensure_channel_first=True)(case.image[0] if len(case.image) == 1 else list(case.image))
    if len(image) != raw.channels:
        names = f"{len(image)} channel" + ("s" if len(image) > 1 else "")
        raise one_problem(case.image[0], f"{raw.channels}, one for each channel's name", names, "name each by --channel, in order")
    place = open_volume(case.image[0]).affine
    grid = VoxelGrid(case.image[0], tuple(image.shape[1:]), place)
    for path in case.image[1:]:
        # all channels are written with the affine of the first, so that nnU-Net could not see it
        problem = grid_problem(VoxelGrid(path, grid.shape, open_volume(path).affine), grid)
        if problem is not None:
            raise DataProblemError([problem])
    votes = _raters_on(grid, case.files, case.foreground)
    affine = np.eye(4) if place is None else place
    shape = without_last_ones(grid.shape)
    for number, channel in enumerate(image.numpy()):
        _save_on_grid(os.path.join(raw.folders[0], f"{raw.name}_{number:04d}{_ENDING}"), _as_itk_reads(channel).reshape(shape), affine)
    renumbered = labels.renumbered(votes)
    _save_on_grid(os.path.join(raw.folders[1], raw.name + _ENDING), majority_label(renumbered, labels).reshape(shape), affine)
    for number, rater in zip(raw.numbers, renumbered, strict=True):
        _save_on_grid(os.path.join(raw.folders[2], rater_file(raw.name, number, _ENDING)), rater.reshape(shape), affine)
    return WrittenCase(frozenset(int(value) for value in distinct_values(votes)), len(shape))


def _as_slices_of_volumes(written: Sequence[tuple[RawCase, WrittenCase]]) -> None:
    """Write cases of one slice again as volumes of one slice, if others are volumes. nnU-Net takes a 2D file for a very thick slice."""
    if len({case.axes for _, case in written}) < 2:
        return
    for raw, case in written:
        if case.axes > 2:
            continue
        images, labels, raters = raw.folders
        paths = [os.path.join(images, f"{raw.name}_{number:04d}{_ENDING}") for number in range(raw.channels)]
        paths += [os.path.join(labels, raw.name + _ENDING)]
        paths += [os.path.join(raters, rater_file(raw.name, number, _ENDING)) for number in raw.numbers]
        for path in paths:
            slice_of = nibabel.nifti1.Nifti1Image.from_filename(path)
            _save_on_grid(path, np.asarray(slice_of.dataobj)[..., np.newaxis], slice_of.affine)


def _raters_on(grid: VoxelGrid, files: Sequence[str], foreground: Foreground | None) -> np.ndarray:
    return LoadRaters().load_onto(files, grid, foreground).numpy()


def majority_label(votes: np.ndarray, labels: RawLabels) -> np.ndarray:
    """Return nnU-Net's label: what more than half of the raters say, of those who say anything at a voxel.

    Args:
        votes: `(R, *S)`, nnU-Net's values.
        labels: what they mean.

    Returns:
        `(*S)`, uint8. A voxel where no rater says anything is the ignore label.

    Example:
        >>> labels = raw_labels({"nodule": (1,)}, ignored=9)
        >>> majority_label(np.array([[1, 1, 2], [1, 0, 2], [0, 2, 2]]), labels)  # nnU-Net's ignore label is 2
        array([1, 0, 2], dtype=uint8)
    """
    says = (votes != labels.ignore_label) if labels.ignore_label is not None else np.ones(votes.shape, bool)
    raters = torch.from_numpy(says.sum(0))
    groups = list(labels.regions.values())
    marked = region_votes(torch.from_numpy(votes.astype(np.int16)), groups)
    label = regions_to_label_map((2 * marked > raters).float(), groups).numpy().astype(np.uint8)
    if labels.ignore_label is not None:
        label[says.sum(0) == 0] = labels.ignore_label
    return label


def _as_itk_reads(values: np.ndarray) -> np.ndarray:
    """Return numbers in a type that NIfTI and every reader of nnU-Net have."""
    if values.dtype.kind in "iub" and values.dtype.itemsize <= 2:
        return values.astype(np.uint8) if values.dtype.kind == "b" else values
    return values.astype(np.float32)


def _save_on_grid(path: str, values: np.ndarray, affine: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def _write_records(
    folder: str,
    name: str,
    labels: RawLabels,
    channels: Sequence[str],
    training: Sequence[RawCase],
    test: Sequence[RawCase],
    items: Sequence[Mapping[str, Any]],
) -> None:
    """Write dataset.json, splits_final.json, and the list of what was written."""
    content = {
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        **labels.dataset_entries(),
        "numTraining": len(training),
        "file_ending": _ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
        "name": name,
    }
    _write_json(os.path.join(folder, "dataset.json"), content)
    splits = splits_of(training, items)
    if splits:
        _write_json(os.path.join(folder, "splits_final.json"), splits)
    sections = {
        "training": [_item_of(raw, len(channels)) for raw in training],
        "testing": [_item_of(raw, len(channels)) for raw in test],
    }
    write_datalist({key: value for key, value in sections.items() if value}, os.path.join(folder, "datalist.json"))


def _write_json(path: str, content: Any) -> None:
    Path(path).write_text(json.dumps(content, indent=4) + "\n", "utf-8")


def _item_of(raw: RawCase, channels: int) -> dict[str, Any]:
    images, _, raters = raw.folders
    files = [os.path.join(images, f"{raw.name}_{number:04d}{_ENDING}") for number in range(channels)]
    item: dict[str, Any] = {"case": raw.name, "patient": raw.case.patient, "image": files if channels > 1 else files[0]}
    item["raters"] = [os.path.join(raters, rater_file(raw.name, number, _ENDING)) for number in raw.numbers]
    return item | ({"rater_names": list(raw.case.raters)} if raw.case.named else {})


def splits_of(training: Sequence[RawCase], items: Sequence[Mapping[str, Any]]) -> list[dict[str, list[str]]]:
    """Return nnU-Net's folds: those of the list, or five by patient. nnU-Net's own would put a patient's cases on both sides.

    Args:
        training: the cases.
        items: of the list, one for each: with "held_out", and maybe with "fold".

    Returns:
        The folds, `{"train": names, "val": names}` each. None, if there is one patient.

    Raises:
        ValueError: a fold that is no whole number, or one fold for all cases.
    """
    names = [raw.name for raw in training]
    held = [{name for name, item in zip(names, items, strict=True) if item["held_out"]}]
    if not 0 < len(held[0]) < len(names):
        if all("fold" in item for item in items):
            numbers = [fold_of(item) for item in items]
            if len(set(numbers)) < 2:
                fix = "give cases of another patient another fold, or leave the key out"
                raise ValueError(error_sentence("fold", "at least two folds in the list", f"{numbers[0]} for every case", fix))
            held = [{name for name, own in zip(names, numbers, strict=True) if own == number} for number in sorted(set(numbers))]
        else:
            patients = [{"patient": raw.case.patient, "name": raw.name} for raw in training]
            count = min(_FOLDS, len({entry["patient"] for entry in patients}))
            cut = folds(patients, count, _SEED, key="patient") if count > 1 else []
            held = [{item["name"] for item in validation} for _, validation in cut]
    return [
        {"train": [name for name in names if name not in validation], "val": [name for name in names if name in validation]}
        for validation in held
    ]


def fold_of(item: Mapping[str, Any]) -> int:
    """Return the fold of a list's item.

    Args:
        item: with "fold".

    Raises:
        ValueError: it is no whole number.
    """
    fold = item["fold"]
    if isinstance(fold, bool) or not isinstance(fold, int | str) or not str(fold).strip().isdecimal():
        what = f"fold of {one_line(str(item['case']))}"
        raise ValueError(error_sentence(what, "a whole number, 0 or more", repr(fold), "number the folds, or leave the key out"))
    return int(fold)
