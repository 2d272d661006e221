"""Which marks of several readers are one nodule. LIDC's XML does not say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from monai_jdt.data.lidc.contour_masks import VoxelBox, marks_box, nodule_mask
from monai_jdt.data.lidc.records import LIDC_READERS, LidcMark, LidcScan

# Of the distance between slices. Positions are rounded: without it the last digit says whether marks on neighbouring slices are near.
_SLACK = 1.02


def group_marks(marks: Sequence[LidcMark], scan: LidcScan, *, tolerance: float | None = None) -> list[tuple[LidcMark, ...]]:
    """Group the marks of all readers into nodules.

    The rule: pairs of marks by two readers are joined one after the other, those that overlap first, the largest Jaccard index
    first, then those that do not overlap, the smallest distance first, up to `tolerance`. The distance is that of the nearest outline
    points in mm. A pair is not joined if its nodule would have two marks of one reader, or more than four marks. So two nodules that
    one reader kept apart stay apart, and each goes with those of the others that it overlaps most.

    pylidc's `cluster_annotations` joins whatever is within one slice thickness of each other, and takes a smaller tolerance for the
    whole scan if a nodule has more than four marks.

    Args:
        marks: of one scan, by any of its readers.
        scan: the grid that they were drawn on.
        tolerance: mm; None: the distance between slices and 2 % more, since positions are rounded.

    Returns:
        One tuple of marks per nodule, sorted by reader; the nodules in the order of their first slices, then rows, then columns.

    Raises:
        ValueError: a contour outside of the image, or at a position without a slice.
    """
    allowed = _SLACK * scan.slice_spacing if tolerance is None else tolerance
    groups = [{number} for number in range(len(marks))]
    for _, _, first, second in sorted(_close_pairs(marks, scan, allowed)):
        own, other = (next(group for group in groups if number in group) for number in (first, second))
        if own is not other and _may_be_one_nodule([marks[number].reader for number in own | other]):
            own |= other
            groups.remove(other)
    found = [tuple(sorted((marks[number] for number in sorted(group)), key=_reader_order)) for group in groups]
    return sorted(found, key=lambda group: _place_of_group(group, scan))


def _reader_order(mark: LidcMark) -> int:
    return -1 if mark.reader is None else mark.reader


def _place_of_group(group: Sequence[LidcMark], scan: LidcScan) -> tuple[int, ...]:
    box = marks_box(group, scan)
    return (*box.start[::-1], *box.stop[::-1])


def _may_be_one_nodule(readers: Sequence[int | None]) -> bool:
    known = [reader for reader in readers if reader is not None]
    return len(readers) <= LIDC_READERS and len(set(known)) == len(known)


def _close_pairs(marks: Sequence[LidcMark], scan: LidcScan, allowed: float) -> list[tuple[float, float, int, int]]:
    """Return negative Jaccard index, distance in mm and the numbers of both marks, for each pair that overlaps or is near."""
    boxes = [marks_box([mark], scan) for mark in marks]
    # once per mark, or the many pairs of a scan would draw each mask again
    masks = [nodule_mask(mark, scan, box) for mark, box in zip(marks, boxes, strict=True)]
    spacing = np.array([*scan.pixel_spacing, scan.slice_spacing])
    found = []
    for first, second in combinations(range(len(marks)), 2):
        one, two = boxes[first], boxes[second]
        # the empty voxels between the boxes, along each axis: outlines are no nearer than that
        gap = np.maximum(np.maximum(np.subtract(one.start, two.stop), np.subtract(two.start, one.stop)) + 1, 0)
        if np.linalg.norm(gap[:2] * spacing[:2]) > allowed or _gap_along_z(marks[first], marks[second]) > allowed:
            continue
        overlap = _jaccard(masks[first], one, masks[second], two)
        distance = 0.0 if overlap else _outline_distance(marks[first], marks[second], scan)
        if overlap or distance <= allowed:
            found.append((-overlap, distance, first, second))
    return found


def _gap_along_z(one: LidcMark, two: LidcMark) -> float:
    """Return the mm between the nearest slices of two marks, 0 if their ranges overlap."""
    first, second = ([contour.z for contour in mark.contours] for mark in (one, two))
    return max(min(first) - max(second), min(second) - max(first), 0.0)


def _jaccard(one: np.ndarray, box: VoxelBox, two: np.ndarray, other_box: VoxelBox) -> float:
    """Return the Jaccard index of two masks, each within its own box."""
    low, high = np.maximum(box.start, other_box.start), np.minimum(box.stop, other_box.stop)
    if (high <= low).any():
        return 0.0
    first, second = (
        mask[tuple(slice(*ends) for ends in zip(low - start, high - start, strict=True))]
        for mask, start in ((one, box.start), (two, other_box.start))
    )
    both = int((first & second).sum())
    return both / (int(one.sum()) + int(two.sum()) - both) if both else 0.0


def _outline_distance(one: LidcMark, two: LidcMark, scan: LidcScan) -> float:
    first, second = (_outline_in_mm(mark, scan) for mark in (one, two))
    return float(min(np.linalg.norm(second - point, axis=1).min() for point in first))


def _outline_in_mm(mark: LidcMark, scan: LidcScan) -> np.ndarray:
    x, y = scan.pixel_spacing
    return np.array([(column * x, row * y, contour.z) for contour in mark.contours for column, row in contour.points])
