"""The rule for two files on the same voxels, for the check of files and for their loading."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from monai_jdt.data.problems import DataProblem

#: Two affines are the same if no corner of the volume moves by more than this share of the smallest voxel edge.
AFFINE_TOLERANCE = 0.05
# What puts raters of a data list on their image's grid.
_RESAMPLE = "python -m monai_jdt resample LIST.json FOLDER"


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The voxels of a file and their place.

    Args:
        path: the file, or another name of the volume for an error.
        shape: voxels along each axis of space. Last axes of length 1 beyond two are no difference.
        affine: `(4, 4)`, voxels to mm; None if the format has none (pictures), which fits every affine.
    """

    path: str
    shape: tuple[int, ...]
    affine: np.ndarray | None


def without_last_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the axes of length 1 at its end, but with at least two axes.

    Args:
        shape: the shape.

    Example:
        >>> without_last_ones((640, 640, 1)), without_last_ones((1, 5, 6))
        ((640, 640), (1, 5, 6))
    """
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def grid_problem(grid: VoxelGrid, reference: VoxelGrid, *, is_rater: bool = False) -> DataProblem | None:
    """Return what keeps a file from lying on the voxels of another one, or None if it lies there.

    With A the affine of the file, B that of the reference, and v the corners of the volume in voxels, the affines are the same if
    `max_v |(A - B) v| <= AFFINE_TOLERANCE * (smallest edge of a voxel of B)`. Rounding in a header is far below this, a shift by one
    voxel far above.

    Args:
        grid: of the file.
        reference: of the file that it must fit, e.g. the image.
        is_rater: whether it is a rater's file, which the verb `resample` can mend.
    """
    command = f" by {_RESAMPLE}" if is_rater else ""
    shape, wanted = without_last_ones(grid.shape), without_last_ones(reference.shape)
    # An affine is linear, so that no voxel moves further than the corner that moves furthest.
    edges = voxel_edges(reference.affine) if reference.affine is not None else np.ones(3)
    allowed = AFFINE_TOLERANCE * float(edges.min())
    shift = worst_corner(wanted, grid.affine - reference.affine) if grid.affine is not None and reference.affine is not None else 0.0
    if shape == wanted and shift <= allowed:
        return None
    # First the orientation: a flipped file also differs in shape or origin, and resampling would be the wrong advice.
    turned = _orientation_problem(grid, reference, shape, wanted, allowed, command)
    if turned is not None:
        return turned
    if shape != wanted:
        got, fix = str(shape), f"resample it onto the image's grid{command}"
        if sorted(shape) == sorted(wanted):
            got, fix = f"{shape}, the same axes in another order", _order_of_axes(shape, wanted)
        elif np.prod(shape) == np.prod(wanted):
            got, fix = f"{shape}, with axes of length 1", "write it without them"
        return DataProblem(grid.path, f"shape {wanted}, as {reference.path}", got, fix)
    assert grid.affine is not None
    own = voxel_edges(grid.affine)
    fix = f"resample it{command}, or correct its header if the voxels do lie on the image's"
    if not np.allclose(own, edges, rtol=0.01):
        return DataProblem(grid.path, f"voxels of {in_mm(edges)}, as {reference.path}", in_mm(own), fix)
    expected = f"the affine of {reference.path} (within {allowed:.3g} mm at every corner)"
    got = f"one that is {shift:.3g} mm off, origin {grid.affine[:3, 3].round(3).tolist()}"
    return DataProblem(grid.path, expected, got, fix)


def _orientation_problem(
    grid: VoxelGrid, reference: VoxelGrid, shape: tuple[int, ...], wanted: tuple[int, ...], allowed: float, command: str
) -> DataProblem | None:
    """Return the problem of a file whose axes run another way, such as LPS and RAS. Its header may be right: the fix is to turn both.

    None if the axes run alike, or if turning them would not give the reference's shape and voxel sizes.
    """
    if grid.affine is None or reference.affine is None or len(shape) > 3 or len(wanted) > 3:
        return None
    own, other = axis_codes(grid.affine), axis_codes(reference.affine)
    sizes, lengths = ((*shape, 1, 1)[:3], (*wanted, 1, 1)[:3])
    if own is None or other is None or own == other:
        return None
    turned, order = _turn(grid.affine, reference.affine, sizes)
    if tuple(sizes[axis] for axis in order) != lengths:
        return None
    shift = worst_corner(lengths, turned - reference.affine)
    if not np.allclose(voxel_edges(turned), voxel_edges(reference.affine), rtol=0.01):
        return None  # such as a lost header, whose axes mean nothing
    got, fix = f"{own}, on the same voxels", f"reorient it to {other}, voxels and header together, e.g. by MONAI's Orientation"
    if shift > allowed:
        got = f"{own}, which turned to {other} is {shift:.3g} mm off"
        fix = f"reorient it to {other}, voxels and header together, then resample it onto the image's grid{command}"
    return DataProblem(grid.path, f"the orientation {other}, as {reference.path}", got, fix)


def axis_codes(affine: np.ndarray) -> str | None:
    """Return where the voxel axes run to, such as "RAS", or None if two axes run to the same side.

    Args:
        affine: `(4, 4)`, voxels to mm, RAS+.

    Example:
        >>> axis_codes(np.diag([-1.0, -1.0, 2.0, 1.0]))
        'LPS'
    """
    sides = _sides(affine)
    if sides is None:
        return None
    return "".join(("LR", "PA", "IS")[side][int(affine[side, axis] > 0)] for axis, side in enumerate(sides))


def _sides(affine: np.ndarray) -> list[int] | None:
    """Return for each voxel axis the axis of space that it is nearest to."""
    edges = voxel_edges(affine)
    if not np.isfinite(affine).all() or (edges == 0).any():
        return None
    sides = np.abs(affine[:3, :3] / edges).argmax(axis=0).tolist()
    return sides if len(set(sides)) == 3 else None


def _turn(affine: np.ndarray, wanted: np.ndarray, sizes: tuple[int, ...]) -> tuple[np.ndarray, list[int]]:
    """Return the affine after its axes are turned to those of another one, and for each new axis the old one. Both have axis codes."""
    own, other = _sides(affine), _sides(wanted)
    assert own is not None
    assert other is not None
    order = [own.index(side) for side in other]
    turned = affine[:, [*order, 3]].copy()
    for axis, old in enumerate(order):
        if turned[other[axis], axis] * wanted[other[axis], axis] < 0:
            turned[:, 3] += turned[:, axis] * (sizes[old] - 1)
            turned[:, axis] *= -1
    return turned, order


def _order_of_axes(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return how to put the axes of a file into the image's order, which the file's header does not say."""
    orders = [order for order in permutations(range(len(shape))) if tuple(shape[axis] for axis in order) == wanted]
    if len(orders) == 1:
        return f"put its axes in the image's order, by numpy.transpose(voxels, {orders[0]}), and give it the image's header"
    return "put its axes in the image's order, and give it the image's header"


def worst_corner(shape: tuple[int, ...], difference: np.ndarray) -> float:
    """Return how far apart two affines put the corner on which they differ most, in mm.

    Args:
        shape: voxels along each axis.
        difference: `(4, 4)`, the one affine minus the other.
    """
    size = [*shape[:3], 1, 1, 1][:3]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size], [1])).reshape(4, -1)
    return float(np.linalg.norm(difference[:3] @ corners, axis=0).max())


def voxel_edges(affine: np.ndarray) -> np.ndarray:
    """Return the edges of a voxel, `(3,)`.

    Args:
        affine: `(4, 4)`, voxels to mm.
    """
    return np.linalg.norm(affine[:3, :3], axis=0)


def in_mm(edges: np.ndarray) -> str:
    """Return lengths as text: `1 x 1 x 2 mm`.

    Args:
        edges: in mm.
    """
    return " x ".join(f"{edge:.4g}" for edge in edges) + " mm"
