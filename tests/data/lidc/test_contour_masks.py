from __future__ import annotations

import numpy as np
import pytest

from monai_jdt.data.lidc import LidcContour, LidcMark, LidcScan, VoxelBox, contour_interior, marks_box, nodule_mask

SCAN = LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2", 12, 10, (0.5, 0.5), (-5.0, -2.5, 0.0))


def square(low: int, high: int, z: float = 0.0, inclusion: bool = True) -> LidcContour:
    """The outline of a square, every pixel of it, as readers' tools wrote it."""
    side = range(low, high)
    points = [(i, low) for i in side] + [(high, i) for i in side] + [(i, high) for i in range(high, low, -1)]
    points += [(low, i) for i in range(high, low, -1)]
    return LidcContour(z, tuple(points), inclusion)


def mark(*contours: LidcContour, reader: int = 0) -> LidcMark:
    return LidcMark(reader, "a", contours)


def strictly_inside(points: list[tuple[int, int]], x: int, y: int) -> bool:
    """Even-odd rule in whole numbers: no pixel on an edge is inside."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        cross = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        if cross == 0 and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
            return False
        if (y0 > y) != (y1 > y) and (cross > 0) == (y1 > y0):
            crossings += 1
    return crossings % 2 == 1


def test_the_outline_lies_outside() -> None:
    found = nodule_mask(mark(square(2, 6)), SCAN)
    assert found.shape == (10, 12, 3)
    assert found.sum() == 9  # 3 x 3 pixels between the columns and rows 2 and 6
    assert found[3:6, 3:6, 2].all()


def test_x_is_the_column_and_y_the_row() -> None:
    found = nodule_mask(mark(LidcContour(0.0, ((1, 4), (9, 4), (9, 6), (1, 6)))), SCAN)
    assert np.argwhere(found).min(0).tolist() == [2, 5, 2]
    assert np.argwhere(found).max(0).tolist() == [8, 5, 2]


@pytest.mark.parametrize("seed", range(40))
def test_any_polygon_has_the_pixels_strictly_inside(seed: int) -> None:
    """Corners far apart, edges through pixel centres, polygons that cross themselves."""
    random = np.random.default_rng(seed)
    points = [(int(x), int(y)) for x, y in random.integers(0, 9, (random.integers(3, 9), 2))]
    expected = [[strictly_inside(points, x, y) for y in range(1, 8)] for x in range(2, 9)]
    assert contour_interior(points, (2, 1), (7, 7)).tolist() == expected


def test_contours_that_are_not_closed_are_closed() -> None:
    points = square(2, 6).points
    assert (contour_interior(points, (0, 0), (9, 9)) == contour_interior([*points, points[0]], (0, 0), (9, 9))).all()


@pytest.mark.parametrize("points", [((3, 3),), ((3, 3), (6, 6)), ((1, 1), (3, 3), (5, 5))])
def test_an_outline_without_an_inside_marks_nothing(points: tuple[tuple[int, int], ...]) -> None:
    assert nodule_mask(mark(LidcContour(0.0, points)), SCAN).sum() == 0


@pytest.mark.parametrize("first", [0, 1])
def test_inclusion_false_cuts_its_inside_and_its_outline(first: int) -> None:
    contours = [square(1, 8), square(3, 5, inclusion=False)]
    found = nodule_mask(mark(contours[first], contours[1 - first]), SCAN)[:, :, 2]
    assert found.sum() == 36 - 9  # 6 x 6 inside, less a hole of 3 x 3 with its outline
    assert not found[3:6, 3:6].any()


def test_several_contours_on_a_slice_are_joined_in_any_order() -> None:
    """One outline runs through the inside of the other one, and takes nothing from it."""
    one, two = square(1, 6), square(4, 9)
    found = nodule_mask(mark(one, two), SCAN)
    assert found.sum() == 16 + 16 - 1  # they share (5, 5)
    assert (found == nodule_mask(mark(two, one), SCAN)).all()


def test_a_box_cuts_the_mask() -> None:
    whole = nodule_mask(mark(square(2, 7), square(1, 6, z=-2.5), square(3, 8, -2.5, inclusion=False)), SCAN)
    box = VoxelBox((3, 2, 1), (9, 5, 3))
    assert (
        nodule_mask(mark(square(2, 7), square(1, 6, z=-2.5), square(3, 8, -2.5, inclusion=False)), SCAN, box) == whole[box.slices]
    ).all()
    assert box.shape == (6, 3, 2)


def test_the_box_of_marks_holds_their_outlines() -> None:
    box = marks_box([mark(square(2, 6)), mark(square(4, 9, z=-5.0), reader=1)], SCAN)
    assert (box.start, box.stop) == ((2, 2, 0), (10, 10, 3))
    with pytest.raises(ValueError, match="marks: expected at least one contour, got none"):
        marks_box([], SCAN)


def test_a_contour_outside_of_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected outlines within 10 columns and 12 rows, got x 7 to 10, y 7 to 10 at 0 mm\. Fix: "):
        nodule_mask(mark(square(7, 10)), SCAN)
    with pytest.raises(ValueError, match="got one without points"):
        nodule_mask(mark(LidcContour(0.0, ())), SCAN)


def test_a_contour_without_a_slice_is_refused() -> None:
    assert nodule_mask(mark(square(2, 6, z=-2.4)), SCAN)[:, :, 1].any()
    with pytest.raises(
        ValueError, match=r"series 1\.2\.3: expected a slice at each contour, got a contour at 2\.5 mm, where the nearest"
    ):
        nodule_mask(mark(square(2, 6, z=2.5)), SCAN)
