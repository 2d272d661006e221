"""The orientation of a slice in the picture: radiological where the affine is known, else as stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# In RAS+ millimetres: what lies at the low and at the high end of each axis.
_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))
_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class SlicePlane:
    """A cut across one voxel axis, and how it is turned for display.

    Args:
        axis: the voxel axis that is cut.
        rows: the voxel axis that runs down the picture.
        columns: the voxel axis that runs to the right.
        flip_rows: whether the last voxel of `rows` is on top.
        flip_columns: whether the last voxel of `columns` is on the left.
        spacing: millimetres of a voxel down and to the right.
        name: "axial", "coronal", "sagittal", or "" where the affine is not known.
        letters: what lies at the left, right, top and bottom edge, e.g. "RLAP"; "" where the affine is not known.
    """

    axis: int
    rows: int
    columns: int
    flip_rows: bool
    flip_columns: bool
    spacing: tuple[float, float]
    name: str = ""
    letters: str = ""

    def slice_of(self, volume: np.ndarray, cut: int) -> np.ndarray:
        """Return a view of one slice of a volume, turned for display.

        Args:
            volume: `(X, Y, Z)`, or with further axes.
            cut: which slice.
        """
        return self.turned(np.moveaxis(volume, self.axis, 0)[cut])

    def turned(self, pixels: np.ndarray) -> np.ndarray:
        """Return a slice as it is shown: the first axis down, the second to the right. Further axes stay.

        Args:
            pixels: the slice, with the two axes that remain in the order of the volume.
        """
        if self.rows > self.columns:
            pixels = np.swapaxes(pixels, 0, 1)
        return pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def slice_plane(affine: np.ndarray | None, axis: int, spacing: tuple[float, ...] | None = None) -> SlicePlane:
    """Choose how slices across an axis are shown.

    With an affine the view is radiological: the patient's right is on the left of axial and coronal slices, and anterior on
    the left of sagittal ones; anterior, or superior, is on top. Oblique axes count as their nearest direction. Without an
    affine the first of the two axes runs to the right and the second one down, as in a picture.

    Args:
        affine: `(4, 4)`, voxels to millimetres in RAS+; None: not known.
        axis: the voxel axis that is cut.
        spacing: voxel sizes along the three axes; None: those of the affine, or 1.

    Example:
        >>> slice_plane(np.diag([-1.0, -1.0, 2.0, 1.0]), 2).letters
        'RLAP'
        >>> slice_plane(np.diag([-1.0, -1.0, 2.0, 1.0]), 2).flip_columns  # voxels run to the patient's left already
        False
    """
    if spacing is None:
        spacing = (1.0, 1.0, 1.0) if affine is None else tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    columns, rows = (a for a in range(3) if a != axis)
    if affine is None:
        return SlicePlane(axis, rows, columns, False, False, (spacing[rows], spacing[columns]))
    directions = _directions(affine)
    # x of axial and coronal slices, y of sagittal ones, runs across
    if directions[columns][0] > directions[rows][0]:
        columns, rows = rows, columns
    down, across = directions[rows], directions[columns]
    letters = _ENDS[across[0]][::-1] + _ENDS[down[0]][::-1]
    flips = (down[1] > 0, across[1] > 0)  # on the screen, world coordinates fall to the right and down
    return SlicePlane(axis, rows, columns, *flips, (spacing[rows], spacing[columns]), _NAMES[directions[axis][0]], "".join(letters))


def through_plane_axis(affine: np.ndarray | None, shape: tuple[int, ...]) -> int:
    """Choose the axis to cut: the one with clearly the longest voxels, else head to foot, else the last one.

    Args:
        affine: as in :func:`slice_plane`.
        shape: voxels along the three axes. An axis of one voxel is cut first of all.

    Example:
        >>> through_plane_axis(np.diag([3.0, 1.0, 1.0, 1.0]), (20, 64, 64))
        0
    """
    if 1 in shape:
        return max(a for a in range(3) if shape[a] == 1)
    if affine is None:
        return 2
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    longest = int(np.argmax(edges))
    if edges[longest] > 1.3 * np.delete(edges, longest).max():
        return longest
    return next(a for a, (world, _) in enumerate(_directions(affine)) if world == 2)


def _directions(affine: np.ndarray) -> list[tuple[int, int]]:
    """For each voxel axis the world axis that it is nearest to, each of the three once, and the sign."""
    turn = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-12)
    found: dict[int, tuple[int, int]] = {}
    strength = np.abs(turn)
    for _ in range(3):
        world, voxel = (int(i) for i in np.unravel_index(np.argmax(strength), (3, 3)))
        found[voxel] = (world, 1 if turn[world, voxel] >= 0 else -1)
        strength[world, :] = strength[:, voxel] = -1
    return [found[a] for a in range(3)]
