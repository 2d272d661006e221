from __future__ import annotations

import numpy as np
import pytest

from monai_jdt.data.lidc import LidcContour, LidcMark, LidcScan, VoxelBox
from monai_jdt.data.lidc.case_boxes import box_affine, box_mask, crop_box

SCAN = LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2", 100, 120, (0.5, 1.0), tuple(2.5 * k for k in range(40)))


def mark(x: tuple[int, int], y: tuple[int, int], slices: tuple[int, ...]) -> LidcMark:
    return LidcMark(0, "a", tuple(LidcContour(2.5 * k, ((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))) for k in slices))


@pytest.mark.parametrize(
    ("size", "margin", "start", "stop"),
    [
        (20.0, 0.0, (45, 40, 16), (85, 60, 24)),  # 40, 20 and 8 voxels about the middle of 60 to 69, 45 to 54 and 18 to 21
        (2.0, 0.0, (60, 45, 18), (70, 55, 22)),  # no smaller than the outlines
        (2.0, 2.0, (56, 43, 17), (74, 57, 23)),  # 4, 2 and 1 voxels around them
        (60.0, 0.0, (0, 20, 8), (120, 80, 32)),
        (500.0, 0.0, (0, 0, 0), (120, 100, 40)),  # no larger than the scan
    ],
)
def test_a_crop_is_a_cube_in_mm_about_the_nodule(size: float, margin: float, start: tuple[int, ...], stop: tuple[int, ...]) -> None:
    box = crop_box([mark((60, 69), (45, 54), (18, 19, 20, 21))], SCAN, size=size, margin=margin)
    assert (box.start, box.stop) == (start, stop)


def test_a_crop_at_the_border_is_moved_inwards() -> None:
    box = crop_box([mark((0, 5), (95, 99), (0, 1))], SCAN, size=20.0, margin=5.0)
    assert (box.start, box.stop) == ((0, 80, 0), (40, 100, 8))


def test_the_affine_moves_with_the_box() -> None:
    affine = np.array([[-0.5, 0, 0, 10], [0, -1, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
    assert box_affine(affine, VoxelBox((4, 5, 6), (9, 9, 9)))[:3, 3].tolist() == [8, 15, 45]
    assert affine[0, 3] == 10


def test_masks_are_cut_at_the_box() -> None:
    marks = [mark((60, 70), (45, 55), (18, 19)), mark((10, 20), (10, 20), (18,)), mark((80, 84), (45, 49), (30,))]
    box = VoxelBox((65, 40, 19), (100, 60, 31))
    found = box_mask(marks, SCAN, box)
    assert found.dtype == np.uint8
    assert found.shape == box.shape
    # columns 65 to 69 and 9 rows of the first one, 3 x 3 of the third one
    assert [int(found[:, :, k].sum()) for k in range(12)] == [45] + [0] * 10 + [9]
