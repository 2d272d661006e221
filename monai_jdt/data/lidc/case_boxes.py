"""Which part of a scan becomes a case: the whole scan, or a crop around one nodule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_jdt.data.lidc.contour_masks import VoxelBox, marks_box, nodule_mask
from monai_jdt.data.lidc.records import LidcMark, LidcScan


def crop_box(marks: Sequence[LidcMark], scan: LidcScan, *, size: float, margin: float) -> VoxelBox:
    """Return the box around a nodule: a cube of `size` mm, or larger where the nodule and its margin need it.

    Args:
        marks: the readers' marks of the nodule.
        scan: the grid.
        size: the edge in mm. Each axis has the nearest whole number of voxels.
        margin: the least distance in mm from an outline to the box's side.

    Returns:
        The nodule in the middle. At the scan's border the box is moved inwards, and it is smaller only where the scan is.
    """
    inner = marks_box(marks, scan)
    spacing = np.asarray(scan.spacing)
    rim = np.ceil(margin / spacing).astype(int)
    edges = np.maximum(np.rint(size / spacing).astype(int), np.asarray(inner.shape) + 2 * rim)
    edges = np.minimum(np.maximum(edges, 1), scan.shape)
    start = (np.add(inner.start, inner.stop) - edges) // 2
    start = np.clip(start, 0, np.asarray(scan.shape) - edges)
    x, y, z = start.tolist()
    x1, y1, z1 = (start + edges).tolist()
    return VoxelBox((x, y, z), (x1, y1, z1))


def box_affine(affine: np.ndarray, box: VoxelBox) -> np.ndarray:
    """Return the affine of a part of a scan.

    Args:
        affine: `(4, 4)`, of the scan.
        box: the part.
    """
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ box.start + affine[:3, 3]
    return moved


def box_mask(marks: Sequence[LidcMark], scan: LidcScan, box: VoxelBox) -> np.ndarray:
    """Return the voxels of a box that any of the marks holds. Beside the result, memory is that of one mark.

    Args:
        marks: of one reader, in most cases.
        scan: the grid.
        box: the part of the scan.

    Returns:
        The box's shape `(x, y, z)`, uint8, 0 or 1.
    """
    mask = np.zeros(box.shape, np.uint8)
    for mark in marks:
        own = marks_box([mark], scan)
        low, high = np.maximum(own.start, box.start), np.minimum(own.stop, box.stop)
        if (low < high).all():
            x, y, z = low.tolist()
            x1, y1, z1 = high.tolist()
            part = VoxelBox((x, y, z), (x1, y1, z1))
            place = tuple(slice(first, last) for first, last in zip(low - box.start, high - box.start, strict=True))
            mask[place] |= nodule_mask(mark, scan, part)
    return mask
