"""What is wrong with the files of a data set, found before the first training step."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monai_jdt.data.grids import VoxelGrid, grid_problem, without_last_ones
from monai_jdt.data.label_values import LARGEST_LABEL, distinct_values, named, whole_labels
from monai_jdt.data.problems import DataProblem, DataProblemError
from monai_jdt.data.volumes import FileVolume, open_volume
from monai_jdt.progress_bar import with_progress

logger = logging.getLogger(__name__)

_SHOWN = 20


def find_problems(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    raters: int | None = None,
    progress: bool = True,
) -> Iterator[DataProblem]:
    """Look through a data list's files, and tell each problem as it is found.

    For each case: files that are missing, truncated or unreadable; an image with too few or too many channels;
    modalities, raters or a true probability whose shape, voxel size or affine is not the image's; no rater at all;
    values that are not finite, label values that are not whole or not known; a case or a rater that is listed twice.
    Warnings (`fatal` False), because they are legal: a rater who marked nothing, two raters with the same voxels, fewer
    or more raters than `raters`. One file's voxels are in memory at a time.

    NIfTI, MetaImage (`.mhd`, `.mha`), NRRD and pictures (`.png`, ...; they have no affine) are opened; of others only the
    existence is looked at. Affines that differ by rounding are taken for one, and last axes of length 1 are no difference in
    shape: see :func:`grid_problem`. Label values within 1e-3 of a whole number are that number: see :func:`whole_labels`.

    Args:
        items: as :func:`monai_jdt.data.brats_datalist` gives them: "case", "image" (a list of files of one channel, or
            one file with the channels on its last axis), "raters", and maybe "channels", "probability" and "consensus".
            One case may stand once for each "task" and "dataset". A rater may be a list of lists of masks of instances,
            one list a label value.
        channels: how many channels an image has; None: any number.
        label_values: the values that a label file may hold, e.g. `region_convention("brats2021").values`; None: any
            whole numbers.
        read: "full" reads every voxel; "headers" is quick, but blind for truncation and for all values.
        labelled: whether a case must have raters; False: raters are neither needed nor looked at, as for cases to predict.
        raters: how many raters a case should have; None: any number of at least one.
        progress: whether to show a progress bar.

    Yields:
        One :class:`DataProblem` for each thing that is wrong, in the order of the items.

    Raises:
        ValueError: if `read` is unknown.
    """
    if read not in ("full", "headers"):
        raise ValueError(f"read: expected full or headers, got {read!r}")
    if not labelled:
        left = ("raters", "probability", "consensus")
        items = [{key: value for key, value in item.items() if key not in left} for item in items]
    return _stream(items, _CheckRules(channels, label_values, read == "full", labelled, raters), progress)


def check_items(
    items: Sequence[Mapping[str, Any]],
    *,
    channels: int | None = None,
    label_values: Sequence[int] | None = None,
    read: Literal["full", "headers"] = "full",
    labelled: bool = True,
    raters: int | None = None,
    progress: bool = True,
) -> None:
    """Do nothing if the files are all right, and tell every problem at once if they are not.

    Warnings are logged, the first 20.

    Args:
        items: as in :func:`find_problems`.
        channels: as in :func:`find_problems`.
        label_values: as in :func:`find_problems`.
        read: as in :func:`find_problems`.
        labelled: as in :func:`find_problems`.
        raters: as in :func:`find_problems`.
        progress: as in :func:`find_problems`.

    Raises:
        DataProblemError: with the first 20 problems, one a line, and the number of the others.
        ValueError: if `read` is unknown.
    """
    shown: list[DataProblem] = []
    warnings: list[DataProblem] = []
    more = 0
    for problem in find_problems(
        items, channels=channels, label_values=label_values, read=read, labelled=labelled, raters=raters, progress=progress
    ):
        if not problem.fatal:
            warnings.append(problem)
        elif len(shown) < _SHOWN:
            shown.append(problem)
        else:
            more += 1
    # logged when the bar is closed: it would share its line with them
    for problem in warnings[:_SHOWN]:
        logger.warning("%s", problem)
    if len(warnings) > _SHOWN:
        logger.warning("and %d more warnings", len(warnings) - _SHOWN)
    if shown:
        raise DataProblemError(shown, more)


@dataclass(frozen=True)
class _CheckRules:
    """What a case is held against; the arguments of find_problems."""

    channels: int | None
    label_values: Sequence[int] | None
    full: bool
    labelled: bool
    raters: int | None


def _stream(items: Sequence[Mapping[str, Any]], rules: _CheckRules, progress: bool) -> Iterator[DataProblem]:
    if not items:
        yield DataProblem("the data list", "at least one case", "an empty list", "name the folder that holds the cases")
    seen: set[tuple[str, str, str]] = set()
    for number, item in enumerate(with_progress(items, "checking the data", wanted=progress)):
        case = str(item.get("case", f"items[{number}]"))
        key = (str(item.get("dataset")), case, str(item.get("task")))
        if key in seen:
            yield DataProblem(case, "each case once in the data list", "it is there again", "remove one of them")
        seen.add(key)
        yield from _look_at_case(case, item, rules)


def _look_at_case(case: str, item: Mapping[str, Any], rules: _CheckRules) -> Iterator[DataProblem]:
    image = item.get("image") or []
    single = isinstance(image, (str, os.PathLike))
    images = [os.fspath(image)] if isinstance(image, (str, os.PathLike)) else [os.fspath(path) for path in image]
    if not images:
        yield DataProblem(case, "an image", "none", "add its file, or remove the case")
    elif not single and rules.channels is not None and len(images) != rules.channels:
        yield DataProblem(case, f"{rules.channels} image files, one a channel", str(len(images)), "list one file a channel")

    reference: VoxelGrid | None = None
    for path in images:
        volume = yield from _opened(path, rules.full)
        if volume is None:
            continue
        shape = volume.shape
        if single:
            shape, count = _without_channels(volume, item.get("channels"), rules.channels)
            order = item.get("channels")
            got = f"{count} (shape {volume.shape})"
            if rules.channels is not None and count != rules.channels:
                yield DataProblem(path, f"{rules.channels} channels on the last axis", got, "stack the modalities' files")
            elif order is not None and max(order) >= count:
                yield DataProblem(path, f"channels {list(order)} on the last axis", got, "use files with all modalities")
        reference = yield from _compared(volume, shape, reference)
        yield from _finite(volume, "finite values", "repair the file, or remove the case")
        del volume
    yield from _look_at_raters(case, item, images, reference, rules)
    for key, look in (("consensus", None), ("probability", _probability_values)):
        if item.get(key):
            volume = yield from _opened(os.fspath(item[key]), rules.full)
            if volume is not None:
                yield from _compared(volume, volume.shape[: len(reference.shape) if reference else 3], reference)
                yield from _rater_values(volume, rules.label_values) if look is None else look(volume)


def _look_at_raters(
    case: str, item: Mapping[str, Any], images: Sequence[str], reference: VoxelGrid | None, rules: _CheckRules
) -> Iterator[DataProblem]:
    raters = item.get("raters") or []
    raters = [raters] if isinstance(raters, (str, os.PathLike)) else list(raters)
    if rules.labelled and not raters:
        yield DataProblem(case, "at least one rater", "none", "add a label file, or remove the case")
    elif rules.raters is not None and len(raters) != rules.raters:
        fix = "add the missing files, if they should be there" if len(raters) < rules.raters else "see which files are too many"
        yield DataProblem(case, f"{rules.raters} raters", str(len(raters)), fix, fatal=False)
    listed: set[str] = set(images)
    drawn: dict[bytes, str] = {}
    for rater in raters:
        alone = isinstance(rater, (str, os.PathLike))
        for path in _paths_in(rater):
            if path in listed:
                got = "the image itself" if path in images else "it is there again"
                yield DataProblem(path, f"each file once in case {case}", got, "list each rater's own file")
                continue
            listed.add(path)
            volume = yield from _opened(path, rules.full)
            if volume is None:
                continue
            if volume.components:
                got = f"{volume.components} numbers a voxel (shape {volume.shape})"
                yield DataProblem(path, "a label map of one channel", got, "export label values, not colours or one-hot channels")
                continue
            yield from _compared(volume, volume.shape, reference)
            marked = yield from _rater_values(volume, rules.label_values if alone else (0, 1))
            if marked and alone:
                digest = _voxel_digest(volume)
                if digest in drawn:
                    fix = "remove one of them if it is a copy"
                    yield DataProblem(path, "a drawing of the rater's own", f"the voxels of {drawn[digest]}", fix, fatal=False)
                drawn.setdefault(digest, path)
            del volume


def _paths_in(rater: Any) -> Iterator[str]:
    if isinstance(rater, (str, os.PathLike)):
        yield os.fspath(rater)
    else:
        for part in rater:
            yield from _paths_in(part)


def _without_channels(volume: FileVolume, order: Sequence[int] | None, channels: int | None) -> tuple[tuple[int, ...], int]:
    """The shape of the space of a single image file, and how many channels there are beside it."""
    shape = volume.shape
    if volume.components:
        return shape[:-1], volume.components
    if len(shape) > 3:
        return shape[:3], int(np.prod(shape[3:]))
    expected = len(order) if order is not None else channels
    if len(shape) == 3 and expected is not None and expected > 1 and shape[2] == expected:
        return shape[:2], shape[2]  # a slice with its modalities on the third axis
    return shape, 1


def _compared(volume: FileVolume, shape: tuple[int, ...], reference: VoxelGrid | None) -> Generator[DataProblem, None, VoxelGrid]:
    """Generator whose value is the grid to hold the next file against."""
    grid = VoxelGrid(volume.path, without_last_ones(shape), volume.affine)
    if reference is None:
        return grid
    problem = grid_problem(grid, reference)
    if problem is not None:
        yield problem
    return reference


def _opened(path: str, full: bool) -> Generator[DataProblem, None, FileVolume | None]:
    """Generator whose value is the volume, or None if there is none to look at."""
    try:
        volume = open_volume(path, full)
    except DataProblemError as error:
        yield from error.problems
        return None
    if volume is not None and 0 in volume.shape:
        yield DataProblem(path, "voxels", f"shape {volume.shape}", "export the file again")
        return None
    return volume


def _finite(volume: FileVolume, expected: str, fix: str) -> Iterator[DataProblem]:
    if volume.values is not None and (bad := _not_finite(volume.values)):
        yield DataProblem(volume.path, expected, f"{bad} of {volume.values.size} voxels NaN or infinite", fix)


def _rater_values(volume: FileVolume, label_values: Sequence[int] | None) -> Generator[DataProblem, None, bool]:
    """Generator whose value is whether there is a drawing to compare with others: a mark, of whole values, read in full."""
    if volume.values is None:
        return False
    path, values = volume.path, volume.values
    yield from _finite(volume, "finite label values", "write the label as whole numbers")
    found, wrong = whole_labels(distinct_values(values))
    if wrong is not None:
        yield DataProblem(path, "whole label values", *wrong)
    wide = np.abs(found) > LARGEST_LABEL
    if wide.any():
        yield DataProblem(path, f"label values up to {LARGEST_LABEL}", named(found[wide]), "number the labels anew")
    if label_values is not None:
        unknown = found[~np.isin(found, np.asarray(label_values)) & ~wide]
        if unknown.size:
            known = ", ".join(str(value) for value in label_values)
            yield DataProblem(path, f"label values among {known}", named(unknown), "name the convention of this data set")
    marked = bool(np.any(found != 0)) or wrong is not None
    if not marked:
        fix = "nothing, if the rater saw nothing there"
        yield DataProblem(path, "a mark", f"none: every value of {values.size} is 0", fix, fatal=False)
    return marked and wrong is None


def _probability_values(volume: FileVolume) -> Iterator[DataProblem]:
    values = volume.values
    if values is not None and (bad := int(np.count_nonzero(~((values >= 0) & (values <= 1))))):
        got = f"{bad} of {values.size} values outside"
        yield DataProblem(volume.path, "probabilities in [0, 1]", got, "write the file again")


def _not_finite(values: np.ndarray) -> int:
    return 0 if values.dtype.kind in "iub" else int(np.count_nonzero(~np.isfinite(values)))


def _voxel_digest(volume: FileVolume) -> bytes:
    values = np.asarray(volume.values)
    values = np.round(values) if values.dtype.kind == "f" else values
    if values.dtype != np.uint8 and values.min() >= 0 and values.max() <= 255:
        values = values.astype(np.uint8)  # one drawing in two dtypes is one drawing
    flat = values.ravel(order="K")
    return hashlib.blake2b(flat.view(np.uint8).data, digest_size=16).digest()
