"""A reader's contours to voxels, by the convention of LIDC's XML: the outline itself lies outside of the nodule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from monai_jdt.data.lidc.records import LidcContour, LidcMark, LidcScan
from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class VoxelBox:
    """A box of voxels of a scan.

    Args:
        start: the first voxel along x, y and z.
        stop: the voxel after the last one along x, y and z.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        (x0, y0, z0), (x1, y1, z1) = self.start, self.stop
        return x1 - x0, y1 - y0, z1 - z0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The index of the box in an array `(x, y, z)` of the scan."""
        x, y, z = (slice(first, last) for first, last in zip(self.start, self.stop, strict=True))
        return x, y, z


def contour_interior(points: Sequence[tuple[int, int]], start: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels strictly inside an outline.

    A pixel is inside if its centre is inside the polygon (by the even-odd rule) and on none of its edges, corners included. So the
    outline's own pixels are never inside, and an outline of fewer than three points has no inside. The polygon is closed between the
    last and the first point.

    Args:
        points: the outline's pixel indices `(x, y)`.
        start: the first column and row of the part of the slice that is asked for.
        shape: its columns and rows.

    Returns:
        `shape`, bool, indexed `[x, y]`.

    Example:
        >>> contour_interior([(0, 0), (3, 0), (3, 3), (0, 3)], (0, 0), (4, 4)).astype(int).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    # imported late: `import monai_jdt` needs torch and monai only
    from matplotlib.path import Path

    inside = np.zeros(shape, bool)
    corners = np.asarray(points, dtype=np.int64).reshape(-1, 2)
    if len(corners) < 3:
        return inside
    # only pixels within the outline's own box can be inside
    low = np.maximum(corners.min(0), start)
    high = np.minimum(corners.max(0) + 1, np.add(start, shape))
    if (high <= low).any():
        return inside
    x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), indexing="ij")
    found = Path(np.concatenate([corners, corners[:1]])).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(x.shape)
    first = low - start
    inside[first[0] : first[0] + x.shape[0], first[1] : first[1] + x.shape[1]] = found
    # what `contains_points` says of points on an edge depends on the edge's direction
    edge = _edge_pixels(corners) - start
    edge = edge[((edge >= 0) & (edge < shape)).all(1)]
    inside[edge[:, 0], edge[:, 1]] = False
    return inside


def _edge_pixels(corners: np.ndarray) -> np.ndarray:
    """Return the pixels `(P, 2)` whose centres lie on the closed polygon."""
    found = [corners]
    for point, step in zip(corners, np.roll(corners, -1, axis=0) - corners, strict=True):
        parts = int(np.gcd(*step))
        if parts > 1:
            found.append(point + np.arange(1, parts)[:, None] * (step // parts))
    return np.concatenate(found)


def nodule_mask(mark: LidcMark, scan: LidcScan, box: VoxelBox | None = None) -> np.ndarray:
    """Return the voxels of a reader's mark.

    On each slice the mark is the union of the insides of its contours with `inclusion`, without the insides and the outlines of those
    with `inclusion` false. pylidc's `boolean_mask` differs in two cases: there the outline of a second contour on a slice is removed
    from the inside of those before it, so that their order matters, and of an edge between two points that are not neighbours only
    the points are removed.

    Args:
        mark: the reader's mark.
        scan: the grid that it was drawn on.
        box: the part of the scan that is returned; None: the whole scan.

    Returns:
        The box's shape `(x, y, z)`, bool.

    Raises:
        ValueError: a contour outside of the image, or at a position without a slice.

    Example:
        >>> scan = LidcScan("LIDC-IDRI-0001", "1.2", "1.3", 8, 8, (0.7, 0.7), (0.0, 2.5))
        >>> square = LidcContour(2.5, ((1, 1), (5, 1), (5, 5), (1, 5)))
        >>> nodule_mask(LidcMark(0, "1", (square,)), scan).sum(axis=(0, 1)).tolist()
        [0, 9]
    """
    box = box or VoxelBox((0, 0, 0), scan.shape)
    mask = np.zeros(box.shape, bool)
    for number, contours in _by_slice(mark, scan).items():
        k = number - box.start[2]
        if not 0 <= k < box.shape[2]:
            continue
        for contour in sorted(contours, key=lambda contour: not contour.inclusion):
            inside = contour_interior(contour.points, box.start[:2], box.shape[:2])
            if contour.inclusion:
                mask[:, :, k] |= inside
            else:
                cut = _edge_pixels(np.asarray(contour.points)) - box.start[:2]
                cut = cut[((cut >= 0) & (cut < box.shape[:2])).all(1)]
                inside[cut[:, 0], cut[:, 1]] = True
                mask[:, :, k] &= ~inside
    return mask


def marks_box(marks: Iterable[LidcMark], scan: LidcScan) -> VoxelBox:
    """Return the smallest box that holds the outlines of all marks.

    Args:
        marks: at least one.
        scan: the grid that they were drawn on.

    Raises:
        ValueError: a contour outside of the image, or at a position without a slice; no contour.
    """
    low, high = [], []
    for mark in marks:
        for number, contours in _by_slice(mark, scan).items():
            points = np.concatenate([np.asarray(contour.points) for contour in contours])
            low.append((*points.min(0), number))
            high.append((*points.max(0), number))
    if not low:
        raise ValueError(error_sentence("marks", "at least one contour", "none", "pass marks with contours"))
    x0, y0, z0 = np.min(low, axis=0).tolist()
    x1, y1, z1 = (np.max(high, axis=0) + 1).tolist()
    return VoxelBox((x0, y0, z0), (x1, y1, z1))


def _by_slice(mark: LidcMark, scan: LidcScan) -> dict[int, list[LidcContour]]:
    """Return a mark's contours by the numbers of their slices."""
    found: dict[int, list[LidcContour]] = {}
    for contour in mark.contours:
        points = np.asarray(contour.points)
        if points.size == 0 or points.min() < 0 or (points.max(0) >= (scan.columns, scan.rows)).any():
            where = f"nodule {mark.name!r} of series {scan.series_uid}"
            expected = f"outlines within {scan.columns} columns and {scan.rows} rows"
            got = "one without points" if points.size == 0 else f"x {_span(points[:, 0])}, y {_span(points[:, 1])} at {contour.z:g} mm"
            raise ValueError(error_sentence(where, expected, got, "use the XML that belongs to this series"))
        found.setdefault(scan.slice_index(contour.z), []).append(contour)
    return found


def _span(numbers: np.ndarray) -> str:
    return f"{numbers.min()} to {numbers.max()}"
