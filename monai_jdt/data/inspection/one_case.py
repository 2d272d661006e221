"""The check of one case: its files are opened, compared and read."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monai_jdt.data.files.file_volume import FileVolume
from monai_jdt.data.files.foreground import Foreground, checked_foreground
from monai_jdt.data.files.grids import VoxelGrid, grid_problem, without_last_ones
from monai_jdt.data.files.volumes import FORMATS, label_volume, open_volume
from monai_jdt.data.inspection.file_values import image_problems, label_problems, probability_problems
from monai_jdt.data.inspection.mirrored_raters import MarkedVoxels, turned_raters
from monai_jdt.data.layouts.listing import PATH_KEYS
from monai_jdt.data.problems import DataProblem, DataProblemError


@dataclass(frozen=True)
class CaseRules:
    """What every case of a list is held to: the arguments of :func:`monai_jdt.data.find_problems` with the same names.

    Args:
        channels: of an image.
        label_values: that a label file may hold.
        full: whether voxels are read.
        labelled: whether there must be raters.
        raters: how many.
        spatial_dims: of an image.
        foreground: of the raters' masks.
    """

    channels: int | None
    label_values: Sequence[int] | None
    full: bool
    labelled: bool
    raters: int | None
    spatial_dims: int | None
    foreground: Foreground | None = None


@dataclass(frozen=True)
class CaseToCheck:
    """One item of a data list.

    Args:
        name: the case's.
        item: its files.
        rules: what it is held to.
    """

    name: str
    item: Mapping[str, Any]
    rules: CaseRules


@dataclass(frozen=True)
class CaseFindings:
    """What was found in a case.

    Args:
        problems: in the order of the files.
        label_values: those of its raters' files, if voxels were read.
    """

    problems: tuple[DataProblem, ...]
    label_values: frozenset[int]


def look_at_case(case: CaseToCheck) -> CaseFindings:
    """Open the files of a case, compare them, and read them.

    Args:
        case: its item and the rules.

    Returns:
        All that is wrong with it.
    """
    values: set[int] = set()
    problems = tuple(_problems_of_case(case.name, case.item, case.rules, values))
    return CaseFindings(problems, frozenset(values))


def image_files(item: Mapping[str, Any]) -> list[str]:
    """Return the paths of an item's image: one, or one for each channel.

    Args:
        item: of a data list.
    """
    image = item.get("image") or []
    return [os.fspath(image)] if isinstance(image, (str, os.PathLike)) else [os.fspath(path) for path in image]


def _problems_of_case(case: str, item: Mapping[str, Any], rules: CaseRules, values: set[int]) -> Iterator[DataProblem]:
    single = isinstance(item.get("image"), (str, os.PathLike))
    images = image_files(item)
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
    yield from _look_at_raters(case, item, images, reference, rules, values)
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
    """The raters of a case so far: their files, the label values in these, and the voxels that they marked."""

    listed: set[str]
    values: set[int]
    drawn: dict[bytes, str]
    marks: list[tuple[str, MarkedVoxels]]


def _look_at_raters(
    case: str, item: Mapping[str, Any], images: Sequence[str], reference: VoxelGrid | None, rules: CaseRules, values: set[int]
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
    yield from _names_problem(case, item.get("rater_names"), len(raters))
    foreground = rules.foreground
    try:
        foreground = checked_foreground(item.get("foreground"), f"{case}: foreground") if foreground is None else foreground
    except ValueError:
        fix = "correct it in the list"
        yield DataProblem(f"{case}: foreground", "a whole number, or a colour such as '#ff0000'", repr(item["foreground"]), fix)
    known = _CaseRaters(set(images), values, {}, [])
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
            seen = len(volume.warnings)
            try:
                volume = label_volume(volume, None if reference is None else reference.shape, foreground)
            except DataProblemError as error:
                yield from error.problems
                continue
            yield from volume.warnings[seen:]
            problem = None if grid is None else grid_problem(_grid_of_file(volume, volume.shape), grid, is_rater=True)
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


def _names_problem(case: str, names: Any, raters: int) -> Iterator[DataProblem]:
    """Look for names that do not tell the raters of a case apart."""
    if names is None or (isinstance(names, (list, tuple)) and len(set(map(str, names))) == len(names) == raters):
        return
    got = ", ".join(map(str, names)) if isinstance(names, (list, tuple)) else repr(names)
    yield DataProblem(f"{case}: rater_names", f"a name for each of {raters} raters, all different", got, "correct the names")


def _look_at_drawing(
    volume: FileVolume, value: int | None, rules: CaseRules, known: _CaseRaters, marks: MarkedVoxels | None
) -> Iterator[DataProblem]:
    """Look at a rater's file, or at a mask of an instance with its label value, and add its marks to the rater's."""
    alone = value is None
    digest = yield from label_problems(volume, rules.label_values if alone else (0, 1), marks, value, known.values if alone else None)
    if value is not None and digest is not None:
        known.values.add(value)
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
