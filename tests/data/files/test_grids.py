"""Whether two files lie on the same voxels: the tolerance, and the axes."""

from __future__ import annotations

import numpy as np
import pytest

from monai_jdt.data import AFFINE_TOLERANCE, VoxelGrid, grid_problem
from monai_jdt.data.problems import DataProblem

SHAPE = (11, 21, 31)
IMAGE = np.diag([1.0, 2.0, 4.0, 1.0])


def problem_of(affine: np.ndarray | None, shape: tuple[int, ...] = SHAPE) -> DataProblem | None:
    return grid_problem(VoxelGrid("rater", shape, affine), VoxelGrid("image", SHAPE, IMAGE))


@pytest.mark.parametrize(("share", "fits"), [(0.99, True), (1.01, False)])
def test_a_corner_may_move_by_a_twentieth_of_the_smallest_edge(share: float, fits: bool) -> None:
    assert AFFINE_TOLERANCE == 0.05
    moved = IMAGE.copy()
    moved[1, 3] += share * 0.05 * 1.0  # the smallest edge is 1 mm
    assert (problem_of(moved) is None) == fits
    # a rotation about the origin moves the far corner most: by its distance, here (10, 40) mm in the plane, times the angle
    angle = share * 0.05 / np.hypot(10, 40)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert (problem_of(turn @ IMAGE) is None) == fits


def test_without_an_affine_the_shape_decides() -> None:
    assert problem_of(None) is None
    assert problem_of(None, (11, 21, 30)) is not None
    assert problem_of(None, (*SHAPE, 1)) is None


def test_the_same_voxels_in_another_orientation() -> None:
    flipped = IMAGE.copy()
    flipped[:, 0] *= -1
    flipped[0, 3] = 10.0  # the last voxel of the first axis lies at 10 mm
    problem = problem_of(flipped)
    assert problem is not None
    assert (problem.expected, problem.got) == ("the orientation RAS, as image", "LAS, on the same voxels")
