"""What is shown of each region: its slice, what every rater marked there, and the numbers of the whole case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monai_jdt.functional.region_members import array_members
from monai_jdt.report.planes import SlicePlane

#: Pixels of a panel's longer side; more would only cost memory, since a panel has about 400 dots.
MOST_PIXELS = 1000
_BLOCK = 1 << 18


@dataclass(frozen=True, eq=False)
class CaseArrays:
    """One case, every array with three axes of space.

    Args:
        image: `(C, X, Y, Z)`.
        prediction: `(K, X, Y, Z)`, or None.
        votes: `(R, X, Y, Z)`, missing raters taken out, or None.
        average: `(K, X, Y, Z)` if it was given, else None; then it follows from the votes.
        truth: `(K, X, Y, Z)`, or None.
        regions: name of each of the K regions to its label values; of no value where there are no votes.
    """

    image: np.ndarray
    prediction: np.ndarray | None
    votes: np.ndarray | None
    average: np.ndarray | None
    truth: np.ndarray | None
    regions: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class RegionNumbers:
    """What one pass over a region's voxels gives, for the whole case, not for the slice. NaN is undefined.

    Args:
        name: of the region.
        cut: the slice to show, from 0: the one where most is marked, else most is predicted, else the middle one.
        footprint: where anything is marked or predicted, seen along the cut axis, turned for display.
        labelled: whether any rater marked anything.
        empty: for each rater, whether it marked nothing.
        dice: Dice of the prediction above 0.5 with the majority.
        pair_dice: mean Dice over all pairs of raters.
        difference: mean |prediction - average| over the voxels that a rater or the prediction (above 0.5) marks.
        truth_difference: mean |prediction - truth|, or without a prediction |average - truth|, over the same voxels.
    """

    name: str
    cut: int
    footprint: np.ndarray
    labelled: bool
    empty: tuple[bool, ...]
    dice: float
    pair_dice: float
    difference: float
    truth_difference: float


@dataclass(frozen=True, eq=False)
class RegionPictures:
    """The pixels of a region's panels: one slice, turned, cut to the window, and shrunk if it is large.

    Args:
        marked: for each rater, what it marked; bool where nothing was shrunk.
        share: the raters' average; None where no rater marked anything in the whole case.
        majority: what more than half of the raters marked; None as above.
        prediction: predicted probability, or None.
        truth: true probability, or None.
    """

    marked: tuple[np.ndarray, ...]
    share: np.ndarray | None
    majority: np.ndarray | None
    prediction: np.ndarray | None
    truth: np.ndarray | None


def region_numbers(case: CaseArrays, plane: SlicePlane, k: int) -> RegionNumbers:
    """Compute the numbers of a region. The volumes made for it are counts and masks of one byte for each voxel.

    Args:
        case: the arrays.
        plane: the cut.
        k: number of the region.
    """
    name, group = list(case.regions.items())[k]
    prediction = None if case.prediction is None else case.prediction[k]
    truth = None if case.truth is None else case.truth[k]
    share, majority, scale, empty = _label_of(case, k, group)
    labelled = bool(share.any())
    predicted = None if prediction is None else prediction > 0.5
    space = tuple(a for a in range(3) if a != plane.axis)
    area = share.sum(axis=space, dtype=np.float64)
    if not labelled and predicted is not None:
        area = predicted.sum(axis=space)
    where = share > 0
    if predicted is not None:
        where |= predicted
    against, times = (share, scale) if prediction is None else (prediction, 1.0)
    return RegionNumbers(
        name=name,
        cut=int(np.argmax(area)) if area.any() else len(area) // 2,
        footprint=plane.turned(np.asarray(where.any(axis=plane.axis))),
        labelled=labelled,
        empty=empty,
        dice=_dice_with_majority(predicted, majority) if labelled else float("nan"),
        pair_dice=_pair_dice(case.votes, group),
        difference=_mean_difference(prediction, share, where, 1.0, scale),
        truth_difference=_mean_difference(against, truth, where, times, 1.0),
    )


def region_pictures(case: CaseArrays, plane: SlicePlane, numbers: RegionNumbers, k: int, window: tuple[slice, slice]) -> RegionPictures:
    """Take the pixels of a region's panels.

    Args:
        case: the arrays.
        plane: the cut.
        numbers: of the region: which slice.
        k: number of the region.
        window: rows and columns to show.
    """

    def pixels(volume: np.ndarray) -> np.ndarray:
        return plane.slice_of(volume, numbers.cut)[window]

    group = list(case.regions.values())[k]

    def small(volumes: np.ndarray | None) -> np.ndarray | None:
        return None if volumes is None else shrunk(pixels(volumes[k]))

    marked: list[np.ndarray] = []
    counts = np.zeros((), np.uint16)
    for votes in () if case.votes is None else case.votes:
        member = array_members(pixels(votes), group)
        counts = counts + member
        marked.append(shrunk(member))
    share, majority = small(case.average), None
    if marked and numbers.labelled:
        share = shrunk(counts) / np.float32(len(marked)) if share is None else share
        majority = shrunk(counts > len(marked) // 2)
    elif case.average is not None and numbers.labelled:
        majority = shrunk(pixels(case.average[k]) > 0.5)
    return RegionPictures(
        marked=tuple(marked),
        share=share if numbers.labelled else None,
        majority=majority,
        prediction=small(case.prediction),
        truth=small(case.truth),
    )


def _label_of(case: CaseArrays, k: int, group: Sequence[int]) -> tuple[np.ndarray, np.ndarray, float, tuple[bool, ...]]:
    """Return the raters' average (as counts with a scale factor, if it is not given), their majority, and who is empty."""
    if case.votes is None:
        assert case.average is not None
        return case.average[k], case.average[k] > 0.5, 1.0, ()
    raters = len(case.votes)
    counts = np.zeros(case.votes.shape[1:], np.uint8 if raters < 256 else np.uint16)
    empty = []
    for votes in case.votes:
        member = array_members(votes, group)
        empty.append(not member.any())
        counts += member
    given = case.average is not None
    return case.average[k] if case.average is not None else counts, counts > raters // 2, 1.0 if given else 1 / raters, tuple(empty)


def _dice_with_majority(first: np.ndarray | None, second: np.ndarray) -> float:
    if first is None:
        return float("nan")
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return float("nan") if total == 0 else 2 * int(np.count_nonzero(first & second)) / total


def _mean_difference(
    first: np.ndarray | None, second: np.ndarray | None, where: np.ndarray | None, times: float, other_times: float
) -> float:
    if first is None or second is None or where is None or not where.any():
        return float("nan")
    return float(np.abs(first[where] * np.float32(times) - second[where] * np.float32(other_times)).mean(dtype=np.float64))


def _pair_dice(votes: np.ndarray | None, group: Sequence[int]) -> float:
    """Return the mean Dice over all pairs of raters. It is undefined for two empty raters, and that pair is left out."""
    if votes is None or len(votes) < 2:
        return float("nan")
    flat = votes.reshape(len(votes), -1)
    common = np.zeros((len(votes), len(votes)))
    for start in range(0, flat.shape[1], _BLOCK):
        member = array_members(flat[:, start : start + _BLOCK], group).astype(np.float32)
        common += member @ member.T
    sizes = np.diag(common)
    first, second = np.triu_indices(len(votes), 1)
    both = sizes[first] + sizes[second]
    defined = both > 0
    return float((2 * common[first, second][defined] / both[defined]).mean()) if defined.any() else float("nan")


def shown_window(regions: Sequence[RegionNumbers], plane: SlicePlane, zoom: bool) -> tuple[slice, slice]:
    """Choose the rows and columns to show, the same for every region, so that they compare.

    Args:
        regions: the regions.
        plane: gives the voxel sizes.
        zoom: whether to show the surroundings of what is marked; False: the whole slice.

    Returns:
        Slices of the turned pictures. A window longer than three times its width is made wider, where the image has more.
    """
    footprint = np.any([region.footprint for region in regions], axis=0)
    if not zoom:
        return slice(0, footprint.shape[0]), slice(0, footprint.shape[1])
    return window_around(footprint, plane)


def window_around(footprint: np.ndarray, plane: SlicePlane) -> tuple[slice, slice]:
    """Choose the rows and columns that show the surroundings of what is marked. Where nothing is, these are all.

    Args:
        footprint: bool, turned for display.
        plane: gives the voxel sizes.
    """
    if not footprint.any():
        return slice(0, footprint.shape[0]), slice(0, footprint.shape[1])
    ends = []
    for along in (0, 1):
        used = np.flatnonzero(footprint.any(axis=1 - along))
        first, last = int(used[0]), int(used[-1]) + 1
        # a third of the object around it, and never a keyhole of a few voxels
        margin = max((last - first) / 3, (24 - (last - first)) / 2, 4)
        ends.append([first - margin, last + margin])
    length = [(last - first) * step for (first, last), step in zip(ends, plane.spacing, strict=True)]
    for along in (0, 1):
        missing = max(length) / 3 - length[along]
        if missing > 0:
            ends[along][0] -= missing / plane.spacing[along] / 2
            ends[along][1] += missing / plane.spacing[along] / 2
    rows, columns = (
        slice(max(int(np.floor(first)), 0), min(int(np.ceil(last)), size))
        for (first, last), size in zip(ends, footprint.shape, strict=True)
    )
    return rows, columns


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Average blocks of pixels, so that no side has more than 1000. A few last rows and columns may be cut off.

    Args:
        pixels: `(H, W)` or `(H, W, 3)`.
    """
    return block_means(pixels, -(-max(pixels.shape[:2]) // MOST_PIXELS))


def block_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of pixels. A few last rows and columns may be cut off.

    Args:
        pixels: `(H, W)`, or with further axes.
        factor: pixels of a block along both axes; below 2: the pixels as they are.
    """
    if factor <= 1:
        return pixels
    rows, columns = (max(n // factor, 1) for n in pixels.shape[:2])
    total = np.zeros((rows, columns, *pixels.shape[2:]), np.float32)
    steps = [(i, j) for i in range(min(factor, pixels.shape[0])) for j in range(min(factor, pixels.shape[1]))]
    for i, j in steps:
        total += pixels[i : i + (rows - 1) * factor + 1 : factor, j : j + (columns - 1) * factor + 1 : factor]
    return total / len(steps)
