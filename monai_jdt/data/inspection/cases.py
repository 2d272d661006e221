"""The check of a data list: it opens the files of every case, compares them, and reports what is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from monai_jdt.data.files.file_volume import FileVolume
from monai_jdt.data.files.grids import VoxelGrid, grid_problem, without_last_ones
from monai_jdt.data.files.volumes import FORMATS, label_volume, open_volume
from monai_jdt.data.inspection.file_values import image_problems, label_problems, probability_problems
from monai_jdt.data.inspection.mirrored_raters import MarkedVoxels, turned_raters
from monai_jdt.data.layouts.listing import PATH_KEYS
from monai_jdt.data.layouts.regions import regions_without_label
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.progress_bar import with_progress
from monai_jdt.validation import error_sentence

logger = logging.getLogger(__name__)

# The number of problems that one error names, and of warnings that are logged.
_SHOWN = 20


def find_problems(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    raters: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    ignored: int | None = None,
    spatial_dims: int | None = None,
    progress: bool = True,
) -> Iterator[DataProblem]:
    """Look through the files of a data list, and yield each problem as it is found.

    Problems of a case are files that are missing, truncated, unreadable or of an unknown format; an image with too few or too many
    channels; modalities, raters or a true probability whose shape, voxel size or affine is not the image's; no rater at all; values
    that are not finite; label values that are not whole or not known; a case or a rater that is listed twice.
    Warnings (`fatal` False) are of what is legal: a rater who marked nothing, two raters with the same voxels, a rater who agrees with
    the others only after a flip or a swap of axes (see `turned_raters` in :mod:`monai_jdt.data.inspection.mirrored_raters`), a NIfTI
    header with two places or without millimetres, fewer or more raters than `raters`, one image file in two cases. Headers are
    compared before voxels are read, and voxels are read in blocks of 2^20.

    NIfTI, Analyze, FreeSurfer (`.mgz`), MetaImage (`.mhd`, `.mha`), NRRD, DICOM (a file, or a folder with one series), NumPy arrays
    and pictures (`.png`, ...; these two have no affine) are opened as :class:`monai_jdt.transforms.LoadRatersd` opens them. Affines
    that differ by rounding are the same, and last axes of length 1 are no difference in shape: see :func:`grid_problem`. Label values
    within 1e-3 of a whole number are that number: see :func:`whole_labels`.

    Args:
        items: as :func:`monai_jdt.data.brats_datalist` gives them: "case", "image" (a list of files of one channel, or
            one file with the channels on its last axis), "raters", and maybe "channels", "probability" and "consensus".
            One case may stand once for each "task" and "dataset". A rater may be a list of lists of masks of instances, one
            list per label value.
        channels: how many channels an image has; None: any number.
        label_values: the values that a label file may hold, e.g. `region_convention("brats2021").values`; None: any
            whole numbers.
        read: "full" reads every voxel; "headers" is quick, but finds neither truncation nor wrong values.
        labelled: whether a case must have raters. False: raters are neither needed nor opened, as for cases to predict.
        raters: how many raters a case should have; None: any number of at least one.
        regions: region name to its label values, as :func:`monai_jdt.raters.named_regions` gives them. A region without a label value
            in any file of the list is a problem: nothing could be learnt of it. Not checked with None or `read="headers"`.
        ignored: a value that says "nothing is known here" in training, which no label file may hold.
        spatial_dims: how many axes of space an image has, axes of length 1 at the end aside; None: any number.
        progress: whether to show a progress bar.

    Yields:
        One :class:`DataProblem` for each thing that is wrong, in the order of the items.

    Raises:
        ValueError: if `read` is unknown.
    """
    if read not in ("full", "headers"):
        raise ValueError(error_sentence("read", "full or headers", repr(read), "name one of these"))
    if not labelled:
        left = ("raters", "probability", "consensus")
        items = [{key: value for key, value in item.items() if key not in left} for item in items]
    rules = _CheckRules(channels, label_values, read == "full", labelled, raters, regions, ignored, spatial_dims)
    return _stream(items, rules, progress)


def check_items(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    raters: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    ignored: int | None = None,
    spatial_dims: int | None = None,
    progress: bool = True,
) -> None:
    """Raise one error with every problem of a data list, and log the warnings.

    Args:
        items: as in :func:`find_problems`.
        channels: as in :func:`find_problems`.
        label_values: as in :func:`find_problems`.
        read: as in :func:`find_problems`.
        labelled: as in :func:`find_problems`.
        raters: as in :func:`find_problems`.
        regions: as in :func:`find_problems`.
        ignored: as in :func:`find_problems`.
        spatial_dims: as in :func:`find_problems`.
        progress: as in :func:`find_problems`.

    Raises:
        DataProblemError: with the first 20 problems, one per line, and the number of the others.
        ValueError: if `read` is unknown.
    """
    problems = find_problems(
        items,
        channels=channels,
        label_values=label_values,
        read=read,
        labelled=labelled,
        raters=raters,
        regions=regions,
        ignored=ignored,
        spatial_dims=spatial_dims,
        progress=progress,
    )
    _log_or_raise(problems)


def _log_or_raise(problems: Iterable[DataProblem]) -> None:
    shown: list[DataProblem] = []
    warnings: list[DataProblem] = []
    more = 0
    for problem in problems:
        if not problem.fatal:
            warnings.append(problem)
        elif len(shown) < _SHOWN:
            shown.append(problem)
        else:
            more += 1
    # Logged when the progress bar is closed, since the bar would share its line with them.
    for problem in warnings[:_SHOWN]:
        logger.warning("%s", problem)
    if len(warnings) > _SHOWN:
        logger.warning("and %d more warnings", len(warnings) - _SHOWN)
    if shown:
        raise DataProblemError(shown, more)


@dataclass(frozen=True)
class _CheckRules:
    """The arguments of find_problems, and what is known of the cases so far."""

    channels: int | None
    label_values: Sequence[int] | None
    full: bool
    labelled: bool
    raters: int | None
    regions: Mapping[str, Sequence[int]] | None
    ignored: int | None
    spatial_dims: int | None
    # The label values of the files read so far.
    seen: set[int] = field(default_factory=set)
    # The place of each image file listed so far, to the data set and case that it belongs to.
    images: dict[str, tuple[str, str]] = field(default_factory=dict)


def _stream(items: Sequence[Mapping[str, Any]], rules: _CheckRules, progress: bool) -> Iterator[DataProblem]:
    if not items:
        yield DataProblem("the data list", "at least one case", "an empty list", "name a list or a folder with cases")
    seen: set[tuple[str, str, str]] = set()  # data set, case, task
    for number, item in enumerate(with_progress(items, "checking the data", wanted=progress)):
        case = str(item.get("case", f"items[{number}]"))
        key = (str(item.get("dataset")), case, str(item.get("task")))
        if key in seen:
            yield DataProblem(case, "each case once in the data list", "it is there again", "remove one of them")
        seen.add(key)
        yield from _look_at_case(case, item, rules)
        yield from _shared_image(case, item, rules)
    if rules.regions is not None and rules.seen:
        empty = regions_without_label(rules.regions, rules.seen, fatal=True)
        if empty is not None:
            yield empty
    if rules.ignored in rules.seen:
        yield DataProblem("ignore_index", "a value that no label file holds", f"{rules.ignored}, which some hold", "choose another one")


def _image_files(item: Mapping[str, Any]) -> list[str]:
    image = item.get("image") or []
    return [os.fspath(image)] if isinstance(image, (str, os.PathLike)) else [os.fspath(path) for path in image]


def _shared_image(case: str, item: Mapping[str, Any], rules: _CheckRules) -> Iterator[DataProblem]:
    """Look for an image that belongs to another case too: in a split, one may be trained on and the other validated with."""
    own = (str(item.get("dataset")), case)
    owners = {path: rules.images.setdefault(os.path.realpath(path), own) for path in _image_files(item)}
    shared = [path for path, owner in owners.items() if owner != own]
    if shared:
        fix = "list all raters of an image under one case, or remove one of the cases"
        yield DataProblem(case, "an image of its own", f"the image of case {owners[shared[0]][1]}, {shared[0]}", fix, fatal=False)


def _look_at_case(case: str, item: Mapping[str, Any], rules: _CheckRules) -> Iterator[DataProblem]:
    single = isinstance(item.get("image"), (str, os.PathLike))
    images = _image_files(item)
    if not images:
        yield DataProblem(case, "an image", "none", "add its file, or remove the case")

    reference: VoxelGrid | None = None
    many = False
    for path in images:
        volume = yield from _opened(path)
        if volume is None:
            continue
        shape, count = _without_channels(volume, item.get("channels") if single else None, rules.channels if single else None)
        if single:
            yield from _channel_problem(volume, count, item.get("channels"), rules.channels)
        elif count > 1:
            many = True
            got = f"{count} (shape {volume.shape})"
            fix = 'list it by itself, "image": "FILE"' if len(images) == 1 else "save each channel as a file of its own"
            yield DataProblem(path, "one channel in each file of a list of files", got, fix)
        if reference is None and rules.spatial_dims is not None:
            yield from _axes_problem(volume, shape, rules.spatial_dims)
        reference = yield from _compared(volume, shape, reference)
        if rules.full:
            yield from image_problems(volume)
    if images and not single and not many and rules.channels is not None and len(images) != rules.channels:
        yield DataProblem(case, f"{rules.channels} image files, one per channel", str(len(images)), "list one file per channel")
    yield from _look_at_raters(case, item, images, reference, rules)
    for key in ("consensus", "probability"):
        if item.get(key):
            volume = yield from _opened(os.fspath(item[key]))
            if volume is not None:
                yield from _compared(volume, volume.shape[: len(reference.shape) if reference else 3], reference)
                if rules.full:
                    yield from label_problems(volume, rules.label_values) if key == "consensus" else probability_problems(volume)


def _axes_problem(volume: FileVolume, shape: tuple[int, ...], spatial_dims: int) -> Iterator[DataProblem]:
    kinds = {2: "an image of two axes", 3: "a volume of three axes"}
    if not len(without_last_ones(shape)) <= spatial_dims <= len(shape):
        fix = "give spatial_dims as the files are" + ("" if len(shape) > spatial_dims else ", or add a last axis")
        yield DataProblem(volume.path, kinds.get(spatial_dims, f"{spatial_dims} axes of space"), f"shape {volume.shape}", fix)


def _channel_problem(volume: FileVolume, count: int, order: Sequence[int] | None, channels: int | None) -> Iterator[DataProblem]:
    got = f"{count} (shape {volume.shape})"
    if _channels_first(volume):
        fix = "move them, by numpy.moveaxis(voxels, 0, -1), and keep the header"
        yield DataProblem(volume.path, "channels on the last axis", f"{count} on the first axis (shape {volume.shape})", fix)
    elif len(volume.shape) > 4 and sum(n > 1 for n in volume.shape[3:]) > 1:
        fix = "save one time point, with the channels on the last axis"
        yield DataProblem(volume.path, "at most one axis beside space, of channels", f"shape {volume.shape}", fix)
    elif channels is not None and count != channels:
        yield DataProblem(volume.path, f"{channels} channels on the last axis", got, "stack the modalities' files")
    elif order is not None and max(order) >= count:
        yield DataProblem(volume.path, f"channels {list(order)} on the last axis", got, "use files with all modalities")


@dataclass
class _CaseRaters:
    """The raters of a case so far: their files, and the voxels that they marked."""

    listed: set[str]
    drawn: dict[bytes, str]
    marks: list[tuple[str, MarkedVoxels]]


def _look_at_raters(
    case: str, item: Mapping[str, Any], images: Sequence[str], reference: VoxelGrid | None, rules: _CheckRules
) -> Iterator[DataProblem]:
    raters = item.get("raters") or []
    raters = [raters] if isinstance(raters, (str, os.PathLike)) else list(raters)
    if rules.labelled and not raters:
        others = _other_files(item)
        got = "none, but files under " + " and ".join(map(repr, others)) if others else "none"
        fix = f"list them under 'raters' instead of {others[0]!r}" if others else "add a label file, or remove the case"
        yield DataProblem(case, "at least one rater", got, fix)
    elif rules.raters is not None and len(raters) != rules.raters:
        fix = "add the missing files, if they should be there" if len(raters) < rules.raters else "see which files are too many"
        yield DataProblem(case, f"{rules.raters} raters", str(len(raters)), fix, fatal=False)
    known = _CaseRaters(set(images), {}, [])
    grid = reference  # without an image, the first rater's: the others are compared with it
    for rater in raters:
        marks: MarkedVoxels | None = None
        first = ""
        for value, path in _paths_in(rater):
            if path in known.listed:
                got = "the image itself" if path in images else "it is there again"
                yield DataProblem(path, f"each file once in case {case}", got, "list each rater's own file")
                continue
            known.listed.add(path)
            volume = yield from _opened(path)
            if volume is None:
                continue
            try:
                volume = label_volume(volume, None if reference is None else reference.shape)
            except DataProblemError as error:
                yield from error.problems
                continue
            problem = None if grid is None else grid_problem(_grid_of_file(volume, volume.shape), grid)
            if problem is not None:
                yield problem
            grid = grid or _grid_of_file(volume, volume.shape)
            if not rules.full:
                continue
            # Marks of a rater on another grid have no common voxels with those of the others.
            if marks is None and problem is None:
                marks, first = MarkedVoxels(without_last_ones(volume.shape)), path
            yield from _look_at_drawing(volume, value, rules, known, marks if problem is None else None)
        if marks is not None:
            known.marks.append((first, marks))
    yield from turned_raters([(path, marks) for path, marks in known.marks if marks.shape == known.marks[0][1].shape], case)


def _look_at_drawing(
    volume: FileVolume, value: int | None, rules: _CheckRules, known: _CaseRaters, marks: MarkedVoxels | None
) -> Iterator[DataProblem]:
    """Look at a rater's file, or at a mask of an instance with its label value, and add its marks to the rater's."""
    alone = value is None
    digest = yield from label_problems(volume, rules.label_values if alone else (0, 1), marks, value, rules.seen if alone else None)
    if value is not None and digest is not None:
        rules.seen.add(value)
    if digest is not None and alone:
        if digest in known.drawn:
            fix = "remove one of them if it is a copy"
            yield DataProblem(volume.path, "a drawing of the rater's own", f"the voxels of {known.drawn[digest]}", fix, fatal=False)
        known.drawn.setdefault(digest, volume.path)


def _other_files(item: Mapping[str, Any]) -> list[str]:
    """Return the keys besides those of data lists that hold names of files, such as "seg" or "Raters"."""
    known = ("case", "dataset", "task", *(key for key in PATH_KEYS if key != "mask"))

    def names_file(value: Any) -> bool:
        if isinstance(value, (list, tuple, dict)):
            return any(map(names_file, value.values() if isinstance(value, dict) else value))
        return isinstance(value, str) and value.lower().endswith(FORMATS)

    return [str(key) for key, value in item.items() if key not in known and names_file(value)]


def _paths_in(rater: Any, value: int | None = None) -> Iterator[tuple[int | None, str]]:
    """Walk through the files of a rater. Masks of instances come with the label value of their list, from 1."""
    if isinstance(rater, (str, os.PathLike)):
        yield value, os.fspath(rater)
    else:
        for number, part in enumerate(rater, start=1):
            yield from _paths_in(part, number if value is None else value)


def _without_channels(volume: FileVolume, order: Sequence[int] | None, channels: int | None) -> tuple[tuple[int, ...], int]:
    """Return the shape of the space of a single image file, and how many channels there are beside it."""
    shape = volume.shape
    if volume.components:
        return shape[:-1], volume.components
    if _channels_first(volume):
        return shape[1:], shape[0]
    if len(shape) > 3:
        return shape[:3], int(np.prod(shape[3:]))
    # Three axes are a volume, unless the last one is as long as the channels that are expected.
    expected = len(order) if order is not None else channels
    if len(shape) == 3 and expected is not None and expected > 1 and shape[2] == expected:
        return shape[:2], shape[2]  # a slice with its modalities on the third axis
    return shape, 1


def _channels_first(volume: FileVolume) -> bool:
    """Return whether the first of four axes must be one of channels: it has 2 to 7 voxels, every other axis at least 8."""
    shape = volume.shape
    return len(shape) == 4 and not volume.components and 1 < shape[0] < 8 <= min(shape[1:])


def _grid_of_file(volume: FileVolume, shape: tuple[int, ...]) -> VoxelGrid:
    return VoxelGrid(volume.path, without_last_ones(shape), volume.affine)


def _compared(volume: FileVolume, shape: tuple[int, ...], reference: VoxelGrid | None) -> Generator[DataProblem, None, VoxelGrid]:
    """Yield the problem of a file's grid. The generator's value is the grid to compare the next file with."""
    grid = _grid_of_file(volume, shape)
    if reference is None:
        return grid
    problem = grid_problem(grid, reference)
    if problem is not None:
        yield problem
    return reference


def _opened(path: str) -> Generator[DataProblem, None, FileVolume | None]:
    """Yield the problems of opening a file. The generator's value is the volume, or None if there are no voxels to check."""
    try:
        volume = open_volume(path)
    except DataProblemError as error:
        yield from (replace(problem, opened=False) for problem in error.problems)
        return None
    yield from volume.warnings
    if 0 in volume.shape:
        yield DataProblem(path, "voxels", f"shape {volume.shape}", "export the file again")
        return None
    return volume
