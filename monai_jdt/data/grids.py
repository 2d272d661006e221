"""Whether two files lie on the same voxels: one rule, for the check of files and for their loading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_jdt.data.problems import DataProblem

#: Two affines are taken for one when no corner of the volume moves by more than this share of the smallest voxel edge.
AFFINE_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The voxels of a file and their place.

    Args:
        path: the file, or what else names the volume in an error.
        shape: voxels along each axis of space; last axes of length 1 beyond two are no difference.
        affine: `(4, 4)`, voxels to mm; None where the format knows none (pictures), which fits everywhere.
    """

    path: str
    shape: tuple[int, ...]
    affine: np.ndarray | None


def without_last_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of length 1 at its end, but at least two axes.

    Args:
        shape: the shape.

    Example:
        >>> without_last_ones((640, 640, 1)), without_last_ones((1, 5, 6))
        ((640, 640), (1, 5, 6))
    """
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def grid_problem(grid: VoxelGrid, reference: VoxelGrid) -> DataProblem | None:
    """What keeps a file from lying on the voxels of another one; None: it does.

    With A the affine of the file, B that of the reference, and v the corners of the volume in voxels, the affines are one if
    `max_v |(A - B) v| <= AFFINE_TOLERANCE * (smallest edge of a voxel of B)`: rounding in a header is far below, a voxel's
    shift far above.

    Args:
        grid: of the file.
        reference: of the file that it must fit, e.g. the image.
    """
    shape, wanted = without_last_ones(grid.shape), without_last_ones(reference.shape)
    if shape != wanted:
        got, fix = str(shape), "resample it onto the image's grid"
        if sorted(shape) == sorted(wanted):
            got, fix = f"{shape}, the same axes in another order", "move its slice axis to where the image has it"
        elif np.prod(shape) == np.prod(wanted):
            got, fix = f"{shape}, with axes of length 1", "write it without them"
        return DataProblem(grid.path, f"shape {wanted}, as {reference.path}", got, fix)
    if grid.affine is None or reference.affine is None:
        return None
    edges, own = _edges(reference.affine), _edges(grid.affine)
    shift, allowed = _worst_corner(wanted, grid.affine - reference.affine), AFFINE_TOLERANCE * float(edges.min())
    if shift <= allowed:
        return None
    fix = "resample it, or correct its header if the voxels do lie on the image's"
    if not np.allclose(own, edges, rtol=0.01):
        return DataProblem(grid.path, f"voxels of {_in_mm(edges)}, as {reference.path}", _in_mm(own), fix)
    expected = f"the affine of {reference.path} (within {allowed:.3g} mm at every corner)"
    got = f"one that is {shift:.3g} mm off, origin {grid.affine[:3, 3].round(3).tolist()}"
    return DataProblem(grid.path, expected, got, fix)


def _worst_corner(shape: tuple[int, ...], difference: np.ndarray) -> float:
    """How far apart two affines put the corner on which they differ most, in mm."""
    size = [*shape[:3], 1, 1, 1][:3]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size], [1])).reshape(4, -1)
    return float(np.linalg.norm(difference[:3] @ corners, axis=0).max())


def _edges(affine: np.ndarray) -> np.ndarray:
    """The voxel's edges in mm."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def _in_mm(edges: np.ndarray) -> str:
    return " x ".join(f"{edge:.4g}" for edge in edges) + " mm"
