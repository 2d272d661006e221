"""Outlines of a mask as LIDC's readers drew them: closed chains of pixels that lie just outside of it.

The pixels of an outline do not belong to the nodule. A hole has an outline of its own, which runs within the hole and whose
`inclusion` is false.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# For each side of a pixel, clockwise from the top: the corner at which it starts, the one at which it ends, and the pixel beyond it,
# as (row, column) from the pixel's own.
_SIDES = (((0, 0), (0, 1), (-1, 0)), ((0, 1), (1, 1), (0, 1)), ((1, 1), (1, 0), (1, 0)), ((1, 0), (0, 0), (0, -1)))


def drawable_mask(mask: np.ndarray) -> np.ndarray:
    """Return the nearest mask that outlines can tell: without tiny holes, and without parts inside of holes.

    The outline of a tiny hole has one or two pixels, and one point would be read as a mark of less than 3 mm. What lies in a hole is
    cut away with it, so that a slice with a hole keeps its largest part alone.

    Args:
        mask: `(rows, columns)` bool, false at its border.

    Returns:
        A new mask.
    """
    import SimpleITK

    filled = mask.copy()
    has_hole = False
    for points, inside in outlines_of(mask):
        if not inside and len(set(points)) < 3:
            for column, row in points:
                filled[row, column] = True
        has_hole |= not inside
    if has_hole:
        parts = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(filled.astype(np.uint8)))
        filled = SimpleITK.GetArrayFromImage(SimpleITK.RelabelComponent(parts)) == 1
    return filled


def outlines_of(mask: np.ndarray) -> Iterator[tuple[list[tuple[int, int]], bool]]:
    """Walk around each part of a mask, and around each of its holes.

    Every side between a pixel of the mask and one outside is passed once, with the mask to the right. Of two pixels that only touch at
    a corner, each has an outline of its own.

    Args:
        mask: `(rows, columns)` bool, false at its border.

    Yields:
        The pixels outside along the way as (column, row), the first one again at the end; and whether the mask lies inside (false: the
        outline of a hole).

    Example:
        >>> mask = np.zeros((4, 4), bool)
        >>> mask[1, 1] = True
        >>> list(outlines_of(mask))
        [([(1, 0), (2, 1), (1, 2), (0, 1), (1, 0)], True)]
    """
    rows, columns = np.nonzero(mask)
    ways = {}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        for side, (_, _, beyond) in enumerate(_SIDES):
            if not mask[row + beyond[0], column + beyond[1]]:
                ways[(row, column, side)] = (row + beyond[0], column + beyond[1])
    while ways:
        first = next(iter(ways))
        points: list[tuple[int, int]] = []
        step, doubled_area = first, 0
        while step in ways:
            row, column = ways.pop(step)
            if not points or points[-1] != (column, row):
                points.append((column, row))
            start, stop, _ = _SIDES[step[2]]
            doubled_area += (step[1] + start[1]) * (step[0] + stop[0]) - (step[1] + stop[1]) * (step[0] + start[0])
            step = _next_side(mask, *step)
        if points[0] != points[-1] or len(points) == 1:
            points.append(points[0])
        yield points, doubled_area > 0


def _next_side(mask: np.ndarray, row: int, column: int, side: int) -> tuple[int, int, int]:
    """Return the side that starts where this one ends: of the same pixel, of the one straight ahead, or of the one to the left."""
    ahead = _SIDES[(side + 1) % 4][2]
    if not mask[row + ahead[0], column + ahead[1]]:
        return row, column, (side + 1) % 4
    beyond = _SIDES[side][2]
    left = (row + ahead[0] + beyond[0], column + ahead[1] + beyond[1])
    if mask[left]:
        return *left, (side + 3) % 4
    return row + ahead[0], column + ahead[1], side
